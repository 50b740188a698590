"""The outbox for the command line: what the CRMs are still owed, and what waits for a person's word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from rich.table import Table
from rich.text import Text

from b2bua.cdr import ClientId
from b2bua.commands.call_lists import plain_table, shown, somebody
from b2bua.config import Settings
from b2bua.crm.port import CallNote, Card, CrmWrite, Deal, Purpose, RecordingLink, TalkedTo, Task
from b2bua.crm.writes import UnreadableWrite, from_json
from b2bua.store.outbox import Owed, dropped_by
from b2bua.store.store import open_store

UNREADABLE = "a write that this version cannot read"


@dataclass(frozen=True, slots=True)
class Lists:
    waiting: list[Owed]
    aside: list[Owed]


async def owed(settings: Settings, client: str | None, limit: int) -> Lists:
    whose = ClientId(client) if client else None
    async with open_store(settings.database_url) as store:
        return Lists(await store.outbox.waiting(whose, limit), await store.outbox.aside(whose, limit))


async def resend(settings: Settings, rows: Sequence[int]) -> int:
    """How many; a running daemon finds them within half a minute."""
    async with open_store(settings.database_url) as store:
        return await store.outbox.resend(rows, datetime.now(UTC))


async def drop(settings: Settings, rows: Sequence[int], why: str) -> int:
    """How many; who, when and why stay with them."""
    now = datetime.now(UTC)
    async with open_store(settings.database_url) as store:
        return await store.outbox.drop(rows, dropped_by(somebody(), now, why), now)


def waiting_table(rows: Sequence[Owed], now: datetime) -> Table | Text:
    if not rows:
        return Text("Nothing waits for a CRM.")
    table = plain_table("Waits", "id", "client", "what", "owed for", "tries", "next in", "last said")
    for row in rows:
        due = "now" if row.due_at <= now else span((row.due_at - now).total_seconds())
        table.add_row(str(row.id), shown(row.client), shown(in_words(row)), _age(row, now), str(row.attempts), due,
                      shown(row.said))
    return table


def aside_table(rows: Sequence[Owed], now: datetime) -> Table | Text:
    if not rows:
        return Text("Nothing was set aside.")
    table = plain_table("Set aside: resend or drop them", "id", "client", "what", "owed for", "tries", "why")
    for row in rows:
        table.add_row(str(row.id), shown(row.client), shown(in_words(row)), _age(row, now), str(row.attempts),
                      shown(row.said))
    return table


def as_plain(row: Owed) -> dict[str, object]:
    return {
        "id": row.id, "client": row.client, "what": in_words(row), "attempts": row.attempts, "said": row.said,
        "created_at": row.created_at.isoformat(), "due_at": row.due_at.isoformat(),
    }


def in_words(row: Owed) -> str:
    try:
        write = from_json(row.payload)
    except UnreadableWrite:
        return UNREADABLE
    return f"{what_of(write)} {write.phone}, call of {write.started_at.astimezone():%Y-%m-%d %H:%M}"


def what_of(write: CrmWrite) -> str:
    match write:
        case Card():
            return "contact for"
        case Deal():
            return "deal for"
        case CallNote():
            return "call with"
        case RecordingLink():
            return "recording of the call with"
        case Task(purpose=Purpose.FILL_IN):
            return "task to fill in"
        case Task():
            return "task to call back"
        case TalkedTo():
            return "closing the task to call back"
        case _:
            assert_never(write)


def _age(row: Owed, now: datetime) -> str:
    return span((now - row.created_at).total_seconds())


def span(seconds: float) -> str:
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    if hours >= 48:
        return f"{hours // 24} d"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min" if minutes else f"{int(seconds)} s"
