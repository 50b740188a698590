"""Whose an incoming request is: trunks by source address, by our Contact at the registrar, by the number dialled."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from b2bua.cdr import ClientId
from b2bua.control import TrunkState
from b2bua.directory import Directory, Network, Trunk
from b2bua.net.resolver import Resolver, is_numeric
from b2bua.numbers import normalise
from b2bua.routing.trunk_choice import TrunkChoice
from b2bua.sip.effects import Flow
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Request
from b2bua.ua.strangers import Somewhere, nearest_match
from b2bua.ua.trunk import Requester, TrunkLine
from b2bua.ua.trunk_tests import TrunkTests

MAX_REMEMBERED: Final = 4096            # sources whose networks were looked through
UNREGISTER_PATIENCE: Final = 2.0        # seconds, when the switch ends


class Sources:
    """Which trunks a source address may be. Trunks tell their addresses, requests ask."""

    def __init__(self) -> None:
        self._by_host: dict[str, list[TrunkLine]] = {}
        self._hosts: dict[TrunkLine, frozenset[str]] = {}
        self._networks: list[tuple[Network, TrunkLine]] = []
        self._in_networks: dict[str, tuple[TrunkLine, ...]] = {}

    def learn(self, line: TrunkLine, hosts: frozenset[str]) -> None:
        if line not in self._hosts:             # removed while it was looking its addresses up
            return
        for host in self._hosts[line] - hosts:
            self._by_host[host].remove(line)
            if not self._by_host[host]:
                del self._by_host[host]
        for host in hosts - self._hosts[line]:
            self._by_host.setdefault(host, []).append(line)
        self._hosts[line] = hosts

    def add(self, line: TrunkLine) -> None:
        self._hosts[line] = frozenset()
        self._networks += [(network, line) for network in line.trunk.networks]
        self._in_networks.clear()
        if is_numeric(line.trunk.host):
            self.learn(line, frozenset({line.trunk.host.strip("[]")}))

    def remove(self, line: TrunkLine) -> None:
        self.learn(line, frozenset())
        del self._hosts[line]
        self._networks = [(network, other) for network, other in self._networks if other is not line]
        self._in_networks.clear()

    def places(self) -> Iterator[Somewhere]:
        """All that is known, for who must explain why an address is not among it."""
        for network, line in self._networks:
            yield network, line.trunk
        for host, lines in self._by_host.items():
            for line in lines:
                yield ipaddress.ip_network(host.partition("%")[0]), line.trunk

    def lines(self, host: str) -> list[TrunkLine]:
        within = self._in_networks.get(host)
        if within is None:
            if len(self._in_networks) >= MAX_REMEMBERED:
                self._in_networks.clear()
            address = ipaddress.ip_address(host.partition("%")[0])
            within = self._in_networks[host] = tuple(line for network, line in self._networks if address in network)
        known = self._by_host.get(host, [])
        return [*known, *(line for line in within if line not in known)]


@dataclass(slots=True)
class TrunkCounters:
    matched: int = 0
    ambiguous: int = 0          # several clients have a trunk with that source, and none of them that number
    unknown: int = 0


class TrunkTable:
    """All trunks at work, as the directory of the moment has them."""

    def __init__(self, requester: Requester, resolver: Resolver, random: Random) -> None:
        self.counters = TrunkCounters()
        self._requester = requester
        self._resolver = resolver
        self._random = random
        self.choice = TrunkChoice(self.promising, random)
        self.tests = TrunkTests(requester, resolver, self.line)
        self._directory = Directory()
        self._sources = Sources()
        self._lines: dict[tuple[ClientId, str], TrunkLine] = {}
        self._by_token: dict[str, TrunkLine] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Until `stop`, or cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for line in self._lines.values():
                self._start(line)
            await self._ended.wait()
            self._tasks = None

    async def stop(self) -> None:
        """Unregister everywhere, as far as that goes quickly."""
        for line in self._lines.values():
            line.stop()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=UNREGISTER_PATIENCE)
            for task in late:
                task.cancel()
        self._ended.set()

    def use(self, directory: Directory) -> None:
        """Another snapshot: trunks that did not change go on undisturbed."""
        self._directory = directory
        for key, line in list(self._lines.items()):
            if directory.trunk.get(key) != line.trunk:
                self._remove(key, line)
        for key, trunk in directory.trunk.items():
            if key not in self._lines:
                self._add(key, trunk)

    def line(self, client: ClientId, name: str) -> TrunkLine | None:
        return self._lines.get((client, name))

    def promising(self, trunk: Trunk) -> bool:
        """Whether an outgoing call can be expected to get through it now."""
        line = self._lines.get((trunk.client, trunk.name))
        return line is not None and line.promising

    @property
    def lines(self) -> Iterable[TrunkLine]:
        return self._lines.values()

    def states(self, now: float) -> list[TrunkState]:
        return [line.state(now) for line in self._lines.values()]

    def at_work(self, client: ClientId) -> tuple[int, int]:
        """How many a client has, and how many of these are up."""
        up = [line.up for (of, _), line in self._lines.items() if of == client]
        return len(up), sum(up)

    def knows(self, host: str) -> bool:
        """Whether any trunk's calls may come from there."""
        return bool(self._sources.lines(host))

    def expects(self, request: Request, flow: Flow) -> bool:
        """Whether a trunk's requests come from there, or this one shows what only a registrar of ours was told."""
        return request.uri.user in self._by_token or self.knows(flow.remote.host)

    def match(self, request: Request, flow: Flow) -> Trunk | None:
        """The trunk that this request comes by. The source's port says nothing: operators send from many."""
        registered = self._by_token.get(request.uri.user)
        if registered is not None:
            self.counters.matched += 1
            return registered.trunk
        lines = self._sources.lines(flow.remote.host)
        if not lines:
            self.counters.unknown += 1
            return None
        trunk = lines[0].trunk if len(lines) == 1 else self._by_number([line.trunk for line in lines], request)
        if trunk is None:
            self.counters.ambiguous += 1
        else:
            self.counters.matched += 1
        return trunk

    def why_not(self, request: Request, flow: Flow) -> str:
        """Why a request is no trunk's, for a person; it looks through all trunks."""
        host, dialled = flow.remote.host, _dialled(request)
        known = self._sources.lines(host)
        if known:
            names = ", ".join(f"{line.trunk.name} ({line.trunk.client})" for line in known)
            return f"{host} is several clients' trunk ({names}), and none of them has the number {dialled[0][:64]}"
        return nearest_match(self._directory, list(self._sources.places()), host, dialled)

    def _by_number(self, trunks: Sequence[Trunk], request: Request) -> Trunk | None:
        """Clients of one operator share its address: the number that was dialled tells them apart."""
        for dialled in _dialled(request):
            owners = [trunk for trunk in trunks if self._owns(trunk, dialled)]
            if owners:
                return owners[0]
        return trunks[0] if len({trunk.client for trunk in trunks}) == 1 else None

    def _owns(self, trunk: Trunk, dialled: str) -> bool:
        numbers = self._directory.did
        number = numbers.get((trunk.client, normalise(dialled, trunk.country))) or numbers.get((trunk.client, dialled))
        return number is not None and number.trunk in (None, trunk.name)

    def _add(self, key: tuple[ClientId, str], trunk: Trunk) -> None:
        line = self._lines[key] = TrunkLine(trunk, self._requester, self._resolver, self._random, self._sources)
        self._sources.add(line)
        if trunk.register:
            self._by_token[line.token] = line
        if self._tasks is not None:
            self._start(line)

    def _remove(self, key: tuple[ClientId, str], line: TrunkLine) -> None:
        line.stop()
        del self._lines[key]
        self._by_token.pop(line.token, None)
        self._sources.remove(line)

    def _start(self, line: TrunkLine) -> None:
        assert self._tasks is not None
        task = self._tasks.create_task(line.run(), name=f"trunk {line.trunk.client}/{line.trunk.name}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)


def _dialled(request: Request) -> list[str]:
    """Some operators write the number into the Request-URI, some our Contact there and the number into To."""
    try:
        return [request.uri.user, request.to.uri.user]
    except ParseError:
        return [request.uri.user]
