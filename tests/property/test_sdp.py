"""Session descriptions: whatever comes, nothing but SdpError and NotAcceptable; what is read, is written again."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.sdp.negotiation import PLAIN_VOICE, Face, NotAcceptable, encodings, less, narrowed, relay_answer, relay_offer
from b2bua.sdp.session import SdpError, SessionDescription, parse

FACE = Face("198.51.100.1", 20000, 1)
PARTS = st.sampled_from([
    "v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", "t=0 0", "c=IN IP4 192.0.2.1", "c=IN IP6 ::1", "c=IN IP4 0.0.0.0",
    "c=IN IP4 name.example", "c=IN IP4", "m=audio 4000 RTP/AVP 8 0 101", "m=audio 0 RTP/AVP 8", "m=audio 1 RTP/AVP x",
    "m=video 9 RTP/AVP 96", "m=audio 7 RTP/SAVP 0", "a=rtpmap:101 telephone-event/8000", "a=rtpmap:8 PCMA/8000",
    "a=rtpmap:8", "a=rtpmap:101 x/0", "a=fmtp:101 0-16", "a=sendonly", "a=inactive", "a=rtcp:4", "a=rtcp:x", "a=rtcp:",
    "a=ice-ufrag:x", "a=", "b=AS:64", "k=clear:x", "a=fmtp:", "m=", "a=rtpmap:999 x/1",
])
SOUP = st.lists(st.one_of(PARTS, st.text(max_size=20)), max_size=15).map(
    lambda lines: "\r\n".join(["v=0", "o=- 1 1 IN IP4 192.0.2.1", *lines]).encode())


def read(body: bytes) -> SessionDescription | None:
    try:
        return parse(body)
    except SdpError:
        return None


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_random_bytes_raise_nothing_but_sdp_error(body: bytes) -> None:
    read(body)


@given(SOUP, SOUP)
@settings(max_examples=300)
def test_any_offer_and_any_answer_are_carried_or_refused(offer_body: bytes, answer_body: bytes) -> None:
    offer, answer = read(offer_body), read(answer_body)
    if offer is None:
        return
    with suppress(SdpError, NotAcceptable):
        assert len(parse(relay_offer(offer, FACE).body).media) == len(offer.media)
        if answer is not None:
            carried = relay_answer(answer, offer, FACE)
            assert len(parse(carried.body).media) == len(offer.media)
            assert set(carried.stream.codecs.values()) <= {
                codec for media in answer.media if media.kind == "audio" and media.protocol == "RTP/AVP"
                for codec in media.codecs().values()}


@given(SOUP)
@settings(max_examples=300)
def test_what_was_read_is_written_again_and_read_as_the_same(body: bytes) -> None:
    description = read(body)
    if description is not None:
        assert parse(bytes(description)) == description
        assert bytes(parse(bytes(description))) == bytes(description)


@given(SOUP, st.one_of(SOUP, st.binary(max_size=100)))
@settings(max_examples=300)
def test_what_is_offered_again_is_less_and_nothing_else(offer: bytes, refusal: bytes) -> None:
    found = less(offer, refusal)
    if found is None:
        return
    body, codecs = found
    before, after = parse(offer), parse(body)
    assert [media.kind for media in after.media] == [media.kind for media in before.media]
    assert sum(media.port > 0 for media in after.media) == 1
    assert set(encodings(body)) <= set(encodings(offer))
    assert after.lines == before.lines
    assert {line for media in after.media for line in media.lines} <= {
        line for media in before.media for line in media.lines}
    assert narrowed(body, codecs) == body
    assert relay_offer(after, FACE).stream.endpoint == relay_offer(before, FACE).stream.endpoint
    assert less(body, refusal) is None
    assert codecs == PLAIN_VOICE or read(refusal) is not None
