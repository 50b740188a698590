"""Typed header field values: RFC 3261 §20, RFC 3262 §7, RFC 3326, RFC 3891 and RFC 4028."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from b2bua.sip.grammar import (
    HOST,
    LWS,
    PARAM,
    PLAIN_PARAMS,
    PORT,
    QUOTED_STRING,
    TOKEN,
    ParseError,
    bracketed,
    format_params,
    parse_number,
    parse_params,
    quote,
    split_plain_params,
    unquote,
)
from b2bua.sip.uri import Uri

if TYPE_CHECKING:
    from b2bua.sip.message import Request

MAGIC_COOKIE = "z9hG4bK"                   # RFC 3261 §8.1.1.7: what a branch of ours and of our peers begins with
MAX_CSEQ = 2**31 - 1                       # RFC 3261 §8.1.1.5
MAX_DELTA = 2**32 - 1
CACHED_CSEQ = 32                           # characters; longer ones are read anew each time
CACHED_CSEQS = 512                         # nearly all calls have the same few

_NOTHING: Mapping[str, str] = MappingProxyType({})

_NAME_ADDR = re.compile(rf'{LWS}(?:({QUOTED_STRING})|([^"<]*+)){LWS}<([^<>]*+)>(.*+)', re.DOTALL)
_ADDR_SPEC = re.compile(rf'{LWS}([^;,?\s"<>]++)((?>(?:{PARAM})*){LWS})')
_PLAIN_VIA = re.compile(rf"SIP/2\.0/([A-Za-z]++) ({HOST})(?>(?::({PORT}))?)({PLAIN_PARAMS})")
_VIA = re.compile(
    rf"{LWS}SIP{LWS}/{LWS}[0-9]\.[0-9]{LWS}/{LWS}({TOKEN})[ \t]++"
    rf"({HOST})(?>(?:{LWS}:{LWS}({PORT}))?)((?>(?:{PARAM})*){LWS})",
    re.IGNORECASE,
)
_CSEQ = re.compile(rf"([0-9]++)[ \t]++({TOKEN})")
_RACK = re.compile(rf"([0-9]++)[ \t]++([0-9]++)[ \t]++({TOKEN})")
_AUTH_PARAM = re.compile(rf"{LWS},?+{LWS}({TOKEN}){LWS}={LWS}({QUOTED_STRING}|[^,\"\s]*+){LWS}(?=,|\Z)")
_Q_VALUE = re.compile(r"0(?>(?:\.[0-9]{0,3}+)?)|1(?>(?:\.0{0,3}+)?)")


class NameAddr:
    """An address with a display name and header parameters (From, To, Contact, Route, Refer-To, ...). Immutable.

    `display` is unquoted; of `params`, names are in lower case and values as written.
    """

    __slots__ = ("_text", "display", "params", "uri")

    def __init__(
        self, uri: Uri, display: str = "", params: Mapping[str, str] = _NOTHING, *, text: str = ""
    ) -> None:
        self.uri: Final = uri
        self.display: Final = display
        self.params: Final = params
        self._text = text

    @staticmethod
    def parse(text: str) -> NameAddr:
        match = _NAME_ADDR.fullmatch(text)
        if match is None:
            return _parse_addr_spec(text)
        quoted, plain, uri, params = match.groups()
        display = plain.rstrip(" \t") if quoted is None else unquote(quoted)
        return NameAddr(Uri.parse(uri.strip(" \t")), display, parse_params(params), text=text)

    def __str__(self) -> str:
        if not self._text:
            display = f"{quote(self.display)} " if self.display else ""
            self._text = f"{display}<{self.uri}>{format_params(self.params)}"
        return self._text

    def __repr__(self) -> str:
        return f"NameAddr({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NameAddr) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def is_wildcard(self) -> bool:
        """The Contact of a REGISTER that removes every binding (RFC 3261 §10.2.2)."""
        return self.uri is WILDCARD.uri

    @property
    def tag(self) -> str | None:
        return self.params.get("tag") or None

    @property
    def q(self) -> float:
        """Preference of a Contact (RFC 3261 §20.10), 1.0 when none is given."""
        q = self.params.get("q", "1")
        if _Q_VALUE.fullmatch(q) is None:
            raise ParseError("Bad q in Contact")
        return float(q)

    @property
    def expires(self) -> int | None:
        """Seconds of the expires parameter of a Contact."""
        expires = self.params.get("expires")
        return None if expires is None else parse_number(unquote(expires), "expires in Contact", MAX_DELTA)

    def with_tag(self, tag: str) -> NameAddr:
        if self._text and "tag" not in self.params and self._text.rstrip().endswith(">"):
            return NameAddr(self.uri, self.display, {**self.params, "tag": tag}, text=f"{self._text};tag={tag}")
        return NameAddr(self.uri, self.display, {**self.params, "tag": tag})

    def without_params(self) -> NameAddr:
        return NameAddr(self.uri, self.display) if self.params else self


WILDCARD: Final = NameAddr(Uri("*", text="*"), text="*")


def _parse_addr_spec(text: str) -> NameAddr:
    """Without brackets, `;` begins a header parameter, and `?` and `,` cannot stand in the URI (RFC 3261 §20)."""
    match = _ADDR_SPEC.fullmatch(text)
    if match is None:
        raise ParseError("Bad address")
    return NameAddr(Uri.parse(match[1]), "", parse_params(match[2]), text=text)


class Via:
    """One hop of the way back (RFC 3261 §20.42, RFC 3581). Immutable; `host` has no brackets."""

    __slots__ = ("_text", "host", "params", "port", "transport")

    def __init__(
        self,
        transport: str,
        host: str,
        port: int | None = None,
        params: Mapping[str, str] = _NOTHING,
        *,
        text: str = "",
    ) -> None:
        self.transport: Final = transport
        self.host: Final = host
        self.port: Final = port
        self.params: Final = params
        self._text = text

    @staticmethod
    def parse(text: str) -> Via:
        match = _PLAIN_VIA.fullmatch(text)
        if match is not None:
            transport, host, port, rest = match.groups()
            params = split_plain_params(rest) if rest else _NOTHING
        else:
            match = _VIA.fullmatch(text)
            if match is None:
                raise ParseError("Bad Via")
            transport, host, port, rest = match[1], match[2], match[3], match[4]
            params = parse_params(rest)
        number = None if port is None else int(port)
        if number is not None and number > 65535:
            raise ParseError("Bad port in Via")
        return Via(transport.upper(), host[1:-1] if host[0] == "[" else host, number, params, text=text)

    def __str__(self) -> str:
        if not self._text:
            self._text = f"SIP/2.0/{self.transport} {self.sent_by}{format_params(self.params)}"
        return self._text

    def __repr__(self) -> str:
        return f"Via({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Via) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def sent_by(self) -> str:
        """Host and port as they stand there; no port and 5060 are two things here."""
        return bracketed(self.host) if self.port is None else f"{bracketed(self.host)}:{self.port}"

    @property
    def branch(self) -> str | None:
        return self.params.get("branch") or None

    @property
    def has_magic_cookie(self) -> bool:
        """Whether the branch names the transaction by itself (RFC 3261 §17.2.3); the bare cookie does not."""
        branch = self.params.get("branch", "")
        return branch.startswith(MAGIC_COOKIE) and len(branch) > len(MAGIC_COOKIE)

    @property
    def received(self) -> str | None:
        """RFC 5118 §4.5: brackets round an IPv6 address are tolerated."""
        received = self.params.get("received")
        return received.strip("[]") if received else None

    @property
    def wants_rport(self) -> bool:
        return "rport" in self.params

    @property
    def rport(self) -> int | None:
        """The port that the other side saw; None also while it is only asked for."""
        rport = self.params.get("rport", "")
        return int(rport) if rport.isascii() and rport.isdigit() and len(rport) <= 5 else None

    def stamped(self, host: str, port: int) -> Via:
        """With the address the request really came from (RFC 3261 §18.2.1, RFC 3581 §4)."""
        if "rport" in self.params:
            return self.with_params({**self.params, "received": host, "rport": str(port)})
        if host == self.host:
            return self
        return self.with_params({**self.params, "received": host})

    def with_params(self, params: Mapping[str, str]) -> Via:
        return Via(self.transport, self.host, self.port, params)


class CSeq(NamedTuple):
    number: int
    method: str

    @staticmethod
    def parse(text: str) -> CSeq:
        return _cached_cseq(text) if len(text) <= CACHED_CSEQ else _parse_cseq(text)

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


def _parse_cseq(text: str) -> CSeq:
    match = _CSEQ.fullmatch(text)
    if match is None:
        raise ParseError("Bad CSeq")
    digits, method = match.groups()
    number = int(digits) if len(digits) < 10 else parse_number(digits, "CSeq")
    if number > MAX_CSEQ:
        raise ParseError("CSeq out of range")
    return CSeq(number, method)


_cached_cseq = lru_cache(CACHED_CSEQS)(_parse_cseq)


@dataclass(frozen=True, slots=True)
class RAck:
    """Which reliable provisional response a PRACK confirms (RFC 3262 §7.2)."""

    rseq: int
    cseq: int
    method: str

    @staticmethod
    def parse(text: str) -> RAck:
        match = _RACK.fullmatch(text)
        if match is None:
            raise ParseError("Bad RAck")
        return RAck(parse_number(match[1], "RAck"), parse_number(match[2], "RAck"), match[3])

    def __str__(self) -> str:
        return f"{self.rseq} {self.cseq} {self.method}"


@dataclass(frozen=True, slots=True)
class SessionExpires:
    """RFC 4028 §4; `refresher` is "uac", "uas" or not yet decided."""

    seconds: int
    refresher: str | None = None

    @staticmethod
    def parse(text: str) -> SessionExpires:
        seconds, semicolon, rest = text.partition(";")
        refresher = parse_params(semicolon + rest).get("refresher", "").lower()
        if refresher not in ("", "uac", "uas"):
            raise ParseError("Bad refresher in Session-Expires")
        return SessionExpires(parse_number(seconds, "Session-Expires"), refresher or None)

    def __str__(self) -> str:
        return f"{self.seconds};refresher={self.refresher}" if self.refresher else str(self.seconds)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a request was sent (RFC 3326): protocol "SIP" or "Q.850", its cause, a text."""

    protocol: str
    cause: int | None = None
    text: str = ""

    @staticmethod
    def parse(text: str) -> Reason:
        protocol, semicolon, rest = text.partition(";")
        params = parse_params(semicolon + rest)
        cause = params.get("cause")
        number = None if cause is None else parse_number(unquote(cause), "cause in Reason")
        return Reason(protocol.strip(" \t"), number, unquote(params.get("text", "")))

    def __str__(self) -> str:
        cause = "" if self.cause is None else f";cause={self.cause}"
        text = f";text={quote(self.text)}" if self.text else ""
        return f"{self.protocol}{cause}{text}"


@dataclass(frozen=True, slots=True)
class Replaces:
    """The dialog that an INVITE takes over (RFC 3891 §3)."""

    call_id: str
    to_tag: str
    from_tag: str
    early_only: bool = False

    @staticmethod
    def parse(text: str) -> Replaces:
        call_id, semicolon, rest = text.partition(";")
        params = parse_params(semicolon + rest)
        to_tag, from_tag = params.get("to-tag", ""), params.get("from-tag", "")
        if not (call_id.strip(" \t") and to_tag and from_tag):
            raise ParseError("Bad Replaces")
        return Replaces(call_id.strip(" \t"), to_tag, from_tag, "early-only" in params)

    @staticmethod
    def of(request: Request) -> Replaces | None:
        """RFC 3891 §3: more than one Replaces is an error."""
        values = request.headers.get_all("Replaces")
        if len(values) > 1:
            raise ParseError("More than one Replaces")
        return Replaces.parse(values[0]) if values else None

    def __str__(self) -> str:
        early_only = ";early-only" if self.early_only else ""
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}{early_only}"


@dataclass(frozen=True, slots=True)
class AuthParams:
    """A challenge or credentials (RFC 3261 §25.1, RFC 7616): names in lower case, values unquoted.

    Read as real clients write it: any order and spacing, quotes where the grammar wants none and the other way round.
    """

    scheme: str
    params: Mapping[str, str]

    @staticmethod
    def parse(text: str) -> AuthParams:
        scheme, _, rest = text.strip(" \t").partition(" ")
        rest = rest.strip(" \t,")
        params: dict[str, str] = {}
        at = 0
        while at < len(rest):
            match = _AUTH_PARAM.match(rest, at)
            if match is None and scheme.lower() != "digest":
                return AuthParams(scheme, {})           # some other scheme's own form
            if match is None:
                raise ParseError("Bad credentials")
            name = match[1].lower()
            if name in params:
                raise ParseError("Repeated parameter in credentials")
            params[name] = unquote(match[2])
            at = match.end()
        return AuthParams(scheme, params)

    @property
    def is_digest(self) -> bool:
        return self.scheme.lower() == "digest"
