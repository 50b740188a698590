"""The process dies with calls up; the next one on the same address closes them: records, CRM notes, BYEs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from b2bua.calls import left_behind
from b2bua.calls.left_behind import Undertaker
from b2bua.calls.standing import BEAT_EVERY, SAVED_EVERY
from b2bua.cdr import CallId, Disposition, EndedBy, EndReason
from b2bua.crm.port import CallNote
from b2bua.sip.core import CoreConfig, UserAgentCore
from b2bua.sip.effects import Address, Transport
from b2bua.store.engine import StoreUnavailable
from b2bua.store.standing import LeftBehind, StandingCall
from b2bua.ua.agent import UserAgent
from tests.support.office import DID, SERVER, Office, open_office
from tests.support.phone import Answers, PhoneCall

PROXY = Address("10.0.9.9", 5060)


@asynccontextmanager
async def office_that_saves() -> AsyncIterator[Office]:
    async with open_office() as office, asyncio.TaskGroup() as tasks:
        saving = tasks.create_task(office.standing.run())
        yield office
        saving.cancel()


async def talking(office: Office, seconds: float = 10.0) -> tuple[PhoneCall, PhoneCall]:
    phone = await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_="+79161234567")
    await call.answered.wait()
    await asyncio.sleep(seconds)
    return call, phone.calls[0]


@asynccontextmanager
async def next_process(office: Office) -> AsyncIterator[UserAgent]:
    """What had the server's address is deaf from now on; somebody else has it."""
    office.agent.transports[Transport.UDP].close()
    agent = UserAgent(UserAgentCore(CoreConfig(), random.Random(7)))
    agent.transports = {Transport.UDP: office.network.attach(SERVER, agent)}
    try:
        yield agent
    finally:
        agent.transports[Transport.UDP].close()
        agent.close()


def undertaker(office: Office, agent: UserAgent) -> Undertaker:
    return Undertaker(office.books, office.books, agent, None, lambda: None)


async def test_both_phones_get_their_bye_and_the_books_the_true_times() -> None:
    async with office_that_saves() as office:
        caller, callee = await talking(office, 10.0)
        assert caller.answered_at is not None
        async with next_process(office) as agent:
            await undertaker(office, agent).run()
            await asyncio.sleep(1)
            assert caller.over.is_set()
            assert callee.over.is_set()
            assert caller.ladder()[-2:] == callee.ladder()[-2:] == ["BYE", "200"]
        (record,), (note,) = office.books.records, office.books.writes
    assert (record.disposition, record.ended_by, record.reason) == (
        Disposition.ANSWERED, EndedBy.SWITCH, EndReason.RESTARTED)
    assert record.answered_at is not None
    assert 10.0 - BEAT_EVERY - SAVED_EVERY <= (record.ended_at - record.answered_at).total_seconds() <= 10.1
    assert record.why[-1].startswith("the switch died during this call")
    assert isinstance(note, CallNote)
    assert (note.call, note.talk_seconds) == (record.id, record.talk_seconds)
    assert note.talk_seconds >= 6


async def test_the_bye_counts_on_whatever_the_dialog_has_said_since_it_was_written_down() -> None:
    async with office_that_saves() as office:
        caller, callee = await talking(office)
        for _ in range(3):
            caller.offer("sendonly")       # passed on: our requests in the callee's dialog
            await asyncio.sleep(1)
            caller.offer("sendrecv")
            await asyncio.sleep(1)
        async with next_process(office) as agent:
            closing = undertaker(office, agent)
            await closing.run()
            await asyncio.sleep(1)
        assert callee.over.is_set()
        assert closing.counters.farewells_answered == 2


async def test_a_process_that_dies_while_it_closes_leaves_it_to_the_next_and_nothing_is_double() -> None:
    async with office_that_saves() as office:
        caller, callee = await talking(office)
        office.books.delay = 5.0
        async with next_process(office) as agent, asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(undertaker(office, agent).run())
            await asyncio.sleep(1)
            closing.cancel()
        assert office.books.records == []
        office.books.delay = 0.0
        async with next_process_again(office) as agent:
            await undertaker(office, agent).run()
        assert len(office.books.records) == len(office.books.writes) == 1
        assert caller.over.is_set()
        assert callee.over.is_set()


@asynccontextmanager
async def next_process_again(office: Office) -> AsyncIterator[UserAgent]:
    agent = UserAgent(UserAgentCore(CoreConfig(), random.Random(8)))
    agent.transports = {Transport.UDP: office.network.attach(SERVER, agent)}
    yield agent
    agent.transports[Transport.UDP].close()
    agent.close()


async def test_phones_that_are_gone_hold_up_no_record() -> None:
    async with office_that_saves() as office:
        await talking(office)
        office.network.lose(lambda data, flow: flow.local == SERVER, times=1000)
        loop = asyncio.get_running_loop()
        async with next_process(office) as agent, asyncio.TaskGroup() as tasks:
            closing = undertaker(office, agent)
            began = loop.time()
            running = tasks.create_task(closing.run())
            await office.record()
            assert loop.time() - began < 3
            await running                  # 32 s: RFC 3261 §17.1.2.2, timer F
        assert (closing.counters.farewells, closing.counters.farewells_answered) == (2, 0)


async def test_byes_are_bounded_in_number_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(left_behind, "MAX_FAREWELLS", 7)
    monkeypatch.setattr(left_behind, "CLOSED_A_SECOND", 2)
    async with office_that_saves() as office:
        await talking(office)
        (one,) = office.books.standing.values()
        office.books.standing = {CallId(f"c-{number}"): one for number in range(8)}
        loop = asyncio.get_running_loop()
        async with next_process(office) as agent:
            closing = undertaker(office, agent)
            began = loop.time()
            await closing.run()
        assert closing.counters.closed == 8
        assert closing.counters.farewells == 7
        assert loop.time() - began >= 3.0


async def test_a_phone_that_has_moved_is_written_down_where_it_is_now() -> None:
    async with office_that_saves() as office:
        saves = Saves(office)
        await talking(office)
        legs = list(office.agent._legs.values())
        for leg in legs:
            assert leg.session.dialog is not None
            leg.session.dialog.flow = leg.session.dialog.flow._replace(remote=PROXY)
        await asyncio.sleep(2 * BEAT_EVERY)
        (left,) = office.books.standing.values()
        assert [farewell.hops for farewell in left.call.farewells] == [(PROXY,), (PROXY,)]
        await asyncio.sleep(10 * BEAT_EVERY)
        assert saves.seen == 3             # ringing, talking, moved; and never again while nothing moves


async def test_a_call_that_is_over_leaves_nothing_to_close() -> None:
    async with office_that_saves() as office:
        caller, _ = await talking(office)
        assert len(office.books.standing) == 1
        caller.hang_up()
        await office.record()
        await asyncio.sleep(BEAT_EVERY + SAVED_EVERY)
        assert office.books.standing == {}


async def test_a_drain_leaves_nothing_to_close() -> None:
    async with office_that_saves() as office:
        await talking(office)
        await office.pbx.drain(0)
        await asyncio.sleep(BEAT_EVERY + SAVED_EVERY)
        assert office.books.standing == {}
        assert [record.reason for record in office.books.records] == [EndReason.SHUTDOWN]


async def test_a_call_of_less_than_a_moment_is_never_written_down() -> None:
    async with office_that_saves() as office:
        await office.phone("102", Answers(after=1.0, hangs_up_after=0.2))
        saves = Saves(office)
        call = office.trunk.call(DID, as_="+79161234567")
        await call.over.wait()
        await asyncio.sleep(10)
        assert saves.seen <= 1


class Saves:
    """Counts the calls that were written down, as the database would see them."""

    def __init__(self, office: Office) -> None:
        self.seen = 0
        self.away = False
        self._save = office.books.save
        office.books.save = self.save      # type: ignore[method-assign]

    async def save(self, standing: Sequence[StandingCall], now: object) -> None:
        if self.away:
            raise StoreUnavailable("away")
        self.seen += len(standing)
        await self._save(standing, now)     # type: ignore[arg-type]


async def test_a_database_that_is_away_has_the_call_when_it_is_back_and_the_call_never_knew() -> None:
    async with office_that_saves() as office:
        saves = Saves(office)
        saves.away = True
        caller, _ = await talking(office, 30)
        assert (saves.seen, caller.over.is_set()) == (0, False)
        saves.away = False
        await asyncio.sleep(2 * SAVED_EVERY)
        (left,) = office.books.standing.values()
        assert isinstance(left, LeftBehind)
