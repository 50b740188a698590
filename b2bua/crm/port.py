"""What the switch wants of a CRM, in the switch's own words; amoCRM is one answer, no CRM is another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from b2bua.cdr import CallId, ClientId, Direction, Disposition
from b2bua.crm.functions import CardKind


class EntityKind(Enum):
    CONTACT = "contact"
    COMPANY = "company"
    LEAD = "lead"


@dataclass(frozen=True, slots=True)
class Contact:
    """Who calls, as the CRM knows them."""

    kind: EntityKind
    id: int
    name: str
    responsible: int | None            # the CRM's user id


@dataclass(frozen=True, slots=True)
class OpenDeal:
    """What the call may be about: the deal by which the caller was found, or the only open one that they have."""

    id: int
    name: str


class TellsDeals(Protocol):
    """May raise CrmError."""

    async def open_deal(self, contact: Contact) -> OpenDeal | None: ...


@dataclass(frozen=True, slots=True)
class PopUp:
    """F1: show these users that this number calls them."""

    client: ClientId
    phone: str
    users: tuple[int, ...]


# -- what the CRM is owed: each a row of the outbox, in the order in which a call owes them


@dataclass(frozen=True, slots=True)
class Card:
    """F7, F8: whoever has this number is in the CRM from now on, unless they are there already."""

    call: CallId
    client: ClientId
    direction: Direction
    phone: str                         # the outside party, E.164 where known
    started_at: datetime
    make: CardKind
    user: int | None                   # whose it becomes; None: the account's default user
    name: str
    tag: str                           # "": none
    did: str                           # our number that was called, or the trunk's name
    talk_seconds: int = 0
    answered: bool = False             # if not, an unsorted lead tells the call itself; else its CallNote does


@dataclass(frozen=True, slots=True)
class Deal:
    """A deal for the contact that this call's Card has made; none where it has made none."""

    call: CallId
    client: ClientId
    phone: str
    started_at: datetime
    user: int | None
    name: str
    pipeline: int | None
    stage: int | None
    tag: str


@dataclass(frozen=True, slots=True)
class CallNote:
    """One outside call for the card (F3). `recording` is the recording's id, whose link is made when it is sent."""

    call: CallId
    client: ClientId
    direction: Direction
    phone: str                         # the outside party, E.164 where known
    started_at: datetime
    talk_seconds: int
    disposition: Disposition
    user: int | None                   # who talked last, or whose phone it was
    contact_name: str | None
    did: str                           # our number that was called, or the trunk's name
    recording: str | None
    talked: tuple[str, ...] = ()       # everybody of the office who talked, in their order, when it was handed over


@dataclass(frozen=True, slots=True)
class RecordingLink:
    """F4: the recording of a call that was told without it, as it took too long."""

    call: CallId
    client: ClientId
    phone: str
    started_at: datetime
    recording: str | None


class Purpose(Enum):
    FILL_IN = "fill in"                # F9: only where this call's Card has made a contact
    CALL_BACK = "call back"            # F10: only for whom the CRM knows; one open task a caller


@dataclass(frozen=True, slots=True)
class Task:
    """A task on the caller's card."""

    call: CallId
    client: ClientId
    phone: str
    started_at: datetime
    purpose: Purpose
    user: int | None                   # None: the card's responsible user, else the account's default user
    text: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class TalkedTo:
    """F10: somebody talks to the caller, which closes the open call-back task, if there is one."""

    call: CallId
    client: ClientId
    phone: str
    started_at: datetime


CrmWrite = Card | Deal | CallNote | RecordingLink | Task | TalkedTo


class MadeKind(Enum):
    CONTACT = "contact"
    UNSORTED = "unsorted"
    DEAL = "deal"
    NOTE = "note"
    TASK = "task"


@dataclass(frozen=True, slots=True)
class Made:
    """Something of ours in the CRM. The CRM tells no doubles apart, and finds what is new only after a while: our own
    memory of it, per outside number, does both."""

    kind: MadeKind
    call: CallId                       # for which it was made
    id: str                            # the CRM's
    on: str = ""                       # the card that it hangs on, "contacts/9001"; "" for a card itself
    is_open: bool = False              # a call-back task that nobody has closed yet, an unsorted lead


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of a write: `made` and `closed` are remembered in the transaction that ends it."""

    outcome: str                       # for people: "note 555", "known already"
    made: tuple[Made, ...] = ()
    closed: tuple[Made, ...] = ()      # of those remembered: not open any more, or gone
    then: tuple[CrmWrite, ...] = ()    # owed from now on
    card: str = ""                     # on which it was done, "contacts/9001"


class CrmError(Exception):
    """Something the CRM did."""


class CrmUnavailable(CrmError):
    """Again later: unreachable, slow, 429, 5xx. `retry_after` in seconds when the CRM said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CrmShut(CrmUnavailable):
    """The same until somebody sees to it: the account is blocked, or not paid."""


class CrmRejected(CrmError):
    """Never: the CRM understood and refused this one."""


class CrmNoCard(CrmRejected):
    """Nobody in the CRM has this number: there is no card to write to."""


class CrmUnauthorized(CrmError):
    """A person must reconnect the account."""


class NotConnected(Exception):
    """One sentence for the administrator: why an account is not connected, and what to do."""


class Crm(Protocol):
    """One client's CRM. Every method may raise CrmError and is cancelled by its caller's patience."""

    async def find_contact(self, phone: str) -> Contact | None: ...

    async def deliver(self, write: CrmWrite, known: tuple[Made, ...] = (), *, repeated: bool = False) -> Delivered:
        """Carry it out, or, when it was tried before (`repeated`), find that it was carried out already. `known`: what
        is remembered of this number, the newest first."""
        ...

    async def pop_up(self, pop_up: PopUp) -> None: ...
