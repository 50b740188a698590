"""All that a stand-in amoCRM knows, in memory: accounts, clock, tokens, faults, journal, switches."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from b2bua.sandbox.entities import Entity, EntityType, FieldValue, Json, Note, ShownPopUp, User, digits_of
from b2bua.sandbox.faults import Faults
from b2bua.sandbox.journal import Journal
from b2bua.sandbox.seed import SandboxSeed, SeedAccount, SeedContact, SeedLead
from b2bua.sandbox.tokens import Tokens

MOST_ENTITIES = 200_000                # of each type in an account
MOST_NOTES = 200_000
POP_UPS = 10_000                       # the last ones
COMPARED_DIGITS = 10


class Full(Exception):
    """The stand-in's memory has an end."""


@dataclass(slots=True)
class Clock:
    """Real time with an offset that a test moves."""

    offset: float = 0.0

    def now(self) -> float:
        return time.time() + self.offset

    def advance(self, seconds: float) -> None:
        self.offset += seconds


@dataclass(slots=True)
class Switches:
    """Where the real server is not known for certain, or a test wants it otherwise."""

    per_second: int | None = 7         # per integration; None: not limited
    account_per_second: int | None = 50
    limited_as_text: bool = False      # the body of a 429
    retry_after: int | None = None     # in that body, when it is JSON
    block_after: int = 100             # 429s in a minute, then 403 until `unblock`
    mixed_calls_status: int = 200      # of a batch of calls of which some found nobody
    has_filters: bool = False          # the paid add-on
    is_paid: bool = True


@dataclass(slots=True)
class Account:
    id: int
    subdomain: str
    name: str
    created_at: int
    users: dict[int, User] = field(default_factory=dict)
    entities: dict[EntityType, dict[int, Entity]] = field(default_factory=lambda: {kind: {} for kind in EntityType})
    notes: dict[int, Note] = field(default_factory=dict)
    pop_ups: deque[ShownPopUp] = field(default_factory=lambda: deque(maxlen=POP_UPS))
    _ids: count[int] = field(default_factory=lambda: count(40_000_001))

    def next_id(self) -> int:
        return next(self._ids)

    def field_id(self, code: str) -> int:
        """Differs from account to account."""
        return self.id % 1_000 * 1_000 + {"PHONE": 401, "EMAIL": 403}[code]

    def has_active_user(self, user: int) -> bool:
        return user in self.users and self.users[user].is_active

    @property
    def first_user(self) -> int:
        return next(iter(self.users), 0)

    def add(self, entity: Entity) -> Entity:
        rows = self.entities[entity.type]
        if len(rows) >= MOST_ENTITIES:
            raise Full(f"more than {MOST_ENTITIES} {entity.type.value}")
        rows[entity.id] = entity
        return entity

    def add_note(self, note: Note) -> Note:
        if len(self.notes) >= MOST_NOTES:
            raise Full(f"more than {MOST_NOTES} notes")
        self.notes[note.id] = note
        return note

    def link(self, one: Entity, other: Entity) -> None:
        for here, there in ((one, other), (other, one)):
            if there.id not in here.links(there.type):
                here.links(there.type).append(there.id)

    def search(self, kind: EntityType, query: str) -> list[Entity]:
        """Any text of a card may hold it; digits are compared as digits, so that strangers are found too."""
        wanted, digits = query.casefold(), digits_of(query)
        return [
            entity for entity in self.entities[kind].values()
            if any(wanted in text.casefold() or (digits and digits in digits_of(text)) for text in entity.texts())
        ]

    def card_of(self, phone: str) -> Entity | None:
        """amoCRM's choice for a call: contact, else company; then its only open lead."""
        wanted = digits_of(phone)[-COMPARED_DIGITS:]
        for kind in (EntityType.CONTACTS, EntityType.COMPANIES):
            for entity in self.entities[kind].values():
                if wanted and any(digits_of(known)[-COMPARED_DIGITS:] == wanted for known in entity.phones):
                    leads = [self.entities[EntityType.LEADS].get(lead) for lead in entity.links(EntityType.LEADS)]
                    still_open = [lead for lead in leads if lead is not None and lead.is_open_lead]
                    return still_open[0] if len(still_open) == 1 else entity
        return None


@dataclass(frozen=True, slots=True)
class CallEntry:
    """A call as a card shows it."""

    note: int
    direction: str                     # "inbound" or "outbound"
    user: int                          # 0: the robot
    user_name: str
    talk_seconds: int
    link: str | None
    status: int | None
    result: str
    phone: str
    uniq: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Card:
    """A contact, company or lead with its calls, the oldest first."""

    type: EntityType
    id: int
    name: str
    phones: tuple[str, ...]
    responsible: str
    people: tuple[str, ...]            # of a lead: the contacts that it hangs on
    entries: tuple[CallEntry, ...]


class SandboxState:
    """What the requests change, tests assert on and the demo prints."""

    def __init__(self, seed: SandboxSeed) -> None:
        self.clock = Clock()
        self.journal = Journal()
        self.faults = Faults()
        self.tokens = Tokens()
        self.switches = Switches()
        self.closing = asyncio.Event()
        self.accounts: dict[int, Account] = {}
        for account in seed.accounts:
            self.add_account(account)

    def add_account(self, seed: SeedAccount) -> Account:
        now = int(self.clock.now())
        account = Account(seed.id, seed.subdomain, seed.name, now)
        for user in seed.users:
            account.users[user.id] = User(user.id, user.name, user.email, user.is_admin, user.is_active)
        self.accounts[account.id] = account
        self.add_cards(account, EntityType.CONTACTS, seed.contacts)
        self.add_cards(account, EntityType.COMPANIES, seed.companies)
        for lead in seed.leads:
            self.add_lead(account, lead)
        admins = [user.id for user in seed.users if user.is_admin]
        for integration in seed.integrations:
            owner = integration.user or (admins or [account.first_user])[0]
            self.tokens.add_integration(integration, account.id, owner, now)
        return account

    def add_cards(self, account: Account, kind: EntityType, seeds: Iterable[SeedContact]) -> None:
        now = int(self.clock.now())
        for seed in seeds:
            first, _, last = seed.name.partition(" ")
            values = [FieldValue("PHONE", phone) for phone in seed.phones]
            values += [FieldValue("EMAIL", email) for email in seed.emails]
            account.add(Entity(
                kind, seed.id or account.next_id(), seed.name, seed.responsible or account.first_user, 0, now,
                seed.updated_at or now, first_name=first, last_name=last, fields=values,
            ))

    def add_lead(self, account: Account, seed: SeedLead) -> None:
        now = int(self.clock.now())
        lead = account.add(Entity(
            EntityType.LEADS, seed.id or account.next_id(), seed.name, seed.responsible or account.first_user, 0, now,
            now, status_id=seed.status_id, pipeline_id=1_000,
        ))
        for kind, linked in ((EntityType.CONTACTS, seed.contact), (EntityType.COMPANIES, seed.company)):
            if linked is not None:
                account.link(lead, account.entities[kind][linked])

    def account(self, subdomain: str | None = None) -> Account:
        """The first one, or the one of that name."""
        return next(account for account in self.accounts.values() if subdomain in (None, account.subdomain))

    def cards(self, subdomain: str | None = None) -> list[Card]:
        account = self.account(subdomain)
        notes: dict[tuple[EntityType, int], list[CallEntry]] = {}
        for note in account.notes.values():
            if note.note_type in ("call_in", "call_out"):
                notes.setdefault((note.entity_type, note.entity_id), []).append(_entry(account, note))
        return [
            _card(account, entity, tuple(notes.get((entity.type, entity.id), ())))
            for entities in account.entities.values() for entity in entities.values()
        ]

    def calls(self, subdomain: str | None = None) -> list[CallEntry]:
        """All calls of all cards, in the order in which they came."""
        account = self.account(subdomain)
        return [_entry(account, note) for note in account.notes.values() if note.note_type in ("call_in", "call_out")]

    def pop_ups(self, subdomain: str | None = None) -> list[ShownPopUp]:
        return list(self.account(subdomain).pop_ups)


def _name(account: Account, user: int) -> str:
    known = account.users.get(user)
    return known.name if known is not None else "робот" if user == 0 else f"пользователь {user}"


def _card(account: Account, entity: Entity, entries: tuple[CallEntry, ...]) -> Card:
    contacts = account.entities[EntityType.CONTACTS]
    people = entity.links(EntityType.CONTACTS) if entity.type is EntityType.LEADS else []
    return Card(
        entity.type, entity.id, entity.name, tuple(entity.phones), _name(account, entity.responsible_user_id),
        tuple(contacts[person].name for person in people if person in contacts), entries,
    )


def _entry(account: Account, note: Note) -> CallEntry:
    return CallEntry(
        note=note.id,
        direction="inbound" if note.note_type == "call_in" else "outbound",
        user=note.created_by,
        user_name=_name(account, note.created_by),
        talk_seconds=_integer(note.params, "duration") or 0,
        link=_text(note.params, "link") or None,
        status=_integer(note.params, "call_status"),
        result=_text(note.params, "call_result"),
        phone=_text(note.params, "phone"),
        uniq=_text(note.params, "uniq"),
        created_at=note.created_at,
    )


def _integer(params: Json, name: str) -> int | None:
    value = params.get(name)
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() else None


def _text(params: Json, name: str) -> str:
    value = params.get(name)
    return value if isinstance(value, str) else ""
