"""The asyncio face of the core: one UserAgentCore, its transports, and one timer handle for the whole stack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from b2bua.net.transport import MessageTransport
from b2bua.sip.auth import DigestClient
from b2bua.sip.client_transactions import ClientTransaction
from b2bua.sip.core import OutgoingInvite, UserAgentCore
from b2bua.sip.dialog import Dialog
from b2bua.sip.effects import (
    Address,
    Effect,
    Ended,
    Flow,
    IncomingInvite,
    IncomingRequest,
    Rejected,
    RequestAnswered,
    TlsPeer,
    Transmit,
    Transport,
)
from b2bua.sip.fields import NameAddr
from b2bua.sip.grammar import ParseError
from b2bua.sip.invite_session import InviteSession
from b2bua.sip.message import Request, Response
from b2bua.sip.parser import parse
from b2bua.sip.uri import Uri
from b2bua.ua.ladders import Ladder, Ladders
from b2bua.ua.leg import HeaderFields, Inbox, IncomingLeg, Leg, OutgoingLeg

log = structlog.get_logger(__name__)

LARGE = 1300                               # bytes; a larger request wants TCP (RFC 3261 §18.1.1)
HEADERS_OF_A_REQUEST = 700                 # bytes, about, before its body


class TransactionUser(Protocol):
    """The TU of RFC 3261 §5: whoever decides what to do with what comes in."""

    def incoming_call(self, session: InviteSession) -> None: ...

    def incoming_request(self, event: IncomingRequest) -> None: ...

    def flow_failed(self, flow: Flow) -> None: ...

    def unreadable(self, flow: Flow) -> None:
        """What came from there is no message."""


@dataclass(slots=True)
class AgentCounters:
    """What came in and could not be used."""

    malformed: int = 0
    answered_400: int = 0
    unsendable: int = 0
    faults: int = 0                        # of ours: each is a bug, and logged with the message that showed it


class UserAgent:
    """Bytes in, effects out, and legs for the people who write calls."""

    def __init__(self, core: UserAgentCore, *, traced: bool = False, ladders: Ladders | None = None) -> None:
        self.core = core
        self.ladders = ladders             # None: what is said in calls is not noted
        self._traced = traced              # every message in the log
        self.counters = AgentCounters()
        self.transports: dict[Transport, MessageTransport] = {}
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._user: TransactionUser | None = None
        self._legs: dict[InviteSession, Leg] = {}
        self._answers: dict[ClientTransaction, asyncio.Future[Response]] = {}
        self.on_gone: Callable[[InviteSession], None] = _nothing       # a leg's session is over
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0

    def serve(self, user: TransactionUser, transports: Sequence[MessageTransport]) -> None:
        """From now on `user` gets what comes in by these transports."""
        self._user = user
        self.transports = {transport.kind: transport for transport in transports}

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- from the network (b2bua.net.transport.TransportSink)

    def on_message(self, data: bytes, flow: Flow) -> None:
        if self._traced:
            _trace("in", data, flow)
        try:
            message = parse(data)
        except ParseError as error:
            self._malformed(error, flow)
            return
        now = self.now()
        try:
            if self.ladders is not None:
                self.ladders.received(message, flow, now)
            self.perform(self.core.receive(message, flow, now))
        except Exception:                  # the boundary of a message: no stranger's bytes may stop us
            self.counters.faults += 1
            log.exception("message broke us", source=flow.remote.host, message=data[:2000])

    def on_failure(self, flow: Flow) -> None:
        self.perform(self.core.transport_failed(flow, self.now()))
        if self._user is not None:
            self._user.flow_failed(flow)

    def _malformed(self, error: ParseError, flow: Flow) -> None:
        self.counters.malformed += 1
        if self._user is not None:
            self._user.unreadable(flow)
        effects = self.core.receive_malformed(error, flow)
        self.counters.answered_400 += len(effects)
        self.perform(effects)

    # -- to the network

    def perform(self, effects: Sequence[Effect]) -> None:
        """Carry out what the core asked for, in order, and see to the timer."""
        try:
            for effect in effects:
                if type(effect) is Transmit:
                    self._transmit(effect.message, effect.flow)
                else:
                    self._report(effect)
        finally:
            self._arm()                    # a fault of one effect must not stop the timers of all others

    def _transmit(self, message: Request | Response, flow: Flow) -> None:
        transport = self.transports.get(flow.transport)
        if transport is None:
            self.counters.unsendable += 1
            return
        data = bytes(message)
        if self._traced:
            _trace("out", data, flow)
        if self.ladders is not None:
            self.ladders.sent(message, data, flow, self.now())
        transport.send(data, flow)

    def _report(self, effect: Effect) -> None:
        match effect:
            case IncomingInvite(session=session):
                if self._user is not None:
                    self._admit_call(self._user, session)
            case IncomingRequest():
                if self._user is not None:
                    self._user.incoming_request(effect)
            case RequestAnswered(transaction=transaction, response=response):
                answer = self._answers.pop(transaction, None)
                if answer is not None and not answer.done():
                    answer.set_result(response)
            case Transmit():
                self._transmit(effect.message, effect.flow)
            case _:
                self._to_leg(effect.session, effect)

    def _admit_call(self, user: TransactionUser, session: InviteSession) -> None:
        try:
            user.incoming_call(session)
        except Exception:                  # the boundary of a call that never began: its session must not stay for ever
            self.counters.faults += 1
            log.exception("call broke us", source=session.flow.remote.host, message=bytes(session.invite)[:2000])
            self.let_go(session)
            self.perform(session.hang_up(self.now(), status=500))

    def _to_leg(self, session: InviteSession, effect: Effect) -> None:
        leg = self._legs.get(session)
        if leg is None:
            return
        if isinstance(effect, Ended | Rejected):
            del self._legs[session]
            self.on_gone(session)
        leg.notify(effect)

    def _arm(self) -> None:
        """One timer for the whole stack; a deadline that moved later is found out when the timer fires."""
        due = self.core.next_timeout
        if due is None:
            return
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(due, self._timeout), due

    def _timeout(self) -> None:
        self._timer = None
        try:
            self.perform(self.core.handle_timeout(self.now()))
        except Exception:                  # the boundary of a timer: the others go on
            self.counters.faults += 1
            log.exception("a timer broke us")
            self._arm()

    # -- for the transaction user

    def accept(
        self, session: InviteSession, name: str, inbox: Inbox | None = None, *, by_trunk: bool = False
    ) -> IncomingLeg:
        """Make the call that came in a leg: of a call of its own, or of the one whose inbox this is."""
        leg = IncomingLeg(self, session, inbox or self.new_inbox(), name)
        leg.is_trunk = by_trunk
        self._legs[session] = leg
        self._follow(leg, session.invite)
        return leg

    def new_inbox(self) -> Inbox:
        """Of a call that begins."""
        return Inbox(Ladder() if self.ladders is not None else None)

    def _follow(self, leg: Leg, invite: Request | None = None) -> None:
        """What has its Call-ID is noted on the ladder of its call."""
        if self.ladders is not None and leg.inbox.ladder is not None:
            who = f"{'trunk' if leg.is_trunk else 'phone'} {leg.name}"
            self.ladders.follow(leg.session.call_id, leg.inbox.ladder, who, invite)

    def forget(self, ladder: Ladder) -> None:
        """Nobody will tell what was said in that call."""
        if self.ladders is not None:
            self.ladders.over(ladder)

    def leg_of(self, session: InviteSession) -> Leg | None:
        """None: it has ended."""
        return self._legs.get(session)

    def move(self, leg: Leg) -> None:
        """What happens in its session happens on this leg from now on."""
        self._legs[leg.session] = leg
        self._follow(leg)

    def let_go(self, session: InviteSession) -> None:
        """We ended it: the core reports nothing more of it (see invite_session)."""
        if self._legs.pop(session, None) is not None:
            self.on_gone(session)

    @property
    def leg_count(self) -> int:
        return len(self._legs)

    def flow_to(self, transport: Transport, remote: Address, peer: TlsPeer | None = None) -> Flow | None:
        """How to get there; None when we do not speak that transport. By TLS, `peer` says who has to be there."""
        speaker = self.transports.get(transport)
        return None if speaker is None else speaker.flow_for(remote, peer if transport.secure else None)

    def trouble(self, peer: TlsPeer) -> str:
        """Why no TLS connection leads there; empty when nothing is known against it."""
        speaker = self.transports.get(Transport.TLS)
        return "" if speaker is None else speaker.trouble(peer)

    def dial(
        self,
        outgoing: OutgoingInvite,
        flow: Flow,
        inbox: Inbox,
        name: str,
        credentials: DigestClient | None = None,
        *,
        by_size: bool = False,
    ) -> OutgoingLeg:
        """Call somebody; what happens comes into `inbox`, and a challenge is answered with `credentials`.

        `by_size`: a large request goes by TCP, and by UDP when the other side has none (RFC 3261 §18.1.1).
        For trunks alone: phones are reached by the flow that they registered on.
        """
        stream = self._stream_for_large(outgoing, flow) if by_size else None
        session, effects = self.core.invite(outgoing, stream or flow, self.now())
        leg = OutgoingLeg(self, session, inbox, name, credentials)
        leg.is_trunk = by_size
        if stream is not None:
            leg.otherwise = (outgoing, flow)
        self._legs[session] = leg
        self._follow(leg)
        self.perform(effects)
        return leg

    def dial_again(self, leg: OutgoingLeg, outgoing: OutgoingInvite, flow: Flow) -> None:
        """The same call by another flow; the leg goes on in a new session."""
        leg.session, effects = self.core.invite(outgoing, flow, self.now())
        self._legs[leg.session] = leg
        self._follow(leg)
        self.perform(effects)

    def _stream_for_large(self, outgoing: OutgoingInvite, flow: Flow) -> Flow | None:
        if flow.transport is Transport.UDP and len(outgoing.body) + HEADERS_OF_A_REQUEST > LARGE:
            return self.flow_to(Transport.TCP, flow.remote)
        return None

    def retry(self, leg: OutgoingLeg, headers: HeaderFields, offer: bytes = b"") -> None:
        """The same INVITE again with credentials (RFC 3261 §22.2) or another offer: the leg and its session go on."""
        session, effects = self.core.retry(leg.session, headers, self.now(), offer=offer)
        self._legs[session] = leg
        self.perform(effects)

    def notify(
        self,
        dialog: Dialog,
        headers: HeaderFields,
        body: bytes,
        content_type: str,
        answered: Callable[[Response], None],
    ) -> None:
        """A NOTIFY in a subscription's dialog; `answered` gets its final response, a 408 or 503 of our own too."""
        transaction, effects = self.core.notify(dialog, headers, body, content_type, self.now())
        answer: asyncio.Future[Response] = self._loop.create_future()
        answer.add_done_callback(lambda done: answered(done.result()))
        self._answers[transaction] = answer
        self.perform(effects)

    def later(self, delay: float, effects: Callable[[], Sequence[Effect]]) -> None:
        """Make and perform these effects after so many seconds: at once for 0."""
        if delay <= 0:
            self.perform(effects())
        else:
            self._loop.call_later(delay, lambda: self.perform(effects()))

    async def request(
        self,
        method: str,
        uri: Uri,
        *,
        from_: NameAddr,
        to: NameAddr,
        destination: Sequence[tuple[Transport, Address]],
        headers: HeaderFields = (),
        body: bytes = b"",
        call_id: str | None = None,
        cseq: int | None = None,
        peer: TlsPeer | None = None,
    ) -> Response:
        """A request outside any dialog, tried at each destination in turn while none answers (RFC 3263 §4.3)."""
        response: Response | None = None
        for transport, remote in destination:
            flow = self.flow_to(transport, remote, peer)
            if flow is None:
                continue
            response = await self.ask(
                flow, method, uri, from_=from_, to=to, headers=headers, body=body, call_id=call_id, cseq=cseq
            )
            if response.status not in (408, 503):
                break
        if response is None:
            raise NoDestination(f"no transport leads to {uri}")
        return response


    async def ask(
        self,
        flow: Flow,
        method: str,
        uri: Uri,
        *,
        from_: NameAddr,
        to: NameAddr,
        headers: HeaderFields = (),
        body: bytes = b"",
        call_id: str | None = None,
        cseq: int | None = None,
    ) -> Response:
        """A request outside any dialog by this flow: its final response, a 408 or 503 of our own when none came."""
        transaction, effects = self.core.request(
            method, uri, from_, to, flow, self.now(), headers=headers, body=body, call_id=call_id, cseq=cseq
        )
        answer: asyncio.Future[Response] = self._loop.create_future()
        self._answers[transaction] = answer
        try:
            self.perform(effects)
            return await answer
        finally:
            self._answers.pop(transaction, None)


def _nothing(_: InviteSession) -> None:
    """Nobody wants to know."""


class NoDestination(Exception):
    """Nothing that we speak leads there."""


def _trace(way: str, data: bytes, flow: Flow) -> None:
    peer = f"{flow.transport.value} {flow.remote.host}:{flow.remote.port}"
    log.info("SIP", way=way, peer=peer, message=data)      # credentials are masked by the log
