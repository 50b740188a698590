"""How fast what is owed to the CRMs is found and delivered, and in how much memory: `python -m bench.outbox_drain`.

First, what a look costs: `agenda`, `claim` and `done` with ever more rows pending, which should not matter. Then the
whole outbox drains `--rows` rows of `--clients` clients: once to CRMs that answer at once, which shows what the
database costs, and once over HTTP to accounts of the stand-in, in a process of its own. There the gates let pass what
comes, unless `--real-rate` has them as they are. CPU and memory are those of our process alone.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import structlog
import uvloop

from b2bua.cdr import CallId, CallRecord, ClientId, Direction, Disposition, EndedBy, EndReason
from b2bua.crm.amocrm import gate
from b2bua.crm.amocrm.adapter import open_amocrm
from b2bua.crm.outbox import AT_ONCE, Outbox, OutboxStore, RecordingState
from b2bua.crm.port import CallNote, Contact, Crm, CrmWrite, Delivered, Made, MadeKind, PopUp
from b2bua.crm.writes import OutboxRow
from b2bua.directory import CrmAccount
from b2bua.sandbox.seed import SandboxSeed, SeedAccount, SeedContact, SeedIntegration, SeedUser
from b2bua.sandbox.server import running_sandbox
from b2bua.store.migrate import migrate
from b2bua.store.store import Store, open_store

NUMBERS = 50                           # outside numbers of each client
CHUNK = 5_000                          # calls stored together
REPORTS = 10                           # memory is looked at so often in a drain
NO_LIMIT = 1_000_000                   # requests of one account a second
PAGE = resource.getpagesize()
BEGAN = datetime(2026, 3, 2, 12, tzinfo=UTC)


def client_id(number: int) -> ClientId:
    return ClientId(f"client-{number:04}")


def phone(number: int) -> str:
    return f"+7495{number:07}"


def call(number: int, clients: int) -> CallRecord:
    start, caller = BEGAN + timedelta(milliseconds=number), phone(number // clients % NUMBERS)
    return CallRecord(
        CallId(f"call-{number:012}"), client_id(number % clients), Direction.INBOUND, caller, "+74957654321", None,
        start, start, start, start + timedelta(seconds=60), Disposition.ANSWERED, EndedBy.CALLER, EndReason.HUNG_UP,
        200, "101", ("101",), 77, "Иван Петров", None, ("101 answered",))


def note(record: CallRecord) -> CallNote:
    return CallNote(record.id, record.client, record.direction, record.caller, record.started_at, record.talk_seconds,
                    record.disposition, record.crm_user, record.contact, record.dialled, None)


async def owe(store: Store, first: int, rows: int, clients: int) -> None:
    for start in range(first, first + rows, CHUNK):
        records = [call(number, clients) for number in range(start, min(start + CHUNK, first + rows))]
        await asyncio.gather(*[store.calls.finish(record, [note(record)]) for record in records])


def rss() -> float:
    """MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


# -- what a look costs


async def looks(url: str, name: str, clients: int, depths: tuple[int, ...], times: int) -> None:
    await migrate(url)
    async with open_store(url) as store:
        rows = 0
        for depth in depths:
            await owe(store, rows, depth - rows, clients)
            rows = depth
            agenda, claim, done = [], [], []
            for number in range(times):
                now = datetime.now(UTC)
                agenda.append(await timed(store.outbox.agenda()))
                started = time.perf_counter()
                claimed = await store.outbox.claim(client_id(number % clients), now, now + timedelta(hours=1), AT_ONCE)
                claim.append(time.perf_counter() - started)
                for row in claimed:
                    made = (Made(MadeKind.NOTE, CallId(f"c{row.id}"), str(row.id), "contacts/1"),)
                    done.append(await timed(store.outbox.done(row.id, Delivered("note", made=made), now)))
            cells = " | ".join(f"{statistics.median(spent) * 1e3:.2f} | {worst(spent) * 1e3:.2f}"
                               for spent in (agenda, claim, done))
            print(f"| {name} | {clients} | {depth} | {cells} |", flush=True)


def worst(spent: list[float]) -> float:
    """Of a hundred, all but one."""
    return sorted(spent)[int(len(spent) * 0.99)]


async def timed(work: object) -> float:
    started = time.perf_counter()
    await work                         # type: ignore[misc]
    return time.perf_counter() - started


# -- drains


class PromptCrm:
    """Answers at once."""

    async def find_contact(self, phone: str) -> Contact | None:
        return None

    async def pop_up(self, pop_up: PopUp) -> None:
        """Nobody looks."""

    async def deliver(self, write: CrmWrite, known: tuple[Made, ...] = (), *, repeated: bool = False) -> Delivered:
        return Delivered("note", made=(Made(MadeKind.NOTE, write.call, write.call, "contacts/1"),))


async def never(recording: str) -> RecordingState:
    return RecordingState.NEVER


class TimedClaims:
    """The store, with how long each claim took."""

    def __init__(self, store: Store) -> None:
        self._rows = store.outbox
        self.spent: list[float] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._rows, name)

    async def claim(self, client: ClientId, now: datetime, until: datetime, limit: int) -> Sequence[OutboxRow]:
        started = time.perf_counter()
        claimed = await self._rows.claim(client, now, until, limit)
        self.spent.append(time.perf_counter() - started)
        return claimed


async def drain(url: str, name: str, rows: int, clients: int, crm_of: Callable[[ClientId], Crm | None]) -> None:
    await migrate(url)
    async with open_store(url) as store:
        await owe(store, 0, rows, clients)
        claims = TimedClaims(store)
        outbox = Outbox(cast(OutboxStore, claims), crm_of, lambda: datetime.now(UTC), never)
        memory = []
        started, cpu = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(outbox.run())
            for part in range(1, REPORTS + 1):
                while outbox.counts.delivered < rows * part // REPORTS and not running.done():     # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                memory.append(rss())
            spent, cpu = time.perf_counter() - started, time.process_time() - cpu
            outbox.stop()
        left = (await store.outbox.backlog()).pending
    tenths = "/".join(f"{part:.0f}" for part in (memory[0], memory[REPORTS // 2 - 1], memory[-1]))
    waited = f"{statistics.median(claims.spent) * 1e3:.0f}/{worst(claims.spent) * 1e3:.0f}"
    print(f"| {name} | {rows} | {clients} | {spent:.0f} | {rows / spent:.0f} | {cpu / rows * 1e3:.2f} | {tenths} | "
          f"{waited} | {outbox.counts.retried} | {left} |", flush=True)


def seed(accounts: int) -> SandboxSeed:
    contacts = tuple(SeedContact(f"Контакт {number}", (phone(number),), 77) for number in range(NUMBERS))
    return SandboxSeed(tuple(
        SeedAccount(31_000_001 + number, f"acme{number}", f"Фирма {number}", (SeedUser(77, "Анна", is_admin=True),),
                    contacts, integrations=(SeedIntegration(f"integration-{number}", token=f"token-{number}"),))
        for number in range(accounts)))


async def serve(accounts: int) -> None:
    async with running_sandbox(seed(accounts)) as sandbox:
        sandbox.state.switches.only_report_rate = True
        print(sandbox.base_url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        print(max(sandbox.rate.highest_of.values(), default=0), flush=True)


@asynccontextmanager
async def accounts_open(accounts: int) -> AsyncIterator[Callable[[ClientId], Crm | None]]:
    command = (sys.executable, "-m", "bench.outbox_drain", "--serve", str(accounts))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)    # noqa: ASYNC220
    assert process.stdout is not None
    base_url = process.stdout.readline().strip()
    try:
        async with AsyncExitStack() as stack:
            crms: dict[ClientId, Crm] = {}
            for number in range(accounts):
                account = CrmAccount(base_url, f"token-{number}", default_user=77)
                crms[client_id(number)] = await stack.enter_async_context(open_amocrm(account, link_of=str))
            yield crms.get
    finally:
        highest, _ = process.communicate()
        print(f"\nThe most requests of one account in any second, as the stand-in counted: {highest.strip()}.\n",
              flush=True)


@contextmanager
def databases(postgres: bool) -> Iterator[Callable[[], list[tuple[str, str]]]]:
    """Fresh ones each time."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        cluster, made = None, 0
        if postgres:
            from tests.support.postgres import running_cluster
            cluster = stack.enter_context(running_cluster())

        def fresh() -> list[tuple[str, str]]:
            nonlocal made
            made += 1
            found = [("SQLite", f"sqlite+aiosqlite:///{Path(directory) / f'bench{made}.db'}")]
            if cluster is not None:
                cluster.sql(f"CREATE DATABASE bench{made}")
                found.append(("PostgreSQL", cluster.url(f"bench{made}")))
            return found

        yield fresh


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--postgres", action="store_true", help="PostgreSQL as well (a private cluster, fsync off)")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--looks", type=int, default=200, help="repetitions of what is timed")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--real-rate", action="store_true", help=f"{gate.PER_SECOND} requests of each account a second")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if arguments.serve:
        uvloop.run(serve(arguments.serve))
        return
    depths = (*(depth for depth in (1_000, 10_000) if depth < arguments.rows), arguments.rows)
    with databases(arguments.postgres) as fresh:
        print("| database | clients | rows pending | agenda ms | p99 | claim ms | p99 | done ms | p99 |\n"
              "|---|---|---|---|---|---|---|---|---|", flush=True)
        for clients in sorted({1, arguments.clients}):
            for name, url in fresh():
                uvloop.run(looks(url, name, clients, depths, arguments.looks))
        print("\n| drain | rows | clients | s | rows/s | our CPU ms/row | MiB at 10/50/100 % | claim ms median/p99 | "
              "retried | left |\n|---|---|---|---|---|---|---|---|---|---|", flush=True)
        prompt = PromptCrm()
        for name, url in fresh():
            uvloop.run(drain(url, f"{name}, no HTTP", arguments.rows, arguments.clients, lambda _: prompt))
        rate = f"{gate.PER_SECOND}/s an account" if arguments.real_rate else "no rate limit"
        if not arguments.real_rate:
            gate.PER_SECOND = NO_LIMIT
        for name, url in fresh():
            uvloop.run(over_http(url, f"{name}, HTTP, {rate}", arguments.rows, arguments.clients))


async def over_http(url: str, name: str, rows: int, accounts: int) -> None:
    async with accounts_open(accounts) as crm_of:
        await drain(url, name, rows, accounts, crm_of)


if __name__ == "__main__":
    main()
