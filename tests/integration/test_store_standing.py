"""Calls that are up, in both databases: never lost between the two tables, closed once."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import text

from b2bua.calls.left_behind import closed
from b2bua.sip.effects import Address, Transport
from b2bua.sip.farewell import Farewell
from b2bua.store.engine import open_database
from b2bua.store.standing import LeftBehind, StandingCall
from b2bua.store.store import open_store
from tests.support.records import NOON, note, record

LATER = NOON + timedelta(seconds=90)
BYE = Farewell(
    "sip:101@192.0.2.7:5062;transport=tcp", "<sip:+7495@switch>;tag=ours",
    '"Анна \\"101\\"" <sip:101@switch>;tag=theirs', "call-id@switch", 1_000_002,
    ("<sip:proxy.example;lr>",), Transport.TCP, (Address("192.0.2.7", 5062), Address("192.0.2.7", 40_000)),
)


def standing(call: str = "c-1", **changes: object) -> StandingCall:
    one = record(call, **changes)
    return StandingCall(one, (note(one),), (BYE,))


async def test_what_was_up_reads_back_as_it_was_with_the_last_sign_of_life(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.standing.save([standing()], NOON)
        await store.standing.save([standing("c-2", caller="\0\udcff" + "9" * 2000)], LATER)
        assert await store.standing.tidy() == 2
        assert await store.standing.left_behind() == []         # they are ours
        await store.standing.claim()
        first, second = sorted(await store.standing.left_behind(), key=lambda one: one.call.record.id)
    assert first == LeftBehind(standing(), LATER)
    assert len(second.call.record.caller) <= 512


async def test_what_is_saved_again_is_kept_as_it_is_now(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.standing.save([standing(), standing("c-2")], NOON)
        await store.standing.save([standing(contact="Another")], LATER)
        await store.standing.claim()
        left = {one.call.record.id: one.call for one in await store.standing.left_behind()}
    assert left == {"c-1": standing(contact="Another"), "c-2": standing("c-2")}


async def test_the_next_process_s_signs_of_life_are_not_those_of_the_dead_one(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.standing.save([standing()], NOON)
    for death in range(2):
        async with open_store(database_url) as store:
            await store.standing.claim()
            await store.standing.save([standing(f"of the next {death}")], LATER + timedelta(hours=1 + death))
    async with open_store(database_url) as store:
        await store.standing.claim()
        seen = {left.call.record.id: left.seen_at for left in await store.standing.left_behind()}
    assert seen["c-1"] == NOON
    assert len(seen) == 3


async def test_a_call_whose_record_is_in_the_books_is_up_no_more(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.standing.save([standing("c-1"), standing("c-2")], NOON)
        await store.calls.finish(record("c-1"))
        assert await store.standing.tidy() == 1
        await store.calls.finish(record("c-2"))
        await store.standing.claim()
        assert await store.standing.left_behind() == []
        assert await store.standing.tidy() == 0


async def test_closing_twice_keeps_one_record_and_one_note(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.standing.save([standing()], LATER)
        await store.standing.claim()
        (left,) = await store.standing.left_behind()
        call, writes = closed(left)
        await store.calls.finish(call, writes)
        await store.calls.finish(call, writes)
        assert await store.calls.last_calls() == [call]
        assert (await store.outbox.backlog()).pending == 1
        assert await store.standing.left_behind() == []
    assert call.ended_at == LATER
    assert writes[0].talk_seconds == call.talk_seconds == 84


async def test_a_row_that_cannot_be_read_is_told_and_stands_in_nobody_s_way(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.standing.save([standing("c-1"), standing("c-2"), standing("c-3")], NOON)
        async with open_database(database_url) as database, database.writing() as connection:
            await connection.execute(text("UPDATE standing_calls SET payload = '[1, 2' WHERE id = 'c-1'"))
            await connection.execute(text("UPDATE standing_calls SET payload = '{}' WHERE id = 'c-2'"))
        await store.standing.claim()
        assert [left.call.record.id for left in await store.standing.left_behind()] == ["c-3"]
        assert await store.standing.tidy() == 1
