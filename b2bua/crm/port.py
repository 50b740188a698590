"""What the switch wants of a CRM, in the switch's own words; amoCRM is one answer, no CRM is another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from b2bua.cdr import CallId, ClientId, Direction, Disposition


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
class CallNote:
    """One outside call for the card (F3). `recording` is the recording's id, whose link is made when it is sent."""

    call: CallId
    client: ClientId
    direction: Direction
    phone: str                         # the outside party, E.164 where known
    started_at: datetime
    talk_seconds: int
    disposition: Disposition
    user: int | None                   # who talked, or whose phone it was
    contact_name: str | None
    did: str                           # our number that was called, or the trunk's name
    recording: str | None


@dataclass(frozen=True, slots=True)
class PopUp:
    """F1: show these users that this number calls them."""

    client: ClientId
    phone: str
    users: tuple[int, ...]


CrmWrite = CallNote                    # a union from the next issue on: contacts, tasks


class CrmError(Exception):
    """Something the CRM did."""


class CrmUnavailable(CrmError):
    """Again later: unreachable, slow, 429, 5xx. `retry_after` in seconds when the CRM said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CrmRejected(CrmError):
    """Never: the CRM understood and refused this one."""


class CrmNoCard(CrmRejected):
    """Nobody in the CRM has this number: there is no card to write to."""


class CrmUnauthorized(CrmError):
    """A person must reconnect the account."""


class Crm(Protocol):
    """One client's CRM. Every method may raise CrmError and is cancelled by its caller's patience."""

    async def find_contact(self, phone: str) -> Contact | None: ...

    async def deliver(self, write: CrmWrite, *, repeated: bool = False) -> str:
        """Carry it out, or, when it was tried before (`repeated`), find that it was carried out already; returns
        what to log (e.g. the note's id)."""
        ...

    async def pop_up(self, pop_up: PopUp) -> None: ...
