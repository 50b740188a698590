"""An in-memory network for scenarios: datagrams with seeded latency, loss, duplication and reordering, and streams
without; its endpoints are the transports of b2bua/net to whoever uses them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from b2bua.sip.effects import Address, Flow, TlsPeer, Transport


class Sink(Protocol):
    def on_message(self, data: bytes, flow: Flow) -> None: ...

    def on_failure(self, flow: Flow) -> None: ...


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the network treats a datagram. Streams only ever know `latency`."""

    latency: float = 0.002
    jitter: float = 0.0                 # up to so many seconds more
    loss: float = 0.0                   # share of datagrams
    duplication: float = 0.0
    reordering: float = 0.0             # share that is held back by `held`, so that others overtake
    held: float = 0.1


@dataclass(frozen=True, slots=True)
class Carried:
    """One message as it was sent, and whether it arrived."""

    at: float
    source: Address
    target: Address
    data: bytes
    fate: str                           # "carried", "lost", "doubled", "refused", "nobody there"

    def __str__(self) -> str:
        line = self.data.split(b"\r\n", 1)[0].decode("utf-8", "replace")
        return f"{self.at:9.3f} {self.source.host} -> {self.target.host}  {line}  {self.fate}"


@dataclass(frozen=True, slots=True)
class Remark:
    """Something beside the wire, for ladders: after so many messages."""

    at: float
    after: int
    source: str
    target: str
    text: str


class Network:
    def __init__(self, seed: int = 0, conditions: Conditions = Conditions()) -> None:
        self.conditions = conditions
        self.log: list[Carried] = []
        self.remarks: list[Remark] = []
        self._random = random.Random(seed)
        self._endpoints: dict[tuple[Transport, Address], Endpoint] = {}
        self._closed: set[tuple[Transport, Address]] = set()
        self._losers: list[Callable[[bytes, Flow], bool]] = []
        self._streams: dict[frozenset[Address], int] = {}
        self._stream_numbers = count(1)

    def attach(self, local: Address, sink: Sink, kind: Transport = Transport.UDP) -> Endpoint:
        if (kind, local) in self._endpoints:
            raise OSError(f"address in use: {kind.value} {local}")
        self._closed.discard((kind, local))
        endpoint = self._endpoints[kind, local] = Endpoint(self, kind, local, sink)
        return endpoint

    def lose(self, which: Callable[[bytes, Flow], bool], times: int = 1) -> None:
        """Lose the next datagrams of which `which(data, flow)` is true."""
        left = count(times, -1)
        self._losers.append(lambda data, flow: which(data, flow) and next(left) > 0)

    def ladder(self) -> str:
        """Everything that was sent, for people who look at a failed test."""
        return "\n".join(map(str, self.log))

    def remark(self, source: str, target: str, text: str) -> None:
        """What one part tells another; of itself when they are the same."""
        self.remarks.append(Remark(asyncio.get_running_loop().time(), len(self.log), source, target, text))

    def stream(self, one: Address, other: Address) -> int:
        """The number of the connection between two addresses: opened by its first use."""
        pair = frozenset((one, other))
        if pair not in self._streams:
            self._streams[pair] = next(self._stream_numbers)
        return self._streams[pair]

    def carry(self, data: bytes, flow: Flow) -> None:
        receiver = (flow.transport, flow.remote)
        if receiver in self._endpoints:
            fate = "carried" if flow.transport.reliable else self._fate(data, flow)
        elif receiver in self._closed or flow.transport.reliable:
            fate = "refused"            # a program that ended: ICMP port unreachable, or a reset
        else:
            fate = "nobody there"
        loop = asyncio.get_running_loop()
        self.log.append(Carried(loop.time(), flow.local, flow.remote, data, fate))
        if fate == "refused":
            loop.call_later(self.conditions.latency, self._bounce, flow)
        for _ in range({"carried": 1, "doubled": 2}.get(fate, 0)):
            loop.call_later(self._delay(flow), self._deliver, data, flow)

    def detach(self, endpoint: Endpoint) -> None:
        key = (endpoint.kind, endpoint.local)
        if self._endpoints.pop(key, None) is None:
            return
        self._closed.add(key)
        for pair in [pair for pair in self._streams if endpoint.local in pair] if endpoint.kind.reliable else ():
            (peer,) = pair - {endpoint.local}
            self._bounce(Flow(endpoint.kind, peer, endpoint.local, self._streams[pair]))
            del self._streams[pair]

    def _fate(self, data: bytes, flow: Flow) -> str:
        if any(loser(data, flow) for loser in self._losers):
            return "lost"
        drawn = self._random.random()
        if drawn < self.conditions.loss:
            return "lost"
        return "doubled" if drawn < self.conditions.loss + self.conditions.duplication else "carried"

    def _delay(self, flow: Flow) -> float:
        conditions = self.conditions
        if flow.transport.reliable:
            return conditions.latency
        late = conditions.held if self._random.random() < conditions.reordering else 0.0
        return conditions.latency + self._random.uniform(0.0, conditions.jitter) + late

    def _deliver(self, data: bytes, flow: Flow) -> None:
        endpoint = self._endpoints.get((flow.transport, flow.remote))
        if endpoint is not None:
            # Who must be at the other end is the sender's own affair.
            endpoint.sink.on_message(data, flow._replace(local=flow.remote, remote=flow.local, peer=None))

    def _bounce(self, flow: Flow) -> None:
        endpoint = self._endpoints.get((flow.transport, flow.local))
        if endpoint is not None:
            endpoint.sink.on_failure(flow)


class Endpoint:
    """A transport of b2bua/net on this network."""

    def __init__(self, network: Network, kind: Transport, local: Address, sink: Sink) -> None:
        self.kind = kind
        self.local = local
        self.sink = sink
        self._network = network

    def send(self, data: bytes, flow: Flow) -> None:
        if self.kind.reliable:
            flow = flow._replace(connection=self._network.stream(flow.local, flow.remote))
        self._network.carry(data, flow._replace(local=self.local))

    def flow_for(self, remote: Address, peer: TlsPeer | None = None) -> Flow:
        connection = self._network.stream(self.local, remote) if self.kind.reliable else 0
        return Flow(self.kind, self.local, remote, connection, peer if self.kind is Transport.TLS else None)

    def trouble(self, peer: TlsPeer) -> str:
        return ""

    def close(self) -> None:
        self._network.detach(self)


