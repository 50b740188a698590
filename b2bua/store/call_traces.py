"""What was said in each call (`calls/ladder` packs and tells it), kept for some days beside its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select

from b2bua.cdr import CallId, ClientId
from b2bua.store.engine import Database, whole
from b2bua.store.rows import storable
from b2bua.store.schema import call_traces

SINCE = "0020"                         # the revision of the schema that has the table
FORGOTTEN_AT_ONCE = 10_000

_COLUMNS = ("call", "client", "started_at", "steps")


@dataclass(frozen=True, slots=True)
class CallTrace:
    call: CallId
    client: ClientId
    started_at: datetime               # of the call
    steps: bytes


class CallTraceRows:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = database.insert_once(call_traces, _COLUMNS)

    @whole
    async def save(self, traces: Sequence[CallTrace]) -> None:
        """All in one transaction; one that is there already stays. Raises StoreUnavailable or RowsRefused."""
        values = self._database.values
        rows = [values((storable(one.call), storable(one.client), one.started_at, one.steps)) for one in traces]
        await self._database.write_rows([(self._insert, rows)] if rows else [])

    @whole
    async def get(self, call: CallId) -> bytes | None:
        """Its steps; None when none are kept."""
        query = select(call_traces.c.steps).where(call_traces.c.call == call)
        async with self._database.reading() as connection:
            steps = (await connection.execute(query)).scalar_one_or_none()
        return None if steps is None else bytes(steps)

    @whole
    async def forget_older_than(self, before: datetime) -> int:
        """How many went; some thousands at most, so that nobody waits long for the database."""
        old = (select(call_traces.c.call).where(call_traces.c.started_at < before)
               .order_by(call_traces.c.started_at).limit(FORGOTTEN_AT_ONCE))
        async with self._database.writing() as connection:
            return (await connection.execute(delete(call_traces).where(call_traces.c.call.in_(old)))).rowcount
