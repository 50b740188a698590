"""What two who talk may do: digits, messages, faxes, and offers of every kind, while each leg keeps its own rules."""

from __future__ import annotations

import asyncio

import pytest

from b2bua.calls.in_dialog import MAX_BODY, MAX_PASSED_ON
from b2bua.cdr import Disposition, EndReason
from b2bua.media.relay import wire
from b2bua.sip.core import CoreConfig
from b2bua.sip.effects import Address, Transmit
from b2bua.sip.session_timer import SessionTimerPolicy
from tests.support.anchored import AnchoredPlane
from tests.support.office import DID, OPERATOR, PASSWORD, SERVER, Office, faultless_office
from tests.support.phone import Answers, Phone, PhoneCall, Rings

IVAN = "+79161234567"
RELAY_DIGIT = "application/dtmf-relay"


async def talking(office: Office, *, trunk: bool = True, phone: bool = True) -> tuple[PhoneCall, PhoneCall]:
    """Ivan's call to 102, as the trunk and as the phone see it; whether each has telephone-event."""
    boris = await office.phone("102", Answers(after=1.0))
    office.trunk.has_events, boris.has_events = trunk, phone
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    await asyncio.sleep(1)
    return call, boris.calls[0]


async def with_config(office: Office, config: CoreConfig, number: str) -> Phone:
    """A phone of another make."""
    phone = Phone(number, SERVER, password=PASSWORD, does=Answers(after=1.0), seed=50, config=config)
    phone.on(office.network, Address(f"10.0.2.{number}", 5060))
    assert (await phone.register()).status == 200
    office._phones[number] = phone
    return phone


def trunk_with(office: Office, config: CoreConfig) -> Phone:
    office.trunk.close()
    office.trunk = Phone("operator", SERVER, does=Answers(after=3.0), seed=98, config=config)
    return office.trunk.on(office.network, OPERATOR)


async def over(office: Office, call: PhoneCall) -> None:
    call.hang_up()
    record = await office.record()
    assert (record.disposition, record.reason) == (Disposition.ANSWERED, EndReason.HUNG_UP)
    await office.all_quiet()


def asked(call: PhoneCall, method: str) -> list[tuple[str, bytes]]:
    """Requests of that kind that came: Content-Type and body."""
    return [(one.headers.get("Content-Type") or "", one.body) for one in call.requests if one.method == method]


def formats(sdp: bytes) -> str:
    return next(line for line in sdp.decode().splitlines() if line.startswith("m=audio")).partition("RTP/AVP ")[2]


# -- digits

@pytest.mark.parametrize("trunk", [True, False])
@pytest.mark.parametrize("phone", [True, False])
async def test_each_party_is_offered_events_and_who_has_them_keeps_them(
    office: Office, trunk: bool, phone: bool
) -> None:
    there, here = await talking(office, trunk=trunk, phone=phone)
    assert formats(here.session.offer) == "8 0 101"
    assert formats(there.sdp) == ("8 0 101" if trunk else "8 0")
    await over(office, there)


async def test_who_answers_by_another_number_is_understood_by_both(office: Office, plane: AnchoredPlane) -> None:
    office.trunk.has_events = False
    boris = await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    ringing = await boris.was_called()
    answer = boris.answer_to(ringing.sdp).replace(b"101", b"96")
    boris.do(ringing.session.accept(boris.now(), body=answer))
    await call.answered.wait()
    (callee,) = [one for one in plane.told if isinstance(one, wire.Remote) and one.side == 1]
    assert list(callee.codecs) == ["8", "0", "96", "101"]       # sent by its own number, and heard by either
    await over(office, call)


@pytest.mark.parametrize(("kind", "body", "digit", "milliseconds"), [
    (RELAY_DIGIT, "Signal=5\r\nDuration=200\r\n", "5", 200),
    (RELAY_DIGIT, "Signal= #\r\nDuration= 100\r\n", "#", 100),
    (RELAY_DIGIT, "signal=10\nduration=99999\n", "*", 5000),
    ("Application/DTMF-Relay; charset=utf-8", "Signal=d", "D", 160),
    ("application/dtmf", "7", "7", 160),
    ("application/dtmf", "11\r\n", "#", 160),
])
@pytest.mark.parametrize("from_trunk", [True, False])
async def test_a_digit_by_info_is_said_in_the_audio_of_a_side_with_events(
    office: Office, plane: AnchoredPlane, from_trunk: bool, kind: str, body: str, digit: str, milliseconds: int
) -> None:
    there, here = await talking(office, trunk=not from_trunk, phone=from_trunk)
    presser, hearer = (there, here) if from_trunk else (here, there)
    presser.info(body, kind)
    await asyncio.sleep(1)
    assert presser.responses == [200]
    assert hearer.requests == []
    assert [one for one in plane.told if isinstance(one, wire.SendDigit)] == [
        wire.SendDigit(1, 1 if from_trunk else 0, digit, milliseconds)]
    await over(office, there)


@pytest.mark.parametrize("both", [True, False])
async def test_a_digit_by_info_passes_where_both_or_neither_has_events(
    office: Office, plane: AnchoredPlane, both: bool
) -> None:
    there, here = await talking(office, trunk=both, phone=both)
    there.info("Signal=5\r\nDuration=200\r\n", RELAY_DIGIT)
    await asyncio.sleep(1)
    assert there.responses == [200]
    assert asked(here, "INFO") == [(RELAY_DIGIT, b"Signal=5\r\nDuration=200\r\n")]
    assert not any(isinstance(one, wire.SendDigit) for one in plane.told)
    await over(office, there)


@pytest.mark.parametrize("body", ["Signal=\r\n", "Signal=55\r\n", "", "x", "Signal=!\r\n", "5" * 300])
async def test_an_info_that_holds_no_digit_passes_as_it_is(office: Office, body: str) -> None:
    there, here = await talking(office, trunk=False)
    there.info(body, RELAY_DIGIT)
    await asyncio.sleep(1)
    assert [each for _, each in asked(here, "INFO")] == [body.encode()]
    await over(office, there)


async def test_digits_in_the_audio_become_infos_one_after_the_other(office: Office, plane: AnchoredPlane) -> None:
    there, here = await talking(office, phone=False)
    here.answers_with = 0
    for digit in "12#":
        plane.session().hear(wire.Pressed(1, 0, digit, 120))
    await asyncio.sleep(1)
    assert [body for _, body in asked(here, "INFO")] == [b"Signal=1\r\nDuration=120\r\n"]
    here.answers_with = 200
    here.phone.do(here.session.respond(here.requests[0], 200, here.phone.now()))
    await asyncio.sleep(1)
    assert [body.split()[0] for _, body in asked(here, "INFO")] == [b"Signal=1", b"Signal=2", b"Signal=#"]
    assert there.requests == []
    await over(office, there)


@pytest.mark.parametrize(("status", "infos"), [(405, 1), (501, 1), (415, 1), (500, 2)])
async def test_who_refuses_digits_for_good_is_not_asked_again(
    office: Office, plane: AnchoredPlane, status: int, infos: int
) -> None:
    there, here = await talking(office, phone=False)
    here.answers_with = status
    for digit in "12":
        plane.session().hear(wire.Pressed(1, 0, digit, 120))
        await asyncio.sleep(1)
    assert len(asked(here, "INFO")) == infos
    await over(office, there)


async def test_a_phone_that_ignores_digits_talks_on_and_is_not_sent_another_one(
    office: Office, plane: AnchoredPlane
) -> None:
    there, here = await talking(office, phone=False)
    here.answers_with = 0
    plane.session().hear(wire.Pressed(1, 0, "1", 120))
    await asyncio.sleep(40)
    plane.session().hear(wire.Pressed(1, 0, "2", 120))
    await asyncio.sleep(40)
    assert not there.over.is_set()
    assert len(asked(here, "INFO")) == 1
    await over(office, there)


async def test_digits_that_waited_too_long_are_not_sent(office: Office, plane: AnchoredPlane) -> None:
    there, here = await talking(office, phone=False)
    here.answers_with = 0
    for digit in "12":
        plane.session().hear(wire.Pressed(1, 0, digit, 120))
    await asyncio.sleep(10)
    here.phone.do(here.session.respond(here.requests[0], 200, here.phone.now()))
    here.answers_with = 200
    plane.session().hear(wire.Pressed(1, 0, "3", 120))
    await asyncio.sleep(1)
    assert [body.split()[0] for _, body in asked(here, "INFO")] == [b"Signal=1", b"Signal=3"]
    await over(office, there)


async def test_a_digit_after_the_end_is_nothing(office: Office, plane: AnchoredPlane) -> None:
    there, _ = await talking(office, phone=False)
    session = plane.session()
    await over(office, there)
    session.hear(wire.Pressed(1, 0, "1", 120))


async def test_after_a_transfer_digits_go_to_who_talks_then(office: Office, plane: AnchoredPlane) -> None:
    there, here = await talking(office, phone=True)
    vera = await office.phone("103", Answers(after=1.0))
    vera.has_events = False
    here.refer("sip:103@10.0.0.1")
    await (await vera.was_called()).answered.wait()
    await asyncio.sleep(6)
    plane.session().hear(wire.Pressed(1, 0, "8", 120))
    await asyncio.sleep(1)
    assert [body.split()[0] for _, body in asked(vera.calls[0], "INFO")] == [b"Signal=8"]
    assert formats(there.sdp) == "8 0 101"
    await over(office, there)


# -- other requests

@pytest.mark.parametrize("from_trunk", [True, False])
async def test_a_message_passes_with_what_describes_it_and_the_others_answer_comes_back(
    office: Office, from_trunk: bool
) -> None:
    there, here = await talking(office)
    sender, reader = (there, here) if from_trunk else (here, there)
    reader.answers_with = 202
    sender.ask("MESSAGE", b"bonjour", "text/plain;charset=utf-8", ("Content-Language", "fr"), ("Subject", "word"),
               ("P-Asserted-Identity", "<sip:mallory@example.com>"), ("Route", "<sip:10.9.9.9;lr>"))
    await asyncio.sleep(1)
    assert sender.responses == [202]
    (message,) = reader.requests
    assert (message.headers.get("Content-Type"), message.body) == ("text/plain;charset=utf-8", b"bonjour")
    assert (message.headers.get("Content-Language"), message.headers.get("Subject")) == ("fr", "word")
    assert message.headers.get("P-Asserted-Identity") is None
    assert message.headers.get("Route") is None
    await over(office, there)


@pytest.mark.parametrize(("status", "seen"), [(200, 200), (415, 415), (603, 603), (302, 480), (404, 404)])
async def test_the_status_of_the_other_side_is_the_answer(office: Office, status: int, seen: int) -> None:
    there, here = await talking(office)
    here.answers_with = status
    there.ask("MESSAGE", b"hello", "text/plain")
    await asyncio.sleep(1)
    assert there.responses == [seen]
    await over(office, there)


@pytest.mark.parametrize(("method", "headers", "status", "field"), [
    ("NOTIFY", (("Event", "talk"), ("Subscription-State", "active")), 481, None),
    ("SUBSCRIBE", (("Event", "dialog"),), 489, ("Allow-Events", "refer")),
    ("SUBSCRIBE", (("Event", "refer;id=1"),), 481, None),
    ("INFO", (("Info-Package", "infoDtmf"),), 469, ("Recv-Info", "")),
    ("PUBLISH", (("Event", "presence"),), 405, ("Allow", None)),
    ("FOO", (), 405, ("Allow", None)),
    ("OPTIONS", (), 200, ("Allow", None)),
])
async def test_what_is_between_us_and_one_party_is_answered_here(
    office: Office, method: str, headers: tuple[tuple[str, str], ...], status: int, field: tuple[str, str | None] | None
) -> None:
    there, here = await talking(office)
    there.ask(method, b"", "", *headers)
    await asyncio.sleep(1)
    assert there.responses == [status]
    assert here.requests == []
    if field is not None:
        value = there.answers[-1].headers.get(field[0])
        assert value is not None
        assert field[1] in (None, value)
    if method == "OPTIONS":
        assert there.answers[-1].headers.get("Accept") == "application/sdp"
        assert "timer" in (there.answers[-1].headers.get("Supported") or "")
    await over(office, there)


async def test_a_body_of_size_is_refused(office: Office) -> None:
    there, here = await talking(office)
    there.ask("MESSAGE", b"x" * (MAX_BODY + 1), "text/plain")
    there.ask("MESSAGE", b"x" * MAX_BODY, "text/plain")
    await asyncio.sleep(1)
    assert sorted(there.responses) == [200, 413]
    assert len(here.requests) == 1
    await over(office, there)


async def test_several_at_once_are_passed_in_order_and_no_more_than_some(office: Office) -> None:
    there, here = await talking(office)
    here.answers_with = 0
    for number in range(MAX_PASSED_ON + 2):
        there.ask("MESSAGE", str(number).encode(), "text/plain")
    here.ask("MESSAGE", b"and back", "text/plain")
    await asyncio.sleep(1)
    assert there.responses == [500, 500]
    assert here.responses == [200]
    for _ in range(MAX_PASSED_ON):
        here.phone.do(here.session.respond(here.requests[-1], 200, here.phone.now()))
        await asyncio.sleep(0.1)
    assert [body for _, body in asked(here, "MESSAGE")] == [str(number).encode() for number in range(MAX_PASSED_ON)]
    assert there.responses == [500, 500, *[200] * MAX_PASSED_ON]
    await over(office, there)


async def test_a_message_that_is_never_answered_ends_the_dialog_that_is_gone(office: Office) -> None:
    """RFC 3261 §12.2.1.2: a 408 of our own making says that nobody is there."""
    there, here = await talking(office)
    here.answers_with = 0
    there.ask("MESSAGE", b"hello", "text/plain")
    await there.over.wait()
    assert there.responses in ([487], [408])
    record = await office.record()
    assert record.disposition is Disposition.ANSWERED
    here.hang_up()
    await office.all_quiet()


async def test_while_a_transfer_rings_messages_pass_between_the_two(office: Office) -> None:
    there, here = await talking(office)
    vera = await office.phone("103", Rings())
    here.refer("sip:103@10.0.0.1")
    ringing = await vera.was_called()
    there.ask("MESSAGE", b"still there?", "text/plain")
    there.info("Signal=5\r\nDuration=200\r\n", RELAY_DIGIT)
    await asyncio.sleep(1)
    assert there.responses == [200, 200]
    assert [one.method for one in here.requests if one.method != "NOTIFY"] == ["MESSAGE", "INFO"]
    ringing.reject(486)
    await asyncio.sleep(1)
    await over(office, there)


# -- fax

def addresses(sdp: bytes) -> tuple[str, str]:
    text = sdp.decode().splitlines()
    return (next(line for line in text if line.startswith("c=")), next(line for line in text if line.startswith("m=")))


@pytest.mark.parametrize("by_trunk", [True, False])
async def test_a_fax_takes_the_audios_place_and_gives_it_back(
    office: Office, plane: AnchoredPlane, by_trunk: bool
) -> None:
    there, here = await talking(office)
    machine, other = (there, here) if by_trunk else (here, there)
    machine.reoffer(machine.phone.fax_sdp())
    await asyncio.sleep(1)
    for sdp in (machine.sdp, other.sdp):
        connection, media = addresses(sdp)
        assert connection == "c=IN IP4 10.0.0.1"
        assert media.startswith("m=image 2000")
        assert media.endswith(" udptl t38")
        assert b"a=T38FaxRateManagement:transferredTCF\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n" in sdp
    faxes = [(one.side, one.host, one.port) for one in plane.told if isinstance(one, wire.Remote) and one.fax]
    assert sorted(faxes) == [(0, "10.0.1.1", 40002), (1, "10.0.2.102", 40002)]
    await other.agree("sendrecv")
    await asyncio.sleep(1)
    assert formats(machine.sdp) == "8 0 101"
    assert [one.fax for one in plane.told if isinstance(one, wire.Remote)][-2:] == [False, False]
    await over(office, there)


async def test_a_refused_fax_leaves_the_audio_as_it_was(office: Office, plane: AnchoredPlane) -> None:
    there, here = await talking(office)
    told = list(plane.told)
    there.phone.refuses_offers = 488
    before = there.sdp
    here.reoffer(here.phone.fax_sdp())
    await asyncio.sleep(1)
    assert here.ladder()[-2:] == ["488", "ACK"]
    assert [one for one in plane.told if isinstance(one, wire.Remote)] == [
        one for one in told if isinstance(one, wire.Remote)]
    assert there.sdp == before
    there.phone.refuses_offers = 0
    await here.agree("sendonly")
    assert there.direction == "sendonly"
    await over(office, there)


async def test_without_a_media_plane_a_fax_passes_unchanged() -> None:
    async with faultless_office() as office:
        there, here = await talking(office)
        fax = there.phone.fax_sdp()
        there.reoffer(fax)
        await asyncio.sleep(1)
        assert here.sdp == fax
        await over(office, there)


# -- offers of every kind

@pytest.mark.parametrize("by_trunk", [True, False])
async def test_a_re_invite_without_an_offer_is_answered_with_the_others(office: Office, by_trunk: bool) -> None:
    there, here = await talking(office)
    asker, other = (there, here) if by_trunk else (here, there)
    asker.sdp = other.sdp = b""
    asker.reoffer(b"")
    await asyncio.sleep(1)
    assert formats(asker.sdp) == formats(other.sdp) == "8 0 101"
    assert asker.direction == other.direction == "sendrecv"
    await over(office, there)


@pytest.mark.parametrize("by_trunk", [True, False])
async def test_another_codec_is_agreed_by_re_invite(office: Office, plane: AnchoredPlane, by_trunk: bool) -> None:
    there, here = await talking(office)
    changer, other = (there, here) if by_trunk else (here, there)
    changer.phone.codecs = other.phone.codecs = {0: "PCMU/8000"}
    await changer.agree("sendrecv")
    assert formats(changer.sdp) == formats(other.sdp) == "0 101"
    latest = {one.side: one.codecs for one in plane.told if isinstance(one, wire.Remote)}
    assert latest == {side: {"0": "PCMU/8000", "101": "telephone-event/8000"} for side in (0, 1)}
    await over(office, there)


@pytest.mark.parametrize("by_trunk", [True, False])
async def test_an_update_while_it_talks_reaches_the_other_side(office: Office, by_trunk: bool) -> None:
    there, here = await talking(office)
    holder, other = (there, here) if by_trunk else (here, there)
    holder.phone.do(holder.session.update(holder.phone.sdp("sendonly"), holder.phone.now()))
    await asyncio.sleep(1)
    assert other.direction == "sendonly"
    assert holder.direction == "recvonly"
    assert "UPDATE" in holder.ladder()
    await over(office, there)


async def test_an_update_before_the_answer_is_put_off(office: Office) -> None:
    boris = await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.rang.wait()
    ringing = await boris.was_called()
    boris.do(ringing.session.progress(183, boris.now(), body=boris.answer_to(ringing.sdp), reliable=True))
    await asyncio.sleep(1)
    boris.do(ringing.session.update(boris.sdp("sendonly"), boris.now()))
    await asyncio.sleep(0.2)
    assert "491" in ringing.ladder()
    ringing.answer()
    await call.answered.wait()
    await asyncio.sleep(5)
    await over(office, call)


async def test_two_re_invites_at_once_both_come_through(office: Office) -> None:
    there, here = await talking(office)
    there.offer("sendonly")
    here.offer("sendrecv")
    await asyncio.sleep(20)
    for call in (there, here):
        assert "491" in call.ladder()
        assert call.session.may_reoffer
    assert here.direction == "sendonly"
    await over(office, there)


@pytest.mark.parametrize("hangs_up", ["the one who offers", "the other one", "both"])
async def test_a_goodbye_that_crosses_a_re_invite_ends_both_legs(office: Office, hangs_up: str) -> None:
    there, here = await talking(office)
    here.offer("sendonly")
    if hangs_up != "the other one":
        here.hang_up()
    if hangs_up != "the one who offers":
        there.hang_up()
    record = await office.record()
    assert (record.disposition, record.reason) == (Disposition.ANSWERED, EndReason.HUNG_UP)
    assert here.over.is_set()
    assert there.over.is_set()
    await office.all_quiet()


# -- each leg by its own rules

async def test_a_session_timer_runs_on_the_leg_that_wants_one(office: Office) -> None:
    boris = await office.phone("102", Answers(after=1.0))
    asks = await with_config(office, CoreConfig(session_timer=SessionTimerPolicy(expires=120, ask=True)), "103")
    call = asks.call("102")
    await call.answered.wait()
    await asyncio.sleep(400)
    assert call.ladder().count("UPDATE") >= 3
    assert "UPDATE" not in boris.calls[0].ladder()
    assert not boris.calls[0].over.is_set()
    await over(office, call)


async def test_session_timers_of_both_legs_run_each_for_itself(office: Office) -> None:
    trunk = trunk_with(office, CoreConfig(session_timer=SessionTimerPolicy(expires=300, ask=True)))
    boris = await with_config(office, CoreConfig(session_timer=SessionTimerPolicy(expires=120, ask=True)), "102")
    call = trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    here = boris.calls[0]
    await asyncio.sleep(700)
    assert not call.over.is_set()
    assert call.ladder().count("UPDATE") == 4           # every 150 s
    assert here.ladder().count("UPDATE") == 11          # every 60 s
    await over(office, call)


async def test_a_leg_that_is_not_refreshed_ends_and_takes_the_other_along(office: Office) -> None:
    config = CoreConfig(session_timer=SessionTimerPolicy(expires=120, ask=True))
    trunk = trunk_with(office, config)
    boris = await office.phone("102", Answers(after=1.0))
    call = trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    here = boris.calls[0]
    trunk.close()                                       # its plug is pulled: no refresh comes
    await here.over.wait()
    record = await office.record()
    assert record.reason is EndReason.SESSION_EXPIRED
    await office.all_quiet()


async def test_100rel_demanded_by_the_caller_is_given_on_its_leg_alone(office: Office) -> None:
    boris = await office.phone("102", Answers(after=2.0))
    call = office.trunk.call(DID, as_=IVAN, headers=[("Require", "100rel")])
    await call.answered.wait()
    assert "PRACK" in call.ladder()
    assert "PRACK" not in boris.calls[0].ladder()
    await over(office, call)


async def test_100rel_used_by_the_callee_is_its_legs_affair(office: Office) -> None:
    trunk = trunk_with(office, CoreConfig(supported=("timer",)))
    boris = await office.phone("102", Rings())
    call = trunk.call(DID, as_=IVAN)
    ringing = await boris.was_called()
    boris.do(ringing.session.progress(183, boris.now(), body=boris.answer_to(ringing.sdp), reliable=True))
    await asyncio.sleep(1)
    assert "PRACK" in ringing.ladder()
    assert "PRACK" not in call.ladder()
    assert "183" in call.ladder()
    assert formats(call.sdp) == "8 0 101"
    ringing.answer()
    await call.answered.wait()
    await over(office, call)


async def test_each_183_that_says_something_new_is_heard(office: Office, plane: AnchoredPlane) -> None:
    """Several of one callee; the audio is taken from where the last one says."""
    boris = await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    ringing = await boris.was_called()
    for port in (41000, 42000):
        boris.rtp_port = port
        boris.do(ringing.session.progress(183, boris.now(), body=boris.answer_to(ringing.sdp)))
        await asyncio.sleep(1)
        assert [one.port for one in plane.told if isinstance(one, wire.Remote) and one.side == 1][-1] == port
    assert call.ladder().count("183") >= 1
    ringing.answer()
    await call.answered.wait()
    await over(office, call)


async def test_183s_of_several_branches_behind_the_trunk_each_take_the_audio_over(
    office: Office, plane: AnchoredPlane
) -> None:
    """A proxy forks: the second early dialog has another tag and another address, and the first one answers."""
    anna = await office.phone("101")
    office.trunk.does = Rings()
    call = anna.call("+79161112233")
    first = await office.trunk.was_called()
    (early,) = [
        effect
        for effect in first.session.progress(183, anna.now(), body=office.trunk.answer_to(first.sdp))
        if isinstance(effect, Transmit)
    ]
    office.trunk.transport.send(bytes(early.message), early.flow)
    await asyncio.sleep(1)
    tag = first.session.id.encode()
    forked = bytes(early.message).replace(tag, tag[::-1]).replace(b"m=audio 40000", b"m=audio 50000")
    assert forked != bytes(early.message)
    office.trunk.transport.send(forked, early.flow)
    await asyncio.sleep(1)
    ports = [one.port for one in plane.told if isinstance(one, wire.Remote) and one.side == 1]
    assert ports == [40000, 50000]
    first.answer()
    await call.answered.wait()
    ports = [one.port for one in plane.told if isinstance(one, wire.Remote) and one.side == 1]
    assert ports == [40000, 50000, 40000]
    await over(office, call)


async def test_early_media_of_phones_that_ring_together_is_not_mixed(office: Office, plane: AnchoredPlane) -> None:
    anna = await office.phone("101")
    phones = [await office.phone(number, Rings()) for number in ("102", "103")]
    call = anna.call("600")
    for phone in phones:
        ringing = await phone.was_called()
        phone.do(ringing.session.progress(183, phone.now(), body=phone.answer_to(ringing.sdp)))
    await asyncio.sleep(1)
    assert "183" not in call.ladder()
    assert not any(isinstance(one, wire.Remote) and one.side == 1 for one in plane.told)
    phones[1].calls[0].answer()
    await call.answered.wait()
    assert plane.hosts() == ("10.0.2.101", "10.0.2.103")
    await over(office, call)
