"""What each party is told of telephone-event (RFC 4733) and of T.38, whatever the other one has."""

from __future__ import annotations

import pytest

from b2bua.sdp.negotiation import Face, NotAcceptable, relay_answer, relay_offer
from b2bua.sdp.session import parse

HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
EVENTS = "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
FAX = "m=image 4002 udptl t38\r\na=T38FaxVersion:0\r\na=T38FaxFillBitRemoval\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n"


def face() -> Face:
    return Face("198.51.100.1", 20000, 7)


def described(media: str) -> bytes:
    return (HEAD + media).encode()


def media_of(body: bytes) -> list[str]:
    lines = body.decode().splitlines()
    return lines[next(index for index, line in enumerate(lines) if line.startswith("m=")):]


def offered(media: str) -> list[str]:
    return media_of(relay_offer(parse(described(media)), face()).body)


def answered(offer: str, answer: str) -> list[str]:
    return media_of(relay_answer(parse(described(answer)), parse(described(offer)), face()).body)


def test_who_has_no_events_is_offered_to_others_with_them() -> None:
    assert offered("m=audio 4000 RTP/AVP 8\r\na=ptime:20\r\n") == [
        "m=audio 20000 RTP/AVP 8 101", "a=ptime:20", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15",
        "a=sendrecv"]


def test_a_number_that_is_free_is_taken() -> None:
    lines = offered("m=audio 4000 RTP/AVP 8 101 96\r\na=rtpmap:101 opus/48000/2\r\na=rtpmap:96 speex/8000\r\n")
    assert lines[0] == "m=audio 20000 RTP/AVP 8 101 96 97"
    assert "a=rtpmap:97 telephone-event/8000" in lines


@pytest.mark.parametrize("media", [
    f"m=audio 4000 RTP/AVP 8 101\r\n{EVENTS}",
    "m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n",
])
def test_who_has_events_or_no_voice_of_their_clock_is_offered_as_it_is(media: str) -> None:
    assert offered(media)[1:-1] == media.splitlines()[1:]


def test_the_offerer_keeps_its_events_when_the_answer_has_none() -> None:
    offer = "m=audio 4000 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-11\r\n"
    assert answered(offer, "m=audio 5000 RTP/AVP 8\r\n") == [
        "m=audio 20000 RTP/AVP 8 96", "a=rtpmap:96 telephone-event/8000", "a=fmtp:96 0-15", "a=sendrecv"]


def test_only_events_of_the_clock_that_was_agreed_on_are_kept() -> None:
    offer = ("m=audio 4000 RTP/AVP 97 8 96 98\r\na=rtpmap:97 opus/48000/2\r\na=rtpmap:96 telephone-event/48000\r\n"
             "a=rtpmap:98 telephone-event/8000\r\n")
    assert answered(offer, "m=audio 5000 RTP/AVP 8\r\n")[0] == "m=audio 20000 RTP/AVP 8 98"


def test_a_number_that_the_answer_uses_for_something_else_is_not_given_twice() -> None:
    offer = "m=audio 4000 RTP/AVP 8 97 96\r\na=rtpmap:97 speex/8000\r\na=rtpmap:96 telephone-event/8000\r\n"
    lines = answered(offer, "m=audio 5000 RTP/AVP 96\r\na=rtpmap:96 speex/8000\r\n")
    assert lines == ["m=audio 20000 RTP/AVP 96", "a=rtpmap:96 speex/8000", "a=sendrecv"]


def test_who_offered_no_events_is_answered_without_and_the_answerers_are_known() -> None:
    offer, answer = "m=audio 4000 RTP/AVP 8\r\n", f"m=audio 5000 RTP/AVP 8 101\r\n{EVENTS}"
    relayed = relay_answer(parse(described(answer)), parse(described(offer)), face())
    assert media_of(relayed.body) == ["m=audio 20000 RTP/AVP 8", "a=sendrecv"]
    assert relayed.stream.codecs == {8: "PCMA/8000", 101: "telephone-event/8000"}


def test_a_fax_is_shown_with_our_address_and_its_own_attributes() -> None:
    relayed = relay_offer(parse(described(FAX)), face())
    assert media_of(relayed.body) == ["m=image 20000 udptl t38", *FAX.splitlines()[1:], "a=sendrecv"]
    assert relayed.stream.fax
    assert b"c=IN IP4 198.51.100.1" in relayed.body


@pytest.mark.parametrize("first", ["m=audio 0 RTP/AVP 8\r\n", ""])
def test_a_fax_beside_a_refused_audio_keeps_its_line(first: str) -> None:
    lines = answered(first + FAX, first + FAX.replace("4002", "5002").replace("udptl", "UDPTL"))
    assert [line for line in lines if line.startswith("m=")] == [
        *first.splitlines(), "m=image 20000 udptl t38"]


def test_of_audio_and_fax_offered_together_the_audio_is_carried() -> None:
    lines = offered("m=audio 4000 RTP/AVP 8\r\n" + FAX)
    assert [line for line in lines if line.startswith("m=")] == ["m=audio 20000 RTP/AVP 8 101", "m=image 0 udptl t38"]


@pytest.mark.parametrize("answer", ["m=image 0 udptl t38\r\n", "m=audio 5000 RTP/AVP 8\r\n", ""])
def test_a_fax_that_the_answer_does_not_take(answer: str) -> None:
    with pytest.raises(NotAcceptable):
        answered(FAX, answer)
