"""Dialogs: who talks to whom, along which route, and in what order (RFC 3261 §12)."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from b2bua.sip.effects import Address, Flow
from b2bua.sip.fields import NameAddr
from b2bua.sip.grammar import ParseError
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request
from b2bua.sip.offer_answer import OfferAnswer
from b2bua.sip.uri import Uri

if TYPE_CHECKING:
    from b2bua.sip.message import Message, Response

MAX_ROUTES = 32
MAX_FORWARDS = ("Max-Forwards", "70")


class Dialog:
    """One peer-to-peer relation, early or confirmed, with the exchange of offers that belongs to it.

    Texts of From, To and Route are written once here, and used in each request.
    """

    __slots__ = (
        "_routes", "_uri", "call_id", "flow", "local", "local_seq", "local_tag", "offers",
        "remote", "remote_seq", "remote_tag", "routes", "rseq", "target",
    )   # fmt: skip

    def __init__(self, call_id: str, local: str, local_tag: str, remote: str, remote_tag: str, local_seq: int) -> None:
        self.call_id = call_id
        self.local = local                              # From of our requests
        self.local_tag = local_tag
        self.remote = remote                            # To of our requests
        self.remote_tag = remote_tag                    # "": a peer of RFC 2543's time
        self.local_seq = local_seq
        self.remote_seq: int | None = None
        self.routes: tuple[str, ...] = ()               # the route set, as texts
        self.target: Uri                                # the remote target: where the peer's Contact points
        self._uri: Uri                                  # what our requests carry as Request-URI,
        self._routes: tuple[tuple[str, str], ...]       # and their Route fields (§12.2.1.1)
        self.flow: Flow
        self.offers = OfferAnswer()
        self.rseq: int | None = None                    # of the last reliable provisional taken in (RFC 3262 §4)

    @classmethod
    def as_uas(cls, invite: Request, local_tag: str, flow: Flow) -> Dialog:
        """RFC 3261 §12.1.1."""
        local = f"{invite.headers.get('To')};tag={local_tag}"
        dialog = cls(invite.call_id, local, local_tag, invite.headers.get("From") or "", invite.from_tag or "", 0)
        dialog.remote_seq = invite.cseq.number
        dialog.routes = tuple(invite.headers.get_all("Record-Route"))[:MAX_ROUTES]
        dialog.target = contact_uri(invite) or invite.from_.uri
        dialog._aim(flow)
        return dialog

    @classmethod
    def as_uac(cls, invite: Request, response: Response, flow: Flow) -> Dialog:
        """RFC 3261 §12.1.2; `flow` is where the response came from."""
        dialog = cls(invite.call_id, invite.headers.get("From") or "", invite.from_tag or "",
                     response.headers.get("To") or "", response.to_tag or "", invite.cseq.number)
        dialog.target = invite.uri
        dialog.learn_route(response, flow)
        return dialog

    def learn_route(self, response: Response, flow: Flow) -> None:
        """Route set and target of a UAC's dialog; a 2xx replaces what an 18x said (RFC 3261 §13.2.2.4)."""
        self.routes = tuple(reversed(response.headers.get_all("Record-Route")[:MAX_ROUTES]))
        self._move_to(response)
        self._aim(flow)

    def refresh_target(self, message: Message, flow: Flow) -> None:
        """RFC 3261 §12.2.1.2 and §12.2.2: re-INVITE and UPDATE, and their 2xx, may move the peer's Contact."""
        if self._move_to(message):
            self._aim(flow)

    def follow(self, message: Message, flow: Flow) -> None:
        """Whoever refreshes a subscription is where it says, or where it is heard now (RFC 3261 §12.2.2)."""
        self._move_to(message)
        self._aim(flow)

    def _move_to(self, message: Message) -> bool:
        """Take the Contact as the remote target. Forgiving: one that cannot be used changes nothing."""
        try:
            contact = contact_uri(message)
        except ParseError:
            return False
        if contact is None or contact == self.target:
            return False
        self.target = contact
        return True

    def heard_from(self, flow: Flow) -> None:
        """The peer has opened another connection: requests of ours go there too."""
        if flow.transport.reliable and flow != self.flow:
            self.flow = flow

    def in_order(self, request: Request) -> bool:
        """RFC 3261 §12.2.2: a request older than what we have seen is refused with 500."""
        number = request.cseq.number
        if self.remote_seq is not None and number <= self.remote_seq:
            return False
        self.remote_seq = number
        return True

    def request(
        self, method: str, via: str, fields: Iterable[tuple[str, str]] = (), body: bytes = b"", content_type: str = ""
    ) -> Request:
        """The next request inside the dialog (RFC 3261 §12.2.1.1)."""
        self.local_seq += 1
        return self._compose(method, self.local_seq, via, fields, body, content_type)

    def ack(self, number: int, via: str, fields: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Request:
        """The ACK to a 2xx has the number of its INVITE (RFC 3261 §13.2.2.4)."""
        return self._compose("ACK", number, via, fields, body, "application/sdp")

    def _compose(
        self, method: str, number: int, via: str, fields: Iterable[tuple[str, str]], body: bytes, content_type: str
    ) -> Request:
        header = [("Via", via), MAX_FORWARDS, *self._routes, ("From", self.local), ("To", self.remote),
                  ("Call-ID", self.call_id), ("CSeq", f"{number} {method}"), *fields]
        if body:
            header.append(("Content-Type", content_type or "application/sdp"))
        return Request(method, self._uri, Headers(header), body)

    @property
    def aim(self) -> tuple[Uri, tuple[str, ...]]:
        """Request-URI and Route fields of its requests."""
        return self._uri, tuple(route for _, route in self._routes)

    def _aim(self, source: Flow) -> None:
        """Fix Request-URI, Route and next hop for the requests to come."""
        self._uri, routes, hop = self.target, self.routes, self.target
        if routes:
            hop = NameAddr.parse(routes[0]).uri
            if not hop.is_loose_router:             # a strict router wants to be the Request-URI (§12.2.1.1)
                self._uri, routes = hop.without_headers(), (*routes[1:], f"<{self.target}>")
        self._routes = tuple(("Route", route) for route in routes)
        self.flow = self._next_hop(hop, source)

    def _next_hop(self, hop: Uri, source: Flow) -> Flow:
        """Where to send: a stream's connection; by UDP the next hop, when it is an address that can be believed.

        Deviation: RFC 3263 would resolve names, and follow a Contact wherever it points. A peer whose Contact is not
        where it sends from sits behind a NAT: it is reached where it was heard. That is also right for most names.
        """
        if source.transport.reliable:
            return source
        host = hop.params.get("maddr") or hop.host
        if host != source.remote.host and not (self.routes and _is_address(host)):
            return source
        port = hop.port or source.transport.default_port
        remote = source.remote
        return source if (host, port) == remote else source._replace(remote=Address(host, port))


def contact_uri(message: Message) -> Uri | None:
    """The Contact that may become a remote target, None when there is none of use."""
    contact = message.contact
    if contact is None:
        return None
    if not contact.uri.is_sip:
        raise ParseError("Contact is no SIP URI")
    return contact.uri.without_headers()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
