"""Call records and CRM writes as rows, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from b2bua.cdr import CallId, CallRecord, ClientId, Direction, Disposition, EndedBy, EndReason
from b2bua.crm.port import CrmWrite
from b2bua.crm.writes import key_of, lane_of, to_json

LONGEST_TEXT = 512                     # of what strangers may write into a call: numbers, names
LONGEST_WHY = 20_000

Row = dict[str, Any]                   # in the order of these columns

CALL_COLUMNS = (
    "id", "client", "direction", "caller", "dialled", "trunk", "started_at", "rang_at", "answered_at", "ended_at",
    "disposition", "ended_by", "reason", "status", "extension", "rang", "crm_user", "contact", "recording", "why",
    "cause",
)
OUTBOX_COLUMNS = ("client", "lane", "key", "payload", "state", "due_at", "attempts", "created_at", "outcome")

_to_json = json.JSONEncoder(ensure_ascii=False).encode     # json.dumps would make an encoder for each call


def storable(text: str, longest: int = LONGEST_TEXT) -> str:
    """Text that every database takes: no NUL (PostgreSQL refuses it), no lone surrogates (they are no UTF-8)."""
    if len(text) > longest:
        text = text[:longest]
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "\ufffd")


def _optional(text: str | None) -> str | None:
    return None if text is None else storable(text)


def _listed(texts: tuple[Any, ...]) -> str:
    return storable(_to_json(texts), LONGEST_WHY) if texts else "[]"


def _decided(record: CallRecord) -> str:
    """With their seconds, where these are known."""
    if len(record.why_after) != len(record.why):
        return _listed(record.why)
    return _listed(tuple(zip(record.why_after, record.why, strict=True)))


def call_row(record: CallRecord) -> Row:
    return {
        "id": storable(record.id),
        "client": storable(record.client),
        "direction": record.direction.value,
        "caller": storable(record.caller),
        "dialled": storable(record.dialled),
        "trunk": _optional(record.trunk),
        "started_at": record.started_at,
        "rang_at": record.rang_at,
        "answered_at": record.answered_at,
        "ended_at": record.ended_at,
        "disposition": record.disposition.value,
        "ended_by": record.ended_by.value,
        "reason": record.reason.value,
        "status": record.status,
        "extension": _optional(record.extension),
        "rang": _listed(record.rang),
        "crm_user": record.crm_user,
        "contact": _optional(record.contact),
        "recording": _optional(record.recording),
        "why": _decided(record),
        "cause": record.cause,
    }


def call_record(row: Mapping[Any, Any]) -> CallRecord:
    why = _texts(row["why"])
    timed = [one for one in why if not isinstance(one, str)]
    return CallRecord(
        id=CallId(row["id"]),
        client=ClientId(row["client"]),
        direction=Direction(row["direction"]),
        caller=row["caller"],
        dialled=row["dialled"],
        trunk=row["trunk"],
        started_at=row["started_at"],
        rang_at=row["rang_at"],
        answered_at=row["answered_at"],
        ended_at=row["ended_at"],
        disposition=Disposition(row["disposition"]),
        ended_by=EndedBy(row["ended_by"]),
        reason=EndReason(row["reason"]),
        status=row["status"],
        extension=row["extension"],
        rang=_texts(row["rang"]),
        crm_user=row["crm_user"],
        contact=row["contact"],
        recording=row["recording"],
        why=tuple([text for _, text in timed]) if timed else why,
        cause=row["cause"],
        why_after=tuple([after for after, _ in timed]),
    )


def _texts(text: str) -> tuple[Any, ...]:
    try:
        return tuple(json.loads(text))
    except ValueError:                 # cut at LONGEST_WHY
        return (text,)


def outbox_row(write: CrmWrite, at: datetime) -> Row:
    return {
        "client": storable(write.client),
        "lane": storable(lane_of(write)),
        "key": storable(key_of(write)),
        "payload": storable(to_json(write), LONGEST_WHY),
        "state": "pending",
        "due_at": at,
        "attempts": 0,
        "created_at": at,
        "outcome": None,
    }


def to_line(call: Row, writes: list[Row]) -> str:
    """One finished call as a line of JSON."""
    return json.dumps({"call": call, "writes": writes}, default=datetime.isoformat) + "\n"


INSTANTS = ("started_at", "rang_at", "answered_at", "ended_at", "due_at", "created_at")


def from_line(line: str) -> tuple[Row, list[Row]]:
    """Raises ValueError for a line that is not whole."""
    try:
        entry = json.loads(line)
        rows = [entry["call"], *entry["writes"]]
        for row in rows:
            row.update({name: instant(row[name]) for name in INSTANTS if row.get(name) is not None})
        rows[0].setdefault("cause", None)      # spilled by a version that did not know it
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a finished call: {error}") from error
    return rows[0], rows[1:]


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
