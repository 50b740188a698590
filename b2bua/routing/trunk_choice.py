"""Which trunk an outgoing call tries first, and which next: pure but for the lottery, whose source is injected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from random import Random

from b2bua.directory import Trunk
from b2bua.numbers import is_short


@dataclass(frozen=True, slots=True)
class Ordered:
    """Trunks in the order in which they are tried, and why that one."""

    trunks: tuple[Trunk, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrunkChoice:
    """`promising` says whether calls can be expected to get through a trunk now; others are tried last."""

    promising: Callable[[Trunk], bool]
    random: Random

    def order(self, trunks: Iterable[Trunk], number: str) -> Ordered:
        """Those that take this number: by promise, then by priority, among equals by a lottery with weights."""
        every = tuple(trunks)
        takers = [trunk for trunk in every if not trunk.prefixes or number.startswith(trunk.prefixes)]
        if not takers and is_short(number):             # 112 must never fail for want of a prefix
            takers = list(every)
        notes = [f"{trunk.name} takes only {', '.join(trunk.prefixes)}" for trunk in every if trunk not in takers]
        ranked = sorted([((not self.promising(trunk), trunk.priority), trunk) for trunk in takers], key=itemgetter(0))
        ordered: list[Trunk] = []
        for _, equals in groupby(ranked, key=itemgetter(0)):
            ordered += self._drawn([trunk for _, trunk in equals])
        if len(ordered) > 1:
            down = {trunk.name for (hopeless, _), trunk in ranked if hopeless}
            names = (f"{trunk.name} (down)" if trunk.name in down else trunk.name for trunk in ordered)
            notes.append(f"trunks in their order: {', '.join(names)}")
        return Ordered(tuple(ordered), tuple(notes))

    def _drawn(self, trunks: list[Trunk]) -> Iterator[Trunk]:
        """As RFC 2782 draws SRV records of one priority: the weight is the number of tickets."""
        while trunks:
            drawn = self.random.choices(trunks, [trunk.weight for trunk in trunks])[0]
            trunks.remove(drawn)
            yield drawn
