"""Calls that are up, as the next start must find them when this process dies; one daemon to a database.

They are written behind, many in one transaction, and no call waits for it. A row is deleted once the call's record is
in the books, and never before: a call that was up is in one of the two tables, and in the end once in `calls`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import Delete, delete, exists, func, select, update

from b2bua.cdr import CallRecord
from b2bua.crm.port import CrmWrite
from b2bua.crm.writes import from_json, to_json
from b2bua.sip.farewell import Farewell, from_fields
from b2bua.store.engine import Database, whole
from b2bua.store.rows import CALL_COLUMNS, INSTANTS, call_record, call_row, instant, storable
from b2bua.store.schema import calls, heartbeat, standing_calls

_encode = json.JSONEncoder().encode

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StandingCall:
    """A call as it would be kept if it ended now, and what would be said to its legs."""

    record: CallRecord
    writes: tuple[CrmWrite, ...]
    farewells: tuple[Farewell, ...]


@dataclass(frozen=True, slots=True)
class LeftBehind:
    call: StandingCall
    seen_at: datetime                  # when it was last known to be up


class StandingRows:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = database.insert_latest(standing_calls, ("id", "payload"), "id")
        self._beat = database.statement(update(heartbeat), ("seen_at",))

    @whole
    async def save(self, standing: Sequence[StandingCall], now: datetime) -> None:
        """These are up, as they stand now, and we are alive. Raises StoreUnavailable or RowsRefused."""
        values = self._database.values
        rows = [(storable(call.record.id), _to_text(call)) for call in standing]
        beat = (self._beat, [values((now,))])
        await self._database.write_rows([beat, (self._insert, rows)] if rows else [beat])

    @whole
    async def tidy(self) -> int:
        """What is in the books meanwhile is up no more. How many rows are left."""
        async with self._database.writing() as connection:
            await connection.execute(_in_the_books())
            return (await connection.execute(select(func.count()).select_from(standing_calls))).scalar_one()

    @whole
    async def claim(self) -> None:
        """Before this process has calls of its own: all that is there was left by one that is no more."""
        last_beat = select(heartbeat.c.seen_at).scalar_subquery()
        async with self._database.writing() as connection:
            await connection.execute(
                update(standing_calls).where(standing_calls.c.seen_at.is_(None)).values(seen_at=last_beat))

    @whole
    async def left_behind(self) -> list[LeftBehind]:
        """What is claimed and not in the books. What cannot be read is told, and gone."""
        async with self._database.writing() as connection:
            await connection.execute(_in_the_books())
            claimed = (await connection.execute(
                select(standing_calls).where(standing_calls.c.seen_at.is_not(None)))).all()
            left, unreadable = [], []
            for row in claimed:
                try:
                    left.append(LeftBehind(_from_text(row.payload), row.seen_at))
                except ValueError as error:
                    _log.error("call that was up is not readable", call=row.id, error=str(error), payload=row.payload)
                    unreadable.append(row.id)
            if unreadable:
                await connection.execute(delete(standing_calls).where(standing_calls.c.id.in_(unreadable)))
        return left


def _in_the_books() -> Delete:
    return delete(standing_calls).where(exists().where(calls.c.id == standing_calls.c.id))


def _to_text(call: StandingCall) -> str:
    """Not cut to a length, as that would break it: each of its parts is bounded. In ASCII: every database takes it."""
    columns = [one.isoformat() if type(one) is datetime else one for one in call_row(call.record).values()]
    return _encode([columns, list(map(to_json, call.writes)), [one.to_fields() for one in call.farewells]])


def _from_text(text: str) -> StandingCall:
    """Raises ValueError."""
    try:
        columns, writes, farewells = json.loads(text)
        row = dict(zip(CALL_COLUMNS, columns, strict=True))
        row.update({name: instant(row[name]) for name in INSTANTS if row.get(name) is not None})
        return StandingCall(call_record(row), tuple(map(from_json, writes)), tuple(map(from_fields, farewells)))
    except (TypeError, KeyError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
