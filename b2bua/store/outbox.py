"""The outbox's rows: claimed by a lease, so that a crash gives them back; one lane's rows in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Delete,
    Select,
    Text,
    and_,
    delete,
    func,
    literal,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)

from b2bua.cdr import CallId, ClientId
from b2bua.crm.port import Delivered
from b2bua.crm.writes import OutboxRow, keys_behind_card, keys_of_call
from b2bua.store.deliveries import (
    ASIDE,
    DONE,
    DROPPED,
    PENDING,
    Claim,
    Claimed,
    Ended,
    Hastened,
    OwedState,
    PutOff,
    Released,
    Said,
    carry_out,
    is_pending,
    waits_for_card,
)
from b2bua.store.engine import Database, whole
from b2bua.store.grouped import GroupedWrites
from b2bua.store.rows import LONGEST_WHY, storable
from b2bua.store.schema import Instant, crm_made, outbox

FORGET_AT_ONCE = 1000                  # rows deleted in one transaction
KEEP_OPEN = timedelta(days=90)         # as long as a call-back task or an unsorted lead may be left open
KEEP_ASIDE = timedelta(days=365)       # for a person to decide


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is owed to the CRMs."""

    pending: int = 0
    aside: int = 0
    oldest: datetime | None = None     # when the oldest pending row was made
    oldest_of: Mapping[ClientId, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Owed:
    """A row for people to look at."""

    id: int
    client: ClientId
    payload: str                       # to_json of the write
    attempts: int
    created_at: datetime
    due_at: datetime
    said: str                          # what the CRM answered, the last error, or why it was set aside or dropped
    state: OwedState
    ended_at: datetime | None          # when it was delivered, set aside or dropped; None as well: not known
    card: str                          # on which it was done in the CRM, "contacts/9001"

    @property
    def place(self) -> Place:
        return Place(self.client, self.due_at, self.id)


@dataclass(frozen=True, slots=True)
class Place:
    """Of a row in `page_of`."""

    client: ClientId
    due_at: datetime
    row: int


def dropped_by(who: str, at: datetime, why: str) -> str:
    """What stays with a row that a person has dropped."""
    return f"dropped by {who} at {at.isoformat(timespec='seconds')}: {why}"


_is_aside = outbox.c.state == literal_column(f"'{ASIDE}'")     # words of the statement, as is_pending is


def _is(state: OwedState) -> ColumnElement[bool]:
    return is_pending if state is OwedState.WAITING else outbox.c.state == literal_column(f"'{state.value}'")


def _in_order(query: Select[Any], state: OwedState, client: ClientId | None) -> Select[Any]:
    query = query.where(_is(state)).order_by(outbox.c.client, outbox.c.due_at, outbox.c.id)
    return query if client is None else query.where(outbox.c.client == client)


class OutboxRows:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._writes: GroupedWrites[Said, Claimed] = GroupedWrites(database, carry_out)

    @whole
    async def agenda(self) -> Mapping[ClientId, datetime]:
        first = select(literal("", Text).label("client")).cte("clients", recursive=True)
        after = outbox.alias("after")
        # In the order of ix_outbox_due, so that no planner goes through the index of all that was ever owed instead.
        following = (select(after.c.client)
                     .where(after.c.state == literal_column(f"'{PENDING}'"), after.c.client > first.c.client)
                     .order_by(after.c.client, after.c.due_at).limit(1).scalar_subquery())
        clients = first.union_all(select(following).where(first.c.client.is_not(None)))
        due = (select(func.min(outbox.c.due_at)).where(is_pending, outbox.c.client == clients.c.client)
               .scalar_subquery())
        query = select(clients.c.client, due).where(clients.c.client > "")
        async with self._database.reading() as connection:
            return {ClientId(client): at for client, at in await connection.execute(query)}

    async def claim(self, client: ClientId, now: datetime, until: datetime, limit: int) -> Sequence[OutboxRow]:
        return await self._writes.write(Claim(client, now, until, limit))

    async def done(self, row: int, delivered: Delivered, now: datetime) -> None:
        await self._writes.write(Ended(row, DONE, delivered.outcome, now, delivered))

    async def retry(self, row: int, at: datetime, error: str) -> None:
        await self._writes.write(PutOff(row, at, error))

    async def release(self, row: int, at: datetime) -> None:
        await self._writes.write(Released(row, at))

    async def hasten(self, row: int, at: datetime) -> None:
        await self._writes.write(Hastened(row, at))

    @whole
    async def hasten_client(self, client: ClientId, at: datetime, after: datetime) -> None:
        waiting = (select(outbox.c.id).where(outbox.c.client == client, is_pending, outbox.c.due_at > after)
                   .order_by(outbox.c.id).with_for_update(skip_locked=True))
        async with self._database.writing() as connection:
            await connection.execute(update(outbox).where(outbox.c.id.in_(waiting)).values(due_at=at))

    async def set_aside(self, row: int, error: str, now: datetime) -> None:
        await self._writes.write(Ended(row, ASIDE, error, now))

    # -- for people

    async def waiting(self, client: ClientId | None, limit: int, before: int | None = None) -> list[Owed]:
        """What is not delivered yet, the newest first; `before`: the id of the last one of the page before."""
        return await self._listed(PENDING, client, limit, before)

    async def aside(self, client: ClientId | None, limit: int, before: int | None = None) -> list[Owed]:
        """What was given up, or never understood, and waits for a person to resend or drop it."""
        return await self._listed(ASIDE, client, limit, before)

    @whole
    async def _listed(self, state: str, client: ClientId | None, limit: int, before: int | None) -> list[Owed]:
        query = select(outbox).where(outbox.c.state == literal_column(f"'{state}'")).order_by(outbox.c.id.desc())
        if client is not None:
            query = query.where(outbox.c.client == client)
        if before is not None:
            query = query.where(outbox.c.id < before)
        return await self._rows(query.limit(limit))

    async def _rows(self, query: Select[Any]) -> list[Owed]:
        async with self._database.reading() as connection:
            return [Owed(row.id, ClientId(row.client), row.payload, row.attempts, row.created_at, row.due_at,
                         row.outcome or "", OwedState(row.state), row.ended_at, row.card or "")
                    for row in await connection.execute(query)]

    @whole
    async def page_of(self, state: OwedState, client: ClientId | None, limit: int,
                      after: Place | None = None) -> list[Owed]:
        """Of what waits or was set aside, client by client; of each the one that is due, or was, first."""
        query = _in_order(select(outbox), state, client)
        if after is not None:
            query = query.where(tuple_(outbox.c.client, outbox.c.due_at, outbox.c.id)
                                > tuple_(literal(after.client), literal(after.due_at, Instant), literal(after.row)))
        return await self._rows(query.limit(limit))

    @whole
    async def ids_of(self, state: OwedState, client: ClientId | None, limit: int) -> list[int]:
        """The first of them."""
        query = _in_order(select(outbox.c.id), state, client).limit(limit)
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).scalars())

    @whole
    async def counted(self, state: OwedState, client: ClientId | None, most: int) -> int:
        """How many of `page_of` there are; no further than to `most`."""
        some = _in_order(select(outbox.c.id), state, client).order_by(None).limit(most)
        async with self._database.reading() as connection:
            return (await connection.execute(select(func.count()).select_from(some.subquery()))).scalar_one()

    @whole
    async def of_call(self, client: ClientId, call: CallId) -> list[Owed]:
        """All that a call owed or owes, in the order in which the CRM is told. What was delivered is forgotten some
        time: see forget_done."""
        return await self._rows(select(outbox).where(outbox.c.client == client, outbox.c.key.in_(keys_of_call(call)))
                                .order_by(outbox.c.id))

    @whole
    async def get(self, row: int) -> Owed | None:
        found = await self._rows(select(outbox).where(outbox.c.id == row))
        return found[0] if found else None

    @whole
    async def hasten_rows(self, rows: Sequence[int], now: datetime, under_way: datetime,
                          client: ClientId | None = None) -> int:
        """What waits is tried at once. Not what is due before `under_way`: it may be on its way. Returns how many."""
        hastened = update(outbox).where(outbox.c.id.in_(rows), is_pending, outbox.c.due_at > under_way)
        if client is not None:
            hastened = hastened.where(outbox.c.client == client)
        async with self._database.writing() as connection:
            return (await connection.execute(hastened.values(due_at=now))).rowcount

    @whole
    async def resend(self, rows: Sequence[int], now: datetime, client: ClientId | None = None) -> int:
        """Tried again at once, and for as long as a new one; it may have been carried out before, which is looked up
        first. Only what was set aside, and of this client. What waits for a card among them comes behind it. Returns
        how many of `rows`."""
        values = {"state": PENDING, "due_at": now, "created_at": now, "attempts": 1, "ended_at": None}
        return await self._decide(rows, now, client, values)

    @whole
    async def drop(self, rows: Sequence[int], why: str, now: datetime, client: ClientId | None = None,
                   under_way: datetime | None = None) -> int:
        """Never sent; `why` says who, when, and the reason, and is kept before the error. Only what was set aside, and
        of this client; with `under_way` also what waits and is due after that, so that it is not on its way. What
        waits for a card among them is tried without. Returns how many of `rows`."""
        said = func.substr(storable(f"{why}; before: ", LONGEST_WHY) + func.coalesce(outbox.c.outcome, ""),
                           1, LONGEST_WHY)
        which = _is_aside if under_way is None else or_(_is_aside, and_(is_pending, outbox.c.due_at > under_way))
        return await self._decide(rows, now, client, {"state": DROPPED, "outcome": said, "ended_at": now}, which)

    async def _decide(
        self, rows: Sequence[int], now: datetime, client: ClientId | None, values: Mapping[str, Any],
        which: ColumnElement[bool] = _is_aside,
    ) -> int:
        decided = update(outbox).where(outbox.c.id.in_(rows), which).values(**values)
        if client is not None:
            decided = decided.where(outbox.c.client == client)
        async with self._database.writing() as connection:
            found = (await connection.execute(decided.returning(outbox.c.id, outbox.c.client, outbox.c.key))).all()
            for row in found:
                if keys := keys_behind_card(row.key):
                    await connection.execute(
                        update(outbox).where(outbox.c.client == row.client, outbox.c.key.in_(keys),
                                             outbox.c.state == ASIDE, outbox.c.outcome == waits_for_card(row.id))
                        .values(state=PENDING, due_at=now, created_at=now, ended_at=None))
            return len(found)

    @whole
    async def backlog(self) -> Backlog:
        pending = (select(outbox.c.client, func.count(), func.min(outbox.c.created_at)).where(is_pending)
                   .group_by(outbox.c.client))
        aside = select(func.count()).where(outbox.c.state == ASIDE)
        async with self._database.reading() as connection:
            rows = (await connection.execute(pending)).all()
            oldest = {ClientId(client): at for client, _, at in rows}
            return Backlog(sum(count for _, count, _ in rows), (await connection.execute(aside)).scalar_one(),
                           min(oldest.values(), default=None), oldest)

    @whole
    async def owed_to(self, client: ClientId) -> Backlog:
        """What is owed to one client's CRM."""
        t = outbox.c
        pending = select(func.count(), func.min(t.created_at)).where(is_pending, t.client == client)
        aside = select(func.count()).where(_is_aside, t.client == client)
        async with self._database.reading() as connection:
            count, oldest = (await connection.execute(pending)).one()
            return Backlog(count, (await connection.execute(aside)).scalar_one(), oldest)

    @whole
    async def forget_done(self, before: datetime) -> int:
        """Deliveries that nobody asks for any more, and what was made by them. Until then their keys keep a repeated
        finish from a second one."""
        ended = select(outbox.c.id).where(or_(
            and_(outbox.c.state.in_([DONE, DROPPED]), outbox.c.created_at < before),
            and_(outbox.c.state == ASIDE, outbox.c.created_at < before - KEEP_ASIDE))).limit(FORGET_AT_ONCE)
        forgotten = await self._forget(delete(outbox).where(outbox.c.id.in_(ended)))
        key = tuple_(*crm_made.primary_key.columns)
        made = select(*crm_made.primary_key.columns).where(or_(
            and_(crm_made.c.at < before, crm_made.c.is_open.is_(False)),
            crm_made.c.at < before - KEEP_OPEN)).limit(FORGET_AT_ONCE)
        await self._forget(delete(crm_made).where(key.in_(made)))
        return forgotten

    async def _forget(self, some: Delete) -> int:
        forgotten = 0
        while True:
            async with self._database.writing() as connection:
                count = (await connection.execute(some)).rowcount
            forgotten += count
            if count < FORGET_AT_ONCE:
                return forgotten
