"""What all sessions of one user agent core share: configuration, transactions, deadlines, names, and who is alive."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import TYPE_CHECKING

from b2bua.sip.effects import Effect, Flow, Transmit, Transport
from b2bua.sip.message import Message, Request, Response
from b2bua.sip.session_timer import SessionTimerPolicy
from b2bua.sip.timers import Deadlines, Timers
from b2bua.sip.transaction_table import (
    ClientTransaction,
    ClientTransportFailed,
    ServerTransaction,
    TransactionEvent,
    TransactionLimits,
    TransactionTable,
)
from b2bua.sip.uri import Uri

if TYPE_CHECKING:
    from b2bua.sip.dialog import Dialog
    from b2bua.sip.invite_session import InviteSession

MAX_INTERNED = 256                      # different sets of methods or option tags that peers have shown

Fields = Iterable[tuple[str, str]]      # header fields as a caller gives them

# The request that was challenged and the 401 or 407 in; headers to repeat it with out, None to leave it at that.
Authorize = Callable[[Request, Response], Fields | None]

ALLOW = (
    "INVITE", "ACK", "CANCEL", "BYE", "PRACK", "UPDATE", "OPTIONS", "INFO", "REFER", "NOTIFY", "SUBSCRIBE", "MESSAGE",
    "REGISTER",
)   # fmt: skip


class Role(Enum):
    UAC = "UAC"
    UAS = "UAS"


class State(Enum):
    """Of a session; its picture is in `invite_session`."""

    SETUP = "setup"             # no dialog yet
    EARLY = "early"
    ACCEPTED = "accepted"       # a 2xx has passed, its ACK has not
    CONFIRMED = "confirmed"
    ENDING = "ending"           # hung up; a final response or an ACK is awaited first
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Owed:
    """A request of the peer that waits for the answer of our transaction user."""

    transaction: ServerTransaction
    request: Request
    dialog: Dialog
    flow: Flow                  # where it came from


class SessionDeadline(Enum):
    """What a session may wait for, besides its transactions."""

    ACK = "the ACK to our 2xx"                      # RFC 3261 §13.3.1.4
    PRACK = "the PRACK to our reliable 18x"         # RFC 3262 §3
    RINGING = "the next 18x to keep an INVITE up"   # RFC 3261 §13.3.1.1
    GLARE = "another try of our re-INVITE"          # RFC 3261 §14.1
    REFRESH = "our session refresh"                 # RFC 4028 §7.2
    EXPIRY = "the end of a session not refreshed"   # RFC 4028 §10
    UNSENT = "word that a request was never sent"   # its owner is the client transaction


@dataclass(frozen=True, slots=True)
class CoreConfig:
    timers: Timers = field(default_factory=Timers)
    user_agent: str = "Smartswitch"
    allow: tuple[str, ...] = ALLOW
    supported: tuple[str, ...] = ("100rel", "timer", "replaces", "norefersub")
    supported_of_registrar: tuple[str, ...] = ("path", "outbound")     # RFC 3327, RFC 5626: by REGISTER alone
    session_timer: SessionTimerPolicy = field(default_factory=SessionTimerPolicy)
    max_sessions: int = 20_000
    limits: TransactionLimits = field(default_factory=TransactionLimits)


@dataclass(slots=True)
class Counters:
    """What the core turned away, for the metrics."""

    refused: int = 0            # not admitted: answered statelessly, or not at all
    withheld: int = 0           # answers that were not sent, as they are longer than a stranger's request may earn
    strays: int = 0             # responses and ACKs that belong to nothing
    overloaded: int = 0         # INVITEs above max_sessions
    malformed: int = 0          # a field that we needed could not be read
    too_many_branches: int = 0  # early dialogs or 200s above the limit of one INVITE


class Identifiers:
    """Tags, Call-IDs and branches: 64 bits each that nobody can foretell from those they have seen (RFC 3261 §19.3).

    A keyed hash of a counter, eight at a time, as the system's own random source would cost ten times as much.
    """

    __slots__ = ("_count", "_key", "_ready")

    def __init__(self, random: Random) -> None:
        self._key = random.randbytes(32)
        self._count = 0
        self._ready: list[str] = []

    def __call__(self) -> str:
        if not self._ready:
            self._count += 1
            text = hashlib.blake2b(self._count.to_bytes(8, "big"), key=self._key).hexdigest()
            self._ready = [text[at:at + 16] for at in range(0, 128, 16)]
        return self._ready.pop()


class Stack:
    """Given to every session of a core."""

    __slots__ = (
        "_sets", "about_us", "about_us_answering", "about_us_reoffering", "allow", "allow_field", "capabilities",
        "config", "counters", "deadlines", "identify", "random", "sessions", "supported", "supported_of_registrar",
        "table",
    )   # fmt: skip

    def __init__(self, config: CoreConfig, random: Random) -> None:
        self.config = config
        self.random = random
        self.identify = Identifiers(random)
        self.deadlines = Deadlines()
        self.table = TransactionTable(config.timers, self.deadlines, branch=self.identify, limits=config.limits)
        self.sessions: dict[str, InviteSession] = {}        # by our tag, which is the session's id
        self.counters = Counters()
        self.supported = frozenset(config.supported)
        self.supported_of_registrar = self.supported | frozenset(config.supported_of_registrar)
        self.allow = frozenset(config.allow)
        allow = self.allow_field = ("Allow", ", ".join(config.allow))
        supported = ("Supported", ", ".join(config.supported))
        # A re-INVITE is answered at once: without 100rel in it, no reliable 18x complicates it (RFC 3262 §3).
        reoffering = ("Supported", ", ".join(tag for tag in config.supported if tag != "100rel"))
        self.about_us = (allow, supported, ("User-Agent", config.user_agent))
        self.about_us_reoffering = (allow, reoffering, ("User-Agent", config.user_agent))
        self.about_us_answering = (allow, supported, ("Server", config.user_agent))
        # RFC 3261 §11.2: what we can do, what matters most first.
        self.capabilities = (
            allow, ("Accept", "application/sdp"), ("Accept-Encoding", "identity"), supported,
            ("Server", config.user_agent),
        )
        self._sets: dict[str, frozenset[str]] = {}

    def send(self, request: Request, flow: Flow, user: object, now: float) -> tuple[ClientTransaction, list[Effect]]:
        """Start a client transaction whose outcome goes to `user`; that it failed at once is told in the next round."""
        transaction, outcomes = self.table.send_request(request, flow, now)
        transaction.user = user
        return transaction, self.effects(outcomes, now)

    def effects(self, outcomes: Iterable[Effect | TransactionEvent], now: float) -> list[Effect]:
        """What a command of ours caused. An event cannot be handled amid a change of state: it becomes a deadline."""
        effects: list[Effect] = []
        for outcome in outcomes:
            if isinstance(outcome, Transmit):
                effects.append(outcome)
            elif isinstance(outcome, ClientTransportFailed):
                self.deadlines.arm(now, outcome.transaction, SessionDeadline.UNSENT)
        return effects

    def retry_after(self) -> tuple[str, str]:
        """RFC 3261 §14.2, RFC 3311 §5.2: between 0 and 10 seconds; 0 would only be refused again."""
        return "Retry-After", str(self.random.randint(1, 10))

    def names_in(self, message: Message, field_name: str) -> frozenset[str] | None:
        """The methods of Allow, the option tags of Supported; None when the message does not say.

        Peers of one make say the same: it is read once, and thousands of sessions keep one copy.
        """
        text = message.headers.get(field_name)
        if text is None:
            return None
        if message.headers.count(field_name) > 1:
            return message.allow if field_name == "Allow" else message.supported
        names = self._sets.get(text)
        if names is None:
            if len(self._sets) >= MAX_INTERNED:
                self._sets.clear()
            names = self._sets[text] = message.allow if field_name == "Allow" else message.supported
        return names


def contact_of(flow: Flow, user: str, *, secure: bool = False) -> str:
    """Our Contact as header text: where the peer's requests reach us on this flow. A sips URI says TLS by itself
    (RFC 5630 §3.1.3)."""
    implied = flow.transport is (Transport.TLS if secure else Transport.UDP)
    params = {} if implied else {"transport": flow.transport.value.lower()}
    return f"<{Uri('sips' if secure else 'sip', user, flow.local.host, flow.local.port, params)}>"
