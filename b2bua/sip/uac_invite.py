"""The caller's side of the first INVITE: early dialogs of all branches, ACK, CANCEL, late 200s (RFC 3261 §13.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from b2bua.sip import session_timer
from b2bua.sip.client_transactions import ClientState
from b2bua.sip.dialog import Dialog
from b2bua.sip.effects import (
    Answered,
    Effect,
    EndCause,
    Flow,
    Party,
    Provisional,
    Rejected,
    Transmit,
)
from b2bua.sip.fields import NameAddr
from b2bua.sip.grammar import ProtocolMisuse
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request, Response
from b2bua.sip.offer_answer import sdp_of
from b2bua.sip.parser import parse
from b2bua.sip.refresher import agreed_by
from b2bua.sip.sent import MAX_TRIES, acknowledgement
from b2bua.sip.stack import Authorize, Fields, Stack, State
from b2bua.sip.uri import Uri

if TYPE_CHECKING:
    from b2bua.sip.invite_session import InviteSession
    from b2bua.sip.transaction_table import ClientTransaction

MAX_BRANCHES = 16           # early dialogs, and 200s of other branches, of one INVITE


@dataclass(frozen=True, slots=True)
class OutgoingInvite:
    """What a call is made of. `routes` are values of Route fields; `from_` has no tag."""

    request_uri: Uri
    from_: NameAddr
    to: NameAddr
    contact_user: str = ""
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    routes: tuple[str, ...] = ()
    call_id: str | None = None
    max_forwards: int = 70
    authorize: Authorize | None = None
    reliable: bool = True       # a reliable 18x is welcome; without an offer of ours it brings one (RFC 3262 §5)


class Acks:
    """What is left of an INVITE when its call stands: the ACK to each branch that said 2xx (RFC 3261 §13.2.2.4).

    The `user` of the INVITE's transaction for as long as that lingers: a repeated 2xx gets its ACK again, that of a
    further branch an ACK and a BYE, on a dialog that nobody will see.
    """

    __slots__ = ("_by_tag", "_flow", "_invite", "_stack")

    def __init__(self, stack: Stack, flow: Flow) -> None:
        self._stack = stack
        self._flow = flow
        self._invite = b""
        self._by_tag: dict[str, Transmit] = {}

    def __contains__(self, tag: str) -> bool:
        return tag in self._by_tag

    def outlive(self, invite: bytes) -> Acks:
        self._invite = invite
        return self

    def on_response(self, transaction: ClientTransaction, response: Response, flow: Flow, now: float) -> list[Effect]:
        if not 200 <= response.status < 300:
            return []
        again = self.again(response)
        if again is not None:
            return [again]
        invite = parse(self._invite)
        assert isinstance(invite, Request)
        return self.decline(invite, response, flow, now)

    def on_failure(self, transaction: ClientTransaction, cause: EndCause, now: float) -> list[Effect]:
        return []

    def again(self, response: Response) -> Transmit | None:
        """The ACK that this 2xx has had already, and which was lost."""
        return self._by_tag.get(response.to_tag or "")

    def first(self, dialog: Dialog, invite: Request, body: bytes) -> Transmit:
        ack = self._by_tag[dialog.remote_tag] = acknowledgement(self._stack, dialog, invite, body)
        ack.message.condense()
        return ack

    def decline(self, invite: Request, response: Response, flow: Flow, now: float) -> list[Effect]:
        """Another branch has answered first."""
        stack = self._stack
        if len(self._by_tag) >= MAX_BRANCHES:
            stack.counters.too_many_branches += 1
            return []
        dialog = Dialog.as_uac(invite, response, self.source(flow))
        bye = dialog.request("BYE", stack.table.new_via(dialog.flow))
        return [self.first(dialog, invite, b""), *stack.send(bye, dialog.flow, None, now)[1]]

    def source(self, flow: Flow) -> Flow:
        """A stream's connection is known by its responses; by UDP the peer is where the INVITE found it."""
        return flow if flow.transport.reliable else self._flow


class UacInvite:
    """The `user` of its INVITE transaction until the call is confirmed; then only its ACKs are left of it."""

    __slots__ = (
        "_acks", "_flow", "_may_retry", "_min_se", "_number", "_sent_at", "_tries", "_winner",
        "dialogs", "latest", "outgoing", "session", "transaction",
    )   # fmt: skip

    def __init__(self, session: InviteSession, outgoing: OutgoingInvite) -> None:
        self.session = session
        self.outgoing = outgoing
        self.transaction: ClientTransaction | None = None
        self.dialogs: dict[str, Dialog] = {}            # early ones, by the peer's tag
        self.latest: Dialog | None = None               # of these, the one that spoke last
        self._flow = session.flow
        self._number = 0
        self._tries = 0
        self._sent_at = 0.0
        self._min_se = 0
        self._winner: Dialog | None = None
        self._acks = Acks(session.stack, session.flow)
        self._may_retry = False

    def start(self, now: float, credentials: Fields = ()) -> list[Effect]:
        """Send the INVITE, for the first time or with what its refusal taught us."""
        session, outgoing = self.session, self.outgoing
        stack, flow = session.stack, self._flow
        about_us = stack.about_us if outgoing.reliable else stack.about_us_reoffering
        self._number += 1
        self._tries += 1
        self._sent_at = now
        fields = [
            ("Via", stack.table.new_via(flow)), ("Max-Forwards", str(outgoing.max_forwards)),
            *[("Route", route) for route in outgoing.routes],
            ("From", str(outgoing.from_.with_tag(session.id))), ("To", str(outgoing.to)), ("Call-ID", session.call_id),
            ("CSeq", f"{self._number} INVITE"), ("Contact", session.contact), *about_us,
            *session_timer.asked(stack.config.session_timer, None, self._min_se), *outgoing.headers, *credentials,
        ]
        if outgoing.body:
            fields.append(("Content-Type", "application/sdp"))
        session.invite = invite = Request("INVITE", outgoing.request_uri, Headers(fields), outgoing.body)
        self.transaction, effects = stack.send(invite, flow, self, now)
        return effects

    def retry(self, now: float, credentials: Fields, offer: bytes = b"") -> list[Effect]:
        """The same call once more, after a Rejected (RFC 3261 §8.1.3.5); nothing when it was given up meanwhile."""
        if not self._may_retry:
            return []
        if offer:
            self.outgoing = replace(self.outgoing, body=offer)
        self._reopen()
        return self.start(now, credentials)

    @property
    def unheard_since(self) -> float | None:
        """When the INVITE went out that got no response yet, not even a 100; None once it got one."""
        calling = self.transaction is not None and self.transaction.state is ClientState.CALLING
        return self._sent_at if calling else None

    def give_up_retrying(self) -> None:
        self._may_retry = False

    def outlived_by_acks(self, invite: bytes) -> None:
        """The call is confirmed: the transaction goes on without us."""
        if self.transaction is not None and self.transaction.user is self:
            self.transaction.user = self._acks.outlive(invite)

    # -- commands ------------------------------------------------------------------------------------------------

    def cancel(self, now: float, headers: Fields) -> list[Effect]:
        assert self.transaction is not None
        stack = self.session.stack
        return stack.effects(stack.table.cancel(self.transaction, now, headers), now)

    def ack(self, body: bytes, now: float) -> list[Effect]:
        """The answer to the offer in the 2xx."""
        session, dialog = self.session, self._winner
        if dialog is None or dialog.offers.pending is not Party.REMOTE or not body:
            raise ProtocolMisuse("no answer is owed in an ACK, or it is empty")
        dialog.offers.answer()
        session.local_sdp = body
        effects = self.acknowledge(body, now)
        session.confirm()
        return effects + session.modifications.resume(now)

    def acknowledge(self, body: bytes, now: float) -> list[Effect]:
        """ACK the 2xx that counts, unless that was done."""
        dialog = self._winner
        if dialog is None or dialog.remote_tag in self._acks:
            return []
        return [self._ack(dialog, body)]

    def prack(self, response: Response, body: bytes, now: float) -> list[Effect]:
        dialog = self.dialogs.get(response.to_tag or "") or self._winner
        if dialog is None or response.rseq is None:
            raise ProtocolMisuse("PRACK without a reliable provisional response")
        offers = dialog.offers
        if body and offers.pending is Party.REMOTE:
            offers.answer()
            self.session.local_sdp = body
            return self._prack(dialog, response, body, now)
        if body and (offers.pending is not None or not offers.settled):
            raise ProtocolMisuse("offers overlap")
        if body:
            offers.offer(Party.LOCAL)
        return self._prack(dialog, response, body, now, is_offer=bool(body))

    # -- the outcome ---------------------------------------------------------------------------------------------

    def on_response(self, transaction: ClientTransaction, response: Response, flow: Flow, now: float) -> list[Effect]:
        if transaction is not self.transaction or response.status == 100:
            return []
        if response.status < 200:
            return self._on_provisional(response, flow, now)
        if response.status < 300:
            return self._on_success(response, flow, now)
        return self._on_refusal(response, now)

    def on_failure(self, transaction: ClientTransaction, cause: EndCause, now: float) -> list[Effect]:
        """No final response, or none that can be read."""
        if transaction is not self.transaction:
            return []
        if self._winner is None:
            return self.session.finish(Party.LOCAL, cause, None, now)
        return self.session.abort(cause, None, now) if self.session.state is State.ACCEPTED else []

    def on_early_bye(self, bye: Request, now: float) -> list[Effect]:
        """A callee must not do this (RFC 3261 §15): that branch is out, the INVITE goes on."""
        dialog = self.dialogs.pop(bye.from_tag or "", None)
        if dialog is self.latest:
            self.latest = None
        return []

    def _on_provisional(self, response: Response, flow: Flow, now: float) -> list[Effect]:
        session = self.session
        if session.state not in (State.SETUP, State.EARLY):
            return []                                           # cancelled, or another branch has answered
        tag = response.to_tag
        if tag is None:
            return [Provisional(session, response)]             # no dialog comes of it (RFC 3261 §12.1)
        dialog = self._early_dialog(tag, response, flow)
        if dialog is None or not self._is_next(dialog, response):
            return []
        self.latest = dialog
        session.state = State.EARLY
        session.learn_peer(response)
        dialog.offers.previewed = sdp_of(response) or dialog.offers.previewed
        if "100rel" not in response.require or response.rseq is None:
            return [Provisional(session, response)]
        return self._on_reliable(dialog, response, now)

    def _on_reliable(self, dialog: Dialog, response: Response, now: float) -> list[Effect]:
        offers, session = dialog.offers, self.session
        if sdp_of(response):
            if offers.pending is Party.LOCAL:
                offers.answer()
                session.local_sdp = self.outgoing.body
            elif offers.pending is None and not offers.settled:
                offers.offer(Party.REMOTE)
                return [Provisional(session, response, wants_answer=True)]
        return [*self._prack(dialog, response, b"", now), Provisional(session, response)]

    def _is_next(self, dialog: Dialog, response: Response) -> bool:
        """RFC 3262 §4: reliable responses are taken in their order; a repeated one is PRACKed already."""
        rseq = response.rseq
        if "100rel" not in response.require or rseq is None:
            return True
        if dialog.rseq is not None and rseq != dialog.rseq + 1:
            return False
        dialog.rseq = rseq
        return True

    def _prack(
        self, dialog: Dialog, response: Response, body: bytes, now: float, *, is_offer: bool = False
    ) -> list[Effect]:
        rack = f"{response.rseq} {response.cseq.number} {response.cseq.method}"
        sent, effects = self.session.send(dialog, "PRACK", now, (("RAck", rack),), body)
        sent.holds_offer = is_offer
        return effects

    def _on_success(self, response: Response, flow: Flow, now: float) -> list[Effect]:
        tag = response.to_tag or ""
        if (ack := self._acks.again(response)) is not None:
            return [ack]
        session = self.session
        if self._winner is not None:
            return [] if tag == self._winner.remote_tag else self._acks.decline(session.invite, response, flow, now)
        dialog = self.dialogs.get(tag)
        if dialog is None:
            dialog = self._new_dialog(response, flow)
        else:
            dialog.learn_route(response, flow)
        self._winner = session.dialog = dialog
        self.dialogs = {}
        self.latest = None
        if session.state is not State.SETUP and session.state is not State.EARLY:
            # It crossed our CANCEL (RFC 3261 §9.1): accept it, to end it at once.
            return [self._ack(dialog, b""), *session.wind_up(now), *session.say_bye(now, session.farewell)]
        session.state = State.ACCEPTED
        session.learn_peer(response)
        agreed_by(session, response, now)
        return self._on_answer(dialog, response, now)

    def _on_answer(self, dialog: Dialog, response: Response, now: float) -> list[Effect]:
        session, offers, sdp = self.session, dialog.offers, sdp_of(response)
        if offers.pending is None and not offers.settled and sdp:
            offers.offer(Party.REMOTE)
            return [Answered(session, response, sdp, wants_answer=True)]
        if offers.pending is Party.LOCAL and not offers.settled and (sdp or offers.previewed):
            # Deviation: the answer has to be in the 2xx even if an unreliable 18x showed it (RFC 3261 §13.2.1), but
            # some gateways leave it out there.
            offers.answer()
            session.local_sdp = self.outgoing.body
        if not offers.settled:                                  # it owes an answer, or came before our PRACK with one
            return session.abort(EndCause.PROTOCOL_ERROR, response, now)
        effects: list[Effect] = [self._ack(dialog, b""), Answered(session, response, sdp or offers.previewed)]
        session.confirm()
        return effects if session.reoffers is None else effects + session.reoffers.resume(now)

    def _on_refusal(self, response: Response, now: float) -> list[Effect]:
        session = self.session
        if self._winner is not None:
            return []
        effects = session.wind_up(now)
        if session.setup is None:
            return effects
        min_se = response.min_se if response.status == 422 else None
        if min_se is not None and min_se > self._min_se and self._tries < MAX_TRIES:
            self._min_se = min_se                               # RFC 4028 §7.3
            self._reopen()
            return effects + self.start(now)
        self._may_retry = True
        return [*effects, Rejected(session, response)]

    def _reopen(self) -> None:
        session = self.session
        self._may_retry = False
        self.dialogs = {}
        self.latest = None
        session.state = State.SETUP
        session.register()

    # -- dialogs -------------------------------------------------------------------------------------------------

    def _early_dialog(self, tag: str, response: Response, flow: Flow) -> Dialog | None:
        dialog = self.dialogs.get(tag)
        if dialog is not None:
            dialog.refresh_target(response, self._acks.source(flow))
            return dialog
        if len(self.dialogs) >= MAX_BRANCHES:
            self.session.stack.counters.too_many_branches += 1
            return None
        dialog = self.dialogs[tag] = self._new_dialog(response, flow)
        return dialog

    def _new_dialog(self, response: Response, flow: Flow) -> Dialog:
        dialog = Dialog.as_uac(self.session.invite, response, self._acks.source(flow))
        if self.outgoing.body:
            dialog.offers.offer(Party.LOCAL)                    # each branch answers the INVITE's offer for itself
        return dialog

    def _ack(self, dialog: Dialog, body: bytes) -> Transmit:
        return self._acks.first(dialog, self.session.invite, body)
