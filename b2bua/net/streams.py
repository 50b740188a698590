"""SIP over streams, TCP or TLS: connections in both directions, reused and bounded (RFC 3261 §18, RFC 5626 §3.5.1)."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from itertools import count
from typing import Final, cast

from b2bua.net.transport import ANY_ADDRESS, Judge, LocalAddress, Standing, TransportSink, all_are_known
from b2bua.sip.effects import Address, Flow, TlsPeer, Transport
from b2bua.sip.framing import FramingError, KeepAlive, StreamFramer

PONG: Final = b"\r\n"                   # RFC 5626 §3.5.1
SWEEP: Final = 5.0                      # seconds between two looks for idle connections

_Far = tuple[Address, TlsPeer | None]


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What peers may take; seconds and bytes."""

    connections: int = 4000
    connections_per_address: int = 250      # a whole office may stand behind one address
    unread_in_all: int = 64 * 1024 * 1024   # incomplete messages of all connections together
    unsent: int = 256 * 1024                # of one connection; a peer that does not read loses it
    waiting: int = 64 * 1024                # to be sent once a connection is made
    connecting: int = 200                   # connections being made at once
    connect_time: float = 5.0
    handshakes: int = 500                   # of TLS, by peers that came, at once; each costs a key exchange
    handshakes_per_address: int = 100
    handshake_time: float = 5.0
    shutdown_time: float = 2.0              # for the peer's close_notify when we close
    first_message_time: float = 10.0        # from the connection to the first whole message
    message_time: float = 30.0              # from a message's first byte to its last
    idle_time: float = 3900.0               # longer than the longest registration, else phones would be cut off
    backlog: int = 512


@dataclass(slots=True)
class StreamCounters:
    received: int = 0
    sent: int = 0
    keep_alives: int = 0
    connected: int = 0
    refused_connections: int = 0            # above a limit
    failed_connects: int = 0
    failed_handshakes: int = 0              # TLS: no common ground, no certificate, a wrong one, or too slow
    framing_errors: int = 0
    idle_closed: int = 0
    unsent_closed: int = 0                  # the peer did not read
    unread_closed: int = 0                  # too many bytes of incomplete messages
    dropped_unsent: int = 0                 # messages for a connection that was not made, or is gone
    banned_closed: int = 0                  # connections of banned addresses: refused, or closed when they were banned


class Connection(asyncio.Protocol):
    """One stream: bytes in, whole messages out."""

    def __init__(self, owner: StreamTransport, shown: LocalAddress, peer: TlsPeer | None = None) -> None:
        self.owner = owner
        self.shown = shown                          # the address of ours that it goes by
        self.peer = peer                            # whom we meant to reach, when we made it
        self.flow: Flow | None = None               # from its admission until it is gone
        self._stream: asyncio.Transport | None = None
        self._framer = StreamFramer()
        self.greeted = False                       # a whole message came: this is no port scan
        self._heard_at = owner.now
        self._incomplete_since: float | None = owner.now

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = self._stream = cast(asyncio.Transport, transport)      # uvloop's is one without saying so
        stream.set_write_buffer_limits(high=self.owner.limits.unsent)
        remote = stream.get_extra_info("peername")
        if remote is None or not self.owner.admit(self, Address(remote[0], remote[1])):
            stream.abort()

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """Who the peer's certificate says it is: kind and name of each subjectAltName (TLS, once verified)."""
        certificate = self._stream.get_extra_info("peercert") if self._stream is not None else None
        return tuple((kind, name) for kind, name in (certificate or {}).get("subjectAltName", ()))

    def data_received(self, data: bytes) -> None:
        flow = self.flow
        if flow is None:
            return
        if self.owner.bans(flow.remote):
            self.owner.counters.banned_closed += 1
            self.abort()
            return
        before = self._framer.pending
        try:
            frames = self._framer.feed(data)
        except FramingError:
            self.owner.counters.framing_errors += 1
            self.abort()
            return
        self._note_progress(frames)
        for frame in frames:
            self._deliver(frame, flow)
        if not self.owner.may_hold(self._framer.pending - before):
            self.abort()

    def _note_progress(self, frames: list[bytes | KeepAlive]) -> None:
        now = self._heard_at = self.owner.now
        self.greeted = self.greeted or any(isinstance(frame, bytes) for frame in frames)
        if self.greeted and not self._framer.pending:
            self._incomplete_since = None
        elif self._incomplete_since is None or (frames and self.greeted):
            self._incomplete_since = now

    def _deliver(self, frame: bytes | KeepAlive, flow: Flow) -> None:
        if isinstance(frame, bytes):
            self.owner.counters.received += 1
            self.owner.sink.on_message(frame, flow)
            return
        self.owner.counters.keep_alives += 1
        if frame is KeepAlive.PING:
            self.write(PONG)

    def write(self, data: bytes) -> None:
        if self._stream is not None and not self._stream.is_closing():
            self._stream.write(data)

    def pause_writing(self) -> None:
        # More is unsent than the limit allows: who does not read for so long is gone, or wants our memory.
        self.owner.counters.unsent_closed += 1
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.owner.may_hold(-self._framer.pending)
        self.owner.lost(self)

    def overdue(self, now: float) -> bool:
        limits = self.owner.limits
        if self._incomplete_since is None:
            return now - self._heard_at > limits.idle_time
        patience = limits.message_time if self.greeted else limits.first_message_time
        return now - self._incomplete_since > patience

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def abort(self) -> None:
        if self._stream is not None:
            self._stream.abort()


class StreamTransport(ABC):
    """Its listening sockets, the connections that came, and those that we made."""

    kind: Transport
    local: Address                      # of the first listening socket, which our own connections go by
    _shown: LocalAddress

    def __init__(
        self,
        sink: TransportSink,
        tasks: asyncio.TaskGroup,
        limits: StreamLimits | None = None,
        judge: Judge = all_are_known,
    ) -> None:
        """Its tasks live in `tasks` until `close`."""
        self.sink = sink
        self._judge = judge
        self.limits = limits or StreamLimits()
        self.counters = StreamCounters()
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks
        self._own_tasks: set[asyncio.Task[None]] = set()
        self._serial = count(1)
        self._by_id: dict[int, Connection] = {}
        self._by_remote: dict[_Far, Connection] = {}
        self._per_host: Counter[str] = Counter()
        self._waiting: dict[_Far, list[bytes]] = {}         # what goes out when its connection is made
        self._unread = 0
        self._closed = False
        self._start(self._sweep(), f"{self.kind.value} sweep")

    @abstractmethod
    async def _make(self, flow: Flow) -> Connection:
        """A connection to where `flow` leads. Raises OSError or TimeoutError."""

    def _listens(self, server: socket.socket, advertise: str | None) -> LocalAddress:
        """Another listening socket of ours: what its peers see."""
        local = Address(*server.getsockname()[:2])
        shown = LocalAddress(local, advertise)
        if not hasattr(self, "local"):
            self.local, self._shown = local, shown
        return shown

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def now(self) -> float:
        return self._loop.time()

    def flow_for(self, remote: Address, peer: TlsPeer | None = None) -> Flow:
        connection = self._by_remote.get((remote, peer))
        if connection is not None and connection.flow is not None:
            return connection.flow
        return Flow(self.kind, self._shown.towards(remote.host), remote, peer=peer)

    def send(self, data: bytes, flow: Flow) -> None:
        connection = self._by_id.get(flow.connection) if flow.connection else self._by_remote.get(_far(flow))
        if connection is not None:
            connection.write(data)
            self.counters.sent += 1
        elif flow.connection or self._closed:
            self._drop(flow)            # the core knows where else to go (RFC 3261 §18.2.2)
        else:
            self._send_when_connected(data, flow)

    def trouble(self, peer: TlsPeer) -> str:
        return ""

    def close(self) -> None:
        """What was sent goes out first; nobody is told of the connections that end by this."""
        self._closed = True
        for task in self._own_tasks:
            task.cancel()
        for connection in list(self._by_id.values()):
            connection.close()

    # -- for the connections

    def bans(self, remote: tuple[str, int]) -> bool:
        return self._judge(remote) is Standing.BANNED

    def admit(self, connection: Connection, remote: Address) -> bool:
        if self.bans(remote):
            self.counters.banned_closed += 1
            return False
        full = len(self._by_id) >= self.limits.connections
        if self._closed or full or self._per_host[remote.host] >= self.limits.connections_per_address:
            self.counters.refused_connections += 1
            return False
        local = connection.shown.towards(remote.host)
        flow = connection.flow = Flow(self.kind, local, remote, next(self._serial), connection.peer)
        self._by_id[flow.connection] = self._by_remote[_far(flow)] = connection
        self._per_host[remote.host] += 1
        return True

    def lost(self, connection: Connection) -> None:
        flow, connection.flow = connection.flow, None
        if flow is None:
            return
        del self._by_id[flow.connection]
        if self._by_remote.get(_far(flow)) is connection:
            del self._by_remote[_far(flow)]
        self._per_host[flow.remote.host] -= 1
        if not self._per_host[flow.remote.host]:
            del self._per_host[flow.remote.host]
        if not self._closed:
            self.sink.on_failure(flow)

    def may_hold(self, more: int) -> bool:
        """Counts the bytes of incomplete messages; False when all connections together hold too many."""
        self._unread += more
        if more <= 0 or self._unread <= self.limits.unread_in_all:
            return True
        self.counters.unread_closed += 1
        return False

    # -- connections that we make

    def _send_when_connected(self, data: bytes, flow: Flow) -> None:
        waiting = self._waiting.get(_far(flow))
        if waiting is None:
            if len(self._waiting) >= self.limits.connecting:
                self._drop(flow)
                return
            self._waiting[_far(flow)] = [data]
            self._start(self._connect(flow), f"{self.kind.value} connect {flow.remote.host}")
        elif sum(map(len, waiting)) + len(data) > self.limits.waiting:
            self._drop(flow)
        else:
            waiting.append(data)

    async def _connect(self, flow: Flow) -> None:
        try:
            async with asyncio.timeout(self.limits.connect_time):
                connection = await self._make(flow)
        except (OSError, TimeoutError) as error:
            self._not_made(flow, error)
            self._give_up(flow)
            return
        except BaseException:
            del self._waiting[_far(flow)]
            raise
        if connection.flow is None:             # above a limit, not who it should be, or gone again
            self._give_up(flow)
            return
        self.counters.connected += 1
        for data in self._waiting.pop(_far(flow)):
            connection.write(data)
            self.counters.sent += 1

    def _not_made(self, flow: Flow, error: Exception) -> None:
        self.counters.failed_connects += 1

    @property
    def _source(self) -> tuple[str, int] | None:
        """The address that our own connections come from."""
        return None if self.local.host in ANY_ADDRESS else (self.local.host, 0)

    def _give_up(self, flow: Flow) -> None:
        self.counters.dropped_unsent += len(self._waiting.pop(_far(flow)))
        if not self._closed:
            self.sink.on_failure(flow)

    def _drop(self, flow: Flow) -> None:
        self.counters.dropped_unsent += 1
        if not self._closed:
            self._loop.call_soon(self.sink.on_failure, flow)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            now = self.now
            for connection in [c for c in self._by_id.values() if c.overdue(now)]:
                self.counters.idle_closed += 1
                connection.abort()
            for connection in [c for c in self._by_id.values() if c.flow and self.bans(c.flow.remote)]:
                self.counters.banned_closed += 1
                connection.abort()

    def _start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = self._tasks.create_task(work, name=name)
        self._own_tasks.add(task)
        task.add_done_callback(self._own_tasks.discard)
        return task


def _far(flow: Flow) -> _Far:
    """What a connection is found by: an address, and who was proved to be there."""
    return flow.remote, flow.peer


def listening_socket(local: Address) -> socket.socket:
    v6 = ":" in local.host
    server = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if v6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.setblocking(False)
        server.bind(tuple(local))
    except BaseException:
        server.close()
        raise
    return server
