"""What is said on the legs of each call, noted message by message while it lasts; `calls/ladder` tells it.

This is the hot path of signalling: a note costs about a microsecond, and reads nothing that was not read anyway. A
message belongs to the call that has a leg of its Call-ID, from its INVITE (which comes before there is a leg) to what
is said after its end. Of the message only what will be told is kept: no field, no body but a session description.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from b2bua.sip.effects import Flow
from b2bua.sip.fields import CSeq
from b2bua.sip.message import Message, Request, Response
from b2bua.sip.offer_answer import sdp_of

FIRST: Final = 60                          # messages of a call that are kept from its beginning ...
LAST: Final = 60                           # ... and from its end; those in between are counted
MAX_BODIES: Final = 32_000                 # bytes of session descriptions kept of one call
MAX_LEGS: Final = 200                      # Call-IDs of one call that are followed; of more, the last
MAX_LONE: Final = 500                      # Call-IDs whose INVITE has made no leg: challenged, refused, strangers'
MAX_LONE_STEPS: Final = 8                  # messages of one of these
LONGEST: Final = 80                        # characters of a method or a reason phrase

_CALL_ID, _COMPACT, _CSEQ, _END = b"\r\nCall-ID: ", b"\r\ni: ", b"\r\nCSeq: ", b"\r\n"


class Noted(NamedTuple):
    """One message of a call, or (without a flow) something that happened beside them."""

    at: float                              # of the loop's clock
    incoming: bool
    peer: str                              # "trunk operator", "phone 102"; of what happened beside: ""
    flow: Flow | None
    what: str | int                        # method or status; what happened
    reason: str                            # the response's own phrase
    cseq: CSeq | bytes                     # as it was read, or as it was written
    sdp: bytes


_FIELDS = len(Noted._fields)


class Ladder:
    """Of one call, bounded: the first messages and the last ones."""

    __slots__ = ("_bodies", "_first", "_last", "began", "call_ids", "invited", "is_over", "left_out")

    def __init__(self) -> None:
        self.began = 0.0                   # when the call did, by the loop's clock
        self.invited: float | None = None  # when the INVITE came by which it did
        self.left_out = 0                  # after the first ones
        self.is_over = False
        self.call_ids: list[str] = []
        self._first: list[Any] = []        # the fields of each
        self._last: deque[Noted] | None = None           # few calls say so much
        self._bodies = 0

    def happened(self, what: str, at: float) -> None:
        """Something that belongs between the messages, in a few words."""
        self.add(at, False, "", None, what, "", b"", b"")

    def add(
        self, at: float, incoming: bool, peer: str, flow: Flow | None, what: str | int, reason: str,
        cseq: CSeq | bytes, sdp: bytes,
    ) -> None:
        """One more; see Noted."""
        if sdp:
            if self._bodies + len(sdp) > MAX_BODIES:
                sdp = b""
            self._bodies += len(sdp)
        if len(self._first) < FIRST * _FIELDS:
            # One after the other: a value for each message would be the collector's business, and twice as large.
            self._first += (at, incoming, peer, flow, what, reason, cseq, sdp)
            return
        if self._last is None:
            self._last = deque()
        if len(self._last) == LAST:
            self._bodies -= len(self._last.popleft().sdp)
            self.left_out += 1
        self._last.append(Noted(at, incoming, peer, flow, what, reason, cseq, sdp))

    def __len__(self) -> int:
        return len(self._first) // _FIELDS + len(self._last or ())

    def __iter__(self) -> Iterator[Noted]:
        """All that is kept, in its order; what was left out stood after the first FIRST."""
        for place in range(0, len(self._first), _FIELDS):
            yield Noted._make(self._first[place:place + _FIELDS])
        yield from self._last or ()


class _Line:
    """To whose ladder what has this Call-ID belongs, and who is at the other end."""

    __slots__ = ("also", "ladder", "peer")

    def __init__(self, ladder: Ladder, peer: str, also: _Line | None = None) -> None:
        self.ladder = ladder
        self.peer = peer
        self.also = also                   # of another call: an operator has led ours back to us, or forked it


class Ladders:
    """Those of all calls, by Call-ID."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._lone: dict[str, list[Noted]] = {}          # the oldest first

    # -- the agent notes

    def received(self, message: Request | Response, flow: Flow, now: float) -> None:
        call_id, cseq = message.call_id, message.cseq    # the parser has read both
        if len(cseq.method) > LONGEST:
            cseq = CSeq(cseq.number, cseq.method[:LONGEST])
        what: str | int
        if type(message) is Request:
            what, reason = cseq.method, ""
        else:
            what, reason = _answer(message)
        line = self._lines.get(call_id)
        if line is None:
            if what == "INVITE" or call_id in self._lone:
                self._note_lone(call_id, Noted(now, True, "", flow, what, reason, cseq, b""))
            return
        sdp = _sdp(message) if message.body else b""
        line.ladder.add(now, True, line.peer, flow, what, reason, cseq, sdp)
        if line.also is not None:
            line.also.ladder.add(now, True, line.also.peer, flow, what, reason, cseq, sdp)

    def sent(self, message: Request | Response, data: bytes, flow: Flow, now: float) -> None:
        """`data` is how it is written: what is sent again has no fields any more (Message.condense)."""
        call_id = (_field(data, _CALL_ID) or _field(data, _COMPACT)).decode("utf-8", "surrogateescape")
        line = self._lines.get(call_id)
        if line is None and call_id not in self._lone:
            return
        what: str | int
        if type(message) is Request:
            what, reason = message.method, ""
        else:
            what, reason = _answer(message)
        cseq = _field(data, _CSEQ)[:LONGEST]
        if line is None:
            self._note_lone(call_id, Noted(now, False, "", flow, what, reason, cseq, b""))
            return
        sdp = _sdp(message) if message.body else b""
        line.ladder.add(now, False, line.peer, flow, what, reason, cseq, sdp)
        if line.also is not None:
            line.also.ladder.add(now, False, line.also.peer, flow, what, reason, cseq, sdp)

    def _note_lone(self, call_id: str, noted: Noted) -> None:
        """Perhaps it becomes a call's: a phone is challenged before. Without the body, which comes again."""
        steps = self._lone.get(call_id)
        if steps is None:
            if len(self._lone) >= MAX_LONE:
                del self._lone[next(iter(self._lone))]
            steps = self._lone[call_id] = []
        if len(steps) < MAX_LONE_STEPS:
            steps.append(noted)

    # -- whose messages these are

    def follow(self, call_id: str, ladder: Ladder, peer: str, invite: Request | None = None) -> None:
        """A leg of that call has this Call-ID from now on. `invite`: it came by that."""
        if ladder.is_over:
            return
        before = self._lines.get(call_id)
        also = before if before is not None and invite is not None and before.ladder is not ladder else None
        if also is not None:
            also = _Line(also.ladder, also.peer)
        self._lines[call_id] = _Line(ladder, peer, also)
        if call_id not in ladder.call_ids:
            ladder.call_ids.append(call_id)
            if len(ladder.call_ids) > MAX_LEGS:
                self._forget(ladder.call_ids.pop(0), ladder)
        steps = self._lone.pop(call_id, [])
        last = max((place for place, step in enumerate(steps) if step.what == "INVITE"), default=None)
        if last is not None and invite is not None and not ladder:
            ladder.invited = steps[last].at
        for place, step in enumerate(steps):
            sdp = _sdp(invite) if place == last and invite is not None else b""
            ladder.add(*step._replace(peer=peer, sdp=sdp))

    def over(self, ladder: Ladder) -> None:
        """Nothing more is noted of that call."""
        ladder.is_over = True
        while ladder.call_ids:
            self._forget(ladder.call_ids.pop(), ladder)

    def _forget(self, call_id: str, ladder: Ladder) -> None:
        line = self._lines.get(call_id)
        if line is None:
            return
        if line.ladder is ladder:
            if line.also is None:
                del self._lines[call_id]   # else a leg has moved to another call, which goes on
            else:
                self._lines[call_id] = line.also
        elif line.also is not None and line.also.ladder is ladder:
            line.also = None

    @property
    def lone(self) -> int:
        """Call-IDs that belong to no call, yet."""
        return len(self._lone)

    def __len__(self) -> int:
        """Call-IDs that are followed."""
        return len(self._lines)


def _answer(response: Message) -> tuple[int, str]:
    """A peer's words may be as long as a message."""
    assert isinstance(response, Response)
    reason = response.reason
    return response.status, reason if len(reason) <= LONGEST else reason[:LONGEST]


def _sdp(message: Message) -> bytes:
    body = message.body
    return body if body.startswith(b"v=") else sdp_of(message) if body.startswith((b"--", b"\r\n--")) else b""


def _field(data: bytes, name: bytes) -> bytes:
    """Of a message of ours: its value as it is written; b"" when there is none."""
    at = data.find(name)
    if at < 0:
        return b""
    at += len(name)
    return data[at:data.find(_END, at)]
