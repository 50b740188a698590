"""One session whose sides do not say digits in the same way: one by events in RTP, the other by INFO (RFC 4733 §2).

The relay ends the events here. What the one side presses the switch hears, and sends on as INFO; what the other side says
by INFO takes the place of its voice. Both hang on `Port.send`, so that a session without this pays nothing for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from time import monotonic

from b2bua.media.relay.events import Digit, EventReader, EventWriter
from b2bua.media.relay.latch import Source
from b2bua.media.relay.session import Port
from b2bua.sdp.session import events_in

Send = Callable[[memoryview | bytes, Source], int]

_random = random.SystemRandom()


class Tones:
    """`side` has events, the other side has none. `knows` and `lacks` are their RTP ports."""

    def __init__(self, side: int, knows: Port, lacks: Port, numbers: Mapping[int, int], clock: int) -> None:
        self.side = side
        self.clock = clock
        self._latch = knows.latch
        self._to_knowing: Send = knows.send
        self._to_lacking: Send = lacks.send
        self._ports = knows, lacks
        self._numbers = frozenset(numbers)
        self._reader = EventReader(clock)
        self._writer = EventWriter(next(iter(numbers)), clock, _random.getrandbits(32), _random.getrandbits(16))
