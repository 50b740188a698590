"""The history is searched as a plain look at every call would search it, page by page, on both databases."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.dialects import sqlite

from b2bua.cdr import CallRecord, ClientId, Direction, Disposition
from b2bua.store import call_search
from b2bua.store.call_search import COUNTED, CallFilter, CallSearch, Count, Position
from b2bua.store.call_terms import kinds
from b2bua.store.engine import open_database
from b2bua.store.migrate import migrate
from b2bua.store.store import Store, open_store
from tests.support.records import NOON, record

ACME, BETA = ClientId("acme"), ClientId("beta")
NUMBERS = ("+79161234567", "+79031234567", "+74957654321", "+74957654322", "101", "102", "112", "84", "", "alice")
NAMES = (None, "Иван Петров", "Пётр Иванов", "Anna-Maria O'Brien", "Ян", "я и ты", "<b>Ива%н_</b>", "", "Ёлкина АННА")
PEOPLE = (None, "101", "102", "103")
TYPED_NUMBERS = ("", "", "", "4567", "1234567", "+79161234567", "101", "84", "112", "21", "4321", "54321", "000000")
TYPED_NAMES = ("", "", "", "ив", "ИВАН", "петр ив", "пет", "ан ма", "o brien", "ел", "ян", "я", "%%", "ва", "и ты")
KINDS = (frozenset(), frozenset(), frozenset({Disposition.ANSWERED}), frozenset({Disposition.BUSY, Disposition.FAILED}))
WAYS = (frozenset(), frozenset(), frozenset({Direction.INBOUND}), frozenset({Direction.INTERNAL, Direction.OUTBOUND}))


def some_calls(chance: random.Random, count: int) -> list[CallRecord]:
    made = []
    for _ in range(count):
        start = NOON + timedelta(seconds=chance.randrange(count // 2), microseconds=chance.choice((0, 1, 999_999)))
        answered = chance.random() < 0.6
        made.append(record(
            f"{chance.getrandbits(64):016x}", client=chance.choice((ACME, ACME, BETA)),
            direction=chance.choice(tuple(Direction)), caller=chance.choice(NUMBERS), dialled=chance.choice(NUMBERS),
            started_at=start, answered_at=start if answered else None, extension=chance.choice(PEOPLE),
            disposition=chance.choice(tuple(Disposition)), contact=chance.choice(NAMES),
            rang=tuple(chance.sample(("101", "102", "103"), chance.randrange(4))), crm_user=chance.choice((None, 7, 8)),
            recording=chance.choice((None, "rec"))))
    return sorted(made, key=lambda one: (one.started_at, one.id), reverse=True)


def some_filter(chance: random.Random, calls: int) -> CallFilter:
    def moment() -> datetime | None:
        return chance.choice((None, None, NOON + timedelta(seconds=chance.randrange(calls // 2))))
    return CallFilter(
        chance.choice((None, ACME, ACME, BETA)), chance.choice(TYPED_NUMBERS),
        chance.choice(("", "", "", "101", "102", "104")), chance.choice((None, None, None, 7, 9)),
        chance.choice(TYPED_NAMES), chance.choice(WAYS), chance.choice(KINDS), chance.choice((None, None, True, False)),
        moment(), moment())


def fits(call: CallRecord, wanted: CallFilter) -> bool:
    """The model."""
    return (
        wanted.client in (None, call.client)
        and (not wanted.number or any(_ends(number, wanted.number) for number in (call.caller, call.dialled)))
        and (not wanted.extension or wanted.extension in _people(call))
        and wanted.crm_user in (None, call.crm_user)
        and (not wanted.name or _is_named(call.contact or "", wanted.name))
        and (not wanted.directions or call.direction in wanted.directions)
        and (not wanted.dispositions or call.disposition in wanted.dispositions)
        and wanted.recorded in (None, call.recording is not None)
        and (wanted.since is None or call.started_at >= wanted.since)
        and (wanted.until is None or call.started_at < wanted.until))


def _ends(number: str, typed: str) -> bool:
    number, typed = number.removeprefix("+"), typed.removeprefix("+")
    return number == typed if len(typed) < 4 else number.endswith(typed)


def _people(call: CallRecord) -> set[str | None]:
    rang = set(call.rang) if call.answered_at is None else set()
    return rang | {call.extension, call.caller if call.direction is not Direction.INBOUND else None}


def _words(name: str) -> list[str]:
    letters = (letter if letter.isalnum() else " " for letter in name.lower().replace("ё", "е"))
    return "".join(letters).split()


def _is_named(name: str, typed: str) -> bool:
    wanted, there = _words(typed), _words(name)
    return any(len(word) > 1 for word in wanted) and all(
        any(word.startswith(beginning) for word in there) for beginning in wanted)


async def _pages(history: CallSearch, wanted: CallFilter, limit: int) -> list[CallRecord]:
    found: list[CallRecord] = []
    before: Position | None = None
    while True:
        page = await history.search(wanted, limit, before)
        found += page.calls
        if page.older is None:
            return found
        assert before is None or (page.older.started_at, page.older.call) < (before.started_at, before.call)
        before = page.older


@pytest.mark.parametrize("seed", range(4))
async def test_a_search_finds_what_fits_newest_first_however_the_pages_fall(database_url: str, seed: int) -> None:
    chance = random.Random(seed)
    calls = some_calls(chance, 300)
    async with open_store(database_url) as store:
        await _finish(store, calls)
        for _ in range(60):
            wanted = some_filter(chance, len(calls))
            model = [call.id for call in calls if fits(call, wanted)]
            found = await _pages(store.history, wanted, chance.choice((1, 3, 50, 1000)))
            assert [call.id for call in found] == model, wanted
            first = await store.history.search(wanted, 5, counted=True)
            assert first.count == Count(len(model), is_all=True), wanted
        assert {call.id: call for call in found} == {call.id: call for call in calls if fits(call, wanted)}


@pytest.mark.parametrize("seed", range(2))
async def test_a_search_that_goes_too_far_says_where_it_stopped_and_goes_on_from_there(
    database_url: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_search, "NEAR", 3)
    monkeypatch.setattr(call_search, "LOOKED_AT", 10)
    monkeypatch.setattr(call_search, "LOOKED_UP", 7)
    chance = random.Random(seed)
    calls = some_calls(chance, 200)
    async with open_store(database_url) as store:
        await _finish(store, calls)
        given_up = 0
        for _ in range(40):
            wanted = some_filter(chance, len(calls))
            found = await _pages(store.history, wanted, 4)
            assert [call.id for call in found] == [call.id for call in calls if fits(call, wanted)], wanted
            page = await store.history.search(wanted, 4, counted=True)
            if page.looked_back_to is not None:
                given_up += 1
                assert page.count is not None
                assert not page.count.is_all
                assert len(page.calls) <= 4
        assert given_up


async def test_more_than_a_thousand_are_not_counted(database_url: str) -> None:
    async with open_store(database_url) as store:
        await _finish(store, [record(f"{number:04}", caller="+79161234567") for number in range(1_200)])
        for wanted in (CallFilter(ACME), CallFilter(ACME, number="4567"), CallFilter(recorded=True)):
            page = await store.history.search(wanted, 50, counted=True)
            assert page.count == Count(COUNTED + 1, is_all=True)
            assert (await store.history.search(wanted, 50, page.older)).count is None


async def test_another_word_of_a_call_is_looked_up_and_not_searched_for(tmp_path: Path) -> None:
    """SQLite: a bound on its time, beside the moment itself, would make it go through the whole run for each entry."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'plan.db'}"
    await migrate(url)
    wanted = CallFilter(ACME, extension="101", name="иван", number="4567")
    words, span = call_search._words(wanted), call_search._span(wanted, None)
    assert words is not None
    async with open_database(url) as database, database.reading() as connection:
        way, _ = await call_search._by_word(connection, words, kinds(), ACME, span)
        statement = way.entries.limit(51).compile(dialect=sqlite.dialect())
        values = {**statement.params, **way.runs[0]}
        plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}",
                                                tuple([values[name] for name in statement.positiontup or ()]))
        steps = [step for *_, step in plan if "SEARCH" in step or "SCAN" in step]
    assert len(steps) == 3
    assert steps[0].endswith("(term=? AND client=? AND at>? AND (at,call)<(?,?))")
    assert all(step.endswith("(term=? AND client=? AND at=? AND call=?)") for step in steps[1:])


async def test_what_strangers_write_is_found_and_breaks_nothing(database_url: str) -> None:
    hostile = record("hostile", caller="9" * 600 + "\0\udcff4567", dialled="\u202e" * 600, extension="1" * 600,
                     contact="\0 \udcff " + "ы" * 600 + " " + "я б" * 300, rang=("\0", "x" * 600), answered_at=None,
                     direction=Direction.OUTBOUND)
    async with open_store(database_url) as store:
        await store.calls.finish(hostile)
        for wanted in (CallFilter(number="9999"), CallFilter(name="ыыы"), CallFilter(extension="1" * 600),
                       CallFilter(extension="x" * 600)):
            assert [call.id for call in (await store.history.search(wanted, 5)).calls] == ["hostile"], wanted
        for wanted in (CallFilter(name="\0"), CallFilter(number="\0"), CallFilter(extension="\0\udcff"),
                       CallFilter(name="' OR 1=1 --")):
            assert (await store.history.search(wanted, 5)).calls == [], wanted


async def test_calls_that_were_spilled_are_found_like_others(database_url: str) -> None:
    call = record("once", caller="+79161234567", contact="Иван Петров")
    async with open_store(database_url) as store:
        await store.calls.finish(call)
        await store.calls.finish(replace(call))        # as one that was spilled after a commit whose answer was lost
        page = await store.history.search(CallFilter(name="петров"), 5, counted=True)
        assert page.calls == [call]
        assert page.count == Count(1, is_all=True)


async def _finish(store: Store, calls: list[CallRecord]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for call in calls:
            tasks.create_task(store.calls.finish(call))
