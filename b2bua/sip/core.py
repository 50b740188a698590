"""The user agent core: messages, commands and time in, effects out (RFC 3261 §8, §12, and what its sessions do)."""

from __future__ import annotations

from random import Random
from typing import Protocol

from b2bua.sip import session_timer
from b2bua.sip.admission import Admission, Admit, Answer, Balance, Refuse, everyone, malformed, stateless
from b2bua.sip.client_transactions import ClientState
from b2bua.sip.dialog import Dialog, contact_uri
from b2bua.sip.effects import (
    Address,
    Effect,
    EndCause,
    Flow,
    IncomingInvite,
    IncomingRequest,
    Party,
    RequestAnswered,
    Transmit,
)
from b2bua.sip.fields import NameAddr
from b2bua.sip.grammar import ParseError, ProtocolMisuse
from b2bua.sip.headers import Headers
from b2bua.sip.invite_session import InviteSession
from b2bua.sip.message import Request, Response
from b2bua.sip.offer_answer import sdp_of, takes_sdp
from b2bua.sip.return_path import stamp, way_back
from b2bua.sip.server_transactions import ServerState
from b2bua.sip.session_timer import SessionTimerPolicy
from b2bua.sip.stack import CoreConfig, Counters, Fields, Role, SessionDeadline, Stack, State, contact_of
from b2bua.sip.transaction_table import (
    AckReceived,
    CancelReceived,
    ClientTimedOut,
    ClientTransaction,
    ClientTransportFailed,
    RequestReceived,
    ResponseReceived,
    ServerTransaction,
    StrayResponse,
    TransactionEvent,
    TransactionTable,
)
from b2bua.sip.uac_invite import OutgoingInvite, UacInvite
from b2bua.sip.uas_invite import UasInvite
from b2bua.sip.uri import Uri

__all__ = ["CoreConfig", "InviteSession", "OutgoingInvite", "SessionTimerPolicy", "UserAgentCore"]

RETRY_AFTER_OVERLOAD = "5"                                      # seconds
_URI_SCHEMES = frozenset({"sip", "sips", "tel"})
_SILENT = frozenset({ClientState.COMPLETED, ClientState.TERMINATED, ServerState.TERMINATED})
_DIALOG_ONLY = frozenset({"BYE", "PRACK", "UPDATE"})            # methods that mean nothing outside of a dialog


class TransactionUser(Protocol):
    """Whom the outcome of a client transaction concerns."""

    def on_response(
        self, transaction: ClientTransaction, response: Response, flow: Flow, now: float
    ) -> list[Effect]: ...

    def on_failure(self, transaction: ClientTransaction, cause: EndCause, now: float) -> list[Effect]: ...


class _OutOfDialog:
    """The user of a request made by `UserAgentCore.request`."""

    def on_response(self, transaction: ClientTransaction, response: Response, flow: Flow, now: float) -> list[Effect]:
        return [RequestAnswered(transaction, response)] if response.status >= 200 else []

    def on_failure(self, transaction: ClientTransaction, cause: EndCause, now: float) -> list[Effect]:
        """RFC 3261 §8.1.3.1: as if a 408 or 503 had come."""
        status = 408 if cause is EndCause.TIMED_OUT else 503
        return [RequestAnswered(transaction, transaction.request.response(status))]


_OUT_OF_DIALOG = _OutOfDialog()


class _Nobody:
    """The user of a BYE to a branch that nobody asked for."""

    def on_response(self, transaction: ClientTransaction, response: Response, flow: Flow, now: float) -> list[Effect]:
        return []

    def on_failure(self, transaction: ClientTransaction, cause: EndCause, now: float) -> list[Effect]:
        return []


_NOBODY = _Nobody()


class UserAgentCore:
    """All of SIP between the transports and the transaction user. Each input method returns all that it causes.

    `admit` is asked for every request from outside our dialogs and transactions, before anything is kept of it.
    """

    def __init__(self, config: CoreConfig, random: Random, admit: Admit = everyone) -> None:
        self._stack = Stack(config, random)
        self._table = self._stack.table
        self._deadlines = self._stack.deadlines
        self._sessions = self._stack.sessions
        self._admit = admit
        self._balance = Balance()

    # -- what the transports and the clock bring -----------------------------------------------------------------

    def receive(self, message: Request | Response, flow: Flow, now: float) -> list[Effect]:
        if isinstance(message, Request) and not self._is_known(message):
            match self._admit(message, flow):
                case Admission.IGNORE:
                    self.counters.refused += 1
                    return []
                case Refuse() as refuse:
                    self.counters.refused += 1
                    return self._answer(refuse, message, flow)
                case Answer() as answer:
                    return self._answer(self._fault(message, flow) or answer, message, flow)
        return self._settle(self._table.receive(message, flow, now), flow, now)

    def receive_malformed(self, error: ParseError, flow: Flow) -> list[Effect]:
        """What is no message gets its 400 where RFC 3261 allows one, as a stranger may have one at all."""
        request = error.request
        if request is None or not error.answerable or self._admit(request, flow) is Admission.IGNORE:
            return []
        response = malformed(request, error.response(), flow)
        if response is None:
            self.counters.withheld += 1
        return [] if response is None else [Transmit(response, flow)]

    def transport_failed(self, flow: Flow, now: float) -> list[Effect]:
        """A datagram bounced, or a stream connection is gone.

        Sessions with a request open on that flow end by it. The others stay: a phone that lost its connection opens
        another, and what we send meanwhile makes the transport open one; only when that fails, we come here again.
        """
        return self._settle(self._table.transport_failed(flow, now), flow, now)

    def handle_timeout(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for deadline in self._deadlines.due(now):
            owner, timer = deadline.owner, deadline.timer
            if isinstance(owner, InviteSession):
                assert isinstance(timer, SessionDeadline)
                effects += owner.on_deadline(timer, now)
            else:
                assert isinstance(owner, ClientTransaction | ServerTransaction)
                if timer is SessionDeadline.UNSENT:
                    assert isinstance(owner, ClientTransaction)
                    effects += self._user(owner).on_failure(owner, EndCause.TRANSPORT_FAILED, now)
                else:
                    effects += self._settle(self._table.handle(owner, timer, now), owner.flow, now)
                _part_if_over(owner)
        return effects

    @property
    def next_timeout(self) -> float | None:
        return self._deadlines.next

    # -- commands ------------------------------------------------------------------------------------------------

    def invite(self, outgoing: OutgoingInvite, flow: Flow, now: float) -> tuple[InviteSession, list[Effect]]:
        """Place a call."""
        contact = contact_of(flow, outgoing.contact_user, secure=outgoing.request_uri.scheme == "sips")
        stack = self._stack
        session = InviteSession(stack, Role.UAC, stack.identify(), outgoing.call_id or stack.identify(), flow, contact)
        session.authorize = outgoing.authorize
        session.setup = setup = UacInvite(session, outgoing)
        session.register()
        return session, setup.start(now)

    def retry(
        self, session: InviteSession, headers: Fields, now: float, *, offer: bytes = b""
    ) -> tuple[InviteSession, list[Effect]]:
        """The same call again after a `Rejected`, with these headers added: all credentials so far among them. `offer`:
        instead of the one that was refused."""
        if session.role is not Role.UAC:
            raise ProtocolMisuse("only a call of ours can be tried again")
        setup = session.setup
        return session, setup.retry(now, tuple(headers), offer) if isinstance(setup, UacInvite) else []

    def request(
        self,
        method: str,
        uri: Uri,
        from_: NameAddr,
        to: NameAddr,
        flow: Flow,
        now: float,
        *,
        headers: Fields = (),
        body: bytes = b"",
        content_type: str = "",
        call_id: str | None = None,
        cseq: int | None = None,
    ) -> tuple[ClientTransaction, list[Effect]]:
        """A request outside of dialogs: REGISTER, OPTIONS, MESSAGE. Its outcome is a `RequestAnswered`."""
        if method in ("INVITE", "ACK", "CANCEL"):
            raise ProtocolMisuse(f"{method} is not sent by request()")
        stack = self._stack
        fields = [
            ("Via", self._table.new_via(flow)), ("Max-Forwards", "70"),
            ("From", str(from_ if from_.tag else from_.with_tag(stack.identify()))), ("To", str(to)),
            ("Call-ID", call_id or stack.identify()), ("CSeq", f"{cseq or 1} {method}"), *headers,
        ]
        if body:
            fields.append(("Content-Type", content_type or "application/sdp"))
        return stack.send(Request(method, uri, Headers(fields), body), flow, _OUT_OF_DIALOG, now)

    def notify(
        self, dialog: Dialog, headers: Fields, body: bytes, content_type: str, now: float
    ) -> tuple[ClientTransaction, list[Effect]]:
        """A NOTIFY in a subscription's own dialog. Its outcome is a `RequestAnswered`."""
        about_us = (*headers, *self._stack.about_us[::2])
        request = dialog.request("NOTIFY", self._table.new_via(dialog.flow), about_us, body, content_type)
        return self._stack.send(request, dialog.flow, _OUT_OF_DIALOG, now)

    def respond(self, transaction: ServerTransaction, response: Response, now: float) -> list[Effect]:
        """The answer to an `IncomingRequest`."""
        return self._table.respond(transaction, response, now)

    def abandon(self, transaction: ServerTransaction) -> None:
        """No answer to this `IncomingRequest`, ever: whoever sent it learns nothing."""
        self._table.abandon(transaction)

    # -- what can be seen ----------------------------------------------------------------------------------------

    def find(self, call_id: str, local_tag: str, remote_tag: str) -> InviteSession | None:
        """The session of that dialog, as Replaces names it (RFC 3891 §3); its BYE may be on its way."""
        session = self._sessions.get(local_tag)
        if session is None or session.call_id != call_id:
            return None
        return None if session.dialog_with(remote_tag) is None else session

    @property
    def capabilities(self) -> tuple[tuple[str, str], ...]:
        """What a 200 to OPTIONS says, what matters most first (RFC 3261 §11.2)."""
        return self._stack.capabilities

    @property
    def config(self) -> CoreConfig:
        return self._stack.config

    def new_tag(self) -> str:
        return self._stack.identify()

    @property
    def counters(self) -> Counters:
        return self._stack.counters

    @property
    def transactions(self) -> TransactionTable:
        return self._table

    @property
    def session_count(self) -> int:
        return len(self._sessions)

    def sources_in_sessions(self) -> frozenset[Address]:
        """Addresses, with their ports, of those with whom we have a dialog; an INVITE alone proves nothing."""
        sessions = self._sessions.values()
        return frozenset(session.flow.remote for session in sessions if session.state is not State.SETUP)

    @property
    def transaction_count(self) -> int:
        return self._table.live_clients + self._table.live_servers

    @property
    def refused(self) -> int:
        return self.counters.refused

    # -- messages ------------------------------------------------------------------------------------------------

    def _is_known(self, request: Request) -> bool:
        """Those who hold a dialog or transaction with us have been admitted; an ACK gets no answer anyway."""
        if request.method == "ACK":
            return True
        tag = request.to_tag
        if tag is not None and self._session_of(request, tag) is not None:
            return True
        return self._table.knows(request)

    def _answer(self, answer: Answer, request: Request, flow: Flow) -> list[Effect]:
        self._table.count_stateless(request.method, answer.status)
        stamp(request, flow.remote)
        response = stateless(answer, request, flow, self._balance)
        if response is None:
            self.counters.withheld += 1
            return []
        return [Transmit(response, way_back(request.via, flow))]

    def _fault(self, request: Request, flow: Flow) -> Answer | None:
        """What is wrong with a request that needs no transaction, and is in no dialog of ours."""
        try:
            if request.max_forwards == 0:
                self._table.counters.too_many_hops += 1
                return Answer(483)
            return self._refusal(request, flow) or (None if request.to_tag is None else Answer(481))
        except ParseError as error:
            self.counters.malformed += 1
            return Answer(error.status, reason=error.reason)

    def _session_of(self, request: Request, local_tag: str) -> InviteSession | None:
        session = self._sessions.get(local_tag)
        if session is None or session.call_id != request.call_id:
            return None
        return session

    def _settle(self, outcomes: list[Effect | TransactionEvent], flow: Flow, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for outcome in outcomes:
            match outcome:
                case Transmit():
                    effects.append(outcome)
                case RequestReceived(transaction, request):
                    effects += self._on_request(transaction, request, flow, now)
                case ResponseReceived(response_to, response):
                    effects += self._on_response(response_to, response, flow, now)
                    _part_if_over(response_to)
                case AckReceived(ack):
                    effects += self._on_ack(ack, flow, now)
                case CancelReceived(invite, cancel):
                    if isinstance(invite.user, InviteSession):
                        effects += invite.user.on_cancel(invite, cancel, now)
                case ClientTimedOut(failed):
                    effects += self._user(failed).on_failure(failed, EndCause.TIMED_OUT, now)
                    _part_if_over(failed)
                case ClientTransportFailed(failed):
                    effects += self._user(failed).on_failure(failed, EndCause.TRANSPORT_FAILED, now)
                    _part_if_over(failed)
                case StrayResponse():
                    self.counters.strays += 1
                case _:
                    raise AssertionError(f"no transaction says {outcome}")
        return effects

    def _user(self, transaction: ClientTransaction) -> TransactionUser:
        user = transaction.user
        return _NOBODY if user is None else user    # type: ignore[return-value]     # only `Stack.send` sets it

    def _on_response(self, transaction: ClientTransaction, response: Response, flow: Flow, now: float) -> list[Effect]:
        user = self._user(transaction)
        try:
            return user.on_response(transaction, response, flow, now)
        except ParseError:
            # One of its fields makes no sense. Without its final response, what waits for it must end all the same.
            self.counters.malformed += 1
            return user.on_failure(transaction, EndCause.PROTOCOL_ERROR, now) if response.status >= 200 else []

    def _on_ack(self, ack: Request, flow: Flow, now: float) -> list[Effect]:
        tag = ack.to_tag
        session = None if tag is None else self._session_of(ack, tag)
        if session is None:
            self.counters.strays += 1
            return []
        return session.on_ack(ack, flow, now)

    def _on_request(self, transaction: ServerTransaction, request: Request, flow: Flow, now: float) -> list[Effect]:
        try:
            return self._dispatch(transaction, request, flow, now)
        except ParseError as error:
            self.counters.malformed += 1
            response = request.response(error.status, error.reason, to_tag=self.new_tag())
            return self._table.respond(transaction, response, now)

    def _dispatch(self, transaction: ServerTransaction, request: Request, flow: Flow, now: float) -> list[Effect]:
        refusal = self._refusal(request, flow)
        tag = request.to_tag
        if tag is not None:
            session = self._session_of(request, tag)
            if session is None and request.method == "SUBSCRIBE" and refusal is None:
                return [IncomingRequest(transaction, request, flow)]
            if session is None:
                refusal = Answer(481)
            elif refusal is None:
                return session.on_request(transaction, request, flow, now)
        elif refusal is None:
            if request.method == "INVITE":
                return self._on_invite(transaction, request, flow, now)
            return [IncomingRequest(transaction, request, flow)]
        assert refusal is not None
        response = request.response(
            refusal.status, refusal.reason, to_tag=self._stack.identify(), headers=refusal.headers)
        return self._table.respond(transaction, response, now)

    def _refusal(self, request: Request, flow: Flow) -> Answer | None:
        """What every request must meet, in the order of RFC 3261 §8.2; None: it does."""
        stack, method = self._stack, request.method
        supported = stack.supported_of_registrar if method == "REGISTER" else stack.supported
        headers: list[tuple[str, str]] = []
        if method not in stack.allow:
            status, headers = 405, [stack.allow_field]
        elif request.uri.scheme not in _URI_SCHEMES:
            status = 416
        elif request.uri.scheme == "sips" and not flow.transport.secure:
            # It was promised TLS on every hop and came without (RFC 5630 §3.1.1). Not a 416, as that would have it
            # sent again as sip, in the clear.
            return Answer(403, reason="SIPS Needs TLS")
        elif not request.require <= supported:
            status, headers = 420, [("Unsupported", ", ".join(sorted(request.require - supported)))]
        elif not _is_plain(request):
            status, headers = 415, [("Accept-Encoding", "identity")]
        elif method == "INVITE" and request.body and not _is_session_description(request):
            status, headers = 415, [("Accept", "application/sdp")]
        elif method == "INVITE" and not takes_sdp(request):
            status = 406
        elif method in _DIALOG_ONLY and request.to_tag is None:
            status = 481
        else:
            return None
        return Answer(status, tuple(headers))

    def _on_invite(self, transaction: ServerTransaction, invite: Request, flow: Flow, now: float) -> list[Effect]:
        """A call comes in: 100, and the rest is the transaction user's."""
        stack = self._stack
        refusal: Response | None = None
        if len(self._sessions) >= stack.config.max_sessions:
            self.counters.overloaded += 1
            refusal = invite.response(503, to_tag=stack.identify(), headers=[("Retry-After", RETRY_AFTER_OVERLOAD)])
        elif contact_uri(invite) is None and (invite.contacts or invite.via.has_magic_cookie):
            raise ParseError("Contact is missing")              # RFC 2543 did not ask for one: From is the target
        elif session_timer.is_too_brief(stack.config.session_timer, invite):
            headers = [("Min-SE", str(stack.config.session_timer.min_se))]
            refusal = invite.response(422, to_tag=stack.identify(), headers=headers)
        if refusal is not None:
            return self._table.respond(transaction, refusal, now)
        session = self._incoming(transaction, invite, flow)
        return [*self._table.trying(transaction, now), IncomingInvite(session)]

    def _incoming(self, transaction: ServerTransaction, invite: Request, flow: Flow) -> InviteSession:
        tag = self._stack.identify()
        dialog = Dialog.as_uas(invite, tag, flow)
        if sdp_of(invite):
            dialog.offers.offer(Party.REMOTE)
        contact = contact_of(flow, invite.uri.user, secure=invite.uri.scheme == "sips")
        session = InviteSession(self._stack, Role.UAS, tag, invite.call_id, flow, contact)
        session.invite = invite
        session.dialog = dialog
        session.learn_peer(invite)
        session.setup = UasInvite(session, transaction)
        session.register()
        transaction.to_tag = tag
        transaction.user = session
        return session


def _part_if_over(transaction: ClientTransaction | ServerTransaction) -> None:
    """Nobody will hear of it again, however long it lingers; and what it and its user know of each other would wait
    for the collector."""
    if transaction.state in _SILENT:
        transaction.user = None


def _is_plain(request: Request) -> bool:
    return (request.headers.get("Content-Encoding") or "identity").strip().lower() == "identity"


def _is_session_description(request: Request) -> bool:
    """Whether we can make something of the body, or need not (RFC 3261 §20.11: handling=optional)."""
    if sdp_of(request):
        return True
    disposition = (request.headers.get("Content-Disposition") or "").lower()
    return "handling=optional" in disposition.replace(" ", "")


