"""What the live page sees of calls, and what it does to them: hanging up, and sending them on to somebody else."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from b2bua.cdr import ClientId, Direction, Disposition, EndedBy, EndReason
from b2bua.control import FailedTransfer, Heard, LiveCall, Presence, Quality, Transfer, TransferOutcome
from b2bua.directory import PrefixLimit
from b2bua.media.relay import wire
from tests.support.anchored import AnchoredPlane
from tests.support.office import ACME, DID, IVAN, MARIA, OPERATOR, Office, call_in, has
from tests.support.phone import Answers, Rejects, Rings

WHO = "operator"
GOES = TransferOutcome(Transfer.ACCEPTED)


def seen(office: Office) -> LiveCall:
    (call,) = office.pbx.glance(ACME, 10).calls
    return call


def transfer(office: Office, target: str) -> TransferOutcome:
    return office.pbx.transfer(ACME, seen(office).id, target, WHO)


def presence(office: Office) -> dict[str, str]:
    return {one.number: one.presence.value for one in office.pbx.glance(ACME, 10).extensions}


# -- what it sees

async def test_who_rings_who_talks_and_who_is_not_there(office: Office) -> None:
    office.change(numbers=(replace(office.books.directory.numbers[0], destination="600"),))
    await office.pbx.settings_changed()
    assert presence(office) == {"101": "unregistered", "102": "unregistered", "103": "unregistered"}
    await office.phone("102", Rings())
    await office.phone("103", Answers(after=5.0))
    assert presence(office) == {"101": "unregistered", "102": "free", "103": "free"}
    outside = office.trunk.call(DID, as_=IVAN)
    await asyncio.sleep(2)
    assert (seen(office).state, seen(office).rings) == ("ringing", ("102", "103"))
    assert presence(office) == {"101": "unregistered", "102": "ringing", "103": "ringing"}
    await asyncio.sleep(5)
    assert (seen(office).state, seen(office).extension, seen(office).rings) == ("talking", "103", ())
    assert presence(office) == {"101": "unregistered", "102": "free", "103": "talking"}
    glance = office.pbx.glance(None, 1)
    assert [(one.number, len(one.devices)) for one in glance.extensions] == [("103", 1)]
    assert (glance.all_calls, glance.all_extensions, glance.all_trunks) == (1, 3, 1)
    assert office.pbx.glance(ClientId("other"), 10).all_calls == 0
    outside.hang_up()
    await office.record()
    assert presence(office)["103"] == "free"


async def test_a_phone_that_does_not_answer_options_is_unreachable(office: Office) -> None:
    phone = await office.phone("101")
    (key, binding), = office.pbx._registrar.bound(office.agent.now())
    office.pbx._registrar.mark(key, binding, type(binding.reachability).UNREACHABLE)
    assert presence(office)["101"] == Presence.UNREACHABLE.value
    await phone.register(expires=0)
    assert presence(office)["101"] == Presence.UNREGISTERED.value


async def test_hold_is_seen(office: Office) -> None:
    outside, boris = await call_in(office)
    assert not seen(office).on_hold
    await boris.agree("sendonly")
    assert seen(office).on_hold
    await boris.agree("sendrecv")
    assert not seen(office).on_hold
    outside.hang_up()
    await office.record()


async def test_how_the_audio_is(office: Office, plane: AnchoredPlane) -> None:
    outside, _ = await call_in(office)
    assert seen(office).quality is None
    assert isinstance(plane.told[-1], wire.Look)
    session = plane.session()
    session.arrives(wire.Arrival(session.number, (100, 0), (0, 0), (2.0, 0.0)))
    assert seen(office).quality == Quality(Heard(0.0, 2.0, "good"), None)
    for second in range(1, 7):               # what was long ago counts no more
        session.arrives(wire.Arrival(session.number, (100 + 45 * second, 48 * second), (5 * second, 2 * second),
                                     (2.0, 45.0)))
    quality = seen(office).quality
    assert quality == Quality(Heard(10.0, 2.0, "poor"), Heard(4.0, 45.0, "fair"))
    outside.hang_up()
    await office.record()


# -- sending on

async def test_a_caller_is_sent_on_to_a_colleague(office: Office, plane: AnchoredPlane) -> None:
    office.crm.knows(IVAN, "Иван Петров")
    vera = await office.phone("103", Answers(after=3.0))
    outside, boris = await call_in(office)
    assert transfer(office, " 103 ") == GOES
    await asyncio.sleep(2)
    assert (seen(office).state, seen(office).extension, seen(office).rings) == ("talking", "102", ("103",))
    assert plane.hosts() == (OPERATOR.host, "10.0.2.102")          # the two talk meanwhile
    await asyncio.sleep(10)
    assert boris.over.is_set()
    assert boris.ladder() == ["INVITE", "100", "180", "200", "ACK", "BYE", "200"]
    (new,) = vera.calls
    assert (new.caller, new.shown) == (IVAN, "Иван Петров")
    assert plane.hosts(1) == (OPERATOR.host, "10.0.2.103")         # the session that is recorded
    assert (outside.direction, new.direction) == ("sendrecv", "sendrecv")
    assert seen(office).extension == "103"
    new.hang_up()
    record = await office.record()
    assert outside.over.is_set()
    assert (record.direction, record.extension, record.crm_user) == (Direction.INBOUND, "103", 79)
    assert (record.ended_by, record.reason, record.rang) == (EndedBy.CALLEE, EndReason.HUNG_UP, ("102", "103"))
    assert has(record, "operator lets 102 transfer it, on the live page", f"102 has handed {IVAN} over to 103")
    assert [(note.phone, note.user) for note in office.books.writes] == [(IVAN, 79)]
    assert 79 in office.crm.pop_ups[-1].users
    await office.all_quiet()


async def test_whom_an_employee_called_is_sent_on_to_a_group(office: Office) -> None:
    anna = await office.phone("101")
    await office.phone("102", Rings())
    vera = await office.phone("103", Answers(after=1.0))
    inside = anna.call(MARIA)
    await inside.answered.wait()
    await asyncio.sleep(1)
    assert transfer(office, "600") == GOES
    await asyncio.sleep(5)
    assert inside.over.is_set()
    assert vera.calls[0].caller == MARIA
    vera.calls[0].hang_up()
    record = await office.record()
    assert (record.direction, record.extension, record.ended_by) == (Direction.OUTBOUND, "103", EndedBy.CALLER)
    await office.all_quiet()


async def test_of_two_colleagues_who_was_called_leaves(office: Office) -> None:
    anna = await office.phone("101")
    boris = await office.phone("102", Answers(after=1.0))
    vera = await office.phone("103", Answers(after=1.0))
    inside = anna.call("102")
    await inside.answered.wait()
    await asyncio.sleep(1)
    assert transfer(office, "103") == GOES
    await asyncio.sleep(5)
    assert boris.calls[0].over.is_set()
    assert not inside.over.is_set()
    assert vera.calls[0].caller == "101"
    inside.hang_up()
    await office.record()
    await office.all_quiet()


async def test_a_caller_is_sent_on_to_the_outside_and_then_nobody_can(office: Office) -> None:
    outside, boris = await call_in(office)
    assert transfer(office, "8 (926) 555-44-33") == GOES
    await asyncio.sleep(6)
    onward = office.trunk.calls[-1]
    assert (onward.caller, onward.session.invite.uri.user) == (DID, MARIA)
    assert boris.over.is_set()
    assert transfer(office, "101") == TransferOutcome(Transfer.NO_EMPLOYEE)
    outside.hang_up()
    record = await office.record()
    assert (record.direction, record.caller, record.extension) == (Direction.INBOUND, IVAN, "102")
    await office.all_quiet()


async def test_who_is_on_hold_talks_to_the_target(office: Office) -> None:
    vera = await office.phone("103", Answers(after=1.0))
    outside, boris = await call_in(office)
    await boris.agree("sendonly")
    assert transfer(office, "103") == GOES
    await asyncio.sleep(5)
    assert (outside.direction, vera.calls[0].direction) == ("sendrecv", "sendrecv")
    assert not seen(office).on_hold
    outside.hang_up()
    await office.record()
    await office.all_quiet()


@pytest.mark.parametrize("does", [Rejects(486), Rejects(603, after=2.0), Rings()])
async def test_nobody_answers_there_and_the_two_go_on(
    office: Office, plane: AnchoredPlane, does: Rejects | Rings
) -> None:
    await office.phone("103", does)
    outside, boris = await call_in(office)
    before = outside.ladder(), boris.ladder()
    assert transfer(office, "103") == GOES
    await asyncio.sleep(40)
    assert (outside.ladder(), boris.ladder()) == before
    assert plane.hosts() == (OPERATOR.host, "10.0.2.102")
    assert (seen(office).extension, seen(office).rings) == ("102", ())
    status = does.status if isinstance(does, Rejects) else 480
    assert seen(office).failed_transfer == FailedTransfer("103", status)
    assert transfer(office, "103") == GOES               # and it may be tried again
    await asyncio.sleep(0.5)
    assert seen(office).failed_transfer == (FailedTransfer("103", 486) if does == Rejects(486) else None)
    await asyncio.sleep(40)
    boris.hang_up()
    record = await office.record()
    assert (record.extension, record.ended_by) == ("102", EndedBy.CALLEE)
    assert has(record, "102 goes on")
    await office.all_quiet()


@pytest.mark.parametrize("picks_up", [True, False])
async def test_an_employee_who_has_hung_up_is_called_back(office: Office, picks_up: bool) -> None:
    await office.phone("103", Rejects(486, after=2.0))
    outside, boris = await call_in(office)
    assert transfer(office, "103") == GOES
    await asyncio.sleep(0.5)
    boris.hang_up()
    boris.phone.does = Answers(after=3.0) if picks_up else Rejects(486)
    await asyncio.sleep(10)
    assert boris.phone.calls[-1].caller == IVAN
    assert outside.over.is_set() is not picks_up
    if picks_up:
        outside.hang_up()
    assert has(await office.record(), "it is called back")
    await office.all_quiet()


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("103", "102 dialled 103, where no phone is registered"),
        ("102", "102 is in this call already"),
        ("", "'' is nothing that can be dialled"),
        ("Иван <script>", "'Иван <script>' is nothing that can be dialled"),
        ("1" * 65, "that is longer than any number"),
        ("+882161234567", "acme allows no calls to +882 (limit, refused)"),
        ("601", "nobody is transferred to an announcement (busy)"),
    ],
)
async def test_what_can_be_no_target_is_said_at_once(office: Office, target: str, why: str) -> None:
    client = office.books.directory.clients[0]
    sales = office.books.directory.groups[0]
    group = replace(sales, number="601", members=("103",), on_unregistered="announcement:busy")
    office.change(clients=(replace(client, limits=(PrefixLimit("+882", refused=True),)),),
                  groups=(sales, group))
    await office.pbx.settings_changed()
    outside, boris = await call_in(office)
    assert transfer(office, target) == TransferOutcome(Transfer.NO_TARGET, why)
    await asyncio.sleep(5)
    assert not boris.over.is_set()
    assert office.pbx.tolls.alarms.in_force() == []
    outside.hang_up()
    assert not has(await office.record(), "on the live page")


async def test_of_a_client_without_a_trunk_nobody_gets_outside(office: Office) -> None:
    anna = await office.phone("101")
    await office.phone("102", Answers(after=1.0))
    call = anna.call("102")
    await call.answered.wait()
    office.change(trunks=())
    await office.pbx.settings_changed()
    assert transfer(office, MARIA) == TransferOutcome(
        Transfer.NO_TARGET, f"{MARIA} is an outside number, and the client has no trunk")
    office.change(extensions=(), groups=(), numbers=())
    await office.pbx.settings_changed()
    assert transfer(office, "101") == TransferOutcome(Transfer.NO_TARGET, "102 was taken out of the directory")
    office.change(clients=())
    await office.pbx.settings_changed()
    assert transfer(office, "101").transfer is Transfer.NO_TARGET
    call.hang_up()
    await office.record()


async def test_only_once_at_a_time(office: Office) -> None:
    vera = await office.phone("103", Answers(after=3.0))
    anna = await office.phone("101", Answers(after=1.0))
    outside, boris = await call_in(office)
    assert transfer(office, "103") == GOES
    assert transfer(office, "101") == TransferOutcome(Transfer.UNDER_WAY)          # in the same moment
    await asyncio.sleep(1)
    assert transfer(office, "101") == TransferOutcome(Transfer.UNDER_WAY)          # while it rings there
    boris.refer("<sip:101@10.0.0.1>")
    await asyncio.sleep(10)
    assert boris.responses == [491]
    assert (len(vera.calls), len(anna.calls)) == (1, 0)
    assert transfer(office, "101") == GOES                                         # and on from there
    await asyncio.sleep(5)
    assert vera.calls[0].over.is_set()
    outside.hang_up()
    assert (await office.record()).extension == "101"
    await office.all_quiet()


async def test_a_refer_that_came_first_goes_first(office: Office) -> None:
    vera = await office.phone("103", Answers(after=1.0))
    anna = await office.phone("101", Answers(after=1.0))
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(0.02)
    assert transfer(office, "101") == TransferOutcome(Transfer.UNDER_WAY)
    await asyncio.sleep(10)
    assert (len(vera.calls), len(anna.calls)) == (1, 0)
    outside.hang_up()
    await office.record()
    await office.all_quiet()


async def test_only_who_talks_is_sent_on_and_only_by_whose_call_it_is(office: Office) -> None:
    await office.phone("102", Rings())
    outside = office.trunk.call(DID, as_=IVAN)
    await asyncio.sleep(2)
    call = seen(office).id
    assert transfer(office, "103") == TransferOutcome(Transfer.NOT_TALKING)
    other = ClientId("other")
    assert office.pbx.transfer(other, call, "103", WHO) == TransferOutcome(Transfer.NO_CALL)
    assert not office.pbx.hang_up(other, call, WHO)
    outside.hang_up()
    await office.record()
    assert office.pbx.transfer(ACME, call, "103", WHO) == TransferOutcome(Transfer.NO_CALL)


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.5, 1.996, 2.0, 2.004, 2.008, 2.012, 2.016])
@pytest.mark.parametrize("who", ["outside", "boris", "vera", "page"])
async def test_the_call_ends_meanwhile(office: Office, seconds: float, who: str) -> None:
    vera = await office.phone("103", Answers(after=2.0))
    outside, boris = await call_in(office)
    call = seen(office).id
    assert transfer(office, "103") == GOES
    await asyncio.sleep(seconds)
    if who == "page":
        assert office.pbx.hang_up(ACME, call, WHO)
    else:
        leaves = {"outside": outside, "boris": boris, "vera": vera.calls[0] if vera.calls else boris}[who]
        leaves.hang_up()
    await asyncio.sleep(10)
    for one in (outside, boris):
        one.hang_up()
    record = await office.record()
    assert record.disposition is Disposition.ANSWERED
    assert len(office.books.writes) == 1
    await office.all_quiet()


# -- hanging up

async def test_hanging_up_says_where(office: Office) -> None:
    outside, boris = await call_in(office)
    assert office.pbx.hang_up(ACME, seen(office).id, WHO)
    record = await office.record()
    assert outside.over.is_set()
    assert boris.over.is_set()
    assert has(record, "hung up on the live page by operator")
    assert (record.disposition, record.reason) == (Disposition.ANSWERED, EndReason.HUNG_UP)
    await office.all_quiet()
