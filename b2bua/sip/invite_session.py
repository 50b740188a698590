"""A dialog's INVITE usage from the first INVITE to the last BYE: what both roles share (RFC 3261 §13 to §15).

    UAC   SETUP ──1xx──> EARLY ──2xx──> [ACCEPTED, if the 2xx has an offer] ──ACK──> CONFIRMED ──> ENDED
    UAS   SETUP ──18x──> EARLY ──2xx──> ACCEPTED ───────────────────────────ACK──> CONFIRMED ──> ENDED
    hang_up before the end is reached: UAC before a final response, UAS before the ACK ──> ENDING ──> ENDED

Commands, by state, and what they cause at once. (T: a Transmit of; nothing: an empty list; misuse: `ProtocolMisuse`)

    command       SETUP, EARLY                   ACCEPTED                   CONFIRMED               ENDING, ENDED
    progress      UAS: T 18x; reliable: queued   misuse                     misuse                  nothing
    accept        UAS: T 200, or queued until    misuse                     misuse                  nothing
                  a PRACK or UPDATE is done
    reject        UAS: T final; ENDED            misuse                     misuse                  nothing
    prack         UAC: T PRACK                   UAC: T PRACK               nothing                 nothing
    ack           misuse                         UAC: T ACK; CONFIRMED      offerless reoffer:      nothing
                                                                            T ACK; else misuse
    hang_up       UAC: T CANCEL (held until a    UAC: T ACK, BYE; ENDED     T BYE; ENDED            nothing
                  1xx); ENDING                   UAS: ENDING, BYE follows
                  UAS: T 480; ENDED              the ACK
    reoffer       misuse                         held until the ACK         T re-INVITE, or         nothing
                                                                            OfferRefused (491)
    update        T UPDATE, or OfferRefused      held until the ACK         as reoffer              nothing
                  (491, 405)
    accept_offer, refuse_offer, respond: T response; nothing when that request was withdrawn, or overtaken by the end
    request       T request (a dialog is needed) T request                  T request               nothing

`Ended` comes exactly once, unless our own `hang_up` or `reject` ended the session, or `Rejected` told it: then there is
none, and nothing more comes from the session (only `core.retry` revives a rejected one). When it comes, what must be
sent (a BYE, 487 to requests still open) is among the effects before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2bua.sip.dialog import Dialog
from b2bua.sip.effects import (
    AnswerConfirmed,
    Confirmed,
    DialogRequest,
    Effect,
    EndCause,
    Ended,
    Flow,
    Party,
)
from b2bua.sip.grammar import ProtocolMisuse
from b2bua.sip.message import Message, Request, Response
from b2bua.sip.offer_answer import sdp_of
from b2bua.sip.parser import parse
from b2bua.sip.refresher import Refresher
from b2bua.sip.reoffers import Reoffers
from b2bua.sip.sent import Sent
from b2bua.sip.stack import Authorize, Fields, Owed, Role, SessionDeadline, Stack, State
from b2bua.sip.uac_invite import UacInvite
from b2bua.sip.uas_invite import UasInvite

if TYPE_CHECKING:
    from b2bua.sip.transaction_table import ServerTransaction
    from b2bua.sip.unconfirmed import Unconfirmed

__all__ = ["InviteSession", "ProtocolMisuse", "Role", "State"]

MAX_OWED = 16           # requests of the peer inside one dialog that our side has not answered yet
NOT_ACKNOWLEDGED = 'SIP;cause=408;text="No ACK"'

_OPEN = (State.SETUP, State.EARLY)
_CLOSED = (State.ENDING, State.ENDED)


class InviteSession:
    """One end of a call on the wire. See the module for what each command does."""

    __slots__ = (
        "_allow", "_invite", "_invite_bytes", "_supported",
        "authorize", "call_id", "contact", "dialog", "farewell", "flow", "id", "local_sdp", "owed", "refresher",
        "reoffers", "role", "setup", "stack", "state", "unacknowledged",
    )   # fmt: skip

    def __init__(self, stack: Stack, role: Role, tag: str, call_id: str, flow: Flow, contact: str) -> None:
        self.stack = stack
        self.role = role
        self.id = tag
        self.call_id = call_id
        self.flow = flow                # how the INVITE came or went; the dialog's own flow follows the route set
        self.state = State.SETUP
        self.contact = contact
        self.dialog: Dialog | None = None
        self.setup: UacInvite | UasInvite | None = None         # the first INVITE, until it is confirmed
        self.reoffers: Reoffers | None = None
        self.refresher: Refresher | None = None
        self.unacknowledged: Unconfirmed | None = None          # our 2xx to the latest INVITE
        self.owed: list[Owed] = []
        self.authorize: Authorize | None = None
        self.local_sdp = b""                                    # what a refreshing re-INVITE repeats
        self.farewell: Fields = ()                              # headers for a BYE that has to wait
        self._invite: Request | None = None
        self._invite_bytes = b""
        self._supported: frozenset[str] = frozenset()
        self._allow: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<InviteSession {self.id} {self.role.value} {self.state.value}>"

    # -- what a transaction user may read ------------------------------------------------------------------------

    @property
    def invite(self) -> Request:
        """The first INVITE. Once the session stands it is kept as bytes only, and read anew when somebody asks."""
        if self._invite is not None:
            return self._invite
        invite = parse(self._invite_bytes)
        assert isinstance(invite, Request)
        return invite

    @invite.setter
    def invite(self, request: Request) -> None:
        self._invite = request

    @property
    def offer(self) -> bytes:
        """The session description in the peer's INVITE."""
        return sdp_of(self.invite) if self.role is Role.UAS else b""

    @property
    def may_reoffer(self) -> bool:
        """Whether no offer is under way, so that `reoffer` would be sent at once."""
        return self.state is State.CONFIRMED and not self.modifications.busy and self.unacknowledged is None

    @property
    def unheard_since(self) -> float | None:
        """Of a UAC: since when its INVITE waits for the first response of any kind; None when it does not."""
        return self.setup.unheard_since if isinstance(self.setup, UacInvite) else None

    def remote_supports(self, option_tag: str) -> bool:
        return option_tag in self._supported

    def remote_allows(self, method: str) -> bool:
        return method in self._allow

    # -- the first INVITE ----------------------------------------------------------------------------------------

    def progress(
        self, status: int, now: float, *, body: bytes = b"", headers: Fields = (), reliable: bool | None = None
    ) -> list[Effect]:
        """18x. `reliable` None: only when the peer insists on it (RFC 3262 §3)."""
        if self.state in _CLOSED:
            return []
        return self._as_uas("progress").progress(status, body, tuple(headers), bool(reliable), now)

    def accept(self, now: float, *, body: bytes = b"", headers: Fields = ()) -> list[Effect]:
        """200. The body goes unsent when a reliable 18x has settled the media already (RFC 6337 §3.1)."""
        if self.state in _CLOSED:
            return []
        return self._as_uas("accept").accept(body, tuple(headers), now)

    def reject(self, status: int, now: float, *, reason: str | None = None, headers: Fields = ()) -> list[Effect]:
        """A final response of 300 and above; a redirection is one with Contact among the headers."""
        if self.state in _CLOSED:
            return []
        return self._as_uas("reject").reject(status, reason, headers, now)

    def ack(self, body: bytes, now: float) -> list[Effect]:
        """The answer to an offer that came in a 2xx (`wants_answer`)."""
        if self.state in _CLOSED:
            return []
        if self.state is State.ACCEPTED and isinstance(self.setup, UacInvite):
            return self.setup.ack(body, now)
        return self.modifications.ack(body, now)

    def prack(self, response: Response, body: bytes, now: float) -> list[Effect]:
        """The answer to an offer in a reliable 18x (`wants_answer`), or a new offer once the media are settled."""
        if self.state in _CLOSED or not isinstance(self.setup, UacInvite):
            return []
        return self.setup.prack(response, body, now)

    def _as_uas(self, command: str) -> UasInvite:
        if not isinstance(self.setup, UasInvite) or self.state not in _OPEN:
            raise ProtocolMisuse(f"{command} in a session that is {self.role.value} and {self.state.value}")
        return self.setup

    # -- the end -------------------------------------------------------------------------------------------------

    def hang_up(self, now: float, *, status: int = 480, headers: Fields = ()) -> list[Effect]:
        """Always right, in any state, any number of times; `status` refuses an INVITE that is not answered yet."""
        setup = self.setup
        match self.state, setup:
            case State.SETUP | State.EARLY, UasInvite():
                return setup.reject(status, None, headers, now)
            case State.SETUP | State.EARLY, UacInvite():
                self.state = State.ENDING
                self.farewell = tuple(headers)          # of the BYE, when a 200 crosses the CANCEL
                return [*self._answer_owed(now), *setup.cancel(now, headers)]
            case State.ACCEPTED, UasInvite():
                # No BYE before the ACK, or the callee's BYE could overtake its own 200 (RFC 3261 §15).
                self.state = State.ENDING
                self.farewell = tuple(headers)
                return self._answer_owed(now)
            case State.ACCEPTED, UacInvite():
                effects = [*setup.acknowledge(b"", now), *self.wind_up(now), *self.say_bye(now, headers)]
                self.setup = None
                return effects
            case State.CONFIRMED, _:
                return [*self.wind_up(now), *self.say_bye(now, headers)]
            case _:
                if isinstance(setup, UacInvite):
                    setup.give_up_retrying()
                    self.setup = None           # they know each other: a cycle, if it stayed
                return []

    def finish(
        self, by: Party, cause: EndCause, message: Request | Response | None, now: float, *, bye: Fields | None = None
    ) -> list[Effect]:
        """The session is over by other than our own wish; `bye` has the headers of the BYE that the peer is owed."""
        if self.state is State.ENDED:
            return []
        silent = self.state is State.ENDING
        effects = self.wind_up(now)
        self.setup = None
        if bye is not None:
            effects += self.say_bye(now, bye)
        if not silent:
            effects.append(Ended(self, by, cause, message))
        return effects

    def abort(self, cause: EndCause, message: Request | Response | None, now: float) -> list[Effect]:
        """The peer broke a rule: hang up by whatever the state calls for, and say so."""
        if self.state in _CLOSED:
            return []
        return [*self.hang_up(now, status=500), Ended(self, Party.LOCAL, cause, message)]

    def wind_up(self, now: float) -> list[Effect]:
        """Nothing more will happen: answer what is open, stop all deadlines, leave the table of sessions."""
        given_up, self.state = self.state is State.ENDING, State.ENDED
        effects = self._answer_owed(now)
        if self.unacknowledged is not None:
            self.unacknowledged.confirm()
            self.unacknowledged = None
        if self.refresher is not None:
            self.refresher.stop()
            self.refresher = None
        if self.reoffers is not None:
            effects += self.reoffers.stop(now)
            self.reoffers = None
        if isinstance(self.setup, UasInvite):
            self.setup.stop()
            self.setup = None
        elif given_up:
            self.setup = None               # else a UacInvite stays, for core.retry
        self.forget()
        return effects

    def say_bye(self, now: float, headers: Fields) -> list[Effect]:
        """The session stays known until its BYE is answered: one that crosses it gets a 200 too (RFC 5407 §3.1)."""
        if self.dialog is None:
            return []
        self.register()
        return self.send(self.dialog, "BYE", now, headers)[1]

    def _answer_owed(self, now: float) -> list[Effect]:
        """RFC 3261 §15.1.2: requests still open when the dialog ends get 487."""
        effects: list[Effect] = []
        for owed in self.owed:
            effects += self.stack.table.respond(owed.transaction, owed.request.response(487), now)
        self.owed = []
        return effects

    # -- inside the dialog ---------------------------------------------------------------------------------------

    @property
    def modifications(self) -> Reoffers:
        if self.reoffers is None:
            self.reoffers = Reoffers(self)
        return self.reoffers

    def reoffer(self, body: bytes, now: float, *, headers: Fields = ()) -> list[Effect]:
        """re-INVITE; without a body the peer is asked for an offer."""
        if self.state in _OPEN:
            raise ProtocolMisuse("re-INVITE before the INVITE is answered")
        return self.modifications.offer("INVITE", body, tuple(headers), now)

    def update(self, body: bytes, now: float, *, headers: Fields = ()) -> list[Effect]:
        """UPDATE with an offer, also before the call is answered (RFC 3311)."""
        return self.modifications.offer("UPDATE", body, tuple(headers), now)

    def accept_offer(self, request: Request, body: bytes, now: float) -> list[Effect]:
        """2xx to a re-INVITE, UPDATE or PRACK with our answer; with our offer, when the re-INVITE had none."""
        if not body and self.is_up:
            raise ProtocolMisuse("an offer is accepted by a session description")
        owed = self._take_owed(request)
        return [] if owed is None else self.modifications.accept(owed, body, now)

    def refuse_offer(self, request: Request, status: int, now: float, *, headers: Fields = ()) -> list[Effect]:
        """The session stays as it was (RFC 3261 §14.2)."""
        owed = self._take_owed(request)
        return [] if owed is None else self.modifications.refuse(owed, status, headers, now)

    def request(
        self, method: str, now: float, *, body: bytes = b"", content_type: str = "", headers: Fields = (),
        optional: bool = False,
    ) -> list[Effect]:
        """INFO, REFER, NOTIFY, MESSAGE, ...: the outcome is a `DialogResponse`.

        Deviation from RFC 3261 §12.2.1.2: an `optional` one that finds no answer does not end the dialog. It is for
        what we send of our own accord, to peers that may not even know it.
        """
        dialog = self.current_dialog()
        if self.state in _CLOSED:
            return []
        if dialog is None or method in ("INVITE", "ACK", "BYE", "CANCEL", "PRACK", "UPDATE"):
            raise ProtocolMisuse(f"{method} by request() in a session that is {self.state.value}")
        fields = [("Contact", self.contact), *headers] if method in ("REFER", "NOTIFY", "SUBSCRIBE") else headers
        sent, effects = self.send(dialog, method, now, fields, body, content_type)
        sent.optional = optional
        return effects

    def respond(
        self,
        request: Request,
        status: int,
        now: float,
        *,
        headers: Fields = (),
        body: bytes = b"",
        content_type: str = "",
    ) -> list[Effect]:
        """The answer to a `DialogRequest`."""
        if status >= 200:
            owed = self._take_owed(request)
        else:
            owed = next((owed for owed in self.owed if owed.request is request), None)
        if owed is None:
            return []
        contact = self.contact if status < 300 and request.method in ("REFER", "NOTIFY", "SUBSCRIBE") else None
        response = request.response(status, contact=contact, headers=headers, body=body, content_type=content_type)
        return self.stack.table.respond(owed.transaction, response, now)

    def _take_owed(self, request: Request) -> Owed | None:
        for at, owed in enumerate(self.owed):
            if owed.request is request:
                return self.owed.pop(at)
        return None

    # -- what the core brings: requests of the peer ---------------------------------------------------------------

    def on_request(self, transaction: ServerTransaction, request: Request, flow: Flow, now: float) -> list[Effect]:
        """A new request inside one of our dialogs."""
        respond = self.stack.table.respond
        dialog = self.dialog_with(request.from_tag or "")
        if dialog is None or (self.state in _CLOSED and request.method not in ("BYE", "PRACK")):
            return respond(transaction, request.response(481), now)
        if not dialog.in_order(request) and request.method != "BYE":       # an old BYE still says that the peer is gone
            return respond(transaction, request.response(500, "Out of Order"), now)
        dialog.heard_from(flow)
        match request.method:
            case "BYE":
                done = respond(transaction, request.response(200), now)
                return done + self._on_bye(request, now)
            case "INVITE":
                self.learn_peer(request)
                return self.modifications.on_invite(transaction, request, dialog, flow, now)
            case "UPDATE":
                self.learn_peer(request)
                return self.modifications.on_update(transaction, request, dialog, flow, now)
            case "PRACK" if isinstance(self.setup, UasInvite):
                return self.setup.on_prack(transaction, request, dialog, flow, now)
            case "PRACK":
                return respond(transaction, request.response(481), now)
            case "OPTIONS":
                return respond(transaction, request.response(200, headers=self.stack.capabilities), now)
            case _:
                if len(self.owed) >= MAX_OWED:
                    return respond(transaction, request.response(500, headers=(self.stack.retry_after(),)), now)
                self.owed.append(Owed(transaction, request, dialog, flow))
                return [DialogRequest(self, request)]

    def _on_bye(self, bye: Request, now: float) -> list[Effect]:
        setup = self.setup
        if self.state is State.ENDED:
            return []
        if isinstance(setup, UasInvite) and self.state in _OPEN:
            # The caller may end an early dialog by BYE as well (RFC 3261 §15).
            return [*setup.refuse_quietly(487, now), *self.finish(Party.REMOTE, EndCause.BYE, bye, now)]
        if isinstance(setup, UacInvite) and self.dialog is None:
            return setup.on_early_bye(bye, now)
        effects = setup.acknowledge(b"", now) if isinstance(setup, UacInvite) else []
        return effects + self.finish(Party.REMOTE, EndCause.BYE, bye, now)

    def on_cancel(self, transaction: ServerTransaction, cancel: Request, now: float) -> list[Effect]:
        if isinstance(self.setup, UasInvite) and self.setup.transaction is transaction:
            if self.state not in _OPEN:
                return []
            return [*self.setup.refuse_quietly(487, now), *self.finish(Party.REMOTE, EndCause.CANCELLED, cancel, now)]
        for owed in self.owed:
            if owed.transaction is transaction:
                self.owed.remove(owed)
                return self.modifications.refuse(owed, 487, (), now)
        return []

    def on_ack(self, ack: Request, flow: Flow, now: float) -> list[Effect]:
        """The ACK to our 2xx, to the first INVITE or a later one; a repeated one has nothing to say."""
        waiting = self.unacknowledged
        if waiting is None or waiting.number != ack.cseq.number:
            return []
        waiting.confirm()
        self.unacknowledged = None
        assert self.dialog is not None
        self.dialog.heard_from(flow)
        answer = b""
        if self.dialog.offers.pending is Party.LOCAL:
            answer = sdp_of(ack)
            if not answer and self.state is not State.ENDING:
                self.state = State.CONFIRMED
                return self.abort(EndCause.PROTOCOL_ERROR, ack, now)
            if answer:
                self.dialog.offers.answer()
                self.local_sdp = waiting.response.body
        return self.acknowledged(answer, now)

    def acknowledged(self, answer: bytes, now: float) -> list[Effect]:
        """Our 2xx has arrived, as its ACK or a later INVITE shows."""
        if self.state is State.ENDING:
            return [*self.wind_up(now), *self.say_bye(now, self.farewell)]
        if self.state is not State.ACCEPTED:
            return [AnswerConfirmed(self, answer), *self.modifications.resume(now)]
        self.confirm()
        effects: list[Effect] = [Confirmed(self, answer)]
        return effects if self.reoffers is None else effects + self.reoffers.resume(now)

    def confirm(self) -> None:
        """From here on the session only needs its dialog: let the rest of the first INVITE go."""
        self.state = State.CONFIRMED
        if self._invite is not None:
            self._invite_bytes = self._invite.raw or bytes(self._invite)
            self._invite = None
        if isinstance(self.setup, UasInvite):
            self.setup.stop()
        elif self.setup is not None:
            self.setup.outlived_by_acks(self._invite_bytes)
        self.setup = None

    # -- what the core brings: deadlines ------------------------------------------------------------------------------

    def on_deadline(self, deadline: SessionDeadline, now: float) -> list[Effect]:
        match deadline:
            case SessionDeadline.ACK:
                return self._repeat_answer(now)
            case SessionDeadline.PRACK | SessionDeadline.RINGING:
                return self.setup.on_deadline(deadline, now) if isinstance(self.setup, UasInvite) else []
            case SessionDeadline.GLARE:
                return self.modifications.on_glare_over(now)
            case _:
                return self.refresher.on_deadline(deadline, now) if self.refresher is not None else []

    def _repeat_answer(self, now: float) -> list[Effect]:
        if self.unacknowledged is None:
            return []
        effects = self.unacknowledged.repeat(self, now)
        if effects is not None:
            return effects
        self.unacknowledged = None              # RFC 3261 §13.3.1.4: the dialog is confirmed, but not the session
        bye = self.farewell or (("Reason", NOT_ACKNOWLEDGED),)
        return self.finish(Party.LOCAL, EndCause.NO_ACK, None, now, bye=bye)

    # -- for the parts of the session ------------------------------------------------------------------------------

    def register(self) -> None:
        """From now on requests inside the dialog find the session."""
        self.stack.sessions[self.id] = self

    def forget(self) -> None:
        """Its BYE has been answered, or never will be."""
        self.stack.sessions.pop(self.id, None)

    @property
    def is_up(self) -> bool:
        return self.state in (State.ACCEPTED, State.CONFIRMED)

    @property
    def is_over(self) -> bool:
        return self.state is State.ENDED

    def settled(self, now: float) -> list[Effect]:
        """No offer is open any more: a 200 that waited for that may go."""
        return self.setup.flush(now) if isinstance(self.setup, UasInvite) else []

    def forget_method(self, method: str) -> None:
        self._allow -= {method}

    def dialog_with(self, remote_tag: str) -> Dialog | None:
        if self.dialog is not None:
            return self.dialog if self.dialog.remote_tag == remote_tag else None
        return self.setup.dialogs.get(remote_tag) if isinstance(self.setup, UacInvite) else None

    def current_dialog(self) -> Dialog | None:
        """The dialog; before a UAC's 2xx, the early one that spoke last."""
        if self.dialog is None and isinstance(self.setup, UacInvite):
            return self.setup.latest
        return self.dialog

    def learn_peer(self, message: Message) -> None:
        """What the peer can do, as far as this message says it."""
        supported = self.stack.names_in(message, "Supported")
        if supported is not None:
            self._supported = supported
        allow = self.stack.names_in(message, "Allow")
        if allow is not None:
            self._allow = allow

    def send(
        self, dialog: Dialog, method: str, now: float, fields: Fields = (), body: bytes = b"", content_type: str = ""
    ) -> tuple[Sent, list[Effect]]:
        """A request inside a dialog of this session."""
        via = self.stack.table.new_via(dialog.flow)
        sent = Sent(self, dialog, dialog.request(method, via, fields, body, content_type))
        return sent, sent.start(now)
