"""Offers after the first INVITE, ours and the peer's: re-INVITE, UPDATE, PRACK (RFC 3261 §14, RFC 3311, RFC 6337)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from b2bua.sip import session_timer
from b2bua.sip.effects import Effect, EndCause, Flow, OfferAnswered, OfferReceived, OfferRefused, Party
from b2bua.sip.grammar import ProtocolMisuse
from b2bua.sip.message import Request, Response
from b2bua.sip.offer_answer import sdp_of
from b2bua.sip.refresher import agree, agreed_by
from b2bua.sip.stack import Fields, Owed, Role, SessionDeadline, State
from b2bua.sip.unconfirmed import Unconfirmed

if TYPE_CHECKING:
    from b2bua.sip.dialog import Dialog
    from b2bua.sip.invite_session import InviteSession
    from b2bua.sip.sent import Sent
    from b2bua.sip.timers import Deadline
    from b2bua.sip.transaction_table import ServerTransaction

MAX_TRIES = 6               # of one offer of ours, before its 491 is told
MAX_REFRESHES = 6           # UPDATEs of one refresh
MAX_PRACKS = 3              # of one reliable 18x
MAX_RETRY_AFTER = 30        # seconds; a peer that asks for more is taken to refuse
REFRESH_PAUSE = 5.0         # seconds until a refresh is tried again that came at a bad moment


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer of ours, on its way or waiting for its time."""

    method: str
    body: bytes                     # empty: a re-INVITE that asks the peer for an offer
    fields: tuple[tuple[str, str], ...] = ()
    is_refresh: bool = False        # the session timer's; the transaction user does not hear of it


class Reoffers:
    """One offer of ours at a time, and none while one of the peer's is open.

        (idle) ──offer()──> sent ──2xx──> (idle)
                  ^          │ 491, 500 with Retry-After, 422
                  └─waiting <┘            also: offered before the ACK to our own 2xx
    """

    __slots__ = ("_glare", "_min_se", "_offer", "_refreshes", "_refreshing", "_sent", "_tries", "_waiting", "session")

    def __init__(self, session: InviteSession) -> None:
        self.session = session
        self._sent: Sent | None = None              # our offer's request, until it is settled
        self._offer: Offer | None = None            # that offer
        self._waiting: Offer | None = None
        self._glare: Deadline | None = None         # until then it waits at least
        self._refreshing: Sent | None = None        # an UPDATE without an offer
        self._refreshes = 0                         # of those that were refused, one after the other
        self._tries = 0
        self._min_se = 0                            # what a 422 taught us

    @property
    def busy(self) -> bool:
        dialog = self.session.current_dialog()
        return (self._sent is not None or self._waiting is not None or self._owes_invite()
                or (dialog is not None and dialog.offers.pending is not None))

    def stop(self, now: float) -> list[Effect]:
        """The session has ended: an INVITE still open is withdrawn, a 2xx still owed its ACK gets it."""
        stack = self.session.stack
        stack.deadlines.disarm(self._glare)
        self._waiting = None
        sent, self._sent = self._sent, None
        if sent is None or sent.transaction is None or sent.request.method != "INVITE":
            return []
        if sent.dialog.offers.pending is Party.REMOTE:
            return [sent.acknowledge(b"")]
        return stack.effects(stack.table.cancel(sent.transaction, now), now)

    # -- ours ----------------------------------------------------------------------------------------------------

    def offer(self, method: str, body: bytes, fields: tuple[tuple[str, str], ...], now: float) -> list[Effect]:
        session = self.session
        if session.state in (State.ENDING, State.ENDED):
            return []
        dialog = session.current_dialog()
        if dialog is None or (method == "UPDATE" and not body):
            raise ProtocolMisuse(f"{method} without a dialog, or without an offer")
        if method == "UPDATE" and not session.remote_allows("UPDATE"):
            return [self._refused_here(dialog, method, 405)]
        offer = Offer(method, body, fields)
        held = session.state is State.ACCEPTED or session.unacknowledged is not None
        if held and self._sent is None and self._waiting is None and not self._owes_invite():
            self._waiting = offer
            return []
        if self.busy or (session.state is State.EARLY and not dialog.offers.settled):
            return [self._refused_here(dialog, method, 491)]
        return self._send(offer, dialog, now)

    def refresh(self, now: float) -> list[Effect]:
        """Half of the interval is over: UPDATE when the peer takes it, else the same offer again (RFC 4028 §7.4)."""
        session = self.session
        dialog = session.dialog
        if dialog is None or self._refreshing is not None:
            return []
        if session.remote_allows("UPDATE"):
            self._refreshing, effects = session.send(dialog, "UPDATE", now, self._fields())
            return effects
        if self.busy or session.unacknowledged is not None:
            self._refresh_again(REFRESH_PAUSE, now)
            return []
        return self._send(Offer("INVITE", session.local_sdp, is_refresh=True), dialog, now)

    def ack(self, body: bytes, now: float) -> list[Effect]:
        """Our answer to the offer in the 2xx of an offerless re-INVITE."""
        sent = self._sent
        if sent is None or sent.dialog.offers.pending is not Party.REMOTE or not body:
            raise ProtocolMisuse("no answer is owed in an ACK, or it is empty")
        self._sent = None
        sent.dialog.offers.answer()
        self.session.local_sdp = body
        return [sent.acknowledge(body), *self.resume(now)]

    def on_response(self, sent: Sent, response: Response, flow: Flow, now: float) -> list[Effect]:
        """A final response to a re-INVITE or UPDATE of ours."""
        if sent is self._refreshing:
            self._refreshing = None
            return self._on_refreshed(sent, response, flow, now)
        if sent is not self._sent or self._offer is None:
            return []
        if response.status < 300:
            sent.dialog.refresh_target(response, flow)
            self.session.learn_peer(response)
            if self.session.state is State.CONFIRMED:
                agreed_by(self.session, response, now)
            return self._on_answer(sent, self._offer, response, now)
        return self._on_refusal(sent, self._offer, response, now)

    def on_pracked(self, sent: Sent, response: Response, now: float) -> list[Effect]:
        """The final response to a PRACK; one that was overtaken on its way (500) goes again."""
        if response.status == 500 and sent.tries < MAX_PRACKS:
            return sent.repeat(now)
        offers = sent.dialog.offers
        if not sent.holds_offer or offers.pending is None:
            return []
        if response.status < 300 and sdp_of(response):
            offers.answer()
            self.session.local_sdp = sent.request.body
            return [OfferAnswered(self.session, response), *self.resume(now)]
        offers.withdraw()
        return [OfferRefused(self.session, response), *self.resume(now)]

    def on_glare_over(self, now: float) -> list[Effect]:
        self._glare = None
        return self.resume(now)

    def resume(self, now: float) -> list[Effect]:
        """Something was settled: what waits for it may go on."""
        session = self.session
        effects = session.settled(now)
        offer, dialog = self._waiting, session.current_dialog()
        if offer is None or dialog is None or self._glare is not None or session.unacknowledged is not None:
            return effects
        early = session.state is State.EARLY and offer.method == "UPDATE"
        if not (session.state is State.CONFIRMED or early) or dialog.offers.pending is not None or self._owes_invite():
            return effects
        self._waiting = None
        return effects + self._send(offer, dialog, now)

    def _send(self, offer: Offer, dialog: Dialog, now: float) -> list[Effect]:
        if offer.body:
            dialog.offers.offer(Party.LOCAL)
        self._tries += 1
        self._offer = offer
        self._sent, effects = self.session.send(dialog, offer.method, now, (*self._fields(), *offer.fields), offer.body)
        return effects

    def _fields(self) -> Fields:
        session = self.session
        fields = [("Contact", session.contact), *session.stack.about_us_reoffering]
        if session.state is State.CONFIRMED:
            agreement = None if session.refresher is None else session.refresher.agreement
            fields += session_timer.asked(session.stack.config.session_timer, agreement, self._min_se)
        return fields

    def _on_answer(self, sent: Sent, offer: Offer, response: Response, now: float) -> list[Effect]:
        session, offers, sdp = self.session, sent.dialog.offers, sdp_of(response)
        self._tries = 0
        if not offer.body and sdp:
            offers.offer(Party.REMOTE)              # our ACK will hold the answer: until then it is not over
            return [OfferAnswered(session, response, wants_answer=True)]
        self._sent = None
        effects: list[Effect] = [sent.acknowledge(b"")] if offer.method == "INVITE" else []
        if not sdp:                                 # no answer, or not the offer that we asked for
            offers.withdraw()
            return effects + session.abort(EndCause.PROTOCOL_ERROR, response, now)
        offers.answer()
        session.local_sdp = offer.body
        if not offer.is_refresh:
            effects.append(OfferAnswered(session, response))
        return effects + self.resume(now)

    def _on_refusal(self, sent: Sent, offer: Offer, response: Response, now: float) -> list[Effect]:
        self._sent = None
        if offer.body:
            sent.dialog.offers.withdraw()
        delay = self._delay(response)
        if delay is not None and self._tries < MAX_TRIES:
            self._waiting = offer
            self._glare = self.session.stack.deadlines.arm(now + delay, self.session, SessionDeadline.GLARE)
            return self.session.settled(now)
        self._tries = 0
        told: list[Effect] = [] if offer.is_refresh else [OfferRefused(self.session, response)]
        return told + self.resume(now)

    def _delay(self, response: Response) -> float | None:
        """How long to wait before the same offer is made again; None: it is refused."""
        match response.status:
            case 491:
                # Both sides offered at once: who owns the Call-ID waits longer, so that one yields (RFC 3261 §14.1).
                low, high = (2.1, 4.0) if self.session.role is Role.UAC else (0.0, 2.0)
                return round(self.session.stack.random.uniform(low, high), 2)
            case 500:
                pause = response.retry_after
                return pause if pause is not None and pause <= MAX_RETRY_AFTER else None
            case 422 if response.min_se is not None and response.min_se > self._min_se:
                self._min_se = response.min_se
                return 0.0
            case _:
                return None

    def _on_refreshed(self, sent: Sent, response: Response, flow: Flow, now: float) -> list[Effect]:
        session = self.session
        if response.status < 300:
            self._refreshes = 0
            sent.dialog.refresh_target(response, flow)
            agreed_by(session, response, now)
        elif response.status in (405, 501):         # it takes no UPDATE after all
            session.forget_method("UPDATE")
            self._refresh_again(0.0, now)
        elif (delay := self._delay(response)) is not None and self._refreshes < MAX_REFRESHES - 1:
            self._refreshes += 1
            self._refresh_again(delay, now)
        else:                                       # refused for good: the session goes on until it expires
            self._refreshes = 0
        return []

    def _refresh_again(self, delay: float, now: float) -> None:
        if self.session.refresher is not None:
            self.session.refresher.again(delay, now)

    def _refused_here(self, dialog: Dialog, method: str, status: int) -> OfferRefused:
        """What is not even sent ends as what the peer would have refused, so that callers know one outcome only."""
        fields = [("From", dialog.local), ("To", dialog.remote), ("Call-ID", dialog.call_id),
                  ("CSeq", f"{dialog.local_seq} {method}")]
        return OfferRefused(self.session, Response(status, headers=fields))

    # -- the peer's ----------------------------------------------------------------------------------------------

    def on_invite(
        self, transaction: ServerTransaction, request: Request, dialog: Dialog, flow: Flow, now: float
    ) -> list[Effect]:
        session, effects = self.session, list[Effect]()
        waiting = session.unacknowledged
        if waiting is not None and dialog.offers.pending is None and session.state is not State.ENDING:
            # Who sends the next INVITE has our 2xx: its ACK was lost, or comes later (RFC 5407 §3.1.4).
            waiting.confirm()
            session.unacknowledged = None
            effects += session.acknowledged(b"", now)
        if (refusal := self._invite_refusal(dialog)) is not None:
            return effects + self._refuse_request(transaction, request, refusal, now)
        if session_timer.is_too_brief(session.stack.config.session_timer, request):
            return effects + self._too_brief(transaction, request, now)
        effects += session.stack.table.trying(transaction, now)
        return effects + self._receive_offer(transaction, request, dialog, flow)

    def on_update(
        self, transaction: ServerTransaction, request: Request, dialog: Dialog, flow: Flow, now: float
    ) -> list[Effect]:
        """RFC 3311 §5.2."""
        if session_timer.is_too_brief(self.session.stack.config.session_timer, request):
            return self._too_brief(transaction, request, now)
        if not sdp_of(request):
            dialog.refresh_target(request, flow)
            return self.session.stack.table.respond(transaction, self._granting(request, b"", now), now)
        if (refusal := self._offer_refusal(dialog)) is not None:
            return self._refuse_request(transaction, request, refusal, now)
        return self._receive_offer(transaction, request, dialog, flow)

    def on_prack_offer(
        self, transaction: ServerTransaction, request: Request, dialog: Dialog, flow: Flow, now: float
    ) -> list[Effect]:
        """An offer in a PRACK is only possible once the INVITE's is settled (RFC 3262 §5)."""
        if not dialog.offers.settled or self._offer_refusal(dialog) is not None:
            return self._refuse_request(transaction, request, 491, now)
        return self._receive_offer(transaction, request, dialog, flow)

    def accept(self, owed: Owed, body: bytes, now: float) -> list[Effect]:
        session, request, offers = self.session, owed.request, owed.dialog.offers
        response = self._granting(request, body, now)
        effects = session.stack.table.respond(owed.transaction, response, now)
        if not effects:                         # too late: the peer has given the request up (RFC 4320 §4.2)
            offers.withdraw()
            return self.resume(now)
        if sdp_of(request):
            offers.answer()
        else:
            offers.offer(Party.LOCAL)
        session.local_sdp = body
        if request.method != "PRACK":
            owed.dialog.refresh_target(request, owed.flow)
        if request.method == "INVITE":
            number = request.cseq.number
            session.unacknowledged = Unconfirmed(session, owed.transaction, response, number, SessionDeadline.ACK, now)
        return effects + self.resume(now)

    def refuse(self, owed: Owed, status: int, headers: Fields, now: float) -> list[Effect]:
        if sdp_of(owed.request):
            owed.dialog.offers.withdraw()
        response = owed.request.response(status, headers=headers)
        return self.session.stack.table.respond(owed.transaction, response, now) + self.resume(now)

    def _receive_offer(
        self, transaction: ServerTransaction, request: Request, dialog: Dialog, flow: Flow
    ) -> list[Effect]:
        sdp = sdp_of(request)
        if sdp:
            dialog.offers.offer(Party.REMOTE)
        self.session.owed.append(Owed(transaction, request, dialog, flow))
        transaction.user = self.session
        return [OfferReceived(self.session, request, sdp)]

    def _granting(self, request: Request, body: bytes, now: float) -> Response:
        """Our 2xx to a request that may set the session timer anew."""
        session = self.session
        if request.method == "PRACK":
            return request.response(200, body=body)
        headers: Fields = session.stack.about_us_answering
        if session.state is State.CONFIRMED:
            agreement = session_timer.as_uas(session.stack.config.session_timer, request)
            agree(session, agreement, now)
            headers = (*headers, *session_timer.granted(agreement))
        return request.response(200, contact=session.contact, headers=headers, body=body)

    def _invite_refusal(self, dialog: Dialog) -> int | None:
        """RFC 3261 §14.2: 500 while the peer's own INVITE is open, 491 while one of ours is."""
        state = self.session.state
        if self._owes_invite() or (state in (State.SETUP, State.EARLY) and self.session.role is Role.UAS):
            return 500
        if state is not State.CONFIRMED or self.session.unacknowledged is not None:
            return 491
        return self._offer_refusal(dialog)

    def _offer_refusal(self, dialog: Dialog) -> int | None:
        if self._sent is not None or dialog.offers.pending is Party.LOCAL:
            return 491
        return 500 if dialog.offers.pending is Party.REMOTE or self._owes_invite() else None

    def _refuse_request(
        self, transaction: ServerTransaction, request: Request, status: int, now: float
    ) -> list[Effect]:
        stack = self.session.stack
        headers = (stack.retry_after(),) if status == 500 else ()
        return stack.table.respond(transaction, request.response(status, headers=headers), now)

    def _too_brief(self, transaction: ServerTransaction, request: Request, now: float) -> list[Effect]:
        stack = self.session.stack
        headers = (("Min-SE", str(stack.config.session_timer.min_se)),)
        return stack.table.respond(transaction, request.response(422, headers=headers), now)

    def _owes_invite(self) -> bool:
        return any(owed.request.method == "INVITE" for owed in self.session.owed)
