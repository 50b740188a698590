"""After a start: calls during which the process before this one died become records, and who talked gets BYEs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from b2bua.calls.recordings import Recordings
from b2bua.cdr import CallRecord, EndedBy, EndReason
from b2bua.crm.port import CallNote, CrmWrite, Task
from b2bua.sip.farewell import Farewell
from b2bua.sip.fields import NameAddr
from b2bua.sip.uri import Uri
from b2bua.store.engine import StoreUnavailable
from b2bua.store.standing import LeftBehind
from b2bua.ua.agent import NoDestination, UserAgent

CLOSED_A_SECOND = 50                       # calls: two BYEs each
MAX_FAREWELLS = 4_000                      # BYEs after one start
STORE_AGAIN = 5.0                          # seconds, when the database did not answer

log = structlog.get_logger(__name__)


class Rows(Protocol):
    """Where the dead process wrote its calls down (the store)."""

    async def left_behind(self) -> Sequence[LeftBehind]: ...


class Journal(Protocol):
    """The books of finished calls."""

    async def finish(self, record: CallRecord, writes: Sequence[CrmWrite]) -> object: ...

    async def spilled_before_is_back(self) -> None: ...


@dataclass(slots=True)
class LeftBehindCounters:
    closed: int = 0
    farewells: int = 0                     # BYEs
    farewells_answered: int = 0            # with a 2xx: the phone had not noticed by itself


class Undertaker:
    """Closes them once: a call's row goes when its record is in the books, and a call is in the books only once."""

    def __init__(
        self, rows: Rows, journal: Journal, agent: UserAgent, recordings: Recordings | None,
        delivered: Callable[[], None],
    ) -> None:
        self.counters = LeftBehindCounters()
        self._rows = rows
        self._journal = journal
        self._agent = agent
        self._recordings = recordings
        self._delivered = delivered

    async def run(self) -> None:
        await self._journal.spilled_before_is_back()        # the last word on a call that had ended
        left = await self._left_behind()
        if left:
            log.warning("the switch died during calls: they are closed", calls=len(left))
        async with asyncio.TaskGroup() as tasks:
            if self._recordings is not None:
                tasks.create_task(self._recordings.recover([one.call.record for one in left]))
            for first in range(0, len(left), CLOSED_A_SECOND):
                async with asyncio.TaskGroup() as closing:
                    for one in left[first:first + CLOSED_A_SECOND]:
                        for farewell in one.call.farewells:
                            tasks.create_task(self._say_bye(farewell))
                        closing.create_task(self._close(one))
                await asyncio.sleep(1.0)

    async def _left_behind(self) -> Sequence[LeftBehind]:
        while True:
            try:
                return await self._rows.left_behind()
            except StoreUnavailable as error:
                log.warning("calls of before the restart not looked for", why=str(error), remedy="it is tried again")
            await asyncio.sleep(STORE_AGAIN)

    async def _close(self, left: LeftBehind) -> None:
        record, writes = closed(left)
        log.info("call closed", call=record.id, talked=record.talk_seconds, reason=record.reason.value)
        await self._journal.finish(record, writes)
        self.counters.closed += 1
        if writes:
            self._delivered()

    async def _say_bye(self, farewell: Farewell) -> None:
        """Best effort: who does not answer has gone, or finds out by the silence."""
        if self.counters.farewells >= MAX_FAREWELLS:
            return
        self.counters.farewells += 1
        try:
            response = await self._agent.request(
                "BYE", Uri.parse(farewell.uri),
                from_=NameAddr.parse(farewell.local), to=NameAddr.parse(farewell.remote),
                call_id=farewell.call_id, cseq=farewell.cseq, headers=farewell.headers,
                destination=[(farewell.transport, hop) for hop in farewell.hops],
            )
        except NoDestination as error:
            log.info("no BYE", call_id=farewell.call_id, why=str(error))
        except Exception:                  # the boundary of a BYE: what a dead process wrote must not end this one
            log.exception("no BYE", call_id=farewell.call_id)
        else:
            self.counters.farewells_answered += response.status < 300


def closed(left: LeftBehind) -> tuple[CallRecord, tuple[CrmWrite, ...]]:
    """Its record and its CRM writes, with the times that are known to be true."""
    standing = left.call.record
    ended_at = max(left.seen_at, standing.answered_at or standing.started_at)
    why = "the switch died during this call; the time of its end is when the switch was last known to be alive"
    after = (*standing.why_after, (ended_at - standing.started_at).total_seconds())
    record = replace(
        standing, ended_at=ended_at, ended_by=EndedBy.SWITCH, reason=EndReason.RESTARTED, why=(*standing.why, why),
        why_after=after if len(after) == len(standing.why) + 1 else ()
    )
    return record, tuple(_ended_later(write, standing, record) for write in left.call.writes)


def _ended_later(write: CrmWrite, standing: CallRecord, record: CallRecord) -> CrmWrite:
    """The same, of the call as it went on after it was written down."""
    match write:
        case CallNote():
            return replace(write, talk_seconds=record.talk_seconds)
        case Task(due_at=due_at):
            return replace(write, due_at=due_at + (record.ended_at - standing.ended_at))
        case _:
            return write
