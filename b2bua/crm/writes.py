"""CRM writes as the outbox keeps them: JSON text, the key that makes each unique, the lane that keeps order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from b2bua.cdr import CallId, ClientId, Direction, Disposition
from b2bua.crm.port import CallNote, CrmWrite
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


def key_of(write: CrmWrite) -> str:
    """The same for the same fact, so that it can be queued only once."""
    return f"{write.call}/note"


def lane_of(write: CrmWrite) -> str:
    """Writes of one lane are delivered in their order: one lane for each outside number of a client."""
    return last_digits(write.phone) or write.phone


def to_json(write: CrmWrite) -> str:
    return _encode({
        "kind": "call note",
        "call": write.call,
        "client": write.client,
        "direction": write.direction.value,
        "phone": write.phone,
        "started_at": write.started_at.isoformat(),
        "talk_seconds": write.talk_seconds,
        "disposition": write.disposition.value,
        "user": write.user,
        "contact_name": write.contact_name,
        "did": write.did,
        "recording": write.recording,
    })


def from_json(text: str) -> CrmWrite:
    """Raises UnreadableWrite."""
    try:
        row = json.loads(text)
        if row["kind"] != "call note":
            raise UnreadableWrite(f"unknown kind of write: {row['kind']!r}")
        return CallNote(
            call=CallId(row["call"]),
            client=ClientId(row["client"]),
            direction=Direction(row["direction"]),
            phone=row["phone"],
            started_at=datetime.fromisoformat(row["started_at"]),
            talk_seconds=int(row["talk_seconds"]),
            disposition=Disposition(row["disposition"]),
            user=row["user"],
            contact_name=row["contact_name"],
            did=row["did"],
            recording=row["recording"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableWrite(f"{type(error).__name__}: {error}") from error
