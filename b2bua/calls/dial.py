"""The INVITEs of a plan's step: to every phone of an extension, or out through a trunk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from b2bua.calls.display import display_name
from b2bua.calls.diversion import diverted_headers
from b2bua.calls.identity import ANONYMOUS, shown_to
from b2bua.calls.invitation import Invitation, Shown
from b2bua.calls.redirection import Place, first_place
from b2bua.calls.round import Branch
from b2bua.cdr import ClientId
from b2bua.directory import Extension, Trunk
from b2bua.net.resolver import Resolver
from b2bua.routing.plan import DialTrunk, RingExtensions
from b2bua.sip.core import OutgoingInvite
from b2bua.sip.effects import Flow, TlsPeer, Transport
from b2bua.sip.fields import NameAddr
from b2bua.sip.uri import Uri
from b2bua.ua.agent import UserAgent
from b2bua.ua.registrar import Registrar
from b2bua.ua.trunk_table import TrunkTable

MAX_BRANCHES = 50                          # phones rung by one step


@dataclass(frozen=True, slots=True)
class _Phone:
    uri: Uri
    flow: Flow
    path: tuple[str, ...] = ()             # Route fields, RFC 3327


class StepDialler:
    """Knows the phones' bindings and the trunks' lines."""

    def __init__(self, agent: UserAgent, registrar: Registrar, trunks: TrunkTable, resolver: Resolver) -> None:
        self._agent = agent
        self._registrar = registrar
        self._trunks = trunks
        self._resolver = resolver

    def reachable(self, extension: Extension) -> bool:
        return extension.address is not None or bool(self._registrar.lookup(_key(extension), self._agent.now()))

    async def phones(self, step: RingExtensions, invitation: Invitation) -> AsyncIterator[Branch]:
        """One by one, as a name may have to be looked up between two: who is cancelled then knows whom to hang up."""
        left = MAX_BRANCHES
        for extension in step.extensions:
            for phone in (await self._phones_of(extension))[:left]:
                left -= 1
                yield self._ring_phone(extension, phone, invitation)

    async def _phones_of(self, extension: Extension) -> list[_Phone]:
        if extension.address is None:
            bindings = self._registrar.to_ring(_key(extension), self._agent.now())
            return [_Phone(binding.uri, binding.reach, binding.path) for binding in bindings]
        uri = Uri.parse(extension.address)
        secure = uri.scheme == "sips"
        transport = Transport(uri.transport) if uri.transport and not secure else None
        for found, remote in await self._resolver.resolve(uri.host, uri.port, transport, secure=secure):
            flow = self._agent.flow_to(found, remote, TlsPeer((uri.host,)))
            if flow is not None:
                return [_Phone(uri, flow)]
        return []

    def _ring_phone(self, extension: Extension, phone: _Phone, invitation: Invitation) -> Branch:
        here = phone.flow.local.host
        outgoing = OutgoingInvite(
            request_uri=phone.uri,
            from_=_from(invitation.shown, extension, here),
            to=NameAddr(Uri.sip(extension.number, here)),
            contact_user=invitation.call.dialled,
            body=invitation.offer,
            headers=invitation.headers,
            routes=phone.path,
            reliable=bool(invitation.offer),
        )
        leg = self._agent.dial(outgoing, phone.flow, invitation.inbox, extension.number)
        leg.tell = invitation.call.note
        return Branch(leg, extension)

    # -- trunks

    def ways_out(self, trunk: Trunk) -> list[Flow]:
        """To the trunk's servers, the best first; none when it is not known where they are."""
        line = self._trunks.line(trunk.client, trunk.name)
        return line.ways_out() if line is not None else []

    def problem_of(self, trunk: Trunk) -> str:
        line = self._trunks.line(trunk.client, trunk.name)
        return line.state(self._agent.now()).detail if line is not None else "it was taken out of the directory"

    def failed(self, trunk: Trunk, flow: Flow) -> None:
        """A server of the trunk gave no answer, or a 503."""
        line = self._trunks.line(trunk.client, trunk.name)
        if line is not None:
            line.failed((flow.transport, flow.remote))

    def doubt(self, trunk: Trunk) -> None:
        """None of the trunk's servers took a call."""
        line = self._trunks.line(trunk.client, trunk.name)
        if line is not None:
            line.doubt()

    def way_to(self, trunk: Trunk, place: Place, came_by: Flow) -> Flow | None:
        """To where the trunk has sent a call; a Service-Route leads everywhere."""
        line = self._trunks.line(trunk.client, trunk.name)
        if line is None or line.routes or place.at is None:
            return came_by
        return self._agent.flow_to(came_by.transport, place.at, line.peer)

    async def trunk(
        self, step: DialTrunk, flow: Flow, invitation: Invitation, redirected: Uri | None = None
    ) -> AsyncIterator[Branch]:
        """The one INVITE of an outgoing call to that server; `redirected` is where the trunk has sent it on to."""
        trunk, call = step.trunk, invitation.call
        line = self._trunks.line(trunk.client, trunk.name)
        if line is None:                   # taken out of the directory in this very moment
            return
        call.goes_through(trunk.name)
        domain = trunk.domain or trunk.host
        shown = shown_to(trunk, step.caller_id, hidden=invitation.withheld)
        if redirected is None:
            call.note(f"shows {shown.from_.uri.user}" + (", number withheld" if invitation.withheld else ""))
        offer = invitation.offer or invitation.outside_offer
        outgoing = OutgoingInvite(
            request_uri=redirected or first_place(step).uri,
            from_=shown.from_,
            to=NameAddr(Uri.sip(step.number, domain)),
            contact_user=shown.contact_user,
            body=offer,
            headers=(*shown.headers, *diverted_headers(step, call.history.times), *invitation.headers),
            routes=line.routes,
            authorize=line.digest.authorize,
            reliable=bool(offer),
        )
        leg = self._agent.dial(outgoing, flow, invitation.inbox, trunk.name, line.digest, by_size=True)
        leg.tell = call.note
        yield Branch(leg, None)


def _from(who: Shown, phone: Extension, here: str) -> NameAddr:
    name = display_name(who.name, ascii_only=phone.ascii_only)
    if not who.number:
        return NameAddr(ANONYMOUS.uri, name) if name else ANONYMOUS
    return NameAddr(Uri.sip(who.number, here), name)


def _key(extension: Extension) -> tuple[ClientId, str]:
    return (extension.client, extension.number)
