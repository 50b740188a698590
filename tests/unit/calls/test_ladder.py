"""How a call is told."""

from __future__ import annotations

import zlib
from dataclasses import replace
from datetime import timedelta

import pytest

from b2bua.calls.ladder import (
    MAX_PACKED,
    Line,
    Messages,
    Step,
    UnreadableLadder,
    from_plain,
    messages_of,
    no_messages,
    pack,
    printable,
    sdp_word,
    story,
    title,
    to_plain,
    unpack,
)
from b2bua.cdr import EndReason
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.fields import CSeq
from b2bua.ua.ladders import FIRST, Ladder, Noted
from tests.support.records import ANSWERED, NOON, record

HEAD = b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n"
STEPS = Messages((Step(0.0, "in", "trunk operator at 10.0.1.1:5060", "INVITE (CSeq 1)", "PCMA; audio 10.0.0.1:4000"),
                  Step(1.25, "", "", "the CRM shows user 77 the pop-up")), 3)


@pytest.mark.parametrize(("sdp", "word"), [
    (HEAD + b"m=audio 4000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\n",
     "PCMA, PCMU, telephone-event; audio 10.0.0.1:4000"),
    (HEAD + b"m=audio 4000 RTP/AVP 96 97\r\na=rtpmap:96 opus/48000/2\r\n", "opus, 97; audio 10.0.0.1:4000"),
    (HEAD + b"m=audio 4000 RTP/AVP 8\r\nc=IN IP6 2001:db8::7\r\na=sendonly\r\n",
     "PCMA; audio 2001:db8::7:4000; hold (sendonly)"),
    (HEAD + b"a=inactive\r\nm=audio 4000 RTP/AVP 8\r\n", "PCMA; audio 10.0.0.1:4000; hold (inactive)"),
    (HEAD + b"m=audio 4000 RTP/AVP 8\r\na=recvonly\r\n", "PCMA; audio 10.0.0.1:4000; recvonly"),
    (HEAD.replace(b"10.0.0.1\r\nt", b"0.0.0.0\r\nt") + b"m=audio 4000 RTP/AVP 8\r\n", "PCMA; audio 0.0.0.0:4000; hold"),
    (HEAD + b"m=audio 0 RTP/AVP 8\r\n", "PCMA; no audio"),
    (HEAD + b"m=audio 4000 RTP/SAVP 8\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0c2VjcmV0\r\n",
     "PCMA; audio 10.0.0.1:4000; SRTP"),
    (HEAD + b"m=image 4002 udptl t38\r\n", "T.38; image 10.0.0.1:4002"),
    (HEAD + b"m=audio 0 RTP/AVP 8\r\na=sendonly\r\nm=image 4002 udptl t38\r\n", "PCMA; no audio; hold (sendonly)"),
    (HEAD + b"m=video 4002 RTP/AVP 99\r\n", "SDP without audio"),
    (HEAD.replace(b"\r\n", b"\n") + b"m=audio 4000 RTP/AVP 8\n", "PCMA; audio 10.0.0.1:4000"),
    (b"v=0 no lines at all", "SDP without audio"),
    (HEAD + b"m=audio 4000 RTP/AVP " + b" ".join(b"%d" % number for number in range(96, 116)) + b"\r\n",
     "96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107 and 8 more; audio 10.0.0.1:4000"),
])
def test_a_few_words_on_a_session_description(sdp: bytes, word: str) -> None:
    assert sdp_word(sdp) == word


def test_a_ladder_comes_back_as_it_was_kept() -> None:
    assert unpack(pack(STEPS)) == STEPS
    assert from_plain(to_plain(STEPS)) == STEPS
    assert unpack(pack(Messages(()))) == Messages(())


@pytest.mark.parametrize("packed", [
    b"", b"not compressed", pack(STEPS)[:-3], zlib.compress(b"[]"), zlib.compress(b"{}"), zlib.compress(b'[0, [[1]]]'),
    zlib.compress(b'["x", []]'), zlib.compress(b"\xff"), zlib.compress(b" " * (MAX_PACKED + 1)),
    zlib.compress(b"[" * 900_000),
])
def test_what_is_no_ladder_says_so(packed: bytes) -> None:
    with pytest.raises(UnreadableLadder):
        unpack(packed)


def noted(at: float, what: str | int = "INVITE", *, incoming: bool = True, reason: str = "",
          remote: Address = Address("10.0.1.1", 5060), transport: Transport = Transport.UDP) -> Noted:
    flow = Flow(transport, Address("10.0.0.1", 5060), remote)
    cseq = CSeq(7, "INVITE") if incoming else b"7 INVITE"
    return Noted(at, incoming, "trunk operator", flow, what, reason, cseq, b"")


def test_a_message_in_words() -> None:
    ladder = Ladder()
    ladder.began, ladder.invited = 100.0, 99.99
    ladder.add(*noted(99.49))
    ladder.add(*noted(99.99))
    ladder.add(*noted(100.0, 183, incoming=False, reason="Session Progress"))
    ladder.add(*noted(101.2345, remote=Address("2001:db8::1", 5061), transport=Transport.TLS))
    ladder.happened("recording rec-1 begins", 102.0)
    assert messages_of(ladder).steps == (
        Step(-0.5, "in", "trunk operator at 10.0.1.1:5060", "INVITE (CSeq 7)"),
        Step(0.0, "in", "trunk operator at 10.0.1.1:5060", "INVITE (CSeq 7)"),
        Step(0.0, "out", "trunk operator at 10.0.1.1:5060", "183 Session Progress (CSeq 7 INVITE)"),
        Step(1.234, "in", "trunk operator at [2001:db8::1]:5061 TLS", "INVITE (CSeq 7)"),
        Step(2.0, "", "", "recording rec-1 begins"),
    )


CALL = replace(ANSWERED, why=("+74957654321 goes to 101", "101 answered"), why_after=(0.0, 6.0), cause=16)


def test_the_whole_story_is_in_order() -> None:
    messages = Messages((
        Step(0.0, "in", "trunk operator at 10.0.1.1:5060", "INVITE (CSeq 1)", "PCMA; audio 10.0.0.1:4000"),
        Step(0.0, "out", "trunk operator at 10.0.1.1:5060", "100 Trying (CSeq 1 INVITE)"),
        Step(0.0, "out", "phone 101 at 10.0.2.101:5060", "INVITE (CSeq 1)"),
        Step(1.25, "in", "phone 101 at 10.0.2.101:5060", "180 Ringing (CSeq 1 INVITE)"),
        Step(1.25, "out", "trunk operator at 10.0.1.1:5060", "180 Ringing (CSeq 1 INVITE)"),
        Step(1.3, "", "", "the CRM shows user 77 the pop-up"),
        Step(6.0, "in", "phone 101 at 10.0.2.101:5060", "200 OK (CSeq 1 INVITE)"),
        Step(6.5, "in", "phone 101 at 10.0.2.101:5060", "200 OK (CSeq 1 INVITE)"),
        Step(66.0, "in", "trunk operator at 10.0.1.1:5060", "BYE (CSeq 2)"),
    ))
    more = [Line(None, "recording", "recording rec-1: not ready yet"), Line(66.2, "crm", "outbox 1: delivered")]
    assert [str(line) for line in story(CALL, messages, more, is_over=True)] == [
        "    0.000  <- trunk operator at 10.0.1.1:5060  INVITE (CSeq 1): PCMA; audio 10.0.0.1:4000",
        "    0.000  -> trunk operator at 10.0.1.1:5060  100 Trying (CSeq 1 INVITE)",
        "    0.000     +74957654321 goes to 101",
        "    0.000  -> phone 101 at 10.0.2.101:5060  INVITE (CSeq 1)",
        "    1.250  <- phone 101 at 10.0.2.101:5060  180 Ringing (CSeq 1 INVITE)",
        "    1.250     it rings",
        "    1.250  -> trunk operator at 10.0.1.1:5060  180 Ringing (CSeq 1 INVITE)",
        "    1.300     the CRM shows user 77 the pop-up",
        "    6.000  <- phone 101 at 10.0.2.101:5060  200 OK (CSeq 1 INVITE)",
        "    6.000     101 answered",
        "    6.000     answered",
        "    6.500  <- phone 101 at 10.0.2.101:5060  200 OK (CSeq 1 INVITE) again",
        "   66.000  <- trunk operator at 10.0.1.1:5060  BYE (CSeq 2)",
        "   66.000     ended by caller: hung up (answered, 200, cause 16, 60 s of talk)",
        "   66.200     outbox 1: delivered",
        "              recording rec-1: not ready yet",
    ]


def test_without_messages_the_record_is_told() -> None:
    unanswered = replace(CALL, answered_at=None, rang_at=None, status=404, why=("nobody has it",), why_after=(0.001,),
                         reason=EndReason.NOTHING_TO_RING, cause=None, ended_at=NOON + timedelta(seconds=0.002))
    assert [(line.after, line.text) for line in story(unanswered, None, is_over=True)] == [
        (0.001, "nobody has it"), (0.002, "ended by caller: nothing to ring (answered, 404)")]
    assert "log.call_trace_days" in no_messages(unanswered)
    assert "died" in no_messages(replace(unanswered, reason=EndReason.RESTARTED))


def test_decisions_whose_times_are_not_known_are_told_without() -> None:
    assert [line for line in story(ANSWERED, None, is_over=True) if line.kind == "decided"] == [
        Line(None, "decided", why) for why in ANSWERED.why]


def test_what_was_left_out_is_told_where_it_stood() -> None:
    steps = tuple(Step(float(number), "", "", f"{number}") for number in range(FIRST + 1))
    said = story(CALL, Messages(steps, 5), is_over=False)
    place = next(place for place, line in enumerate(said) if line.kind == "left out")
    assert said[place] == Line(float(FIRST), "left out", "… 5 messages in between were not kept")
    assert said[place + 1].text == f"{FIRST}"


def test_a_title_says_which_call_it_is() -> None:
    assert title(CALL, is_over=False).endswith("; in progress")
    said = title(record(caller="", trunk=None), is_over=True)
    assert said.startswith("call c-1 of acme: inbound, withheld calls +74957654321; 2026-03-02 ")
    assert said.endswith("; answered, hung up")
    assert "\x1b" not in title(record(caller="\x1b[2J"), is_over=True)


def test_text_of_strangers_is_one_line_of_a_terminal() -> None:
    assert printable("a\x1b[2J\r\n\u202eb\ud800", 50) == "a\ufffd[2J\ufffd\ufffd\ufffdb\ufffd"
    assert printable("x" * 50, 10) == "x" * 9 + "…"
