"""Who is heard at once, who in their turn, and who not at all: by the source address, before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from b2bua.net.transport import Standing
from b2bua.sip.core import UserAgentCore
from b2bua.ua.registrar import Registrar
from b2bua.ua.trunk_table import TrunkTable

SOURCES_KEPT: Final = 1.0         # seconds that the set of those in calls is used before it is made anew


class Reception:
    """Trunks are known by their address, phones and whoever is in a call by their port as well; others may be banned.

    A source may be forged, a port too, by who knows both: that buys a place before the strangers, and no more, as who
    it is is asked afterwards. What comes from another port of a phone's address is a stranger's, but never banned.
    """

    def __init__(
        self, core: UserAgentCore, registrar: Registrar, trunks: TrunkTable, clock: Callable[[], float]
    ) -> None:
        self._core = core
        self._registrar = registrar
        self._trunks = trunks
        self._clock = clock
        self._in_calls: frozenset[tuple[str, int]] = frozenset()
        self._in_calls_until = 0.0

    def judge(self, source: tuple[str, int]) -> Standing:
        now = self._clock()
        if now >= self._in_calls_until:
            self._in_calls = self._core.sources_in_sessions()
            self._in_calls_until = now + SOURCES_KEPT
        host = source[0]
        if source in self._in_calls or self._registrar.hears(source, now) or self._trunks.knows(host):
            return Standing.KNOWN
        if self._registrar.bans_host(host, now) and not self._registrar.knows(host, now):
            return Standing.BANNED
        return Standing.STRANGER
