"""Digits as events in RTP, read and written (RFC 4733).

    reader   every event is told once, in the order of the timestamps, whatever was lost, doubled or overtaken
    writer   a digit takes the place of voice packets: same source, same sequence; without voice it goes by the clock
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

DIGITS = "0123456789*#ABCD"             # RFC 4733 §3.2, the events 0 to 15
MAX_UNITS = 0xFFFF                      # of 16 bits; a longer event goes on as another one (RFC 4733 §2.5.1.3)
MAX_SECONDS = 5.0                       # of a digit that we send
MIN_SECONDS = 0.04                      # ITU-T Q.24: what is shorter need not be recognised
PAUSE = 0.06                            # between two digits, at least
ENDS = 3                                # the last packet is sent so often (RFC 4733 §2.5.1.4)
VOLUME = 10                             # -dBm0
GONE = 0.2                              # seconds without a packet: the end of the event was lost
REMEMBERED = 16                         # events that were told already, and may be heard of again
MAX_OPEN = 8                            # events of which the end has not come
MAX_A_SECOND = 20                       # digits that are told; nobody presses faster
MAX_WAITING = 32                        # digits that wait to be sent
BACK_IN_TIME = 5.0                      # seconds; a timestamp older than that is no late packet, the clock began anew
SILENCE = 0.06                          # without voice for so long, the clock takes over

_PAYLOAD = Struct(">BBH")
_HEADER = Struct(">BBHII")
_numbers = Struct(">HII").unpack_from
_HALF, _WHOLE = 1 << 31, 1 << 32


@dataclass(frozen=True, slots=True)
class Digit:
    """Pressed for so long; `seconds` is 0 for one of which only the beginning came."""

    digit: str
    seconds: float


@dataclass(slots=True)
class _Heard:
    event: int
    units: int
    heard_at: float
    ended: bool = False


class EventReader:
    """Of one direction. Packets go into `read`; `due` is looked at now and then for events whose end was lost."""

    def __init__(self, clock: int) -> None:
        self._clock = clock
        self._ssrc = -1
        self._open: dict[int, _Heard] = {}              # by timestamp
        self._told: deque[int] = deque(maxlen=REMEMBERED)
        self._newest: int | None = None                 # timestamp of what was told last
        self._out: list[Digit] = []
        self._allowance = float(MAX_A_SECOND)
        self._refilled_at = 0.0
        self.surplus = 0                                # digits that came too fast

    def read(self, packet: memoryview, now: float) -> None:
        """A whole RTP packet of the event's payload type. What is none, or no digit, is passed over."""
        at = 12 + 4 * (packet[0] & 0x0F)
        if packet[0] & 0x10 or len(packet) < at + _PAYLOAD.size:
            return                                      # no phone sends extensions with events
        _, timestamp, ssrc = _numbers(packet, 2)
        event, flags, units = _PAYLOAD.unpack_from(packet, at)
        if event >= len(DIGITS):
            return
        if ssrc != self._ssrc:
            self._begin_anew(ssrc, now)
        if timestamp in self._told or self._is_stale(timestamp, now):
            return
        heard = self._open.get(timestamp)
        if heard is None:
            if self._is_segment(timestamp):
                return
            if len(self._open) == MAX_OPEN:
                self._tell_until(min(self._open, key=self._age), now)
            heard = self._open[timestamp] = _Heard(event, units, now)
        heard.units = max(heard.units, units)
        heard.heard_at = now
        if flags & 0x80 or units == MAX_UNITS:
            self._tell_until(timestamp, now)

    def due(self, now: float) -> list[Digit]:
        """What was pressed since the last look."""
        for timestamp in [at for at, heard in self._open.items() if now - heard.heard_at > GONE]:
            if timestamp in self._open:
                self._tell_until(timestamp, now)
        out, self._out = self._out, []
        return out

    def _begin_anew(self, ssrc: int, now: float) -> None:
        for timestamp in [*self._open]:
            if timestamp in self._open:
                self._tell_until(timestamp, now)
        self._ssrc = ssrc
        self._told.clear()
        self._newest = None

    def _tell_until(self, last: int, now: float) -> None:
        """Whatever began before that one was over before that one: lost ends come to nothing more."""
        for timestamp in sorted(self._open, key=lambda at: _signed(at - last)):
            if _signed(timestamp - last) <= 0:
                heard = self._open.pop(timestamp)
                self._told.append(timestamp)
                self._tell(heard, now)
        self._newest = last

    def _tell(self, heard: _Heard, now: float) -> None:
        self._allowance = min(MAX_A_SECOND, self._allowance + (now - self._refilled_at) * MAX_A_SECOND)
        self._refilled_at = now
        if self._allowance < 1:
            self.surplus += 1
            return
        self._allowance -= 1
        self._out.append(Digit(DIGITS[heard.event], heard.units / self._clock))

    def _is_stale(self, timestamp: int, now: float) -> bool:
        """Of an event before those that were told: it is too late for its place in the row."""
        if self._newest is None:
            return False
        age = _signed(self._newest - timestamp)
        if age > BACK_IN_TIME * self._clock:
            self._begin_anew(self._ssrc, now)
            return False
        return age >= 0

    def _is_segment(self, timestamp: int) -> bool:
        """The next part of a digit that is held for longer than 16 bits can say (RFC 4733 §2.5.1.3)."""
        if self._newest is None or self._newest != (timestamp - MAX_UNITS) % _WHOLE:
            return False
        self._told.append(timestamp)
        self._newest = timestamp
        return True

    def _age(self, timestamp: int) -> int:
        newest = self._newest if self._newest is not None else timestamp
        return _signed(timestamp - newest)


@dataclass(slots=True)
class _Sending:
    event: int
    units: int                          # how long it shall be
    timestamp: int                      # when it began
    ends: int = 0                       # last packets that have been sent
    begun: bool = False


class EventWriter:
    """Of one direction, which it sees all of: `pass_` gets each voice packet and gives what to send in its place."""

    def __init__(self, payload_type: int, clock: int, ssrc: int, sequence: int) -> None:
        self._payload_type = payload_type
        self._clock = clock
        self._waiting: deque[Digit] = deque()
        self._sending: _Sending | None = None
        self._free_at = 0                               # timestamp from which the next digit may begin
        self._pauses = False
        self._ssrc = ssrc                               # ours, until the first voice packet tells
        self._sequence = sequence                       # of the last packet that went out
        self._timestamp = 0                             # of the last voice packet, and when that was
        self._heard_at: float | None = None
        self._packet_units = clock // 50
        self._shift = 0                                 # packets that the clock has put in

    @property
    def busy(self) -> bool:
        return self._sending is not None or bool(self._waiting)

    def dial(self, digit: Digit) -> bool:
        """False: too many wait already."""
        if len(self._waiting) >= MAX_WAITING or digit.digit not in DIGITS:
            return False
        self._waiting.append(digit)
        return True

    def pass_(self, packet: memoryview, now: float) -> memoryview | bytes:
        """A voice packet on its way: itself, or the event that takes its place."""
        sequence, timestamp, ssrc = _numbers(packet, 2)
        if ssrc != self._ssrc:
            self._take_over(ssrc, sequence, timestamp)
        step = _signed(timestamp - self._timestamp) if self._heard_at is not None else 0
        if 0 < step <= self._clock // 10:
            self._packet_units = step
        elif step < -BACK_IN_TIME * self._clock:
            self._cut_short()
            step = 0
        late = step < 0
        if not late:
            self._timestamp, self._heard_at = timestamp, now
        sequence = (sequence + self._shift) & 0xFFFF
        if (sequence - self._sequence) & 0xFFFF < 0x8000:
            self._sequence = sequence
        if not late and (self._sending is not None or self._waiting) and self._is_time(timestamp):
            return self._event(sequence, timestamp + self._packet_units)
        if not self._shift:
            return packet
        return b"".join((packet[:2], sequence.to_bytes(2, "big"), packet[4:]))

    def by_clock(self, now: float) -> Iterator[bytes]:
        """What is due while no voice comes. Called every 20 to 50 ms."""
        if not self.busy or (self._heard_at is not None and now - self._heard_at < SILENCE):
            return
        if self._heard_at is None:
            self._heard_at = now - SILENCE
        moment = (self._timestamp + int((now - self._heard_at) * self._clock)) % _WHOLE
        if not self._is_time(moment):
            return
        yield self._put_in(moment)
        while self._sending is not None and self._sending.ends:
            yield self._put_in(moment)

    def _put_in(self, moment: int) -> bytes:
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._shift = (self._shift + 1) & 0xFFFF
        return self._event(self._sequence, moment)

    def _take_over(self, ssrc: int, sequence: int, timestamp: int) -> None:
        """Another source speaks."""
        self._cut_short()
        self._ssrc = ssrc
        self._shift = 0
        self._sequence = (sequence - 1) & 0xFFFF
        self._timestamp, self._heard_at = timestamp, None

    def _cut_short(self) -> None:
        """The clock of the voice began anew: a digit in the midst of the old one has ended with it."""
        if self._sending is not None and self._sending.begun:
            self._sending = None
        self._pauses = False

    def _is_time(self, timestamp: int) -> bool:
        """Whether a digit is being sent at that moment; the next one begins when the last one is over long enough."""
        if self._sending is None:
            if self._pauses and 0 < _signed(self._free_at - timestamp) <= self._clock:
                return False
            self._pauses = False
            digit = self._waiting.popleft()
            seconds = min(max(digit.seconds, MIN_SECONDS), MAX_SECONDS, MAX_UNITS / self._clock)
            self._sending = _Sending(DIGITS.index(digit.digit), int(seconds * self._clock), timestamp)
        return True

    def _event(self, sequence: int, until: int) -> bytes:
        sending = self._sending
        assert sending is not None
        units = min(max(_signed(until - sending.timestamp), 0), sending.units)
        is_last = units >= sending.units
        marker = 0 if sending.begun else 0x80
        sending.begun = True
        packet = (_HEADER.pack(0x80, marker | self._payload_type, sequence, sending.timestamp, self._ssrc)
                  + _PAYLOAD.pack(sending.event, (0x80 if is_last else 0) | VOLUME, units))
        if is_last:
            sending.ends += 1
            if sending.ends == ENDS:
                self._free_at = (sending.timestamp + sending.units + int(PAUSE * self._clock)) % _WHOLE
                self._pauses = True
                self._sending = None
        return packet


def _signed(difference: int) -> int:
    """Timestamps wrap: the nearer way round counts."""
    return (difference + _HALF) % _WHOLE - _HALF
