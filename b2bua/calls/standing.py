"""Calls that are up, written down while they last: the death of this process swallows none (see left_behind)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Protocol

import structlog

from b2bua.calls.call import CallInProgress, Clock
from b2bua.calls.report import report
from b2bua.cdr import CallId
from b2bua.sip.farewell import farewell_to
from b2bua.store.engine import StoreUnavailable
from b2bua.store.standing import StandingCall
from b2bua.ua.leg import Leg

SAVED_EVERY = 1.0                          # seconds; a call that is over sooner is never written down here
BEAT_EVERY = 3.0                           # seconds between two signs of life while calls are up
BATCH = 100                                # calls in one transaction: what the event loop does in one go

log = structlog.get_logger(__name__)


class StandingRows(Protocol):
    """Where they are written down (the store)."""

    async def save(self, standing: Sequence[StandingCall], now: datetime) -> None: ...

    async def tidy(self) -> int: ...


class StandingCalls:
    """Which calls are up, and which of them are on the disk. No call waits for that."""

    def __init__(self, rows: StandingRows, clock: Clock) -> None:
        self._rows = rows
        self._clock = clock
        self._new: dict[CallId, tuple[CallInProgress, tuple[Leg, ...]]] = {}
        self._saved: set[CallId] = set()
        self._left_over = False            # rows are there whose call is over: their record is on its way
        self._away = False

    def up(self, call: CallInProgress, *legs: Leg) -> None:
        self._new[call.id] = call, legs

    def over(self, call: CallInProgress) -> None:
        self._new.pop(call.id, None)
        if call.id in self._saved:
            self._saved.remove(call.id)
            self._left_over = True

    async def run(self) -> None:
        """Write down what is new; while anything is there, say that we are alive, and take away what is over."""
        loop = asyncio.get_running_loop()
        beat_at = 0.0
        while True:
            await asyncio.sleep(SAVED_EVERY)
            beats = (self._saved or self._left_over) and loop.time() >= beat_at
            if not self._new and not beats:
                continue
            try:
                await self._save()
                while self._new:
                    await self._save()
                if beats:
                    self._left_over = await self._rows.tidy() > len(self._saved)
                    beat_at = loop.time() + BEAT_EVERY
            except StoreUnavailable as error:
                if not self._away:
                    log.warning("calls that are up not saved", why=str(error), remedy="they go on; it is tried again")
                self._away = True
            else:
                self._away = False

    async def _save(self) -> None:
        batch = list(islice(self._new, BATCH))
        try:
            await self._rows.save([_standing(*self._new[call]) for call in batch], self._clock())
        except StoreUnavailable:
            raise
        except Exception:                  # the boundary of what is only a precaution: it must end no call
            log.exception("calls that are up not saved", calls=batch)
        for call in batch:
            if self._new.pop(call, None) is None:
                self._left_over = True     # it ended while it was written down
            else:
                self._saved.add(call)


def _standing(call: CallInProgress, legs: Sequence[Leg]) -> StandingCall:
    """The call, should it end by our death: what its end is like, whoever closes it says."""
    record, writes = report(call)
    dialogs = [leg.session.dialog for leg in legs]
    farewells = [farewell_to(dialog) for dialog in dialogs if dialog is not None]
    return StandingCall(record, writes, tuple([farewell for farewell in farewells if farewell is not None]))
