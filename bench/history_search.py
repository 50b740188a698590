"""How long the history of a million calls is searched for: `python -m bench.history_search [--postgres]`.

The calls are of ten clients, the largest of whom has four in ten; three years, three hundred thousand numbers, names as
they are spread in an office's contacts. Each kind of search is done with many different words, its first page with the
count; "older" is a page from the middle. Times are of the whole `search`, rows read; `loop` is the longest that the
event loop was held meanwhile, which is what the phones would notice.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop

from b2bua.cdr import CallId, CallRecord, ClientId, Direction, Disposition, EndedBy, EndReason
from b2bua.store.call_search import CallFilter, Position
from b2bua.store.call_terms import TERM_COLUMNS, kind_of, term_rows
from b2bua.store.engine import sqlite_file
from b2bua.store.migrate import migrate
from b2bua.store.rows import CALL_COLUMNS, call_row
from b2bua.store.schema import instant_text
from b2bua.store.store import Store, open_store
from bench.store import databases

CALLS = 1_000_000
NUMBERS = 300_000
ROUNDS = 200
PAGE = 50
AT_ONCE = 20_000
CLIENTS = tuple(ClientId(name) for name in (
    "acme", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"))
SHARES = (40, 20, 10, 8, 6, 5, 4, 3, 2, 2)
FIRST = datetime(2023, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=3 * 365)

GIVEN = ("Александр", "Анна", "Сергей", "Елена", "Дмитрий", "Ольга", "Андрей", "Наталья", "Алексей", "Ирина", "Иван",
         "Мария", "Михаил", "Татьяна", "Юлия", "Екатерина", "Максим", "Светлана", "Евгений", "Анастасия")
ROOTS = ("Иван", "Петр", "Сидор", "Смирн", "Кузнец", "Попов", "Васильев", "Соколов", "Михайлов", "Новиков", "Федоров",
         "Морозов", "Волков", "Алексеев", "Лебедев", "Семенов", "Егоров", "Павлов", "Козлов", "Степанов")
ENDS = ("ов", "ова", "ин", "ина", "ский", "ская", "енко", "ук", "ян", "швили", "ич", "их")

Search = Callable[[random.Random], CallFilter]


def number_of(place: int) -> str:
    return f"+79{place * 3_331 % 1_000_000_000:09}"


def name_of(place: int) -> str | None:
    """The same for the same number; a third is not known to the CRM."""
    chance = random.Random(place)
    if chance.random() < 1 / 3:
        return None
    return f"{chance.choice(GIVEN)} {chance.choice(ROOTS)}{chance.choice(ENDS)}"


def did_of(client: ClientId, place: int) -> str:
    return f"+7495{CLIENTS.index(client):02}{place:02}{7_000 + place:03}"[:12]


def calls(total: int) -> Iterator[CallRecord]:
    chance = random.Random(1)
    for number in range(total):
        client = chance.choices(CLIENTS, SHARES)[0]
        direction = chance.choices(tuple(Direction), (60, 32, 8))[0]
        disposition = chance.choices(
            tuple(Disposition), (700, 120, 40, 15, 80, 30, 14.9, 0.1))[0]
        start = FIRST + SPAN * (number / total) + timedelta(seconds=chance.random() * 600)
        extension = str(100 + min(int(chance.expovariate(0.1)), 79))
        outside = min(int(chance.expovariate(3 / NUMBERS)), NUMBERS - 1)
        other = str(100 + chance.randrange(80))
        caller, dialled = {
            Direction.INBOUND: (number_of(outside), did_of(client, chance.choice((0, 0, 0, 0, 1, 2)))),
            Direction.OUTBOUND: (extension, number_of(outside)),
            Direction.INTERNAL: (extension, other),
        }[direction]
        answered = disposition is Disposition.ANSWERED
        yield CallRecord(
            CallId(f"{chance.getrandbits(64):016x}"), client, direction, caller, dialled, "operator", start,
            start + timedelta(seconds=1), start + timedelta(seconds=6) if answered else None,
            start + timedelta(seconds=66), disposition, EndedBy.CALLER, EndReason.HUNG_UP, 200, extension,
            (extension, other), int(extension), name_of(outside) if direction is not Direction.INTERNAL else None,
            f"recording-{number}" if answered and chance.random() < 0.9 else None,
            ("responsible user 77 has extension 101", "101 rang for 5 s", "101 answered"))


# -- filling, past the store: a million finishes would take longer than all searches


def rows_of(total: int) -> Iterator[tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]]:
    some: list[tuple[Any, ...]] = []
    terms: list[tuple[Any, ...]] = []
    for record in calls(total):
        row = call_row(record)
        some.append((*row.values(), kind_of(row)))
        terms += term_rows(row)
        if len(some) == AT_ONCE:
            yield some, terms
            some, terms = [], []
    yield some, terms


def fill_sqlite(file: Path, total: int) -> None:
    columns = (*CALL_COLUMNS, "kind")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for pragma in ("synchronous=OFF", "cache_size=-500000", "temp_store=FILE"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TEMP TABLE unsorted AS SELECT * FROM call_terms")
        for some, terms in rows_of(total):
            connection.execute("BEGIN")
            texts = [[instant_text(value) if isinstance(value, datetime) else value for value in row] for row in some]
            connection.executemany(
                f"INSERT INTO calls ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", texts)  # noqa: S608
            connection.executemany(f"INSERT INTO unsorted VALUES ({', '.join('?' * len(TERM_COLUMNS))})", terms)  # noqa: S608
            connection.execute("COMMIT")
        names = ", ".join(TERM_COLUMNS)
        connection.execute(f"INSERT INTO call_terms ({names}) SELECT {names} FROM unsorted "  # noqa: S608
                           "ORDER BY term, client, at, call")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def fill_postgresql(url: str, total: int) -> None:
    import asyncpg

    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    for some, terms in rows_of(total):
        await connection.copy_records_to_table("calls", records=some, columns=[*CALL_COLUMNS, "kind"])
        await connection.copy_records_to_table("call_terms", records=terms, columns=TERM_COLUMNS)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


# -- searching


def _client(chance: random.Random) -> ClientId:
    return chance.choices(CLIENTS, SHARES)[0]


def _number(chance: random.Random) -> str:
    return number_of(min(int(chance.expovariate(3 / NUMBERS)), NUMBERS - 1))


def _person(chance: random.Random) -> str:
    return str(100 + chance.randrange(80))


MISSED = frozenset({Disposition.NO_ANSWER, Disposition.BUSY, Disposition.DECLINED, Disposition.ABANDONED,
                    Disposition.UNREACHABLE})
IN, OUT = frozenset({Direction.INBOUND}), frozenset({Direction.OUTBOUND})
FAILED = frozenset({Disposition.FAILED})
BIG = CLIENTS[0]

SEARCHES: dict[str, Search] = {
    "the newest": lambda chance: CallFilter(_client(chance)),
    "the newest, any client": lambda chance: CallFilter(),
    "a number": lambda chance: CallFilter(_client(chance), number=_number(chance)),
    "a number, any client": lambda chance: CallFilter(number=_number(chance)),
    "its last 4 digits": lambda chance: CallFilter(_client(chance), number=_number(chance)[-4:]),
    "its last 7 digits": lambda chance: CallFilter(_client(chance), number=_number(chance)[-7:]),
    "an own number": lambda chance: CallFilter(BIG, number=did_of(BIG, 0)),
    "an own number's last 4": lambda chance: CallFilter(BIG, number=did_of(BIG, 0)[-4:]),
    "a person": lambda chance: CallFilter(_client(chance), extension=_person(chance)),
    "a CRM user": lambda chance: CallFilter(_client(chance), crm_user=int(_person(chance))),
    "a person's missed": lambda chance: CallFilter(BIG, extension="100", dispositions=MISSED, directions=IN),
    "a name": lambda chance: CallFilter(_client(chance), name=chance.choice(ROOTS) + chance.choice(ENDS)),
    "three letters of a name": lambda chance: CallFilter(_client(chance), name=chance.choice(GIVEN)[:3]),
    "a first and a last name": lambda chance: CallFilter(
        _client(chance), name=f"{chance.choice(ROOTS)}{chance.choice(ENDS)} {chance.choice(GIVEN)}"),
    "a name, any client": lambda chance: CallFilter(name=chance.choice(ROOTS) + chance.choice(ENDS)),
    "a name that nobody has": lambda chance: CallFilter(BIG, name="Алабамов"),
    "missed": lambda chance: CallFilter(_client(chance), dispositions=MISSED, directions=IN),
    "missed, any client": lambda chance: CallFilter(dispositions=MISSED, directions=IN),
    "failed": lambda chance: CallFilter(_client(chance), dispositions=FAILED),
    "with recording": lambda chance: CallFilter(_client(chance), recorded=True),
    "failed with recording: none": lambda chance: CallFilter(BIG, dispositions=FAILED, recorded=True),
    "a month's missed": lambda chance: (lambda since: CallFilter(
        _client(chance), dispositions=MISSED, directions=IN, since=since, until=since + timedelta(days=30)))(
            FIRST + SPAN * chance.random()),
    "own number, failed": lambda chance: CallFilter(BIG, number=did_of(BIG, 0), dispositions=FAILED),
    "person and name": lambda chance: CallFilter(BIG, extension=_person(chance), name=chance.choice(GIVEN)),
    "person, name, own number, failed, outgoing: none": lambda chance: CallFilter(
        BIG, extension="100", name=chance.choice(GIVEN), number=did_of(BIG, 0), dispositions=FAILED, directions=OUT),
}


async def timed(store: Store, search: Search, rounds: int, older: bool) -> tuple[list[float], int, int]:
    """Seconds of each, calls found on the page in the mean, and how many were given up before their end."""
    chance, took, found, given_up = random.Random(2), [], 0, 0
    for _ in range(rounds):
        wanted = search(chance)
        before = Position(FIRST + SPAN * chance.uniform(0.3, 0.7), CallId("")) if older else None
        started = time.perf_counter()
        page = await store.history.search(wanted, PAGE, before, counted=not older)
        took.append(time.perf_counter() - started)
        found += len(page.calls)
        given_up += page.looked_back_to is not None
    return sorted(took), found // rounds, given_up


class Held:
    """The longest that the loop came late to a tick."""

    longest = 0.0

    async def watch(self) -> None:
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - due)


async def measure(url: str, name: str, total: int, rounds: int) -> None:
    await migrate(url)
    started = time.perf_counter()
    if (file := sqlite_file(url)) is not None:
        await asyncio.to_thread(fill_sqlite, file, total)
        print(f"{name}: {file.stat().st_size / total:.0f} bytes a call, made in {time.perf_counter() - started:.0f} s")
    else:
        await fill_postgresql(url, total)
        print(f"{name}: made in {time.perf_counter() - started:.0f} s")
    print("| search | median, ms | p99, ms | longest, ms | found | given up | loop, ms |")
    print("|---|---|---|---|---|---|---|")
    held = Held()
    async with open_store(url) as store, asyncio.TaskGroup() as tasks:
        watcher = tasks.create_task(held.watch())
        for what, search in SEARCHES.items():
            for older in (False, True):
                await timed(store, search, 3, older)                   # warm
                held.longest = 0.0
                took, found, given_up = await timed(store, search, rounds, older)
                print(f"| {what}{', older' if older else ''} | {took[len(took) // 2] * 1e3:.1f} "
                      f"| {took[int(len(took) * 0.99)] * 1e3:.1f} | {took[-1] * 1e3:.1f} | {found} | {given_up} "
                      f"| {held.longest * 1e3:.1f} |", flush=True)
        watcher.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--postgres", action="store_true", help="PostgreSQL as well (a private cluster, fsync off)")
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    with databases(arguments.postgres) as found:
        for name, url in found:
            uvloop.run(measure(url, name, arguments.calls, arguments.rounds))


if __name__ == "__main__":
    main()
