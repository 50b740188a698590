"""A request of ours inside a dialog, from its sending to its final response, challenges included (RFC 3261 §22.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2bua.sip.effects import DialogResponse, Effect, EndCause, Flow, Party, Transmit
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request, Response
from b2bua.sip.stack import Stack, State

if TYPE_CHECKING:
    from b2bua.sip.client_transactions import ClientTransaction
    from b2bua.sip.dialog import Dialog
    from b2bua.sip.invite_session import InviteSession

MAX_TRIES = 3           # with fresh credentials, or a fresh number, each

CREDENTIALS = frozenset({"Authorization", "Proxy-Authorization"})
_REPLACED = CREDENTIALS | {"Via", "CSeq"}
# Its failure ends the subscription that it belongs to, not the call beside it (RFC 6665 §4.2.2, RFC 5057 §5.1).
_BESIDE = "NOTIFY"


class Sent:
    """The `user` of its client transaction; lives as long as that, so that a repeated 2xx finds its ACK."""

    __slots__ = ("_succeeded", "ack", "dialog", "holds_offer", "optional", "request", "session", "transaction", "tries")

    def __init__(self, session: InviteSession, dialog: Dialog, request: Request) -> None:
        self.session = session
        self.dialog = dialog
        self.request = request
        self.transaction: ClientTransaction | None = None
        self.optional = False           # no answer to it says nothing about the dialog
        self.ack: Transmit | None = None
        self.holds_offer = False                # a PRACK's body may be an answer as well
        self.tries = 1
        self._succeeded = False

    def on_response(self, transaction: ClientTransaction, response: Response, flow: Flow, now: float) -> list[Effect]:
        status = response.status
        if status < 200:
            return []
        if transaction.method == "INVITE" and status < 300:
            return self._on_invite_success(response, flow, now)
        if status in (401, 407) and (authorize := self.session.authorize) is not None and self.tries < MAX_TRIES:
            credentials = authorize(self.request, response)
            if credentials is not None:
                return self.repeat(now, tuple(credentials))
        return self._on_final(response, flow, now)

    def on_failure(self, transaction: ClientTransaction, cause: EndCause, now: float) -> list[Effect]:
        """No response, or no way, or none that can be read (RFC 3261 §12.2.1.2)."""
        session, request = self.session, self.request
        if request.method == "BYE":
            session.forget()
            return []
        if session.state in (State.ENDING, State.ENDED):
            return []
        if request.method in ("PRACK", "UPDATE") and not session.is_up:
            status = 408 if cause is EndCause.TIMED_OUT else 503
            return self._on_final(request.response(status), self.dialog.flow, now)
        effects: list[Effect] = []
        if request.method not in ("INVITE", "UPDATE", "PRACK"):
            effects.append(DialogResponse(session, request, request.response(408)))
        spared = self.optional and cause is EndCause.TIMED_OUT
        if request.method not in ("PRACK", _BESIDE) and session.is_up and not spared:
            end = EndCause.DIALOG_GONE if cause is EndCause.TIMED_OUT else cause
            effects += session.finish(Party.REMOTE, end, None, now, bye=())
        return effects

    def start(self, now: float) -> list[Effect]:
        self.transaction, effects = self.session.stack.send(self.request, self.dialog.flow, self, now)
        return effects

    def repeat(self, now: float, credentials: tuple[tuple[str, str], ...] = ()) -> list[Effect]:
        """The same request with a new number, and other credentials."""
        self.tries += 1
        dialog, old = self.dialog, self.request
        dialog.local_seq += 1
        via = self.session.stack.table.new_via(dialog.flow)
        fields = [("Via", via), *[field for field in old.headers if field[0] not in _REPLACED],
                  ("CSeq", f"{dialog.local_seq} {old.method}"), *credentials]
        self.request = Request(old.method, old.uri, Headers(fields), old.body)
        return self.start(now)

    def acknowledge(self, body: bytes) -> Transmit:
        self.ack = acknowledgement(self.session.stack, self.dialog, self.request, body)
        return self.ack

    def _on_invite_success(self, response: Response, flow: Flow, now: float) -> list[Effect]:
        """A repeated 2xx wants its ACK again; one that comes after the end is owed an ACK as well."""
        if self.ack is not None:
            return [self.ack]
        if self.session.is_over:
            return [self.acknowledge(b"")]
        if self._succeeded:
            return []                           # the answer for its ACK is still being made
        self._succeeded = True
        return self._on_final(response, flow, now)

    def _on_final(self, response: Response, flow: Flow, now: float) -> list[Effect]:
        session, request = self.session, self.request
        if request.method == "BYE":
            session.forget()
            return []
        if session.state in (State.ENDING, State.ENDED):
            return []
        if request.method == "PRACK":
            return session.modifications.on_pracked(self, response, now)
        if request.method not in ("INVITE", "UPDATE"):
            return [DialogResponse(session, request, response), *self._gone(response, now)]
        return self._gone(response, now) or session.modifications.on_response(self, response, flow, now)

    def _gone(self, response: Response, now: float) -> list[Effect]:
        """481 or 408: the peer no longer knows the dialog (RFC 3261 §12.2.1.2). An early one may be one of several."""
        if response.status not in (408, 481) or not self.session.is_up or self.request.method == _BESIDE:
            return []
        if response.status == 408 and self.optional:
            return []
        return self.session.finish(Party.REMOTE, EndCause.DIALOG_GONE, response, now, bye=())


def acknowledgement(stack: Stack, dialog: Dialog, invite: Request, body: bytes) -> Transmit:
    """The ACK to a 2xx: a request of its own, with number and credentials of its INVITE (RFC 3261 §13.2.2.4)."""
    credentials = [field for field in invite.headers if field[0] in CREDENTIALS]
    ack = dialog.ack(invite.cseq.number, stack.table.new_via(dialog.flow), credentials, body)
    return Transmit(ack, dialog.flow)
