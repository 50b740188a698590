"""A stream cut into messages and keep-alives, and streams that are beyond repair."""

from __future__ import annotations

import pytest

from b2bua.sip.framing import MAX_BODY, MAX_HEAD, MAX_MESSAGES, MAX_START_LINE, FramingError, KeepAlive, StreamFramer

START = b"MESSAGE sip:b@h SIP/2.0\r\n"
EMPTY = START + b"Call-ID: 1\r\n\r\n"
SHORT = START + b"Content-Length: 4\r\n\r\nbody"
COMPACT = b"SIP/2.0 200 OK\r\nl :\r\n 0002\r\n\r\n\r\n"
LOOKALIKE = START + b"X-Content-Length: 7\r\nSubject: Content-Length: 9\r\nCONTENT-LENGTH:3\r\n\r\nabc"

STREAM = [SHORT, b"\r\n", EMPTY, LOOKALIKE, b"\r\n\r\n", COMPACT, SHORT]
FOUND = [SHORT, KeepAlive.CRLF, EMPTY, LOOKALIKE, KeepAlive.CRLF, KeepAlive.PING, COMPACT, SHORT]


def test_a_stream_comes_apart_into_messages_and_keep_alives() -> None:
    framer = StreamFramer()
    assert framer.feed(b"".join(STREAM)) == FOUND
    assert framer.pending == 0


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_the_cuts_make_no_difference(size: int) -> None:
    framer, data = StreamFramer(), b"".join(STREAM)
    pieces = [data[at:at + size] for at in range(0, len(data), size)]
    assert [item for piece in pieces for item in framer.feed(piece)] == FOUND


def test_a_message_waits_for_its_last_octet() -> None:
    framer = StreamFramer()
    assert framer.feed(SHORT[:-1]) == []
    assert framer.pending == len(SHORT) - 1
    assert framer.feed(SHORT[-1:]) == [SHORT]


@pytest.mark.parametrize("length", [
    b"-1", b"x", b"", b"4\r\nContent-Length: 5", b"4\r\nl: 5", b"9" * 5000, b"%d" % (MAX_BODY + 1),
])
def test_a_wrong_length_ends_the_stream(length: bytes) -> None:
    with pytest.raises(FramingError):
        StreamFramer().feed(START + b"Content-Length: " + length + b"\r\n\r\nbody")


def test_the_same_length_twice_is_tolerated() -> None:
    data = START + b"l: 4\r\nContent-Length: 4\r\n\r\nbody"
    assert StreamFramer().feed(data) == [data]


def feed_in_pieces(data: bytes, size: int) -> None:
    framer = StreamFramer()
    for at in range(0, len(data), size):
        framer.feed(data[at:at + size])


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\n",
    b"\rX",
    b"\x16\x03\x01" * MAX_START_LINE,
    b"INVITE sip:" + b"a" * MAX_START_LINE + b"@h SIP/2.0\r\n",
    START + b"X: y\r\n" * (MAX_HEAD // 6),
])
@pytest.mark.parametrize("size", [1 << 20, 4001, 1])
def test_what_is_not_sip_or_has_no_end_is_given_up(data: bytes, size: int) -> None:
    with pytest.raises(FramingError):
        feed_in_pieces(data, size)


def test_one_piece_of_a_stream_holds_so_many_keep_alives_only() -> None:
    with pytest.raises(FramingError):
        StreamFramer().feed(b"\r\n" * (MAX_MESSAGES + 1))


def test_the_largest_message_passes() -> None:
    head = START + b"Content-Length: %d\r\n" % MAX_BODY
    data = head + b"X: " + b"y" * (MAX_HEAD - len(head) - 3) + b"\r\n\r\n" + b"b" * MAX_BODY
    assert StreamFramer().feed(data) == [data]
