"""What the protocol core asks of the world (Transmit) and tells the transaction user (all the rest)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from b2bua.sip.client_transactions import ClientTransaction
    from b2bua.sip.invite_session import InviteSession
    from b2bua.sip.message import Request, Response
    from b2bua.sip.server_transactions import ServerTransaction


class Transport(Enum):
    """A transport as it is named in Via (RFC 3261 §18, RFC 7118)."""

    UDP = "UDP"
    TCP = "TCP"
    TLS = "TLS"
    WS = "WS"
    WSS = "WSS"

    @property
    def reliable(self) -> bool:
        """Whether retransmission is the transport's own business (RFC 3261 §17.1.1.2)."""
        return self is not Transport.UDP

    @property
    def secure(self) -> bool:
        """Whether a sips URI may be served by it (RFC 5630 §3.1.3, RFC 7118 §5)."""
        return self in (Transport.TLS, Transport.WSS)

    @property
    def default_port(self) -> int:
        return 5061 if self is Transport.TLS else 5060


class Address(NamedTuple):
    """An IP address (never a name; IPv6 without brackets) and a port."""

    host: str
    port: int


class TlsPeer(NamedTuple):
    """Whom a TLS connection that we make must lead to, and who we are there (RFC 5922 §7).

    Connections are kept apart by it: what was proved to one trunk's satisfaction serves no other trunk.
    """

    names: tuple[str, ...]          # the SIP domain; its certificate must name one of these
    ca_file: str = ""               # who may vouch for it; empty: the system's authorities
    certificate: str = ""           # what we show when asked; empty: nothing
    key: str = ""


class Flow(NamedTuple):
    """Where messages to one peer go and come from.

    `local` is the address to be written into Via and Contact; `connection` tells the stream
    connection of that transport (0: none yet, or UDP).
    """

    transport: Transport
    local: Address
    remote: Address
    connection: int = 0
    peer: TlsPeer | None = None     # of connections that we make ourselves


class EndCause(Enum):
    """Why a session is over: the closed set that ends up in the call record."""

    BYE = "bye"
    CANCELLED = "cancelled"                 # the UAC withdrew its INVITE
    REJECTED = "rejected"                   # a final response of 300 or more
    TIMED_OUT = "timed out"                 # no final response (RFC 3261 §17.1.1.2, timer B)
    NO_ACK = "no ACK"                       # our 2xx was never acknowledged (RFC 3261 §13.3.1.4)
    SESSION_EXPIRED = "session expired"     # RFC 4028 §10
    DIALOG_GONE = "dialog gone"             # 481 or 408 to a request inside the dialog (RFC 3261 §12.2.1.2)
    TRANSPORT_FAILED = "transport failed"
    PROTOCOL_ERROR = "protocol error"       # e.g. a 2xx without the answer that it owes


class Party(Enum):
    LOCAL = "local"
    REMOTE = "remote"


class Transmit(NamedTuple):                 # no dataclass, as it is made for every message: half the time
    """Put these bytes on the wire. `bytes(message)` is memoised, so that repeating costs nothing."""

    message: Request | Response
    flow: Flow


@dataclass(frozen=True, slots=True)
class IncomingInvite:
    """Somebody calls. 100 Trying is already among the effects before this one."""

    session: InviteSession


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """A request outside any dialog that is not an INVITE: REGISTER, OPTIONS, MESSAGE, ... A SUBSCRIBE also comes here
    from inside a dialog, unless it is a call's: subscriptions are not the core's.

    To be answered by `core.respond(transaction, response, now)`.
    """

    transaction: ServerTransaction
    request: Request
    flow: Flow


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """The final response to a request made by `core.request` (a 408 or 503 of our own making when none came)."""

    transaction: ClientTransaction
    response: Response


@dataclass(frozen=True, slots=True)
class Provisional:
    """18x (never 100) to our INVITE. A reliable one is PRACKed already, unless it holds an offer
    (`wants_answer`): then `session.prack(response, answer, now)` is owed. `to_tag` tells branches apart."""

    session: InviteSession
    response: Response
    wants_answer: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """2xx to our INVITE. It is ACKed already, unless it holds an offer (`wants_answer`): then
    `session.ack(answer, now)` is owed. `sdp` is the callee's offer or answer, be it that an 18x held it."""

    session: InviteSession
    response: Response
    sdp: bytes
    wants_answer: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """A final response of 300 to 699 to our INVITE; ACKed already. Challenges come here too."""

    session: InviteSession
    response: Response


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The ACK to our 2xx arrived; its body is the answer when our 2xx held the offer, else empty."""

    session: InviteSession
    body: bytes


@dataclass(frozen=True, slots=True)
class OfferReceived:
    """re-INVITE, UPDATE, or PRACK with an offer (`offer` is empty for an offerless re-INVITE: we shall offer).

    Owed: `session.accept_offer(request, sdp, now)` or `session.refuse_offer(request, status, now)`.
    """

    session: InviteSession
    request: Request
    offer: bytes


@dataclass(frozen=True, slots=True)
class OfferAnswered:
    """Our re-INVITE or UPDATE got its 2xx. ACKed, unless `wants_answer` (we sent no offer and got one)."""

    session: InviteSession
    response: Response
    wants_answer: bool = False


@dataclass(frozen=True, slots=True)
class OfferRefused:
    """Our re-INVITE or UPDATE was refused; the session stays as it was (RFC 3261 §14.1). 491 is retried inside."""

    session: InviteSession
    response: Response


@dataclass(frozen=True, slots=True)
class AnswerConfirmed:
    """The ACK to our 2xx of a re-INVITE; `body` is the answer when that 2xx held our offer."""

    session: InviteSession
    body: bytes


@dataclass(frozen=True, slots=True)
class DialogRequest:
    """INFO, REFER, NOTIFY, MESSAGE, ... inside the dialog. Owed: `session.respond(request, status, now)`."""

    session: InviteSession
    request: Request


@dataclass(frozen=True, slots=True)
class DialogResponse:
    """The final response to `session.request(...)`."""

    session: InviteSession
    request: Request
    response: Response


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over; nothing more comes from it. For a UAS session before its 2xx this is the CANCEL."""

    session: InviteSession
    by: Party
    cause: EndCause
    message: Request | Response | None = None     # the BYE, CANCEL or response that ended it (Reason, RFC 3326)


Effect = (
    Transmit
    | IncomingInvite
    | IncomingRequest
    | RequestAnswered
    | Provisional
    | Answered
    | Rejected
    | Confirmed
    | OfferReceived
    | OfferAnswered
    | OfferRefused
    | AnswerConfirmed
    | DialogRequest
    | DialogResponse
    | Ended
)
