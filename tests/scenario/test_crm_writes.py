"""Whatever becomes of an outside call, it is in the books once, and the CRM is owed what the rules say, once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from b2bua.calls.left_behind import Undertaker
from b2bua.calls.switchboard import Limits
from b2bua.cdr import Disposition, EndReason
from b2bua.crm.functions import CardKind, CrmFunctions, CrmRules, DealRule
from b2bua.crm.port import CallNote, Card, Purpose, Task
from b2bua.crm.writes import kind_of
from b2bua.directory import CrmAccount, Hours
from b2bua.sip.core import CoreConfig, UserAgentCore
from b2bua.sip.effects import Transport
from b2bua.sip.invite_session import InviteSession
from b2bua.ua.agent import UserAgent
from tests.support.anchored import AnchoredPlane
from tests.support.office import ACME, DID, SERVER, Office, faultless_office, open_office
from tests.support.phone import Answers, PhoneCall, Rejects, Rings

IVAN, MARIA, MOBILE = "+79161234567", "+79265554433", "+79160000001"
EVERYTHING = CrmFunctions(
    create_on_incoming=True, create_on_outgoing=True, task_on_new_contact=True, task_on_missed=True,
    rules=CrmRules(outgoing_unanswered=CardKind.CONTACT, deal=DealRule()))
MISSED = ["card", "call note", "call back"]
CALLED_IN_VAIN = ["card", "deal", "call note", "fill in"]
TALKED = ["card", "deal", "call note", "fill in", "talked to"]


@pytest.fixture
def office():
    return faultless_office(AnchoredPlane())


async def rule(office: Office, functions: CrmFunctions = EVERYTHING, **number: object) -> None:
    """The client has switched that on, and its number goes where it says."""
    (client,) = office.books.directory.clients
    account = CrmAccount("http://crm.test", "token", functions, default_user=70)
    office.change(clients=(replace(client, crm=account),),
                  numbers=(replace(office.books.directory.numbers[0], **number),))  # type: ignore[arg-type]
    await office.pbx.settings_changed()


def owed(office: Office) -> list[str]:
    return [one.purpose.value if isinstance(one, Task) else kind_of(one) for one in office.books.writes]


def the_note(office: Office) -> CallNote:
    (note,) = [one for one in office.books.writes if isinstance(one, CallNote)]
    return note


def the_card(office: Office) -> Card:
    (card,) = [one for one in office.books.writes if isinstance(one, Card)]
    return card


def the_task(office: Office) -> Task:
    (task,) = [one for one in office.books.writes if isinstance(one, Task)]
    return task


async def call_in(office: Office, ivan: str = IVAN) -> PhoneCall:
    call = office.trunk.call(DID, as_=ivan)
    await call.answered.wait()
    await asyncio.sleep(5)
    return call


# -- nobody talks


async def test_a_missed_call_is_the_users_whose_phone_alone_has_rung(office: Office) -> None:
    await rule(office)
    await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert owed(office) == MISSED
    assert (the_card(office).make, the_card(office).user) == (CardKind.UNSORTED, None)
    assert (the_note(office).user, the_note(office).disposition) == (78, Disposition.NO_ANSWER)
    task = the_task(office)
    assert (task.user, task.due_at) == (78, record.ended_at + timedelta(minutes=15))
    await office.all_quiet()


async def test_a_call_that_is_given_up_before_a_phone_rings_was_missed(office: Office) -> None:
    await rule(office)
    office.crm.delay = 30.0
    boris = await office.phone("102")
    call = office.trunk.call(DID, as_=IVAN)
    await asyncio.sleep(0.5)
    call.hang_up()
    record = await office.record()
    assert boris.calls == []
    assert (record.disposition, record.rang) == (Disposition.ABANDONED, ())
    assert owed(office) == MISSED
    assert (the_note(office).user, the_task(office).user) == (70, None)
    await office.all_quiet()


async def test_five_phones_of_a_group_ring_and_it_is_one_missed_call_of_nobody_in_particular(office: Office) -> None:
    await rule(office, destination="600")
    office.crm.knows(IVAN, "Иван Петров", responsible=77)
    for number, host in (("102", "10.0.3.1"), ("102", "10.0.3.2"), ("102", "10.0.3.3"), ("103", "10.0.3.4"),
                         ("103", "10.0.3.5")):
        await office.phone(number, Rings(), host=host)
    await office.phone("101", Rings())               # who is responsible, and rings first
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert record.rang == ("101", "102", "103")
    assert owed(office) == MISSED
    assert (the_note(office).user, the_task(office).user) == (77, None)
    await office.all_quiet()


async def test_one_of_the_five_picks_up_and_it_is_one_call_of_that_user(office: Office) -> None:
    await rule(office, destination="600")
    for number, host in (("102", "10.0.3.1"), ("102", "10.0.3.2"), ("102", "10.0.3.3"), ("103", "10.0.3.4")):
        await office.phone(number, Rings(), host=host)
    await office.phone("103", Answers(after=1.0), host="10.0.3.5")
    call = await call_in(office)
    call.hang_up()
    await office.record()
    assert owed(office) == TALKED
    assert (the_card(office).user, the_note(office).user, the_task(office).user) == (79, 79, 79)
    assert the_note(office).talked == ()
    await office.all_quiet()


async def refused_by_the_callee(office: Office) -> None:
    await office.phone("102", Rejects(603))


async def with_no_phone_to_ring(office: Office) -> None:
    """Nobody is registered."""


async def with_a_phone_that_is_busy(office: Office) -> None:
    await office.phone("102", Rejects(486))


@pytest.mark.parametrize("happens", [refused_by_the_callee, with_no_phone_to_ring, with_a_phone_that_is_busy])
async def test_a_call_that_rings_nobody_was_missed(
    office: Office, happens: Callable[[Office], Awaitable[None]]
) -> None:
    await rule(office)
    await happens(office)
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    await office.record()
    assert owed(office) == MISSED
    await office.all_quiet()


async def test_a_call_to_a_number_that_nobody_has_is_the_offices_all_the_same(office: Office) -> None:
    await rule(office)
    call = office.trunk.call("+74950000000", as_=IVAN)
    await call.over.wait()
    assert (await office.record()).status == 404
    assert owed(office) == MISSED
    assert the_note(office).did == "+74950000000"
    await office.all_quiet()


@pytest.mark.parametrize("whose", ["server", "client", "trunk"])
async def test_a_call_that_a_limit_turns_away_was_missed(whose: str) -> None:
    async with open_office(limits=Limits(max_calls=1 if whose == "server" else 1000)) as office:
        await rule(office)
        directory = office.books.directory
        if whose == "client":
            office.change(clients=(replace(directory.clients[0], max_calls=1),))
        elif whose == "trunk":
            office.change(trunks=(replace(directory.trunks[0], max_calls=1),))
        await office.pbx.settings_changed()
        await office.phone("102")
        first = await call_in(office, MARIA)
        second = office.trunk.call(DID, as_=IVAN)
        await second.over.wait()
        record = await office.record()
        assert (record.status, record.reason) == (503, EndReason.LIMIT_REACHED)
        assert owed(office) == MISSED
        assert {one.phone for one in office.books.writes} == {IVAN}
        first.hang_up()
        await office.record(2)
        await office.all_quiet()


async def test_who_calls_while_the_switch_stops_was_missed() -> None:
    async with open_office() as office:
        await rule(office)
        await office.phone("102")
        first = await call_in(office, MARIA)
        stopping = asyncio.get_running_loop().create_task(office.pbx.drain(60))
        await asyncio.sleep(1)
        second = office.trunk.call(DID, as_=IVAN)
        await second.over.wait()
        await office.record()
        assert second.status == 503
        assert owed(office) == MISSED
        first.hang_up()
        await stopping
        assert len(office.books.records) == 2


async def test_who_calls_in_the_very_moment_of_the_end_is_in_the_books() -> None:
    async with open_office() as office:
        await rule(office)
        came: list[tuple[InviteSession, object]] = []
        from_trunk, deactivate = office.pbx.from_trunk, office.pbx.notifier.deactivate

        async def last() -> None:          # just before what lives is hung up
            await deactivate()
            while came:
                from_trunk(*came.pop())  # type: ignore[arg-type]

        office.pbx.from_trunk = lambda session, trunk: came.append((session, trunk))  # type: ignore[method-assign]
        office.pbx.notifier.deactivate = last  # type: ignore[method-assign]
        office.trunk.call(DID, as_=IVAN)
        await asyncio.sleep(1)
        await office.pbx.drain(0)
        (record,) = office.books.records
        assert (record.caller, record.reason) == (IVAN, EndReason.SHUTDOWN)
        assert owed(office) == MISSED


@pytest.mark.parametrize("hours", [None, Hours("Europe/Moscow", ("mon 00:00-00:01",), "announcement:unavailable")])
async def test_at_night_a_call_is_missed_but_not_where_an_announcement_is_all_there_is(
    office: Office, hours: Hours | None
) -> None:
    await rule(office, destination="102" if hours else "announcement:unavailable", hours=hours)
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    assert (await office.record()).reason is EndReason.ANNOUNCED
    assert owed(office) == (MISSED if hours else ["card", "call note"])
    await office.all_quiet()


@pytest.mark.parametrize("caller", ["anonymous", "112", "5551", "landlord", MARIA])
async def test_who_is_nobody_by_the_number_or_is_not_to_be_told_is_in_the_books_alone(
    office: Office, caller: str
) -> None:
    await rule(office, replace(EVERYTHING, not_told=(MARIA,)))
    await office.phone("102")
    call = await call_in(office, caller)
    call.hang_up()
    assert (await office.record()).disposition is Disposition.ANSWERED
    assert owed(office) == []
    assert (office.crm.asked, office.crm.pop_ups) == ([], [])
    await office.all_quiet()


# -- who talks


async def test_who_talked_last_owns_a_call_that_was_transferred_and_all_are_named(office: Office) -> None:
    await rule(office)
    boris, vera = await office.phone("102", Answers(after=1.0)), await office.phone("103", Answers(after=1.0))
    anna = await office.phone("101", Answers(after=1.0))
    call = await call_in(office)
    boris.calls[0].refer("<sip:103@10.0.0.1>")       # blind
    await asyncio.sleep(10)
    second = vera.call("101")                        # attended
    await second.answered.wait()
    vera.calls[0].refer_to(second)
    await asyncio.sleep(10)
    anna.calls[0].hang_up()
    record = await office.record(2)
    assert call.over.is_set()
    assert owed(office) == TALKED
    assert (the_card(office).user, the_note(office).user, record.crm_user) == (77, 77, 77)
    assert the_note(office).talked == ("Employee 102 (102)", "Employee 103 (103)", "Employee 101 (101)")
    await office.all_quiet()


@pytest.mark.parametrize("hangs_up", [False, True])
async def test_a_transfer_that_comes_back_leaves_the_call_with_who_had_it(office: Office, hangs_up: bool) -> None:
    await rule(office)
    boris = await office.phone("102", Answers(after=1.0))
    await office.phone("103", Rejects(486, after=2.0))
    call = await call_in(office)
    boris.calls[0].refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(1)
    if hangs_up:
        boris.calls[0].hang_up()                     # and is called back
    await asyncio.sleep(10)
    assert len(boris.calls) == 1 + hangs_up
    call.hang_up()
    await office.record()
    assert owed(office) == TALKED
    assert (the_note(office).user, the_note(office).talked) == (78, ())
    await office.all_quiet()


async def test_a_call_that_is_picked_up_is_the_pickers(office: Office) -> None:
    await rule(office)
    boris, vera = await office.phone("102", Rings()), await office.phone("103")
    call = office.trunk.call(DID, as_=IVAN)
    await boris.was_called()
    await call.rang.wait()
    mine = vera.call("**102")
    await call.answered.wait()
    await asyncio.sleep(5)
    mine.hang_up()
    await office.record()
    assert owed(office) == TALKED
    assert (the_card(office).user, the_note(office).user, the_note(office).talked) == (79, 79, ())
    await office.all_quiet()


async def test_a_call_that_is_answered_outside_is_nobodys_of_the_office_and_not_missed(office: Office) -> None:
    await rule(office, on_no_answer=MOBILE)
    await office.phone("102", Rings())
    call = await call_in(office)
    call.hang_up()
    record = await office.record()
    assert (record.disposition, record.extension, record.rang) == (Disposition.ANSWERED, None, ("102",))
    assert owed(office) == TALKED
    assert (the_card(office).user, the_note(office).user, the_note(office).phone) == (None, 70, IVAN)
    await office.all_quiet()


async def test_a_call_between_colleagues_that_ends_up_outside_is_one_outside_call(office: Office) -> None:
    await rule(office)
    anna, boris = await office.phone("101"), await office.phone("102", Answers(after=1.0))
    call = anna.call("102")
    await call.answered.wait()
    await asyncio.sleep(2)
    boris.calls[0].refer(f"<tel:{MARIA}>")
    await asyncio.sleep(10)
    call.hang_up()
    await office.record()
    assert owed(office) == TALKED
    assert (the_note(office).phone, the_note(office).user, the_note(office).talked) == (MARIA, 77, ())
    await office.all_quiet()


# -- calls out


@pytest.mark.parametrize("status", [486, 603, 404, 480])
async def test_who_was_called_in_vain_is_told_as_the_rule_says(office: Office, status: int) -> None:
    await rule(office)
    office.trunk.does = Rejects(status)
    anna = await office.phone("101")
    call = anna.call(MARIA)
    await call.over.wait()
    await office.record()
    assert owed(office) == CALLED_IN_VAIN
    assert (the_card(office).user, the_note(office).user, the_task(office).user) == (77, 77, 77)
    assert the_task(office).purpose is Purpose.FILL_IN
    await office.all_quiet()


@pytest.mark.parametrize("why", ["hour", "at once", "trunk"])
async def test_a_call_that_never_left_makes_nobody_a_contact(office: Office, why: str) -> None:
    await rule(office)
    directory = office.books.directory
    if why == "trunk":
        office.change(trunks=(replace(directory.trunks[0], host="nowhere.test", networks=()),))
    else:
        limit = {"outgoing_per_hour": 0} if why == "hour" else {"max_calls": 0}
        office.change(extensions=tuple(replace(one, **limit) for one in directory.extensions))  # type: ignore[arg-type]
    await office.pbx.settings_changed()
    anna = await office.phone("101")
    call = anna.call(MARIA)
    await call.over.wait()
    record = await office.record()
    assert record.trunk is None
    assert office.trunk.calls == []
    assert owed(office) == ["call note"]
    await office.all_quiet()


@pytest.mark.parametrize("dialled", ["112", "101", "5551"])
async def test_calls_for_help_and_of_colleagues_are_told_to_nobody(office: Office, dialled: str) -> None:
    await rule(office)
    await office.phone("101", Answers(after=1.0))
    boris = await office.phone("102")
    call = boris.call(dialled)
    await call.answered.wait()
    call.hang_up()
    await office.record()
    assert owed(office) == []
    await office.all_quiet()


# -- the switch dies


@pytest.mark.parametrize("talks", [True, False])
@pytest.mark.parametrize("way", ["in", "out"])
async def test_a_call_that_the_switch_did_not_survive_is_told_once_with_its_true_times(way: str, talks: bool) -> None:
    async with open_office() as office, asyncio.TaskGroup() as tasks:
        saving = tasks.create_task(office.standing.run())
        await rule(office)
        anna, boris = await office.phone("101"), await office.phone("102", Answers(after=1.0) if talks else Rings())
        office.trunk.does = Answers(after=1.0) if talks else Rings()
        call = office.trunk.call(DID, as_=IVAN) if way == "in" else anna.call(IVAN)
        await asyncio.sleep(12)
        office.agent.transports[Transport.UDP].close()
        agent = UserAgent(UserAgentCore(CoreConfig(), random.Random(7)))
        agent.transports = {Transport.UDP: office.network.attach(SERVER, agent)}
        undertaker = Undertaker(office.books, office.books, agent, None, lambda: None)
        await undertaker.run()
        await office.books.tidy()
        await undertaker.run()             # the next start, too
        await asyncio.sleep(1)
        (record,) = office.books.records
        assert (record.client, record.reason) == (ACME, EndReason.RESTARTED)
        assert (record.disposition is Disposition.ANSWERED) == talks == call.over.is_set()
        assert owed(office) == (TALKED if talks else MISSED if way == "in" else CALLED_IN_VAIN)
        assert the_task(office).due_at == record.ended_at + timedelta(minutes=15)
        assert the_note(office).talk_seconds == record.talk_seconds
        if talks:
            assert 5 <= record.talk_seconds <= 11
        elif way == "in":
            assert record.rang == ("102",)
            assert boris.calls[0].ladder()[-1] == "180"        # who only rings gets no BYE (RFC 3261 §15)
        assert undertaker.counters.farewells == (2 if talks else 0)
        saving.cancel()
        agent.transports[Transport.UDP].close()
        agent.close()
