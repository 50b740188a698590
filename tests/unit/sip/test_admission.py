"""Answers without a transaction: never more bytes than came, and what is left out when there is too little room."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2bua.sip.admission import Answer, Balance, Refuse, stateless
from b2bua.sip.core import CoreConfig, UserAgentCore
from b2bua.sip.effects import Address, Effect, Flow, Transmit, Transport
from b2bua.sip.message import Request, Response
from b2bua.sip.parser import parse

PHONE = Flow(Transport.UDP, Address("10.0.0.1", 5060), Address("203.0.113.201", 60022))
EXTRAS = UserAgentCore(CoreConfig(), Random(1)).capabilities
CAPABLE = Answer(200, extras=EXTRAS)
BEHIND_NAT = "SIP/2.0/UDP 192.168.1.20:5062;branch=z9hG4bK776asdhds;rport"
NAMED = (("From", "<sip:101@pbx.example.com>;tag=49583"), ("To", "<sip:101@pbx.example.com>"),
         ("Call-ID", "0f6c3e1d7b9a4c52@192.168.1.20"), ("CSeq", "20 OPTIONS"))


def asks(*fields: tuple[str, str], uri: str = "sip:pbx.example.com", method: str = "OPTIONS") -> Request:
    lines = [f"{method} {uri} SIP/2.0", *(f"{name}: {value}" for name, value in fields), "", ""]
    request = parse("\r\n".join(lines).replace(" OPTIONS\r\n", f" {method}\r\n").encode())
    assert isinstance(request, Request)
    return request


def core(answer: Answer = CAPABLE) -> UserAgentCore:
    return UserAgentCore(CoreConfig(), Random(1), lambda request, flow: answer)


def sent(effects: list[Effect]) -> Response | None:
    if not effects:
        return None
    (effect,) = effects
    assert isinstance(effect, Transmit)
    assert isinstance(effect.message, Response)
    return effect.message


WAYS_TO_ASK = {
    "a phone behind NAT": asks(
        ("Via", BEHIND_NAT), *NAMED, ("Contact", "<sip:101@192.168.1.20:5062>"), ("Max-Forwards", "70"),
        ("User-Agent", "Some Phone 1.2.3"), ("Allow", "INVITE, ACK, OPTIONS, CANCEL, BYE"), ("Content-Length", "0")),
    "a phone of few words": asks(
        ("Via", BEHIND_NAT), *NAMED, ("Max-Forwards", "70"), ("Content-Length", "0")),
    "a phone that counts its bytes": asks(
        ("v", BEHIND_NAT), ("f", NAMED[0][1]), ("t", NAMED[1][1]), ("i", NAMED[2][1]), ("CSeq", "20 OPTIONS"),
        ("Max-Forwards", "70"), ("m", "<sip:101@192.168.1.20:5062>"), ("l", "0")),
    "a proxy that keeps its destinations": asks(
        ("Via", "SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK4ad5.b2c8c1f0.0"), *NAMED, ("Max-Forwards", "70"),
        ("User-Agent", "a proxy"), ("Content-Length", "0")),
    "a pinger that leaves out what it must say": asks(
        ("Via", "SIP/2.0/UDP 10.0.0.2:5060;branch=0"), *NAMED, ("Content-Length", "0"), uri="sip:10.0.0.1:5060"),
}


@pytest.mark.parametrize("who", WAYS_TO_ASK)
def test_however_phones_and_operators_keep_alive_they_get_a_200_each_time_they_ask(who: str) -> None:
    stack, request, saved = core(), WAYS_TO_ASK[who], 0
    for number in range(30):
        again = parse(request.raw.replace(b"20 OPTIONS", b"%d OPTIONS" % (20 + number)))
        response = sent(stack.receive(again, PHONE, 60.0 * number))
        assert response is not None
        assert response.status == 200
        # As it comes out of the socket, whichever names its fields have.
        read = parse(bytes(response))
        assert (read.call_id, read.cseq, str(read.from_)) == (again.call_id, again.cseq, str(again.from_))
        assert read.to_tag
        saved += len(again.raw) - len(bytes(response))
        assert saved >= 0
    assert (stack.transaction_count, stack.next_timeout, stack.counters.withheld) == (0, None, 0)


def test_the_same_request_gets_the_same_answer_and_another_one_another_tag() -> None:
    stack, request = core(), WAYS_TO_ASK["a phone behind NAT"]
    first, again = (sent(stack.receive(parse(request.raw), PHONE, at)) for at in (0.0, 0.5))
    other = sent(stack.receive(parse(request.raw.replace(b"776asdhds", b"887")), PHONE, 1.0))
    assert first is not None
    assert again is not None
    assert other is not None
    assert bytes(first) == bytes(again)
    assert first.to_tag != other.to_tag


def test_what_we_can_do_is_told_as_far_as_the_length_of_the_request_goes() -> None:
    told = []
    for padding in range(0, 400, 20):
        response = stateless(CAPABLE, asks(("Via", BEHIND_NAT), *NAMED, ("X-Padding", "x" * padding)), PHONE, Balance())
        assert response is not None
        told.append([field for field in response.headers if field in EXTRAS])
    assert told[0] == []
    assert told[-1] == list(EXTRAS)
    assert [len(fields) for fields in told] != [0] * 10 + [len(EXTRAS)] * 10        # not all or nothing
    stream = PHONE._replace(transport=Transport.TCP, connection=1)
    response = stateless(CAPABLE, asks(("Via", BEHIND_NAT), *NAMED), stream, Balance())
    assert response is not None
    assert set(EXTRAS) <= set(response.headers)


def test_what_was_saved_is_not_spent_on_what_may_be_left_out() -> None:
    balance, request = Balance(), asks(("Via", BEHIND_NAT), *NAMED)
    balance.move(PHONE.remote.host, 4000, 0)
    response = stateless(CAPABLE, request, PHONE, balance)
    assert response is not None
    assert not set(EXTRAS) & set(response.headers)
    assert balance.has(PHONE.remote.host) == 4000 + len(request.raw) - len(bytes(response))


FIELDS = st.tuples(st.sampled_from(["Allow", "Accept", "Server", "Retry-After"]), st.text("ab, ж", max_size=80))
ANSWERS = st.builds(Answer, st.sampled_from([200, 401, 405, 481]), st.lists(FIELDS, max_size=2).map(tuple),
                    st.lists(FIELDS, max_size=4).map(tuple))
ASKED = st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.integers(0, 300))


@given(ANSWERS, st.lists(ASKED, max_size=40))
def test_no_address_is_sent_more_than_came_from_there_whatever_is_asked_and_answered(
    answer: Answer, asked: list[tuple[str, int, int]],
) -> None:
    stack, balance, count = core(answer), Counter[str](), Counter[str]()
    for number, (host, vias, padding) in enumerate(asked):
        hops = [("Via", f"SIP/2.0/UDP h{hop};branch=z9hG4bK{number};rport") for hop in range(vias)]
        request = asks(*hops, ("From", "sip:a"), ("To", "sip:a"), ("Call-ID", f"{number}"), ("CSeq", "1 OPTIONS"),
                       ("X-Padding", "x" * padding))
        flow = PHONE._replace(remote=Address(host, 5060))
        balance[host] += len(request.raw)
        count[host] += 1
        response = sent(stack.receive(request, flow, 0.0))
        if response is not None:
            balance[host] -= len(bytes(response))
            assert {field[0] for field in answer.headers[:1]} <= {field[0] for field in response.headers}
        assert balance[host] >= 0
    assert (stack.transaction_count, stack.next_timeout) == (0, None)
    assert stack.counters.refused == 0


@pytest.mark.parametrize(("field", "status", "shown"), [
    (("Require", "foo"), 420, ("Unsupported", "foo")),
    (("Content-Encoding", "gzip"), 415, ("Accept-Encoding", "identity")),
    (("Max-Forwards", "0"), 483, None),
    (("Max-Forwards", "many"), 400, None),
    (("To", "<sip:101@pbx.example.com>;tag=gone"), 481, None),
    (("X-Padding", "y"), 200, None),
])
def test_what_is_wrong_with_a_request_itself_is_told_first_but_not_to_who_may_not_come_in(
    field: tuple[str, str], status: int, shown: tuple[str, str] | None,
) -> None:
    fields = [other for other in NAMED if other[0] != field[0]]
    request = asks(("Via", BEHIND_NAT), *fields, field, ("X-Padding", "x" * 60))
    for answer, expected in ((CAPABLE, status), (Refuse(489), 489)):
        stack = core(answer)
        response = sent(stack.receive(parse(request.raw), PHONE, 0.0))
        assert response is not None
        assert response.status == expected
        assert shown is None or answer is not CAPABLE or shown in list(response.headers)
        assert (stack.transaction_count, stack.next_timeout) == (0, None)
        assert stack.counters.malformed == (expected == 400)


def test_a_method_that_we_do_not_know_is_answered_with_those_that_we_do() -> None:
    request = asks(("Via", BEHIND_NAT), *NAMED, ("X-Padding", "x" * 200), method="XYZZY")
    response = sent(core(Answer(481)).receive(request, PHONE, 0.0))
    assert response is not None
    assert (response.status, response.headers.get("Allow")) == (405, EXTRAS[0][1])


def test_what_a_client_must_read_besides_the_status_is_not_abbreviated_but_waits_until_it_asks_again() -> None:
    request = asks(("Via", BEHIND_NAT), *NAMED, method="REGISTER")
    stack = core(Refuse(401, (("WWW-Authenticate", "Digest one"),)))
    assert stack.receive(parse(request.raw), PHONE, 0.0) == []
    response = sent(stack.receive(parse(request.raw), PHONE, 0.5))
    assert response is not None
    assert b"\r\nCall-ID: " in bytes(response)
