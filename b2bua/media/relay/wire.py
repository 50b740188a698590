"""What the switch tells the relay process and what it hears back: JSON arrays, a line each, some to a packet."""

from __future__ import annotations

import itertools
import json
from collections import deque
from typing import NamedTuple

MAX_PACKET = 64 * 1024
MAX_LINES = 8                           # in a packet; a line is some hundred bytes, at most 4 kB


class Open(NamedTuple):
    """Bind two pairs of ports, to be handed out later."""

    session: int


class Remote(NamedTuple):
    """One side described itself: where it wants RTP and RTCP (host "": unknown), its payload types, whether on hold."""

    session: int
    side: int                           # 0 caller, 1 callee
    host: str
    port: int
    rtcp_host: str
    rtcp_port: int
    codecs: dict[str, str]              # payload type -> encoding; JSON knows no other keys
    on_hold: bool
    fax: bool = False                   # UDPTL instead of RTP


class SendDigit(NamedTuple):
    """Press this key towards a side, by events in its audio (RFC 4733)."""

    session: int
    side: int
    digit: str
    milliseconds: int


class Record(NamedTuple):
    session: int
    recording: str


class Watch(NamedTuple):
    """Tell when no RTP comes, from now on."""

    session: int


class Sound(NamedTuple):
    """Where that sound lies in the memory that both processes see: its code words of A-law, behind them those of
    µ-law."""

    name: str
    offset: int
    samples: int


class Play(NamedTuple):
    """One sound to one side, in the place of what is played to it. `number` names this playing in Played."""

    session: int
    side: int                           # who hears it
    number: int
    sound: str
    repeat: bool                        # until Stop
    yields: bool                        # to what the other side sends; else the two sides do not hear each other
    payload_type: int
    mu_law: bool


class Tune(NamedTuple):
    """The side that hears something has agreed upon another codec, or does not want to receive just now."""

    session: int
    side: int
    payload_type: int
    mu_law: bool
    listens: bool


class Stop(NamedTuple):
    session: int
    side: int


class Close(NamedTuple):
    session: int


class Look(NamedTuple):
    """Tell how the audio of all sessions arrives: Arrivals follow, some at a time."""


Command = Open | Remote | SendDigit | Record | Watch | Sound | Play | Tune | Stop | Close | Look


class Ready(NamedTuple):
    """The relay serves."""

    sessions: int                       # how many its ports allow


class CannotStart(NamedTuple):
    why: str


class Opened(NamedTuple):
    session: int
    caller_port: int
    callee_port: int


class NoPorts(NamedTuple):
    session: int
    why: str


class Silent(NamedTuple):
    """RTP time-out."""

    session: int


class Played(NamedTuple):
    """It was played to its end."""

    session: int
    side: int
    number: int


class Pressed(NamedTuple):
    """A key, by events in the audio of a side; the other side cannot be told in this way."""

    session: int
    side: int
    digit: str
    milliseconds: int


class RecordingStopped(NamedTuple):
    """An alarm: the call goes on without being recorded."""

    session: int
    recording: str
    why: str


class Direction(NamedTuple):
    """What came from one side."""

    packets: int
    octets: int
    lost: int
    jitter_ms: float
    foreign: int
    codec: str
    dropped: int                        # believed, but not RTP, or nobody to send it to, or the kernel refused it


class Closed(NamedTuple):
    session: int
    caller: Direction
    callee: Direction
    recorded: bool


class Arrival(NamedTuple):
    """What has come of a session, each of caller and callee."""

    session: int
    packets: tuple[int, int]
    lost: tuple[int, int]
    jitter_ms: tuple[float, float]


class Arrivals(NamedTuple):
    rows: list[Arrival]


Event = Ready | CannotStart | Opened | NoPorts | Silent | Played | Pressed | RecordingStopped | Closed | Arrivals

_COMMANDS: dict[str, type[Command]] = {
    kind.__name__: kind for kind in (Open, Remote, SendDigit, Record, Watch, Sound, Play, Tune, Stop, Close, Look)
}
_EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (Ready, CannotStart, Opened, NoPorts, Silent, Played, Pressed, RecordingStopped, Closed, Arrivals)
}
_encode = json.JSONEncoder(separators=(",", ":")).encode


def encode(message: Command | Event) -> bytes:
    return _encode([type(message).__name__, *message]).encode()


def pack(lines: deque[bytes]) -> bytes:
    """The first of them as one packet: a system call costs more than all that a message does."""
    return b"\n".join(itertools.islice(lines, MAX_LINES))


def taken(lines: deque[bytes]) -> None:
    """That packet has been sent."""
    for _ in range(min(MAX_LINES, len(lines))):
        lines.popleft()


def commands(packet: bytes) -> list[Command]:
    return [_command(line) for line in packet.split(b"\n")]


def events(packet: bytes) -> list[Event]:
    return [_event(line) for line in packet.split(b"\n")]


def _command(line: bytes) -> Command:
    name, *values = json.loads(line)
    return _COMMANDS[name](*values)


def _event(line: bytes) -> Event:
    name, *values = json.loads(line)
    if name == Closed.__name__:
        number, caller, callee, recorded = values
        return Closed(number, Direction(*caller), Direction(*callee), recorded)
    if name == Arrivals.__name__:
        return Arrivals([Arrival(number, *map(tuple, pairs)) for number, *pairs in values[0]])
    return _EVENTS[name](*values)
