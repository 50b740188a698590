"""The registrar's rules over one address of record: its contact bindings (RFC 3261 §10.3).

Beside them those of outbound (RFC 5626 §6: a phone that comes again replaces its own binding, and is its connection)
and of Path (RFC 3327 §5.3: a proxy stands between, and what we send to the phone goes through it).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.fields import NameAddr
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Request
from b2bua.sip.uri import Uri

MAX_REORDERING: Final = 32.0            # seconds for which an old REGISTER may still be under way (64*T1)
MAX_CONTACT_LENGTH: Final = 512         # characters of a contact URI that we keep
MAX_USER_AGENT: Final = 128             # characters of User-Agent that we show
MAX_PATH: Final = 8                     # proxies between a phone and us
FLOW_TIMER: Final = 120                 # seconds between two keep-alives of a phone, at most (RFC 5626 §4.4)

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class BindingPolicy:
    """What expiry a phone gets; seconds."""

    min_expires: int = 60
    max_expires: int = 3600
    default_expires: int = 3600
    # A registrar may shorten what was asked for (§10.3 step 7); behind a NAT the phone's repeated REGISTER is what
    # keeps the way to it open over UDP.
    behind_nat_expires: int = 60


class Reachability(Enum):
    """What the phone's answers to OPTIONS say."""

    UNKNOWN = "not asked yet"
    REACHABLE = "reachable"
    LAGGED = "lagged"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Binding:
    """Where one phone of the extension is reached until `expires_at`."""

    uri: Uri
    flow: Flow                  # whence its REGISTER came: the only way to a phone behind a NAT
    behind_nat: bool            # its contact is not where its packets come from
    expires_at: float
    updated_at: float
    call_id: str
    cseq: int
    q: float = 1.0
    user_agent: str = ""
    instance: str = ""          # RFC 5626 §4.1
    reg_id: str = ""
    outbound: bool = False      # it is its connection, and knows it
    path: tuple[str, ...] = ()  # Route fields of what we send to it, the first hop first
    reachability: Reachability = Reachability.UNKNOWN

    @property
    def reach(self) -> Flow:
        """How a request gets there: straight to the contact where that is open, else the way it came."""
        if self.bound_to_flow or self.flow.connection or self.path:
            return self.flow
        return self.anew

    @property
    def bound_to_flow(self) -> bool:
        """Whether there is no other way to it than the one by which it registered: through a NAT, because it said so
        (RFC 5626), or by TLS, where a phone has no name that it could prove to whom connects to it."""
        alone = self.outbound and not self.path
        return self.behind_nat or alone or self.flow.transport not in (Transport.UDP, Transport.TCP)

    @property
    def anew(self) -> Flow:
        """Where another connection leads to it, or to the proxy before it, which is where its requests came from."""
        remote = _contact_address(self.uri, self.flow)
        if self.path:
            port = NameAddr.parse(self.path[0]).uri.port or self.flow.transport.default_port
            remote = Address(self.flow.remote.host, port)
        return self.flow._replace(remote=remote, connection=0)

    def contact(self, now: float) -> str:
        """Its Contact value in a 200."""
        seconds = max(0, round(self.expires_at - now))
        q = "" if self.q == 1.0 else f";q={self.q:.3g}"
        instance = f';+sip.instance="{self.instance}"' if self.instance else ""
        reg_id = f";reg-id={self.reg_id}" if self.reg_id else ""
        return f"<{self.uri}>{q};expires={seconds}{instance}{reg_id}"


@dataclass(frozen=True, slots=True)
class Registered:
    """The 200 lists all of these, and has these headers."""

    contacts: tuple[Binding, ...]
    removed: tuple[Binding, ...] = ()
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Refused:
    status: int
    reason: str
    headers: Headers = ()


class Bindings:
    """The bindings of one address of record. A REGISTER changes all that it names, or nothing."""

    def __init__(self, max_contacts: int) -> None:
        self.max_contacts = max_contacts
        self._bindings: list[Binding] = []

    def contacts(self, now: float) -> list[Binding]:
        """The live ones; best q first, among equals the newest."""
        live = [binding for binding in self._bindings if binding.expires_at > now]
        return sorted(live, key=lambda binding: (-binding.q, -binding.updated_at))

    def restore(self, binding: Binding) -> None:
        if len(self._bindings) < self.max_contacts:
            self._bindings.append(binding)

    def drop_connection(self, flow: Flow) -> None:
        """A stream connection is gone; without it a phone that is bound to it is out of reach (RFC 5626 §6), any other
        is called where its contact says."""
        reachable = [b for b in self._bindings if b.flow != flow or not b.bound_to_flow]
        self._bindings = [replace(b, flow=b.anew) if b.flow == flow else b for b in reachable]

    def mark(self, binding: Binding, reachability: Reachability) -> None:
        """What was found out about this one, if it is still the same."""
        self._bindings = [replace(b, reachability=reachability) if b is binding else b for b in self._bindings]

    def register(self, request: Request, flow: Flow, now: float, policy: BindingPolicy) -> Registered | Refused:
        """§10.3 steps 6 to 8, for a request that is authenticated and allowed to bind here."""
        path = _path(request)
        if isinstance(path, Refused):
            return path
        try:
            contacts = request.contacts
            if any(contact.is_wildcard for contact in contacts):
                return self._remove_all(request, contacts, now)
            wanted = [_wanted(contact, request, flow, path, now, policy) for contact in contacts]
        except ParseError:
            return Refused(400, "Malformed Contact")
        outcome = _unfit_for_outbound(request, wanted, path, now) or self._update(wanted, now)
        if isinstance(outcome, Registered):
            return replace(outcome, headers=(*(("Path", hop) for hop in path), *_about_flow(wanted, now)))
        return outcome

    def _remove_all(self, request: Request, contacts: list[NameAddr], now: float) -> Registered | Refused:
        if len(contacts) != 1 or _header_expiry(request) != 0:
            return Refused(400, "* Needs Expires 0 And No Other Contact")
        live = self.contacts(now)
        if any(_out_of_order(binding, request.call_id, request.cseq.number, now) for binding in live):
            return _OUT_OF_ORDER
        self._bindings = []
        return Registered((), tuple(live))

    def _update(self, wanted: list[Binding | Refused], now: float) -> Registered | Refused:
        bindings = self.contacts(now)
        removed = []
        for binding in wanted:
            if isinstance(binding, Refused):
                return binding
            old = next((known for known in bindings if _same(known, binding)), None)
            if old is not None:
                if _out_of_order(old, binding.call_id, binding.cseq, now):
                    return _OUT_OF_ORDER
                bindings.remove(old)
            if binding.expires_at > now:
                bindings = [known for known in bindings if not _replaced_by(binding, known)]
                bindings.append(_remembering(binding, old))
            elif old is not None:
                removed.append(old)
            if len(bindings) > self.max_contacts:
                return self._full()
        self._bindings = bindings
        return Registered(tuple(self.contacts(now)), tuple(removed))


    def _full(self) -> Refused:
        """403: it was understood and will not succeed when repeated (RFC 3261 §21.4.4); a 5xx would send the phone to
        the next registrar."""
        why = f"{self.max_contacts} registered already, as many as this extension may have (max_contacts)"
        return Refused(403, "Too Many Contacts", (("Warning", f'399 smartswitch "{why}"'),))


_OUT_OF_ORDER: Final = Refused(500, "CSeq Out Of Order")     # as in a dialog, RFC 3261 §12.2.2


def _out_of_order(binding: Binding, call_id: str, cseq: int, now: float) -> bool:
    """§10.3 step 7: a lower CSeq of the same Call-ID comes late and changes nothing.

    Deviation: only as long as it may have been under way. Phones that make their Call-ID of their address (pyVoIP)
    begin again with CSeq 1 after a restart, and would stay locked out until the binding expires.
    """
    return binding.call_id == call_id and cseq <= binding.cseq and now - binding.updated_at < MAX_REORDERING


def _same(known: Binding, new: Binding) -> bool:
    if new.instance and new.reg_id:                 # RFC 5626 §6: they replace the URI as the key
        return known.instance == new.instance and known.reg_id == new.reg_id
    return known.uri.equals(new.uri)


def _replaced_by(new: Binding, known: Binding) -> bool:
    """Whether `known` is what the same phone left behind before it started anew.

    Deviation: RFC 5626 §6 needs reg-id for that. Phones that give their instance alone (baresip, Linphone) show another
    port after each start, and would fill the extension up with themselves. What one REGISTER names stays together.
    """
    if known.reg_id or (known.call_id, known.cseq) == (new.call_id, new.cseq):
        return False
    if new.reg_id:                      # it has learned of outbound since: the same Contact would ring twice
        return known.uri.equals(new.uri)
    return bool(new.instance) and new.instance == known.instance


def _remembering(binding: Binding, old: Binding | None) -> Binding:
    """A refresh over the same flow tells nothing new about it."""
    if old is None or old.flow != binding.flow:
        return binding
    return replace(binding, reachability=old.reachability)


def _path(request: Request) -> tuple[str, ...] | Refused:
    """RFC 3327 §5.3: who does not know of Path must not be registered through it unawares."""
    try:
        hops = tuple(value.strip() for value in request.headers.get_all("Path"))
        if not hops:
            return ()
        if "path" not in request.supported:
            return Refused(420, "Bad Extension", (("Unsupported", "path"), *(("Path", hop) for hop in hops[:MAX_PATH])))
        uris = [NameAddr.parse(hop).uri for hop in hops]
    except ParseError:
        return Refused(400, "Malformed Path")
    if len(hops) > MAX_PATH or any(len(hop) > MAX_CONTACT_LENGTH for hop in hops):
        return Refused(400, "Path Too Long")
    if not all(uri.is_sip and uri.is_loose_router for uri in uris):
        return Refused(400, "Path Without Loose Routing")
    return hops


def _unfit_for_outbound(
    request: Request, wanted: list[Binding | Refused], path: tuple[str, ...], now: float
) -> Refused | None:
    """RFC 5626 §6: one flow a REGISTER; and the proxy that is nearest to the phone has to know of flows."""
    flows = [one for one in wanted if isinstance(one, Binding) and one.instance and one.reg_id]
    if not flows or "outbound" not in request.supported:
        return None
    if sum(one.expires_at > now for one in flows) > 1:
        return Refused(400, "One Flow At A Time")
    if len(request.headers.get_all("Via")) > 1 and not _knows_flows(path):
        return Refused(439, "First Hop Lacks Outbound Support")
    return None


def _knows_flows(path: tuple[str, ...]) -> bool:
    """Whether the proxy that is nearest to the phone said so."""
    return bool(path) and "ob" in NameAddr.parse(path[-1]).uri.params


def _about_flow(wanted: list[Binding | Refused], now: float) -> Headers:
    """RFC 5626 §6, §10: that the rules of outbound hold, and how often to show that the flow is up."""
    flow = next((one for one in wanted if isinstance(one, Binding) and one.outbound and one.expires_at > now), None)
    if flow is None:
        return ()
    return ("Require", "outbound"), *(() if flow.path else (("Flow-Timer", str(FLOW_TIMER)),))


def _wanted(
    contact: NameAddr, request: Request, flow: Flow, path: tuple[str, ...], now: float, policy: BindingPolicy
) -> Binding | Refused:
    uri = contact.uri
    if not uri.is_sip or not uri.host or len(str(uri)) > MAX_CONTACT_LENGTH:
        return Refused(400, "Contact Cannot Be Called")
    if uri.scheme == "sips" and not flow.transport.secure:
        return Refused(400, "SIPS Contact Needs TLS")           # RFC 5630 §5.1.1
    asked = _asked_expiry(contact, request, policy)
    # Deviation: the RFC lets a registrar refuse as too brief only what is under an hour; ours has its own minimum.
    if 0 < asked < policy.min_expires:
        return Refused(423, "Interval Too Brief", (("Min-Expires", str(policy.min_expires)),))
    behind_nat = not path and _is_behind_nat(uri, request, flow)
    instance, reg_id = _unquoted(contact.params.get("+sip.instance")), _unquoted(contact.params.get("reg-id"))
    binding = Binding(
        uri=uri,
        flow=flow,
        behind_nat=behind_nat,
        expires_at=now + min(asked, policy.max_expires),
        updated_at=now,
        call_id=request.call_id,
        cseq=request.cseq.number,
        q=_q(contact),
        user_agent=(request.headers.get("User-Agent") or "")[:MAX_USER_AGENT],
        instance=instance,
        reg_id=reg_id if instance else "",                      # without the one, the other means nothing (RFC 5626 §6)
        outbound=bool(instance and reg_id) and "outbound" in request.supported and _holds_flow(flow, path),
        path=path,
    )
    if behind_nat and not flow.transport.reliable:
        return replace(binding, expires_at=min(binding.expires_at, now + policy.behind_nat_expires))
    return binding


def _holds_flow(flow: Flow, path: tuple[str, ...]) -> bool:
    """By UDP a flow is kept up by STUN (RFC 5626 §4.4.2), which is not answered here: such a binding is an ordinary
    one."""
    return _knows_flows(path) if path else flow.transport.reliable


def _asked_expiry(contact: NameAddr, request: Request, policy: BindingPolicy) -> int:
    """The contact's parameter, else the header, else ours; the unreadable counts as absent (RFC 3261 §10.2.1.1)."""
    try:
        asked = contact.expires
    except ParseError:
        asked = None
    if asked is None:
        asked = _header_expiry(request)
    return policy.default_expires if asked is None else asked


def _header_expiry(request: Request) -> int | None:
    try:
        return request.expires
    except ParseError:
        return None


def _q(contact: NameAddr) -> float:
    try:
        return contact.q
    except ParseError:
        return 1.0


def _is_behind_nat(uri: Uri, request: Request, flow: Flow) -> bool:
    if uri.host.lower() != flow.remote.host.lower():
        return True
    # The address is right, but another port was opened (a phone that knows its outside address). Who asks for rport
    # listens where it sends from (RFC 3581 §3); on a stream the port of a client says nothing.
    other_port = _contact_address(uri, flow).port != flow.remote.port
    return other_port and not flow.transport.reliable and request.via.wants_rport


def _contact_address(uri: Uri, flow: Flow) -> Address:
    return Address(uri.host, uri.port or flow.transport.default_port)


def _unquoted(value: str | None) -> str:
    return (value or "").strip('"')[:MAX_USER_AGENT]
