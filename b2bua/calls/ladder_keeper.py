"""The ladders of calls that are over: a few seconds still open for what is said last, then written down, behind all
calls and their records. No call waits for it; what finds no room is dropped, and counted."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import structlog

from b2bua.calls.ladder import messages_of, pack
from b2bua.cdr import CallRecord
from b2bua.store.call_traces import CallTrace
from b2bua.store.engine import StoreUnavailable
from b2bua.store.row_writer import RowsRefused
from b2bua.ua.ladders import Ladder, Ladders

LINGERS = 4.0                              # seconds after a call's end: the answer to its BYE, and three repetitions
KEPT_EVERY = 1.0                           # seconds between two transactions; or until the database is asked again
BATCH = 200                                # calls in one transaction
IN_ONE_TURN = 60                           # messages that are put into words before others have their turn of the loop
MAX_WAITING = 10_000                       # calls that linger, or wait for a database that is away
LAST_SECONDS = 2.0                         # for those that are left at the end of the process

log = structlog.get_logger(__name__)


class TraceRows(Protocol):
    """Where they are kept (the store)."""

    async def save(self, traces: Sequence[CallTrace]) -> None: ...


@dataclass(frozen=True, slots=True)
class EndedCall:
    record: CallRecord
    ladder: Ladder
    at: float                              # when it ended, by the loop's clock


class LadderKeeper:
    def __init__(self, ladders: Ladders, rows: TraceRows, now: Callable[[], float]) -> None:
        self.dropped = 0
        self._ladders = ladders
        self._rows = rows
        self._now = now
        self._waiting: deque[EndedCall] = deque()        # the oldest first
        self._away = False
        self._writing = asyncio.Lock()
        self._wake = asyncio.Event()

    def over(self, record: CallRecord, ladder: Ladder) -> None:
        """That call has ended, and its record is on its way into the books."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            self._ladders.over(ladder)
            return
        self._waiting.append(EndedCall(record, ladder, self._now()))
        self._wake.set()

    def ended(self) -> Iterator[EndedCall]:
        """Those that are not written down yet."""
        return iter(self._waiting)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def run(self) -> None:
        while True:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            await asyncio.sleep(max(KEPT_EVERY, self._waiting[0].at + LINGERS - self._now()))
            while self._waiting and self._waiting[0].at + LINGERS <= self._now() and await self._keep_some(self._now()):
                pass

    async def finish(self) -> None:
        """No call is left, and nothing more is said: what waits is written down, if the database takes it soon."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                while self._waiting and await self._keep_some(self._now() + LINGERS):
                    pass
        except TimeoutError:
            log.warning("ladders of calls not written down", calls=len(self._waiting))

    async def _keep_some(self, now: float) -> bool:
        """The oldest of those whose time has come by `now`, in one transaction. False: the database is away."""
        async with self._writing:          # the end of the process does not wait for the next look
            return await self._keep([one for one in islice(self._waiting, BATCH) if one.at + LINGERS <= now])

    async def _keep(self, batch: Sequence[EndedCall]) -> bool:
        try:
            await self._save(await _packed(batch))
        except StoreUnavailable as error:
            if not self._away:
                log.warning("ladders of calls not written down", why=str(error), remedy="it is tried again")
            self._away = True
            return False
        except Exception:                  # the boundary of what is only told: it must end no call
            self.dropped += len(batch)
            log.exception("ladders of calls not written down", calls=[one.record.id for one in batch])
        self._away = False
        for one in batch:
            assert self._waiting.popleft() is one, "only who holds the lock takes from the queue"
            self._ladders.over(one.ladder)
        return True

    async def _save(self, traces: Sequence[CallTrace]) -> None:
        """One that the database refuses must not take the others with it."""
        try:
            await self._rows.save(traces)
        except RowsRefused as error:
            if len(traces) > 1:
                for one in traces:
                    await self._save([one])
            else:
                self.dropped += len(traces)
                log.error("ladder refused by the database", calls=[one.call for one in traces], error=str(error))


async def _packed(batch: Sequence[EndedCall]) -> list[CallTrace]:
    """Some at a time: the longest takes most of a millisecond, and a thread would hold the loop up as long."""
    traces, messages = [], 0
    for one in batch:
        if messages + len(one.ladder) > IN_ONE_TURN:
            await asyncio.sleep(0)
            messages = 0
        messages += len(one.ladder)
        steps = pack(messages_of(one.ladder))
        traces.append(CallTrace(one.record.id, one.record.client, one.record.started_at, steps))
    return traces
