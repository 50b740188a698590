"""What groups remember from one call to the next, while the switch runs: with whom they began, who has been idle since.

It is no more than the directory has groups and extensions, and a restart begins anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import inf
from types import MappingProxyType

from b2bua.cdr import ClientId
from b2bua.directory import Directory, Extension
from b2bua.routing.groups import Key, Turns
from b2bua.routing.plan import NoRoute, Plan


class GroupTurns:
    def __init__(self) -> None:
        self._begun: dict[Key, str] = {}
        self._idle_since: dict[Key, float] = {}
        self._talking: Counter[Key] = Counter()        # conversations of who is in one
        self.now = Turns(MappingProxyType(self._begun), MappingProxyType(self._idle_since))

    @property
    def talking(self) -> int:
        """Extensions that are in a conversation."""
        return len(self._talking)

    def take(self, client: ClientId, plan: Plan | NoRoute) -> None:
        """This call has its turn. It counts when it is planned: two calls at once begin with two members."""
        if isinstance(plan, Plan):
            for group, member in plan.rounds:
                self._begun[client, group] = member

    def talks(self, extensions: Iterable[Extension | None]) -> None:
        for key in _keys(extensions):
            self._talking[key] += 1
            self._idle_since[key] = inf

    def left(self, extensions: Iterable[Extension | None], now: float) -> None:
        for key in _keys(extensions):
            self._talking[key] -= 1
            if self._talking[key] <= 0:
                del self._talking[key]
                self._idle_since[key] = now

    def use(self, directory: Directory) -> None:
        """Forget who is no more."""
        for key in [key for key in self._begun if key not in directory.group]:
            del self._begun[key]
        for key in [key for key in self._idle_since if key not in directory.extension and key not in self._talking]:
            del self._idle_since[key]


def _keys(extensions: Iterable[Extension | None]) -> Iterable[Key]:
    return ((one.client, one.number) for one in extensions if one is not None)
