"""Calls from outside, as caller, employee and CRM live them."""

from __future__ import annotations

import asyncio

import pytest

from b2bua.cdr import Direction, Disposition, EndedBy, EndReason
from b2bua.sip.effects import Flow
from b2bua.sip.message import Response
from b2bua.sip.parser import parse
from tests.support.office import DID, OPERATOR, SERVER, Office, open_office
from tests.support.phone import Answers, Rejects, Rings
from tests.support.rogue import Rogue, sdp_of

IVAN = "+79161234567"


@pytest.fixture
def office():
    return open_office()


async def test_the_responsible_persons_phone_shows_the_contacts_name_and_talks(office: Office) -> None:
    office.crm.knows(IVAN, "Иван Петров", responsible=77)
    anna, boris = await office.phone("101", Answers(after=2.0)), await office.phone("102")
    call = office.trunk.call(DID, as_="89161234567")
    await call.answered.wait()
    await asyncio.sleep(60)
    call.hang_up()
    record = await office.record()
    assert anna.calls[0].shown == "Иван Петров"
    assert anna.calls[0].caller == IVAN
    assert boris.calls == []
    assert call.ladder() == ["INVITE", "100", "180", "200", "ACK", "BYE", "200"]
    assert anna.calls[0].ladder() == ["INVITE", "100", "180", "200", "ACK", "BYE", "200"]
    assert (record.direction, record.disposition, record.extension) == (Direction.INBOUND, Disposition.ANSWERED, "101")
    assert (record.ended_by, record.reason, record.talk_seconds) == (EndedBy.CALLER, EndReason.HUNG_UP, 60)
    assert record.crm_user == 77
    assert [write.user for write in office.books.writes] == [77]
    assert [(up.phone, up.users) for up in office.crm.pop_ups] == [(IVAN, (77,))]
    await office.all_quiet()


async def test_a_slow_crm_does_not_hold_up_the_phones(office: Office) -> None:
    office.crm.delay = 30
    boris = await office.phone("102", Answers(after=1.0))
    began = asyncio.get_running_loop().time()
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    assert boris.calls[0].rang_at is not None
    assert boris.calls[0].rang_at - began == pytest.approx(1.5, abs=0.05)
    call.hang_up()
    await office.record()


async def test_when_the_responsible_person_does_not_answer_the_numbers_destination_follows(office: Office) -> None:
    office.crm.knows(IVAN, "Иван Петров", responsible=77)
    anna, boris = await office.phone("101", Rings()), await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    assert anna.calls[0].ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    assert boris.calls[0].shown == "Иван Петров"
    call.hang_up()
    record = await office.record()
    assert record.extension == "102"
    assert record.rang == ("101", "102")


async def test_nobody_answers_and_the_missed_call_is_the_responsible_persons(office: Office) -> None:
    office.crm.knows(IVAN, "Иван Петров", responsible=78)
    await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    assert call.status == 480
    record = await office.record()
    assert (record.disposition, record.reason, record.status) == (Disposition.NO_ANSWER, EndReason.NOBODY_ANSWERED, 480)
    assert [(write.user, write.talk_seconds) for write in office.books.writes] == [(78, 0)]
    await office.all_quiet()


@pytest.mark.parametrize(
    ("status", "told", "disposition"),
    [
        (302, 480, Disposition.NO_ANSWER),
        (480, 480, Disposition.NO_ANSWER),
        (486, 486, Disposition.BUSY),
        (488, 488, Disposition.FAILED),
        (503, 500, Disposition.FAILED),
        (603, 603, Disposition.DECLINED),
    ],
)
async def test_the_callers_answer_is_the_phones(
    office: Office, status: int, told: int, disposition: Disposition
) -> None:
    await office.phone("102", Rejects(status))
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    assert call.status == told
    assert (await office.record()).disposition is disposition


async def test_a_number_whose_phone_is_not_registered_is_unreachable_and_recorded(office: Office) -> None:
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    assert call.status == 480
    record = await office.record()
    assert (record.disposition, record.reason) == (Disposition.UNREACHABLE, EndReason.NOTHING_TO_RING)
    assert "102, where no phone is registered" in record.why[-1]


async def test_a_number_of_nobody_is_404_and_recorded(office: Office) -> None:
    call = office.trunk.call("+74950000000", as_=IVAN)
    await call.over.wait()
    assert call.status == 404
    assert (await office.record()).disposition is Disposition.UNREACHABLE


async def test_the_caller_gives_up_while_it_rings(office: Office) -> None:
    boris = await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.rang.wait()
    await asyncio.sleep(4)
    call.hang_up()
    record = await office.record()
    assert call.ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    assert boris.calls[0].ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    assert (record.ended_by, record.reason) == (EndedBy.CALLER, EndReason.CANCELLED)
    assert record.disposition is Disposition.ABANDONED
    await office.all_quiet()


async def test_the_caller_gives_up_while_the_crm_is_asked(office: Office) -> None:
    office.crm.delay = 1.0
    boris = await office.phone("102")
    call = office.trunk.call(DID, as_=IVAN)
    await asyncio.sleep(0.5)
    call.hang_up()
    record = await office.record()
    assert boris.calls == []
    assert record.disposition is Disposition.ABANDONED
    await office.all_quiet()


async def test_a_phone_picked_up_while_it_is_cancelled_is_acked_and_hung_up(office: Office) -> None:
    boris = await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.rang.wait()
    office.network.lose(lambda data, flow: data.startswith(b"CANCEL") and flow.remote.host == "10.0.2.102", times=10)
    call.hang_up()
    record = await office.record()
    assert record.disposition is Disposition.ABANDONED
    await boris.calls[0].over.wait()
    assert boris.calls[0].ladder()[-4:] == ["200", "ACK", "BYE", "200"]
    await office.all_quiet()


async def test_the_callee_hangs_up(office: Office) -> None:
    await office.phone("102", Answers(after=1.0, hangs_up_after=30))
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (record.ended_by, record.talk_seconds) == (EndedBy.CALLEE, 30)
    assert call.ladder() == ["INVITE", "100", "180", "200", "ACK", "BYE", "200"]
    await office.all_quiet()


async def test_all_phones_of_an_extension_ring_and_the_first_one_gets_the_call(office: Office) -> None:
    slow = await office.phone("102", Answers(after=9.0))
    fast = await office.phone("102", Answers(after=1.0), host="10.0.3.1")
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    call.hang_up()
    await office.record()
    assert fast.calls[0].answered.is_set()
    assert slow.calls[0].ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    await office.all_quiet()


async def test_hold_and_resume_reach_the_other_side(office: Office) -> None:
    boris = await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    await asyncio.sleep(1)
    boris.calls[0].offer("sendonly")
    await asyncio.sleep(1)
    assert call.direction == "sendonly"
    boris.calls[0].offer("sendrecv")
    await asyncio.sleep(1)
    assert call.direction == "sendrecv"
    call.hang_up()
    assert (await office.record()).disposition is Disposition.ANSWERED
    await office.all_quiet()


@pytest.mark.parametrize("asserted", ["<<<>>>,,,;;;", "", "nobody", "<sip:operator.example>", '"'])
async def test_a_senseless_asserted_identity_leaves_the_caller_to_from(office: Office, asserted: str) -> None:
    await office.phone("102")
    call = office.trunk.call(DID, as_=IVAN, headers=[("P-Asserted-Identity", asserted)])
    await call.answered.wait()
    call.hang_up()
    assert (await office.record()).caller == IVAN
    await office.all_quiet()


async def test_a_call_that_breaks_us_at_the_door_is_refused_and_leaves_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(office.pbx, "from_trunk", broken)
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    assert call.status == 500
    assert office.agent.counters.faults == 1
    await office.all_quiet()


async def test_what_a_ringing_phone_asks_is_put_off_at_once(office: Office) -> None:
    boris = await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.rang.wait()
    ringing = boris.calls[0]
    boris.do(ringing.session.request("INFO", boris.now(), body=b"x", content_type="text/plain"))
    await asyncio.sleep(0.1)
    assert ringing.responses == [480]
    call.hang_up()
    await office.record()
    await office.all_quiet()


async def test_what_is_asked_before_the_ack_with_the_answer_is_put_off_at_once(office: Office) -> None:
    """The INVITE has no offer, so that the two are joined by the ACK only."""
    boris = await office.phone("102", Answers(after=1.0))
    office.trunk.close()
    operator = Rogue("operator", office.network, OPERATOR, SERVER, polite=False)
    operator.call(DID, IVAN, b"")
    await asyncio.sleep(2)
    operator.ask("INFO", b"")
    boris.do(boris.calls[0].session.request("INFO", boris.now(), body=b"x", content_type="text/plain"))
    await asyncio.sleep(0.1)
    assert operator.unheard(only_invites=False) == set()
    assert boris.calls[0].responses == [480]
    operator.acknowledge(sdp_of(operator.here), 0)
    await asyncio.sleep(60)
    operator.ask("BYE", b"")
    record = await office.record()
    assert (record.disposition, record.reason, record.talk_seconds) == (Disposition.ANSWERED, EndReason.HUNG_UP, 60)
    await office.all_quiet()


async def test_what_a_phone_answered_in_a_reliable_183_it_may_not_say_again(office: Office) -> None:
    boris = await office.phone("102", Answers(after=9.0, rings=False))
    call = office.trunk.call(DID, as_=IVAN)
    ringing = await boris.was_called()
    boris.do(ringing.session.progress(183, boris.now(), body=boris.answer_to(ringing.sdp), reliable=True))
    await call.answered.wait()
    assert b"10.0.2.102" in call.sdp
    assert last_answers(office) == [False, True]
    call.hang_up()
    assert (await office.record()).disposition is Disposition.ANSWERED
    await office.all_quiet()


async def test_what_a_gateway_answered_in_its_183_it_leaves_out_of_its_200(office: Office) -> None:
    anna = await office.phone("101")
    office.trunk.close()
    gateway = Rogue("operator", office.network, OPERATOR, SERVER)
    call = anna.call("+79265554433")
    await asyncio.sleep(1)
    gateway.respond(183, 1, sdp_of(OPERATOR))
    gateway.respond(200, 1, b"")
    await call.answered.wait()
    assert last_answers(office) == [False, True]
    call.hang_up()
    assert (await office.record()).disposition is Disposition.ANSWERED
    await office.all_quiet()


@pytest.mark.parametrize(("accept", "status"), [
    ("application/sdp, text/plain", 200), ("application/*;q=0.5", 200), ("text/plain, */*", 200), ("", 200),
    ("text/plain", 406), ("application/sdp2;x=application/sdp", 406),
])
async def test_a_caller_who_could_not_read_an_answer_gets_406(office: Office, accept: str, status: int) -> None:
    await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN, headers=[("Accept", accept)])
    await asyncio.sleep(5)
    assert call.status == status
    call.hang_up()
    await office.all_quiet()


async def test_a_caller_of_before_rfc_3261_talks_and_hangs_up(office: Office) -> None:
    """No Contact, no tag in From, no cookie in Via."""
    boris = await office.phone("102", Answers(after=1.0))
    office.trunk.close()
    old = Ancient(office)
    old.say("INVITE", f"<sip:{DID}@{SERVER.host}>", sdp_of(OPERATOR))
    await asyncio.sleep(1.2)               # the 200 is there, and not yet repeated
    old.say("ACK", old.to)
    await asyncio.sleep(60)
    assert not boris.calls[0].over.is_set()
    old.say("BYE", old.to)
    record = await office.record()
    assert (record.caller, record.reason, record.talk_seconds) == (IVAN, EndReason.HUNG_UP, 60)
    assert old.heard == ["100", "180", "200", "200"]
    await office.all_quiet()


async def test_a_caller_of_before_rfc_3261_is_hung_up(office: Office) -> None:
    """What is asked of it goes to the address in its From."""
    await office.phone("102", Answers(after=1.0, hangs_up_after=30.0))
    office.trunk.close()
    old = Ancient(office)
    old.say("INVITE", f"<sip:{DID}@{SERVER.host}>", sdp_of(OPERATOR))
    await asyncio.sleep(1.2)               # the 200 is there, and not yet repeated
    old.say("ACK", old.to)
    assert (await office.record()).reason is EndReason.HUNG_UP
    assert old.heard == ["100", "180", "200", f"BYE sip:{IVAN}@{OPERATOR.host} SIP/2.0"]
    await office.all_quiet()


class Ancient:
    """Bare messages as of RFC 2543."""

    def __init__(self, office: Office) -> None:
        self.heard: list[str] = []
        self.to = ""
        self._count = 0
        self._endpoint = office.network.attach(OPERATOR, self)

    def say(self, method: str, to: str, body: bytes = b"") -> None:
        self._count += method != "ACK"
        lines = [
            f"{method} sip:{DID}@{SERVER.host} SIP/2.0", f"Via: SIP/2.0/UDP {OPERATOR.host}",
            f"From: <sip:{IVAN}@{OPERATOR.host}>", f"To: {to}", "Call-ID: ancient", f"CSeq: {self._count} {method}",
            *(["Content-Type: application/sdp"] if body else []), f"Content-Length: {len(body)}", "", "",
        ]
        self._send("\r\n".join(lines).encode() + body)

    def on_message(self, data: bytes, flow: Flow) -> None:
        message = parse(data)
        if isinstance(message, Response):
            self.heard.append(str(message.status))
            self.to = message.headers.get("To") or ""
        elif message.method != "OPTIONS":
            self.heard.append(data.split(b"\r\n")[0].decode())
            self._send(bytes(message.response(200)))

    def on_failure(self, flow: Flow) -> None:
        """It does not notice."""

    def _send(self, data: bytes) -> None:
        self._endpoint.send(data, self._endpoint.flow_for(SERVER))


def last_answers(office: Office) -> list[bool]:
    """Whether the last two 200 to INVITEs have a session description."""
    answers = (sent.data for sent in office.network.log if sent.data.startswith(b"SIP/2.0 200"))
    return [data.endswith(b"a=sendrecv\r\n") for data in answers if b" INVITE\r\n" in data][-2:]
