"""Two user agent cores joined by a wire that loses, doubles and delays as told; time is a number."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from b2bua.sip.core import CoreConfig, OutgoingInvite, UserAgentCore
from b2bua.sip.effects import Address, Effect, Flow, Transmit, Transport
from b2bua.sip.fields import NameAddr
from b2bua.sip.invite_session import InviteSession
from b2bua.sip.message import Request, Response
from b2bua.sip.parser import parse
from b2bua.sip.uri import Uri

OFFER = b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"
ANSWER = b"v=0\r\no=- 2 1 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\nm=audio 5000 RTP/AVP 8\r\n"

HERE, THERE = Address("10.0.0.1", 5060), Address("10.0.0.2", 5060)

Message = Request | Response
Fate = Callable[[Message], list[float]]         # delays of the copies that arrive; none: it is lost
React = Callable[["End", Effect], list[Effect]]
E = TypeVar("E", bound=Effect)


def name_of(message: Message) -> str:
    """As a ladder would write it."""
    return message.method if isinstance(message, Request) else f"{message.status} {message.cseq.method}"


def at_once(message: Message) -> list[float]:
    return [0.001]


def just_listen(end: End, event: Effect) -> list[Effect]:
    return []


class End:
    """One core, what it told its transaction user, and what that does about it at once."""

    def __init__(self, config: CoreConfig, seed: int, flow: Flow) -> None:
        self.core = UserAgentCore(config, Random(seed))
        self.flow = flow
        self.events: list[Effect] = []
        self.react: React = just_listen

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    def last(self, kind: type[E]) -> E:
        return next(event for event in reversed(self.events) if isinstance(event, kind))


@dataclass(order=True)
class _InFlight:
    at: float
    order: int
    to: End = field(compare=False)
    data: bytes = field(compare=False)


class Wire:
    """`caller` at 10.0.0.1, `callee` at 10.0.0.2, and every message that was sent, lost ones too, in `ladder`."""

    def __init__(self, config: CoreConfig | None = None, *, transport: Transport = Transport.UDP, seed: int = 1,
                 callee_config: CoreConfig | None = None) -> None:
        config = config or CoreConfig()
        connection = int(transport.reliable)
        self.caller = End(config, seed, Flow(transport, HERE, THERE, connection))
        self.callee = End(callee_config or config, seed + 1, Flow(transport, THERE, HERE, connection))
        self.now = 0.0
        self.fate: Fate = at_once
        self.ladder: list[str] = []
        self.sent: list[Message] = []
        self._flying: list[_InFlight] = []
        self._count = 0

    def call(self, body: bytes = OFFER, **more: object) -> InviteSession:
        invite = OutgoingInvite(Uri.parse("sip:bob@10.0.0.2"), NameAddr.parse("<sip:alice@10.0.0.1>"),
                                NameAddr.parse("<sip:bob@10.0.0.2>"), "alice", body, **more)    # type: ignore[arg-type]
        session, effects = self.caller.core.invite(invite, self.caller.flow, self.now)
        self.do(self.caller, effects)
        return session

    def do(self, end: End, effects: list[Effect]) -> None:
        """Carry out what a core asked for, in its order."""
        for effect in effects:
            if isinstance(effect, Transmit):
                self._send(end, effect.message)
            else:
                end.events.append(effect)
                self.do(end, end.react(end, effect))

    def run(self, until: float) -> None:
        """Let things happen up to that moment."""
        while (at := self._next()) is not None and at <= until:
            self.now = max(self.now, at)
            if self._flying and self._flying[0].at <= self.now:
                arrival = heapq.heappop(self._flying)
                self.do(arrival.to, arrival.to.core.receive(parse(arrival.data), arrival.to.flow, self.now))
                continue
            for end in (self.caller, self.callee):
                self.do(end, end.core.handle_timeout(self.now))
        self.now = max(self.now, until)

    def settle(self) -> None:
        """Let everything on the wire arrive, without waiting for timers."""
        self.run(self.now + 0.1)

    def inject(self, end: End, data: bytes) -> None:
        """A message out of nowhere."""
        self.do(end, end.core.receive(parse(data), end.flow, self.now))

    @property
    def is_empty(self) -> bool:
        """Nothing is left of any call."""
        return all(end.core.session_count == 0 and end.core.transaction_count == 0 and end.core.next_timeout is None
                   for end in (self.caller, self.callee))

    def _next(self) -> float | None:
        moments = [end.core.next_timeout for end in (self.caller, self.callee)]
        moments.append(self._flying[0].at if self._flying else None)
        return min((moment for moment in moments if moment is not None), default=None)

    def _send(self, end: End, message: Message) -> None:
        other = self.callee if end is self.caller else self.caller
        self.ladder.append(f"{'>' if end is self.caller else '<'} {name_of(message)}")
        self.sent.append(message)
        data = bytes(message)
        for delay in self.fate(message):
            self._count += 1
            heapq.heappush(self._flying, _InFlight(self.now + delay, self._count, other, data))
