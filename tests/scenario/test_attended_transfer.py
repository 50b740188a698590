"""Attended transfer: a phone of ours with two calls joins the two others, and both of its own calls end."""

from __future__ import annotations

import asyncio

import pytest

from b2bua.cdr import CallRecord, Direction, Disposition, EndReason
from tests.support.anchored import AnchoredPlane
from tests.support.office import DID, OPERATOR, Office
from tests.support.phone import Answers, Phone, PhoneCall, Rejects, Rings

IVAN, PAVEL = "+79161234567", "+79167654321"
MARIA = "+79265554433"
DONE = ("200 OK", "terminated;reason=noresource")


async def from_outside(office: Office, boris: Phone, number: str) -> tuple[PhoneCall, PhoneCall]:
    """A call that Boris (102) answers: the outside party's view of it, and his."""
    outside = office.trunk.call(DID, as_=number)
    await outside.answered.wait()
    await asyncio.sleep(3)
    mine = boris.calls[-1]
    mine.offer("sendonly")                           # on hold, while he asks somebody else
    await asyncio.sleep(1)
    return outside, mine


async def to(boris: Phone, number: str) -> PhoneCall:
    """Boris calls, and is answered."""
    call = boris.call(number)
    await call.answered.wait()
    await asyncio.sleep(3)
    return call


def by_direction(office: Office) -> dict[Direction, CallRecord]:
    return {record.direction: record for record in office.books.records}


async def test_an_outside_caller_and_a_colleague_who_was_asked_first(office: Office, plane: AnchoredPlane) -> None:
    boris, vera = await office.phone("102", Answers(after=1.0)), await office.phone("103", Answers(after=1.0))
    outside, first = await from_outside(office, boris, IVAN)
    second = await to(boris, "103")
    first.refer_to(second)
    await asyncio.sleep(1)
    assert first.responses == [202]
    assert [said for said, _ in first.notified] == ["100 Trying", "200 OK"]
    assert first.notified[-1] == DONE
    assert second.over.is_set()
    assert plane.hosts(1) == (OPERATOR.host, "10.0.2.103")
    joined = vera.calls[0]
    assert (outside.direction, joined.direction) == ("sendrecv", "sendrecv")
    await asyncio.sleep(10)
    assert first.ended is not None
    joined.hang_up()
    record = await office.record(2)
    assert outside.over.is_set()
    consultation = by_direction(office)[Direction.INTERNAL]
    assert (consultation.reason, consultation.caller, consultation.dialled) == (EndReason.TRANSFERRED, "102", "103")
    assert (record.direction, record.extension, record.crm_user) == (Direction.INBOUND, "103", 79)
    assert record.reason is EndReason.HUNG_UP
    assert any(f"102 joins {IVAN} and 103" in why for why in record.why)
    assert [(note.phone, note.user) for note in office.books.writes] == [(IVAN, 79)]
    await office.all_quiet()


async def test_the_refer_may_come_in_the_consultation_and_the_outside_call_goes_on_all_the_same(
    office: Office, plane: AnchoredPlane
) -> None:
    boris, vera = await office.phone("102", Answers(after=1.0)), await office.phone("103", Answers(after=1.0))
    outside, first = await from_outside(office, boris, IVAN)
    second = await to(boris, "103")
    second.refer_to(first)
    await asyncio.sleep(1)
    assert second.notified[-1] == DONE
    assert plane.hosts(1) == (OPERATOR.host, "10.0.2.103")
    assert first.over.is_set()                       # at once, as RFC 3891 §3 has it: linphone leaves that to us
    await asyncio.sleep(10)
    assert second.over.is_set()
    assert not vera.calls[0].over.is_set()
    outside.hang_up()
    record = await office.record(2)
    assert vera.calls[0].over.is_set()
    assert (record.direction, record.extension) == (Direction.INBOUND, "103")
    assert [(note.phone, note.user) for note in office.books.writes] == [(IVAN, 79)]
    await office.all_quiet()


async def test_the_consultation_was_the_colleagues_call(office: Office, plane: AnchoredPlane) -> None:
    boris, vera = await office.phone("102", Answers(after=1.0)), await office.phone("103")
    outside, first = await from_outside(office, boris, IVAN)
    asked = vera.call("102")
    await asked.answered.wait()
    await asyncio.sleep(1)
    first.refer_to(boris.calls[-1])
    await asyncio.sleep(10)
    assert plane.hosts(1) == (OPERATOR.host, "10.0.2.103")
    assert (outside.direction, asked.direction) == ("sendrecv", "sendrecv")
    outside.hang_up()
    record = await office.record(2)
    assert record.extension == "103"
    await office.all_quiet()


async def test_whom_we_called_and_a_colleague(office: Office, plane: AnchoredPlane) -> None:
    boris, vera = await office.phone("102"), await office.phone("103", Answers(after=1.0))
    first = await to(boris, MARIA)
    second = await to(boris, "103")
    first.refer_to(second)
    await asyncio.sleep(10)
    assert plane.hosts(1) == ("10.0.2.103", OPERATOR.host)
    vera.calls[0].hang_up()
    record = await office.record(2)
    assert (record.direction, record.dialled, record.extension) == (Direction.OUTBOUND, MARIA, "103")
    assert [(note.phone, note.user) for note in office.books.writes] == [(MARIA, 79)]
    await office.all_quiet()


@pytest.mark.parametrize("first_is", ["in", "out"])
@pytest.mark.parametrize("second_is", ["in", "out"])
async def test_two_outside_parties_are_two_outside_calls(office: Office, first_is: str, second_is: str) -> None:
    boris = await office.phone("102", Answers(after=1.0))

    async def a_call(way: str, number: str) -> tuple[PhoneCall, PhoneCall]:
        if way == "in":
            return await from_outside(office, boris, number)
        mine = await to(boris, number)
        return office.trunk.calls[-1], mine

    one, first = await a_call(first_is, IVAN)
    other, second = await a_call(second_is, PAVEL)
    first.refer_to(second)
    await asyncio.sleep(10)
    assert (one.direction, other.direction) == ("sendrecv", "sendrecv")
    assert first.over.is_set()
    assert second.over.is_set()
    other.hang_up()
    record = await office.record(2)
    assert one.over.is_set()
    assert {(note.phone, note.user) for note in office.books.writes} == {(IVAN, 78), (PAVEL, 78)}
    assert [each.reason for each in office.books.records] == [EndReason.TRANSFERRED, EndReason.HUNG_UP]
    assert record.talk_seconds > office.books.records[0].talk_seconds
    await office.all_quiet()


async def test_three_colleagues(office: Office) -> None:
    anna, boris = await office.phone("101"), await office.phone("102", Answers(after=1.0))
    vera = await office.phone("103", Answers(after=1.0))
    call = anna.call("102")
    await call.answered.wait()
    second = await to(boris, "103")
    boris.calls[0].refer_to(second)
    await asyncio.sleep(10)
    assert not call.over.is_set()
    vera.calls[0].hang_up()
    record = await office.record(2)
    assert call.over.is_set()
    assert (record.direction, record.caller, record.extension) == (Direction.INTERNAL, "101", "103")
    assert office.books.writes == []
    await office.all_quiet()


async def test_a_colleague_is_joined_with_the_outside(office: Office, plane: AnchoredPlane) -> None:
    """The REFER comes in the internal call, and the outside one goes on."""
    anna, boris = await office.phone("101"), await office.phone("102", Answers(after=1.0))
    call = anna.call("102")
    await call.answered.wait()
    second = await to(boris, MARIA)
    boris.calls[0].refer_to(second)
    await asyncio.sleep(10)
    assert boris.calls[0].notified[-1] == DONE
    assert plane.hosts(2) == ("10.0.2.101", OPERATOR.host)
    call.hang_up()
    record = await office.record(2)
    assert office.trunk.calls[-1].over.is_set()
    assert (record.direction, record.dialled, record.extension) == (Direction.OUTBOUND, MARIA, "101")
    assert [(note.phone, note.user) for note in office.books.writes] == [(MARIA, 77)]
    await office.all_quiet()


# -- before the second call is answered

@pytest.mark.parametrize("answers", [True, False])
async def test_while_the_second_call_still_rings_its_target_is_called_for_the_other(
    office: Office, answers: bool
) -> None:
    boris, vera = await office.phone("102", Answers(after=1.0)), await office.phone("103", Rings())
    outside, first = await from_outside(office, boris, IVAN)
    second = boris.call("103")
    await second.rang.wait()
    vera.does = Answers(after=2.0) if answers else Rejects(486)
    first.refer_to(second)
    await asyncio.sleep(1)
    assert second.status == 487
    assert vera.calls[0].ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    assert vera.calls[1].caller == IVAN
    await asyncio.sleep(10)
    assert first.notified[-1][0] == ("200 OK" if answers else "486 Busy Here")
    assert first.over.is_set() is answers
    outside.hang_up()
    record = await office.record(2)
    assert record.extension == ("103" if answers else "102")
    assert by_direction(office)[Direction.INTERNAL].disposition is Disposition.ABANDONED
    assert len(office.books.writes) == 1
    await office.all_quiet()


# -- what may not be, and what goes wrong

async def test_a_dialog_of_nobody(office: Office) -> None:
    boris = await office.phone("102", Answers(after=1.0))
    outside, first = await from_outside(office, boris, IVAN)
    first.refer("<sip:103@10.0.0.1?Replaces=unknown%3Bto-tag%3D1%3Bfrom-tag%3D2>")
    await asyncio.sleep(1)
    assert first.responses == [202]
    assert first.notified[-1][0] == "481 Call/Transaction Does Not Exist"
    assert not first.over.is_set()
    outside.hang_up()
    await office.record()
    await office.all_quiet()


async def test_the_very_same_dialog(office: Office) -> None:
    boris = await office.phone("102", Answers(after=1.0))
    outside, first = await from_outside(office, boris, IVAN)
    first.refer_to(first)
    await asyncio.sleep(1)
    assert first.notified[-1][0] == "481 Call/Transaction Does Not Exist"
    outside.hang_up()
    await office.record()
    await office.all_quiet()


async def test_somebody_elses_call(office: Office) -> None:
    boris, anna = await office.phone("102", Answers(after=1.0)), await office.phone("101")
    outside, first = await from_outside(office, boris, IVAN)
    theirs = await to(anna, MARIA)
    first.refer_to(theirs)
    await asyncio.sleep(1)
    assert first.notified[-1][0] == "403 Forbidden"
    assert not theirs.over.is_set()
    outside.hang_up()
    theirs.hang_up()
    await office.record(2)
    await office.all_quiet()


async def test_somebody_elses_ringing_call(office: Office) -> None:
    boris, anna = await office.phone("102", Answers(after=1.0)), await office.phone("101")
    await office.phone("103", Rings())
    outside, first = await from_outside(office, boris, IVAN)
    theirs = anna.call("103")
    await theirs.rang.wait()
    first.refer_to(theirs)
    await asyncio.sleep(1)
    assert first.notified[-1][0] == "481 Call/Transaction Does Not Exist"
    assert not theirs.over.is_set()
    outside.hang_up()
    theirs.hang_up()
    await office.record(2)
    await office.all_quiet()


async def test_a_second_call_that_is_being_transferred_itself(office: Office) -> None:
    boris, vera = await office.phone("102", Answers(after=1.0)), await office.phone("103", Answers(after=1.0))
    await office.phone("101", Rings())
    outside, first = await from_outside(office, boris, IVAN)
    second = await to(boris, "103")
    vera.calls[0].refer("<sip:101@10.0.0.1>")
    await asyncio.sleep(1)
    first.refer_to(second)
    await asyncio.sleep(1)
    assert first.notified[-1][0] == "491 Request Pending"
    outside.hang_up()
    second.hang_up()
    await office.record(2)
    await office.all_quiet()


async def test_two_without_a_common_codec(office: Office, plane: AnchoredPlane) -> None:
    boris, vera = await office.phone("102", Answers(after=1.0)), await office.phone("103", Answers(after=1.0))
    boris.codecs[9] = "G722/8000"
    vera.codecs = {9: "G722/8000"}
    outside, first = await from_outside(office, boris, IVAN)
    second = await to(boris, "103")
    first.refer_to(second)
    await asyncio.sleep(10)
    assert first.notified[-1][0] == "488 Not Acceptable Here"
    assert not first.over.is_set()
    assert vera.calls[0].over.is_set()
    assert plane.hosts(1) == (OPERATOR.host, "10.0.2.102")
    first.offer("sendrecv")
    await asyncio.sleep(1)
    assert outside.direction == "sendrecv"
    outside.hang_up()
    await office.record(2)
    await office.all_quiet()


@pytest.mark.parametrize("in_consultation", [False, True])
@pytest.mark.parametrize("who", ["outside", "vera", "first", "second", "boris"])
@pytest.mark.parametrize("after", [0.0, 0.001, 0.003, 0.005, 0.007, 0.009, 0.011, 0.013])
async def test_a_goodbye_at_every_moment(office: Office, who: str, in_consultation: bool, after: float) -> None:
    boris, vera = await office.phone("102", Answers(after=1.0)), await office.phone("103", Answers(after=1.0))
    outside, first = await from_outside(office, boris, IVAN)
    second = await to(boris, "103")
    joined = vera.calls[0]
    one, other = (second, first) if in_consultation else (first, second)
    one.refer_to(other)
    await asyncio.sleep(after)
    goodbyes = {"outside": [outside], "vera": [joined], "first": [first], "second": [second], "boris": [first, second]}
    for call in goodbyes[who]:
        call.hang_up()
    await asyncio.sleep(10)
    if who in ("first", "second", "boris") and after > 0.002:
        assert not outside.over.is_set()             # the REFER was there first
    for call in (outside, joined, first, second):
        call.hang_up()
    await office.record(2)
    assert [note.phone for note in office.books.writes] == [IVAN]
    await office.all_quiet()


async def test_the_server_stops_right_then(office: Office) -> None:
    boris, vera = await office.phone("102", Answers(after=1.0)), await office.phone("103", Answers(after=1.0))
    outside, first = await from_outside(office, boris, IVAN)
    second = await to(boris, "103")
    second.refer_to(first)
    await asyncio.sleep(0.0021)
    await office.pbx.drain(0)
    await asyncio.sleep(10)
    assert all(call.over.is_set() for call in (outside, first, second, vera.calls[0]))
    assert len(office.books.records) == 2


# -- INVITE with Replaces

async def test_a_second_phone_of_the_same_person_takes_the_call_over(office: Office, plane: AnchoredPlane) -> None:
    desk = await office.phone("102", Answers(after=1.0))
    outside = office.trunk.call(DID, as_=IVAN)
    await outside.answered.wait()
    await asyncio.sleep(3)
    mobile = await office.phone("102", Rings(), host="10.0.3.1")
    taken = mobile.call("102", headers=[("Replaces", desk.calls[0].replaces), ("Require", "replaces")])
    await asyncio.sleep(3)
    assert taken.status == 200
    assert plane.hosts(1) == (OPERATOR.host, "10.0.3.1")
    assert desk.calls[0].over.is_set()
    assert len(office.pbx.live_calls()) == 1
    await asyncio.sleep(10)
    taken.hang_up()
    record = await office.record()
    assert outside.over.is_set()
    assert (record.direction, record.extension) == (Direction.INBOUND, "102")
    assert len(office.books.writes) == 1
    await office.all_quiet()


@pytest.mark.parametrize(
    ("number", "replaces", "status"),
    [
        ("102", "{dialog};early-only", 486),
        ("102", "unknown;to-tag=1;from-tag=2", 481),
        ("102", "nonsense", 400),
        ("103", "{dialog}", 403),
    ],
)
async def test_a_call_that_may_not_be_taken_over_goes_on(
    office: Office, number: str, replaces: str, status: int
) -> None:
    desk = await office.phone("102", Answers(after=1.0))
    outside = office.trunk.call(DID, as_=IVAN)
    await outside.answered.wait()
    other = await office.phone(number, Rings(), host="10.0.3.1")
    taken = other.call("102", headers=[("Replaces", replaces.format(dialog=desk.calls[0].replaces))])
    await asyncio.sleep(3)
    assert taken.status == status
    assert not desk.calls[0].over.is_set()
    outside.hang_up()
    await office.record()
    await office.all_quiet()


async def test_a_call_that_rings_cannot_be_taken_over(office: Office) -> None:
    desk = await office.phone("102")
    await office.phone("103", Rings())
    call = desk.call("103")
    await call.rang.wait()
    mobile = await office.phone("102", Rings(), host="10.0.3.1")
    early = mobile.call("103", headers=[("Replaces", call.replaces)])
    await asyncio.sleep(1)
    assert early.status == 481
    call.hang_up()
    await office.record()
    await office.all_quiet()


async def test_a_dialog_whose_goodbye_is_under_way_is_declined(office: Office) -> None:
    desk = await office.phone("102", Answers(after=1.0))
    outside = office.trunk.call(DID, as_=IVAN)
    await outside.answered.wait()
    mobile = await office.phone("102", Rings(), host="10.0.3.1")
    replaces = desk.calls[0].replaces
    office.network.lose(lambda data, flow: b"BYE" in data and flow.remote.host == "10.0.2.102", times=2)
    outside.hang_up()
    await asyncio.sleep(0.1)
    taken = mobile.call("102", headers=[("Replaces", replaces)])
    await asyncio.sleep(1)
    assert taken.status == 603
    await office.record()
    await office.all_quiet()


async def test_a_takeover_without_an_offer_or_without_a_common_codec_leaves_the_call_as_it_was(
    office: Office, plane: AnchoredPlane
) -> None:
    desk = await office.phone("102", Answers(after=1.0))
    outside = office.trunk.call(DID, as_=IVAN)
    await outside.answered.wait()
    mobile = await office.phone("102", Rings(), host="10.0.3.1")
    with_sdp, mobile.sdp = mobile.sdp, lambda direction: b""  # type: ignore[method-assign]
    silent = mobile.call("102", headers=[("Replaces", desk.calls[0].replaces)])
    await asyncio.sleep(1)
    mobile.sdp, mobile.codecs = with_sdp, {9: "G722/8000"}  # type: ignore[method-assign]
    foreign = mobile.call("102", headers=[("Replaces", desk.calls[0].replaces)])
    await asyncio.sleep(3)
    assert (silent.status, foreign.status) == (488, 488)
    assert not desk.calls[0].over.is_set()
    assert plane.hosts(1) == (OPERATOR.host, "10.0.2.102")
    outside.hang_up()
    await office.record()
    await office.all_quiet()


@pytest.mark.parametrize("after", [0.001, 0.003, 0.005, 0.007, 0.009, 0.02])
async def test_a_takeover_that_is_cancelled(office: Office, plane: AnchoredPlane, after: float) -> None:
    desk = await office.phone("102", Answers(after=1.0))
    outside = office.trunk.call(DID, as_=IVAN)
    await outside.answered.wait()
    mobile = await office.phone("102", Rings(), host="10.0.3.1")
    taken = mobile.call("102", headers=[("Replaces", desk.calls[0].replaces)])
    await asyncio.sleep(after)
    taken.hang_up()
    await asyncio.sleep(5)
    assert outside.over.is_set() is desk.calls[0].over.is_set()
    if not outside.over.is_set():
        assert plane.hosts(1) == (OPERATOR.host, "10.0.2.102")
    outside.hang_up()
    await office.record()
    await office.all_quiet()
