"""What a stand-in account holds: cards (contacts, companies, leads, customers), notes, tasks, users, pop-ups."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

Json = dict[str, object]
WON, LOST = 142, 143                   # stages that every pipeline has
_NO_DIGIT = re.compile(r"\D+")


class EntityType(Enum):
    """The value is the word in paths; amoCRM also says it in the singular and, in v2, as a number."""

    CONTACTS = "contacts"
    COMPANIES = "companies"
    LEADS = "leads"
    CUSTOMERS = "customers"

    @property
    def singular(self) -> str:
        return {"contacts": "contact", "companies": "company", "leads": "lead", "customers": "customer"}[self.value]

    @property
    def path(self) -> str:
        return f"/api/v4/{self.value}"

    @property
    def number(self) -> int:
        return {"contacts": 1, "leads": 2, "companies": 3, "customers": 12}[self.value]


@dataclass(frozen=True, slots=True)
class FieldValue:
    """One value of a custom field: `code` is PHONE or EMAIL, `enum` its kind (WORK, MOB, ...)."""

    code: str
    value: str
    enum: str = "WORK"


@dataclass(slots=True)
class Entity:
    """A contact, company, lead or customer. Hidden: part of an unsorted lead that nobody has accepted yet."""

    type: EntityType
    id: int
    name: str
    responsible_user_id: int
    created_by: int
    created_at: int
    updated_at: int
    first_name: str = ""
    last_name: str = ""
    fields: list[FieldValue] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    linked: dict[EntityType, list[int]] = field(default_factory=dict)
    status_id: int = 0                 # leads only
    pipeline_id: int = 0
    price: int = 0
    is_hidden: bool = False

    @property
    def phones(self) -> list[str]:
        return [value.value for value in self.fields if value.code == "PHONE"]

    @property
    def is_open_lead(self) -> bool:
        return self.type is EntityType.LEADS and self.status_id not in (WON, LOST)

    def links(self, kind: EntityType) -> list[int]:
        return self.linked.setdefault(kind, [])

    def texts(self) -> Iterator[str]:
        """All that a `query` looks into."""
        yield self.name
        yield from (value.value for value in self.fields)
        yield from self.tags


@dataclass(slots=True)
class Note:
    id: int
    entity_type: EntityType
    entity_id: int
    note_type: str
    params: Json
    created_by: int
    responsible_user_id: int
    created_at: int
    updated_at: int


@dataclass(slots=True)
class Task:
    id: int
    text: str
    complete_till: int
    responsible_user_id: int
    created_by: int
    created_at: int
    updated_at: int
    entity_type: EntityType | None = None
    entity_id: int | None = None
    task_type_id: int = 1
    duration: int = 0
    is_completed: bool = False
    result: str = ""                   # what was written when it was completed


class Fate(Enum):
    """What became of an unsorted lead."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DECLINED = "declined"


@dataclass(slots=True)
class Unsorted:
    """A lead, with its contact and company, that waits to be accepted."""

    uid: str
    category: str
    source_uid: str
    source_name: str
    pipeline_id: int
    created_at: int
    metadata: Json
    embedded: dict[EntityType, tuple[int, ...]]
    fate: Fate = Fate.OPEN

    @property
    def phone(self) -> str:
        return str(self.metadata.get("phone", ""))


@dataclass(slots=True)
class User:
    id: int
    name: str
    email: str
    is_admin: bool
    is_active: bool


@dataclass(frozen=True, slots=True)
class ShownPopUp:
    """One incoming-call event, as the browsers of these users showed it."""

    at: int
    phone: str
    users: tuple[int, ...]
    entity_type: EntityType | None
    entity_id: int | None


def digits_of(text: str) -> str:
    return _NO_DIGIT.sub("", text)
