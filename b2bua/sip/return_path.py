"""The way back of a request: what is noted in its topmost Via, where its responses go (RFC 3261 §18.2, RFC 3581)."""

from __future__ import annotations

from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.fields import Via
from b2bua.sip.message import Request


def stamp(request: Request, source: Address) -> None:
    """Write down where the request really came from (RFC 3261 §18.2.1, RFC 3581 §4)."""
    via = request.via
    if via.wants_rport or via.host != source.host:
        request.set_via(via.stamped(source.host, source.port))


def way_back(via: Via, flow: Flow) -> Flow:
    """Where the responses go (RFC 3261 §18.2.2, RFC 3581 §4).

    Deviation: maddr is ignored; it serves multicast, and would let a stranger aim our responses at others.
    """
    if flow.transport.reliable or via.wants_rport:
        return flow
    port = via.port or flow.transport.default_port
    return flow if port == flow.remote.port else flow._replace(remote=Address(flow.remote.host, port))


def way_back_anew(via: Via, flow: Flow) -> Flow | None:
    """Where a new connection for the responses may be tried; a browser takes none (RFC 3261 §18.2.2)."""
    if flow.transport in (Transport.WS, Transport.WSS):
        return None
    return flow._replace(remote=Address(flow.remote.host, via.port or flow.transport.default_port), connection=0)
