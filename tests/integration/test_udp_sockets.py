"""Several UDP sockets: who is answered, and who is called, by which of them."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest

from b2bua.net.udp import UdpTransport
from b2bua.net.udp_sockets import MAX_CHOSEN, UdpSockets
from b2bua.sip.effects import Address, Flow, Transport


class Sink:
    def __init__(self) -> None:
        self.came: asyncio.Queue[Flow] = asyncio.Queue()

    def on_message(self, data: bytes, flow: Flow) -> None:
        self.came.put_nowait(flow)

    def on_failure(self, flow: Flow) -> None:
        raise AssertionError(f"{flow} failed")


class Peer:
    def __init__(self, host: str) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.setblocking(False)
        self.address = Address(*self._socket.getsockname()[:2])

    def send(self, there: Address) -> None:
        self._socket.sendto(b"OPTIONS sip:a SIP/2.0\r\n\r\n", tuple(there))

    async def heard_from(self) -> Address:
        async with asyncio.timeout(5):
            _, source = await asyncio.get_running_loop().sock_recvfrom(self._socket, 100)
        return Address(*source[:2])

    def close(self) -> None:
        self._socket.close()


def opened(stack: ExitStack, sink: Sink, *hosts: str, advertise: str | None = None) -> list[UdpTransport]:
    found = [UdpTransport.open(Address(host, 0), sink, advertise=advertise) for host in hosts]
    for one in found:
        stack.callback(one.close)
    return found


def peer_at(stack: ExitStack, host: str) -> Peer:
    peer = Peer(host)
    stack.callback(peer.close)
    return peer


@pytest.mark.parametrize("advertise", [None, "203.0.113.7"])
async def test_who_came_by_a_socket_is_answered_and_called_by_it(advertise: str | None) -> None:
    with ExitStack() as stack:
        sink = Sink()
        found = opened(stack, sink, "127.31.1.1", "127.31.1.2", "127.31.1.1", advertise=advertise)
        sockets = UdpSockets(found)
        for one in found:
            peer = peer_at(stack, "127.31.3.1")
            peer.send(one.local)
            async with asyncio.timeout(5):
                flow = await sink.came.get()
            sockets.send(b"SIP/2.0 200 OK\r\n\r\n", flow)
            assert await peer.heard_from() == one.local


async def test_a_new_flow_leaves_by_the_address_that_leads_there_and_says_so() -> None:
    with ExitStack() as stack:
        one, other = opened(stack, Sink(), "127.31.1.1", "127.0.0.1")
        peer = peer_at(stack, "127.0.0.1")                  # the kernel would go there from 127.0.0.1
        for sockets in (UdpSockets([one, other]), UdpSockets([other, one])):
            flow = sockets.flow_for(peer.address)
            assert flow == Flow(Transport.UDP, other.local, peer.address)
            sockets.send(b"OPTIONS sip:a SIP/2.0\r\n\r\n", flow)
            assert await peer.heard_from() == other.local


async def test_each_family_has_its_socket() -> None:
    with ExitStack() as stack:
        v4, v6 = opened(stack, Sink(), "127.31.1.1", "::1")
        for sockets in (UdpSockets([v4, v6]), UdpSockets([v6, v4])):
            for host, mine in (("127.31.3.1", v4), ("::1", v6)):
                peer = peer_at(stack, host)
                sockets.send(b"OPTIONS sip:a SIP/2.0\r\n\r\n", sockets.flow_for(peer.address))
                assert await peer.heard_from() == mine.local


async def test_one_for_every_address_stands_before_one_that_does_not_fit() -> None:
    with ExitStack() as stack:
        elsewhere, everywhere = opened(stack, Sink(), "127.31.1.1", "0.0.0.0")  # noqa: S104
        flow = UdpSockets([elsewhere, everywhere]).flow_for(Address("127.0.0.1", 9))
        assert flow.local == Address("127.0.0.1", everywhere.local.port)


async def test_what_is_remembered_is_limited() -> None:
    with ExitStack() as stack:
        sockets = UdpSockets(opened(stack, Sink(), "127.31.1.1", "127.31.1.2"))
        for number in range(MAX_CHOSEN + 10):
            sockets.flow_for(Address(f"127.40.{number // 256}.{number % 256}", 9))
        assert len(sockets._by_host) == MAX_CHOSEN
