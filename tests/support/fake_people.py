"""A CRM's cards to read ahead, on a clock of its own, that fails when a test says so."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace

from b2bua.crm.people import CARDS_OF_A_PAGE, Holder, Page
from b2bua.crm.port import Contact, EntityKind


@dataclass
class FakePeople:
    cards: dict[tuple[EntityKind, int], Holder] = field(default_factory=dict)
    clock: int = 1_000
    takes: float = 0.1                 # seconds that an answer takes
    failures: list[Exception] = field(default_factory=list)    # raised by the next requests, one each
    refused: dict[EntityKind, Exception] = field(default_factory=dict)
    subscription: Exception | None = None
    asked: Counter[str] = field(default_factory=Counter)
    asked_at: list[float] = field(default_factory=list)
    told: list[tuple[str, bool]] = field(default_factory=list)

    def put(self, card: int, *phones: str, kind: EntityKind = EntityKind.CONTACT, name: str = "") -> Contact:
        """A new card, or a changed one."""
        self.clock += 1
        contact = Contact(kind, card, name or f"Клиент {card}", 77)
        self.cards[kind, card] = Holder(contact, phones, self.clock)
        return contact

    def fill(self, number: int) -> None:
        for serial in range(number):
            self.put(serial + 1, f"+7916{serial:07d}")

    def touch(self, card: int) -> None:
        self.clock += 1
        key = EntityKind.CONTACT, card
        self.cards[key] = replace(self.cards[key], updated_at=self.clock)

    async def page(self, kind: EntityKind, number: int) -> Page:
        await self._think(f"page {kind.value}")
        if kind in self.refused:
            raise self.refused[kind]
        rows = sorted((one for one in self.cards.values() if one.contact.kind is kind),
                      key=lambda one: -one.updated_at)
        begin = (number - 1) * CARDS_OF_A_PAGE
        return Page(rows[begin:begin + CARDS_OF_A_PAGE], len(rows) > begin + CARDS_OF_A_PAGE)

    async def read(self, kind: EntityKind, card: int) -> Holder | None:
        await self._think("read")
        return self.cards.get((kind, card))

    async def find(self, phone: str) -> Contact | None:
        await self._think("find")
        return self.right(phone)

    async def find_contact(self, phone: str) -> Contact | None:
        """As a call asks."""
        await self._think("call")
        return self.right(phone)

    def right(self, phone: str) -> Contact | None:
        """Of several the oldest, which is not whom the memory would guess."""
        found = [one.contact for one in self.cards.values() if phone in one.phones]
        return min(found, key=lambda one: (list(EntityKind).index(one.kind), one.id)) if found else None

    async def subscribe(self, address: str, *, on: bool) -> None:
        await self._think("subscribe")
        if self.subscription is not None:
            raise self.subscription
        self.told.append((address, on))

    async def _think(self, what: str) -> None:
        self.asked[what] += 1
        self.asked_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes)
        if self.failures:
            raise self.failures.pop(0)
