"""RFC 3261 §25: the tokens of SIP as named regular expressions, and what is raised when they are not met.

Every quantifier that could be re-tried is possessive, so that hostile text costs time in proportion to its length.
Where a group repeats, an atomic group stands around it instead: CPython before 3.11.5 (Debian 12 has 3.11.2) takes a
possessive quantifier after a group for something else (gh-106052).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from b2bua.sip.message import Request, Response

MAX_NUMBER = 2**32 - 1                     # delta-seconds and sequence numbers (RFC 3261 §20.19, RFC 3262 §7.1)

LWS = r"[ \t]*+"
TOKEN = r"[A-Za-z0-9\-.!%*_+`'~]++"         # noqa: S105
QUOTED_STRING = r'"(?>(?:[^"\\]++|\\(?s:.))*)"'
HOST = r"(?:\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9_][A-Za-z0-9_.\-]*+)"
PORT = r"[0-9]{1,5}+"

# Forgiving on purpose: any character that cannot end a parameter may stand in one.
PLAIN_PARAMS = r'(?>(?:;[^;=,\s"<>]++(?:=[^;,\s"<>]*+)?)*)'
PARAM = rf'{LWS};{LWS}([^;=,\s"<>]++)(?>(?:{LWS}={LWS}({QUOTED_STRING}|[^;,\s"<>]*+))?)'

_TOKEN = re.compile(TOKEN)
_PLAIN_PARAMS = re.compile(PLAIN_PARAMS)
_PLAIN_PARAM = re.compile(r";([^;=]++)=?+([^;]*+)")
_PARAM = re.compile(PARAM)
_ESCAPED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")


class ProtocolMisuse(ValueError):
    """Our own code asked for a message that must not exist."""


class ParseError(ValueError):
    """A peer sent what cannot be understood: `status` and `reason` are the answer that fits (RFC 3261 §21.4)."""

    def __init__(self, reason: str, status: int = 400, request: Request | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.request = request             # as much of it as was read, when it was a request at all

    @property
    def answerable(self) -> bool:
        """An ACK, a response, and a request without the fields that an answer copies get none."""
        return self.request is not None and self.request.answerable

    def response(self) -> Response:
        if self.request is None or not self.answerable:
            raise ProtocolMisuse("a message that cannot be answered")
        return self.request.stateless_response(self.status, self.reason)


def is_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None


def parse_number(text: str, what: str, ceiling: int = MAX_NUMBER) -> int:
    """Digits as a number; what lies above the ceiling counts as the ceiling, whatever its length."""
    digits = text.strip(" \t")
    if not (digits.isascii() and digits.isdigit()):
        raise ParseError(f"Bad {what}")
    digits = digits.lstrip("0") or "0"
    return ceiling if len(digits) > 10 else min(int(digits), ceiling)


def parse_params(text: str) -> dict[str, str]:
    """`;name=value;flag`: names in lower case, values as written (quotes included), a flag's value is empty."""
    if not text:
        return {}
    return split_plain_params(text) if _PLAIN_PARAMS.fullmatch(text) else _parse_spaced_params(text)


def split_plain_params(text: str) -> dict[str, str]:
    """The same for text that is known to match PLAIN_PARAMS, and not to be empty."""
    pairs = _PLAIN_PARAM.findall(text)
    params = {name.lower(): value for name, value in pairs}
    if len(params) != len(pairs):
        raise ParseError("Repeated parameter")
    return params


def _parse_spaced_params(text: str) -> dict[str, str]:
    params: dict[str, str] = {}
    text = text.rstrip(" \t")
    at = 0
    while at < len(text):
        match = _PARAM.match(text, at)
        if match is None:
            raise ParseError("Bad parameter")
        name = match[1].lower()
        if name in params:
            raise ParseError("Repeated parameter")
        params[name] = match[2] or ""
        at = match.end()
    return params


def format_params(params: Mapping[str, str]) -> str:
    return "".join([f";{name}={value}" if value else f";{name}" for name, value in params.items()])


def quote(text: str) -> str:
    """A quoted-string; control characters, which could end the line, become blanks."""
    if not text.isprintable():
        text = _CONTROLS.sub(" ", text)
    if '"' in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def unquote(text: str) -> str:
    """What a token or quoted-string says."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    text = text[1:-1]
    return _ESCAPED_PAIR.sub(r"\1", text) if "\\" in text else text


def bracketed(host: str) -> str:
    """A host as it is written before a port: IPv6 addresses stand in brackets."""
    return f"[{host}]" if ":" in host else host
