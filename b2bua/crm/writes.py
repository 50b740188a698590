"""CRM writes as the outbox keeps them: JSON text, the key that makes each unique, the lane that keeps order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from b2bua.cdr import CallId, ClientId
from b2bua.crm.port import CallNote, Card, CrmWrite, Deal, Made, Purpose, RecordingLink, TalkedTo, Task
from b2bua.numbers import last_digits

_encode = json.JSONEncoder(ensure_ascii=False).encode      # json.dumps would make an encoder for each write


class UnreadableWrite(ValueError):
    """What the outbox holds is no write that this version knows."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One write that is owed to a CRM, as it is claimed from the store."""

    id: int
    client: ClientId
    payload: str                       # to_json of the write
    attempts: int                      # claims so far, this one included: 1 the first time
    created_at: datetime
    known: tuple[Made, ...] = ()       # what we made in the CRM for its number, open things first, then the newest


_KINDS: dict[str, type[CrmWrite]] = {
    "card": Card,
    "deal": Deal,
    "call note": CallNote,
    "recording link": RecordingLink,
    "task": Task,
    "talked to": TalkedTo,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_BEHIND_CARD = (_NAMES[Deal], "note", *[purpose.value for purpose in Purpose])
_OF_A_CALL = (_NAMES[Card], *_BEHIND_CARD, _NAMES[RecordingLink], _NAMES[TalkedTo])
_FORMS: dict[type[CrmWrite], TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in _NAMES}


def kind_of(write: CrmWrite) -> str:
    return _NAMES[type(write)]


def key_of(write: CrmWrite) -> str:
    """The same for the same fact, so that it can be queued only once."""
    match write:
        case CallNote():
            return f"{write.call}/note"
        case Task():
            return f"{write.call}/{write.purpose.value}"
        case _:
            return f"{write.call}/{kind_of(write)}"


def name_of(write: CrmWrite) -> str:
    """What it is: "card", "deal", "note", "recording link", "fill in", "call back" or "talked to"."""
    return key_of(write).rpartition("/")[2]


def keys_of_call(call: CallId) -> tuple[str, ...]:
    """Of all that a call may owe."""
    return tuple([f"{call}/{name}" for name in _OF_A_CALL])


def keys_behind_card(key: str) -> tuple[str, ...]:
    """Of a Card's key: the keys of what the same call owes to the card that it makes; of another key: none. TalkedTo is
    not of them: it closes the task of a call before."""
    call, _, kind = key.rpartition("/")
    return tuple([f"{call}/{name}" for name in _BEHIND_CARD]) if kind == _NAMES[Card] else ()


def lane_of(write: CrmWrite) -> str:
    """Writes of one lane are delivered in their order: one lane for each outside number of a client. A link waits
    for its recording up to three days, which must hold up no later call: it has a lane of its own."""
    number = last_digits(write.phone) or write.phone
    return f"{number}/{write.call}" if isinstance(write, RecordingLink) else number


def ledger_of(lane: str) -> str:
    """The outside number by whose digits we remember what was made for it."""
    return lane.partition("/")[0]


def to_json(write: CrmWrite) -> str:
    return _encode({"kind": kind_of(write), **_FORMS[type(write)].dump_python(write, mode="json")})


def from_json(text: str) -> CrmWrite:
    """Raises UnreadableWrite."""
    try:
        row = json.loads(text)
        if (kind := _KINDS.get(row.pop("kind"))) is None:
            raise UnreadableWrite(f"unknown kind of write: {text[:100]}")
        write: CrmWrite = _FORMS[kind].validate_python(row)
        return write
    except (KeyError, TypeError, AttributeError, ValueError) as error:     # pydantic's are ValueErrors
        raise UnreadableWrite(f"{type(error).__name__}: {error}") from error
