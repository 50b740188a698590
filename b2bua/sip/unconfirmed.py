"""Responses that the session itself repeats until the peer confirms them: a 2xx until its ACK (RFC 3261 §13.3.1.4),
a reliable 18x until its PRACK (RFC 3262 §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2bua.sip.effects import Effect
from b2bua.sip.stack import SessionDeadline

if TYPE_CHECKING:
    from b2bua.sip.invite_session import InviteSession
    from b2bua.sip.message import Response
    from b2bua.sip.server_transactions import ServerTransaction
    from b2bua.sip.timers import Deadline


class Unconfirmed:
    """One response on its way, and the deadline for its next repetition."""

    __slots__ = (
        "_deadline", "_give_up_at", "_interval", "_stack", "_timer", "holds_sdp", "number", "response", "transaction",
    )   # fmt: skip

    def __init__(
        self,
        session: InviteSession,
        transaction: ServerTransaction,
        response: Response,
        number: int,
        timer: SessionDeadline,
        now: float,
    ) -> None:
        self.transaction = transaction
        self.response = response
        self.number = number                    # the CSeq or RSeq that confirms it
        self.holds_sdp = bool(response.body)
        stack = self._stack = session.stack
        self._timer = timer
        self._interval = stack.config.timers.t1
        self._give_up_at = now + stack.config.timers.timeout
        self._deadline: Deadline | None = stack.deadlines.arm(now + self._interval, session, timer)

    def repeat(self, session: InviteSession, now: float) -> list[Effect] | None:
        """Send it again at doubling intervals; None when 64*T1 are over.

        A 2xx is repeated on streams too, as a proxy may lie between (RFC 3261 §13.3.1.4). Its intervals stop growing at
        T2, those of an 18x do not (RFC 3262 §3).
        """
        if now >= self._give_up_at:
            self._deadline = None
            return None
        ceiling = self._stack.config.timers.t2 if self._timer is SessionDeadline.ACK else self._give_up_at
        self._interval = min(2 * self._interval, ceiling)
        self._deadline = self._stack.deadlines.arm(min(now + self._interval, self._give_up_at), session, self._timer)
        return self._stack.table.respond(self.transaction, self.response, now)

    def confirm(self) -> None:
        self._stack.deadlines.disarm(self._deadline)
        self._deadline = None
