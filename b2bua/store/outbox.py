"""The outbox's rows: claimed by a lease, so that a crash gives them back; one lane's rows in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, and_, case, delete, func, select, update

from b2bua.cdr import ClientId
from b2bua.crm.writes import OutboxRow
from b2bua.store.engine import Database, whole
from b2bua.store.rows import LONGEST_WHY, storable
from b2bua.store.schema import outbox

PENDING, DONE, ASIDE = "pending", "done", "aside"
FORGET_AT_ONCE = 1000                  # rows deleted in one transaction


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is owed to the CRMs."""

    pending: int = 0
    aside: int = 0
    oldest: datetime | None = None     # when the oldest pending row was made


class OutboxRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def agenda(self) -> Mapping[ClientId, datetime]:
        query = select(outbox.c.client, func.min(outbox.c.due_at)).where(outbox.c.id.in_(_heads()))
        async with self._database.reading() as connection:
            rows = await connection.execute(query.group_by(outbox.c.client))
            return {ClientId(client): due for client, due in rows}

    @whole
    async def claim(self, client: ClientId, now: datetime, until: datetime, limit: int) -> Sequence[OutboxRow]:
        # PostgreSQL: rows that another process is claiming are passed over, not waited for. SQLite writes one by one.
        due = (select(outbox).where(outbox.c.id.in_(_heads().where(outbox.c.client == client)),
                                    outbox.c.state == PENDING, outbox.c.due_at <= now)
               .order_by(outbox.c.id).limit(limit).with_for_update(skip_locked=True))
        async with self._database.writing() as connection:
            rows = [OutboxRow(row.id, ClientId(row.client), row.payload, row.attempts + 1, row.created_at)
                    for row in await connection.execute(due)]
            if rows:
                await connection.execute(update(outbox).where(outbox.c.id.in_([row.id for row in rows]))
                                         .values(due_at=until, attempts=outbox.c.attempts + 1))
        return rows

    async def done(self, row: int, outcome: str) -> None:
        await self._set(row, state=DONE, outcome=storable(outcome, LONGEST_WHY))

    async def retry(self, row: int, at: datetime, error: str) -> None:
        await self._set(row, due_at=at, outcome=storable(error, LONGEST_WHY))

    async def release(self, row: int, at: datetime) -> None:
        await self._set(row, due_at=at, attempts=case((outbox.c.attempts > 0, outbox.c.attempts - 1), else_=0))

    async def set_aside(self, row: int, error: str) -> None:
        await self._set(row, state=ASIDE, outcome=storable(error, LONGEST_WHY))

    @whole
    async def _set(self, row: int, /, **values: object) -> None:
        """Only what is pending changes: a late word about a row that is done says nothing."""
        async with self._database.writing() as connection:
            await connection.execute(update(outbox).where(and_(outbox.c.id == row, outbox.c.state == PENDING))
                                     .values(**values))

    @whole
    async def backlog(self) -> Backlog:
        pending = select(func.count(), func.min(outbox.c.created_at)).where(outbox.c.state == PENDING)
        aside = select(func.count()).where(outbox.c.state == ASIDE)
        async with self._database.reading() as connection:
            count, oldest = (await connection.execute(pending)).one()
            return Backlog(count, (await connection.execute(aside)).scalar_one(), oldest)

    @whole
    async def forget_done(self, before: datetime) -> int:
        """Deliveries that nobody asks for any more. Until then their keys keep a repeated finish from a second one."""
        old = select(outbox.c.id).where(outbox.c.state == DONE, outbox.c.created_at < before).limit(FORGET_AT_ONCE)
        forgotten = 0
        while True:
            async with self._database.writing() as connection:
                count = (await connection.execute(delete(outbox).where(outbox.c.id.in_(old)))).rowcount
            forgotten += count
            if count < FORGET_AT_ONCE:
                return forgotten


def _heads() -> Select[tuple[int]]:
    """The oldest pending row of each lane."""
    return select(func.min(outbox.c.id)).where(outbox.c.state == PENDING).group_by(outbox.c.client, outbox.c.lane)
