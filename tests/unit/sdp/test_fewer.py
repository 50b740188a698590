"""The second offer to who refused the first."""

from __future__ import annotations

import pytest

from b2bua.sdp.fewer import fewer_codecs

HEAD = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
OPUS = b"a=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=1\r\n"
EVENTS = b"a=rtpmap:101 telephone-event/8000\r\n"
OFFER = HEAD + b"m=audio 4000 RTP/AVP 111 9 8 0 101\r\n" + OPUS + EVENTS + b"a=sendrecv\r\n"


@pytest.mark.parametrize(("refusal", "formats"), [
    (b"", b"8 0 101"), (b"nonsense", b"8 0 101"), (HEAD + b"m=audio 0 RTP/AVP 9\r\n", b"9"),
    (HEAD + b"m=audio 0 RTP/AVP 101\r\n" + EVENTS, b"8 0 101"),
])
def test_what_the_refusal_names_is_left_else_plain_codecs(refusal: bytes, formats: bytes) -> None:
    again = fewer_codecs(OFFER, refusal)
    assert b"m=audio 4000 RTP/AVP " + formats + b"\r\n" in again
    assert b"opus" not in again
    assert (b"telephone-event" in again) == (b"101" in formats)


@pytest.mark.parametrize(("offer", "refusal"), [
    (b"", b""), (HEAD + b"m=audio 4000 RTP/AVP 8 0\r\n", b""), (HEAD + b"m=audio 4000 RTP/AVP 9\r\n", b""),
    (OFFER, HEAD + b"m=audio 0 RTP/AVP 18\r\n"),
])
def test_nothing_is_left_or_nothing_is_new(offer: bytes, refusal: bytes) -> None:
    assert fewer_codecs(offer, refusal) == b""


def test_other_media_are_not_offered_again() -> None:
    again = fewer_codecs(HEAD + b"m=audio 4000 RTP/AVP 8\r\nm=video 4002 RTP/AVP 96\r\n", b"")
    assert again.endswith(b"m=audio 4000 RTP/AVP 8\r\nm=video 0 RTP/AVP 96\r\n")
