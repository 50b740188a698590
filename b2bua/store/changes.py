"""Who has changed what of a client's set-up, and when: written in the transaction of the change itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select

from b2bua.apply.difference import Change, FieldChange
from b2bua.cdr import ClientId
from b2bua.store.engine import Database, whole
from b2bua.store.rows import storable
from b2bua.store.schema import changes

MOST_SHOWN = 200                       # at once
LONGEST_VALUE = 2_000                  # characters of a value in JSON; of a longer one only its beginning is kept
LONGEST_WHO = 200
FORGOTTEN_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class LoggedChange:
    id: int
    at: datetime
    client: ClientId
    who: str                           # "operator", a login, "apply by root@pbx"; "": not known
    generation: int                    # of the directory: what one step has changed has one
    sign: str                          # as b2bua.apply.difference.Change has it
    what: str
    values: tuple[FieldChange, ...]


class ChangeRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def last(self, client: ClientId | None = None, before: int | None = None,
                   limit: int = MOST_SHOWN) -> list[LoggedChange]:
        """The latest first, of one client or of all; `before`: only those older than that id."""
        query = select(changes).order_by(changes.c.id.desc()).limit(min(limit, MOST_SHOWN))
        if client is not None:
            query = query.where(changes.c.client == client)
        if before is not None:
            query = query.where(changes.c.id < before)
        async with self._database.reading() as connection:
            return [_logged(row) for row in (await connection.execute(query)).mappings()]

    @whole
    async def forget_older_than(self, before: datetime) -> int:
        """How many went; some thousands at most, so that nobody waits long for the database."""
        old = select(changes.c.id).where(changes.c.at < before).order_by(changes.c.id).limit(FORGOTTEN_AT_ONCE)
        async with self._database.writing() as connection:
            return (await connection.execute(delete(changes).where(changes.c.id.in_(old)))).rowcount


def log_rows(found: Sequence[Change], who: str, at: datetime, generation: int) -> list[dict[str, Any]]:
    """For the transaction that makes these changes."""
    return [{"at": at, "client": one.client, "who": storable(who, LONGEST_WHO), "generation": generation,
             "sign": one.sign, "what": one.what,
             "fields": json.dumps([_row(value) for value in one.values], ensure_ascii=False)} for one in found]


def _row(change: FieldChange) -> dict[str, Any]:
    if change.is_secret:
        return {"name": change.name, "is_secret": True}
    return {"name": change.name, "before": _short(change.before), "after": _short(change.after)}


def _short(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _logged(row: Any) -> LoggedChange:
    return LoggedChange(row["id"], row["at"], ClientId(row["client"]), row["who"], row["generation"], row["sign"],
                        row["what"], tuple(FieldChange(**one) for one in json.loads(row["fields"])))
