"""How often somebody may ask: a bucket for each, refilled as time goes by."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

MOST_REMEMBERED = 10_000               # who came longest ago goes first


class Allowances:
    def __init__(self, per_minute: int) -> None:
        """Bursts of as many are allowed."""
        self._per_minute = float(per_minute)
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()      # what is left, when that was

    def spend(self, who: Hashable, now: float) -> bool:
        left, at = self._buckets.pop(who, (self._per_minute, now))
        left = min(self._per_minute, left + (now - at) * self._per_minute / 60)
        self._buckets[who] = (max(left - 1, 0.0) if left >= 1 else left, now)
        while len(self._buckets) > MOST_REMEMBERED:
            self._buckets.popitem(last=False)
        return left >= 1
