"""The door: who may come in, and what whoever may not is told. Nothing is kept of a stranger but what bounds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2bua.calls.call import Clock
from b2bua.control import TurnedAway
from b2bua.directory import Extension
from b2bua.sip.admission import Admission, Answer, Refuse, Verdict
from b2bua.sip.effects import Flow, IncomingRequest
from b2bua.sip.invite_session import InviteSession
from b2bua.sip.message import Request
from b2bua.sip.throttle import Silence
from b2bua.ua.agent import UserAgent
from b2bua.ua.notifier import ALLOW_EVENTS, wants_dialogs
from b2bua.ua.registrar import Challenge, Registrar, Reply
from b2bua.ua.strangers import StrangersLog, UnknownCalls
from b2bua.ua.trunk_table import TrunkTable

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard

RETRY_AFTER = 30                           # seconds, told to callers while we drain
IDLE = ("Retry-After", str(RETRY_AFTER))


class Door:
    """The transaction user of the agent: calls that may come in are the switchboard's from then on."""

    def __init__(
        self,
        pbx: Switchboard,
        agent: UserAgent,
        registrar: Registrar,
        trunks: TrunkTable,
        clock: Clock,
        unknown_calls: UnknownCalls,
    ) -> None:
        self.strangers = StrangersLog()
        self._pbx = pbx
        self._agent = agent
        self._registrar = registrar
        self._trunks = trunks
        self._clock = clock
        self._unknown_calls = unknown_calls

    def admit(self, request: Request, flow: Flow) -> Verdict:
        """Asked before any state exists. Who wants to call or register is challenged, statelessly, until it shows
        that it got the challenge; scanners, and whoever guessed too often, get silence. What else comes from addresses
        that we know is answered statelessly as well: those can be forged."""
        now = self._agent.now()
        from_trunk = self._trunks.expects(request, flow)
        if request.method == "REGISTER" or (request.method == "INVITE" and not from_trunk):
            return self._screen(request, flow, now)
        known = from_trunk or self._registrar.knows(flow.remote.host, now)
        if request.method == "SUBSCRIBE" and (wants_dialogs(request) or known):
            if not wants_dialogs(request):
                self._pbx.notifier.subscriptions.refuse(489, "no such event")
                return Refuse(489, (ALLOW_EVENTS,))
            return self._screen(request, flow, now)
        if known:
            return Admission.ADMIT if request.method == "INVITE" else self._answer_to(request)
        self._registrar.suspect(request, flow, now)
        self._registrar.unwanted(flow.remote.host, now)
        return Admission.IGNORE

    def _answer_to(self, request: Request) -> Answer:
        """OPTIONS is answered, CANCEL, NOTIFY and INFO belong to something that is not there, and the rest means
        nothing to us but in a call."""
        core = self._agent.core
        match request.method:
            case "OPTIONS":
                return Answer(200, extras=(*core.capabilities, ALLOW_EVENTS))
            case "CANCEL":                  # one is never told that it asks too much (RFC 3261 §8.2.2.3)
                return Refuse(481)
            case "NOTIFY" | "INFO":
                return Answer(481)
            case method:
                return Answer(405, (("Allow", ", ".join(one for one in core.config.allow if one != method)),))

    def _screen(self, request: Request, flow: Flow, now: float) -> Verdict:
        host, method = flow.remote.host, request.method
        # A whole office of phones asks for its lamps at once; that must not look like guessing.
        expected = (method == "REGISTER" and self._trunks.knows(host)) or (
            method == "SUBSCRIBE" and self._registrar.knows(host, now))
        match self._registrar.screen(request, flow, now, from_trunk=expected):
            case Challenge(status=status, headers=headers):
                challenge = Refuse(status, headers)
                if request.method != "INVITE":
                    return challenge
                if not self._registrar.knows(flow.remote.host, now):
                    return self._stranger(request, flow, challenge, now)
                self._pbx.counters.refused["unauthenticated"] += 1
                return challenge
            case Silence():
                self._pbx.counters.refused["silenced"] += 1
                return Admission.IGNORE
            case None:
                return Admission.ADMIT

    def _stranger(self, invite: Request, flow: Flow, challenge: Refuse, now: float) -> Verdict:
        """A call from an address of no trunk and no registered phone (sip.unknown_calls)."""
        policy = self._unknown_calls
        self._explain(invite, flow, policy.value, now)
        if policy is UnknownCalls.CHALLENGE:
            self._pbx.counters.refused["unauthenticated"] += 1
            return challenge
        self._pbx.counters.refused["unknown_source"] += 1
        return Refuse(403) if policy is UnknownCalls.REFUSE else Admission.IGNORE

    def _explain(self, invite: Request, flow: Flow, done: str, now: float) -> None:
        source = flow.remote.host
        if self.strangers.wants(source, now):
            why = self._trunks.why_not(invite, flow)
            self.strangers.tell(TurnedAway(self._clock(), source, invite.uri.user, why, done))

    def incoming_call(self, session: InviteSession) -> None:
        pbx = self._pbx
        if pbx.draining:
            pbx.counters.refused["draining"] += 1
        trunk = None if pbx.hanging_up else self._trunks.match(session.invite, session.flow)
        if trunk is not None:
            pbx.from_trunk(session, trunk)         # draining: into the books, as somebody has called the office
            return
        if pbx.draining:
            self._agent.perform(session.reject(503, self._agent.now(), headers=(IDLE,)))
            return
        now = self._agent.now()
        match self._registrar.authenticate(session.invite, session.flow, now):
            case Extension() as extension if "Replaces" in session.invite.headers:
                self._pbx.takeovers.replace(session, extension)
            case Extension() as extension:
                self._pbx.from_phone(session, extension)
            case Challenge(status=status, headers=headers, delay=delay):
                if self._trunks.knows(session.flow.remote.host):
                    self._explain(session.invite, session.flow, "challenge", now)
                self._pbx.counters.refused["unauthenticated"] += 1
                self._agent.later(delay, lambda: session.reject(status, self._agent.now(), headers=headers))
            case Silence():
                self._pbx.counters.refused["silenced"] += 1
                self._agent.later(0, lambda: session.reject(403, self._agent.now()))

    def incoming_request(self, event: IncomingRequest) -> None:
        match event.request.method:
            case "REGISTER":
                self._register(event)
            case "SUBSCRIBE":
                self._subscribe(event)
            case other:
                raise AssertionError(f"{other} is answered at the door")

    def _register(self, event: IncomingRequest) -> None:
        core, transaction = self._agent.core, event.transaction
        match self._registrar.register(event.request, event.flow, self._agent.now(), core.new_tag()):
            case Reply(response=response, delay=delay):
                self._agent.later(delay, lambda: core.respond(transaction, response, self._agent.now()))
            case Silence():
                self._pbx.counters.refused["silenced"] += 1
                core.abandon(transaction)

    def _subscribe(self, event: IncomingRequest) -> None:
        request, now, core = event.request, self._agent.now(), self._agent.core
        if self._pbx.draining:
            response = request.response(503, to_tag=core.new_tag(), headers=(IDLE,))
            self._agent.perform(core.respond(event.transaction, response, now))
            return
        match self._registrar.authenticate(request, event.flow, now):
            case Extension() as extension:
                self._pbx.notifier.subscribe(event, extension, self._pbx.directory)
            case Challenge(status=status, headers=headers, delay=delay):
                response = request.response(status, to_tag=core.new_tag(), headers=headers)
                self._agent.later(delay, lambda: core.respond(event.transaction, response, self._agent.now()))
            case Silence():
                self._pbx.counters.refused["silenced"] += 1
                core.abandon(event.transaction)

    def unreadable(self, flow: Flow) -> None:
        if not self._trunks.knows(flow.remote.host):
            self._registrar.unwanted(flow.remote.host, self._agent.now())

    def flow_failed(self, flow: Flow) -> None:
        self._registrar.flow_gone(flow)
        self._pbx.notifier.flow_gone(flow)
