"""What the switch wants to read ahead of a CRM: its cards with the numbers that they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from b2bua.crm.port import Contact, EntityKind

CARDS_OF_A_PAGE = 50                   # more would take the loop more than a millisecond to read


@dataclass(frozen=True, slots=True)
class Holder:
    """A contact, company or deal, and its numbers as `normalise` writes them. `updated_at` is the CRM's clock."""

    contact: Contact
    phones: tuple[str, ...]
    updated_at: int


@dataclass(frozen=True, slots=True)
class Page:
    holders: Sequence[Holder]
    more: bool                         # whether there is a next page


@dataclass(frozen=True, slots=True)
class Hint:
    """Somebody says that this card has changed: reason enough to read it, and no more."""

    kind: EntityKind
    card: int
    is_gone: bool = False


class People(Protocol):
    """One client's CRM, read at leisure: calls and writes go first. Every method may raise CrmError."""

    async def page(self, kind: EntityKind, number: int) -> Page:
        """Cards of this kind, those that changed last first; pages are counted from 1."""
        ...

    async def read(self, kind: EntityKind, card: int) -> Holder | None:
        """None: there is no such card any more."""
        ...

    async def find(self, phone: str) -> Contact | None:
        """Who has this number, of several by the rules."""
        ...

    async def subscribe(self, address: str, *, on: bool) -> None:
        """From now on the CRM tells this address (not) what changes. Told already: nothing happens."""
        ...
