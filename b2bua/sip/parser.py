"""One datagram, or one message of a stream, to a Request or Response: strict about framing, forgiving inside a field.

RFC 3261 §7, §18.3 and §25. What a transaction needs (start line, Via, From, To, Call-ID, CSeq) is read at once and is
well-formed afterwards; everything else is read when it is asked for.
"""

from __future__ import annotations

import re

from b2bua.sip.fields import CSeq, NameAddr, Via
from b2bua.sip.framing import MAX_HEAD
from b2bua.sip.grammar import TOKEN, ParseError, is_token
from b2bua.sip.headers import CANONICAL, MAX_LIST_VALUES, REGISTERED, Headers, canonical, split_list
from b2bua.sip.message import Request, Response
from b2bua.sip.uri import MAX_URI, PLAIN_SIP_URI, Uri

MAX_FIELDS = 256                           # header fields of a message
MAX_FIELD = 8_192                          # characters of a header field, after unfolding

_FOLD = re.compile(r"\r\n[ \t]++")
_REQUEST_LINE = re.compile(rf"({TOKEN}) ([^\s\x00-\x1f\x7f]++) SIP/2\.0", re.IGNORECASE)
_STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6][0-9][0-9])(?>(?: (.*+))?)", re.IGNORECASE)
_LIKE_A_REQUEST = re.compile(rf"({TOKEN})[ \t]++.*?SIP/([0-9]++\.[0-9]++)[ \t]*+", re.IGNORECASE)
_CALL_ID = re.compile(r"[^\x00-\x20\x7f]++")

# From and To as nearly everybody writes them: known to be well-formed, and their tag, in one go.
_PLAIN_ADDRESS = re.compile(rf'(?:"[^"\\]*+" ?+|[^"<>,;]*+)<{PLAIN_SIP_URI}>(?>(?:;tag=({TOKEN}))?)')

_SINGLE = ("From", "To", "Call-ID", "CSeq", "Max-Forwards")


def parse(data: bytes) -> Request | Response:
    """Raises `ParseError`, and nothing else, on what is not a message."""
    end = data.find(b"\r\n\r\n", 2)          # line ends before the start line are ignored (RFC 3261 §7.5)
    if not 0 <= end <= MAX_HEAD:
        raise ParseError("No end of headers" if end < 0 else "Headers too long")
    text = data[:end].decode("utf-8", "surrogateescape")
    if text[:1] == "\r":
        text = text.lstrip("\r\n")
    lines = text.split("\r\n")
    try:
        headers = _read_plain_fields(lines, text)
        if headers is None:
            lines = _FOLD.sub(" ", text).split("\r\n")
            headers = _read_fields(lines)
        _understand(headers)
        message = _read_start(lines[0], headers)
        message.body = _read_body(data, end + 4, headers)
    except ParseError as error:
        error.request = remains = _remains(lines)
        if remains is not None:
            remains.raw = data
        raise
    if isinstance(message, Request):
        message.raw = data
    return message


def _read_plain_fields(lines: list[str], text: str) -> Headers | None:
    """All fields in one go, as nearly everybody writes them; None: read them one by one, at three times the cost."""
    breaks = len(lines) - 1
    if breaks >= MAX_FIELDS or len(text) > MAX_FIELD or text.count("\n") != breaks or text.count("\r") != breaks:
        return None
    fields = [line.partition(": ")[::2] for line in lines[1:]]
    if ":  " in text or " \r" in text or "\t" in text or text[-1:] == " ":
        fields = [(name, value.strip(" \t")) for name, value in fields]
    first = dict(fields)
    # A line without a colon would show as an empty value.
    plain = len(first) == breaks and REGISTERED.issuperset(first) and all(first.values())
    return Headers.adopt(fields, first) if plain else None


def _read_fields(lines: list[str]) -> Headers:
    if len(lines) > MAX_FIELDS:
        raise ParseError("Too many header fields")
    if max(map(len, lines)) > MAX_FIELD:
        raise ParseError("Header field too long")
    if any("\r" in line or "\n" in line for line in lines):
        raise ParseError("Bare CR or LF")
    fields = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        spelling = CANONICAL.get(name)
        if spelling is None or not colon:
            spelling = _check_name(name, colon)
        fields.append((spelling, value.strip(" \t")))
    return Headers.adopt(fields, _check_repeated(fields))


def _check_name(name: str, colon: str) -> str:
    name = name.rstrip(" \t")
    if not (colon and is_token(name)):
        raise ParseError("Bad header field")
    return canonical(name)


def _check_repeated(fields: list[tuple[str, str]]) -> dict[str, str]:
    """First values by name; those that may stand only once do, or at least agree (Content-Length)."""
    first: dict[str, str] = {}
    count: dict[str, int] = {}
    for name, value in fields:
        count[name] = count.get(name, 0) + 1
        if first.setdefault(name, value) != value and name == "Content-Length":
            raise ParseError("Content-Length is contradictory")
    for name in _SINGLE:
        if count.get(name, 0) > 1:
            raise ParseError(f"More than one {name}")
    if count.get("Via", 0) > MAX_LIST_VALUES:
        raise ParseError("Too many Via", status=483)
    return first


def _understand(headers: Headers) -> None:
    """Read what transactions need (RFC 3261 §8.1.1)."""
    first = headers.first
    try:
        via, from_, to, call_id, cseq = first["Via"], first["From"], first["To"], first["Call-ID"], first["CSeq"]
    except KeyError as missing:
        raise ParseError(f"{missing.args[0]} is missing") from None
    if _CALL_ID.fullmatch(call_id) is None:
        raise ParseError("Bad Call-ID")
    understood = headers.understood
    understood["call_id"] = call_id
    understood["cseq"] = CSeq.parse(cseq)
    understood["via"] = Via.parse(split_list(via)[0] if "," in via else via)
    match = _PLAIN_ADDRESS.fullmatch(from_)
    if match is not None and len(from_) < MAX_URI:
        understood["from_tag"] = match[1] or ""
    else:
        understood["from_"] = NameAddr.parse(from_)
    match = _PLAIN_ADDRESS.fullmatch(to)
    if match is not None and len(to) < MAX_URI:
        understood["to_tag"] = match[1] or ""
    else:
        understood["to"] = NameAddr.parse(to)


def _read_start(line: str, headers: Headers) -> Request | Response:
    match = _REQUEST_LINE.fullmatch(line)
    if match is not None:
        method, uri = match[1], Uri.parse(match[2])
        if headers.understood["cseq"].method != method:
            raise ParseError("CSeq names another method")
        if uri.headers:
            raise ParseError("Headers in Request-URI")      # RFC 3261 §19.1.1
        return Request(method, uri, headers)
    match = _STATUS_LINE.fullmatch(line)
    if match is not None:
        return Response(int(match[1]), match[2] or "", headers)
    match = _LIKE_A_REQUEST.fullmatch(line)
    if match is not None and match[2] != "2.0":
        raise ParseError("Version Not Supported", status=505)
    raise ParseError("Bad start line")


def _read_body(data: bytes, start: int, headers: Headers) -> bytes:
    """RFC 3261 §18.3: what is beyond Content-Length is dropped, what falls short of it is an error."""
    text = headers.get("Content-Length")
    if text is None:
        return data[start:]
    if not (text.isascii() and text.isdigit()):
        raise ParseError("Bad Content-Length")
    digits = text.lstrip("0")
    if len(digits) > 9 or start + int(digits or "0") > len(data):
        raise ParseError("Content-Length exceeds the message")
    return data[start:start + int(digits or "0")]


def _remains(lines: list[str]) -> Request | None:
    """What can be told of a malformed request, so that it can be answered."""
    match = _LIKE_A_REQUEST.fullmatch(lines[0])
    if match is None:
        return None
    fields = []
    for line in lines[1:MAX_FIELDS]:
        name, colon, value = line.partition(":")
        if colon and "\r" not in value and "\n" not in value and is_token(name := name.rstrip(" \t")):
            fields.append((canonical(name), value.strip(" \t")))
    return Request(match[1], Uri("", text=lines[0]), Headers.adopt(fields))
