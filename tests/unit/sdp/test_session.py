"""Session descriptions as bytes and as values (RFC 8866)."""

from __future__ import annotations

import pytest

from b2bua.sdp.session import MAX_BYTES, MAX_FORMATS, MAX_LINES, MAX_MEDIA, Direction, SdpError, host, is_voice, parse

HEAD = "v=0\r\no=- 20 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
AUDIO = "m=audio 4000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n"


def test_what_is_not_understood_is_kept_byte_by_byte() -> None:
    body = (HEAD + "a=tool:x y\r\nz=1 2\r\n" + AUDIO + "a=x-odd:\xe9 \u2603\r\nb=AS:64\r\n").encode()
    assert bytes(parse(body)) == body


def test_bytes_that_are_no_utf8_survive() -> None:
    body = HEAD.replace("s=-", "s=caf\udce9").encode("utf-8", "surrogateescape")
    assert bytes(parse(body)) == body


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_is_read_and_crlf_is_written(end: str) -> None:
    assert bytes(parse((HEAD + AUDIO).replace("\r\n", end).encode())) == (HEAD + AUDIO).encode()


def test_mixed_line_ends_are_read() -> None:
    assert bytes(parse((HEAD + AUDIO).replace("\r\n", "\n", 2).encode())) == (HEAD + AUDIO).encode()


def test_a_last_line_without_an_end_and_blank_lines_after_it_are_read() -> None:
    assert bytes(parse((HEAD + AUDIO).encode().rstrip())) == (HEAD + AUDIO).encode()
    assert bytes(parse((HEAD + AUDIO).encode() + b"\r\n\r\n")) == (HEAD + AUDIO).encode()


def test_media_line_is_taken_apart() -> None:
    [media] = parse((HEAD + AUDIO).encode()).media
    assert (media.kind, media.port, media.protocol, media.formats) == ("audio", 4000, "RTP/AVP", ("8", "0", "101"))


def test_a_port_count_is_understood() -> None:
    assert parse((HEAD + "m=audio 4000/2 RTP/AVP 0\r\n").encode()).media[0].port == 4000


def test_codecs_come_from_rtpmap_and_from_the_static_table() -> None:
    media = parse((HEAD + AUDIO + "a=rtpmap:96 opus/48000/2\r\n").replace("8 0 101", "96 8 9 97 101").encode()).media[0]
    assert media.codecs() == {
        96: "opus/48000/2", 8: "PCMA/8000", 9: "G722/8000", 97: "unknown-97/8000", 101: "telephone-event/8000",
    }


def test_one_channel_is_not_spelt_out() -> None:
    media = parse((HEAD + "m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000/1\r\n").encode()).media[0]
    assert media.codecs() == {0: "PCMU/8000"}


@pytest.mark.parametrize("direction", list(Direction))
def test_direction_of_media_and_of_the_session(direction: Direction) -> None:
    own = parse((HEAD + AUDIO + f"a={direction.value}\r\n").encode())
    assert own.media[0].direction is direction
    assert own.direction is None
    assert parse((HEAD + f"a={direction.value}\r\n" + AUDIO).encode()).direction is direction


def test_a_connection_without_its_ttl() -> None:
    description = parse((HEAD.replace("c=IN IP4 192.0.2.1", "c=IN IP4 233.252.0.1/127") + AUDIO).encode())
    assert description.connection == host("233.252.0.1")
    assert host("233.252.0.1").multicast


def test_ipv6_addresses_have_one_spelling() -> None:
    assert host("2001:DB8:0:0::1").literal == "2001:db8::1"
    assert host("pbx.example.org").literal is None
    assert host("::").unspecified


@pytest.mark.parametrize("body", [
    b"",
    b"\r\n",
    b"hello",
    b"v=1\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n",
    b"o=- 1 1 IN IP4 192.0.2.1\r\nv=0\r\n",
    b"v=0\r\ns=-\r\nt=0 0\r\n",
    b"v=0\r\no=- 1 IN IP4 192.0.2.1\r\n",
    HEAD.encode() + b"o=- 1 1 IN IP4 192.0.2.1\r\n",
    HEAD.encode() + b"no line\r\n",
    HEAD.encode() + b"A=upper case\r\n",
    HEAD.encode() + b"a=nul\0byte\r\n",
    HEAD.encode() + b"\r\na=after a blank line\r\n",
    HEAD.encode() + b"m=audio\r\n",
    HEAD.encode() + b"m=audio RTP/AVP 0\r\n",
    HEAD.encode() + b"m=audio 4000 RTP/AVP\r\n",
    HEAD.encode() + b"m=audio 65536 RTP/AVP 0\r\n",
    HEAD.encode() + b"m=audio -1 RTP/AVP 0\r\n",
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n",
    HEAD.replace("c=IN IP4", "c=IN IP7").encode(),
    HEAD.replace("c=IN IP4", "c=ATM IP4").encode(),
    HEAD.encode() + b"m=audio 4000 RTP/AVP 0\r\nc=IN IP4\r\n",
])
def test_what_is_refused(body: bytes) -> None:
    with pytest.raises(SdpError):
        parse(body)


@pytest.mark.parametrize("extra", [
    "a=" + "x" * MAX_BYTES,
    "a=x\r\n" * MAX_LINES,
    "m=audio 4000 RTP/AVP 0\r\n" * (MAX_MEDIA + 1),
    "m=audio 4000 RTP/AVP" + " 0" * (MAX_FORMATS + 1),
])
def test_limits(extra: str) -> None:
    with pytest.raises(SdpError, match="more than"):
        parse((HEAD + extra).encode())


@pytest.mark.parametrize("text", ["128", "-1", "x", "٣"])
def test_formats_that_are_no_payload_types(text: str) -> None:
    with pytest.raises(SdpError):
        parse((HEAD + f"m=audio 4000 RTP/AVP {text}\r\n").encode()).media[0].codecs()


def test_formats_of_other_media_are_anything() -> None:
    [media] = parse((HEAD + "m=image 4000 udptl t38\r\n").encode()).media
    assert media.formats == ("t38",)


def test_a_refused_line_keeps_its_formats_and_loses_the_rest() -> None:
    rejected = parse((HEAD + AUDIO).encode()).media[0].rejected()
    assert (rejected.head, rejected.lines) == ("audio 0 RTP/AVP 8 0 101", ())


def test_a_missing_subject_or_time_is_forgiven() -> None:
    body = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n"
    assert bytes(parse(body)) == body


def test_what_is_voice() -> None:
    codecs = ("CN/8000", "telephone-event/8000", "Telephone-Event/8000", "red/8000", "PCMU/8000", "opus/48000/2")
    assert [is_voice(codec) for codec in codecs] == [False, False, False, False, True, True]
