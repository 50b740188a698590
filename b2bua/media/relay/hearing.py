"""How the audio of one side has arrived of late, from what the relay tells once a second of all that came."""

from __future__ import annotations

from collections import deque

from b2bua.control import Heard

LOOKS = 5                               # that a verdict looks back


class Hearing:
    __slots__ = ("_counts", "_jitter_ms")

    def __init__(self) -> None:
        self._counts = deque([(0, 0)], LOOKS + 1)       # packets and losses since the beginning
        self._jitter_ms = 0.0

    def told(self, packets: int, lost: int, jitter_ms: float) -> None:
        self._counts.append((packets, lost))
        self._jitter_ms = jitter_ms

    @property
    def heard(self) -> Heard | None:
        (packets, lost), (packets_now, lost_now) = self._counts[0], self._counts[-1]
        came, gone = packets_now - packets, max(0, lost_now - lost)
        return Heard.of(100 * gone / (came + gone), self._jitter_ms) if came > 0 else None
