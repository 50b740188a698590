"""What we say of ourselves when we play: G.711, telephone-event as to everybody, and an answer that fits its offer."""

from __future__ import annotations

import pytest

from b2bua.sdp.negotiation import Face, NotAcceptable, relay_answer, relay_offer
from b2bua.sdp.own import own_answer, own_offer
from b2bua.sdp.session import SessionDescription, parse


def face() -> Face:
    return Face("192.0.2.1", 20000, 7)


def offered(media: str, direction: str = "a=sendrecv\r\n") -> SessionDescription:
    head = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
    return parse(f"{head}{media}{direction}".encode())


def answered(offer: SessionDescription) -> list[str]:
    body = relay_answer(own_answer(offer), offer, face()).body
    return body.decode().splitlines()


@pytest.mark.parametrize(
    ("codecs", "taken"),
    [("8 0 101", "8 0 101"), ("0", "0"), ("18 8 9", "8"), ("97", "97")],
)
def test_the_answer_takes_what_is_g711_by_the_offers_numbers(codecs: str, taken: str) -> None:
    maps = "a=rtpmap:97 pcmu/8000\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:30\r\n"
    lines = answered(offered(f"m=audio 4000 RTP/AVP {codecs}\r\n{maps}"))
    assert f"m=audio 20000 RTP/AVP {taken}" in lines
    assert "c=IN IP4 192.0.2.1" in lines
    assert lines[-1] == "a=sendrecv"
    assert not any("invalid" in line for line in lines)


@pytest.mark.parametrize(
    ("said", "answer"),
    [("sendrecv", "sendrecv"), ("recvonly", "sendonly"), ("sendonly", "recvonly"), ("inactive", "inactive")],
)
def test_the_answers_direction_fits(said: str, answer: str) -> None:
    assert answered(offered("m=audio 4000 RTP/AVP 8\r\n", f"a={said}\r\n"))[-1] == f"a={answer}"


def test_other_media_are_refused_in_their_place() -> None:
    media = "m=video 4002 RTP/AVP 99\r\nm=audio 4000 RTP/AVP 8\r\nm=image 4004 udptl t38\r\n"
    heads = [line for line in answered(offered(media)) if line.startswith("m=")]
    assert heads == ["m=video 0 RTP/AVP 99", "m=audio 20000 RTP/AVP 8", "m=image 0 udptl t38"]


@pytest.mark.parametrize("media", [
    "m=audio 4000 RTP/AVP 18\r\n", "m=audio 4000 RTP/AVP 101\r\n", "m=audio 0 RTP/AVP 8\r\n",
    "m=audio 4000 RTP/SAVP 8\r\n", "m=video 4000 RTP/AVP 99\r\n",
])
def test_without_g711_there_is_no_answer(media: str) -> None:
    with pytest.raises(NotAcceptable):
        answered(offered(media))


def test_our_offer_is_g711_and_an_answer_to_it_is_understood() -> None:
    lines = relay_offer(own_offer(), face()).body.decode().splitlines()
    assert "m=audio 20000 RTP/AVP 8 0 101" in lines
    assert lines[-1] == "a=sendrecv"
    answer = relay_answer(offered("m=audio 4000 RTP/AVP 0 101\r\n"), own_offer(), face())
    assert list(answer.stream.codecs) == [0]
