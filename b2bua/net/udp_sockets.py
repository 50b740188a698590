"""Several UDP sockets as one transport: what goes to a peer leaves by the socket that the peer knows, or that fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from b2bua.net.transport import source_towards
from b2bua.net.udp import UdpTransport
from b2bua.sip.effects import Address, Flow, TlsPeer, Transport

MAX_CHOSEN: Final = 4096                # peers whose socket is remembered


class UdpSockets:
    """A flow that came in by one of them is answered by it; a new one leaves by the socket of the address that the
    kernel would use, else by one of that address family."""

    kind = Transport.UDP

    def __init__(self, sockets: Sequence[UdpTransport]) -> None:
        """At least one."""
        self.local = sockets[0].local
        self._sockets = tuple(sockets)
        self._by_host: dict[str, UdpTransport] = {}

    def flow_for(self, remote: Address, peer: TlsPeer | None = None) -> Flow:
        return self._towards(remote.host).flow_for(remote)

    def send(self, data: bytes, flow: Flow) -> None:
        self._of(flow).send(data, flow)

    def trouble(self, peer: TlsPeer) -> str:
        return ""                       # datagrams prove nobody

    def close(self) -> None:
        for one in self._sockets:
            one.close()

    def _of(self, flow: Flow) -> UdpTransport:
        fitting = self._towards(flow.remote.host)
        if fitting.is_of(flow):
            return fitting
        return next((one for one in self._sockets if one.is_of(flow)), fitting)

    def _towards(self, host: str) -> UdpTransport:
        known = self._by_host.get(host)
        if known is None:
            if len(self._by_host) >= MAX_CHOSEN:
                del self._by_host[next(iter(self._by_host))]
            known = self._by_host[host] = self._chosen(host)
        return known

    def _chosen(self, host: str) -> UdpTransport:
        family = [one for one in self._sockets if one.reaches(host)]
        source = source_towards(host)
        exact = [one for one in family if one.local.host == source]
        everywhere = [one for one in family if one.is_everywhere]
        return next(iter((*exact, *everywhere, *family, *self._sockets)))
