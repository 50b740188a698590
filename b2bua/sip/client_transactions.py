"""The client transactions: RFC 3261 §17.1, with the Accepted state of RFC 6026 §7.2 and the CANCEL of RFC 3261 §9.1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from b2bua.sip.effects import Effect, Flow, Transmit
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request, Response
from b2bua.sip.timers import Deadline, Deadlines, Timer, Timers


class ClientState(Enum):
    CALLING = "calling"             # an INVITE without a response
    TRYING = "trying"               # any other request without one
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    ACCEPTED = "accepted"           # an INVITE with a 2xx
    TERMINATED = "terminated"


class ResponseReceived(NamedTuple):         # as Transmit
    """A response that the core has not seen, or one more 2xx to an INVITE, for which it owes an ACK."""

    transaction: ClientTransaction
    response: Response


@dataclass(frozen=True, slots=True)
class ClientTimedOut:
    """No final response in time: timers B and F, or 64*T1 after a CANCEL. The transaction is over."""

    transaction: ClientTransaction


@dataclass(frozen=True, slots=True)
class ClientTransportFailed:
    """The request could not be sent. The transaction is over."""

    transaction: ClientTransaction


ClientEvent = ResponseReceived | ClientTimedOut | ClientTransportFailed


class _ClientTransaction:
    """What both kinds have in common: whose they are, and two deadlines."""

    __slots__ = (
        "_deadlines", "_expiry", "_interval", "_repeat", "_timers", "flow", "key", "method", "request", "state", "user",
    )   # fmt: skip

    def __init__(self, key: str, request: Request, flow: Flow, timers: Timers, deadlines: Deadlines) -> None:
        self.key = key
        self.method = request.method
        self.request = request
        self.flow = flow
        self.user: object | None = None         # the core's note of whom the outcome concerns
        self._timers = timers
        self._deadlines = deadlines
        self._repeat: Deadline | None = None
        self._expiry: Deadline | None = None

    def abandon(self) -> None:
        """End without a word."""
        self._enter(ClientState.TERMINATED)

    def _enter(self, state: ClientState) -> None:
        """Change the state; no timer of the last one runs on."""
        self.state = state
        self._deadlines.disarm(self._repeat)
        self._deadlines.disarm(self._expiry)
        self._repeat = self._expiry = None

    def _send_again_after(self, interval: float, timer: Timer, now: float) -> None:
        self._interval = interval
        self._repeat = self._deadlines.arm(now + interval, self, timer)


class InviteClientTransaction(_ClientTransaction):
    """RFC 3261 figure 5 as RFC 6026 redraws it.

                     | INVITE is sent; A (again), B (give up)
                     v
                  CALLING ───────── B, transport error ─────────────┐
          1xx │      │ 2xx  └──────────────┐ 300-699: ACK           │
              v      │                     │                        │
         PROCEEDING ─┼── 2xx ─────────┐    │                        │
              │ └────┼── 300-699: ACK ┼────┤  no final response     │
              │      v                │    v  64*T1 after CANCEL    │
              │   ACCEPTED <──────────┘ COMPLETED (ACK again)       │
              │      │ M                   │ D                      │
              └──────┴─────────────────────┴──> TERMINATED <────────┘

    The INVITE itself is let go with the final response: thousands linger here for half a minute.
    """

    __slots__ = ("_ack", "_cancel", "withdrawn")

    def __init__(self, key: str, request: Request, flow: Flow, timers: Timers, deadlines: Deadlines) -> None:
        super().__init__(key, request, flow, timers, deadlines)
        self.state = ClientState.CALLING
        self.withdrawn = False
        self._ack: Request | None = None
        self._cancel: Request | None = None

    def start(self, now: float) -> list[Effect]:
        if not self.flow.transport.reliable:
            self._send_again_after(self._timers.a, Timer.A, now)
        self._expiry = self._deadlines.arm(now + self._timers.b, self, Timer.B)
        return [Transmit(self.request, self.flow)]

    def receive(self, response: Response, now: float) -> list[Effect | ClientEvent]:
        match self.state, response.status // 100:
            case ClientState.CALLING, 1:
                self._enter(ClientState.PROCEEDING)                 # stops A and B
                return [ResponseReceived(self, response)]
            case ClientState.PROCEEDING, 1:
                return [ResponseReceived(self, response)]
            case ClientState.CALLING | ClientState.PROCEEDING, 2:
                self._enter(ClientState.ACCEPTED)                   # the ACK is the core's (RFC 3261 §13.2.2.4)
                self._expiry = self._deadlines.arm(now + self._timers.m, self, Timer.M)
                self._let_go()
                return [ResponseReceived(self, response)]
            case ClientState.CALLING | ClientState.PROCEEDING, 3 | 4 | 5 | 6:
                self._complete(ack := acknowledgement(self.request, response), now)
                return [Transmit(ack, self.flow), ResponseReceived(self, response)]
            case ClientState.ACCEPTED, 2:
                return [ResponseReceived(self, response)]
            case ClientState.COMPLETED, 3 | 4 | 5 | 6 if self._ack is not None:
                return [Transmit(self._ack, self.flow)]
            case _:
                return []

    def expire(self, timer: Enum, now: float) -> list[Effect | ClientEvent]:
        match self.state, timer:
            case ClientState.CALLING, Timer.A:
                self._send_again_after(2 * self._interval, Timer.A, now)
                return [Transmit(self.request, self.flow)]
            case (ClientState.CALLING, Timer.B) | (ClientState.PROCEEDING, Timer.CANCELLED):
                self._enter(ClientState.TERMINATED)
                return [ClientTimedOut(self)]
            case (ClientState.ACCEPTED, Timer.M) | (ClientState.COMPLETED, Timer.D):
                self._enter(ClientState.TERMINATED)
                return []
            case _:
                return []

    def transport_failed(self) -> list[Effect | ClientEvent]:
        """RFC 3261 §17.1.4. After a provisional response the INVITE got there, and the rest may come another way."""
        if self.state is not ClientState.CALLING:
            return []
        self._enter(ClientState.TERMINATED)
        return [ClientTransportFailed(self)]

    def withdraw(self, headers: Iterable[tuple[str, str]]) -> None:
        """Have a CANCEL ready for when it may be sent, unless a final response came first."""
        if self.state in (ClientState.CALLING, ClientState.PROCEEDING) and not self.withdrawn:
            self.withdrawn = True
            self._cancel = cancellation(self.request, headers)

    def take_cancel(self, now: float) -> Request | None:
        """The CANCEL that is to be sent now: never before a provisional response, and once (RFC 3261 §9.1)."""
        if self._cancel is None or self.state is not ClientState.PROCEEDING:
            return None
        cancel, self._cancel = self._cancel, None
        self._expiry = self._deadlines.arm(now + self._timers.timeout, self, Timer.CANCELLED)
        return cancel

    def _complete(self, ack: Request, now: float) -> None:
        if self.flow.transport.reliable:                            # D is zero
            self._enter(ClientState.TERMINATED)
        else:
            self._enter(ClientState.COMPLETED)
            self._ack = ack
            ack.condense()
            self._expiry = self._deadlines.arm(now + self._timers.d, self, Timer.D)
        self._let_go()

    def _let_go(self) -> None:
        del self.request
        self._cancel = None


class NonInviteClientTransaction(_ClientTransaction):
    """RFC 3261 figure 6.

                     | the request is sent; E (again), F (give up)
                     v
                  TRYING ──────── F, transport error ───┐
                1xx │   └── final ──┐                   │
                    v               v         K         │
        1xx ─> PROCEEDING ─ final ─> COMPLETED ──> TERMINATED
                    └────── F, transport error ─────────┘
    """

    __slots__ = ()

    def __init__(self, key: str, request: Request, flow: Flow, timers: Timers, deadlines: Deadlines) -> None:
        super().__init__(key, request, flow, timers, deadlines)
        self.state = ClientState.TRYING

    def start(self, now: float) -> list[Effect]:
        if not self.flow.transport.reliable:
            self._send_again_after(self._timers.e, Timer.E, now)
        self._expiry = self._deadlines.arm(now + self._timers.f, self, Timer.F)
        return [Transmit(self.request, self.flow)]

    def receive(self, response: Response, now: float) -> list[Effect | ClientEvent]:
        match self.state, response.status // 100:
            case ClientState.TRYING | ClientState.PROCEEDING, 1:
                self.state = ClientState.PROCEEDING                 # E and F run on
                return [ResponseReceived(self, response)]
            case ClientState.TRYING | ClientState.PROCEEDING, 2 | 3 | 4 | 5 | 6:
                self._complete(now)
                return [ResponseReceived(self, response)]
            case _:
                return []

    def expire(self, timer: Enum, now: float) -> list[Effect | ClientEvent]:
        match self.state, timer:
            case ClientState.TRYING, Timer.E:
                self._send_again_after(min(2 * self._interval, self._timers.t2), Timer.E, now)
                return [Transmit(self.request, self.flow)]
            case ClientState.PROCEEDING, Timer.E:
                self._send_again_after(self._timers.t2, Timer.E, now)
                return [Transmit(self.request, self.flow)]
            case ClientState.TRYING | ClientState.PROCEEDING, Timer.F:
                self._enter(ClientState.TERMINATED)
                return [ClientTimedOut(self)]
            case ClientState.COMPLETED, Timer.K:
                self._enter(ClientState.TERMINATED)
                return []
            case _:
                return []

    def transport_failed(self) -> list[Effect | ClientEvent]:
        """RFC 3261 §17.1.4."""
        if self.state not in (ClientState.TRYING, ClientState.PROCEEDING):
            return []
        self._enter(ClientState.TERMINATED)
        return [ClientTransportFailed(self)]

    def _complete(self, now: float) -> None:
        if self.flow.transport.reliable:                            # K is zero
            self._enter(ClientState.TERMINATED)
        else:
            self._enter(ClientState.COMPLETED)
            self._expiry = self._deadlines.arm(now + self._timers.k, self, Timer.K)


ClientTransaction = InviteClientTransaction | NonInviteClientTransaction


def acknowledgement(invite: Request, response: Response) -> Request:
    """The ACK to a final response of 300 or more (RFC 3261 §17.1.1.3)."""
    return _along(invite, "ACK", to=response)


def cancellation(invite: Request, headers: Iterable[tuple[str, str]]) -> Request:
    """The CANCEL of an INVITE (RFC 3261 §9.1)."""
    return _along(invite, "CANCEL", to=invite, extra=headers)


def _along(
    invite: Request, method: str, *, to: Request | Response, extra: Iterable[tuple[str, str]] = ()
) -> Request:
    """A request that follows the INVITE hop by hop: same target, topmost Via, Route, and CSeq number."""
    source = invite.headers
    return Request(method, invite.uri, Headers([
        ("Via", source.get_all("Via")[0]),
        *(("Route", route) for route in source.get_all("Route")),
        ("Max-Forwards", "70"),
        ("From", source.get("From") or ""),
        ("To", to.headers.get("To") or ""),
        ("Call-ID", invite.call_id),
        ("CSeq", f"{invite.cseq.number} {method}"),
        *extra,
    ]))
