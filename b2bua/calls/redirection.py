"""Where an operator sends a call instead: 3xx to an INVITE that went out by a trunk (RFC 3261 §8.1.3.4, §21.3)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final

from b2bua import numbers
from b2bua.directory import Trunk
from b2bua.routing.plan import DialTrunk
from b2bua.sip.effects import Address, Flow
from b2bua.sip.fields import NameAddr
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Response
from b2bua.sip.uri import Uri

MAX_REDIRECTIONS: Final = 5                # INVITEs that a call sends because one trunk redirects it
MAX_CONTACTS: Final = 8                    # of one response

_NOT_FOLLOWED: Final = (305, 380)          # a proxy that is not ours; another service, by a body that we do not read
# Of a Contact, they say how to get there, which is the trunk's matter, or belong to no Request-URI (RFC 3261 §19.1.1).
_WAYS: Final = frozenset({"maddr", "method", "transport", "ttl"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where the call shall go. `at`: a server of that trunk's operator; None: as all calls by that trunk go."""

    uri: Uri                               # the Request-URI
    at: Address | None
    way: DialTrunk                         # who is called there, as the limits read it

    @property
    def key(self) -> tuple[str, str, int | None]:
        """The same for what is the same place."""
        return self.uri.user, self.uri.host.lower(), self.uri.port

    def __str__(self) -> str:
        return str(Uri.sip(self.uri.user, self.uri.host))


def contacts_of(response: Response) -> tuple[Uri, ...]:
    """Whom a 3xx names, the most wanted first; nobody when it is not to be followed, or makes no sense.

    What is no 3xx that we know counts as 300 (RFC 3261 §8.1.3.2).
    """
    if not 300 <= response.status < 400 or response.status in _NOT_FOLLOWED:
        return ()
    try:
        contacts = sorted(response.contacts[:MAX_CONTACTS], key=_wanted, reverse=True)
    except ParseError:
        return ()
    return tuple(contact.uri for contact in contacts if contact.uri.user)


def first_place(step: DialTrunk) -> Place:
    """Where the call went before it was redirected."""
    return Place(Uri.sip(step.number, step.trunk.host, step.trunk.port), None, step)


def place_of(contact: Uri, step: DialTrunk, came_by: Flow, servers: Collection[str]) -> Place | None:
    """`contact` itself, when that is the operator's own; else whom it names, through the trunk. None: no call can be
    made there. `servers` are addresses of the trunk's, `came_by` is where the redirection came from."""
    trunk = step.trunk
    if contact.scheme not in ("sip", "sips", "tel") or (contact.scheme == "sips" and trunk.transport != "TLS"):
        return None
    outside = numbers.normalise(contact.user.partition(";")[0], trunk.country)
    way = replace(step, number=contact.user, outside=outside)
    if contact.scheme == "tel" or not _is_own(contact.host, trunk, servers):
        return first_place(way)
    params = {name: value for name, value in contact.params.items() if name not in _WAYS}
    return Place(Uri(contact.scheme, contact.user, contact.host, contact.port, params), _at(contact, came_by), way)


def _is_own(host: str, trunk: Trunk, servers: Collection[str]) -> bool:
    if host.lower() in {trunk.host.strip("[]").lower(), trunk.domain.lower(), *servers}:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in trunk.networks)


def _at(contact: Uri, came_by: Flow) -> Address:
    """A name of the operator's own is looked up for no call: the server that named it is one of those behind it."""
    try:
        ip_address(contact.host)
    except ValueError:
        return came_by.remote._replace(port=contact.port or came_by.remote.port)
    return Address(contact.host, contact.port or came_by.transport.default_port)


def _wanted(contact: NameAddr) -> float:
    return contact.q
