"""From datagram to message: framing, limits, mandatory fields, and who gets an answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from b2bua.sip.framing import MAX_HEAD
from b2bua.sip.grammar import ParseError, ProtocolMisuse
from b2bua.sip.headers import MAX_LIST_VALUES
from b2bua.sip.message import Message, Request, Response
from b2bua.sip.parser import MAX_FIELD, MAX_FIELDS, parse

CORPORA = Path(__file__).parents[2] / "corpora"

START = b"MESSAGE sip:b@h SIP/2.0"
LINES = [
    b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa", b"From: <sip:a@h>;tag=1", b"To: <sip:b@h>", b"Call-ID: c",
    b"CSeq: 1 MESSAGE",
]


def datagram(*more: bytes, start: bytes = START, lines: list[bytes] = LINES, body: bytes = b"") -> bytes:
    return b"\r\n".join([start, *lines, *more, b"", b""]) + body


def without(name: bytes) -> list[bytes]:
    return [line for line in LINES if not line.startswith(name)]


def refusal(data: bytes) -> ParseError:
    with pytest.raises(ParseError) as error:
        parse(data)
    return error.value


@pytest.mark.parametrize(("more", "sent", "read"), [
    ((), b"body", b"body"),
    ((b"Content-Length: 4",), b"body", b"body"),
    ((b"l:004",), b"body", b"body"),
    ((b"Content-Length: 2",), b"body", b"bo"),
    ((b"Content-Length: 0",), b"\r\nINVITE sip:x SIP/2.0\r\n\r\n", b""),
    ((b"Content-Length: 4", b"l: 4"), b"body", b"body"),
    ((b"Content-Length:", b" 4"), b"body", b"body"),
])
def test_the_body_is_as_long_as_content_length_says(more: tuple[bytes, ...], sent: bytes, read: bytes) -> None:
    assert parse(datagram(*more, body=sent)).body == read


@pytest.mark.parametrize("line", [
    b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: x", b"Content-Length:", b"Content-Length: 4, 4",
    b"Content-Length: 4\r\nContent-Length: 3", b"Content-Length: " + b"9" * 5000, "Content-Length: ٤".encode(),
    b"Content-Length: +4", b"Content-Length: 4_0",
])
def test_a_wrong_content_length_is_answered_with_400(line: bytes) -> None:
    error = refusal(datagram(line, body=b"body"))
    assert (error.status, error.answerable) == (400, True)


@pytest.mark.parametrize("name", [b"Via", b"From", b"To", b"Call-ID", b"CSeq"])
def test_a_request_without_a_field_that_answers_need_is_dropped(name: bytes) -> None:
    assert not refusal(datagram(lines=without(name))).answerable


@pytest.mark.parametrize("line", [
    b"From: <sip:a@h>;tag=2", b"To: <sip:c@h>", b"Call-ID: d", b"CSeq: 2 MESSAGE",
    b"Max-Forwards: 1\r\nmax-forwards: 2", b"no colon", b"Subject", b": nameless", b"spa ced: x", b"Subject: a\nb",
    b"Subject: a\rb", "Имя: x".encode(),
])
def test_broken_and_repeated_fields_are_answered_with_400(line: bytes) -> None:
    error = refusal(datagram(line))
    assert (error.status, error.answerable) == (400, True)
    answer = parse(bytes(error.response()))
    assert isinstance(answer, Response)
    assert (answer.status, answer.call_id, answer.cseq.number) == (400, "c", 1)
    assert answer.to_tag
    assert str(answer.to.uri) == "sip:b@h"


@pytest.mark.parametrize("line", [
    b"Via: SIP/2.0/UDP", b"From: <sip:a@h", b'To: "open <sip:b@h>', b"CSeq: x MESSAGE", b"CSeq: 1 INVITE", b"CSeq: 1",
    b"Call-ID: a b", b"Call-ID:", b"CSeq: 2147483648 MESSAGE",
])
def test_malformed_mandatory_fields_are_answered_with_400(line: bytes) -> None:
    name = line.partition(b":")[0]
    error = refusal(datagram(line, lines=without(name)))
    assert (error.status, error.answerable) == (400, True)
    assert bytes(error.response()).startswith(b"SIP/2.0 400 ")


@pytest.mark.parametrize(("start", "status"), [
    (b"MESSAGE sip:b@h SIP/3.0", 505),
    (b"MESSAGE sip:b@h SIP/2.00", 505),
    (b"MESSAGE sip:b@h?Route=x SIP/2.0", 400),
    (b"MESSAGE sip:b @h SIP/2.0", 400),
    (b"MESSAGE  sip:b@h SIP/2.0", 400),
    (b"MESSAGE <sip:b@h> SIP/2.0", 400),
    (b"MESSAGE sip: SIP/2.0", 400),
    (b"MESSAGE sip:" + b"b" * 5000 + b"@h SIP/2.0", 414),
])
def test_a_broken_request_line_is_answered(start: bytes, status: int) -> None:
    error = refusal(datagram(start=start))
    assert (error.status, error.answerable) == (status, True)


@pytest.mark.parametrize("data", [
    b"", b"\r\n", b"\r\n\r\n", b"\x00" * 20, b"\xff\xfe\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    datagram()[:-2], datagram(start=b"SIP/2.0 2"), datagram(start=b"SIP/2.0 99 x"), datagram(start=b"SIP/2.0 700 x"),
    datagram(start=b"SIP/2.0 200 OK", lines=without(b"CSeq")),
    datagram(start=b"ACK sip:b@h SIP/2.0"), b" " + datagram(), datagram().replace(b"\r\n", b"\n"),
])
def test_what_is_no_sip_request_gets_silence(data: bytes) -> None:
    error = refusal(data)
    assert not error.answerable
    with pytest.raises(ProtocolMisuse):
        error.response()


@pytest.mark.parametrize(("start", "status", "reason"), [
    (b"SIP/2.0 200 OK", 200, "OK"), (b"SIP/2.0 180 ", 180, ""), (b"SIP/2.0 180", 180, ""),
    ("SIP/2.0 486 Занято  тут".encode(), 486, "Занято  тут"), (b"sip/2.0 404 x", 404, "x"),
])
def test_status_lines(start: bytes, status: int, reason: str) -> None:
    response = parse(datagram(start=start))
    assert isinstance(response, Response)
    assert (response.status, response.reason) == (status, reason)


def test_line_ends_before_the_start_line_are_ignored() -> None:
    assert parse(b"\r\n\r\n" + datagram(body=b"x")).body == b"x"
    assert parse(b"\r\n" + datagram(body=b"x")).body == b"x"


def test_folded_fields_are_one_line() -> None:
    message = parse(datagram(b"Subject: a", b"\t b", b"  c", b"X:", b" 1"))
    assert message.headers.get("Subject") == "a b c"
    assert message.headers.get("x") == "1"


def test_octets_that_are_no_utf_8_survive() -> None:
    data = datagram(b"X-Raw: \xff\xfe \xd0", b"Content-Length: 0")
    assert bytes(parse(data)) == data


@pytest.mark.parametrize(("data", "status"), [
    (datagram(*[b"X: y"] * MAX_FIELDS), 400),
    (datagram(b"X: " + b"y" * MAX_FIELD), 400),
    (datagram(*[LINES[0]] * MAX_LIST_VALUES), 483),
])
def test_limits_are_answered(data: bytes, status: int) -> None:
    error = refusal(data)
    assert (error.status, error.answerable) == (status, True)


def test_a_head_beyond_the_limit_is_dropped() -> None:
    assert not refusal(datagram(*[b"X: " + b"y" * 1000] * (MAX_HEAD // 1000 + 1))).answerable


@pytest.mark.parametrize("address", [
    b"<sip:a@h:65535>", b"<sip:a@h:59999>;tag=x", b"<sip:a@h:1>", b"<sip:a@h;p=1;q=2>",
    b'"x"<sip:h>', b"<sip:" + b"a" * 4000 + b"@h>",
])
def test_what_parse_accepts_as_an_address_can_be_read(address: bytes) -> None:
    assert parse(datagram(b"From: " + address, lines=without(b"From"))).from_.uri.is_sip


@pytest.mark.parametrize("address", [
    b"<sip:a@h:65536>", b"<sip:a@h:99999>;tag=x", b"<sip:a@h:>", b"<sip:a@h;p=1;P=2>", b"<sip:a@h>;tag=a;tag=b",
    b"<sip:" + b"a" * 4100 + b"@h>", b"<sip:a@h;>",
])
def test_what_cannot_be_read_as_an_address_is_refused_at_once(address: bytes) -> None:
    assert refusal(datagram(b"From: " + address, lines=without(b"From"))).answerable


def test_a_message_within_the_limits_is_read() -> None:
    message = parse(datagram(*[b"X: y"] * (MAX_FIELDS - 10), b"Y: " + b"y" * (MAX_FIELD - 3)))
    assert len(message.headers.get_all("x")) == MAX_FIELDS - 10


def same(one: Message, other: Message) -> bool:
    names = [name for name in dir(type(one)) if isinstance(getattr(type(one), name), property)]
    return all(getattr(one, name) == getattr(other, name) for name in names)


REAL = [pytest.param(path, id=f"{path.parent.name}/{path.name}") for path in sorted(CORPORA.glob("real-ua/*/*.sip"))]


@pytest.mark.parametrize("path", REAL)
def test_messages_of_real_programs_are_read_whole_and_written_back(path: Path) -> None:
    data = path.read_bytes()
    message = parse(data)
    again = parse(bytes(message))
    assert same(message, again)
    assert again.body == message.body
    assert [field for field in again.headers if field[0] != "Content-Length"] == [
        field for field in message.headers if field[0] != "Content-Length"
    ]
    assert message.body in data


def flow_messages(path: Path) -> list[bytes]:
    """The items of a YAML list of literal blocks, indented by two, with the line ends that SIP wants."""
    items: list[list[str]] = []
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("- |"):
            items.append([])
        elif items and (line.startswith("  ") or not line):
            items[-1].append(line[2:])
    texts = ["\r\n".join([*item, ""]) for item in items]
    return [(text if "\r\n\r\n" in text else f"{text}\r\n").encode() for text in texts]     # the last of a file


FLOWS = [
    pytest.param(data, id=f"{path.stem}-{number}")
    for path in sorted(CORPORA.glob("rfc-flows/*.yaml"))
    for number, data in enumerate(flow_messages(path), 1)
]


@pytest.mark.parametrize("data", FLOWS)
def test_the_message_flows_of_the_rfcs_are_read(data: bytes) -> None:
    if b"\r\nVia:" not in data:
        assert refusal(data).reason == "Via is missing"         # RFC 5626 §9.3 to §9.5 leave it out for brevity
        return
    message = parse(re.sub(rb"\(.* URI\)", b"sip:whatever@example.com", data))      # RFC 3515 §4 does not name it
    assert same(message, parse(bytes(message)))
    assert isinstance(message, Request) or message.status >= 100


def test_no_message_flow_is_left_out() -> None:
    assert len(FLOWS) == 254
    assert len(REAL) == 162
