"""UDP on real sockets: datagrams, keep-alives, floods, unreachable peers, addresses that others see."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import uvloop

from b2bua.net import udp
from b2bua.net.udp import UdpTransport
from b2bua.sip.effects import Address, Flow, Transport

pytestmark = pytest.mark.both_loops


def _has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


class Sink:
    def __init__(self) -> None:
        self.messages: asyncio.Queue[tuple[bytes, Flow]] = asyncio.Queue()
        self.failures: asyncio.Queue[Flow] = asyncio.Queue()

    def on_message(self, data: bytes, flow: Flow) -> None:
        self.messages.put_nowait((data, flow))

    def on_failure(self, flow: Flow) -> None:
        self.failures.put_nowait(flow)


class Pair:
    """Our transport, and a peer's plain socket."""

    def __init__(self, transport: UdpTransport, sink: Sink, peer: socket.socket) -> None:
        self.transport = transport
        self.sink = sink
        self.peer = peer
        self.address = Address(*peer.getsockname()[:2])
        self._loop = asyncio.get_running_loop()

    async def heard(self) -> bytes:
        return await self._loop.sock_recv(self.peer, 65_535)

    def tell(self, data: bytes) -> None:
        self.peer.sendto(data, tuple(self.transport.local))


@asynccontextmanager
async def open_pair(host: str = "127.0.0.1", **options: Any) -> AsyncIterator[Pair]:
    sink = Sink()
    transport = UdpTransport.open(Address(host, 0), sink, **options)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.setblocking(False)
        peer.bind(("::1" if ":" in host else "127.0.0.1", 0))
        try:
            yield Pair(transport, sink, peer)
        finally:
            transport.close()


@pytest.fixture
def pair() -> AbstractAsyncContextManager[Pair]:
    return open_pair()


async def test_a_datagram_comes_with_its_flow_and_the_answer_goes_back_on_it(pair: Pair) -> None:
    pair.tell(b"OPTIONS ...")
    data, flow = await pair.sink.messages.get()
    assert data == b"OPTIONS ..."
    assert flow == Flow(Transport.UDP, pair.transport.local, pair.address)
    pair.transport.send(b"SIP/2.0 200 OK ...", flow)
    assert await pair.heard() == b"SIP/2.0 200 OK ..."
    assert pair.transport.flow_for(pair.address) is flow


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")
async def test_ipv6_works_alike() -> None:
    async with open_pair("::1") as pair:
        pair.tell(b"hello")
        _, flow = await pair.sink.messages.get()
        assert flow.remote == pair.address
        pair.transport.send(b"hello yourself", flow)
        assert await pair.heard() == b"hello yourself"


@pytest.mark.parametrize("keep_alive", [b"", b"\r\n", b"\r\n\r\n", b"\0\0\0\0", b"\0"])
async def test_keep_alives_are_swallowed_and_counted(pair: Pair, keep_alive: bytes) -> None:
    pair.tell(keep_alive)
    pair.tell(b"after it")
    assert (await pair.sink.messages.get())[0] == b"after it"
    assert pair.transport.counters.keep_alives == 1


async def test_a_datagram_of_the_largest_size_passes_both_ways(pair: Pair) -> None:
    largest = b"x" * 65_507
    pair.tell(largest)
    data, flow = await pair.sink.messages.get()
    assert data == largest
    pair.transport.send(largest, flow)
    assert await pair.heard() == largest


async def test_more_than_a_batch_arrives_whole_and_in_order(pair: Pair) -> None:
    for number in range(3 * udp.BATCH):
        pair.tell(str(number).encode())
    heard = [(await pair.sink.messages.get())[0] for _ in range(3 * udp.BATCH)]
    assert heard == [str(number).encode() for number in range(3 * udp.BATCH)]


async def test_a_flood_lets_timers_and_other_tasks_run(pair: Pair) -> None:
    ticks: list[int] = []
    for _ in range(20 * udp.BATCH):
        pair.tell(b"flood")
    while pair.transport.counters.received < 20 * udp.BATCH:
        ticks.append(pair.transport.counters.received)
        await asyncio.sleep(0)
    assert max(after - before for before, after in pairwise(ticks)) <= udp.BATCH


async def test_an_unreachable_peer_is_told_at_once_and_the_next_ones_are_served(pair: Pair) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        dead = Address(*gone.getsockname())
    pair.transport.send(b"INVITE ...", pair.transport.flow_for(dead))
    pair.transport.send(b"to the living", pair.transport.flow_for(pair.address))
    assert await pair.heard() == b"to the living"
    assert (await pair.sink.failures.get()).remote == dead
    pair.tell(b"still here")
    assert (await pair.sink.messages.get())[0] == b"still here"
    assert pair.transport.counters.unreachable == 1


async def test_a_datagram_that_the_kernel_refuses_fails_its_flow_only_later(pair: Pair) -> None:
    flow = pair.transport.flow_for(pair.address)
    pair.transport.send(b"x" * 70_000, flow)
    assert pair.sink.failures.empty()                       # never from within send
    assert await pair.sink.failures.get() == flow
    assert pair.transport.counters.send_failures == 1


class FullSocket:
    """A socket whose buffer has room for so many datagrams."""

    def __init__(self, real: socket.socket, room: int) -> None:
        self._real = real
        self.room = room

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        if self.room <= 0:
            raise BlockingIOError
        self.room -= 1
        return self._real.sendto(data, address)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


async def test_a_full_buffer_queues_in_order_and_a_full_queue_drops_counted(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp, "MAX_UNSENT", 3)
    full = FullSocket(pair.transport._socket, room=1)
    monkeypatch.setattr(pair.transport, "_socket", full)
    flow = pair.transport.flow_for(pair.address)
    for number in range(6):
        pair.transport.send(str(number).encode(), flow)
    assert pair.transport.counters.dropped_unsent == 2
    full.room = 2
    assert [await pair.heard() for _ in range(3)] == [b"0", b"1", b"2"]
    full.room = 10
    assert await pair.heard() == b"3"
    pair.transport.send(b"6", flow)
    assert await pair.heard() == b"6"


async def test_bound_to_any_address_it_shows_each_peer_the_one_that_leads_there() -> None:
    async with open_pair("0.0.0.0") as pair:  # noqa: S104
        assert pair.transport.flow_for(Address("127.0.0.1", 5060)).local == ("127.0.0.1", pair.transport.local.port)


async def test_an_advertised_address_is_shown_whatever_it_is_bound_to() -> None:
    async with open_pair("127.0.0.1", advertise="203.0.113.1") as pair:
        assert pair.transport.flow_for(pair.address).local == ("203.0.113.1", pair.transport.local.port)


async def test_flows_are_remembered_up_to_a_limit(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "MAX_FLOWS", 10)
    for port in range(1000, 1100):
        pair.transport.flow_for(Address("127.0.0.1", port))
    assert len(pair.transport._flows) == 10


async def test_a_taken_address_is_an_oserror(pair: Pair) -> None:
    with pytest.raises(OSError, match="in use"):
        UdpTransport.open(pair.transport.local, Sink())


async def test_closing_twice_is_fine_and_closing_within_a_message_too(pair: Pair) -> None:
    class ClosingSink(Sink):
        def on_message(self, data: bytes, flow: Flow) -> None:
            pair.transport.close()
            super().on_message(data, flow)

    sink = pair.transport._sink = ClosingSink()
    pair.tell(b"one")
    pair.tell(b"two")
    await sink.messages.get()
    pair.transport.close()
    assert sink.messages.empty()


def test_uvloop_goes_on_after_an_unreachable_peer() -> None:
    async def echo() -> None:
        async with open_pair() as pair:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                gone.bind(("127.0.0.1", 0))
                dead = Address(*gone.getsockname())
            pair.transport.send(b"INVITE ...", pair.transport.flow_for(dead))
            assert (await pair.sink.failures.get()).remote == dead
            pair.tell(b"hello")
            assert (await pair.sink.messages.get())[0] == b"hello"

    uvloop.run(asyncio.wait_for(echo(), 10))
