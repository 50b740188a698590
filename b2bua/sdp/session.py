"""Session descriptions: bytes -> SessionDescription -> the same bytes (RFC 8866).

Strict where a wrong guess would send media astray (`v=`, `o=`, `c=`, `m=`), forgiving elsewhere: line ends, a missing
`s=` or `t=`, unknown lines and attributes, which are all kept as they came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from ipaddress import ip_address

MAX_BYTES = 32 * 1024
MAX_LINES = 1000
MAX_MEDIA = 32
MAX_FORMATS = 128

_LINE_END = re.compile("\r\n|\n|\r")
_LETTER_LINE = re.compile("[a-z]=")
_MEDIA = re.compile(r"([!-.0-~]+)\s+(\d{1,5})(?:/(\d{1,5}))?\s+([!-~]+)((?:\s+[!-~]+)+)\s*", re.ASCII)
_RTPMAP = re.compile(r"a=rtpmap:(\d{1,3})\s+([!-.0-~]+)/(\d{1,8})(?:/(\d{1,3}))?\s*$", re.ASCII)

# RFC 3551 §6: what the numbers below 96 mean when nobody maps them.
STATIC_CODECS: Mapping[int, str] = {
    0: "PCMU/8000", 3: "GSM/8000", 4: "G723/8000", 5: "DVI4/8000", 6: "DVI4/16000", 7: "LPC/8000", 8: "PCMA/8000",
    9: "G722/8000", 10: "L16/44100/2", 11: "L16/44100", 12: "QCELP/8000", 13: "CN/8000", 15: "G728/8000",
    16: "DVI4/11025", 17: "DVI4/22050", 18: "G729/8000",
}  # fmt: skip
EVENTS = "telephone-event"
NOT_VOICE = frozenset({"TELEPHONE-EVENT", "CN", "RED"})         # no audio by themselves


class SdpError(ValueError):
    """This is not a session description that can be worked with."""


class Direction(Enum):
    """Whose packets are wanted, as the one says who describes itself (RFC 3264 §5.1)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def receives(self) -> bool:
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @property
    def mirrored(self) -> Direction:
        """What the other says who agrees to it (RFC 3264 §6.1)."""
        match self:
            case Direction.SENDONLY:
                return Direction.RECVONLY
            case Direction.RECVONLY:
                return Direction.SENDONLY
        return self

    @property
    def without_receiving(self) -> Direction:
        return Direction.SENDONLY if self in (Direction.SENDRECV, Direction.SENDONLY) else Direction.INACTIVE


DIRECTION_LINES: Mapping[str, Direction] = {f"a={direction.value}": direction for direction in Direction}


@dataclass(frozen=True, slots=True)
class Host:
    """A `c=` address: `literal` is its one spelling, or None for a name (which we do not look up for media)."""

    text: str
    literal: str | None
    multicast: bool
    unspecified: bool


def is_voice(codec: str) -> bool:
    """Of an encoding as `PCMU/8000`."""
    return codec.partition("/")[0].upper() not in NOT_VOICE


def is_events(codec: str) -> bool:
    """Digits (RFC 4733 §7.1)."""
    return codec.partition("/")[0].lower() == EVENTS


@lru_cache(maxsize=1024)
def host(text: str) -> Host:
    try:
        address = ip_address(text)
    except ValueError:
        return Host(text, None, multicast=False, unspecified=False)
    return Host(text, str(address), multicast=address.is_multicast, unspecified=address.is_unspecified)


@dataclass(frozen=True, slots=True)
class Media:
    """One `m=` line (`head`, without "m=") and all that belongs to it, as it came."""

    head: str
    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    lines: tuple[str, ...] = ()

    @property
    def connection(self) -> Host | None:
        return _connection(self.lines)

    @property
    def direction(self) -> Direction | None:
        return _direction(self.lines)

    def attribute(self, name: str) -> str | None:
        """The value of the first `a=name:value`."""
        prefix = f"a={name}:"
        return next((line[len(prefix):] for line in self.lines if line.startswith(prefix)), None)

    def codecs(self) -> dict[int, str]:
        """Payload type -> encoding, `PCMU/8000` (RFC 8866 §6.6), in the order of preference."""
        mapped = dict(self._rtpmaps())
        return {number: mapped.get(number) or STATIC_CODECS.get(number, f"unknown-{number}/8000")
                for number in map(_payload_type, self.formats)}

    def _rtpmaps(self) -> list[tuple[int, str]]:
        found = [match.groups() for line in self.lines if (match := _RTPMAP.match(line))]
        return [(int(number), f"{name}/{clock}" if channels in (None, "1") else f"{name}/{clock}/{channels}")
                for number, name, clock, channels in found]

    def rejected(self) -> Media:
        """The same line with port 0 and nothing below it: the stream is not wanted (RFC 3264 §6)."""
        return replace(self, head=f"{self.kind} 0 {self.protocol} {' '.join(self.formats)}", port=0, lines=())


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """The session's own lines ("v=0", ...) and its media."""

    lines: tuple[str, ...]
    media: tuple[Media, ...]

    @property
    def origin(self) -> str:
        return next(line[2:] for line in self.lines if line.startswith("o="))

    @property
    def connection(self) -> Host | None:
        return _connection(self.lines)

    @property
    def direction(self) -> Direction | None:
        return _direction(self.lines)

    def __bytes__(self) -> bytes:
        lines = [*self.lines]
        for media in self.media:
            lines.append(f"m={media.head}")
            lines += media.lines
        return encode(lines)


def encode(lines: list[str]) -> bytes:
    lines.append("")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


def parse(body: bytes) -> SessionDescription:
    """Raises SdpError."""
    if len(body) > MAX_BYTES:
        raise SdpError(f"more than {MAX_BYTES} bytes")
    lines = _lines(body.decode("utf-8", "surrogateescape"))
    starts = [index for index, line in enumerate(lines) if line[0] == "m"]
    if len(starts) > MAX_MEDIA:
        raise SdpError(f"more than {MAX_MEDIA} m= lines")
    ends = [*starts, len(lines)][1:]
    session = tuple(lines[: starts[0]] if starts else lines)
    _check_session(session)
    media = tuple(_media(lines[start][2:], tuple(lines[start + 1 : end]))
                  for start, end in zip(starts, ends, strict=True))
    description = SessionDescription(session, media)
    _check_connections(description)
    return description


def _lines(text: str) -> list[str]:
    lines = text.split("\r\n") if "\n" in text and text.count("\n") == text.count("\r\n") else _LINE_END.split(text)
    while lines and not lines[-1].strip():              # the last line's end, and blank lines that some append
        lines.pop()
    if len(lines) > MAX_LINES:
        raise SdpError(f"more than {MAX_LINES} lines")
    for line in lines:
        if not _LETTER_LINE.match(line) or "\0" in line or "\r" in line:
            raise SdpError(f"not a line of SDP: {line[:40]!r}")
    return lines


def _check_session(lines: tuple[str, ...]) -> None:
    if not lines or lines[0].rstrip() != "v=0":
        raise SdpError("does not begin with v=0")
    origins = [line for line in lines if line[0] == "o"]
    if len(origins) != 1 or len(origins[0].split()) != 6:
        raise SdpError("needs one o= line of six fields")


def _media(head: str, lines: tuple[str, ...]) -> Media:
    match = _MEDIA.fullmatch(head)
    if match is None:
        raise SdpError(f"malformed m= line: {head[:60]!r}")
    kind, port, _count, protocol, formats = match.groups()
    if int(port) > 65535:
        raise SdpError(f"no such port: {port}")
    listed = tuple(formats.split())
    if len(listed) > MAX_FORMATS:
        raise SdpError(f"more than {MAX_FORMATS} formats in one m= line")
    return Media(head, kind, int(port), protocol, listed, lines)


def _payload_type(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 127:
        raise SdpError(f"no payload type: {text[:20]!r}")
    return int(text)


def _check_connections(description: SessionDescription) -> None:
    default = description.connection
    for media in description.media:
        if media.connection is None and default is None and media.port:
            raise SdpError("an m= line without a c= line")


def _connection(lines: tuple[str, ...]) -> Host | None:
    for line in lines:
        if line[0] == "c":
            fields = line[2:].split()
            if len(fields) != 3 or fields[0] != "IN" or fields[1] not in ("IP4", "IP6"):
                raise SdpError(f"malformed c= line: {line[:60]!r}")
            return host(fields[2].partition("/")[0])    # "/ttl" belongs to multicast
    return None


def _direction(lines: tuple[str, ...]) -> Direction | None:
    return next((DIRECTION_LINES[line] for line in lines if line in DIRECTION_LINES), None)
