"""One call, told in its order: its messages (`ua/ladders` has noted them), what was decided, and what came of it. Pure.

What is kept of a message, and shown, is what it was, from or to whom, and a few words on its session description.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from b2bua.cdr import CallRecord, EndReason
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.ua.ladders import FIRST, Ladder, Noted

LONGEST_NAME: Final = 64                   # characters: a trunk, an extension
LONGEST_SAID: Final = 160                  # start of a message, and its CSeq
LONGEST_TEXT: Final = 400                  # of a decision, or of what happened beside the messages
LONGEST_LINE: Final = 600                  # of all that is told of one message
LONGEST_SDP: Final = 16_000                # bytes of a session description that are looked at
MAX_CODECS: Final = 12                     # named of one
MAX_PACKED: Final = 1_000_000              # bytes that a kept ladder may be, unpacked
COMPRESSION: Final = 1                     # the fastest

_AUDIO = re.compile(rb"^m=(audio|image) (\d{1,5})(?:/\d{1,5})? (\S{1,40})((?: \S{1,40}){0,64})", re.MULTILINE)
_RTPMAP = re.compile(rb"^a=rtpmap:(\d{1,3}) ([!-.0-~]{1,32})/", re.MULTILINE)
_DIRECTION = re.compile(rb"^a=(sendonly|recvonly|inactive)\b", re.MULTILINE)
_CONNECTION = re.compile(rb"^c=IN IP[46] ([0-9A-Za-z.:-]{1,64})", re.MULTILINE)
_AT_ONCE = re.compile(r"  (?:100|401|407) ")
_STATIC = {b"0": b"PCMU", b"3": b"GSM", b"4": b"G723", b"8": b"PCMA", b"9": b"G722", b"13": b"CN", b"18": b"G729"}
_UNSPECIFIED = (b"0.0.0.0", b"::")         # RFC 2543's way to say hold


class UnreadableLadder(ValueError):
    """What is kept there is no ladder."""


class Step(NamedTuple):                    # made for every message of every call
    """A message of the call, or (without a way) what happened between two."""

    after: float                           # seconds since the call's beginning
    way: str                               # "in", "out", ""
    peer: str                              # "trunk operator at 10.0.1.1:5060"
    what: str                              # "INVITE (CSeq 1)", "180 Ringing (CSeq 1 INVITE)"
    sdp: str = ""                          # "PCMA, PCMU; audio 10.0.0.5:4000; hold"


@dataclass(frozen=True, slots=True)
class Messages:
    """All that is known of a call's messages. `left_out` stood behind the first FIRST."""

    steps: tuple[Step, ...]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """Of the whole story."""

    after: float | None                    # None: it belongs to no moment
    kind: str                              # in, out, decided, rang, answered, ended, happened, left out, recording, crm
    text: str

    def __str__(self) -> str:
        arrow = {"in": "<-", "out": "->"}.get(self.kind, "  ")
        return f"{'' if self.after is None else f'{self.after:.3f}':>9}  {arrow} {self.text}"


# -- what is kept


def messages_of(ladder: Ladder) -> Messages:
    """In words; some three microseconds a message, and five for a session description."""
    peers: dict[tuple[str, Address], str] = {}
    began, invited = ladder.began, ladder.invited if ladder.invited is not None else ladder.began
    return Messages(tuple([_step(noted, began, invited, peers) for noted in ladder]), ladder.left_out)


def pack(messages: Messages) -> bytes:
    return zlib.compress(_encode(to_plain(messages)).encode("ascii"), COMPRESSION)


def unpack(packed: bytes) -> Messages:
    """Raises UnreadableLadder."""
    try:
        unpacking = zlib.decompressobj()
        text = unpacking.decompress(packed, MAX_PACKED)
        if not unpacking.eof:
            raise UnreadableLadder("too large, or cut off")
        return from_plain(json.loads(text))
    except (zlib.error, ValueError, RecursionError) as error:
        raise UnreadableLadder(str(error)) from error


_encode = json.JSONEncoder(separators=(",", ":")).encode


def to_plain(messages: Messages) -> list[Any]:
    """For JSON."""
    return [messages.left_out, messages.steps]


def from_plain(plain: object) -> Messages:
    """Raises UnreadableLadder."""
    try:
        left_out, rows = plain  # type: ignore[misc]
        steps = [Step(float(after), str(way), str(peer), str(what), str(sdp)) for after, way, peer, what, sdp in rows]  # type: ignore[has-type]
        return Messages(tuple(steps), int(left_out))  # type: ignore[has-type]
    except (TypeError, ValueError) as error:
        raise UnreadableLadder(f"not a ladder: {error}") from error


def _step(noted: Noted, began: float, invited: float, peers: dict[tuple[str, Address], str]) -> Step:
    """From the INVITE until it is a call is no time; a challenge came before both."""
    at, incoming, name, flow, what, reason, cseq, sdp = noted
    after = round(at - began if at > began else min(at - invited, 0.0), 3) or 0.0      # no minus before a nought
    if flow is None:
        return Step(after, "", "", printable(str(what)))
    peer = peers.get((name, flow.remote))
    if peer is None:
        peer = peers[name, flow.remote] = _peer(name, flow)
    of = cseq.decode("utf-8", "replace") if isinstance(cseq, bytes) else f"{cseq.number} {cseq.method}"
    said = f"{what} {reason} (CSeq {of})" if isinstance(what, int) else f"{what} (CSeq {of.partition(' ')[0]})"
    return Step(after, "in" if incoming else "out", peer, printable(said, LONGEST_SAID), sdp_word(sdp) if sdp else "")


def _peer(name: str, flow: Flow) -> str:
    host, port = flow.remote
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    transport = "" if flow.transport is Transport.UDP else f" {flow.transport.value}"
    return f"{printable(name, LONGEST_NAME)} at {where}{transport}"


def sdp_word(sdp: bytes) -> str:
    """A few words on a session description, whatever it is: no attribute's value but codecs' names."""
    sdp = sdp[:LONGEST_SDP]
    match = _AUDIO.search(sdp)
    if match is None:
        return "SDP without audio"
    kind, port, protocol, formats = match.groups()
    start, end = match.end(), sdp.find(b"\nm=", match.end())
    end = len(sdp) if end < 0 else end
    connection = _CONNECTION.search(sdp, start, end) or _CONNECTION.search(sdp, 0, start)
    host = connection[1] if connection is not None else b"?"
    words = ["T.38" if kind == b"image" else _codecs(formats.split(), _RTPMAP.findall(sdp, start, end))]
    if int(port):
        words.append(f"{kind.decode()} {host.decode()}:{int(port)}")
    else:
        words.append(f"no {kind.decode()}")
    if b"SAVP" in protocol:
        words.append("SRTP")
    direction = _DIRECTION.search(sdp, start, end) or _DIRECTION.search(sdp, 0, start)
    if host in _UNSPECIFIED or (direction is not None and direction[1] != b"recvonly"):
        words.append(f"hold ({direction[1].decode()})" if direction is not None else "hold")
    elif direction is not None:
        words.append("recvonly")
    return printable("; ".join(words), LONGEST_TEXT)


def _codecs(formats: Sequence[bytes], rtpmaps: Sequence[tuple[bytes, bytes]]) -> str:
    mapped = dict(rtpmaps)
    names = [mapped.get(one) or _STATIC.get(one, one) for one in formats]
    more = f" and {len(names) - MAX_CODECS} more" if len(names) > MAX_CODECS else ""
    return ", ".join(name.decode("ascii", "replace") for name in names[:MAX_CODECS]) + more


def printable(text: str, longest: int = LONGEST_TEXT) -> str:
    """On one line of any terminal, whatever a stranger wrote."""
    text = text if len(text) <= longest else f"{text[:longest - 1]}…"
    if text.isprintable():
        return text
    return "".join([letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text])


# -- the whole story


def title(record: CallRecord, *, is_over: bool) -> str:
    caller, by = record.caller or "withheld", f", by trunk {record.trunk}" if record.trunk is not None else ""
    what = f"call {record.id} of {record.client}: {record.direction.value}, {caller} calls {record.dialled}{by}"
    how = f"{record.disposition.value}, {record.reason.value}" if is_over else "in progress"
    return printable(f"{what}; {record.started_at.astimezone():%Y-%m-%d %H:%M:%S %z}; {how}", LONGEST_LINE)


def story(record: CallRecord, messages: Messages | None, more: Iterable[Line] = (), *, is_over: bool) -> list[Line]:
    """All of it, the oldest first; what belongs to no moment comes last. `more`: from elsewhere."""
    moments = sorted([*_moments(record, is_over=is_over), *(line for line in more if line.after is not None)],
                     key=lambda line: line.after or 0.0)
    told = list(_merged(_said(messages) if messages is not None else (), moments))
    if len(record.why_after) != len(record.why):
        told += [Line(None, "decided", printable(why)) for why in record.why]
    return told + [line for line in more if line.after is None]


def seconds_after(record: CallRecord, at: datetime) -> float:
    return round((at - record.started_at).total_seconds(), 3)


def no_messages(record: CallRecord) -> str:
    """Why there is no ladder of a call that is in the books."""
    if record.reason is EndReason.RESTARTED:
        return "its messages are not known: the switch died during this call, and what was noted of them with it"
    return ("its messages are not known: none were kept (log.call_trace_days), they are older than that, too many "
            "calls waited to have theirs kept, or the switch died at once after it")


def _moments(record: CallRecord, *, is_over: bool) -> Iterator[Line]:
    if len(record.why_after) == len(record.why):
        for after, why in zip(record.why_after, record.why, strict=True):
            yield Line(after, "decided", printable(why))
    if record.rang_at is not None:
        yield Line(seconds_after(record, record.rang_at), "rang", "it rings")
    if record.answered_at is not None:
        yield Line(seconds_after(record, record.answered_at), "answered", "answered")
    if is_over:
        cause = f", cause {record.cause}" if record.cause is not None else ""
        ended = f"ended by {record.ended_by.value}: {record.reason.value} ({record.disposition.value}, {record.status}"
        talked = f", {record.talk_seconds} s of talk" if record.answered_at is not None else ""
        yield Line(seconds_after(record, record.ended_at), "ended", f"{ended}{cause}{talked})")


def _said(messages: Messages) -> Iterator[Line]:
    seen: set[tuple[str, str, str]] = set()
    for place, step in enumerate(messages.steps):
        if place == FIRST and messages.left_out:
            yield Line(step.after, "left out", f"… {messages.left_out} messages in between were not kept")
        if not step.way:
            yield Line(step.after, "happened", printable(step.what))
            continue
        key = step.way, step.peer, step.what
        again = " again" if key in seen else ""
        seen.add(key)
        sdp = f": {step.sdp}" if step.sdp else ""
        yield Line(step.after, step.way, printable(f"{step.peer}  {step.what}{again}{sdp}", LONGEST_LINE))


def _merged(said: Iterable[Line], moments: Sequence[Line]) -> Iterator[Line]:
    """The messages keep their order. Of the same millisecond, what came in goes before what was made of it, and that
    before what went out, unless that was sent before anything was decided."""
    waiting = list(reversed(moments))
    for line in said:
        at = line.after or 0.0
        comes_of_it = line.kind == "out" and not _AT_ONCE.search(line.text)
        while waiting and ((then := waiting[-1].after or 0.0) < at or (then == at and comes_of_it)):
            yield waiting.pop()
        yield line
    yield from reversed(waiting)
