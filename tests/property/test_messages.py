"""Whatever arrives, `parse` raises ParseError or nothing, loses nothing, and takes no more time than is fair."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from time import process_time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from b2bua.sip.fields import (
    AuthParams,
    CSeq,
    NameAddr,
    RAck,
    Reason,
    Replaces,
    SessionExpires,
    Via,
)
from b2bua.sip.framing import FramingError, KeepAlive, StreamFramer
from b2bua.sip.grammar import ParseError
from b2bua.sip.headers import split_list
from b2bua.sip.message import Message, Request, Response
from b2bua.sip.parser import parse
from b2bua.sip.uri import Uri

ROOT = Path(__file__).parents[1]
SEEDS = [
    path.read_bytes()
    for pattern in ("corpora/real-ua/*/*.sip", "torture/rfc*/*.dat")
    for path in sorted(ROOT.glob(pattern))
]
PROPERTIES = sorted({
    name for kind in (Request, Response) for name in dir(kind) if isinstance(getattr(kind, name), property)
})
READ_AT_ONCE = ["call_id", "cseq", "via", "from_", "to", "from_tag", "to_tag"]      # these raise never after `parse`
LETTERS = b' \t\r\n:;,<>"\\=@?%/*[]()\x00\xff0Az'


def read_all(data: bytes) -> None:
    """Everything that a message can be asked; only ParseError may come out."""
    try:
        message = parse(data)
    except ParseError as error:
        if error.answerable:
            parse_answer(error.response())
        return
    for name in READ_AT_ONCE:
        str(getattr(message, name))
    for name in PROPERTIES:
        ask(message, name)
    assert bytes(parse(bytes(message))) == bytes(message)
    if isinstance(message, Request) and message.answerable:
        assert parse(bytes(message.response(200, to_tag="t"))).to_tag


def parse_answer(answer: Response) -> None:
    """What answers a malformed request may itself be malformed, but only in what it had to copy."""
    data = bytes(answer)
    try:
        assert parse(data).call_id == answer.call_id
    except ParseError:
        assert data.startswith(b"SIP/2.0 ")


def ask(message: Message, name: str) -> None:
    try:
        value = getattr(message, name, None)
        for item in value if isinstance(value, list) else [value]:
            str(item)
            if isinstance(item, NameAddr):
                str((item.tag, item.expires, item.q, item.uri.address_of_record()))
            if isinstance(item, Via):
                str((item.branch, item.rport, item.received, str(item.stamped("192.0.2.1", 5060))))
    except ParseError:
        return


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_random_octets_raise_nothing_but_parse_error(data: bytes) -> None:
    read_all(data)
    read_all(data + b"\r\n\r\n")
    read_all(b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:" + data + b">\r\nTo: <sip:a@b>;tag=" + data
             + b"\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContact: " + data + b"\r\n\r\n")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 12))
        match draw(st.sampled_from(["insert", "replace", "delete", "repeat"])):
            case "insert":
                data[at:at] = bytes(draw(st.lists(st.sampled_from(LETTERS), min_size=1, max_size=6)))
            case "replace":
                data[at:at + size] = draw(st.binary(max_size=size))
            case "delete":
                del data[at:at + size]
            case _:
                data[at:at] = data[max(0, at - size):at] * draw(st.integers(1, 20))
    return bytes(data)


@settings(max_examples=400, deadline=None)
@given(mutated())
def test_damaged_messages_raise_nothing_but_parse_error(data: bytes) -> None:
    read_all(data)


def gist(data: bytes) -> tuple[object, ...]:
    try:
        message = parse(data)
    except ParseError as error:
        return error.status, error.reason
    fields = [field for field in message.headers if field[0] != "X-Slow"]
    return message.start_line, fields, message.body, message.via, message.from_tag, message.to_tag


@settings(max_examples=400, deadline=None)
@given(mutated())
def test_fields_read_in_one_go_are_those_read_one_by_one(data: bytes) -> None:
    """A field without a registered name has the whole message read line by line."""
    start, line_end, rest = data.lstrip(b"\r\n").partition(b"\r\n")
    assume(rest[:1] not in (b" ", b"\t", b"\r"))
    assert gist(start + line_end + rest) == gist(start + line_end + b"X-Slow: 1\r\n" + rest)


TOKEN = st.text(st.sampled_from("abcXYZ019-.!%*_+`'~"), min_size=1, max_size=12)
VALUE = st.text(
    st.characters(blacklist_characters="\r\n", blacklist_categories=("Cs",)), max_size=40
).map(lambda text: text.strip(" \t"))
FIELDS = st.lists(st.tuples(TOKEN.map(lambda name: f"X-{name}"), VALUE), max_size=8)


@settings(max_examples=200, deadline=None)
@given(FIELDS, st.binary(max_size=60), TOKEN, TOKEN)
def test_what_is_not_understood_survives(fields: list[tuple[str, str]], body: bytes, tag: str, branch: str) -> None:
    known = [
        ("Via", str(Via("UDP", "192.0.2.1", 5060, {"branch": branch}))), ("From", f"<sip:a@b>;tag={tag}"),
        ("To", "<sip:c@d>"), ("Call-ID", tag), ("CSeq", "1 INVITE"),
    ]
    request = Request("INVITE", Uri.sip("c", "d"), known + fields, body)
    again = parse(bytes(request))
    assert list(again.headers)[:-1] == list(request.headers)
    assert (again.body, again.from_tag, again.via.branch) == (body, tag, branch)
    assert bytes(again) == bytes(request)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30), st.dictionaries(TOKEN.map(str.lower), TOKEN, max_size=3))
def test_composed_addresses_read_back(display: str, user: str, params: dict[str, str]) -> None:
    try:
        address = NameAddr(Uri.sip(user, "h", 5060, params), display, params)
        again = NameAddr.parse(str(address))
    except UnicodeEncodeError:
        return                               # a surrogate that stands for no octet
    assert again.uri.equals(address.uri)
    assert again.uri.user == user
    assert again.params == params
    assert again.display == "".join(" " if ord(c) < 32 or c == "\x7f" else c for c in display) or any(
        ord(c) < 32 or c == "\x7f" for c in display
    )


OVER_TCP = [seed for seed in SEEDS if b"/TCP " in seed[:400]]
STREAM = st.lists(st.sampled_from([*OVER_TCP, b"\r\n", b"\r\n\r\n"]), max_size=6)


@settings(max_examples=150, deadline=None)
@given(STREAM, st.lists(st.integers(0, 6000), max_size=12))
def test_a_stream_gives_the_same_messages_wherever_it_is_cut(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    edges = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
    pieces = [data[one:other] for one, other in pairwise(edges)]
    assert outcome([data]) == outcome(pieces)


def outcome(pieces: list[bytes]) -> tuple[list[bytes | KeepAlive], bool]:
    """What was found before the end, or before the stream was given up; within a piece, that is not known."""
    framer, found = StreamFramer(), []
    try:
        for piece in pieces:
            found += framer.feed(piece)
    except FramingError:
        return [], True
    return found, False


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=6))
def test_random_streams_raise_nothing_but_framing_error(pieces: list[bytes]) -> None:
    outcome(pieces)
    outcome([b"INVITE sip:a SIP/2.0\r\n", *pieces, b"\r\n\r\n"])


SMALL, LARGE = 16_384, 65_536

UNITS = [
    " ", "\t", '"', "\\", '\\"', '"\\', "<", ">", "<>", ";", ";;", ",", ",,", "=", ";a", ";a=", ';a="', ';a="b"',
    "; a = b", "@", ":", "%", "%4", "%41", "a", "a@", "a:", "a.", "[", "]", "[:", "?", "&", "a=b&", "<sip:",
    "<sip:a@b>", "<sip:a@b>,", '"a" ', '"a"<sip:a@b>;x,', "SIP/", "SIP/2.0/UDP ", "1", "1 ", "0", "a=b,", 'a="',
    "a =\t", "a SIP/1", "\r\n ", "Via", "-",
]
PREFIXES = [
    "", "<", '"', "sip:", "sip:a@", "<sip:a@b>", "sip:a@b;", "SIP/2.0/UDP ", "Digest ", "Digest a=", "tel:", "1 ",
    "x;a",
]
READERS: list[Callable[[str], object]] = [
    NameAddr.parse, Via.parse, Uri.parse, CSeq.parse, RAck.parse, Reason.parse, Replaces.parse, SessionExpires.parse,
    AuthParams.parse, split_list,
]


def time_to_read(read: Callable[[str], object], text: str) -> float:
    begun = process_time()
    with suppress(ParseError):
        read(text)
    return process_time() - begun


def parse_with(text: str) -> object:
    head = f"INVITE sip:a SIP/2.0\r\nVia: {text}\r\nFrom: {text}\r\n{text}\r\n\r\n"
    return parse(head.encode())


@pytest.mark.parametrize("read", [*READERS, parse_with], ids=lambda read: read.__qualname__)
def test_hostile_text_costs_time_in_proportion_to_its_length(read: Callable[[str], object]) -> None:
    for prefix in PREFIXES:
        for unit in UNITS:
            large = time_to_read(read, prefix + unit * (LARGE // len(unit)))
            if large > 0.05:                 # nothing linear takes as long; be sure that it was not the machine
                small = min(time_to_read(read, prefix + unit * (SMALL // len(unit))) for _ in range(3))
                large = min(time_to_read(read, prefix + unit * (LARGE // len(unit))) for _ in range(3))
                assert large < 10 * small, (prefix, unit)
