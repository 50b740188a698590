"""One session whose sides do not say digits in the same way: one by events in RTP (RFC 4733), the other by INFO.

The relay ends the events here. What the one side presses the switch is told, for an INFO; what the other side says by
INFO takes the place of its voice. Both hang on `Port.send`, so that a session without this pays nothing for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from b2bua.media.relay.events import Digit, EventReader, EventWriter
from b2bua.media.relay.latch import Latch
from b2bua.sdp.session import is_events, is_voice

Send = Callable[[Any, Any], int]

_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Difference:
    """`side` (0 caller, 1 callee) has events under `numbers`, at the clock of the voice; the other side has none."""

    side: int
    numbers: tuple[int, ...]
    clock: int


def difference(caller: Mapping[int, str], callee: Mapping[int, str]) -> Difference | None:
    """Of two sides' codecs. None: both say digits in the same way, or not at all."""
    known = {codec.upper() for codec in caller.values()}
    voice = next((codec for codec in callee.values() if is_voice(codec) and codec.upper() in known), None)
    if voice is None:
        return None
    clock = int(voice.split("/")[1])
    numbers = [_events(codecs, clock) for codecs in (caller, callee)]
    if not clock or bool(numbers[0]) == bool(numbers[1]):
        return None
    side = 0 if numbers[0] else 1
    return Difference(side, numbers[side], clock)


def _events(codecs: Mapping[int, str], clock: int) -> tuple[int, ...]:
    return tuple(number for number, codec in codecs.items() if is_events(codec) and int(codec.split("/")[1]) == clock)


class Tones:
    """`to_knowing` and `to_lacking` stand in for the sockets' sendto of the two RTP ports."""

    def __init__(self, how: Difference, knowing: Latch, to_knowing: Send, to_lacking: Send) -> None:
        self.how = how
        self._latch = knowing
        self._to_knowing = to_knowing
        self._to_lacking = to_lacking
        self._reader = EventReader(how.clock)
        self._writer = EventWriter(how.numbers[0], how.clock, _random.getrandbits(32), _random.getrandbits(16))

    def to_lacking(self, packet: memoryview, destination: object) -> int:
        if packet[1] & 0x7F in self.how.numbers:
            self._reader.read(packet, monotonic())
            return len(packet)
        return self._to_lacking(packet, destination)

    def to_knowing(self, packet: memoryview, destination: object) -> int:
        return self._to_knowing(self._writer.pass_(packet, monotonic()), destination)

    def dial(self, digit: str, milliseconds: int) -> bool:
        """False: too many wait already."""
        return self._writer.dial(Digit(digit, milliseconds / 1000))

    def tick(self, now: float) -> list[Digit]:
        """What was pressed since the last tick; what the clock has to send goes out."""
        destination = self._latch.destination
        if destination is not None:
            for packet in self._writer.by_clock(now):
                try:
                    self._to_knowing(packet, destination)
                except OSError:         # like a loss on the way
                    continue
        return self._reader.due(now)
