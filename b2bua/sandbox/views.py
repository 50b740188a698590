"""What people see of an account: its cards with their calls."""

from __future__ import annotations

from dataclasses import dataclass

from b2bua.sandbox.account import Account
from b2bua.sandbox.entities import Entity, EntityType, Json, Note

CALLS = ("call_in", "call_out")


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
    """A contact, company, lead or customer with its calls, the oldest first."""

    type: EntityType
    id: int
    name: str
    phones: tuple[str, ...]
    responsible: str
    people: tuple[str, ...]            # of a lead or customer: the contacts that it hangs on
    entries: tuple[CallEntry, ...]


def cards_of(account: Account) -> list[Card]:
    notes: dict[tuple[EntityType, int], list[CallEntry]] = {}
    for note in account.notes.values():
        if note.note_type in CALLS:
            notes.setdefault((note.entity_type, note.entity_id), []).append(_entry(account, note))
    return [
        _card(account, entity, tuple(notes.get((entity.type, entity.id), ())))
        for entities in account.entities.values() for entity in entities.values()
    ]


def calls_of(account: Account) -> list[CallEntry]:
    """All calls of all cards, in the order in which they came."""
    return [_entry(account, note) for note in account.notes.values() if note.note_type in CALLS]


def user_name(account: Account, user: int) -> str:
    known = account.users.get(user)
    return known.name if known is not None else "робот" if user == 0 else f"пользователь {user}"


def _card(account: Account, entity: Entity, entries: tuple[CallEntry, ...]) -> Card:
    contacts = account.entities[EntityType.CONTACTS]
    people = entity.links(EntityType.CONTACTS) if entity.type in (EntityType.LEADS, EntityType.CUSTOMERS) else []
    return Card(
        entity.type, entity.id, entity.name, tuple(entity.phones), user_name(account, entity.responsible_user_id),
        tuple(contacts[person].name for person in people if person in contacts), entries,
    )


def _entry(account: Account, note: Note) -> CallEntry:
    return CallEntry(
        note=note.id,
        direction="inbound" if note.note_type == "call_in" else "outbound",
        user=note.created_by,
        user_name=user_name(account, note.created_by),
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
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < 20 else None
    return value if isinstance(value, int) else None


def _text(params: Json, name: str) -> str:
    value = params.get(name)
    return value if isinstance(value, str) else ""
