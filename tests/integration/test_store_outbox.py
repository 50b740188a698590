"""The outbox's rows as b2bua/crm/outbox.py wants them: heads of lanes, leases, one process at a time."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from b2bua.cdr import ClientId
from b2bua.crm.port import Delivered
from b2bua.store.outbox import Backlog
from b2bua.store.store import Store, open_store
from tests.support.records import NOON, note, record

ACME = ClientId("acme")
LATER = NOON + timedelta(hours=1)
LEASE = LATER + timedelta(minutes=5)
NOTE_5 = Delivered("note 5")


async def _owe(store: Store, *calls: tuple[str, str]) -> None:
    for call, caller in calls:
        finished = record(call, caller=caller)
        await store.calls.finish(finished, [note(finished)])


async def test_only_the_first_of_each_number_is_due(database_url: str) -> None:
    async with open_store(database_url) as store:
        await _owe(store, ("a1", "+74950000001"), ("a2", "+74950000001"), ("b1", "+74950000002"))
        first = await store.outbox.claim(ACME, LATER, LEASE, 10)
        assert [row.id for row in first] == sorted(row.id for row in first)
        assert ['"a1"' in first[0].payload, '"b1"' in first[1].payload, len(first)] == [True, True, 2]
        assert await store.outbox.claim(ACME, LATER, LEASE, 10) == []
        await store.outbox.done(first[0].id, NOTE_5, LATER)
        (second,) = await store.outbox.claim(ACME, LATER, LEASE, 10)
        assert '"a2"' in second.payload


async def test_what_is_owed_to_one_client_is_counted_alone(database_url: str) -> None:
    async with open_store(database_url) as store:
        assert await store.outbox.owed_to(ACME) == Backlog()
        await _owe(store, ("a1", "+74950000001"), ("a2", "+74950000002"))
        other = record("o1", client=ClientId("other"), ended_at=NOON)
        await store.calls.finish(other, [note(other)])
        row, _ = await store.outbox.claim(ACME, LATER, LEASE, 10)
        await store.outbox.set_aside(row.id, "403", LATER)
        owed = await store.outbox.owed_to(ACME)
        assert (owed.pending, owed.aside, owed.oldest) == (1, 1, record().ended_at)
        assert (await store.outbox.owed_to(ClientId("other"))).pending == 1


async def test_a_lease_that_ran_out_gives_the_row_back_and_counts_the_attempt(database_url: str) -> None:
    async with open_store(database_url) as store:
        await _owe(store, ("a1", "+74950000001"))
        (row,) = await store.outbox.claim(ACME, LATER, LEASE, 10)
        assert row.attempts == 1
        assert await store.outbox.agenda() == {ACME: LEASE}
        (again,) = await store.outbox.claim(ACME, LEASE, LEASE + timedelta(minutes=5), 10)
        assert (again.id, again.attempts) == (row.id, 2)


async def test_the_agenda_names_each_client_with_the_time_of_its_first_head(database_url: str) -> None:
    async with open_store(database_url) as store:
        assert await store.outbox.agenda() == {}
        await _owe(store, ("a1", "+74950000001"), ("a2", "+74950000001"))
        other = record("o1", client=ClientId("other"), ended_at=NOON)
        await store.calls.finish(other, [note(other)])
        (row,) = await store.outbox.claim(ACME, LATER, LEASE, 10)
        await store.outbox.retry(row.id, LATER + timedelta(minutes=1), "503")
        assert await store.outbox.agenda() == {ACME: LATER + timedelta(minutes=1), ClientId("other"): NOON}


async def test_released_is_as_if_not_claimed_and_set_aside_lets_the_next_one_go(database_url: str) -> None:
    async with open_store(database_url) as store:
        await _owe(store, ("a1", "+74950000001"), ("a2", "+74950000001"))
        (row,) = await store.outbox.claim(ACME, LATER, LEASE, 10)
        await store.outbox.release(row.id, LATER)
        (row,) = await store.outbox.claim(ACME, LATER, LEASE, 10)
        assert row.attempts == 1
        await store.outbox.set_aside(row.id, "refused: 400", LATER)
        (following,) = await store.outbox.claim(ACME, LATER, LEASE, 10)
        assert '"a2"' in following.payload
        assert (await store.outbox.backlog()).aside == 1


async def test_two_processes_never_hold_the_same_row(database_url: str) -> None:
    async with open_store(database_url) as one, open_store(database_url) as two:
        await _owe(one, *[(f"c{n}", f"+7495000{n:04}") for n in range(40)])
        claims = await asyncio.gather(*[store.outbox.claim(ACME, LATER, LEASE, 7) for store in (one, two) * 4])
    ids = [row.id for rows in claims for row in rows]
    assert len(ids) == len(set(ids))
    assert len(ids) >= 7


async def test_a_late_word_about_a_row_that_is_done_says_nothing(database_url: str) -> None:
    async with open_store(database_url) as store:
        await _owe(store, ("a1", "+74950000001"))
        (row,) = await store.outbox.claim(ACME, LATER, LEASE, 10)
        await store.outbox.done(row.id, NOTE_5, LATER)
        await store.outbox.retry(row.id, LATER, "timed out")
        assert await store.outbox.agenda() == {}


async def test_what_was_delivered_long_ago_is_forgotten_and_what_is_owed_never(database_url: str) -> None:
    async with open_store(database_url) as store:
        await _owe(store, ("a1", "+74950000001"), ("a2", "+74950000001"))
        (row,) = await store.outbox.claim(ACME, LATER, LEASE, 10)
        await store.outbox.done(row.id, NOTE_5, LATER)
        assert await store.outbox.forget_done(LATER) == 1
        backlog = await store.outbox.backlog()
        assert (backlog.pending, backlog.oldest) == (1, record().ended_at)
