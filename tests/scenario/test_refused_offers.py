"""An offer that is refused is made once more, with what both have (RFC 3261 §21.4.26)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from b2bua.cdr import Disposition, EndedBy, EndReason
from b2bua.sdp.negotiation import encodings
from b2bua.sip.effects import Address
from b2bua.sip.invite_session import InviteSession
from b2bua.sip.message import Response
from b2bua.sip.parser import parse
from tests.scenario.test_trunks import operator
from tests.support.anchored import AnchoredPlane
from tests.support.office import DID, OPERATOR, SERVER, Office
from tests.support.phone import Answers, Phone, PhoneCall, Rejects

DESK = Address("10.0.2.102", 5060)
IVAN, MARIA = "+79161234567", "+79265554433"
WIDE = {9: "G722/8000", 96: "opus/48000/2", 8: "PCMA/8000", 0: "PCMU/8000"}
WARNING = '305 10.0.0.1 "Incompatible media format"'


class Picky(Phone):
    """Takes no offer that has anything besides its own codecs."""

    refusal = Rejects(488)
    describes_itself = False
    takes = frozenset({"PCMA", "PCMU", "telephone-event"})

    def _called(self, session: InviteSession) -> None:
        fine = set(encodings(session.offer)) <= self.takes
        body = self.sdp("sendrecv") if self.describes_itself else self.refusal.body
        self.does = Answers(after=1.0) if fine else replace(self.refusal, body=body)
        super()._called(session)


async def picky(office: Office, codecs: dict[int, str], refusal: Rejects = Rejects(488), *, says: bool) -> Picky:
    """The phone of 102."""
    phone = Picky("102", SERVER, password="secret-of-a-phone", seed=5).on(office.network, DESK)
    phone.codecs, phone.refusal, phone.describes_itself = codecs, refusal, says
    phone.takes = frozenset({codec.partition("/")[0] for codec in codecs.values()} | {"telephone-event"})
    assert (await phone.register()).status == 200
    office._phones["picky"] = phone
    return phone


async def called(office: Office, codecs: dict[int, str] = WIDE) -> PhoneCall:
    """Ivan calls, and was answered or refused."""
    office.trunk.codecs = codecs
    call = office.trunk.call(DID, as_=IVAN)
    await asyncio.sleep(5)
    assert call.answered.is_set() or call.over.is_set()
    return call


def offers(phone: Phone) -> list[list[str]]:
    return [encodings(call.session.invite.body) for call in phone.calls]


@pytest.mark.parametrize("status", [415, 488, 606])
@pytest.mark.parametrize(("codecs", "says", "again"), [
    ({8: "PCMA/8000", 0: "PCMU/8000"}, False, ["PCMA", "PCMU", "telephone-event"]),
    ({8: "PCMA/8000"}, True, ["PCMA", "telephone-event"]),
    ({9: "g722/8000"}, True, ["G722", "telephone-event"]),
    ({111: "OPUS/48000/2", 18: "G729/8000"}, True, ["opus", "telephone-event"]),      # by its name, not its number
])
async def test_a_phone_that_takes_less_is_asked_again(
    office: Office, status: int, codecs: dict[int, str], says: bool, again: list[str]
) -> None:
    phone = await picky(office, codecs, Rejects(status), says=says)
    phone.takes = frozenset(again)
    call = await called(office)
    assert offers(phone) == [["G722", "opus", "PCMA", "PCMU", "telephone-event"], again]
    first, second = [each.session.invite for each in phone.calls]
    assert (first.call_id, first.cseq.number + 1, first.uri) == (second.call_id, second.cseq.number, second.uri)
    assert call.status == 200
    assert {codec.upper() for codec in encodings(call.sdp)} <= {codec.upper() for codec in again}
    call.hang_up()
    record = await office.record()
    assert f"102 answered {status}: asked again with {', '.join(again)}" in record.why
    assert record.disposition is Disposition.ANSWERED
    await office.all_quiet()


@pytest.mark.parametrize(("status", "told"), [(415, 488), (488, 488), (606, 606)])
@pytest.mark.parametrize(("offered", "codecs", "says"), [
    ({8: "PCMA/8000", 0: "PCMU/8000"}, {9: "G722/8000"}, False),         # nothing would change
    ({8: "PCMA/8000", 0: "PCMU/8000"}, {8: "PCMA/8000", 0: "PCMU/8000"}, True),
    ({9: "G722/8000", 18: "G729/8000"}, {8: "PCMA/8000"}, False),        # nothing would be left
    ({9: "G722/8000", 18: "G729/8000"}, {8: "PCMA/8000"}, True),
])
async def test_with_nothing_else_to_offer_the_caller_is_refused(
    office: Office, status: int, told: int, offered: dict[int, str], codecs: dict[int, str], says: bool
) -> None:
    phone = await picky(office, codecs, Rejects(status), says=says)
    phone.takes = frozenset()
    call = await called(office, offered)
    assert (len(phone.calls), call.status) == (1, told)
    assert heard(office, call).headers.get("Warning") == WARNING
    record = await office.record()
    assert (record.disposition, record.ended_by, record.reason, record.status, record.cause) == (
        Disposition.FAILED, EndedBy.CALLEE, EndReason.NO_COMMON_CODEC, told, 31)
    await office.all_quiet()


def heard(office: Office, call: PhoneCall) -> Response:
    """The final response to it."""
    messages = (parse(sent.data) for sent in office.network.log if sent.target.host == call.phone.transport.local.host)
    return next(message for message in messages if isinstance(message, Response)
                and message.status >= 300 and message.call_id == call.call_id)


async def test_it_is_made_once_more_and_not_twice(office: Office) -> None:
    phone = await picky(office, {8: "PCMA/8000"}, says=False)            # and PCMU is too much for it
    call = await called(office)
    assert (len(phone.calls), call.status) == (2, 488)
    await office.record()
    await office.all_quiet()


async def test_who_reads_no_session_description_is_not_asked_again(office: Office) -> None:
    phone = await picky(office, {8: "PCMA/8000"}, Rejects(415, headers=(("Accept", "text/plain"),)), says=False)
    call = await called(office)
    assert (len(phone.calls), call.status) == (1, 488)
    await office.record()


async def test_junk_for_a_description_counts_as_none(office: Office) -> None:
    phone = await picky(office, {8: "PCMA/8000", 0: "PCMU/8000"}, says=False)
    phone.refusal = replace(phone.refusal, body=b"v=0 junk")
    call = await called(office)
    assert (call.status, offers(phone)[1]) == (200, ["PCMA", "PCMU", "telephone-event"])


async def test_what_it_refused_once_a_hold_does_not_offer_again(office: Office, plane: AnchoredPlane) -> None:
    phone = await picky(office, {8: "PCMA/8000"}, says=True)
    call = await called(office)
    await call.agree("sendonly")
    assert phone.calls[-1].direction == "sendonly"
    assert encodings(phone.calls[-1].sdp) == ["PCMA", "telephone-event"]
    await call.agree("sendrecv")
    assert plane.hosts() == (OPERATOR.host, "10.0.2.102")
    call.hang_up()
    await office.record()
    await office.all_quiet()


async def test_a_refused_re_invite_is_told_the_other_side_and_the_session_stays(
    office: Office, plane: AnchoredPlane
) -> None:
    boris = await office.phone("102", Answers(after=1.0))
    call = await called(office)
    boris.refuses_offers = 488
    call.offer("sendonly")
    await asyncio.sleep(2)
    assert call.ladder()[-3:] == ["INVITE", "488", "ACK"] or call.ladder()[-4:] == ["INVITE", "100", "488", "ACK"]
    assert not call.over.is_set()
    assert plane.hosts() == (OPERATOR.host, "10.0.2.102")
    boris.refuses_offers = 0
    await call.agree("sendonly")
    call.hang_up()
    record = await office.record()
    assert (record.disposition, record.reason) == (Disposition.ANSWERED, EndReason.HUNG_UP)
    await office.all_quiet()


async def test_a_trunk_is_asked_again_with_credentials(office: Office) -> None:
    office.change(trunks=(replace(operator(office), user="account", password="pw"),))
    await office.pbx.settings_changed()
    office.trunk.close()
    challenge = ("Proxy-Authenticate", 'Digest realm="op", nonce="n1", qop="auth"')

    class Asking(Picky):
        def _called(self, session: InviteSession) -> None:
            if session.invite.headers.get("Proxy-Authorization") is None:
                self.does = Rejects(407, headers=(challenge,))
                Phone._called(self, session)
            else:
                super()._called(session)

    trunk = Asking("operator", SERVER, seed=9).on(office.network, OPERATOR)
    office._phones["asking"] = trunk
    anna = await office.phone("101")
    anna.codecs = WIDE
    call = anna.call(MARIA)
    await call.answered.wait()
    assert [each.status for each in trunk.calls] == [407, 488, 200]
    assert "nc=00000002" in (trunk.calls[-1].session.invite.headers.get("Proxy-Authorization") or "")
    call.hang_up()
    assert "operator answered 488: asked again with PCMA, PCMU, telephone-event" in (await office.record()).why
    await office.all_quiet()


async def test_one_phone_of_two_is_asked_again_while_the_other_rings(office: Office) -> None:
    phone = await picky(office, {8: "PCMA/8000"}, says=True)
    boris = await office.phone("102", Answers(after=30), host="10.0.3.1")
    call = await called(office)
    assert (call.status, len(phone.calls), boris.calls[0].over.is_set()) == (200, 2, True)
    call.hang_up()
    await office.record()
    await office.all_quiet()
