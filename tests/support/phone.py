"""A fake phone, or a fake trunk: rings, answers, refuses, calls, holds and hangs up as told, and remembers what it saw.

It stands on b2bua.sip.core and on any transport of b2bua/net or of tests.support.network.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from b2bua.net.transport import MessageTransport
from b2bua.sip.auth import DigestClient
from b2bua.sip.client_transactions import ClientTransaction
from b2bua.sip.core import CoreConfig, OutgoingInvite, UserAgentCore
from b2bua.sip.effects import (
    Address,
    AnswerConfirmed,
    Answered,
    Confirmed,
    DialogRequest,
    DialogResponse,
    Effect,
    Ended,
    Flow,
    IncomingInvite,
    IncomingRequest,
    OfferAnswered,
    OfferReceived,
    OfferRefused,
    Provisional,
    Rejected,
    RequestAnswered,
    TlsPeer,
    Transmit,
)
from b2bua.sip.fields import NameAddr
from b2bua.sip.invite_session import InviteSession
from b2bua.sip.message import Request, Response
from b2bua.sip.parser import parse
from b2bua.sip.stack import contact_of
from b2bua.sip.uas_invite import UasInvite
from b2bua.sip.uri import Uri
from tests.support.network import Network, Sink

_DIRECTION = re.compile(rb"(?m)^a=(sendrecv|sendonly|recvonly|inactive)\r?$")
_MIRROR = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}

_ON_HOLD = {"sendrecv": "sendonly", "sendonly": "sendonly", "recvonly": "inactive", "inactive": "inactive"}
# Real phones' REGISTERs are as long as our challenge, or they would wait for it until they have asked again.
SAID_BY_PHONES = (("User-Agent", "Phone of the tests"), ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE"))



@dataclass(frozen=True, slots=True)
class Answers:
    """Rings, is picked up, and perhaps hangs up."""

    after: float = 2.0
    hangs_up_after: float | None = None
    rings: bool = True                    # else there is a 100 and no more


@dataclass(frozen=True, slots=True)
class Rejects:
    status: int = 486
    after: float = 0.0
    contact: str = ""                     # of a redirection
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""                     # SDP: what it can do (RFC 3261 §21.4.26)


@dataclass(frozen=True, slots=True)
class Rings:
    """Rings until somebody gives up."""


@dataclass(frozen=True, slots=True)
class Dead:
    """Switched off: takes nothing, says nothing."""


Behaviour = Answers | Rejects | Rings | Dead


@dataclass(eq=False)
class PhoneCall:
    """One call as this phone saw it."""

    phone: Phone
    session: InviteSession
    caller: str                           # user part of From
    shown: str                            # display name of From: what the display says
    sdp: bytes = b""                      # the peer's last offer or answer
    status: int | None = None             # of the final response
    reason: str = ""
    why: str = ""                         # the other end's Reason field (RFC 3326)
    rang_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    ended: Ended | None = None
    requests: list[Request] = field(default_factory=list)       # in the dialog: INFO, NOTIFY, ...
    responses: list[int] = field(default_factory=list)          # to what we asked in the dialog
    holds: bool = False                   # does not want to hear the other end, whatever that offers
    answers: list[Response] = field(default_factory=list)       # the same, whole
    answers_with: int = 200                                     # to a request in the dialog; 0: with nothing
    rang: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)            # there is a first one in `requests`
    agreed: asyncio.Event = field(default_factory=asyncio.Event)           # the other end took our re-INVITE
    changed: asyncio.Event = field(default_factory=asyncio.Event)          # it made an offer, and we took that

    @property
    def call_id(self) -> str:
        return self.session.invite.call_id

    @property
    def direction(self) -> str:
        """Of the peer's last SDP: how it wants to send."""
        return direction_of(self.sdp)

    def ladder(self) -> list[str]:
        """Methods and status codes in the order in which they were sent and came, without repetitions."""
        return list(self.phone.ladders[self.call_id])

    def answer(self) -> None:
        if not self.over.is_set() and not self.answered.is_set():
            self._answered()
            self.status = 200
            self.phone.do(self.session.accept(self.phone.now(), body=self.phone.answer_to(self.sdp)))

    def reject(
        self, status: int, contact: str = "", headers: Sequence[tuple[str, str]] = (), body: bytes = b""
    ) -> None:
        if not self.over.is_set() and not self.answered.is_set():
            self.status = status
            headers = [*([("Contact", contact)] if contact else []), *headers]
            if body:
                self._refuse_with(status, headers, body)
            else:
                self.phone.do(self.session.reject(status, self.phone.now(), headers=headers))
            self.finish()

    def _refuse_with(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """We never describe ourselves in a refusal; others do."""
        setup, now = self.session.setup, self.phone.now()
        assert isinstance(setup, UasInvite)
        invite, tag = self.session.invite, self.session.id
        response = invite.response(status, to_tag=tag, headers=headers, body=body, content_type="application/sdp")
        self.phone.do(self.phone.core.respond(setup.transaction, response, now))
        self.phone.do(self.session.wind_up(now))

    def hang_up(self, *headers: tuple[str, str]) -> None:
        if not self.over.is_set():
            self.phone.do(self.session.hang_up(self.phone.now(), headers=headers))
            self.finish()

    def offer(self, direction: str) -> None:
        """Re-INVITE: "sendonly" holds, "sendrecv" resumes."""
        self.phone.do(self.session.reoffer(self.phone.sdp(direction), self.phone.now()))

    async def agree(self, direction: str) -> None:
        """The same, until the other end has taken it."""
        self.agreed.clear()
        self.offer(direction)
        await self.agreed.wait()

    async def offered(self, direction: str) -> None:
        """Wait until the other end has made its offer of this direction."""
        while self.direction != direction:
            self.changed.clear()
            await self.changed.wait()

    def info(self, body: str, content_type: str) -> None:
        self.phone.do(self.session.request("INFO", self.phone.now(), body=body.encode(), content_type=content_type))

    def ask(self, method: str, body: bytes = b"", content_type: str = "", *headers: tuple[str, str]) -> None:
        """Any other request in the dialog."""
        effects = self.session.request(
            method, self.phone.now(), body=body, content_type=content_type, headers=headers
        )
        self.phone.do(effects)

    def reoffer(self, sdp: bytes) -> None:
        """Re-INVITE with this offer, or (b"") without one."""
        self.phone.do(self.session.reoffer(sdp, self.phone.now()))

    def refer(self, target: str, *headers: tuple[str, str]) -> None:
        """Ask the other end to call somebody else: the value of Refer-To."""
        fields = (("Refer-To", target), *headers)
        self.phone.do(self.session.request("REFER", self.phone.now(), headers=fields))

    @property
    def replaces(self) -> str:
        """How another call may name this one (RFC 3891)."""
        dialog = self.session.current_dialog()
        assert dialog is not None
        return f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}"

    def refer_to(self, other: PhoneCall) -> None:
        """Attended transfer: the two whom this phone talks to shall talk to each other."""
        uri = Uri("sip", "somebody", self.phone.server.host, headers={"Replaces": other.replaces})
        self.refer(f"<{uri}>")

    @property
    def notified(self) -> list[tuple[str, str]]:
        """Of each NOTIFY, what it says of the transfer, and the subscription's state."""
        return [
            (request.body.decode().strip().removeprefix("SIP/2.0 "), request.headers.get("Subscription-State") or "")
            for request in self.requests
            if request.method == "NOTIFY"
        ]

    def finish(self, ended: Ended | None = None) -> None:
        self.ended, self.ended_at = ended, self.phone.now()
        if ended is not None and ended.message is not None:
            self.why = ", ".join(ended.message.headers.get_all("Reason"))
        self.over.set()

    def hear(self, effect: Effect) -> None:
        """What the core has to say of this call."""
        now = self.phone.now()
        match effect:
            case Provisional(response=response):
                self._take(response)
                if response.status == 180 and self.rang_at is None:
                    self.rang_at = now
                    self.rang.set()
                if effect.wants_answer:
                    self.phone.do(self.session.prack(response, self.phone.answer_to(response.body), now))
            case Answered(response=response):
                self._take(response)
                self._answered()
                if effect.wants_answer:
                    self.phone.do(self.session.ack(self.phone.answer_to(response.body), now))
            case Rejected(response=response):
                self._rejected(response)
            case Confirmed(body=body) | AnswerConfirmed(body=body):
                self.sdp = body or self.sdp
            case OfferReceived(request=request, offer=offer):
                if self.phone.refuses_offers:
                    self.phone.do(self.session.refuse_offer(request, self.phone.refuses_offers, now))
                    return
                self.sdp = offer or self.sdp
                self.phone.do(self.session.accept_offer(request, self.phone.answer_to(offer, holds=self.holds), now))
                self.changed.set()
            case OfferAnswered(response=response):
                self._take(response)
                self.agreed.set()
                if effect.wants_answer:
                    self.phone.do(self.session.ack(self.phone.answer_to(response.body), now))
            case DialogRequest(request=request):
                self.requests.append(request)
                self.asked.set()
                if self.answers_with:
                    self.phone.do(self.session.respond(request, self.answers_with, now))
            case Ended():
                self.finish(effect)
            case DialogResponse(response=response):
                self.responses.append(response.status)
                self.answers.append(response)
            case OfferRefused():
                pass                      # the ladder has it
            case _:
                raise AssertionError(f"not expected of a call: {effect}")

    def _take(self, response: Response) -> None:
        self.sdp = response.body or self.sdp
        if response.status >= 200:
            self.status = response.status

    def _answered(self) -> None:
        self.answered_at = self.phone.now()
        self.answered.set()

    def _rejected(self, response: Response) -> None:
        if response.status in (401, 407) and (headers := self.phone.credentials(response, self.session.invite)):
            self.session, effects = self.phone.core.retry(self.session, headers, self.phone.now())
            self.phone.track(self)
            self.phone.do(effects)
            return
        self.status, self.reason = response.status, response.reason
        self.why = ", ".join(response.headers.get_all("Reason"))
        self.session.hang_up(self.phone.now())      # no retry is coming
        self.finish()


class Phone:
    """A line at `server`. What it does when it is called is `does`, which may be changed at any time."""

    def __init__(
        self,
        user: str,
        server: Address,
        *,
        domain: str = "",
        login: str = "",
        password: str = "",
        name: str = "",
        does: Behaviour = Answers(),
        rtp_port: int = 40000,
        seed: int = 0,
        config: CoreConfig | None = None,
        peer: TlsPeer | None = None,
        sips: bool = False,
    ) -> None:
        """`peer`: who the server has to prove to be, by TLS. `sips`: this phone says sips of everybody."""
        self.user, self.server, self.domain, self.name = user, server, domain or server.host, name
        self.does: Behaviour = does
        self.rtp_port = rtp_port
        self.peer, self.sips = peer, sips
        self.codecs = {8: "PCMA/8000", 0: "PCMU/8000"}
        self.has_events = True            # telephone-event
        self.refuses_offers = 0           # re-INVITEs, with this status
        self.calls: list[PhoneCall] = []
        self.ladders: dict[str, list[str]] = {}
        self.core = UserAgentCore(config or CoreConfig(), random.Random(seed))
        self._digest = DigestClient(login or user, password, random.Random(seed)) if password else None
        self._transport: MessageTransport | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._plans: set[asyncio.TimerHandle] = set()
        self._by_session: dict[InviteSession, PhoneCall] = {}
        self._registration = f"reg-{self.user}-{seed}"              # Call-ID, and CSeq of the last REGISTER
        self._registered = 0
        self._rung = asyncio.Event()
        self._asked: dict[ClientTransaction, asyncio.Future[Response]] = {}
        self._seen: set[tuple[str, bytes]] = set()

    def plug(self, open_transport: Callable[[Sink], MessageTransport]) -> Phone:
        """Connect it: `phone.plug(partial(UdpTransport.open, address))`, or by `on`."""
        self._transport = open_transport(self)
        return self

    def on(self, network: Network, local: Address) -> Phone:
        return self.plug(lambda sink: network.attach(local, sink))

    @property
    def transport(self) -> MessageTransport:
        assert self._transport is not None, "not plugged in"
        return self._transport

    @property
    def now(self) -> Callable[[], float]:
        return self._loop.time

    @property
    def ringing(self) -> PhoneCall | None:
        return next((call for call in self.calls if not call.over.is_set() and not call.answered.is_set()), None)

    async def was_called(self) -> PhoneCall:
        """The first call to here, which may yet be to come."""
        while not self.calls:
            self._rung.clear()
            await self._rung.wait()
        return self.calls[0]

    def forget(self) -> None:
        """All calls that there were."""
        self.calls.clear()
        self.ladders.clear()
        self._by_session.clear()
        self._seen.clear()
        self._plans.clear()

    def close(self) -> None:
        """Pull the plug: nothing more is said to anybody."""
        for handle in (self._timer, *self._plans):
            if handle is not None:
                handle.cancel()
        self.transport.close()

    # -- what it is told

    def call(
        self, number: str, *, as_: str = "", shown: str | None = None, headers: Sequence[tuple[str, str]] = (),
        offer: bool = True,
    ) -> PhoneCall:
        """Dial; `as_` and `shown` are what From says, as a trunk says somebody else's number."""
        user, shown = as_ or self.user, self.name if shown is None else shown
        outgoing = OutgoingInvite(
            request_uri=self._uri(number, self.server.host, self.server.port),
            from_=NameAddr(self._uri(user, self.domain), shown),
            to=NameAddr(self._uri(number, self.domain)),
            contact_user=user,
            body=self.sdp("sendrecv") if offer else b"",
            headers=tuple(headers),
        )
        session, effects = self.core.invite(outgoing, self._way(), self.now())
        call = PhoneCall(self, session, user, shown)
        self.calls.append(call)
        self.track(call)
        self.do(effects)
        return call

    async def register(
        self, expires: int = 3600, *, contact: str = "", headers: Sequence[tuple[str, str]] = ()
    ) -> Response:
        """The registrar's last word: 200, or why not. `contact` is the whole value, where it is not our address."""
        contact = contact or contact_of(self._way(), self.user, secure=self.sips)
        call_id = self._registration
        headers = (("Contact", contact), ("Expires", str(expires)), *SAID_BY_PHONES, *headers)
        response, request = await self._ask("REGISTER", headers, call_id, self._registered + 1)
        for _ in range(2):                # a challenge, and perhaps a stale nonce
            if response.status not in (401, 407) or not (credentials := self.credentials(response, request)):
                break
            response, request = await self._ask("REGISTER", (*headers, *credentials), call_id, request.cseq.number + 1)
        self._registered = request.cseq.number
        return response

    async def _ask(
        self, method: str, headers: Sequence[tuple[str, str]], call_id: str, cseq: int = 1
    ) -> tuple[Response, Request]:
        me = NameAddr(self._uri(self.user, self.domain))
        transaction, effects = self.core.request(
            method, self._uri("", self.domain), me, me, self._way(), self.now(),
            headers=headers, call_id=call_id, cseq=cseq,
        )
        request = next(e.message for e in effects if isinstance(e, Transmit) and isinstance(e.message, Request))
        self._asked[transaction] = self._loop.create_future()
        self.do(effects)
        return await self._asked[transaction], request

    def _uri(self, user: str, host: str, port: int | None = None) -> Uri:
        return Uri("sips" if self.sips else "sip", user, host, port)

    def _way(self) -> Flow:
        return self.transport.flow_for(self.server, self.peer)

    # -- SDP

    def sdp(self, direction: str) -> bytes:
        host = self.transport.local.host
        version = len(self._seen)         # grows with whatever is sent, as RFC 3264 §8 wants of a changed session
        maps = "".join(f"a=rtpmap:{number} {codec}\r\n" for number, codec in self.codecs.items())
        number, events = (
            (" 101", "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n") if self.has_events else ("", "")
        )
        return (
            f"v=0\r\no=- 1 {version} IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
            f"m=audio {self.rtp_port} RTP/AVP {' '.join(map(str, self.codecs))}{number}\r\n"
            f"{maps}{events}a=ptime:20\r\na={direction}\r\n"
        ).encode()

    def fax_sdp(self) -> bytes:
        """T.38 in place of the audio."""
        host = self.transport.local.host
        return (
            f"v=0\r\no=- 1 {len(self._seen)} IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
            f"m=image {self.rtp_port + 2} udptl t38\r\na=T38FaxVersion:0\r\na=T38MaxBitRate:14400\r\n"
            "a=T38FaxRateManagement:transferredTCF\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n"
        ).encode()

    def answer_to(self, offer: bytes, *, holds: bool = False) -> bytes:
        if b"m=image" in offer:
            return self.fax_sdp()
        wanted = _MIRROR[direction_of(offer)]
        return self.sdp(_ON_HOLD[wanted] if holds else wanted)

    # -- the plumbing

    def credentials(self, response: Response, request: Request) -> tuple[tuple[str, str], ...] | None:
        return None if self._digest is None else self._digest.authorize(request, response)

    def track(self, call: PhoneCall) -> None:
        self._by_session[call.session] = call

    def on_message(self, data: bytes, flow: Flow) -> None:
        if isinstance(self.does, Dead):
            return
        message = parse(data)
        self._note("in", message, data)
        self.do(self.core.receive(message, flow, self.now()))

    def on_failure(self, flow: Flow) -> None:
        self.do(self.core.transport_failed(flow, self.now()))

    def do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Transmit(message=message, flow=flow):
                    self._note("out", message, bytes(message))
                    self.transport.send(bytes(message), flow)
                case IncomingInvite(session=session):
                    self._called(session)
                case IncomingRequest(transaction=transaction, request=request):
                    self.do(self.core.respond(transaction, self._yes(request), self.now()))
                case RequestAnswered(transaction=transaction, response=response):
                    self._asked.pop(transaction).set_result(response)
                case _:
                    self._by_session[effect.session].hear(effect)
        if self._timer is not None:
            self._timer.cancel()
        due = self.core.next_timeout
        self._timer = None if due is None else self._loop.call_at(due, self._timeout)

    def _yes(self, request: Request) -> Response:
        """To OPTIONS, and to REGISTER: a trunk that lets everybody in."""
        bound = [("Contact", str(contact)) for contact in request.contacts] if request.method == "REGISTER" else []
        return request.response(200, to_tag=self.core.new_tag(), headers=bound)

    def _timeout(self) -> None:
        self._timer = None
        self.do(self.core.handle_timeout(self.now()))

    def _called(self, session: InviteSession) -> None:
        caller = session.invite.from_
        call = PhoneCall(self, session, caller.uri.user, caller.display, session.offer)
        self.calls.append(call)
        self._rung.set()
        self.track(call)
        match self.does:
            case Rejects(after=after) as no:
                self._later(after, call.reject, no.status, no.contact, no.headers, no.body)
            case Answers(after=after, hangs_up_after=talk, rings=rings):
                if rings:
                    self._ring(call)
                self._later(after, call.answer)
                if talk is not None:
                    self._later(after + talk, call.hang_up)
            case _:
                self._ring(call)

    def _ring(self, call: PhoneCall) -> None:
        call.rang_at = self.now()
        call.rang.set()
        self.do(call.session.progress(180, self.now()))

    def _later(self, after: float, what: Callable[..., None], *arguments: object) -> None:
        self._plans.add(self._loop.call_later(after, what, *arguments))

    def _note(self, way: str, message: Request | Response, data: bytes) -> None:
        if (way, data) not in self._seen:
            self._seen.add((way, data))
            step = message.method if isinstance(message, Request) else str(message.status)
            self.ladders.setdefault(message.call_id, []).append(step)


def direction_of(sdp: bytes) -> str:
    found = _DIRECTION.search(sdp)
    return found[1].decode() if found else "sendrecv"
