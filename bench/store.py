"""What a finished call costs the daemon, and how many a second the store takes: `python -m bench.store [--postgres]`.

Each call is one record and one outbox row, awaited until it is durable. Cost is CPU of the whole process (SQLite's
thread included, PostgreSQL's own processes not), less the same run against a journal that stores nothing. Below it,
what it costs that a call which is up longer than a second is written down meanwhile: its row made, kept and deleted.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop

from b2bua.calls.standing import BATCH
from b2bua.cdr import CallId, CallRecord, ClientId, Direction, Disposition, EndedBy, EndReason
from b2bua.crm.port import CallNote
from b2bua.sip.dialog import Dialog
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.farewell import farewell_to
from b2bua.sip.message import Request
from b2bua.sip.parser import parse
from b2bua.store.migrate import migrate
from b2bua.store.standing import StandingCall
from b2bua.store.store import Store, open_store

SECONDS = 3.0
TICK = 0.005
RATES = (100, 800, 3000)

STANDING = 5_000
PHONE = Address("198.51.100.9", 40_000)
INVITE = b"""\
INVITE sip:+74957654321@192.0.2.1 SIP/2.0\r
Via: SIP/2.0/UDP 198.51.100.9:40000;branch=z9hG4bKbench;rport\r
From: "+74951112233" <sip:+74951112233@operator.example>;tag=fedcba9876543210\r
To: <sip:+74957654321@192.0.2.1>\r
Call-ID: 0123456789abcdef@198.51.100.9\r
CSeq: 1 INVITE\r
Contact: <sip:+74951112233@198.51.100.9:40000>\r
Content-Length: 0\r
\r
"""

Finish = Callable[[CallRecord, list[CallNote]], Awaitable[object]]


def call(number: int) -> CallRecord:
    start = datetime(2026, 3, 2, 12, tzinfo=UTC) + timedelta(milliseconds=number)
    return CallRecord(
        CallId(f"call-{number:012}"), ClientId("acme"), Direction.INBOUND, f"+7495{number:07}", "+74957654321",
        "operator", start, start + timedelta(seconds=1), start + timedelta(seconds=6), start + timedelta(seconds=66),
        Disposition.ANSWERED, EndedBy.CALLER, EndReason.HUNG_UP, 200, "101", ("101", "102"), 77, "Иван Петров",
        f"recording-{number:012}", ("responsible user 77 has extension 101", "101 rang for 5 s", "101 answered"))


def note(record: CallRecord) -> CallNote:
    return CallNote(record.id, record.client, record.direction, record.caller, record.started_at, record.talk_seconds,
                    record.disposition, record.crm_user, record.contact, record.dialled, record.recording)


async def run(finish: Finish, rate: int, first: int) -> tuple[float, float, float]:
    """Calls a second reached, CPU seconds per call, and the longest wait."""
    total, longest = int(rate * SECONDS), 0.0

    async def one(number: int) -> None:
        nonlocal longest
        record = call(number)
        started = time.perf_counter()
        await finish(record, [note(record)])
        longest = max(longest, time.perf_counter() - started)

    started, cpu, sent = time.perf_counter(), time.process_time(), 0
    async with asyncio.TaskGroup() as tasks:
        while sent < total:
            due = min(total, int((time.perf_counter() - started) * rate) + 1)
            for number in range(sent, due):
                tasks.create_task(one(first + number))
            sent = due
            await asyncio.sleep(TICK)
    return total / (time.perf_counter() - started), (time.process_time() - cpu) / total, longest


async def standing(store: Store, calls: int) -> float:
    """CPU seconds for each call that is up, in batches as the daemon makes them."""
    dialogs = [dialog(Transport.UDP), dialog(Transport.UDP)]
    cpu, now = time.process_time(), datetime.now(UTC)
    for first in range(0, calls, BATCH):
        records = [call(90_000_000 + number) for number in range(first, first + BATCH)]
        farewells = [tuple(filter(None, map(farewell_to, dialogs))) for _ in records]
        up = [StandingCall(record, (note(record),), bye) for record, bye in zip(records, farewells, strict=True)]
        await store.standing.save(up, now)
        await asyncio.gather(*(store.calls.finish(record) for record in records))
    await store.standing.tidy()
    return (time.process_time() - cpu) / calls


async def finishes(store: Store, calls: int) -> float:
    """The same without: what `standing` does beside."""
    cpu = time.process_time()
    for first in range(0, calls, BATCH):
        records = [call(70_000_000 + number) for number in range(first, first + BATCH)]
        await asyncio.gather(*(store.calls.finish(record) for record in records))
    return (time.process_time() - cpu) / calls


def dialog(transport: Transport) -> Dialog:
    invite = parse(INVITE)
    assert isinstance(invite, Request)
    return Dialog.as_uas(invite, "0123456789abcdef", Flow(transport, Address("192.0.2.1", 5060), PHONE))


async def nothing(_record: CallRecord, _writes: list[CallNote]) -> None:
    await asyncio.sleep(0)


async def measure(url: str, name: str) -> None:
    await migrate(url)
    async with open_store(url) as store:
        await run(store.calls.finish, 500, 0)              # warm
        for position, rate in enumerate(RATES, 1):
            _, bare, _ = await run(nothing, rate, 0)
            reached, cost, longest = await run(store.calls.finish, rate, position * 10_000_000)
            print(f"| {name} | {rate} | {reached:.0f} | {(cost - bare) * 1e6:.0f} | {longest * 1e3:.0f} |", flush=True)
        extra = await standing(store, STANDING) - await finishes(store, STANDING)
        print(f"{name}: {extra * 1e6:.0f} µs more for a call that is written down while it is up", flush=True)


@contextmanager
def databases(postgres: bool) -> Iterator[list[tuple[str, str]]]:
    with tempfile.TemporaryDirectory() as directory:
        found = [("SQLite", f"sqlite+aiosqlite:///{Path(directory) / 'bench.db'}")]
        if not postgres:
            yield found
            return
        from tests.support.postgres import running_cluster
        with running_cluster() as cluster:
            cluster.sql("CREATE DATABASE bench")
            yield [*found, ("PostgreSQL", cluster.url("bench"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--postgres", action="store_true", help="PostgreSQL as well (a private cluster, fsync off)")
    arguments = parser.parse_args()
    print("| database | finishes/s asked | reached | CPU per finish, µs | longest wait, ms |\n|---|---|---|---|---|")
    with databases(arguments.postgres) as found:
        for name, url in found:
            uvloop.run(measure(url, name))


if __name__ == "__main__":
    main()
