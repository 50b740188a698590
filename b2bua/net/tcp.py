"""SIP over TCP: connections in both directions, reused and bounded (RFC 3261 §18, RFC 5626 §3.5.1)."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from itertools import count
from typing import Final, cast

from b2bua.net.transport import ANY_ADDRESS, LocalAddress, TransportSink
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.framing import FramingError, KeepAlive, StreamFramer

PONG: Final = b"\r\n"                   # RFC 5626 §3.5.1
SWEEP: Final = 5.0                      # seconds between two looks for idle connections


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """What peers may take; seconds and bytes."""

    connections: int = 4000
    connections_per_address: int = 250      # a whole office may stand behind one address
    unread_in_all: int = 64 * 1024 * 1024   # incomplete messages of all connections together
    unsent: int = 256 * 1024                # of one connection; a peer that does not read loses it
    waiting: int = 64 * 1024                # to be sent once a connection is made
    connecting: int = 200                   # connections being made at once
    connect_time: float = 5.0
    first_message_time: float = 10.0        # from the connection to the first whole message
    message_time: float = 30.0              # from a message's first byte to its last
    idle_time: float = 3900.0               # longer than the longest registration, else phones would be cut off
    backlog: int = 512


@dataclass(slots=True)
class TcpCounters:
    received: int = 0
    sent: int = 0
    keep_alives: int = 0
    connected: int = 0
    refused_connections: int = 0            # above a limit
    failed_connects: int = 0
    framing_errors: int = 0
    idle_closed: int = 0
    unsent_closed: int = 0                  # the peer did not read
    unread_closed: int = 0                  # too many bytes of incomplete messages
    dropped_unsent: int = 0                 # messages for a connection that was not made, or is gone


class _Connection(asyncio.Protocol):
    """One stream: bytes in, whole messages out."""

    def __init__(self, owner: TcpTransport) -> None:
        self.owner = owner
        self.flow: Flow | None = None               # from its admission until it is gone
        self._stream: asyncio.Transport | None = None
        self._framer = StreamFramer()
        self._greeted = False                       # a whole message came: this is no port scan
        self._heard_at = owner.now
        self._incomplete_since: float | None = owner.now

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = self._stream = cast(asyncio.Transport, transport)      # uvloop's is one without saying so
        stream.set_write_buffer_limits(high=self.owner.limits.unsent)
        remote = stream.get_extra_info("peername")
        if remote is None or not self.owner.admit(self, Address(remote[0], remote[1])):
            stream.abort()

    def data_received(self, data: bytes) -> None:
        flow = self.flow
        if flow is None:
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
        self._greeted = self._greeted or any(isinstance(frame, bytes) for frame in frames)
        if self._greeted and not self._framer.pending:
            self._incomplete_since = None
        elif self._incomplete_since is None or (frames and self._greeted):
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
        self.owner.forget(self)

    def overdue(self, now: float) -> bool:
        limits = self.owner.limits
        if self._incomplete_since is None:
            return now - self._heard_at > limits.idle_time
        patience = limits.message_time if self._greeted else limits.first_message_time
        return now - self._incomplete_since > patience

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def abort(self) -> None:
        if self._stream is not None:
            self._stream.abort()


class TcpTransport:
    """A listening socket, the connections that came, and those that we made."""

    kind = Transport.TCP

    def __init__(
        self,
        server: socket.socket,
        sink: TransportSink,
        tasks: asyncio.TaskGroup,
        advertise: str | None,
        limits: TcpLimits,
    ) -> None:
        self.local = Address(*server.getsockname()[:2])
        self.sink = sink
        self.limits = limits
        self.counters = TcpCounters()
        self._loop = asyncio.get_running_loop()
        self._shown = LocalAddress(self.local, advertise)
        self._server: asyncio.Server | None = None
        self._tasks = tasks
        self._own_tasks: set[asyncio.Task[None]] = set()
        self._serial = count(1)
        self._by_id: dict[int, _Connection] = {}
        self._by_remote: dict[Address, _Connection] = {}
        self._per_host: Counter[str] = Counter()
        self._waiting: dict[Address, list[bytes]] = {}      # what goes out when its connection is made
        self._unread = 0
        self._closed = False

    @classmethod
    async def open(
        cls,
        local: Address,
        sink: TransportSink,
        tasks: asyncio.TaskGroup,
        *,
        advertise: str | None = None,
        limits: TcpLimits | None = None,
    ) -> TcpTransport:
        """Raises OSError when the address is taken or not ours. Its tasks live in `tasks` until `close`."""
        server = _listening_socket(local)
        try:
            transport = cls(server, sink, tasks, advertise, limits or TcpLimits())
            transport._server = await transport._loop.create_server(
                lambda: _Connection(transport), sock=server, backlog=transport.limits.backlog
            )
        except BaseException:
            server.close()
            raise
        transport._start(transport._sweep(), "tcp sweep")
        return transport

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def now(self) -> float:
        return self._loop.time()

    def flow_for(self, remote: Address) -> Flow:
        connection = self._by_remote.get(remote)
        if connection is not None and connection.flow is not None:
            return connection.flow
        return Flow(self.kind, self._shown.towards(remote.host), remote)

    def send(self, data: bytes, flow: Flow) -> None:
        connection = self._by_id.get(flow.connection) if flow.connection else self._by_remote.get(flow.remote)
        if connection is not None:
            connection.write(data)
            self.counters.sent += 1
        elif flow.connection or self._closed:
            self._drop(flow)            # the core knows where else to go (RFC 3261 §18.2.2)
        else:
            self._send_when_connected(data, flow)

    def close(self) -> None:
        """What was sent goes out first; nobody is told of the connections that end by this."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        for task in self._own_tasks:
            task.cancel()
        for connection in list(self._by_id.values()):
            connection.close()

    # -- for the connections

    def admit(self, connection: _Connection, remote: Address) -> bool:
        full = len(self._by_id) >= self.limits.connections
        if self._closed or full or self._per_host[remote.host] >= self.limits.connections_per_address:
            self.counters.refused_connections += 1
            return False
        flow = connection.flow = Flow(self.kind, self._shown.towards(remote.host), remote, next(self._serial))
        self._by_id[flow.connection] = self._by_remote[remote] = connection
        self._per_host[remote.host] += 1
        return True

    def forget(self, connection: _Connection) -> None:
        flow, connection.flow = connection.flow, None
        if flow is None:
            return
        del self._by_id[flow.connection]
        if self._by_remote.get(flow.remote) is connection:
            del self._by_remote[flow.remote]
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
        waiting = self._waiting.get(flow.remote)
        if waiting is None:
            if len(self._waiting) >= self.limits.connecting:
                self._drop(flow)
                return
            self._waiting[flow.remote] = [data]
            self._start(self._connect(flow), f"tcp connect {flow.remote.host}")
        elif sum(map(len, waiting)) + len(data) > self.limits.waiting:
            self._drop(flow)
        else:
            waiting.append(data)

    async def _connect(self, flow: Flow) -> None:
        source = None if self.local.host in ANY_ADDRESS else (self.local.host, 0)
        try:
            async with asyncio.timeout(self.limits.connect_time):
                _, connection = await self._loop.create_connection(
                    lambda: _Connection(self), *flow.remote, local_addr=source
                )
        except (OSError, TimeoutError):
            self.counters.failed_connects += 1
            self._give_up(flow)
            return
        except BaseException:
            del self._waiting[flow.remote]
            raise
        if connection.flow is None:             # above a limit, or gone again
            self._give_up(flow)
            return
        self.counters.connected += 1
        for data in self._waiting.pop(flow.remote):
            connection.write(data)
            self.counters.sent += 1

    def _give_up(self, flow: Flow) -> None:
        self.counters.dropped_unsent += len(self._waiting.pop(flow.remote))
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

    def _start(self, work: Coroutine[None, None, None], name: str) -> None:
        task = self._tasks.create_task(work, name=name)
        self._own_tasks.add(task)
        task.add_done_callback(self._own_tasks.discard)


def _listening_socket(local: Address) -> socket.socket:
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
