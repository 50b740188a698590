"""Who asks: the address behind the proxies that we trust, and nobody's word but theirs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.requests import Request

MOST_HOPS = 20                         # proxies in one X-Forwarded-For
UNKNOWN = "unknown"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address_of(request: Request, trusted: Sequence[Network]) -> Address | None:
    """None when it came through somebody whose word does not count: then it may be anybody."""
    peer = _parsed(request.client.host if request.client else "")
    hops = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    if hops == [""]:
        return peer
    if not is_in(peer, trusted):
        return None
    for hop in reversed(hops[-MOST_HOPS:]):
        peer = _parsed(hop.strip())
        if not is_in(peer, trusted):
            break
    return peer


def is_in(address: Address | None, networks: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in networks if network.version == address.version)


def account_of(address: Address | None) -> str:
    """Whose failures are counted together: an IPv6 neighbourhood is one, as anybody has a /64 to choose from."""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address) if address is not None else UNKNOWN


def _parsed(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
