"""The session timer of a living session: refresh it or end it in time (RFC 4028 §7 to §10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2bua.sip import session_timer
from b2bua.sip.effects import Effect, EndCause, Party
from b2bua.sip.session_timer import Agreement
from b2bua.sip.stack import SessionDeadline

if TYPE_CHECKING:
    from b2bua.sip.invite_session import InviteSession
    from b2bua.sip.message import Response
    from b2bua.sip.timers import Deadline

SESSION_EXPIRED = (("Reason", 'SIP;cause=408;text="Session expired"'),)


class Refresher:
    """Exists only while a session timer is in force.

    Whoever refreshes does so at half the interval; both hang up shortly before its end, when nothing came of it.
    """

    __slots__ = ("_expiry", "_refresh", "agreement", "session")

    def __init__(self, session: InviteSession, agreement: Agreement, now: float) -> None:
        self.session = session
        self.agreement = agreement
        deadlines = session.stack.deadlines
        self._expiry: Deadline | None = deadlines.arm(now + agreement.ends_after, session, SessionDeadline.EXPIRY)
        self._refresh: Deadline | None = None
        if agreement.refresher is Party.LOCAL:
            self._refresh = deadlines.arm(now + agreement.refresh_after, session, SessionDeadline.REFRESH)

    def stop(self) -> None:
        self.session.stack.deadlines.disarm(self._expiry)
        self.session.stack.deadlines.disarm(self._refresh)

    def on_deadline(self, deadline: SessionDeadline, now: float) -> list[Effect]:
        if deadline is SessionDeadline.EXPIRY:
            return self.session.finish(Party.LOCAL, EndCause.SESSION_EXPIRED, None, now, bye=SESSION_EXPIRED)
        return self.session.modifications.refresh(now)

    def again(self, delay: float, now: float) -> None:
        """The refresh could not be made now: once more, as long as the session lives."""
        deadlines = self.session.stack.deadlines
        deadlines.disarm(self._refresh)
        self._refresh = deadlines.arm(now + delay, self.session, SessionDeadline.REFRESH)


def agree(session: InviteSession, agreement: Agreement | None, now: float) -> None:
    """Each 2xx to INVITE or UPDATE starts the interval anew, or ends the timer by not naming one (RFC 4028 §7.2)."""
    if session.refresher is not None:
        session.refresher.stop()
    session.refresher = None if agreement is None else Refresher(session, agreement, now)


def agreed_by(session: InviteSession, response: Response, now: float) -> None:
    agree(session, session_timer.as_uac(session.stack.config.session_timer, response), now)
