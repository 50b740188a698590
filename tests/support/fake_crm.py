"""A CRM that answers as a test says, when it says, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from b2bua.crm.port import Contact, CrmWrite, Delivered, EntityKind, Made, PopUp


def contact(name: str = "Иван Петров", responsible: int | None = 77) -> Contact:
    return Contact(EntityKind.CONTACT, 9001, name, responsible)


@dataclass
class FakeCrm:
    contacts: dict[str, Contact] = field(default_factory=dict)
    answers_after: float = 0.0         # seconds
    failure: Exception | None = None   # raised instead of an answer
    fate_of: Callable[[CrmWrite], Exception | None] = lambda write: None
    asked: Counter[str] = field(default_factory=Counter)
    delivered: list[CrmWrite] = field(default_factory=list)
    delivered_at: list[float] = field(default_factory=list)
    repeats: list[bool] = field(default_factory=list)
    attempts: int = 0
    shown: list[PopUp] = field(default_factory=list)

    async def find_contact(self, phone: str) -> Contact | None:
        self.asked[phone] += 1
        await self._think()
        return self.contacts.get(phone)

    async def deliver(self, write: CrmWrite, known: tuple[Made, ...] = (), *, repeated: bool = False) -> Delivered:
        self.attempts += 1
        await self._think()
        if (error := self.fate_of(write)) is not None:
            raise error
        self.delivered.append(write)
        self.delivered_at.append(asyncio.get_running_loop().time())
        self.repeats.append(repeated)
        return Delivered(f"note {len(self.delivered)}")

    async def pop_up(self, pop_up: PopUp) -> None:
        await self._think()
        self.shown.append(pop_up)

    async def _think(self) -> None:
        if self.answers_after:
            await asyncio.sleep(self.answers_after)
        if self.failure is not None:
            raise self.failure
