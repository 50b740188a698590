"""Blind transfer: one of our phones sends REFER, and the other party talks to whom it names."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from b2bua.cdr import Direction, Disposition, EndedBy, EndReason
from tests.support.anchored import AnchoredPlane
from tests.support.network import Conditions
from tests.support.office import DID, IVAN, MARIA, OPERATOR, Office, call_in, has, open_office
from tests.support.phone import Answers, Dead, PhoneCall, Rejects, Rings

TRYING, RINGING = "100 Trying", "180 Ringing"
DONE = ("200 OK", "terminated;reason=noresource")


async def call_out(office: Office) -> tuple[PhoneCall, PhoneCall]:
    """Anna (101) calls Maria outside."""
    anna = await office.phone("101")
    inside = anna.call(MARIA)
    await inside.answered.wait()
    await asyncio.sleep(5)
    return inside, office.trunk.calls[-1]


def states(call: PhoneCall) -> list[str]:
    return [said for said, _ in call.notified]


# -- who is transferred, and whereto

async def test_an_outside_caller_is_handed_to_a_colleague(office: Office, plane: AnchoredPlane) -> None:
    office.crm.knows(IVAN, "Иван Петров")
    vera = await office.phone("103", Answers(after=3.0))
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>", ("Referred-By", "<sip:102@10.0.0.1>"))
    await asyncio.sleep(1)
    assert boris.responses[0] == 202
    assert states(boris) == [TRYING, RINGING]
    assert plane.hosts() == (OPERATOR.host, "10.0.2.102")
    await asyncio.sleep(4)
    assert boris.notified[-1] == DONE
    new = vera.calls[0]
    assert (new.caller, new.shown) == (IVAN, "Иван Петров")
    assert new.session.invite.headers.get("Referred-By") == "<sip:102@10.0.0.1>"
    assert plane.hosts() == (OPERATOR.host, "10.0.2.103")
    assert (outside.direction, new.direction) == ("sendrecv", "sendrecv")
    await asyncio.sleep(10)
    assert boris.ended is not None                   # we hang up, as it does not
    assert not outside.over.is_set()
    new.hang_up()
    record = await office.record()
    assert outside.over.is_set()
    assert outside.ladder() == ["INVITE", "100", "180", "200", "ACK", "INVITE", "100", "200", "ACK", "BYE", "200"]
    assert new.ladder() == ["INVITE", "100", "180", "200", "ACK", "BYE", "200"]
    assert (record.direction, record.extension, record.crm_user) == (Direction.INBOUND, "103", 79)
    assert (record.ended_by, record.reason) == (EndedBy.CALLEE, EndReason.HUNG_UP)
    assert record.talk_seconds == 20
    assert record.rang == ("102", "103")
    assert has(record, f"102 transfers {IVAN} to 103", f"102 has handed {IVAN} over to 103")
    assert [(note.phone, note.user, note.talk_seconds) for note in office.books.writes] == [(IVAN, 79, 20)]
    assert 79 in office.crm.pop_ups[-1].users
    await office.all_quiet()


async def test_whom_an_answered_call_is_sent_to_rings_too_late_to_be_its_ringing(
    office: Office, plane: AnchoredPlane
) -> None:
    """The phone picks up by itself, without a 180; the record's times would be out of order."""
    boris, vera = await office.phone("102", Answers(after=0.0, rings=False)), await office.phone("103", Rings())
    outside = office.trunk.call(DID, as_=IVAN)
    await outside.answered.wait()
    boris.calls[-1].refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(5)
    assert vera.calls
    outside.hang_up()
    record = await office.record()
    assert record.answered_at is not None
    assert (record.rang_at, record.rang) == (None, ("103",))
    await office.all_quiet()


async def test_what_is_asked_of_the_transferor_in_its_last_moment_is_answered(
    office: Office, plane: AnchoredPlane
) -> None:
    """RFC 3261 §17.1.2: between offer and answer with the newcomer it was passed on to somebody who then was none of
    the two any more, and whose answer went nowhere."""
    await office.phone("103", Answers(after=1.0))
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(1.005)                       # the 200 of 103 is on its way
    outside.ask("MESSAGE", b"wait", "text/plain")
    await asyncio.sleep(1)
    assert plane.hosts() == (OPERATOR.host, "10.0.2.103")
    assert [one.method for one in boris.requests if one.method == "MESSAGE"] == ["MESSAGE"]
    assert outside.responses == [480]
    outside.hang_up()
    await office.record()
    await office.all_quiet()


async def test_the_caller_transfers_whom_it_called(office: Office, plane: AnchoredPlane) -> None:
    inside, outside = await call_out(office)
    vera = await office.phone("103", Answers(after=1.0))
    inside.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(3)
    inside.hang_up()                                 # as phones do when they hear of success
    await asyncio.sleep(5)
    assert plane.hosts() == ("10.0.2.103", OPERATOR.host)
    assert (vera.calls[0].caller, vera.calls[0].shown) == (MARIA, "")
    vera.calls[0].hang_up()
    record = await office.record()
    assert outside.over.is_set()
    assert (record.direction, record.caller, record.dialled) == (Direction.OUTBOUND, "101", MARIA)
    assert (record.extension, record.ended_by, record.trunk) == ("103", EndedBy.CALLER, "operator")
    assert [(note.phone, note.user) for note in office.books.writes] == [(MARIA, 79)]
    await office.all_quiet()


async def test_to_a_group_and_the_first_who_answers_gets_it(office: Office) -> None:
    anna = await office.phone("101", Answers(after=1.0))
    office.change(numbers=(replace(office.books.directory.numbers[0], destination="101"),))
    await office.pbx.settings_changed()
    await office.phone("102", Rings())
    vera = await office.phone("103", Answers(after=2.0))
    outside = office.trunk.call(DID, as_=IVAN)
    await outside.answered.wait()
    anna.calls[0].refer("<sip:600@10.0.0.1>")
    await asyncio.sleep(10)
    assert not vera.calls[0].over.is_set()
    outside.hang_up()
    record = await office.record()
    assert vera.calls[0].over.is_set()
    assert (record.extension, record.rang, record.ended_by) == ("103", ("101", "102", "103"), EndedBy.CALLER)
    await office.all_quiet()


async def test_an_outside_caller_goes_out_again_by_the_trunk_with_the_offices_number(office: Office) -> None:
    outside, boris = await call_in(office)
    boris.refer("<tel:89265554433>")
    await asyncio.sleep(6)
    onward = office.trunk.calls[-1]
    assert onward is not outside
    assert (onward.caller, onward.session.invite.uri.user) == (DID, MARIA)
    assert boris.notified[-1] == DONE
    onward.hang_up()
    record = await office.record()
    assert (record.direction, record.caller, record.extension) == (Direction.INBOUND, IVAN, "102")
    assert (record.trunk, record.crm_user) == ("operator", 78)
    assert [note.phone for note in office.books.writes] == [IVAN]
    await office.all_quiet()


async def test_the_trunk_gets_an_offer_from_the_one_who_was_put_on_hold(office: Office, plane: AnchoredPlane) -> None:
    outside, boris = await call_in(office)
    boris.offer("inactive")
    boris.refer("<tel:89265554433>")
    await asyncio.sleep(6)
    onward = office.trunk.calls[-1]
    invite = onward.session.invite
    assert b"c=IN IP4 10.0.0.1" in invite.body
    assert b"a=sendrecv" in invite.body
    assert onward.ladder() == ["INVITE", "100", "180", "200", "ACK"]
    assert (outside.direction, boris.notified[-1]) == ("sendrecv", DONE)
    assert plane.hosts() == (OPERATOR.host, OPERATOR.host)
    onward.hang_up()
    await office.record()
    await office.all_quiet()


async def test_a_trunk_prefers_a_codec_that_the_other_party_leaves_out_this_time(office: Office) -> None:
    """It has to be told, or it would send what nobody has agreed to."""
    boris = await office.phone("102", Answers(after=1.0))
    anna = await office.phone("101")
    office.trunk.codecs = {0: "PCMU/8000", 8: "PCMA/8000"}
    inside = anna.call("102")
    await inside.answered.wait()
    boris.calls[0].refer("<tel:89265554433>")
    await asyncio.sleep(0.5)
    anna.codecs = {8: "PCMA/8000"}
    await asyncio.sleep(6)
    [outside] = office.trunk.calls
    assert outside.ladder() == ["INVITE", "100", "180", "200", "ACK", "INVITE", "100", "200", "ACK"]
    assert b"RTP/AVP 8 101" in outside.sdp
    inside.hang_up()
    await office.record()
    await office.all_quiet()


async def test_a_call_that_goes_out_again_takes_a_second_line_of_the_trunk(office: Office) -> None:
    office.change(trunks=tuple(replace(trunk, max_calls=2) for trunk in office.books.directory.trunks))
    await office.pbx.settings_changed()
    anna = await office.phone("101")
    outside, boris = await call_in(office)
    office.trunk.does = Rejects(486)
    boris.refer("<tel:89265554433>")                    # busy: the line is free again
    await asyncio.sleep(6)
    office.trunk.does = Answers(after=1.0)
    boris.refer("<tel:89265554433>")
    await asyncio.sleep(6)
    assert boris.notified[-1] == DONE
    third = anna.call(MARIA)
    await third.over.wait()
    assert third.status == 503
    outside.hang_up()
    await asyncio.sleep(1)
    fourth = anna.call(MARIA)
    await fourth.answered.wait()
    fourth.hang_up()
    await office.record(3)
    await office.all_quiet()


async def test_colleagues_among_themselves_are_none_of_the_crms_business(office: Office) -> None:
    anna = await office.phone("101")
    boris = await office.phone("102", Answers(after=1.0))
    vera = await office.phone("103", Answers(after=1.0))
    call = anna.call("102")
    await call.answered.wait()
    boris.calls[0].refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(10)
    assert (vera.calls[0].caller, vera.calls[0].shown) == ("101", "Employee 101")
    call.hang_up()
    record = await office.record()
    assert (record.direction, record.extension) == (Direction.INTERNAL, "103")
    assert office.books.writes == []
    await office.all_quiet()


async def test_a_colleague_who_is_transferred_outside_makes_an_outside_call(office: Office) -> None:
    anna = await office.phone("101")
    boris = await office.phone("102", Answers(after=1.0))
    call = anna.call("102")
    await call.answered.wait()
    await asyncio.sleep(30)
    boris.calls[0].refer(f"<sip:{MARIA}@10.0.0.1>")
    await asyncio.sleep(3)
    await office.trunk.calls[0].answered.wait()
    await asyncio.sleep(20)
    call.hang_up()
    record = await office.record()
    assert (record.direction, record.caller, record.dialled) == (Direction.OUTBOUND, "101", MARIA)
    assert (record.extension, record.trunk, record.talk_seconds) == ("101", "operator", 20)
    assert [(note.phone, note.user) for note in office.books.writes] == [(MARIA, 77)]
    await office.all_quiet()


async def test_a_call_can_be_transferred_again_and_again(office: Office) -> None:
    anna = await office.phone("101", Answers(after=1.0))
    vera = await office.phone("103", Answers(after=1.0))
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(10)
    vera.calls[0].refer("<sip:101@10.0.0.1>")
    await asyncio.sleep(10)
    anna.calls[0].refer("<sip:102@10.0.0.1>")
    await asyncio.sleep(10)
    outside.hang_up()
    record = await office.record()
    assert (record.extension, record.rang) == ("102", ("102", "103", "101"))
    await office.all_quiet()


async def test_who_was_on_hold_talks_to_the_target(office: Office) -> None:
    vera = await office.phone("103", Answers(after=3.0))
    outside, boris = await call_in(office)
    boris.offer("sendonly")
    boris.refer("<sip:103@10.0.0.1>")                # before the hold is answered, as phones do
    await asyncio.sleep(2)
    assert outside.direction == "sendonly"
    await asyncio.sleep(5)
    assert (outside.direction, vera.calls[0].direction) == ("sendrecv", "sendrecv")
    outside.hang_up()
    await office.record()
    await office.all_quiet()


async def test_codecs_that_only_the_target_has_are_agreed_on_anew(office: Office) -> None:
    vera = await office.phone("103", Answers(after=1.0))
    vera.codecs = {0: "PCMU/8000"}
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(5)
    assert b"RTP/AVP 0 101" in outside.sdp
    assert b"RTP/AVP 0 101" in vera.calls[0].sdp
    outside.hang_up()
    await office.record()


async def test_the_recording_goes_on(office: Office, plane: AnchoredPlane) -> None:
    await office.phone("103", Answers(after=1.0))
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(5)
    assert plane.hosts(1) == (OPERATOR.host, "10.0.2.103")      # the same session, that nobody closed
    outside.hang_up()
    await office.record()


# -- what can go wrong

@pytest.mark.parametrize(
    ("does", "said"),
    [(Rejects(486), "486 Busy Here"), (Rejects(603), "603 Decline"), (Rings(), "480 Temporarily Unavailable")],
)
async def test_a_transfer_that_fails_leaves_the_two_as_they_were(
    office: Office, plane: AnchoredPlane, does: Rejects | Rings, said: str
) -> None:
    await office.phone("103", does)
    outside, boris = await call_in(office)
    before = outside.ladder()
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(40)
    assert boris.notified[-1] == (said, "terminated;reason=noresource")
    assert plane.hosts() == (OPERATOR.host, "10.0.2.102")
    assert outside.ladder() == before
    boris.offer("sendonly")                          # and it works as before
    await asyncio.sleep(1)
    assert outside.direction == "sendonly"
    boris.refer("<sip:101@10.0.0.1>")                # nor has the next one to wait
    await asyncio.sleep(1)
    second = [request for request in boris.requests if "id=" in (request.headers.get("Event") or "")]
    assert [request.body for request in second] == [
        b"SIP/2.0 100 Trying\r\n", b"SIP/2.0 480 Temporarily Unavailable\r\n",
    ]  # fmt: skip
    boris.hang_up()
    record = await office.record()
    assert (record.extension, record.ended_by) == ("102", EndedBy.CALLEE)
    assert has(record, "102 goes on")
    await office.all_quiet()


@pytest.mark.parametrize("target", ["<sip:abc@10.0.0.1>", "<sip:nobody@elsewhere.example>", "<sip:10.0.0.1>"])
async def test_to_a_number_of_nobody(office: Office, target: str) -> None:
    outside, boris = await call_in(office)
    boris.refer(target)
    await asyncio.sleep(1)
    assert boris.responses == [202]
    assert boris.notified[-1] == ("404 Not Found", "terminated;reason=noresource")
    assert not boris.over.is_set()
    outside.hang_up()
    await office.record()
    await office.all_quiet()


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("<sip:103@10.0.0.1;method=BYE>", ()),
        ("<sip:103@10.0.0.1>", (("Refer-To", "<sip:101@10.0.0.1>"),)),
        ("<sip:103@10.0.0.1?Replaces=1%3Bto-tag%3D2>", ()),
        ("<<<", ()),
        ("<sip:103@10.0.0.1>", (("Referred-By", "<<<"),)),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused(
    office: Office, target: str, headers: tuple[tuple[str, str], ...]
) -> None:
    outside, boris = await call_in(office)
    boris.refer(target, *headers)
    await asyncio.sleep(1)
    assert boris.responses == [400]
    assert boris.notified == []
    outside.hang_up()
    await office.record()


async def test_the_outside_may_not_transfer(office: Office) -> None:
    outside, boris = await call_in(office)
    outside.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(1)
    assert outside.responses == [403]
    assert not boris.over.is_set()
    outside.hang_up()
    assert has(await office.record(), "operator may not transfer")


async def test_a_refer_outside_a_dialog_is_refused(office: Office) -> None:
    boris = await office.phone("102")
    response, _ = await boris._ask("REFER", (("Refer-To", "<sip:103@10.0.0.1>"),), "alone")
    assert response.status == 405


async def test_one_transfer_at_a_time(office: Office) -> None:
    await office.phone("103", Rings())
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(1)
    boris.refer("<sip:101@10.0.0.1>")
    await asyncio.sleep(1)
    assert boris.responses == [202, 491]
    outside.hang_up()
    await office.record()
    await office.all_quiet()


async def test_a_phone_that_wants_to_hear_nothing_hears_nothing(office: Office) -> None:
    await office.phone("103", Answers(after=1.0))
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>", ("Refer-Sub", "false"), ("Require", "norefersub"))
    await asyncio.sleep(10)
    assert (boris.responses, boris.notified) == ([202], [])
    assert boris.ended is not None
    outside.hang_up()
    assert (await office.record()).extension == "103"
    await office.all_quiet()


@pytest.mark.parametrize("answers_with", [481, 405, 0])
async def test_a_notify_that_is_refused_or_unanswered_ends_the_subscription_and_nothing_else(
    office: Office, answers_with: int
) -> None:
    outside, boris = await call_in(office)
    office.trunk.does = Rejects(486, after=40.0)
    boris.answers_with = answers_with
    boris.refer(f"<sip:{MARIA}@10.0.0.1>")
    await asyncio.sleep(60)
    assert states(boris) == [TRYING]
    assert not boris.over.is_set()
    assert not outside.over.is_set()
    boris.hang_up()
    record = await office.record()
    assert record.reason is EndReason.HUNG_UP
    await office.all_quiet()


# -- who hangs up when

async def test_the_transferor_hangs_up_right_after_the_refer(office: Office, plane: AnchoredPlane) -> None:
    vera = await office.phone("103", Answers(after=4.0))
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(0.01)
    boris.hang_up()
    await asyncio.sleep(2)
    outside.offer("sendrecv")                        # a session refresh, perhaps: it is told to come again
    await asyncio.sleep(18)
    assert plane.hosts() == (OPERATOR.host, "10.0.2.103")
    assert not outside.over.is_set()
    vera.calls[0].hang_up()
    record = await office.record()
    assert (record.extension, record.disposition) == ("103", Disposition.ANSWERED)
    await office.all_quiet()


@pytest.mark.parametrize("picks_up", [True, False])
async def test_a_failed_transfer_calls_a_transferor_back_who_has_hung_up(office: Office, picks_up: bool) -> None:
    await office.phone("103", Rejects(486, after=2.0))
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(0.5)
    boris.hang_up()
    boris.phone.does = Answers(after=3.0) if picks_up else Rejects(486)
    await asyncio.sleep(10)
    again = boris.phone.calls[-1]
    assert again is not boris
    assert again.caller == IVAN
    assert outside.over.is_set() is not picks_up
    if picks_up:
        outside.hang_up()
    record = await office.record()
    assert (record.extension, record.ended_by) == ("102", EndedBy.CALLER if picks_up else EndedBy.CALLEE)
    assert has(record, "it is called back")
    await office.all_quiet()


async def test_the_remaining_party_hangs_up_while_the_target_rings(office: Office) -> None:
    vera = await office.phone("103", Rings())
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(2)
    outside.hang_up()
    record = await office.record()
    assert vera.calls[0].ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    assert boris.notified[-1][0] == "487 Request Terminated"
    assert boris.over.is_set()
    assert (record.ended_by, record.extension) == (EndedBy.CALLER, "102")
    await office.all_quiet()


async def test_everybody_hangs_up_at_once(office: Office) -> None:
    vera = await office.phone("103", Answers(after=2.0))
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(2.001)
    for call in (outside, boris, vera.calls[0]):
        call.hang_up()
    await office.record()
    await office.all_quiet()


@pytest.mark.parametrize("seconds", [1.996, 1.999, 2.002, 2.004, 2.006, 2.008, 2.01, 2.012])
@pytest.mark.parametrize("who", ["outside", "boris", "vera"])
async def test_a_goodbye_at_every_moment_of_the_joining(office: Office, seconds: float, who: str) -> None:
    vera = await office.phone("103", Answers(after=2.0))
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(seconds)
    {"outside": outside, "boris": boris, "vera": vera.calls[0]}[who].hang_up()
    await asyncio.sleep(10)
    if who == "boris":
        assert not outside.over.is_set()
        outside.hang_up()
    elif who == "vera" and not boris.over.is_set():
        boris.hang_up()
    record = await office.record()
    assert record.disposition is Disposition.ANSWERED
    assert len(office.books.writes) == 1
    await office.all_quiet()


async def test_the_remaining_party_refuses_the_target_and_the_two_talk_as_before(
    office: Office, plane: AnchoredPlane
) -> None:
    vera = await office.phone("103", Answers(after=1.0))
    _, boris = await call_in(office)
    office.trunk.refuses_offers = 488
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(5)
    assert vera.calls[0].over.is_set()
    assert boris.notified[-1][0] == "488 Not Acceptable Here"
    assert plane.hosts() == (OPERATOR.host, "10.0.2.102")
    assert not boris.over.is_set()
    boris.hang_up()
    assert (await office.record()).extension == "102"
    await office.all_quiet()


async def test_a_target_without_any_common_codec(office: Office, plane: AnchoredPlane) -> None:
    vera = await office.phone("103", Answers(after=1.0))
    vera.codecs = {9: "G722/8000"}
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(5)
    assert vera.calls[0].over.is_set()
    assert boris.notified[-1][0] == "488 Not Acceptable Here"
    assert plane.hosts() == (OPERATOR.host, "10.0.2.102")
    assert b"RTP/AVP 8 0 101" in outside.sdp         # it was told of the target, and is told of Boris again
    outside.hang_up()
    await office.record()
    await office.all_quiet()


async def test_the_target_is_switched_off(office: Office) -> None:
    vera = await office.phone("103")
    vera.does = Dead()
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(35)
    assert boris.notified[-1] == ("480 Temporarily Unavailable", "terminated;reason=noresource")
    assert not boris.over.is_set()
    outside.hang_up()
    await office.record()


async def test_the_server_stops_amid_a_transfer(office: Office) -> None:
    vera = await office.phone("103", Rings())
    outside, boris = await call_in(office)
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(1)
    await office.pbx.drain(5)
    record = await office.record()
    assert record.reason is EndReason.SHUTDOWN
    assert all(call.over.is_set() for call in (outside, boris, vera.calls[0]))


@pytest.mark.parametrize("seed", range(8))
async def test_a_bad_network_only_takes_longer(seed: int) -> None:
    bad = Conditions(jitter=0.02, loss=0.15, duplication=0.1, reordering=0.1)
    async with open_office(seed=seed, conditions=bad) as office:
        vera = await office.phone("103", Answers(after=2.0))
        outside, boris = await call_in(office)
        boris.refer("<sip:103@10.0.0.1>")
        await asyncio.sleep(60)
        assert boris.over.is_set()
        (joined,) = vera.calls
        assert not joined.over.is_set()
        joined.hang_up()
        await asyncio.sleep(40)
        record = await office.record()
        assert outside.over.is_set()
        assert record.extension == "103"
        assert office.pbx.counters.faults == office.agent.counters.faults == 0


async def test_of_a_client_that_was_taken_out_of_the_directory(office: Office) -> None:
    outside, boris = await call_in(office)
    office.change(clients=(), extensions=(), trunks=(), groups=(), numbers=())
    await office.pbx.settings_changed()
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(1)
    assert boris.notified[-1][0] == "403 Forbidden"
    outside.hang_up()
    await office.record()
