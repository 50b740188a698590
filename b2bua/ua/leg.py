"""A leg: our end of one dialog (RFC 7092 §3), with its events in the inbox of the call that it belongs to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from b2bua.sdp.negotiation import NotAcceptable, encodings, less, narrowed
from b2bua.sdp.session import SdpError
from b2bua.sip.auth import DigestClient, Unanswerable
from b2bua.sip.core import OutgoingInvite
from b2bua.sip.effects import (
    DialogRequest,
    Effect,
    EndCause,
    Ended,
    Flow,
    OfferReceived,
    Party,
    Provisional,
    Rejected,
)
from b2bua.sip.fields import Reason
from b2bua.sip.grammar import ParseError, bracketed
from b2bua.sip.invite_session import InviteSession
from b2bua.sip.message import Message, Request, Response
from b2bua.sip.offer_answer import sdp_of, takes_sdp
from b2bua.sip.reasons import fields, in_words, reasons_of, shown, stated

if TYPE_CHECKING:
    from b2bua.ua.agent import UserAgent
    from b2bua.ua.ladders import Ladder

INCOMPATIBLE = (488, 606)
OFFER_REFUSED = (415, *INCOMPATIBLE)       # final responses that are about an INVITE's session description
MAX_WAITING_EVENTS = 64                    # of one call; what comes beyond is dropped and counted

HeaderFields = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class LegEnd:
    """How a leg ended; `reason` is the peer's own word for it, or empty, and `reasons` what of it can be passed on
    (Reason, RFC 3326)."""

    by: Party
    cause: EndCause
    reason: str = ""
    reasons: tuple[Reason, ...] = ()

    @staticmethod
    def by_message(by: Party, cause: EndCause, message: Message | None) -> LegEnd:
        if message is None:
            return LegEnd(by, cause)
        reasons = reasons_of(message)
        said = in_words(reasons) or stated(message)
        if not said and isinstance(message, Response):
            said = shown(f"{message.status} {message.reason}")
        return LegEnd(by, cause, said, reasons)

    @property
    def headers(self) -> HeaderFields:
        """By which others are told why they are hung up."""
        return fields(self.reasons)


class LegEnded(Exception):
    """A leg ended while a block of `while_up` needed it."""

    def __init__(self, leg: Leg, end: LegEnd) -> None:
        super().__init__(f"{end.cause.value} by {end.by.value}")
        self.leg = leg
        self.end = end


class HungUp(Exception):
    """Somebody who has no leg in the call ends it; a caller who still waits gets `status`."""

    def __init__(self, status: int, where: str) -> None:
        super().__init__(f"hung up {where} ({status})")
        self.status = status
        self.where = where                 # "in the CRM's page"


class Wish:
    """What a call is asked for by others than the sessions of its legs: see calls.transfer."""

    __slots__ = ()

    def too_late(self) -> None:
        """The call was over before it came to it."""


class Inbox:
    """What happens on the legs of one call, in order, for the one task that runs the call."""

    __slots__ = ("_events", "_failure", "_waiter", "dropped", "ladder")

    def __init__(self, ladder: Ladder | None = None) -> None:
        self.ladder = ladder               # what is said on them; None: nobody notes it
        self._events: deque[tuple[Leg, Effect | Wish]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self.dropped = 0

    def put(self, leg: Leg, event: Effect | Wish) -> None:
        """The end of a leg always has a place: there is one each."""
        if len(self._events) >= MAX_WAITING_EVENTS and not isinstance(event, Ended):
            self.dropped += 1
            if isinstance(event, Wish):
                event.too_late()
            return
        self._events.append((leg, event))
        self._wake()

    def fail(self, failure: Exception) -> None:
        """Whoever waits here, or comes to wait, gets this raised."""
        self._failure = failure
        self._wake()

    def check(self) -> None:
        """Raises what `fail` has left here, for a call that is about to do what cannot be undone."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """The call is over: nobody reads what is left."""
        self._failure = None               # its traceback holds the call, which holds us
        left, self._events = self._events, deque()
        for _, event in left:
            if isinstance(event, Wish):
                event.too_late()

    def hand_over(self, leg: Leg, moved: Leg) -> None:
        """What waits here of this leg waits with the call that it has moved to."""
        mine = [entry for entry in self._events if entry[0] is not leg]
        for _, event in [entry for entry in self._events if entry[0] is leg]:
            moved.inbox.put(moved, event)
        self._events = deque(mine)

    async def get(self) -> tuple[Leg, Effect | Wish]:
        """The next event; only one task waits here."""
        while not self._events:
            if self._failure is not None:
                raise self._failure
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._events.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Leg:
    """What both kinds of leg do once their session is up."""

    __slots__ = ("__weakref__", "_scopes", "agent", "codecs", "end", "inbox", "is_trunk", "name", "session")

    def __init__(self, agent: UserAgent, session: InviteSession, inbox: Inbox, name: str = "") -> None:
        self.agent = agent
        self.session = session
        self.inbox = inbox
        self.name = name                   # who is at the other end: an extension, a trunk
        self.is_trunk = False
        self.end: LegEnd | None = None
        self.codecs: frozenset[str] | None = None       # all that it may be offered; None: no offer of ours was refused
        self._scopes: list[while_up] = []

    def notify(self, event: Effect) -> None:
        """The agent delivers what the core reported of this leg's session."""
        if isinstance(event, Ended):
            self._finish(LegEnd.by_message(event.by, event.cause, event.message))
        self.inbox.put(self, event)

    def hang_up(self, headers: HeaderFields = ()) -> None:
        """CANCEL, BYE, a final response or nothing, by the session's state; may be called twice."""
        if self.end is None:
            self.end = LegEnd(Party.LOCAL, EndCause.BYE)
            self.agent.let_go(self.session)
            self.agent.perform(self.session.hang_up(self.agent.now(), headers=headers))

    def reoffer(self, sdp: bytes) -> None:
        """re-INVITE with this offer, or without one (b""): OfferAnswered or OfferRefused follows."""
        if sdp and self.codecs is not None:
            with suppress(SdpError, NotAcceptable):
                sdp = narrowed(sdp, self.codecs)
        self.agent.perform(self.session.reoffer(sdp, self.agent.now()))

    def conclude(self, sdp: bytes) -> None:
        """Our answer to the offer that the peer made when we asked for one, or in its INVITE."""
        self.ack(sdp)

    def accept_offer(self, request: Request, sdp: bytes) -> None:
        self.agent.perform(self.session.accept_offer(request, sdp, self.agent.now()))

    def refuse_offer(self, request: Request, status: int) -> None:
        headers = self._warning_of(status)
        self.agent.perform(self.session.refuse_offer(request, status, self.agent.now(), headers=headers))

    def ack(self, sdp: bytes) -> None:
        """The answer to an offer that came in a 2xx."""
        self.agent.perform(self.session.ack(sdp, self.agent.now()))

    def send(
        self, method: str, headers: HeaderFields, body: bytes, content_type: str, *, optional: bool = False
    ) -> None:
        """A request in this dialog, as NOTIFY: DialogResponse follows. An `optional` one may stay unanswered."""
        effects = self.session.request(
            method, self.agent.now(), body=body, content_type=content_type, headers=headers, optional=optional
        )
        self.agent.perform(effects)

    def respond(self, request: Request, status: int, headers: HeaderFields = ()) -> None:
        self.agent.perform(self.session.respond(request, status, self.agent.now(), headers=headers))

    def put_off(self, event: Effect | Wish) -> None:
        """What the peer asks for while the other side is not up yet has to wait, and it is told so at once (RFC 3261
        §14.2, RFC 3311 §5.2): unanswered, it would be asked again and again."""
        match event:
            case OfferReceived(request=request):
                self.refuse_offer(request, 491)
            case DialogRequest(request=request):
                self.respond(request, 480)
            case Wish():
                event.too_late()

    def move(self, inbox: Inbox) -> Leg:
        """The same dialog as a leg of another call. For the call that it leaves, it has ended."""
        moved = Leg(self.agent, self.session, inbox, self.name)
        moved.codecs, moved.is_trunk = self.codecs, self.is_trunk
        self.agent.move(moved)
        self.inbox.hand_over(self, moved)
        self.notify(Ended(self.session, Party.LOCAL, EndCause.BYE))
        return moved

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaving the block hangs up, and says why when another leg's end is the cause."""
        self.hang_up(error.end.headers if isinstance(error, LegEnded) else ())

    def _warning_of(self, status: int) -> HeaderFields:
        """RFC 3261 §20.43: 305, incompatible media format."""
        if status not in INCOMPATIBLE:
            return ()
        return (("Warning", f'305 {bracketed(self.session.flow.local.host)} "Incompatible media format"'),)

    def _finish(self, end: LegEnd) -> None:
        if self.end is None:
            self.end = end
            for scope in self._scopes:
                scope.leg_ended(self, end)


class IncomingLeg(Leg):
    """We are the UAS: somebody called us."""

    __slots__ = ("_answered", "_ringing")

    def __init__(self, agent: UserAgent, session: InviteSession, inbox: Inbox, name: str = "") -> None:
        super().__init__(agent, session, inbox, name)
        self._answered = False
        self._ringing = False

    @property
    def invite(self) -> Request:
        return self.session.invite

    @property
    def offer(self) -> bytes:
        """The SDP of the INVITE, b"" when it makes no offer."""
        return self.session.offer

    def ring(self) -> None:
        """180, once: a phone really rings."""
        if not self._ringing and self.end is None:
            self._ringing = True
            self.agent.perform(self.session.progress(180, self.agent.now()))

    def early_media(self, sdp: bytes) -> None:
        """183 with an answer: the caller hears the other side's network before anybody picks up."""
        if self.end is None:
            self._ringing = True
            self.agent.perform(self.session.progress(183, self.agent.now(), body=sdp))

    def conclude(self, sdp: bytes) -> None:
        self.answer(sdp)

    def withdraw(self) -> None:
        """It is not needed any more, and whoever waits while it lives is told so as if the caller had left."""
        if not self._answered and self.end is None:
            self.agent.let_go(self.session)
            self.agent.perform(self.session.reject(487, self.agent.now()))
            self._finish(LegEnd(Party.LOCAL, EndCause.CANCELLED))

    def answer(self, sdp: bytes) -> None:
        """200 with an answer, or with our offer when the INVITE made none (then Confirmed holds the answer)."""
        if self.end is None:
            self._answered = True
            self.agent.perform(self.session.accept(self.agent.now(), body=sdp))

    def reject(self, status: int, headers: HeaderFields = ()) -> None:
        """Refuse the call; one that was answered already is hung up."""
        if self._answered:
            self.hang_up(headers)
        elif self.end is None:
            self.end = LegEnd(Party.LOCAL, EndCause.REJECTED)
            self.agent.let_go(self.session)
            headers = (*headers, *self._warning_of(status))
            self.agent.perform(self.session.reject(status, self.agent.now(), headers=headers))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaving the block hangs up. A caller who still waits then is told of a shutdown (503) or a fault (500)."""
        if error is None:
            self.hang_up()
        else:
            status = 503 if isinstance(error, asyncio.CancelledError) else 500
            if isinstance(error, HungUp):
                status = error.status
            self.reject(status, error.end.headers if isinstance(error, LegEnded) else ())


class OutgoingLeg(Leg):
    """We are the UAC: we call somebody. A challenge is answered here, when we have credentials."""

    __slots__ = ("credentials", "otherwise", "tell")

    def __init__(
        self, agent: UserAgent, session: InviteSession, inbox: Inbox, name: str, credentials: DigestClient | None
    ) -> None:
        super().__init__(agent, session, inbox, name)
        self.credentials = credentials
        self.otherwise: tuple[OutgoingInvite, Flow] | None = None
        self.tell: Callable[[str], None] | None = None  # of a refused offer that is made once more

    def notify(self, event: Effect) -> None:
        if isinstance(event, Ended) and event.cause is EndCause.TRANSPORT_FAILED and self.otherwise is not None:
            # RFC 3261 §18.1.1: TCP was tried for the size of the request only, and is not spoken there.
            (outgoing, flow), self.otherwise = self.otherwise, None
            self.agent.dial_again(self, outgoing, flow)
            return
        if not isinstance(event, Provisional):
            self.otherwise = None
        if isinstance(event, Rejected):
            if self._answer_challenge(event.response) or self._offer_less(event.response):
                return
            self.end = self.end or LegEnd.by_message(Party.REMOTE, EndCause.REJECTED, event.response)
            self.agent.perform(self.session.hang_up(self.agent.now()))      # no retry comes: it can forget the INVITE
        super().notify(event)

    @property
    def unheard_since(self) -> float | None:
        """Since when the INVITE waits for a sign of life; None when the other side gave one, or there is no hope."""
        return self.session.unheard_since if self.end is None else None

    def _answer_challenge(self, response: Response) -> bool:
        if self.credentials is None or response.status not in (401, 407) or self.end is not None:
            return False
        headers = self.credentials.answer(response, self.session.invite)
        if isinstance(headers, Unanswerable):
            return False
        self.agent.retry(self, headers)
        return True

    def _offer_less(self, response: Response) -> bool:
        """Once more with the codecs that both have, if others were offered (RFC 3261 §21.4.13, §21.4.26, §21.6.4)."""
        tell, self.tell = self.tell, None
        if tell is None or self.end is not None or response.status not in OFFER_REFUSED:
            return False
        invite = self.session.invite
        try:
            offer = less(sdp_of(invite), sdp_of(response)) if takes_sdp(response) else None
        except ParseError:
            return False
        if offer is None:
            return False
        body, self.codecs = offer
        tell(f"{self.name} answered {response.status}: asked again with {shown(', '.join(encodings(body)))}")
        signed = self.credentials.sign(invite.method, str(invite.uri), body) if self.credentials is not None else ()
        self.agent.retry(self, signed, body)
        return True


class while_up:
    """Run a block only while these legs live: LegEnded is raised out of it when one ends.

    Works as asyncio.timeout does (cancel, uncancel, translate), so that a shutdown's cancellation passes
    untouched. What needs closing is opened outside the block. After `release`, the block goes on without its legs.
    """

    __slots__ = ("_cancelling", "_ended", "_legs", "_task")

    def __init__(self, *legs: Leg) -> None:
        self._legs = legs
        self._ended: LegEnded | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0

    async def __aenter__(self) -> Self:
        for leg in self._legs:
            if leg.end is not None:
                raise LegEnded(leg, leg.end)
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        for leg in self._legs:
            leg._scopes.append(self)
        return self

    def release(self) -> None:
        """From now on the ends of these legs are somebody else's affair. One that came first stays the block's."""
        if self._ended is None:
            for leg in self._legs:
                leg._scopes.remove(self)
            self._legs = ()

    def leg_ended(self, leg: Leg, end: LegEnd) -> None:
        if self._ended is None and self._task is not None:
            self._ended = LegEnded(leg, end)
            self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        for leg in self._legs:
            leg._scopes.remove(self)
        if self._ended is None or task is None:
            return
        if task.uncancel() > self._cancelling:
            return                          # a shutdown is under way too: that one goes first
        if kind is not asyncio.CancelledError:
            # The leg ended in the very tick in which the block was left: the cancellation is still on its way.
            await _swallow_pending_cancellation()
        if kind is None or kind is asyncio.CancelledError:
            ended, self._ended = self._ended, None
            try:
                raise ended from error
            finally:
                # This frame is in the traceback: what it holds would be a cycle, and wait for the collector.
                del ended, error, trace, task


async def _swallow_pending_cancellation() -> None:
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return
