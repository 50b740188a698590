"""What every SIP transport offers, and whom it tells (RFC 3261 §18)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol

from b2bua.sip.effects import Address, Flow, TlsPeer, Transport

ANY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  (compared with, not bound to)
MAX_DISCOVERED: Final = 4096            # peers whose way out is remembered


class TransportSink(Protocol):
    def on_message(self, data: bytes, flow: Flow) -> None:
        """One whole message, not parsed."""
        ...

    def on_failure(self, flow: Flow) -> None:
        """What was sent there did not arrive, or the connection is gone. Never called from within `send`."""
        ...


class Standing(Enum):
    """How whoever is at an address is heard."""

    KNOWN = "known"                     # at once
    STRANGER = "stranger"               # after those, and only as many as there is time for
    BANNED = "banned"                   # not at all


Judge = Callable[[tuple[str, int]], Standing]       # of a source; asked for each datagram, so it has to be quick


def all_are_known(source: tuple[str, int]) -> Standing:
    return Standing.KNOWN


class MessageTransport(Protocol):
    kind: Transport
    local: Address                      # what it is bound to

    def send(self, data: bytes, flow: Flow) -> None: ...

    def flow_for(self, remote: Address, peer: TlsPeer | None = None) -> Flow:
        """How a new message gets to this address, with the local address to show in Via and Contact. `peer`: who
        has to be there, for transports that can tell."""
        ...

    def trouble(self, peer: TlsPeer) -> str:
        """Why no connection leads to that peer; empty when nothing is known against it."""
        ...

    def close(self) -> None: ...


class LocalAddress:
    """The address that a peer sees us at: the advertised one, the bound one, else what routing says for that peer."""

    def __init__(self, bound: Address, advertise: str | None) -> None:
        self._port = bound.port
        host = advertise or bound.host
        self._fixed = None if host in ANY_ADDRESS else Address(host, bound.port)
        self._by_host: dict[str, Address] = {}

    def towards(self, host: str) -> Address:
        if self._fixed is not None:
            return self._fixed
        known = self._by_host.get(host)
        if known is None:
            if len(self._by_host) >= MAX_DISCOVERED:
                del self._by_host[next(iter(self._by_host))]
            known = self._by_host[host] = Address(source_towards(host), self._port)
        return known


def source_towards(host: str) -> str:
    """The source address that the kernel would choose; connecting a UDP socket sends nothing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:                 # no route: any loopback address is as wrong as another
            return "::1" if family == socket.AF_INET6 else "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address
