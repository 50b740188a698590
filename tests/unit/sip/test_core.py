"""What the core does before any session: who is admitted, what is refused or dropped; requests outside of dialogs."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2bua.sip.admission import MAX_SAVED, MAX_SAVERS, Admission, Balance, Refuse, Verdict
from b2bua.sip.core import CoreConfig, OutgoingInvite, UserAgentCore
from b2bua.sip.effects import (
    Address,
    Effect,
    EndCause,
    Ended,
    Flow,
    IncomingInvite,
    IncomingRequest,
    OfferReceived,
    Party,
    RequestAnswered,
    Transmit,
    Transport,
)
from b2bua.sip.fields import NameAddr
from b2bua.sip.grammar import ProtocolMisuse
from b2bua.sip.message import Request, Response
from b2bua.sip.parser import parse
from b2bua.sip.stack import Identifiers
from b2bua.sip.timers import Timers
from b2bua.sip.transaction_table import TransactionLimits
from b2bua.sip.uri import Uri
from tests.support.back_to_back import ANSWER, OFFER, Wire, name_of

FLOW = Flow(Transport.UDP, Address("10.0.0.1", 5060), Address("10.0.0.2", 5060))
ALICE, BOB = NameAddr.parse("<sip:alice@home>"), NameAddr.parse("<sip:bob@home>")


def core(**more: object) -> UserAgentCore:
    return UserAgentCore(CoreConfig(**more), Random(1))     # type: ignore[arg-type]


def message(method: str = "INVITE", *more: str, uri: str = "sip:100@10.0.0.1", to: str = "<sip:100@home>",
            contact: str | None = "<sip:bob@10.0.0.2>", body: str = "", branch: str = "z9hG4bK1") -> Request:
    lines = [
        f"{method} {uri} SIP/2.0", f"Via: SIP/2.0/UDP 10.0.0.2;branch={branch}", "Max-Forwards: 70",
        "From: <sip:bob@home>;tag=b", f"To: {to}", "Call-ID: c", f"CSeq: 7 {method}",
        *more, *([f"Contact: {contact}"] if contact else []), f"Content-Length: {len(body)}", "", body,
    ]
    parsed = parse("\r\n".join(lines).encode())
    assert isinstance(parsed, Request)
    return parsed


def answer(effects: list[Effect]) -> Response:
    assert [type(effect) for effect in effects] == [Transmit]
    assert isinstance(effects[0], Transmit)
    assert isinstance(effects[0].message, Response)
    return effects[0].message


@pytest.mark.parametrize(("request_", "status", "header", "value"), [
    (message("PUBLISH"), 405, "Allow", "INVITE"),
    (message("XYZZY"), 405, "Allow", "INVITE"),
    (message(uri="mailto:x@home"), 416, None, ""),
    (message(uri="sips:100@home"), 403, None, ""),              # it came by UDP
    (message("INVITE", "Require: timer, foo, bar"), 420, "Unsupported", "bar, foo"),
    (message("OPTIONS", "Require: foo"), 420, "Unsupported", "foo"),
    (message("REGISTER", "Require: outbound, path, foo"), 420, "Unsupported", "foo"),
    (message("INVITE", "Require: outbound"), 420, "Unsupported", "outbound"),       # a registrar's affair
    (message("INVITE", "Content-Encoding: gzip"), 415, "Accept-Encoding", "identity"),
    (message("INVITE", "Content-Type: text/plain", body="hello"), 415, "Accept", "application/sdp"),
    (message("BYE"), 481, None, ""),
    (message("PRACK"), 481, None, ""),
    (message("UPDATE"), 481, None, ""),
    (message("BYE", to="<sip:100@home>;tag=gone"), 481, None, ""),
    (message("INVITE", to="<sip:100@home>;tag=gone"), 481, None, ""),
    (message("INFO", to="<sip:100@home>;tag=gone"), 481, None, ""),
    (message(contact=None), 400, None, ""),
    (message(contact="<tel:100>"), 400, None, ""),
    (message("INVITE", "Record-Route: <<>"), 400, None, ""),
    (message("INVITE", "Session-Expires: soon"), 400, None, ""),
    (message("INVITE", "Session-Expires: 30"), 422, "Min-SE", "90"),
    (message("INVITE", "Supported: " + ",".join(["x"] * 500)), 400, None, ""),
])
def test_what_a_request_is_refused_for(request_: Request, status: int, header: str | None, value: str) -> None:
    stack = core()
    response = answer(stack.receive(request_, FLOW, 0.0))
    assert response.status == status
    assert response.to_tag is not None
    if header is not None:
        assert (response.headers.get(header) or "").startswith(value)
    assert stack.session_count == 0


@pytest.mark.parametrize(("uri", "transport", "contact"), [
    ("sips:100@home", Transport.TLS, "<sips:100@10.0.0.1:5060>"),
    ("sips:100@home", Transport.WSS, "<sips:100@10.0.0.1:5060;transport=wss>"),
    ("sip:100@home", Transport.TLS, "<sip:100@10.0.0.1:5060;transport=tls>"),
    ("sip:100@home", Transport.TCP, "<sip:100@10.0.0.1:5060;transport=tcp>"),
    ("sip:100@home", Transport.UDP, "<sip:100@10.0.0.1:5060>"),
])
def test_our_contact_says_sips_to_whom_says_sips(uri: str, transport: Transport, contact: str) -> None:
    flow = FLOW._replace(transport=transport, connection=1 if transport.reliable else 0)
    incoming = core().receive(message("INVITE", uri=uri), flow, 0.0)[-1]
    assert isinstance(incoming, IncomingInvite)
    assert incoming.session.contact == contact


def test_an_optional_body_is_no_reason_to_refuse() -> None:
    body = message("INVITE", "Content-Type: text/x", "Content-Disposition: render; handling = optional", body="hello")
    assert isinstance(core().receive(body, FLOW, 0.0)[-1], IncomingInvite)


def test_a_call_is_answered_with_100_before_it_is_told() -> None:
    effects = core().receive(message(), FLOW, 0.0)
    assert isinstance(effects[0], Transmit)
    assert name_of(effects[0].message) == "100 INVITE"
    assert isinstance(effects[1], IncomingInvite)
    assert effects[1].session.flow == FLOW


def test_calls_above_the_limit_get_503() -> None:
    stack = core(max_sessions=1)
    stack.receive(message(), FLOW, 0.0)
    other = message("INVITE", "Subject: x", branch="z9hG4bK2")
    other.headers.set("Call-ID", "another")
    response = answer(stack.receive(other, FLOW, 0.0))
    assert (response.status, response.headers.get("Retry-After")) == (503, "5")
    assert stack.counters.overloaded == 1


@pytest.mark.parametrize("method", ["REGISTER", "OPTIONS", "MESSAGE", "SUBSCRIBE", "NOTIFY", "REFER"])
def test_other_requests_are_the_users_to_answer(method: str) -> None:
    stack = core()
    effects = stack.receive(message(method), FLOW, 0.0)
    assert isinstance(effects[0], IncomingRequest)
    event = effects[0]
    ok = event.request.response(200, to_tag=stack.new_tag())
    assert answer(stack.respond(event.transaction, ok, 0.0)) is ok
    assert answer(stack.receive(message(method), FLOW, 1.0)) is ok          # repeated


@pytest.mark.parametrize("request_", [
    message(), message("REGISTER"), message("OPTIONS"), message("BYE", to="<sip:100@home>;tag=gone"), message("CANCEL"),
    message("XYZZY"),
])
def test_who_is_not_admitted_gets_silence_and_leaves_nothing(request_: Request) -> None:
    asked: list[str] = []

    def admit(request: Request, flow: Flow) -> Verdict:
        asked.append(request.method)
        return Admission.IGNORE

    stack = UserAgentCore(CoreConfig(), Random(1), admit)
    assert stack.receive(request_, FLOW, 0.0) == []
    assert asked == [request_.method]
    assert (stack.refused, stack.session_count, stack.transaction_count, stack.next_timeout) == (1, 0, 0, None)


def test_who_is_in_a_dialog_with_us_is_not_asked_again() -> None:
    wire = Wire()
    wire.call()
    wire.settle()
    session = wire.callee.last(IncomingInvite).session
    wire.do(wire.callee, session.accept(wire.now, body=ANSWER))
    wire.settle()
    wire.callee.core._admit = lambda request, flow: Admission.IGNORE
    caller = wire.caller.core.find(session.call_id, *reversed_tags(session))
    assert caller is not None
    wire.do(wire.caller, caller.hang_up(wire.now))
    wire.settle()
    assert wire.ladder[-2:] == ["> BYE", "< 200 BYE"]


def test_a_dialog_is_found_by_its_tags_until_its_goodbye_is_answered() -> None:
    wire = Wire()
    wire.call()
    wire.settle()
    session = wire.callee.last(IncomingInvite).session
    wire.do(wire.callee, session.accept(wire.now, body=ANSWER))
    wire.settle()
    tags = reversed_tags(session)
    caller = wire.caller.core.find(session.call_id, *tags)
    assert caller is not None
    assert wire.caller.core.find(session.call_id, *tags[::-1]) is None
    assert wire.caller.core.find("another", *tags) is None
    wire.do(wire.caller, caller.hang_up(wire.now))
    assert wire.caller.core.find(session.call_id, *tags) is caller
    wire.settle()
    assert wire.caller.core.find(session.call_id, *tags) is None


def reversed_tags(session: object) -> tuple[str, str]:
    dialog = session.dialog                         # type: ignore[attr-defined]
    return dialog.remote_tag, dialog.local_tag


def test_stray_responses_and_acks_are_dropped_and_counted() -> None:
    stack = core()
    assert stack.receive(message().response(200, to_tag="x"), FLOW, 0.0) == []
    assert stack.receive(message("ACK", to="<sip:100@home>;tag=gone"), FLOW, 0.0) == []
    assert stack.receive(message("ACK"), FLOW, 0.0) == []
    assert stack.counters.strays == 3


def test_a_request_of_ours_ends_with_the_answer_that_came() -> None:
    stack = core()
    home = Uri.parse("sip:home")
    transaction, effects = stack.request("REGISTER", home, ALICE, ALICE, FLOW, 0.0, call_id="r", cseq=9)
    assert isinstance(effects[0], Transmit)
    request = effects[0].message
    assert isinstance(request, Request)
    assert (request.call_id, str(request.cseq), request.from_tag is not None) == ("r", "9 REGISTER", True)
    assert stack.receive(request.response(100), FLOW, 0.1) == []
    response = request.response(401, to_tag="t")
    assert stack.receive(response, FLOW, 0.2) == [RequestAnswered(transaction, response)]


def test_a_request_of_ours_that_finds_no_answer_ends_with_408_and_one_without_a_way_with_503() -> None:
    for status in (408, 503):
        stack = core(timers=Timers(t1=0.1))
        stack.request("OPTIONS", Uri.parse("sip:home"), ALICE, BOB, FLOW, 0.0)
        effects = stack.handle_timeout(7.0) if status == 408 else stack.transport_failed(FLOW, 0.1)
        answered = [effect for effect in effects if isinstance(effect, RequestAnswered)]
        assert [event.response.status for event in answered] == [status]


def test_what_cannot_even_be_sent_is_told_in_the_next_round() -> None:
    stack = core(limits=TransactionLimits(clients=0))
    session, effects = stack.invite(OutgoingInvite(Uri.parse("sip:100@h"), ALICE, BOB), FLOW, 0.0)
    assert effects == []
    assert stack.handle_timeout(0.0) == [Ended(session, Party.LOCAL, EndCause.TRANSPORT_FAILED)]
    assert (stack.session_count, stack.transaction_count) == (0, 0)


@pytest.mark.parametrize("method", ["INVITE", "ACK", "CANCEL"])
def test_what_has_a_command_of_its_own_is_not_sent_as_a_request(method: str) -> None:
    with pytest.raises(ProtocolMisuse):
        core().request(method, Uri.parse("sip:home"), ALICE, BOB, FLOW, 0.0)


def test_an_invite_says_who_calls_and_what_we_can() -> None:
    outgoing = OutgoingInvite(
        Uri.parse("sip:100@10.0.0.2"), NameAddr.parse('"Анна" <sip:+7495@10.0.0.1>'), BOB, "+7495", OFFER,
        headers=(("P-Asserted-Identity", "<sip:+7495@10.0.0.1>"),), routes=("<sip:10.0.0.2;lr>",), max_forwards=20,
        call_id="mine")
    session, effects = core(user_agent="Test").invite(outgoing, FLOW, 0.0)
    assert isinstance(effects[0], Transmit)
    invite = effects[0].message
    assert isinstance(invite, Request)
    assert {name: invite.headers.get(name) for name in ("Contact", "Route", "User-Agent", "P-Asserted-Identity")} == {
        "Contact": "<sip:+7495@10.0.0.1:5060>", "Route": "<sip:10.0.0.2;lr>", "User-Agent": "Test",
        "P-Asserted-Identity": "<sip:+7495@10.0.0.1>"}
    assert (invite.max_forwards, invite.call_id, invite.from_tag) == (20, "mine", session.id)
    assert (invite.from_.display, invite.content_type) == ("Анна", "application/sdp")
    assert effects[0].flow == FLOW


@pytest.mark.parametrize(("transport", "uri", "expected"), [
    (Transport.UDP, "sip:100@h", "<sip:me@10.0.0.1:5060>"),
    (Transport.TCP, "sip:100@h", "<sip:me@10.0.0.1:5060;transport=tcp>"),
    (Transport.WSS, "sip:100@h", "<sip:me@10.0.0.1:5060;transport=wss>"),
    (Transport.TLS, "sips:100@h", "<sips:me@10.0.0.1:5060>"),            # RFC 5630 §3.1.3
])
def test_our_contact_fits_the_transport(transport: Transport, uri: str, expected: str) -> None:
    flow = FLOW._replace(transport=transport)
    _, effects = core().invite(OutgoingInvite(Uri.parse(uri), ALICE, BOB, "me"), flow, 0.0)
    assert isinstance(effects[0], Transmit)
    assert effects[0].message.headers.get("Contact") == expected


def test_a_final_response_that_cannot_be_read_ends_the_call() -> None:
    stack = core()
    session, effects = stack.invite(OutgoingInvite(Uri.parse("sip:100@h"), ALICE, BOB, "me", OFFER), FLOW, 0.0)
    assert isinstance(effects[0], Transmit)
    invite = effects[0].message
    assert isinstance(invite, Request)
    bad = parse(bytes(invite.response(200, to_tag="t", headers=[("Session-Expires", "soon")], body=ANSWER)))
    outcome = stack.receive(bad, FLOW, 0.1)
    assert [name_of(effect.message) for effect in outcome if isinstance(effect, Transmit)] == ["ACK", "BYE"]
    assert type(outcome[-1]) is Ended
    assert stack.counters.malformed == 1
    assert session.is_over


def test_ids_are_unlike_and_long() -> None:
    identify = Identifiers(Random(1))
    ids = {identify() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(one) for one in ids} == {16}
    assert ids.isdisjoint(Identifiers(Random(2))() for _ in range(1000))


def test_a_re_invite_that_cannot_be_read_is_refused_and_the_call_goes_on() -> None:
    wire = Wire()
    caller = wire.call()
    wire.settle()
    session = wire.callee.last(IncomingInvite).session
    wire.do(wire.callee, session.accept(wire.now, body=ANSWER))
    wire.settle()
    wire.do(wire.caller, caller.reoffer(OFFER, wire.now, headers=[("Session-Expires", "soon")]))
    wire.settle()
    assert wire.ladder[-2:] == ["< 400 INVITE", "> ACK"]
    assert caller.may_reoffer
    assert session.may_reoffer
    assert not any(isinstance(event, OfferReceived) for event in wire.callee.events)


def sized(request: Request, size: int) -> Request:
    request.raw = bytes(size)
    return request


CHALLENGES = (("WWW-Authenticate", "Digest first"), ("WWW-Authenticate", "Digest second"))


@pytest.mark.parametrize("method", ["INVITE", "REGISTER"])
def test_a_refusal_at_the_door_is_one_answer_and_leaves_nothing(method: str) -> None:
    stack = UserAgentCore(CoreConfig(), Random(1), lambda request, flow: Refuse(401, CHALLENGES))
    first, again = (answer(stack.receive(sized(message(method), 500), FLOW, at)) for at in (0.0, 0.5))
    assert (first.status, first.headers.get_all("WWW-Authenticate")) == (401, ["Digest first", "Digest second"])
    assert bytes(first) == bytes(again)
    assert stack.receive(message("ACK", to=str(first.to)), FLOW, 1.0) == []
    assert (stack.session_count, stack.transaction_count, stack.next_timeout) == (0, 0, None)


@pytest.mark.parametrize(("size", "challenges"), [(300, 2), (225, 1), (180, None)])
def test_a_refusal_says_no_more_than_the_length_of_the_request_allows(size: int, challenges: int | None) -> None:
    stack = UserAgentCore(CoreConfig(), Random(1), lambda request, flow: Refuse(401, CHALLENGES))
    effects = stack.receive(sized(message(), size), FLOW, 0.0)
    if challenges is None:
        assert (effects, stack.counters.withheld) == ([], 1)
    else:
        assert len(answer(effects).headers.get_all("WWW-Authenticate")) == challenges
    stream = FLOW._replace(transport=Transport.TCP, connection=1)
    assert len(answer(stack.receive(sized(message(), size), stream, 0.0)).headers.get_all("WWW-Authenticate")) == 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(150, 400)), max_size=60))
def test_nobody_is_sent_more_than_came_from_there_and_who_asks_again_is_answered(asked: list[tuple[str, int]]) -> None:
    stack = UserAgentCore(CoreConfig(), Random(1), lambda request, flow: Refuse(401, CHALLENGES))
    balance = Counter[str]()
    for host, size in asked:
        flow = FLOW._replace(remote=Address(host, 5060))
        balance[host] += size
        for effect in stack.receive(sized(message(), size), flow, 0.0):
            assert isinstance(effect, Transmit)
            balance[host] -= len(bytes(effect.message))
        assert balance[host] >= 0
    flow = FLOW._replace(remote=Address("z", 5060))
    assert any(stack.receive(sized(message(), 150), flow, 0.0) for _ in range(2))


def test_who_is_remembered_for_what_was_not_answered_is_bounded() -> None:
    balance = Balance()
    for number in range(MAX_SAVERS + 10):
        balance.move(str(number), 100_000, 0)
    assert balance.has("0") == 0
    assert balance.has(str(MAX_SAVERS + 9)) == MAX_SAVED


def test_the_cancel_and_the_repetition_of_what_was_admitted_are_not_asked_about() -> None:
    stack = core()
    stack.receive(message(), FLOW, 0.0)
    stack._admit = lambda request, flow: Admission.IGNORE
    assert answer(stack.receive(message(), FLOW, 0.1)).status == 100
    cancelled = stack.receive(message("CANCEL"), FLOW, 0.2)
    assert next(name_of(effect.message) for effect in cancelled if isinstance(effect, Transmit)) == "200 CANCEL"
