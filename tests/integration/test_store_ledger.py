"""What we made in the CRM is remembered in the transaction that ends its row; people resend and drop rows."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import create_async_engine

from b2bua.cdr import CallId, ClientId
from b2bua.crm.port import CallNote, Delivered, Made, MadeKind, RecordingLink
from b2bua.crm.writes import OutboxRow, from_json
from b2bua.store import deliveries as limits
from b2bua.store.migrate import migrate
from b2bua.store.outbox import KEEP_OPEN
from b2bua.store.store import Store, open_store
from tests.support.postgres import Cluster
from tests.support.records import NOON, note, record

ACME, BETA = ClientId("acme"), ClientId("beta")
IVAN, ANNA = "+74950000001", "+74950000002"
LATER = NOON + timedelta(hours=1)
LEASE = LATER + timedelta(minutes=5)


@pytest.fixture(autouse=True)
def _house_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock of today all of this was long ago."""
    monkeypatch.setattr("b2bua.store.store.KEEP_DELIVERED_DAYS", 36_500)


def made(number: str, kind: MadeKind = MadeKind.NOTE, *, is_open: bool = False) -> Made:
    return Made(kind, CallId("c"), number, "contacts/9001", is_open)


async def _owe(store: Store, call: str, caller: str = IVAN, client: ClientId = ACME) -> CallNote:
    finished = record(call, caller=caller, client=client)
    await store.calls.finish(finished, [note(finished)])
    return note(finished)


async def _claim(store: Store, client: ClientId = ACME) -> OutboxRow:
    (row,) = await store.outbox.claim(client, LATER, LEASE, 10)
    return row


async def _said(store: Store) -> list[str]:
    return [row.said for row in await store.outbox.aside(None, 10)]


async def test_what_was_made_is_known_to_the_next_of_that_number_alone(database_url: str) -> None:
    async with open_store(database_url) as store:
        await _owe(store, "a1")
        row = await _claim(store)
        assert row.known == ()
        await store.outbox.done(row.id, Delivered("contact 9001", made=(made("9001", MadeKind.CONTACT),)), LATER)
        for call, caller, client in (("a2", IVAN, ACME), ("b1", ANNA, ACME), ("o1", IVAN, BETA)):
            await _owe(store, call, caller, client)
        mine, other = await store.outbox.claim(ACME, LATER, LEASE, 10)
        assert (mine.known, other.known) == ((made("9001", MadeKind.CONTACT),), ())
        assert (await _claim(store, BETA)).known == ()


async def test_open_things_come_first_then_the_newest_and_closed_ones_stay_known(database_url: str) -> None:
    task = made("5", MadeKind.TASK, is_open=True)
    async with open_store(database_url) as store:
        for number, made_now in enumerate([(made("1"),), (task,), (made("2"),)]):
            await _owe(store, f"a{number}")
            row = await _claim(store)
            await store.outbox.done(row.id, Delivered("ok", made=made_now), LATER + timedelta(seconds=number))
        await _owe(store, "a3")
        row = await _claim(store)
        assert row.known == (task, made("2"), made("1"))
        await store.outbox.done(row.id, Delivered("closed", closed=(task,)), LATER + timedelta(seconds=9))
        await _owe(store, "a4")
        assert (await _claim(store)).known == (made("2"), replace(task, is_open=False), made("1"))


async def test_what_is_owed_from_now_on_is_stored_with_the_outcome_and_only_once(database_url: str) -> None:
    async with open_store(database_url) as store:
        told = await _owe(store, "a1")
        link = RecordingLink(told.call, told.client, told.phone, told.started_at, "rec-1")
        row = await _claim(store)
        await store.outbox.done(row.id, Delivered("note 5", made=(made("5"),), then=(link, link)), LATER)
        await _owe(store, "a2")
        owed, following = await store.outbox.claim(ACME, LATER, LEASE, 10)
        assert {type(from_json(one.payload)) for one in (following, owed)} == {CallNote, RecordingLink}
        assert from_json(owed.payload) == link             # in a lane of its own, which knows the number's things
        assert (owed.known, owed.created_at) == ((made("5"),), LATER)


async def test_a_late_word_about_a_row_that_is_done_makes_nothing_known(database_url: str) -> None:
    async with open_store(database_url) as store:
        await _owe(store, "a1")
        row = await _claim(store)
        await store.outbox.done(row.id, Delivered("note 5", made=(made("5"),)), LATER)
        await store.outbox.done(row.id, Delivered("note 6", made=(made("6"),)), LATER)
        await _owe(store, "a2")
        assert (await _claim(store)).known == (made("5"),)


async def test_what_is_remembered_of_a_number_has_an_end_and_open_things_outlive_the_others(database_url: str) -> None:
    task = made("task", MadeKind.TASK, is_open=True)
    async with open_store(database_url) as store:
        await _owe(store, "a1")
        row = await _claim(store)
        many = (task, *[made(f"{number:05}") for number in range(limits.KEPT + 50)])
        await store.outbox.done(row.id, Delivered("much", made=many), LATER)
        await _owe(store, "a2")
        known = (await _claim(store)).known
        assert (known[0], len(known)) == (task, limits.KNOWN)
        await store.outbox.forget_done(LATER + timedelta(days=1))
        await _owe(store, "a3", ANNA)
        await _owe(store, "a4")
        later = LEASE + timedelta(minutes=1)
        (again, _) = await store.outbox.claim(ACME, later, later + timedelta(minutes=1), 10)
        assert again.known == (task,)
        await store.outbox.forget_done(LATER + KEEP_OPEN + timedelta(days=1))
        later += timedelta(minutes=1)
        (again, _) = await store.outbox.claim(ACME, later, later + timedelta(minutes=1), 10)
        assert again.known == ()


async def test_rows_behind_a_lane_that_waits_do_not_hide_the_others_and_follow_at_once(database_url: str) -> None:
    async with open_store(database_url) as store:
        for number in range(limits.LOOKED_AT + 20):
            await _owe(store, f"a{number:03}")
        await _owe(store, "b1", ANNA)
        first, other = await store.outbox.claim(ACME, LATER, LEASE, 10)
        assert ['"a000"' in first.payload, '"b1"' in other.payload] == [True, True]
        assert (await store.outbox.agenda())[ACME] > LATER             # nothing more is due
        await store.outbox.done(first.id, Delivered("note 5"), LATER)
        assert '"a001"' in (await _claim(store)).payload


async def test_what_is_set_aside_is_listed_and_can_be_resent_as_a_repeat(database_url: str) -> None:
    async with open_store(database_url) as store:
        written = await _owe(store, "a1")
        await _owe(store, "a2")
        row = await _claim(store)
        await store.outbox.set_aside(row.id, "400: bad phone", LATER)
        (listed,) = await store.outbox.aside(ACME, 10)
        assert (listed.id, listed.said, listed.attempts) == (row.id, "400: bad phone", 1)
        assert from_json(listed.payload) == written
        assert await store.outbox.aside(BETA, 10) == []
        assert await store.outbox.aside(ACME, 10, before=row.id) == []
        assert [one.id for one in await store.outbox.waiting(ACME, 10)] == [row.id + 1]
        assert await store.outbox.resend([row.id, row.id + 1, 999], LATER, BETA) == 0
        assert await store.outbox.resend([row.id, row.id + 1, 999], LATER, ACME) == 1
        again = await _claim(store)                        # the head of its lane once more
        assert (again.id, again.attempts, again.created_at) == (row.id, 2, LATER)


async def test_a_row_that_is_dropped_says_why_and_is_never_sent(database_url: str) -> None:
    async with open_store(database_url) as store:
        await _owe(store, "a1")
        row = await _claim(store)
        assert await store.outbox.drop([row.id], "by root: wrong number", LATER) == 0     # it is not set aside
        await store.outbox.set_aside(row.id, "400: bad phone", LATER)
        assert await store.outbox.drop([row.id], "by root: wrong number", LATER) == 1
        assert await _said(store) == []
        assert await store.outbox.claim(ACME, LEASE, LEASE, 10) == []
        assert await store.outbox.resend([row.id], LATER) == 0
        assert await store.outbox.forget_done(LATER) == 1


async def test_a_row_whose_recording_came_is_hastened_unless_it_is_on_its_way(database_url: str) -> None:
    async with open_store(database_url) as store:
        await _owe(store, "a1")
        row = await _claim(store)
        await store.outbox.hasten(row.id, LATER)
        assert await store.outbox.claim(ACME, LATER, LEASE, 10) == []
        await store.outbox.release(row.id, LEASE)
        await store.outbox.hasten(row.id, LATER)
        assert (await _claim(store)).id == row.id


async def test_what_waits_long_is_hastened_for_its_client_and_what_is_on_its_way_is_not(database_url: str) -> None:
    async with open_store(database_url) as store:
        await _owe(store, "a1")
        row = await _claim(store)
        await store.outbox.hasten_client(ACME, LATER, after=LEASE)
        assert await store.outbox.claim(ACME, LATER, LEASE, 10) == []
        await store.outbox.retry(row.id, LEASE + timedelta(minutes=15), "not connected")
        await store.outbox.hasten_client(ClientId("other"), LATER, after=LEASE)
        assert await store.outbox.claim(ACME, LATER, LEASE, 10) == []
        await store.outbox.hasten_client(ACME, LATER, after=LEASE)
        assert (await _claim(store)).id == row.id


async def test_one_that_was_resent_does_not_wake_the_one_that_is_on_its_way(database_url: str) -> None:
    async with open_store(database_url) as store:
        await _owe(store, "a1")
        await _owe(store, "a2")
        first = await _claim(store)
        await store.outbox.set_aside(first.id, "400", LATER)
        second = await _claim(store)
        await store.outbox.resend([first.id], LATER)
        assert (await _claim(store)).id == first.id
        await store.outbox.done(first.id, Delivered("note 5"), LATER)
        assert await store.outbox.claim(ACME, LATER, LEASE, 10) == []
        (again,) = await store.outbox.claim(ACME, LEASE, LEASE + timedelta(minutes=5), 10)
        assert again.id == second.id


async def test_the_backlog_says_how_long_each_client_has_waited(database_url: str) -> None:
    async with open_store(database_url) as store:
        await asyncio.gather(_owe(store, "a1"), _owe(store, "a2", ANNA), _owe(store, "o1", IVAN, BETA))
        row = (await store.outbox.claim(BETA, LATER, LEASE, 10))[0]
        await store.outbox.set_aside(row.id, "400", LATER)
        backlog = await store.outbox.backlog()
        assert (backlog.pending, backlog.aside) == (2, 1)
        assert backlog.oldest_of == {ACME: record().ended_at}


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    url = f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"
    asyncio.run(migrate(url))
    return url


@pytest.fixture
def no_housekeeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins with the store, whenever its turn comes, and would be heard among what is asked."""
    async def none(*_: object) -> None:
        pass

    monkeypatch.setattr("b2bua.store.store._keep_house", none)


@pytest.mark.usefixtures("no_housekeeping")
async def test_no_look_goes_through_all_that_waits(sqlite_url: str) -> None:
    statements: list[tuple[str, tuple[object, ...]]] = []

    def heard(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        of_one = parameters[0] if isinstance(parameters, list) else parameters
        statements.append((statement, of_one))

    async with open_store(sqlite_url) as store:
        await _owe(store, "a1")
        event.listen(Engine, "before_cursor_execute", heard)
        try:
            await store.outbox.agenda()
            row = await _claim(store)
            await store.outbox.done(row.id, Delivered("note 5", made=(made("5"),)), LATER)
        finally:
            event.remove(Engine, "before_cursor_execute", heard)
    with closing(sqlite3.connect(sqlite_url.partition("///")[2])) as database:
        plans = [
            detail for statement, parameters in statements if "outbox" in statement or "crm_made" in statement
            for *_, detail in database.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    assert any("ix_outbox_due" in plan for plan in plans)
    assert any("ix_outbox_lanes" in plan for plan in plans)
    made_now = ("clients", "CONSTANT ROW", "subquery", "ranked")      # by the statement itself: short
    assert not [plan for plan in plans if plan.startswith("SCAN") and not any(name in plan for name in made_now)]


@pytest.mark.usefixtures("no_housekeeping")
async def test_postgresql_looks_through_no_table_either(postgres: Cluster, migrated: str) -> None:
    postgres.sql(f"CREATE DATABASE looks TEMPLATE {migrated}")
    statements: list[tuple[str, Any]] = []

    def heard(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters[0] if isinstance(parameters, list) else parameters))

    engine = create_async_engine(postgres.url("looks"))
    async with open_store(postgres.url("looks")) as store, engine.connect() as connection:
        await _owe(store, "a1")
        await connection.exec_driver_sql(MANY_ROWS)
        await connection.exec_driver_sql(MANY_MADE)
        await connection.commit()
        await connection.exec_driver_sql("ANALYZE")
        event.listen(Engine, "before_cursor_execute", heard)
        try:
            await store.outbox.agenda()
            rows = await asyncio.gather(*[
                store.outbox.claim(client, LATER, LEASE, 2) for client in (ACME, *map(ClientId, ("c1", "c2", "c3")))])
            told = Delivered("note 5", made=(made("5"),), closed=(made("6"),))
            await asyncio.gather(*[store.outbox.done(row.id, told, LATER) for some in rows for row in some])
        finally:
            event.remove(Engine, "before_cursor_execute", heard)
        plans = [
            "\n".join((await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)).scalars())
            for statement, parameters in statements if "outbox" in statement or "crm_made" in statement
        ]
    await engine.dispose()
    assert len(plans) >= 8
    assert not [plan for plan in plans if re.search("Seq Scan on (outbox|crm_made)|uq_outbox_client_key", plan)]


MANY_ROWS = """
    INSERT INTO outbox (client, lane, key, payload, state, due_at, attempts, created_at)
    SELECT 'c' || n % 20, 'lane' || n % 5000, 'key' || n, '{}', CASE WHEN n % 3 = 0 THEN 'done' ELSE 'pending' END,
           '2026-03-01', 0, '2026-03-01'
    FROM generate_series(1, 50000) AS n"""
MANY_MADE = """
    INSERT INTO crm_made (client, lane, kind, id, call, "on", is_open, at)
    SELECT 'c' || n % 20, 'lane' || n % 5000, 'note', n, n, '', false, '2026-03-01'
    FROM generate_series(1, 50000) AS n"""
