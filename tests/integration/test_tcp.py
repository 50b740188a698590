"""TCP on real sockets: framing, reuse, keep-alives, and what a peer may not do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest

from b2bua.net import streams
from b2bua.net.streams import StreamLimits
from b2bua.net.tcp import TcpTransport
from b2bua.sip.effects import Address, Flow, Transport

pytestmark = pytest.mark.both_loops


def message(call_id: str = "1", body: bytes = b"") -> bytes:
    return (
        f"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\nCall-ID: {call_id}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class Sink:
    def __init__(self) -> None:
        self.messages: asyncio.Queue[tuple[bytes, Flow]] = asyncio.Queue()
        self.failures: asyncio.Queue[Flow] = asyncio.Queue()

    def on_message(self, data: bytes, flow: Flow) -> None:
        self.messages.put_nowait((data, flow))

    def on_failure(self, flow: Flow) -> None:
        self.failures.put_nowait(flow)


class Ours:
    def __init__(self, transport: TcpTransport, sink: Sink) -> None:
        self.transport = transport
        self.sink = sink

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Somebody who connects to us."""
        reader, writer = await asyncio.open_connection(*self.transport.local)
        try:
            yield reader, writer
        finally:
            writer.close()


@asynccontextmanager
async def listening(limits: StreamLimits | None = None, host: str = "127.0.0.1") -> AsyncIterator[Ours]:
    sink = Sink()
    async with asyncio.TaskGroup() as tasks:
        transport = await TcpTransport.open(Address(host, 0), sink, tasks, limits=limits)
        try:
            yield Ours(transport, sink)
        finally:
            transport.close()


@asynccontextmanager
async def a_server() -> AsyncIterator[tuple[Address, asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]]:
    """Somebody whom we connect to."""
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await accepted.put((reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield Address(*server.sockets[0].getsockname()), accepted
    finally:
        server.close()
        for writer in writers:
            writer.close()


@pytest.fixture
def ours() -> AbstractAsyncContextManager[Ours]:
    return listening()


async def test_messages_are_cut_out_of_the_stream_and_answered_on_it(ours: Ours) -> None:
    async with ours.peer() as (reader, writer):
        both = message("1", b"body") + message("2")
        writer.write(both[:30])
        await writer.drain()
        writer.write(both[30:])
        (first, flow), (second, again) = await ours.sink.messages.get(), await ours.sink.messages.get()
        assert (first, second) == (message("1", b"body"), message("2"))
        assert flow == again
        assert (flow.transport, flow.remote) == (Transport.TCP, Address(*writer.get_extra_info("sockname")))
        assert flow.connection > 0
        ours.transport.send(b"SIP/2.0 200 OK\r\n\r\n", flow)
        assert await reader.readuntil(b"\r\n\r\n") == b"SIP/2.0 200 OK\r\n\r\n"


async def test_a_ping_is_answered_with_a_pong_and_not_passed_on(ours: Ours) -> None:
    async with ours.peer() as (reader, writer):
        writer.write(b"\r\n\r\n" + message())
        assert await reader.readexactly(2) == b"\r\n"
        assert (await ours.sink.messages.get())[0] == message()


async def test_a_request_opens_a_connection_once_and_responses_come_back_on_it(ours: Ours) -> None:
    async with a_server() as (there, accepted):
        flow = ours.transport.flow_for(there)
        assert flow == Flow(Transport.TCP, ours.transport.local, there, 0)
        ours.transport.send(message("1"), flow)
        ours.transport.send(message("2"), flow)                     # while it is being made
        reader, writer = await accepted.get()
        assert await reader.readexactly(2 * len(message("1"))) == message("1") + message("2")
        writer.write(message("3"))
        _, theirs = await ours.sink.messages.get()
        assert (theirs.remote, theirs.connection > 0) == (there, True)
        assert ours.transport.flow_for(there) == theirs
        ours.transport.send(message("4"), flow)                     # the old flow finds the same connection
        assert await reader.readexactly(len(message("4"))) == message("4")
        assert accepted.empty()


async def test_a_refused_connection_is_a_failure_of_its_flow(ours: Ours) -> None:
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        flow = ours.transport.flow_for(Address(*gone.getsockname()))
    ours.transport.send(message(), flow)
    assert await ours.sink.failures.get() == flow
    assert ours.transport.counters.failed_connects == 1
    assert ours.transport.counters.dropped_unsent == 1


async def test_a_connection_that_is_not_made_in_time_is_given_up() -> None:
    with socket.socket() as full:                                   # a backlog of one, and that one taken
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = Address(*full.getsockname())
        fillers = []
        try:
            for _ in range(3):
                filler = socket.socket()
                fillers.append(filler)
                filler.setblocking(False)
                filler.connect_ex(tuple(address))
            async with listening(StreamLimits(connect_time=0.05)) as ours:
                flow = ours.transport.flow_for(address)
                ours.transport.send(message(), flow)
                assert await ours.sink.failures.get() == flow
        finally:
            for filler in fillers:
                filler.close()


async def test_what_waits_for_a_connection_is_limited() -> None:
    async with a_server() as (there, accepted), listening(StreamLimits(waiting=2 * len(message()))) as ours:
        for number in range(3):
            ours.transport.send(message(str(number)), ours.transport.flow_for(there))
        assert ours.transport.counters.dropped_unsent == 1
        assert ours.sink.failures.empty()                           # never from within send
        assert (await ours.sink.failures.get()).remote == there
        reader, _ = await accepted.get()
        assert await reader.readexactly(2 * len(message())) == message("0") + message("1")


async def test_connections_being_made_are_limited() -> None:
    async with a_server() as (there, accepted), listening(StreamLimits(connecting=0)) as ours:
        ours.transport.send(message(), ours.transport.flow_for(there))
        assert (await ours.sink.failures.get()).remote == there
        assert accepted.empty()


async def test_a_connection_that_ends_is_told_and_its_flow_fails_from_then_on(ours: Ours) -> None:
    async with ours.peer() as (_, writer):
        writer.write(message())
        _, flow = await ours.sink.messages.get()
    assert await ours.sink.failures.get() == flow
    ours.transport.send(message(), flow)
    assert await ours.sink.failures.get() == flow
    assert len(ours.transport) == 0


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n" * 3,
        b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: -1\r\n\r\n",
        b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 99999999999\r\n\r\n",
        b"x" * 70_000,
    ],
    ids=["http", "tls", "negative", "huge", "endless line"],
)
async def test_what_is_no_sip_loses_its_connection(ours: Ours, garbage: bytes) -> None:
    async with ours.peer() as (reader, writer):
        writer.write(garbage)
        with suppress(ConnectionResetError):            # an orderly end is as good
            assert await reader.read() == b""
        assert ours.transport.counters.framing_errors == 1
        assert ours.sink.messages.empty()


async def test_connections_are_limited_in_all_and_by_address() -> None:
    async with listening(StreamLimits(connections=3, connections_per_address=2)) as ours:
        async with ours.peer() as (_, one), ours.peer() as (_, two):
            for writer in (one, two):
                writer.write(message())
                await ours.sink.messages.get()
            async with ours.peer() as (refused, _):
                with suppress(ConnectionResetError):
                    assert await refused.read() == b""
            assert ours.transport.counters.refused_connections == 1
        for _ in range(2):
            await ours.sink.failures.get()
        async with ours.peer() as (_, again):                       # the places are free again
            again.write(message())
            await ours.sink.messages.get()


async def test_a_peer_that_does_not_read_loses_its_connection() -> None:
    async with listening(StreamLimits(unsent=50_000)) as ours, ours.peer() as (_, writer):
        writer.write(message())
        _, flow = await ours.sink.messages.get()
        while not ours.transport.counters.unsent_closed:
            ours.transport.send(b"x" * 60_000, flow)
            await asyncio.sleep(0)
        assert await ours.sink.failures.get() == flow


@pytest.mark.parametrize(
    ("limits", "sent"),
    [
        (StreamLimits(first_message_time=0.0), b""),
        (StreamLimits(first_message_time=0.0), b"\r\n\r\n"),
        (StreamLimits(message_time=0.0), message() + message()[:20]),
        (StreamLimits(idle_time=0.0), message()),
    ],
    ids=["says nothing", "only pings", "begins and does not end", "idle"],
)
async def test_a_connection_that_only_costs_is_closed(
    limits: StreamLimits, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SWEEP", 0.01)
    async with listening(limits) as ours, ours.peer() as (_, writer):
        writer.write(sent)
        await ours.sink.failures.get()
        assert ours.transport.counters.idle_closed == 1


async def test_a_used_connection_within_its_limits_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SWEEP", 0.001)
    async with listening() as ours, ours.peer() as (_, writer):
        writer.write(message() + message("2")[:20])
        await ours.sink.messages.get()
        ours.transport.limits = StreamLimits(first_message_time=0.0, message_time=60.0)   # it has said its first
        await asyncio.sleep(2 * streams.SWEEP)
        writer.write(message("2")[20:])
        assert (await ours.sink.messages.get())[0] == message("2")
        assert ours.transport.counters.idle_closed == 0


async def test_half_messages_of_all_connections_together_are_limited() -> None:
    async with listening(StreamLimits(unread_in_all=1000)) as ours, ours.peer() as (_, one), ours.peer() as (_, two):
        head = b"OPTIONS sip:a@b SIP/2.0\r\nX: "
        one.write(message() + head + b"x" * 700)
        two.write(message() + head + b"x" * 700)
        await ours.sink.failures.get()
        assert ours.transport.counters.unread_closed == 1
        assert len(ours.transport) == 1


async def test_closing_lets_the_last_words_out(ours: Ours) -> None:
    async with ours.peer() as (reader, writer):
        writer.write(message())
        _, flow = await ours.sink.messages.get()
        ours.transport.send(b"SIP/2.0 503 Over\r\n\r\n", flow)
        ours.transport.close()
        assert await reader.read() == b"SIP/2.0 503 Over\r\n\r\n"
        assert ours.sink.failures.empty()
        ours.transport.send(message(), flow)                        # nothing happens, nothing breaks


async def test_a_taken_address_is_an_oserror(ours: Ours) -> None:
    async with asyncio.TaskGroup() as tasks:
        with pytest.raises(OSError, match="in use"):
            await TcpTransport.open(ours.transport.local, Sink(), tasks)
