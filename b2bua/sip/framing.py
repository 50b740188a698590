"""A byte stream cut into SIP messages by Content-Length, and its keep-alives (RFC 3261 §18.3, RFC 5626 §3.5.1)."""

from __future__ import annotations

import re
from enum import Enum

MAX_HEAD = 65_535                          # octets of start line and header fields
MAX_START_LINE = 8_192                     # octets
MAX_BODY = 262_144                         # octets
MAX_MESSAGES = 1_000                       # messages and keep-alives that one piece of the stream may hold

_CONTENT_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*+:([^\r\n]*+(?>(?:\r\n[ \t][^\r\n]*+)*))", re.IGNORECASE)


class FramingError(ValueError):
    """Nobody can tell where the next message begins: the connection is of no more use."""


class KeepAlive(Enum):
    """Line ends between messages (RFC 5626 §4.4.1)."""

    CRLF = "CRLF"                          # the answer to our ping, or the first half of the peer's
    PING = "CRLF CRLF"                     # comes after a CRLF of its own; to be answered with one CRLF


class StreamFramer:
    """Pieces of a stream in, whole messages out; how the stream was cut makes no difference."""

    __slots__ = ("_after_line_end", "_buffer", "_need", "_scanned", "_speaks_sip")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0                  # where the search for the end of the head goes on
        self._need = 0                     # octets of the message whose head is complete, 0 while it is not
        self._speaks_sip = False           # the start line of the message in work was looked at
        self._after_line_end = False       # the last thing seen was the first half of a ping

    @property
    def pending(self) -> int:
        """Octets that wait for the rest of their message."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes | KeepAlive]:
        self._buffer += data
        found: list[bytes | KeepAlive] = []
        while (item := self._next()) is not None:
            found.append(item)
            if len(found) > MAX_MESSAGES:
                raise FramingError("too many messages at once")
        return found

    def _next(self) -> bytes | KeepAlive | None:
        buffer = self._buffer
        if not self._need:
            if buffer[:1] == b"\r":
                return self._line_end()
            if not self._find_head():
                return None
        if len(buffer) < self._need:
            return None
        message = bytes(buffer[:self._need])
        del buffer[:self._need]
        self._need = self._scanned = 0
        self._speaks_sip = False
        return message

    def _line_end(self) -> KeepAlive | None:
        if len(self._buffer) < 2:
            return None
        if self._buffer[:2] != b"\r\n":
            raise FramingError("bare CR between messages")
        del self._buffer[:2]
        self._after_line_end = not self._after_line_end
        return KeepAlive.CRLF if self._after_line_end else KeepAlive.PING

    def _find_head(self) -> bool:
        """Whether the head is complete; if so, `_need` says how long the whole message is."""
        buffer = self._buffer
        if not buffer:
            return False
        self._after_line_end = False
        if not self._speaks_sip:
            self._check_start_line()
        end = buffer.find(b"\r\n\r\n", self._scanned)
        if end < 0:
            if len(buffer) > MAX_HEAD + 3:
                raise FramingError("header fields without end")
            self._scanned = max(0, len(buffer) - 3)
            return False
        if end > MAX_HEAD:
            raise FramingError("header fields too long")
        self._need = end + 4 + _content_length(bytes(buffer[:end]))
        return True

    def _check_start_line(self) -> None:
        """What does not speak SIP (a browser, a scanner, TLS) is known by its first line."""
        end = self._buffer.find(b"\r\n")
        if end > MAX_START_LINE or (end < 0 and len(self._buffer) > MAX_START_LINE + 1):
            raise FramingError("start line too long")
        if end >= 0 and b"SIP/" not in self._buffer[:end].upper():
            raise FramingError("not SIP")
        self._speaks_sip = end >= 0


def _content_length(head: bytes) -> int:
    """RFC 3261 §20.14 makes it mandatory on a stream; a peer that leaves it out is taken to have no body."""
    values = {value.strip() for value in _CONTENT_LENGTH.findall(head)}
    if not values:
        return 0
    if len(values) > 1:
        raise FramingError("contradictory Content-Length")
    value = values.pop()
    if not value.isdigit() or len(value) > 19 or int(value) > MAX_BODY:
        raise FramingError("bad Content-Length")
    return int(value)
