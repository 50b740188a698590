"""What a finished call costs the daemon, and how many a second the store takes: `python -m bench.store [--postgres]`.

Each call is one record and one outbox row, awaited until it is durable. Cost is CPU of the whole process (SQLite's
thread included, PostgreSQL's own processes not), less the same run against a journal that stores nothing.
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

from b2bua.cdr import CallId, CallRecord, ClientId, Direction, Disposition, EndedBy, EndReason
from b2bua.crm.port import CallNote
from b2bua.store.migrate import migrate
from b2bua.store.store import open_store

SECONDS = 3.0
TICK = 0.005
RATES = (100, 800, 3000)

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
