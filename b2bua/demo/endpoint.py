"""A simulated phone or trunk: a user agent on a UDP socket of its own that speaks only SIP and RTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from b2bua.demo.audio import PCMA, RATE, RtpVoice
from b2bua.net.udp import UdpTransport
from b2bua.sdp import session as sdp
from b2bua.sip.auth import DigestClient, Unanswerable
from b2bua.sip.core import CoreConfig, OutgoingInvite, UserAgentCore
from b2bua.sip.effects import Address, Answered, Ended, Flow, IncomingRequest, Provisional, Rejected, Transport
from b2bua.sip.fields import NameAddr
from b2bua.sip.headers import Headers
from b2bua.sip.invite_session import InviteSession
from b2bua.sip.message import Request, Response
from b2bua.sip.uri import Uri
from b2bua.ua.agent import UserAgent
from b2bua.ua.leg import HeaderFields, Inbox, IncomingLeg, LegEnded, OutgoingLeg, while_up

RING_SECONDS = 0.4                         # how long a phone rings before it is picked up


@dataclass(slots=True)
class Talk:
    """One call as this endpoint lived it. Times are the loop's, in seconds."""

    shown_name: str = ""
    shown_number: str = ""
    invited_at: float = 0.0
    rang_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    status: int = 0
    heard_hz: int = 0
    packets: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Endpoint:
    """Answers what calls it when `picks_up`, else lets it ring; calls when told to."""

    def __init__(self, name: str, agent: UserAgent, server: Address, hz: int, *, picks_up: bool) -> None:
        self.name = name
        self.hz = hz
        self.picks_up = picks_up
        self.talks: list[Talk] = []
        self._agent = agent
        self._server = server
        self._tasks = asyncio.TaskGroup()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, name: str, server: Address, hz: int, *, host: str = "127.0.0.1", picks_up: bool = True
    ) -> AsyncIterator[Endpoint]:
        agent = UserAgent(UserAgentCore(CoreConfig(user_agent=f"simulated {name}"), random.Random()))  # noqa: S311
        transport = UdpTransport.open(Address(host, 0), agent)
        endpoint = cls(name, agent, server, hz, picks_up=picks_up)
        agent.serve(endpoint, [transport])
        try:
            async with endpoint._tasks:
                yield endpoint
        finally:
            agent.close()
            transport.close()

    @property
    def address(self) -> Address:
        return self._agent.transports[Transport.UDP].local

    # -- as the transaction user

    def incoming_call(self, session: InviteSession) -> None:
        leg = self._agent.accept(session, self.name)
        self._tasks.create_task(self._answer(leg))

    def incoming_request(self, event: IncomingRequest) -> None:
        response = event.request.response(200, to_tag=self._agent.core.new_tag())
        self._agent.perform(self._agent.core.respond(event.transaction, response, self._agent.now()))

    def flow_failed(self, flow: Flow) -> None:
        """Nothing of ours depends on a flow."""

    def unreadable(self, flow: Flow) -> None:
        """Strangers do not get here."""

    # -- what a person does with it

    async def register(self, login: str, password: str) -> int:
        """REGISTER with digest (RFC 3261 §10.2, §22.2); the final status."""
        credentials = DigestClient(login, password, random.Random())  # noqa: S311
        registrar = Uri.sip("", self._server.host, self._server.port)
        contact = ("Contact", f"<sip:{login}@{self.address.host}:{self.address.port}>")
        response = await self._register(registrar, login, (contact, ("Expires", "300")), 1)
        if response.status == 401:
            proof = credentials.answer(response, Request("REGISTER", registrar, Headers()))
            if not isinstance(proof, Unanswerable):
                response = await self._register(registrar, login, (contact, ("Expires", "300"), *proof), 2)
        return response.status

    async def call(
        self, number: str, *, shown_as: str, talk_seconds: float, credentials: tuple[str, str] | None = None
    ) -> Talk:
        """Call, talk for so long when somebody answers, hang up; returns when it is over."""
        talk = Talk()
        self.talks.append(talk)
        flow = self._agent.flow_to(Transport.UDP, self._server)
        assert flow is not None
        voice = await RtpVoice.open(self.address.host, self.hz)
        try:
            outgoing = OutgoingInvite(
                request_uri=Uri.sip(number, self._server.host, self._server.port),
                from_=NameAddr(Uri.sip(shown_as, self.address.host)),
                to=NameAddr(Uri.sip(number, self._server.host)),
                contact_user=shown_as,
                body=_sdp(self.address.host, voice.port),
            )
            digest = DigestClient(*credentials, random.Random()) if credentials else None  # noqa: S311
            talk.invited_at = self._agent.now()
            leg = self._agent.dial(outgoing, flow, Inbox(), number, digest)
            async with leg:
                await self._talk_as_caller(leg, talk, voice, talk_seconds)
        except LegEnded:
            pass                           # the other side hung up first
        finally:
            voice.close()
            self._over(talk, voice)
        return talk

    async def _register(self, registrar: Uri, login: str, headers: HeaderFields, cseq: int) -> Response:
        aor = NameAddr(Uri.sip(login, self._server.host))
        destination = [(Transport.UDP, self._server)]
        return await self._agent.request(
            "REGISTER", registrar, from_=aor, to=aor, destination=destination, headers=headers, cseq=cseq
        )

    async def _talk_as_caller(self, leg: OutgoingLeg, talk: Talk, voice: RtpVoice, seconds: float) -> None:
        while True:
            _, event = await leg.inbox.get()
            match event:
                case Provisional(response=response) if response.status == 180:
                    talk.rang_at = talk.rang_at or self._agent.now()
                case Answered(response=response, sdp=sdp):
                    talk.status, talk.answered_at = response.status, self._agent.now()
                    voice.say_to(_media_address(sdp))
                    async with while_up(leg):
                        await asyncio.sleep(seconds)
                    return
                case Rejected(response=response):
                    talk.status = response.status
                    return
                case Ended():
                    return

    async def _answer(self, leg: IncomingLeg) -> None:
        talk = Talk(shown_name=leg.invite.from_.display, shown_number=leg.invite.from_.uri.user)
        talk.invited_at = talk.rang_at = self._agent.now()
        self.talks.append(talk)
        voice = await RtpVoice.open(self.address.host, self.hz)
        try:
            async with leg, while_up(leg):
                leg.ring()
                if self.picks_up:
                    await asyncio.sleep(RING_SECONDS)
                    leg.answer(_sdp(self.address.host, voice.port))
                    talk.answered_at = self._agent.now()
                    voice.say_to(_media_address(leg.offer))
                await self._until_it_ends(leg)
        except LegEnded:
            pass                           # as calls do
        finally:
            voice.close()
            self._over(talk, voice)

    async def _until_it_ends(self, leg: IncomingLeg) -> None:
        while True:
            await leg.inbox.get()

    def _over(self, talk: Talk, voice: RtpVoice) -> None:
        talk.ended_at = self._agent.now()
        talk.heard_hz, talk.packets = voice.heard_hz, voice.packets
        talk.over.set()


def _sdp(host: str, port: int) -> bytes:
    return (
        f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP {PCMA}\r\na=rtpmap:{PCMA} PCMA/{RATE}\r\na=ptime:20\r\n"
    ).encode()


def _media_address(body: bytes) -> Address:
    description = sdp.parse(body)
    media = description.media[0]
    connection = media.connection or description.connection
    assert connection is not None, "our own server's SDP has a c= line"
    return Address(connection.text, media.port)
