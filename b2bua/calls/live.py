"""What the live page sees of the calls, and what it does to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from b2bua.calls.bridge import SentOn
from b2bua.calls.clicks import what_to_dial
from b2bua.cdr import CallId, ClientId, Direction
from b2bua.control import Device, ExtensionState, Glance, LiveCall, Presence, Transfer, TransferOutcome
from b2bua.directory import Extension
from b2bua.routing.plan import Announce, DialTrunk, NoRoute
from b2bua.sip.bindings import Reachability
from b2bua.ua.agent import UserAgent
from b2bua.ua.leg import HungUp, Inbox
from b2bua.ua.registrar import Registrar
from b2bua.ua.trunk_table import TrunkTable

if TYPE_CHECKING:
    from b2bua.calls.bridge import End, Talk
    from b2bua.calls.switchboard import Live, Switchboard


class LivePage:
    """The part of control.Control that is about calls in progress."""

    def __init__(self, pbx: Switchboard, agent: UserAgent, registrar: Registrar, trunks: TrunkTable) -> None:
        self._pbx = pbx
        self._agent = agent
        self._registrar = registrar
        self._trunks = trunks

    def calls(self, lives: Iterable[Live]) -> Iterator[LiveCall]:
        rings: defaultdict[Inbox, list[str]] = defaultdict(list)
        for line in self._pbx.board.all_ringing():
            leg, number = self._agent.leg_of(line.session), line.key[1]
            if leg is not None and number not in rings[leg.inbox]:
                rings[leg.inbox].append(number)
        for live in lives:
            call, talk = live.call.live(), self._pbx.talk_in(live.inbox)
            if live.inbox in rings:
                call = replace(call, rings=tuple(rings[live.inbox]))
            if talk is not None:
                call = replace(call, on_hold=talk.media.on_hold, quality=talk.media.quality)
            yield call

    def glance(self, client: ClientId | None, most: int) -> Glance:
        pbx = self._pbx
        pbx.media.look()
        lives = [live for live in pbx.live() if client is None or live.call.client == client]
        extensions = pbx.directory.extensions if client is None else pbx.directory.extensions_of.get(client, ())
        lines = [line for line in self._trunks.lines if client is None or line.trunk.client == client]
        lines.sort(key=lambda line: line.up)
        now = self._agent.now()
        return Glance(
            tuple(self.calls(lives[:most])),
            tuple(self._state_of(one, now) for one in self._shown(extensions, client, most)),
            tuple(line.state(now) for line in lines[:most]),
            len(lives), len(extensions), len(lines),
        )

    def _shown(self, extensions: Sequence[Extension], client: ClientId | None, most: int) -> Iterable[Extension]:
        """All, as they stand; when there are too many, those first that are in a call."""
        if len(extensions) <= most:
            return extensions
        keys = {key: None for key in self._pbx.board.extensions if client is None or key[0] == client}
        known = self._pbx.directory.extension
        busy = (known[key] for key in keys if key in known)
        return islice(chain(busy, (one for one in extensions if (one.client, one.number) not in keys)), most)

    def _state_of(self, extension: Extension, now: float) -> ExtensionState:
        key = extension.client, extension.number
        bindings = self._registrar.lookup(key, now)
        if self._pbx.board.is_engaged(key):
            presence = Presence.TALKING
        elif self._pbx.board.lines(key):
            presence = Presence.RINGING
        elif not bindings and extension.address is None:
            presence = Presence.UNREGISTERED
        elif bindings and all(one.reachability is Reachability.UNREACHABLE for one in bindings):
            presence = Presence.UNREACHABLE
        else:
            presence = Presence.FREE
        devices = tuple(Device(str(one.uri), one.user_agent, one.reachability.value) for one in bindings)
        return ExtensionState(extension.client, extension.number, extension.name, presence, devices)

    # -- what it does

    def hang_up(self, client: ClientId, call: CallId, by: str) -> bool:
        live = self._pbx.live_of(client, call)
        if live is None:
            return False
        where = f"on the live page by {by}" if by else "in the CRM's page"
        live.inbox.fail(HungUp(603 if live.call.direction is Direction.INBOUND else 487, where))
        return True

    def transfer(self, client: ClientId, call: CallId, target: str, by: str) -> TransferOutcome:
        live = self._pbx.live_of(client, call)
        if live is None:
            return TransferOutcome(Transfer.NO_CALL)
        talk = self._pbx.talk_in(live.inbox)
        if talk is None:
            return TransferOutcome(Transfer.NOT_TALKING)
        if talk.changing:
            return TransferOutcome(Transfer.UNDER_WAY)
        end = _employee(talk)
        if end is None or end.extension is None:
            return TransferOutcome(Transfer.NO_EMPLOYEE)
        directory = self._pbx.directory
        transferor = directory.extension.get((client, end.extension.number))
        if transferor is None:
            return TransferOutcome(Transfer.NO_TARGET, f"{end.extension.number} was taken out of the directory")
        try:
            dialled = what_to_dial(directory, client, target)
        except ValueError as error:
            return TransferOutcome(Transfer.NO_TARGET, str(error))
        if (why := self._why_not(talk, transferor, dialled)) is not None:
            return TransferOutcome(Transfer.NO_TARGET, why)
        talk.changing = True               # the call's task comes to it in a moment: until then nobody else may
        talk.inbox.put(end.leg, SentOn(talk, end, dialled, by))
        return TransferOutcome(Transfer.ACCEPTED if talk.changing else Transfer.UNDER_WAY)     # it takes no more now

    def _why_not(self, talk: Talk, transferor: Extension, dialled: str) -> str | None:
        """What can be said before anybody's phone rings."""
        if any(end.extension is not None and end.extension.number == dialled for end in (talk.caller, talk.callee)):
            return f"{dialled} is in this call already"
        plan = self._pbx.plan_for(transferor, dialled, rehearsal=True)
        if isinstance(plan, NoRoute):
            return plan.why
        match plan.steps[0]:
            case DialTrunk() as step:
                return self._pbx.tolls.why_not(self._pbx.directory.client[transferor.client], step)
            case Announce(sound=sound):
                return f"nobody is transferred to an announcement ({sound})"
            case _:
                return None


def _employee(talk: Talk) -> End | None:
    """Whose phone would transfer: of two colleagues, whose who was called, as somebody at a reception does."""
    return next((end for end in (talk.callee, talk.caller) if end.extension is not None), None)
