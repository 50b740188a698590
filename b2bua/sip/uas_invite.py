"""The callee's side of the first INVITE: 18x, reliable or not, 2xx, refusals (RFC 3261 §13.3, RFC 3262 §3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from b2bua.sip import session_timer
from b2bua.sip.effects import AnswerConfirmed, Effect, EndCause, Ended, Party
from b2bua.sip.grammar import ProtocolMisuse
from b2bua.sip.offer_answer import sdp_of
from b2bua.sip.refresher import agree
from b2bua.sip.stack import Fields, SessionDeadline, State
from b2bua.sip.unconfirmed import Unconfirmed

if TYPE_CHECKING:
    from b2bua.sip.dialog import Dialog
    from b2bua.sip.effects import Flow
    from b2bua.sip.invite_session import InviteSession
    from b2bua.sip.message import Request, Response
    from b2bua.sip.timers import Deadline
    from b2bua.sip.transaction_table import ServerTransaction

RINGING_AGAIN = 60.0        # seconds: a proxy gives up an INVITE of which it hears nothing (RFC 3261 §13.3.1.1)
MAX_QUEUED = 16             # reliable 18x that wait for the PRACK of an earlier one; what comes then is left out


@dataclass(frozen=True, slots=True)
class Reply:
    """An 18x or the 200, as the transaction user wants it."""

    status: int
    body: bytes
    fields: tuple[tuple[str, str], ...]
    reliable: bool = False


class UasInvite:
    """Lives from the INVITE to its ACK.

    One reliable 18x is on its way at a time; further ones, and a 200 that has to wait for them, stand in a queue.
    """

    __slots__ = ("_last", "_queue", "_reliable", "_ringing", "_rseq", "session", "transaction")

    def __init__(self, session: InviteSession, transaction: ServerTransaction) -> None:
        self.session = session
        self.transaction = transaction
        self._queue: list[Reply] = []
        self._reliable: Unconfirmed | None = None       # the reliable 18x that waits for its PRACK
        self._rseq = 0
        self._last: Reply | None = None                 # the last 18x, to be repeated once a minute
        self._ringing: Deadline | None = None

    def progress(
        self, status: int, body: bytes, fields: tuple[tuple[str, str], ...], wanted: bool, now: float
    ) -> list[Effect]:
        if not 101 <= status <= 199:
            raise ProtocolMisuse(f"{status} is no provisional response")
        if self._queue and self._queue[-1].status >= 200:
            return []                           # accepted already, and only waiting for a PRACK
        session = self.session
        session.state = State.EARLY
        demanded = "100rel" in session.invite.require
        reply = Reply(status, body, fields, demanded or (wanted and session.remote_supports("100rel")))
        self._last = reply
        self._keep_ringing(now)
        if not reply.reliable:
            return self._send_plain(reply, now)
        if len(self._queue) < MAX_QUEUED:
            self._queue.append(reply)
        return self.flush(now)

    def accept(self, body: bytes, fields: tuple[tuple[str, str], ...], now: float) -> list[Effect]:
        if self._queue and self._queue[-1].status >= 200:
            raise ProtocolMisuse("accepted twice")
        offers = self._dialog.offers
        if not body and not offers.settled and not any(reply.body for reply in self._queue):
            raise ProtocolMisuse("the 200 owes a session description")
        self._queue.append(Reply(200, body, fields))
        self.session.stack.deadlines.disarm(self._ringing)
        return self.flush(now)

    def reject(self, status: int, reason: str | None, headers: Fields, now: float) -> list[Effect]:
        if not 300 <= status <= 699:
            raise ProtocolMisuse(f"{status} refuses nothing")
        return [*self.refuse_quietly(status, now, reason, headers), *self.session.wind_up(now)]

    def refuse_quietly(self, status: int, now: float, reason: str | None = None, headers: Fields = ()) -> list[Effect]:
        session = self.session
        response = session.invite.response(status, reason, to_tag=session.id, headers=headers)
        return session.stack.table.respond(self.transaction, response, now)

    def stop(self) -> None:
        self._queue.clear()
        self.session.stack.deadlines.disarm(self._ringing)
        if self._reliable is not None:
            self._reliable.confirm()

    def flush(self, now: float) -> list[Effect]:
        """Send from the queue what nothing holds back any more."""
        effects: list[Effect] = []
        while self._queue and self.session.state in (State.SETUP, State.EARLY) and self._may_go(self._queue[0]):
            reply = self._queue.pop(0)
            effects += self._send_final(reply, now) if reply.status >= 200 else self._send_reliably(reply, now)
        return effects

    def on_prack(
        self, transaction: ServerTransaction, prack: Request, dialog: Dialog, flow: Flow, now: float
    ) -> list[Effect]:
        """RFC 3262 §3."""
        respond, reliable, rack = self.session.stack.table.respond, self._reliable, prack.rack
        invite = self.session.invite
        if (rack is None or reliable is None
                or (rack.rseq, rack.cseq, rack.method) != (reliable.number, invite.cseq.number, "INVITE")):
            return respond(transaction, prack.response(481), now)
        answers = reliable.holds_sdp and dialog.offers.pending is Party.LOCAL
        answer = sdp_of(prack)
        if answers and not answer:
            return respond(transaction, prack.response(400, "Missing Answer"), now)
        reliable.confirm()
        self._reliable = None
        if answer and not answers:
            return self.session.modifications.on_prack_offer(transaction, prack, dialog, flow, now) + self.flush(now)
        effects = respond(transaction, prack.response(200), now)
        if answers:
            dialog.offers.answer()
            self.session.local_sdp = reliable.response.body
            effects.append(AnswerConfirmed(self.session, answer))
        return effects + self.flush(now)

    def on_deadline(self, deadline: SessionDeadline, now: float) -> list[Effect]:
        if deadline is SessionDeadline.RINGING:
            return self._ring_again(now)
        if self._reliable is None:
            return []
        effects = self._reliable.repeat(self.session, now)
        if effects is not None:
            return effects
        self._reliable = None               # RFC 3262 §3: no PRACK in 64*T1, the INVITE is refused with 5xx
        if self.session.state not in (State.SETUP, State.EARLY):
            return []
        effects = self.reject(504, None, (), now)
        return [*effects, Ended(self.session, Party.LOCAL, EndCause.TIMED_OUT)]

    @property
    def _dialog(self) -> Dialog:
        assert self.session.dialog is not None
        return self.session.dialog

    def _may_go(self, reply: Reply) -> bool:
        if reply.status < 200:
            return self._reliable is None
        offers = self._dialog.offers
        if self._reliable is not None and self._reliable.holds_sdp:
            return False                    # RFC 3262 §3: no 2xx before the PRACK of an 18x with a session description
        return offers.pending is None or (offers.pending is Party.REMOTE and not offers.settled)

    def _send_plain(self, reply: Reply, now: float) -> list[Effect]:
        """Its body is a preview of the answer; an offer must not stand there (RFC 3261 §13.2.1)."""
        preview = reply.body if self._dialog.offers.pending is Party.REMOTE else b""
        return self._respond(self._response(reply, preview, ()), now)

    def _send_reliably(self, reply: Reply, now: float) -> list[Effect]:
        session = self.session
        self._rseq = self._rseq + 1 if self._rseq else session.stack.random.randint(1, 2**31 - 1)
        fields = (("Require", "100rel"), ("RSeq", str(self._rseq)))
        response = self._response(reply, self._exchange(reply.body), fields)
        self._reliable = Unconfirmed(session, self.transaction, response, self._rseq, SessionDeadline.PRACK, now)
        return self._respond(response, now)

    def _send_final(self, reply: Reply, now: float) -> list[Effect]:
        session = self.session
        if self._reliable is not None:      # it held no SDP: repeated no longer, its PRACK is still welcome
            self._reliable.confirm()
        agreement = session_timer.as_uas(session.stack.config.session_timer, session.invite)
        response = self._response(reply, self._exchange(reply.body), session_timer.granted(agreement))
        number = session.invite.cseq.number
        session.state = State.ACCEPTED
        session.unacknowledged = Unconfirmed(session, self.transaction, response, number, SessionDeadline.ACK, now)
        agree(session, agreement, now)
        return self._respond(response, now)

    def _response(self, reply: Reply, body: bytes, fields: tuple[tuple[str, str], ...]) -> Response:
        session, status = self.session, reply.status
        headers = (*session.stack.about_us_answering, *fields, *reply.fields)
        return session.invite.response(status, to_tag=session.id, contact=session.contact, headers=headers, body=body)

    def _respond(self, response: Response, now: float) -> list[Effect]:
        return self.session.stack.table.respond(self.transaction, response, now)

    def _exchange(self, body: bytes) -> bytes:
        """The session description that a reliable response or 2xx may carry now, if any (RFC 6337 §2.1)."""
        offers = self._dialog.offers
        if not body or offers.settled or offers.pending is Party.LOCAL:
            return b""
        if offers.pending is Party.REMOTE:
            offers.answer()
            self.session.local_sdp = body
        else:
            offers.offer(Party.LOCAL)
        return body

    def _keep_ringing(self, now: float) -> None:
        deadlines = self.session.stack.deadlines
        deadlines.disarm(self._ringing)
        self._ringing = deadlines.arm(now + RINGING_AGAIN, self.session, SessionDeadline.RINGING)

    def _ring_again(self, now: float) -> list[Effect]:
        if self._last is None or self._queue or self.session.state is not State.EARLY:
            return []
        if self._last.reliable:
            self._keep_ringing(now)
            self._queue.append(replace(self._last, body=b""))
            return self.flush(now)
        self._keep_ringing(now)
        return self._send_plain(self._last, now)
