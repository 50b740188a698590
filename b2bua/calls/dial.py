"""The INVITEs of a plan's step: to every phone of an extension, or out through a trunk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from b2bua.calls.display import display_name
from b2bua.calls.invitation import Invitation, Shown
from b2bua.calls.ring import Branch
from b2bua.cdr import ClientId
from b2bua.directory import Extension
from b2bua.net.resolver import Resolver
from b2bua.routing.dialplan import DialTrunk, RingExtensions, Step
from b2bua.sip.core import OutgoingInvite
from b2bua.sip.effects import Flow, Transport
from b2bua.sip.fields import NameAddr
from b2bua.sip.uri import Uri
from b2bua.ua.agent import UserAgent
from b2bua.ua.registrar import Registrar
from b2bua.ua.trunk import TrunkLine
from b2bua.ua.trunk_table import TrunkTable

MAX_BRANCHES = 50                          # phones rung by one step
ANONYMOUS = NameAddr(Uri.parse("sip:anonymous@anonymous.invalid"), "Anonymous")   # RFC 3323 §4.1.1.3


class StepDialler:
    """Knows the phones' bindings and the trunks' lines."""

    def __init__(self, agent: UserAgent, registrar: Registrar, trunks: TrunkTable, resolver: Resolver) -> None:
        self._agent = agent
        self._registrar = registrar
        self._trunks = trunks
        self._resolver = resolver

    def reachable(self, extension: Extension) -> bool:
        return extension.address is not None or bool(self._registrar.lookup(_key(extension), self._agent.now()))

    async def dial(self, step: Step, invitation: Invitation) -> AsyncIterator[Branch]:
        """One by one, as a name may have to be looked up between two: who is cancelled then knows whom to hang up."""
        match step:
            case RingExtensions(extensions=extensions):
                left = MAX_BRANCHES
                for extension in extensions:
                    for uri, flow in (await self._phones_of(extension))[:left]:
                        left -= 1
                        yield self._ring_phone(extension, uri, flow, invitation)
            case DialTrunk():
                for branch in self._dial_trunk(step, invitation):
                    yield branch

    async def _phones_of(self, extension: Extension) -> list[tuple[Uri, Flow]]:
        if extension.address is None:
            bindings = self._registrar.lookup(_key(extension), self._agent.now())
            return [(binding.uri, binding.reach) for binding in bindings]
        uri = Uri.parse(extension.address)
        transport = Transport(uri.transport.upper()) if uri.transport else None
        for found, remote in await self._resolver.resolve(uri.host, uri.port, transport):
            flow = self._agent.flow_to(found, remote)
            if flow is not None:
                return [(uri, flow)]
        return []

    def _ring_phone(self, extension: Extension, uri: Uri, flow: Flow, invitation: Invitation) -> Branch:
        here = flow.local.host
        outgoing = OutgoingInvite(
            request_uri=uri,
            from_=_from(invitation.shown, extension, here),
            to=NameAddr(Uri.sip(extension.number, here)),
            contact_user=invitation.call.dialled,
            body=invitation.offer,
            headers=invitation.headers,
            reliable=bool(invitation.offer),
        )
        return Branch(self._agent.dial(outgoing, flow, invitation.inbox, extension.number), extension)

    def _dial_trunk(self, step: DialTrunk, invitation: Invitation) -> Sequence[Branch]:
        trunk, call, caller = step.trunk, invitation.call, invitation.dialled_by
        line = self._trunks.line(trunk.client, trunk.name)
        flow = self._way_out(line)
        if line is None or flow is None:
            why = line.state(self._agent.now()).detail if line is not None else "it was taken out of the directory"
            call.note(f"{trunk.name} is not reachable now: {why}")
            return ()
        call.goes_through(trunk.name)
        domain = trunk.domain or trunk.host
        shown = trunk.caller_id or trunk.user or (caller.number if caller is not None else "")
        outgoing = OutgoingInvite(
            request_uri=Uri.sip(step.number, trunk.host, trunk.port),
            from_=NameAddr(Uri.sip(shown, domain)) if shown else ANONYMOUS,
            to=NameAddr(Uri.sip(step.number, domain)),
            contact_user=trunk.user or shown,
            body=invitation.offer,
            headers=invitation.headers,
            authorize=line.digest.authorize,
            reliable=bool(invitation.offer),
        )
        leg = self._agent.dial(outgoing, flow, invitation.inbox, trunk.name, line.digest, by_size=True)
        return (Branch(leg, None),)

    def _way_out(self, line: TrunkLine | None) -> Flow | None:
        for transport, remote in line.targets if line is not None else ():
            flow = self._agent.flow_to(transport, remote)
            if flow is not None:
                return flow
        return None


def _from(who: Shown, phone: Extension, here: str) -> NameAddr:
    name = display_name(who.name, ascii_only=phone.ascii_only)
    if not who.number:
        return NameAddr(ANONYMOUS.uri, name) if name else ANONYMOUS
    return NameAddr(Uri.sip(who.number, here), name)


def _key(extension: Extension) -> tuple[ClientId, str]:
    return (extension.client, extension.number)
