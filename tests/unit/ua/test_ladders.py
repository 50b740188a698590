"""Whose a message is, and how much of a call is kept."""

from __future__ import annotations

import pytest

from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.message import Request
from b2bua.sip.parser import parse
from b2bua.ua.ladders import FIRST, LAST, LONGEST, MAX_BODIES, MAX_LEGS, MAX_LONE, MAX_LONE_STEPS, Ladder, Ladders

HERE, THERE = Address("10.0.0.1", 5060), Address("10.0.1.1", 5060)
FLOW = Flow(Transport.UDP, HERE, THERE)
SDP = b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"


def request(
    method: str = "INVITE", call_id: str = "one", cseq: int = 1, body: bytes = b"", kind: str = "application/sdp"
) -> Request:
    head = (f"{method} sip:102@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1;branch=z9hG4bK{cseq}{call_id}\r\n"
            f"From: <sip:1@10.0.1.1>;tag=a\r\nTo: <sip:2@10.0.0.1>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n")
    message = parse(head.encode() + body)
    assert isinstance(message, Request)
    return message


def said(ladder: Ladder) -> list[str]:
    return [f"{'<-' if one.incoming else '->'} {one.peer} {one.what}" for one in ladder]


def test_an_invite_waits_for_its_call_and_brings_its_challenge_and_its_offer() -> None:
    ladders, ladder = Ladders(), Ladder()
    first, second = request(cseq=1, body=SDP), request(cseq=2, body=SDP)
    refused = first.stateless_response(401)
    ladders.received(first, FLOW, 1.0)
    ladders.sent(refused, bytes(refused), FLOW, 1.1)
    ladders.received(request("ACK"), FLOW, 1.2)
    ladders.received(second, FLOW, 1.3)
    assert (len(ladders), ladders.lone) == (0, 1)
    ladders.follow("one", ladder, "phone 101", second)
    assert (len(ladders), ladders.lone) == (1, 0)
    assert said(ladder) == ["<- phone 101 INVITE", "-> phone 101 401", "<- phone 101 ACK", "<- phone 101 INVITE"]
    assert [one.sdp for one in ladder] == [b"", b"", b"", SDP]
    assert ladder.invited == 1.3
    ladders.received(request(call_id="two"), FLOW, 9.0)
    ladders.follow("two", ladder, "phone 102", request(call_id="two"))
    assert ladder.invited == 1.3           # by the other one it began


def test_what_belongs_to_no_call_is_not_noted() -> None:
    ladders = Ladders()
    options = request("OPTIONS")
    answer = options.response(200)
    ladders.received(options, FLOW, 1.0)
    ladders.sent(answer, bytes(answer), FLOW, 1.0)
    assert (len(ladders), ladders.lone) == (0, 0)


def test_of_strangers_only_the_last_are_remembered_and_of_each_only_a_little() -> None:
    ladders, ladder = Ladders(), Ladder()
    for number in range(MAX_LONE + 5):
        for cseq in range(MAX_LONE_STEPS + 5):
            ladders.received(request(call_id=f"c{number}", cseq=cseq, body=SDP), FLOW, 1.0)
    assert ladders.lone == MAX_LONE
    ladders.follow("c0", ladder, "phone 101")
    assert len(ladder) == 0
    ladders.follow(f"c{MAX_LONE}", ladder, "phone 101")
    assert len(ladder) == MAX_LONE_STEPS


def test_a_message_that_is_sent_again_needs_no_fields() -> None:
    ladders, ladder = Ladders(), Ladder()
    ladders.follow("one", ladder, "trunk operator")
    answer = request().response(200, body=SDP)
    answer.condense()
    for at in (1.0, 1.5):
        ladders.sent(answer, bytes(answer), FLOW, at)
    assert said(ladder) == 2 * ["-> trunk operator 200"]
    assert {(one.cseq, one.sdp) for one in ladder} == {(b"1 INVITE", SDP)}
    assert "headers" not in {name for name in answer.__slots__ if hasattr(answer, name)}


def test_compact_names_are_understood() -> None:
    ladders, ladder = Ladders(), Ladder()
    ladders.follow("one", ladder, "phone 102")
    bye = request("BYE")
    bye.abbreviate()
    ladders.sent(bye, bytes(bye), FLOW, 1.0)
    assert said(ladder) == ["-> phone 102 BYE"]


@pytest.mark.parametrize(("method", "kind", "body"), [
    ("INFO", "application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n"),
    ("MESSAGE", "text/plain", b"my password is hunter2"),
    ("INVITE", "application/pkcs7-mime", b"\x30\x82"),
])
def test_of_other_bodies_nothing_is_kept(method: str, kind: str, body: bytes) -> None:
    ladders, ladder = Ladders(), Ladder()
    ladders.follow("one", ladder, "phone 102")
    ladders.received(request(method, body=body, kind=kind), FLOW, 1.0)
    assert [one.sdp for one in ladder] == [b""]


def test_a_session_description_is_found_in_a_multipart() -> None:
    ladders, ladder = Ladders(), Ladder()
    ladders.follow("one", ladder, "phone 102")
    body = b"--x\r\nContent-Type: application/isup\r\n\r\nsecret\r\n--x\r\nContent-Type: application/sdp\r\n\r\n" + SDP
    ladders.received(request(body=body + b"--x--\r\n", kind="multipart/mixed;boundary=x"), FLOW, 1.0)
    assert [one.sdp for one in ladder] == [SDP]


def test_both_calls_of_one_call_id_have_what_is_said() -> None:
    """An operator may lead a call of ours back to us, or fork one, by the Call-ID that it has."""
    ladders, ours, back = Ladders(), Ladder(), Ladder()
    ladders.follow("one", ours, "trunk operator")
    invite = request()
    ladders.received(invite, FLOW, 1.0)
    ladders.follow("one", back, "trunk operator", invite)
    ladders.received(request("BYE", cseq=2), FLOW, 2.0)
    assert said(ours) == ["<- trunk operator INVITE", "<- trunk operator BYE"]
    assert said(back)[-1] == "<- trunk operator BYE"
    ladders.over(back)
    ladders.received(request("BYE", cseq=3), FLOW, 3.0)
    assert (len(ours), len(ladders)) == (3, 1)
    ladders.over(ours)
    assert len(ladders) == 0


def test_the_other_of_the_two_may_end_first() -> None:
    ladders, ours, back = Ladders(), Ladder(), Ladder()
    ladders.follow("one", ours, "trunk operator")
    ladders.follow("one", back, "trunk operator", request())
    ladders.over(ours)
    ladders.received(request("BYE", cseq=3), FLOW, 3.0)
    assert (len(ours), len(back)) == (0, 1)
    ladders.over(back)
    assert len(ladders) == 0


def test_a_leg_that_moves_is_the_other_calls_from_then_on() -> None:
    ladders, before, after = Ladders(), Ladder(), Ladder()
    ladders.follow("one", before, "phone 103")
    ladders.follow("one", after, "phone 103")
    ladders.received(request("BYE"), FLOW, 1.0)
    ladders.over(before)
    ladders.received(request("BYE", cseq=2), FLOW, 1.5)
    assert (len(before), len(after)) == (0, 2)
    ladders.over(after)
    assert len(ladders) == 0


def test_a_call_that_is_over_follows_nobody() -> None:
    ladders, ladder = Ladders(), Ladder()
    ladders.over(ladder)
    ladders.follow("one", ladder, "phone 103")
    assert len(ladders) == 0


def test_a_call_that_rings_for_ever_follows_its_last_legs() -> None:
    ladders, ladder = Ladders(), Ladder()
    for number in range(MAX_LEGS + 10):
        ladders.follow(f"c{number}", ladder, "phone 103")
    assert len(ladders) == MAX_LEGS
    ladders.received(request("BYE", "c0"), FLOW, 1.0)
    ladders.received(request("BYE", f"c{MAX_LEGS}"), FLOW, 1.0)
    assert len(ladder) == 1


def test_of_many_messages_the_first_and_the_last_are_kept() -> None:
    ladder = Ladder()
    for number in range(FIRST + LAST + 7):
        ladder.happened(f"{number}", float(number))
    assert [one.what for one in ladder] == [
        f"{number}" for number in (*range(FIRST), *range(FIRST + 7, FIRST + LAST + 7))]
    assert (len(ladder), ladder.left_out) == (FIRST + LAST, 7)


def test_session_descriptions_of_a_call_are_kept_up_to_a_size_and_the_last_ones_always() -> None:
    ladders, ladder = Ladders(), Ladder()
    ladders.follow("one", ladder, "phone 103")
    large = SDP + b"a=x\r\n" * ((MAX_BODIES // 4 - len(SDP)) // 5)
    for cseq in range(5):
        ladders.received(request(cseq=cseq, body=large), FLOW, 1.0)
    assert [bool(one.sdp) for one in ladder] == [True, True, True, True, False]
    for cseq in range(5, 5 + FIRST + LAST):
        ladders.received(request(cseq=cseq, body=SDP), FLOW, 1.0)
    assert sum(len(one.sdp) for one in ladder) <= MAX_BODIES


def test_a_peers_words_are_kept_short() -> None:
    ladders, ladder = Ladders(), Ladder()
    ladders.follow("one", ladder, "phone 103")
    long = request("X" * 5_000)
    ladders.received(long, FLOW, 1.0)
    answer = long.response(405, "No " * 5_000)
    ladders.sent(answer, bytes(answer), FLOW, 1.0)
    for one in ladder:
        assert max(len(str(one.what)), len(one.reason), len(one.cseq[1] if one.incoming else one.cseq)) <= LONGEST
