"""The server transactions: RFC 3261 §17.2, with the Accepted state of RFC 6026 §7.1 and the rules of RFC 4320."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from b2bua.sip.effects import Effect, Flow, Transmit
from b2bua.sip.message import Request, Response
from b2bua.sip.timers import Deadline, Deadlines, Timer, Timers


class ServerState(Enum):
    TRYING = "trying"               # all but INVITE
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"         # INVITE only: the ACK to a final response of 300 or more has come
    ACCEPTED = "accepted"           # an INVITE with a 2xx
    TERMINATED = "terminated"


class AckReceived(NamedTuple):              # as Transmit
    """An ACK that is not a transaction's own business: to a 2xx, or to nothing that is known."""

    request: Request
    flow: Flow


class _ServerTransaction:
    """What both kinds have in common. With the final response all but its bytes is let go, as thousands linger."""

    __slots__ = (
        "_deadlines", "_expiry", "_interval", "_repeat", "_timers",
        "fallback", "flow", "key", "last_response", "merge_key", "method", "request", "state", "to_tag", "user",
    )   # fmt: skip

    def __init__(self, key: str, request: Request, flow: Flow, timers: Timers, deadlines: Deadlines) -> None:
        self.key = key
        self.method = request.method
        self.request = request
        self.flow = flow                            # where the responses go
        self.fallback: Flow | None = None           # and where, when that connection is gone
        self.merge_key: str | None = None           # what a merged request would have in common with this one
        self.to_tag: str | None = None              # of our responses
        self.user: object | None = None             # the core's note of whom it concerns
        self._timers = timers
        self._deadlines = deadlines
        self._repeat: Deadline | None = None
        self._expiry: Deadline | None = None
        self.last_response: Response | None = None  # for repeated requests

    def abandon(self) -> None:
        """End without a word."""
        self._enter(ServerState.TERMINATED)

    def transport_failed(self) -> None:
        """The responses go to the address in Via from now on; without one it is over (RFC 3261 §18.2.2, §17.2.4)."""
        if self.fallback is None:
            self._enter(ServerState.TERMINATED)
        else:
            self.flow, self.fallback = self.fallback, None

    def _enter(self, state: ServerState) -> None:
        """Change the state; no timer of the last one runs on."""
        self.state = state
        self._deadlines.disarm(self._repeat)
        self._deadlines.disarm(self._expiry)
        self._repeat = self._expiry = None

    def _let_go(self) -> None:
        del self.request
        self.user = None                            # nothing that comes now concerns it
        if self.last_response is not None:
            self.last_response.condense()

    def _respond_again(self) -> list[Effect]:
        return [] if self.last_response is None else [Transmit(self.last_response, self.flow)]


class InviteServerTransaction(_ServerTransaction):
    """RFC 3261 figure 7 as RFC 6026 redraws it.

                         INVITE
                           v
            1xx ─────> PROCEEDING <── INVITE: the last response again
                    2xx │       │ 300-699
                        v       v
        2xx ────> ACCEPTED     COMPLETED <── INVITE or G: the response again
        ACK: to the core │       │ ACK   │ H
                       L │       v       │
                         │    CONFIRMED  │
                         │       │ I     │
                         └───────┴───────┴──> TERMINATED
    """

    __slots__ = ("withdrawn",)

    def __init__(self, key: str, request: Request, flow: Flow, timers: Timers, deadlines: Deadlines) -> None:
        super().__init__(key, request, flow, timers, deadlines)
        self.state = ServerState.PROCEEDING
        self.withdrawn = False                      # a CANCEL has come

    def start(self, now: float) -> None:
        """Nothing is waited for but the core."""

    def trying(self, now: float) -> list[Effect]:
        """100, unless more has been said already."""
        if self.state is ServerState.PROCEEDING and self.last_response is None:
            return self.respond(self.request.response(100), now)
        return []

    def receive(self, now: float) -> list[Effect]:
        """The request has come again."""
        match self.state:
            case ServerState.PROCEEDING if self.last_response is None:
                return self.trying(now)
            case ServerState.PROCEEDING | ServerState.COMPLETED:
                return self._respond_again()
            case _:
                return []

    def acknowledge(self, ack: Request, flow: Flow, now: float) -> list[Effect | AckReceived]:
        match self.state:
            case ServerState.COMPLETED:
                self._confirm(now)
                return []
            case ServerState.ACCEPTED:
                return [AckReceived(ack, flow)]
            case _:
                return []

    def respond(self, response: Response, now: float) -> list[Effect]:
        match self.state, response.status // 100:
            case ServerState.PROCEEDING, 1:
                self.last_response = response
                self._learn_tag(response)
                return [Transmit(response, self.flow)]
            case ServerState.PROCEEDING, 2:
                self._enter(ServerState.ACCEPTED)
                self._expiry = self._deadlines.arm(now + self._timers.l, self, Timer.L)
                self._learn_tag(response)
                self.last_response = None       # a 2xx is repeated by the core (RFC 3261 §13.3.1.4)
                self._let_go()
                return [Transmit(response, self.flow)]
            case ServerState.PROCEEDING, 3 | 4 | 5 | 6:
                self._complete(response, now)
                return [Transmit(response, self.flow)]
            case ServerState.ACCEPTED, 2:
                return [Transmit(response, self.flow)]
            case _:
                return []

    def expire(self, timer: Enum, now: float) -> list[Effect]:
        match self.state, timer:
            case ServerState.COMPLETED, Timer.G:
                self._send_again_after(min(2 * self._interval, self._timers.t2), now)
                return self._respond_again()
            case (
                (ServerState.COMPLETED, Timer.H)
                | (ServerState.CONFIRMED, Timer.I)
                | (ServerState.ACCEPTED, Timer.L)
            ):
                self._enter(ServerState.TERMINATED)
                return []
            case _:
                return []

    def _complete(self, response: Response, now: float) -> None:
        self._enter(ServerState.COMPLETED)
        self._expiry = self._deadlines.arm(now + self._timers.h, self, Timer.H)
        if not self.flow.transport.reliable:
            self._send_again_after(self._timers.g, now)
        self.last_response = response
        self._learn_tag(response)
        self._let_go()

    def _confirm(self, now: float) -> None:
        self.last_response = None
        if self.flow.transport.reliable:                            # I is zero
            self._enter(ServerState.TERMINATED)
        else:
            self._enter(ServerState.CONFIRMED)
            self._expiry = self._deadlines.arm(now + self._timers.i, self, Timer.I)

    def _send_again_after(self, interval: float, now: float) -> None:
        self._interval = interval
        self._repeat = self._deadlines.arm(now + interval, self, Timer.G)

    def _learn_tag(self, response: Response) -> None:
        if self.to_tag is None and response.status > 100:
            self.to_tag = response.to_tag


class NonInviteServerTransaction(_ServerTransaction):
    """RFC 3261 figure 8, with RFC 4320: the 100 is sent here and late, no other provisional response is, and who
    has not answered when the client has given up need not answer any more; a 408 is never sent.

            the request
                 v
              TRYING ──── final ───┐
                 │ 100             │
                 v                 v         J
            PROCEEDING ─ final ─> COMPLETED ──> TERMINATED
                 │                                 ^
                 └──────── the client gave up ─────┘

    In PROCEEDING and COMPLETED a repeated request gets the last response again.
    """

    __slots__ = ()

    def __init__(self, key: str, request: Request, flow: Flow, timers: Timers, deadlines: Deadlines) -> None:
        super().__init__(key, request, flow, timers, deadlines)
        self.state = ServerState.TRYING

    def start(self, now: float) -> None:
        self._expiry = self._deadlines.arm(now + self._timers.trying, self, Timer.TRYING)

    def receive(self, now: float) -> list[Effect]:
        """The request has come again."""
        match self.state:
            case ServerState.PROCEEDING | ServerState.COMPLETED:
                return self._respond_again()
            case _:
                return []

    def respond(self, response: Response, now: float) -> list[Effect]:
        match self.state, response.status // 100:
            case ServerState.TRYING | ServerState.PROCEEDING, 2 | 3 | 4 | 5 | 6 if response.status != 408:
                self._complete(response, now)
                return [Transmit(response, self.flow)]
            case _:
                return []

    def expire(self, timer: Enum, now: float) -> list[Effect]:
        match self.state, timer:
            case ServerState.TRYING, Timer.TRYING:
                self._enter(ServerState.PROCEEDING)
                left = self._timers.timeout - self._timers.trying
                self._expiry = self._deadlines.arm(now + left, self, Timer.EXPIRY)
                self.last_response = self.request.response(100)
                return self._respond_again()
            case (ServerState.PROCEEDING, Timer.EXPIRY) | (ServerState.COMPLETED, Timer.J):
                self._enter(ServerState.TERMINATED)
                return []
            case _:
                return []

    def _complete(self, response: Response, now: float) -> None:
        if self.flow.transport.reliable:                            # J is zero
            self._enter(ServerState.TERMINATED)
        else:
            self._enter(ServerState.COMPLETED)
            self._expiry = self._deadlines.arm(now + self._timers.j, self, Timer.J)
            self.last_response = response
        self._let_go()


ServerTransaction = InviteServerTransaction | NonInviteServerTransaction
