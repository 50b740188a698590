"""Finished calls, the words by which they are found, and what the CRM must learn of them: all or nothing, many calls in
one transaction."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from itertools import islice

import structlog
from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from b2bua.cdr import CallId, CallRecord, ClientId
from b2bua.crm.port import CrmWrite
from b2bua.store.call_terms import TERM_COLUMNS, kind_of, term_rows
from b2bua.store.engine import Database, StoreUnavailable, whole
from b2bua.store.row_writer import RowsRefused
from b2bua.store.rows import CALL_COLUMNS, OUTBOX_COLUMNS, Row, call_record, call_row, from_line, outbox_row, to_line
from b2bua.store.schema import call_terms, calls, outbox
from b2bua.store.spill import SpillFile

GATHER_SECONDS = 0.05                  # a finish waits so long for others, to share one commit (one fsync) with them
BATCH = 500                            # calls in one transaction
WAITING_LIMIT = 10_000                 # calls in memory while the database is slow or away; more go to the spill file
OVERFLOW_LIMIT = 10_000                # calls in memory on their way to the spill file; more are lost, and counted
SPILL_AFTER = 30.0                     # database away so long: what waits goes to the disk, in case we die as well
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)

_OUR_IDS = frozenset("0123456789abcdef")           # of which the switchboard makes ids

FinishRows = tuple[Row, list[Row]]     # the call's row, the outbox rows

_log = structlog.get_logger(__name__)


class Kept(Enum):
    """Where a finished call ended up."""

    STORED = "stored"                  # in the database
    SPILLED = "spilled"                # on the disk beside it; goes into the database when that is back
    LOST = "lost"                      # neither the database nor the disk takes anything any more


@dataclass(slots=True, eq=False)
class _Finish:
    record: CallRecord
    writes: tuple[CrmWrite, ...]
    kept: asyncio.Future[Kept]

    def rows(self) -> FinishRows:
        return call_row(self.record), [outbox_row(write, self.record.ended_at) for write in self.writes]

    def line(self) -> str:
        return to_line(*self.rows())


class CallJournal:
    def __init__(self, database: Database, spill: SpillFile | None) -> None:
        self._database = database
        self._spill = spill
        self._waiting: deque[_Finish] = deque()
        self._overflow: deque[_Finish] = deque()
        self._wake = asyncio.Event()
        self._wake_spill = asyncio.Event()
        self._close_soon = asyncio.Event()
        self._failures = 0
        self._spill_holds_some = False
        self._put_back_once = asyncio.Event()
        self.failing_since: float | None = None
        self.stored = 0
        self.spilled = 0
        self.lost = 0
        # A commit whose answer was lost is repeated, and a spilled call may come twice: the second one does nothing.
        self._insert_call = database.insert_once(calls, (*CALL_COLUMNS, "kind"))
        self._insert_term = database.insert_once(call_terms, TERM_COLUMNS)
        self._insert_write = database.insert_once(outbox, OUTBOX_COLUMNS)

    @property
    def _closing(self) -> bool:
        return self._close_soon.is_set()

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._overflow)

    async def finish(self, record: CallRecord, writes: Sequence[CrmWrite] = ()) -> Kept:
        """Returns when the call is durable. It is kept as well when the waiting task is cancelled."""
        entry = _Finish(record, tuple(writes), asyncio.get_running_loop().create_future())
        if len(self._waiting) < WAITING_LIMIT:
            self._waiting.append(entry)
            self._wake.set()
        elif self._spill is not None and len(self._overflow) < OVERFLOW_LIMIT:
            self._overflow.append(entry)
            self._wake_spill.set()
        else:
            self._lose([entry])
        return await entry.kept

    async def last_calls(self, limit: int = 50, client: ClientId | None = None,
                         before: tuple[datetime, CallId] | None = None) -> list[CallRecord]:
        """The newest first; `before`: start and id of the last one of the page before."""
        query = select(calls).order_by(calls.c.started_at.desc(), calls.c.id.desc()).limit(limit)
        if client is not None:
            query = query.where(calls.c.client == client)
        if before is not None:
            query = query.where(_older_than(*before))
        return await self._records(query)

    async def get(self, call: CallId) -> CallRecord | None:
        found = await self._records(select(calls).where(calls.c.id == call))
        return found[0] if found else None

    @whole
    async def beginning_with(self, beginning: str, limit: int) -> list[CallId]:
        """Calls whose ids begin so, in the order of their ids."""
        of_id = func.substr(calls.c.id, 1, len(beginning)) == beginning
        query = select(calls.c.id).where(of_id).order_by(calls.c.id).limit(limit)
        if _OUR_IDS.issuperset(beginning):               # then their index finds them, in any database's order of text
            query = query.where(calls.c.id.between(beginning, f"{beginning}g"))
        async with self._database.reading() as connection:
            return [CallId(id_) for id_ in (await connection.execute(query)).scalars()]

    @whole
    async def _records(self, query: Select[tuple[object, ...]]) -> list[CallRecord]:
        async with self._database.reading() as connection:
            return [call_record(row) for row in (await connection.execute(query)).mappings()]

    async def write_behind(self) -> None:
        """Carries what `finish` was given to the database, until `close`."""
        await self._put_back()
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            elif self._closing or len(self._waiting) >= BATCH:
                await self._store_next()
            else:
                await asyncio.sleep(GATHER_SECONDS)
                await self._store_next()
        self._wake_spill.set()

    async def spilled_before_is_back(self) -> None:
        """Every record that an earlier process has spilled is in the database: there is no other word on its call."""
        await self._put_back_once.wait()

    async def spill_over(self) -> None:
        """Carries to the disk what the database cannot take, until `close`."""
        while not self._closing or self._overflow or self._waiting:
            if not self._overflow:
                await self._wake_spill.wait()
            self._wake_spill.clear()
            entries = list(islice(self._overflow, BATCH))
            if entries:
                await self._spill_entries(entries)
                for _ in entries:
                    self._overflow.popleft()
                self._wake_spill.set()

    def close(self) -> None:
        """Both tasks end when everything that was finished is durable; `finish` must not be called any more."""
        self._close_soon.set()
        self._wake.set()
        self._wake_spill.set()

    async def _store_next(self) -> None:
        """One transaction. When the database is away, what was tried stays first in the queue."""
        batch = list(islice(self._waiting, BATCH))
        try:
            refused = await self._insert_what_it_takes([entry.rows() for entry in batch])
        except StoreUnavailable as error:
            await self._after_failure(error)
            return
        for entry in batch:
            assert self._waiting.popleft() is entry, "only this task takes from the queue"
            _release(entry, self._refused_is if entry.record.id in refused else Kept.STORED)
        self.stored += len(batch) - len(refused)
        if self.failing_since is not None:
            _log.warning("the database is back", waiting=self.waiting)
            self.failing_since, self._failures = None, 0
        if self._spill_holds_some:
            await self._put_back()

    async def _insert_what_it_takes(self, rows: Sequence[FinishRows]) -> set[str]:
        """Ids of the calls that the database refused; raises StoreUnavailable only."""
        try:
            await self._insert(rows)
        except RowsRefused as error:
            if len(rows) > 1:          # one of them is refused: it must not take the others with it
                return set().union(*[await self._insert_what_it_takes([row]) for row in rows])
            _log.error("call refused by the database", call=rows[0][0]["id"], error=str(error))
            await self._reject(rows[0])
            return {rows[0][0]["id"]}
        return set()

    async def _insert(self, rows: Sequence[FinishRows]) -> None:
        if not rows:
            return
        ended = [self._database.values((*call.values(), kind_of(call))) for call, _ in rows]
        terms = [term for call, _ in rows for term in term_rows(call)]
        writes = [self._database.values(write.values()) for _, owed in rows for write in owed]
        batches = (self._insert_call, ended), (self._insert_term, terms), (self._insert_write, writes)
        await self._database.write_rows([(statement, batch) for statement, batch in batches if batch])

    async def _after_failure(self, error: BaseException) -> None:
        """Wait a little; what waits moves to the disk when it has lasted too long, or we are closing."""
        now = asyncio.get_running_loop().time()
        if self.failing_since is None:
            self.failing_since = now
            _log.error("the database is away; calls go on, their records wait", error=str(error), waiting=self.waiting)
        if self._closing or (now - self.failing_since > SPILL_AFTER and self._spill is not None):
            self._overflow.extend(self._waiting)
            self._waiting.clear()
            self._wake_spill.set()
            return
        pause = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._close_soon.wait()

    async def _put_back(self) -> None:
        """What was spilled goes into the database. A failure leaves it where it is, for the next time."""
        if self._spill is None:
            self._put_back_once.set()
            return
        self._spill_holds_some = False     # what is spilled from now on sets it again
        position = count = 0
        try:
            while True:
                lines, position = await asyncio.to_thread(self._spill.take, position, BATCH)
                if not lines:
                    break
                await self._insert_what_it_takes(await self._readable(lines))
                count += len(lines)
            await asyncio.to_thread(self._spill.forget)
        except (StoreUnavailable, OSError) as error:
            _log.error("cannot put spilled calls back yet", error=str(error))
            self._spill_holds_some = True
            return
        self._put_back_once.set()
        self._spill_holds_some = self._spill_holds_some or self._spill.holds_something
        if count:
            _log.warning("spilled calls are in the database", calls=count)

    async def _readable(self, lines: Sequence[str]) -> list[FinishRows]:
        """A power cut may have cut the last line short."""
        assert self._spill is not None, "it was read from there"
        rows = []
        for line in lines:
            try:
                rows.append(from_line(line))
            except ValueError as error:
                _log.error("spilled call is not readable", error=str(error))
                await self._set_aside(line)
        return rows

    @property
    def _refused_is(self) -> Kept:
        return Kept.LOST if self._spill is None else Kept.SPILLED

    async def _reject(self, rows: FinishRows) -> None:
        if self._spill is None:
            self.lost += 1
            return
        if await self._set_aside(to_line(*rows)):
            self.spilled += 1

    async def _set_aside(self, line: str) -> bool:
        """For a person to look at; on a full disk the log is all that is left of it."""
        assert self._spill is not None
        try:
            await asyncio.to_thread(self._spill.reject, [line])
        except OSError as error:
            self.lost += 1
            _log.critical("finished call lost: database and disk refuse it", error=str(error), record=line.rstrip())
            return False
        return True

    async def _spill_entries(self, entries: Sequence[_Finish]) -> None:
        if self._spill is None:
            self._lose(entries)
            return
        try:
            await asyncio.to_thread(self._spill.append, [entry.line() for entry in entries])
        except OSError as error:
            _log.error("cannot spill finished calls", error=str(error))
            self._lose(entries)
            return
        self._spill_holds_some = True
        self.spilled += len(entries)
        for entry in entries:
            _release(entry, Kept.SPILLED)

    def _lose(self, entries: Iterable[_Finish]) -> None:
        for entry in entries:
            self.lost += 1
            _log.critical("finished call lost: database and disk are away", record=entry.line().rstrip())
            _release(entry, Kept.LOST)


def _release(entry: _Finish, kept: Kept) -> None:
    if not entry.kept.done():          # done: its waiter was cancelled
        entry.kept.set_result(kept)


def _older_than(started_at: datetime, call: CallId) -> ColumnElement[bool]:
    return or_(calls.c.started_at < started_at, and_(calls.c.started_at == started_at, calls.c.id < call))
