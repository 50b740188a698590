"""What a BYE needs when nothing else is left of its dialog: the process that held it has died (RFC 3261 §12, §15)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, cast

from b2bua.sip.dialog import Dialog
from b2bua.sip.effects import Address, Transport
from b2bua.sip.fields import MAX_CSEQ, NameAddr
from b2bua.sip.grammar import ParseError
from b2bua.sip.uri import Uri

# The dialog goes on after this was written down, and its requests count on: a gap is no error (RFC 3261 §12.2.2).
CSEQ_ROOM = 1_000_000
LONGEST = 8_000                            # characters of one's fields; a peer that wrote longer fields gets no BYE
RESTARTED = ("Reason", 'SIP;cause=503;text="Restarted"')       # RFC 3326


@dataclass(frozen=True, slots=True)
class Farewell:
    """One dialog's BYE, but for its Via. Texts: each call that is up makes two of them, and hardly any is ever read."""

    uri: str
    local: str                             # From
    remote: str                            # To
    call_id: str
    cseq: int
    routes: tuple[str, ...]
    transport: Transport
    hops: tuple[Address, ...]              # to be tried in this order

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (*(("Route", route) for route in self.routes), RESTARTED)

    def to_fields(self) -> list[object]:
        """For JSON."""
        return [self.uri, self.local, self.remote, self.call_id, self.cseq, self.routes, self.transport.value,
                self.hops]


def farewell_to(dialog: Dialog) -> Farewell | None:
    """None when a peer's fields are too long to be kept."""
    uri, routes = dialog.aim
    target, flow = str(uri), dialog.flow
    if sum(map(len, (target, dialog.local, dialog.remote, dialog.call_id, *routes))) > LONGEST:
        return None
    return Farewell(
        target, dialog.local, dialog.remote, dialog.call_id, min(dialog.local_seq + CSEQ_ROOM, MAX_CSEQ), routes,
        flow.transport, _hops(dialog, uri, routes),
    )


def _hops(dialog: Dialog, uri: Uri, routes: tuple[str, ...]) -> tuple[Address, ...]:
    """By UDP where the dialog's requests went. A stream's connection is gone with the process: a new one goes to where
    the peer says that it listens, and only then to where its old one came from."""
    flow = dialog.flow
    if not flow.transport.reliable:
        return (flow.remote,)
    hop = NameAddr.parse(routes[0]).uri if routes else uri
    try:
        ip_address(hop.host)
    except ValueError:                     # a name
        return (flow.remote,)
    listens = Address(hop.host, hop.port or flow.transport.default_port)
    return (listens,) if listens == flow.remote else (listens, flow.remote)


def from_fields(fields: object) -> Farewell:
    """Raises ValueError when a BYE cannot be made of it."""
    try:
        uri, local, remote, call_id, cseq, routes, transport, hops = cast(list[Any], fields)
        Uri.parse(uri), NameAddr.parse(local), NameAddr.parse(remote)
        return Farewell(
            uri, local, remote, str(call_id), int(cseq), tuple(map(str, routes)), Transport(transport),
            tuple(Address(str(host), int(port)) for host, port in hops),
        )
    except (ParseError, TypeError) as error:
        raise ValueError(f"no farewell: {error}") from error
