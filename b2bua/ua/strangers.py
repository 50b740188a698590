"""Calls from addresses that are no trunk's: what is done with them, and what they came nearest to."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Final

import structlog

from b2bua.control import TurnedAway
from b2bua.directory import Directory, Network, Trunk
from b2bua.numbers import normalise

TOLD_WINDOW: Final = 60.0               # seconds in which one source is told of once
TOLD_AT_MOST: Final = 10                # sources told of in that time: to find the nearest match takes a while
SHOWN_AT_MOST: Final = 20               # sources whose last call is remembered
MAX_TOLD: Final = 64                    # characters of what a stranger dialled

Somewhere = tuple[Network, Trunk]

log = structlog.get_logger(__name__)


class UnknownCalls(Enum):
    """What a call gets that comes from an address of no trunk and no registered phone."""

    CHALLENGE = "challenge"             # 401: a phone may call before it registers
    REFUSE = "refuse"                   # 403
    SILENCE = "silence"


class StrangersLog:
    """Bounded, whatever arrives: a flood of strangers is a few lines a minute, with the number of those left out."""

    def __init__(self) -> None:
        self._last: dict[str, TurnedAway] = {}          # by source, the latest last
        self._began = float("-inf")
        self._told: set[str] = set()
        self._left_out = 0

    def wants(self, source: str, now: float) -> bool:
        if now - self._began >= TOLD_WINDOW:
            self._began = now
            self._told.clear()
        if source in self._told or len(self._told) >= TOLD_AT_MOST:
            self._left_out += 1
            return False
        self._told.add(source)
        return True

    def tell(self, call: TurnedAway) -> None:
        call = replace(call, dialled=call.dialled[:MAX_TOLD])
        log.info("call from an unknown address", source=call.source, dialled=call.dialled, why=call.why, done=call.done,
                 left_out_before=self._left_out)
        self._left_out = 0
        self._last.pop(call.source, None)
        self._last[call.source] = call
        if len(self._last) > SHOWN_AT_MOST:
            del self._last[next(iter(self._last))]

    def last(self) -> list[TurnedAway]:
        """The latest first, one of each source."""
        return list(reversed(self._last.values()))


def nearest_match(directory: Directory, places: Sequence[Somewhere], source: str, dialled: Sequence[str]) -> str:
    """Why a call from there is no trunk's: by the number that it dials, else by the address that is most like it."""
    address = ipaddress.ip_address(source.partition("%")[0])
    for number in _spellings(directory, dialled):
        for owner in directory.owners.get(number, ()):
            theirs = [place for place in places
                      if place[1].client == owner.client and owner.trunk in (None, place[1].name)]
            whose = f"number {number} belongs to {owner.client}"
            if not theirs:
                return f"{whose}, which has no trunk with a known address; the call came from {source}"
            return f"{whose}, whose {_of_the_nearest(theirs, address)}; the call came from {source}"
    if not places:
        return f"no trunk has a known address; the call came from {source}"
    number = dialled[0][:MAX_TOLD] if dialled else ""
    nearest = _of_the_nearest(places, address)
    return f"nearest is {nearest}; the call came from {source}, and {number} is nobody's number"


def _spellings(directory: Directory, dialled: Iterable[str]) -> Iterable[str]:
    countries = sorted({client.country for client in directory.clients})
    return (number for text in dialled for number in (text, *(normalise(text, country) for country in countries)))


def _of_the_nearest(places: Sequence[Somewhere], address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    network, trunk = max(places, key=lambda place: _likeness(place[0], address))
    shown = network.network_address if network.prefixlen == network.max_prefixlen else network
    return f"{trunk.name} ({trunk.client}) has {shown}"


def _likeness(network: Network, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    """How many leading bits of the network the address has; -1 when it is of the other kind."""
    if network.version != address.version:
        return -1
    different = (int(network.network_address) ^ int(address)).bit_length()
    return min(network.max_prefixlen - different, network.prefixlen)
