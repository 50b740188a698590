"""SIP, SIPS and tel URIs, their escapes, and when two of them are equal (RFC 3261 §19.1, RFC 3966)."""

from __future__ import annotations

import re
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote, unquote

from b2bua.sip.grammar import HOST, PORT, ParseError, bracketed

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_URI = 4096                             # characters
CACHED_URI = 160                           # longer ones are read anew each time: the cache must stay small
CACHED_URIS = 2048

# Forgiving: what clients leave unescaped (# above all, as in *72#) is read as if it were.
_USER = r'[^@:<>"\s\x00-\x1f\x7f]++'
_PASSWORD = r'[^@:<>"\s\x00-\x1f\x7f]*+'    # noqa: S105
_URI_PARAMS = r'(?>(?:;[^;?=@<>"\s]++(?:=[^;?<>"\s]*+)?)*)'
_URI_HEADERS = r'\?[^<>"\s]++'

# The usual ones of them, without groups: whatever matches, and is short enough, `Uri.parse` accepts.
PLAIN_SIP_URI = (
    rf"[sS][iI][pP][sS]?:(?>(?:{_USER}(?::{_PASSWORD})?@)?){HOST}"
    r"(?>(?::[1-5]?[0-9]{1,4}+)?)"
    r'(?>(?:;[^;?=@<>"\s]++(?:=[^;?<>"\s]*+)?)?)'
)

_SIP = re.compile(
    rf"([sS][iI][pP][sS]?):(?>(?:({_USER})(?::({_PASSWORD}))?@)?)({HOST})(?>(?::({PORT}))?)({_URI_PARAMS})(?>({_URI_HEADERS})?)"
)
_TEL = re.compile(rf"[tT][eE][lL]:(\+?+[0-9A-Fa-f*#.()\-]++)({_URI_PARAMS})")
_OTHER = re.compile(r'([A-Za-z][A-Za-z0-9+.\-]*+):[^\s<>"\x00-\x1f\x7f]++')
_VISUAL_SEPARATORS = str.maketrans("", "", "-.()")

_USER_SAFE = "-_.!~*'()&=+$,;?/"           # RFC 3261 §25.1: unreserved and user-unreserved
_PASSWORD_SAFE = "-_.!~*'()&=+$,"         # noqa: S105
_PARAM_SAFE = "-_.!~*'()[]/:&+$"
_HEADER_SAFE = "-_.!~*'()[]/?:+$"
_SAFE_ANYWHERE = re.compile(r"[A-Za-z0-9\-_.!~*'()+$]*+")

# A parameter of these that only one of the two URIs has makes them differ; any other is then ignored.
_DECISIVE = ("user", "ttl", "method", "maddr", "transport")

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Uri:
    """A URI. Immutable; `==` and `hash` go by its text, `equals` by its meaning.

    `user` and `password` are unescaped, `host` has no brackets; each is empty when absent. Of a tel URI, `user` is the
    number without visual separators. A URI of an unknown scheme has nothing but its scheme and text.
    """

    __slots__ = ("_text", "headers", "host", "params", "password", "port", "scheme", "user")

    def __init__(
        self,
        scheme: str,
        user: str = "",
        host: str = "",
        port: int | None = None,
        params: Mapping[str, str] = _NOTHING,
        headers: Mapping[str, str] = _NOTHING,
        password: str = "",
        *,
        text: str = "",
    ) -> None:
        self.scheme: Final = scheme
        self.user: Final = user
        self.host: Final = host
        self.port: Final = port
        self.params: Final = params
        self.headers: Final = headers
        self.password: Final = password
        self._text = text

    @classmethod
    def sip(cls, user: str, host: str, port: int | None = None, params: Mapping[str, str] = _NOTHING) -> Self:
        return cls("sip", user, host, port, params)

    @classmethod
    def tel(cls, number: str) -> Self:
        return cls("tel", number)

    @staticmethod
    def parse(text: str) -> Uri:
        return _cached_parse(text) if len(text) <= CACHED_URI else _parse(text)

    def __str__(self) -> str:
        if not self._text:
            self._text = self._compose()
        return self._text

    def _compose(self) -> str:
        params = "".join([_format_param(name, value) for name, value in self.params.items()]) if self.params else ""
        if self.scheme == "tel":
            return f"tel:{self.user}{params}"
        user = _escape(self.user, _USER_SAFE)
        if self.password:
            user = f"{user}:{_escape(self.password, _PASSWORD_SAFE)}"
        at = "@" if user else ""
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}:{user}{at}{bracketed(self.host)}{port}{params}{_format_headers(self.headers)}"

    def __repr__(self) -> str:
        return f"Uri({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Uri) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def is_sip(self) -> bool:
        return self.scheme in ("sip", "sips")

    @property
    def transport(self) -> str | None:
        """The transport parameter in upper case, as Via writes it."""
        transport = self.params.get("transport")
        return transport.upper() if transport else None

    @property
    def is_loose_router(self) -> bool:
        return "lr" in self.params

    def with_(
        self,
        *,
        user: str | None = None,
        host: str | None = None,
        port: int | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Uri:
        """Another URI with these parts replaced; what is None stays as it is."""
        return Uri(
            self.scheme,
            self.user if user is None else user,
            self.host if host is None else host,
            self.port if port is None else port,
            self.params if params is None else params,
            self.headers,
            self.password,
        )

    def without_headers(self) -> Uri:
        """What may become a Request-URI (RFC 3261 §19.1.5)."""
        return self if not self.headers else Uri(
            self.scheme, self.user, self.host, self.port, self.params, password=self.password
        )

    def address_of_record(self) -> str:
        """The key under which a registrar keeps bindings (RFC 3261 §10.3 step 5): no parameters, no headers."""
        if not self.is_sip:
            return f"tel:{self.user}" if self.scheme == "tel" else str(self)
        at = "@" if self.user else ""
        user = _escape(self.user, _USER_SAFE)
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}:{user}{at}{bracketed(self.host.lower())}{port}"

    def equals(self, other: Uri) -> bool:
        """RFC 3261 §19.1.4, and RFC 3966 §4 for tel."""
        if self.scheme != other.scheme:
            return False
        if self.scheme == "tel":
            return self.user.lower() == other.user.lower() and _folded(self.params) == _folded(other.params)
        if not self.is_sip:
            return str(self) == str(other)
        return (
            self.user == other.user
            and self.password == other.password
            and self.port == other.port
            and self.host.lower() == other.host.lower()
            and _agree(self.params, other.params)
            and _folded(self.headers) == _folded(other.headers)
        )


def _parse(text: str) -> Uri:
    if len(text) > MAX_URI:
        raise ParseError("URI too long", status=414)
    match = _SIP.fullmatch(text)
    if match is None:
        return _parse_other(text)
    scheme, user, password, host, port, params, headers = match.groups()
    number = None if port is None else int(port)
    if number is not None and number > 65535:
        raise ParseError("Bad port in URI")
    return Uri(
        scheme.lower(),
        _unescape(user) if user else "",
        host[1:-1] if host[0] == "[" else host,
        number,
        _parse_uri_params(params) if params else _NOTHING,
        _parse_uri_headers(headers) if headers else _NOTHING,
        _unescape(password) if password else "",
        text=text,
    )


_cached_parse = lru_cache(CACHED_URIS)(_parse)


def _parse_other(text: str) -> Uri:
    if match := _TEL.fullmatch(text):
        return Uri("tel", match[1].translate(_VISUAL_SEPARATORS), params=_parse_uri_params(match[2]), text=text)
    match = _OTHER.fullmatch(text)
    if match is None or match[1].lower() in ("sip", "sips", "tel"):
        raise ParseError("Bad URI")
    return Uri(match[1].lower(), text=text)


def _parse_uri_params(text: str) -> dict[str, str]:
    if not text:
        return {}
    pairs = [piece.partition("=") for piece in text[1:].split(";")]
    params = {_unescape(name).lower(): _unescape(value) for name, _, value in pairs}
    if len(params) != len(pairs):
        raise ParseError("Repeated URI parameter")
    return params


def _parse_uri_headers(text: str) -> dict[str, str]:
    pairs = [piece.partition("=") for piece in text[1:].split("&")]
    return {_unescape(name): _unescape(value) for name, _, value in pairs if name}


def _unescape(text: str) -> str:
    return unquote(text, errors="surrogateescape") if "%" in text else text


def _escape(text: str, safe: str) -> str:
    return text if _SAFE_ANYWHERE.fullmatch(text) else quote(text, safe, errors="surrogateescape")


def _format_param(name: str, value: str) -> str:
    name = _escape(name, _PARAM_SAFE)
    return f";{name}={_escape(value, _PARAM_SAFE)}" if value else f";{name}"


def _format_headers(headers: Mapping[str, str]) -> str:
    if not headers:
        return ""
    pairs = [f"{_escape(name, _HEADER_SAFE)}={_escape(value, _HEADER_SAFE)}" for name, value in headers.items()]
    return f"?{'&'.join(pairs)}"


def _folded(pairs: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value.lower() for name, value in pairs.items()}


def _agree(ours: Mapping[str, str], theirs: Mapping[str, str]) -> bool:
    if not ours and not theirs:
        return True
    if any((name in ours) != (name in theirs) for name in _DECISIVE):
        return False
    return all(value.lower() == theirs[name].lower() for name, value in ours.items() if name in theirs)
