"""Who is heard: trunks, phones and those in calls at once, strangers in their turn, the banned not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from b2bua.net.transport import Standing
from b2bua.sip.core import UserAgentCore
from b2bua.ua.reception import SOURCES_KEPT, Reception
from b2bua.ua.registrar import Registrar
from b2bua.ua.trunk_table import TrunkTable


@dataclass
class House:
    """Stands for the core, the registrar and the trunks."""

    in_calls: set[tuple[str, int]] = field(default_factory=set)
    phones: set[tuple[str, int]] = field(default_factory=set)
    trunks: set[str] = field(default_factory=set)
    banned: set[str] = field(default_factory=set)
    time: float = 0.0
    asked: int = 0

    def sources_in_sessions(self) -> frozenset[tuple[str, int]]:
        self.asked += 1
        return frozenset(self.in_calls)

    def knows(self, host: str, now: float | None = None) -> bool:
        return host in (self.trunks if now is None else {phone[0] for phone in self.phones})

    def hears(self, source: tuple[str, int], now: float) -> bool:
        return source in self.phones

    def bans_host(self, host: str, now: float) -> bool:
        return host in self.banned

    def judge(self) -> Callable[[tuple[str, int]], Standing]:
        core, registrar, trunks = cast(UserAgentCore, self), cast(Registrar, self), cast(TrunkTable, self)
        return Reception(core, registrar, trunks, lambda: self.time).judge


def test_a_ban_holds_for_strangers_alone() -> None:
    house = House(in_calls={("a", 1)}, phones={("b", 1)}, trunks={"c"}, banned={"a", "b", "c", "d"})
    judge = house.judge()
    assert [judge((host, 1)) for host in "abcde"] == [
        Standing.KNOWN, Standing.KNOWN, Standing.KNOWN, Standing.BANNED, Standing.STRANGER]
    # Who forges a phone's address has to know its port; but the phone's neighbours are heard.
    assert [judge((host, 2)) for host in "abc"] == [Standing.BANNED, Standing.STRANGER, Standing.KNOWN]


def test_who_is_in_a_call_is_looked_up_once_a_second_whatever_comes() -> None:
    house = House()
    judge = house.judge()
    assert judge(("a", 1)) is Standing.STRANGER
    house.in_calls.add(("a", 1))
    for _ in range(1000):
        judge(("a", 1))
    assert house.asked == 1
    house.time = SOURCES_KEPT
    assert judge(("a", 1)) is Standing.KNOWN
    assert house.asked == 2
