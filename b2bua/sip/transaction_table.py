"""All transactions of the stack: matching (RFC 3261 §17.1.3, §17.2.3), CANCEL (§9), merged requests, strays, limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import NamedTuple, TypeVar

from b2bua.sip.client_transactions import (
    ClientEvent,
    ClientState,
    ClientTimedOut,
    ClientTransaction,
    ClientTransportFailed,
    InviteClientTransaction,
    NonInviteClientTransaction,
    ResponseReceived,
)
from b2bua.sip.effects import Address, Effect, Flow, Transmit
from b2bua.sip.fields import MAGIC_COOKIE, Via
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Request, Response
from b2bua.sip.return_path import stamp, way_back, way_back_anew
from b2bua.sip.server_transactions import (
    AckReceived,
    InviteServerTransaction,
    NonInviteServerTransaction,
    ServerState,
    ServerTransaction,
)
from b2bua.sip.timers import Deadlines, Timer, Timers

__all__ = [
    "AckReceived",
    "CancelReceived",
    "ClientTimedOut",
    "ClientTransaction",
    "ClientTransportFailed",
    "Counters",
    "RequestReceived",
    "ResponseReceived",
    "ServerTransaction",
    "StrayResponse",
    "Transaction",
    "TransactionEvent",
    "TransactionLimits",
    "TransactionTable",
]

MAX_CLIENT_TRANSACTIONS = 100_000       # at 32 s each: 3,000 new ones a second
MAX_SERVER_TRANSACTIONS = 100_000
MAX_KEY = 256                           # characters; a longer one is hashed
RETRY_AFTER = "5"                       # seconds, in a 503 for want of room

_KNOWN_METHODS = (
    "INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "PRACK", "UPDATE", "INFO", "REFER", "NOTIFY",
    "SUBSCRIBE", "PUBLISH", "MESSAGE",
)   # fmt: skip

Transaction = ClientTransaction | ServerTransaction
_Kind = TypeVar("_Kind", ClientTransaction, ServerTransaction)


class RequestReceived(NamedTuple):          # as Transmit
    """A new request. An INVITE is owed a 100 (`trying`) unless it is `abandon`ed; every one is owed an answer."""

    transaction: ServerTransaction
    request: Request
    flow: Flow


@dataclass(frozen=True, slots=True)
class CancelReceived:
    """The CANCEL of an INVITE that has no final response; it is answered already, the INVITE is owed its 487."""

    transaction: InviteServerTransaction
    request: Request


@dataclass(frozen=True, slots=True)
class StrayResponse:
    """A response to nothing that is known (any more), or one that was meant for somebody else."""

    response: Response
    flow: Flow


TransactionEvent = ClientEvent | RequestReceived | AckReceived | CancelReceived | StrayResponse


@dataclass(frozen=True, slots=True)
class TransactionLimits:
    clients: int = MAX_CLIENT_TRANSACTIONS
    servers: int = MAX_SERVER_TRANSACTIONS


class Counters:
    """What the metrics read. Responses are counted by class (index 1 to 6), repetitions not among them."""

    __slots__ = (
        "merged", "overload", "requests_received", "requests_sent", "responses_received", "responses_sent",
        "retransmissions_absorbed", "retransmissions_sent", "strays", "timeouts", "too_many_hops",
    )   # fmt: skip

    def __init__(self) -> None:
        self.requests_received = dict.fromkeys((*_KNOWN_METHODS, "other"), 0)
        self.requests_sent = dict.fromkeys((*_KNOWN_METHODS, "other"), 0)
        self.responses_received = [0] * 7
        self.responses_sent = [0] * 7
        self.retransmissions_absorbed = 0
        self.retransmissions_sent = 0
        self.timeouts = 0
        self.strays = 0                 # responses; the core adds the ACKs that no dialog knows
        self.merged = 0
        self.too_many_hops = 0
        self.overload = 0               # refused for want of room, by us or at us


class TransactionTable:
    """Finds the transaction of each message; makes, runs and forgets transactions."""

    def __init__(
        self,
        timers: Timers,
        deadlines: Deadlines,
        *,
        branch: Callable[[], str],
        limits: TransactionLimits = TransactionLimits(),
    ) -> None:
        self.counters = Counters()
        self._timers = timers
        self._deadlines = deadlines
        self._branch = branch
        self._limits = limits
        self._clients: dict[str, ClientTransaction] = {}
        self._servers: dict[str, ServerTransaction] = {}
        self._merging: dict[str, ServerTransaction] = {}
        # Who must hear of a transport failure, by the peer's address: clients without a response, servers on streams.
        self._exposed: dict[Address, dict[Transaction, None]] = {}

    @property
    def live_clients(self) -> int:
        return len(self._clients)

    @property
    def live_servers(self) -> int:
        return len(self._servers)

    @property
    def next_timeout(self) -> float | None:
        return self._deadlines.next

    def new_via(self, flow: Flow) -> str:
        """The Via value of a request to be sent on that flow: a new branch, and rport (RFC 3581)."""
        host, port = flow.local
        host = f"[{host}]" if ":" in host else host
        return f"SIP/2.0/{flow.transport.value} {host}:{port};branch={MAGIC_COOKIE}{self._branch()};rport"

    def knows(self, request: Request) -> bool:
        """Whether a transaction has it already: it comes again, or is the CANCEL or ACK of an INVITE."""
        return _server_key(request, request.via) in self._servers

    def count_stateless(self, method: str, status: int) -> None:
        """A request that was answered before it came here."""
        _count(self.counters.requests_received, method)
        self.counters.responses_sent[status // 100] += 1

    def receive(self, message: Request | Response, flow: Flow, now: float) -> list[Effect | TransactionEvent]:
        if isinstance(message, Response):
            return self._receive_response(message, flow, now)
        return self._receive_request(message, flow, now)

    def handle(self, owner: Transaction, timer: Enum, now: float) -> list[Effect | TransactionEvent]:
        """One of the transactions' deadlines is due."""
        match timer:
            case Timer.A | Timer.E | Timer.G:
                self.counters.retransmissions_sent += 1
            case Timer.B | Timer.F | Timer.H | Timer.CANCELLED:
                self.counters.timeouts += 1
        effects: list[Effect | TransactionEvent] = [*owner.expire(timer, now)]
        self._forget_if_over(owner)
        return effects if owner.method != "CANCEL" else _without_events(effects)

    def transport_failed(self, failed: Flow | ClientTransaction, now: float) -> list[Effect | TransactionEvent]:
        """A flow is gone or its peer unreachable, or one request could not be sent (RFC 3261 §17.1.4, §17.2.4)."""
        if not isinstance(failed, Flow):
            return self._fail(failed)
        effects: list[Effect | TransactionEvent] = []
        for transaction in list(self._exposed.get(failed.remote, ())):
            flow = transaction.flow
            same = (flow.transport, flow.peer) == (failed.transport, failed.peer)
            if same and flow.connection in (0, failed.connection):
                effects += self._fail(transaction)
        return effects

    # -- as a client ---------------------------------------------------------------------------------------------

    def send_request(
        self, request: Request, flow: Flow, now: float
    ) -> tuple[ClientTransaction, list[Effect | TransactionEvent]]:
        """Start a transaction for a request that has its Via from `new_via`."""
        assert request.method not in ("ACK", "CANCEL"), "an ACK to a 2xx has no transaction; a CANCEL comes by cancel()"
        transaction = self._new_client(request, flow)
        if len(self._clients) >= self._limits.clients:
            self.counters.overload += 1
            transaction.abandon()
            return transaction, [ClientTransportFailed(transaction)]
        return transaction, self._start(transaction, now)

    def cancel(
        self, transaction: ClientTransaction, now: float, headers: Iterable[tuple[str, str]] = ()
    ) -> list[Effect | TransactionEvent]:
        """Withdraw an INVITE, now or as soon as a provisional response allows it; after a final one, nothing."""
        if not isinstance(transaction, InviteClientTransaction):
            return []                               # RFC 3261 §9.1: of no use, as those are answered at once
        transaction.withdraw(headers)
        return self._cancel_if_due(transaction, now)

    def _new_client(self, request: Request, flow: Flow) -> ClientTransaction:
        kind = InviteClientTransaction if request.method == "INVITE" else NonInviteClientTransaction
        return kind(_client_key(request), request, flow, self._timers, self._deadlines)

    def _start(self, transaction: ClientTransaction, now: float) -> list[Effect | TransactionEvent]:
        _count(self.counters.requests_sent, transaction.method)
        self._clients[transaction.key] = transaction
        self._expose(transaction)
        return [*transaction.start(now)]

    def _receive_response(self, response: Response, flow: Flow, now: float) -> list[Effect | TransactionEvent]:
        counters = self.counters
        counters.responses_received[response.status // 100] += 1
        transaction = self._clients.get(f"{response.via.branch} {response.cseq.method}")
        if transaction is None or not _ends_here(response):
            counters.strays += 1
            return [StrayResponse(response, flow)]
        self._hide(transaction)
        repeated = transaction.state in (ClientState.COMPLETED, ClientState.ACCEPTED)
        effects: list[Effect | TransactionEvent] = [*transaction.receive(response, now)]
        if repeated:
            counters.retransmissions_absorbed += 1
            counters.retransmissions_sent += sum(isinstance(effect, Transmit) for effect in effects)    # the ACK
        self._forget_if_over(transaction)
        if transaction.method == "INVITE":
            return effects + self._cancel_if_due(transaction, now)
        return effects if transaction.method != "CANCEL" else _without_events(effects)

    def _cancel_if_due(self, transaction: ClientTransaction, now: float) -> list[Effect | TransactionEvent]:
        assert isinstance(transaction, InviteClientTransaction)
        if (cancel := transaction.take_cancel(now)) is None:
            return []
        return self._start(self._new_client(cancel, transaction.flow), now)

    # -- as a server ---------------------------------------------------------------------------------------------

    def respond(self, transaction: ServerTransaction, response: Response, now: float) -> list[Effect]:
        """What the transaction's state does not allow is dropped (RFC 3261 §17.2, RFC 4320)."""
        repeated = transaction.state is ServerState.ACCEPTED or response is transaction.last_response
        effects = transaction.respond(response, now)
        if repeated:
            self.counters.retransmissions_sent += len(effects)
        else:
            self.counters.responses_sent[response.status // 100] += len(effects)
        self._forget_if_over(transaction)
        return effects

    def trying(self, transaction: ServerTransaction, now: float) -> list[Effect]:
        """100 Trying to an INVITE; other requests get it from their transaction when the time comes (RFC 4320)."""
        if not isinstance(transaction, InviteServerTransaction):
            return []
        effects = transaction.trying(now)
        self.counters.responses_sent[1] += len(effects)
        return effects

    def abandon(self, transaction: ServerTransaction) -> None:
        """Forget a request without an answer: who sent it is told nothing."""
        transaction.abandon()
        self._forget_if_over(transaction)

    def _receive_request(self, request: Request, flow: Flow, now: float) -> list[Effect | TransactionEvent]:
        method = request.method
        _count(self.counters.requests_received, method)
        via = request.via
        key = _server_key(request, via)
        transaction = self._servers.get(key)
        if method == "ACK":
            return self._receive_ack(transaction, request, flow, now)
        if transaction is not None and method != "CANCEL":
            self.counters.retransmissions_absorbed += 1
            repeated = transaction.receive(now)
            self.counters.retransmissions_sent += len(repeated)
            return [*repeated]
        stamp(request, flow.remote)
        if method == "CANCEL":
            return self._receive_cancel(transaction, request, flow)
        return self._receive_new(key, request, flow, now)

    def _receive_ack(
        self, invite: ServerTransaction | None, ack: Request, flow: Flow, now: float
    ) -> list[Effect | TransactionEvent]:
        if not isinstance(invite, InviteServerTransaction) or not _confirms(ack, invite):
            return [AckReceived(ack, flow)]
        effects = invite.acknowledge(ack, flow, now)
        if not effects:
            self._forget_if_over(invite)
        return [*effects]

    def _receive_cancel(
        self, invite: ServerTransaction | None, cancel: Request, flow: Flow
    ) -> list[Effect | TransactionEvent]:
        """Answered without a transaction of its own: a repeated CANCEL finds the INVITE again and the same answer."""
        if not isinstance(invite, InviteServerTransaction):
            return self._refuse(cancel, flow, 481)
        if invite.to_tag is None:                   # RFC 3261 §9.2: both responses have one tag
            invite.to_tag = cancel.stateless_response(200).to_tag
        self.counters.responses_sent[2] += 1
        effects: list[Effect | TransactionEvent] = [
            Transmit(cancel.response(200, to_tag=invite.to_tag), way_back(cancel.via, flow))
        ]
        if invite.state is ServerState.PROCEEDING and not invite.withdrawn:
            invite.withdrawn = True
            effects.append(CancelReceived(invite, cancel))
        return effects

    def _receive_new(self, key: str, request: Request, flow: Flow, now: float) -> list[Effect | TransactionEvent]:
        counters = self.counters
        if len(self._servers) >= self._limits.servers:
            counters.overload += 1
            return self._refuse(request, flow, 503)
        try:
            merge_key = _merge_key(request)
            hops = request.max_forwards
        except ParseError as error:
            return self._refuse(request, flow, error.status)
        if hops == 0:
            counters.too_many_hops += 1
            return self._refuse(request, flow, 483)
        if merge_key in self._merging:              # RFC 3261 §8.2.2.2
            counters.merged += 1
            return self._refuse(request, flow, 482)
        transaction = self._new_server(key, request, flow)
        if merge_key is not None:
            transaction.merge_key = merge_key
            self._merging[merge_key] = transaction
        transaction.start(now)
        return [RequestReceived(transaction, request, flow)]

    def _new_server(self, key: str, request: Request, flow: Flow) -> ServerTransaction:
        kind = InviteServerTransaction if request.method == "INVITE" else NonInviteServerTransaction
        via = request.via
        transaction = kind(key, request, way_back(via, flow), self._timers, self._deadlines)
        self._servers[key] = transaction
        if flow.transport.reliable:
            transaction.fallback = way_back_anew(via, flow)
            self._expose(transaction)
        return transaction

    def _refuse(self, request: Request, flow: Flow, status: int) -> list[Effect | TransactionEvent]:
        """Answer and keep nothing: the same request would get the same answer (RFC 3261 §8.2.7)."""
        self.counters.responses_sent[status // 100] += 1
        response = request.stateless_response(status)
        if status == 503:
            response.headers.add("Retry-After", RETRY_AFTER)
        return [Transmit(response, way_back(request.via, flow))]

    # -- book-keeping --------------------------------------------------------------------------------------------

    def _forget_if_over(self, transaction: Transaction) -> None:
        """Its names may belong to another one by now, when the core speaks up late."""
        if isinstance(transaction, ClientTransaction):
            if transaction.state is ClientState.TERMINATED:
                _remove(self._clients, transaction.key, transaction)
                self._hide(transaction)
        elif transaction.state is ServerState.TERMINATED:
            _remove(self._servers, transaction.key, transaction)
            if transaction.merge_key is not None:
                _remove(self._merging, transaction.merge_key, transaction)
            self._hide(transaction)

    def _fail(self, transaction: Transaction) -> list[Effect | TransactionEvent]:
        self._hide(transaction)
        if isinstance(transaction, ClientTransaction):
            effects: list[Effect | TransactionEvent] = [*transaction.transport_failed()]
            self._forget_if_over(transaction)
            return effects if transaction.method != "CANCEL" else []
        transaction.transport_failed()
        if transaction.state is not ServerState.TERMINATED:
            self._expose(transaction)
        self._forget_if_over(transaction)
        return []

    def _expose(self, transaction: Transaction) -> None:
        self._exposed.setdefault(transaction.flow.remote, {})[transaction] = None

    def _hide(self, transaction: Transaction) -> None:
        remote = transaction.flow.remote
        if (exposed := self._exposed.get(remote)) is not None:
            exposed.pop(transaction, None)
            if not exposed:
                del self._exposed[remote]


def _count(counts: dict[str, int], method: str) -> None:
    counts[method if method in counts else "other"] += 1


def _remove(table: dict[str, _Kind], key: str, value: _Kind) -> None:
    if table.get(key) is value:
        del table[key]


def _without_events(effects: list[Effect | TransactionEvent]) -> list[Effect | TransactionEvent]:
    """Nobody waits for the outcome of a CANCEL: that of its INVITE tells."""
    return [effect for effect in effects if isinstance(effect, Transmit)]


def _ends_here(response: Response) -> bool:
    """With a second Via it was meant for somebody behind us, who does not exist (RFC 3261 §8.1.3.3)."""
    return response.headers.count("Via") == 1 and "," not in (response.headers.get("Via") or "")


def _client_key(request: Request) -> str:
    """What its responses repeat (RFC 3261 §17.1.3). The Via is as `new_via` wrote it: parsing it took 6 us."""
    branch = (request.headers.get("Via") or "").partition(";branch=")[2].partition(";")[0]
    return f"{branch} {request.method}"


def _server_key(request: Request, via: Via) -> str:
    """What a request has in common with its repetitions, and an INVITE with its ACK and CANCEL (RFC 3261 §17.2.3)."""
    method = "INVITE" if request.method in ("ACK", "CANCEL") else request.method
    if via.has_magic_cookie:
        return _brief(f"{via.branch} {via.sent_by} {method}")
    # RFC 2543: the tag in To tells, of those that agree in all this, only the ACK to a 2xx apart; see _confirms.
    number = request.cseq.number
    return _brief(f"{request.uri} {request.from_tag} {request.call_id} {number} {method} {request.headers.get('Via')}")


def _confirms(ack: Request, invite: InviteServerTransaction) -> bool:
    """Of an INVITE by RFC 2543, an ACK has the tag that the response gave it (RFC 3261 §17.2.3)."""
    return ack.via.has_magic_cookie or invite.to_tag is None or ack.to_tag == invite.to_tag


def _merge_key(request: Request) -> str | None:
    """Equal for requests that were forked on their way and met here again (RFC 3261 §8.2.2.2)."""
    if request.to_tag is not None:
        return None
    return _brief(f"{request.call_id} {request.from_tag} {request.cseq.number} {request.method}")


def _brief(key: str) -> str:
    """A stranger's long names are not kept for half a minute."""
    return key if len(key) <= MAX_KEY else blake2b(key.encode(errors="surrogateescape")).hexdigest()
