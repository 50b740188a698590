"""Whatever a stranger sends, a ladder is printable text within its limits, and without any secret of the message."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from b2bua.calls.ladder import LONGEST_LINE, messages_of, pack, sdp_word, story, unpack
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Request
from b2bua.sip.parser import parse
from b2bua.ua.ladders import FIRST, LAST, Ladder, Ladders
from tests.support.records import ANSWERED

SECRET = "s3cr3t-of-somebody"
FLOW = Flow(Transport.UDP, Address("10.0.0.1", 5060), Address("10.9.9.9", 5060))
SDP = (b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 8\r\n"
       b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + SECRET.encode() + b"\r\na=ice-pwd:" + SECRET.encode() + b"\r\n"
       b"a=fmtp:8 " + SECRET.encode() + b"\r\nk=clear:" + SECRET.encode() + b"\r\n")

BODIES = st.sampled_from([
    (b"", "application/sdp"), (SDP, "application/sdp"), (SDP[:-20], "application/sdp"),
    (f"Signal={SECRET}\r\nDuration=100\r\n".encode(), "application/dtmf-relay"), (SECRET.encode(), "text/plain"),
    (b"--b\r\nContent-Type: text/plain\r\n\r\n" + SECRET.encode() + b"\r\n--b\r\nContent-Type: application/sdp\r\n\r\n"
     + SDP + b"\r\n--b--\r\n", "multipart/mixed;boundary=b"),
    (b"v=0\r\n" + SECRET.encode(), "text/plain"),
])
WORDS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=300)
TOKENS = st.text("ABCINVTExyz-.!%*_+`'~0123456789", min_size=1, max_size=200)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    body, kind = draw(BODIES)
    method = draw(st.one_of(st.sampled_from(["INVITE", "ACK", "INFO", "BYE", "UPDATE", "REFER"]), TOKENS))
    start = draw(st.one_of(
        st.just(f"{method} sip:102:{SECRET}@10.0.0.1 SIP/2.0"),
        WORDS.map(lambda reason: f"SIP/2.0 {200 + len(reason)} {reason}")))
    cseq = draw(st.integers(0, 2**31 - 1))
    head = "\r\n".join([
        start, f"Via: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bK{SECRET}", f"From: <sip:{SECRET}@10.9.9.9>;tag={SECRET}",
        "To: <sip:102@10.0.0.1>", "Call-ID: one", f"CSeq: {cseq} {method}",
        f'Authorization: Digest username="102", response="{SECRET}"', f'Proxy-Authorization: Digest nonce="{SECRET}"',
        f"Replaces: {SECRET}", f"Refer-To: <sip:103@10.0.0.1?Replaces={SECRET}>", f"Subject: {SECRET}",
        f"Content-Type: {kind}", f"Content-Length: {len(body)}", "", ""])
    return head.encode() + body


@settings(deadline=None)
@given(st.lists(messages(), max_size=20), st.booleans())
def test_a_ladder_is_printable_bounded_and_tells_no_secret(sent: list[bytes], challenged: bool) -> None:
    ladders, ladder = Ladders(), Ladder()
    if not challenged:
        ladders.follow("one", ladder, "phone 102")
    for at, data in enumerate(sent):
        try:
            message = parse(data)
        except ParseError:
            continue
        ladders.received(message, FLOW, float(at))
        if isinstance(message, Request) and message.answerable:
            answer = message.response(200)
            ladders.sent(answer, bytes(answer), FLOW, float(at))
    if challenged:
        ladders.follow("one", ladder, "phone 102")
    kept = pack(messages_of(ladder))
    assert unpack(kept) == messages_of(ladder)
    assert len(ladder) <= FIRST + LAST
    for line in story(ANSWERED, unpack(kept), is_over=True):
        assert str(line).isprintable()
        assert len(line.text) <= LONGEST_LINE
        assert SECRET not in str(line)


@settings(deadline=None)
@given(st.binary(max_size=2_000))
@example(SDP)
@example(b"v=0\nm=audio 99999 RTP/AVP " + b"9" * 40)
@example(b"m=audio 1 RTP/AVP " + b"\xff\xfe\x1b[2J" * 8)
@example(b"m=audio 1 RTP/AVP 8\na=rtpmap:8 \x7f/8000")
def test_any_bytes_have_a_short_word(body: bytes) -> None:
    word = sdp_word(body)
    assert word.isprintable()
    assert len(word) <= LONGEST_LINE
    assert SECRET not in word
