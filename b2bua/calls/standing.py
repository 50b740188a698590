"""Calls, written down while they last: the death of this process swallows none (see left_behind)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Protocol

import structlog

from b2bua.calls.call import CallInProgress, Clock
from b2bua.calls.report import report
from b2bua.cdr import CallId
from b2bua.sip.effects import Flow
from b2bua.sip.farewell import farewell_to
from b2bua.sip.uri import Uri
from b2bua.store.engine import StoreUnavailable
from b2bua.store.standing import StandingCall
from b2bua.ua.leg import Leg

SAVED_EVERY = 1.0                          # seconds; a call that is over sooner is never written down here
BEAT_EVERY = 3.0                           # seconds between two signs of life while calls are up
BATCH = 100                                # calls in one transaction: what the event loop does in one go

log = structlog.get_logger(__name__)


_Where = list[tuple[Flow, Uri] | None]     # of each leg: where its BYE would go now


@dataclass(frozen=True, slots=True, eq=False)
class _Up:
    call: CallInProgress
    legs: tuple[Leg, ...]

    @property
    def where(self) -> _Where:
        """A phone may open another connection, or move its Contact."""
        dialogs = [leg.session.dialog for leg in self.legs]
        return [None if dialog is None else (dialog.flow, dialog.target) for dialog in dialogs]

    def standing(self) -> StandingCall:
        """The call, should it end by our death: what its end is like, whoever closes it says."""
        record, writes = report(self.call)
        dialogs = [leg.session.dialog for leg in self.legs]
        farewells = [farewell_to(dialog) for dialog in dialogs if dialog is not None]
        return StandingCall(record, writes, tuple([farewell for farewell in farewells if farewell is not None]))


class StandingRows(Protocol):
    """Where they are written down (the store)."""

    async def save(self, standing: Sequence[StandingCall], now: datetime) -> None: ...

    async def tidy(self) -> int: ...


class StandingCalls:
    """Which calls are up, and which of them are on the disk. No call waits for that."""

    def __init__(self, rows: StandingRows, clock: Clock) -> None:
        self._rows = rows
        self._clock = clock
        self._new: dict[CallId, _Up] = {}
        self._saved: dict[CallId, tuple[_Up, _Where]] = {}
        self._left_over = False            # rows are there whose call is over: their record is on its way
        self._away = False

    def up(self, call: CallInProgress, *legs: Leg) -> None:
        """It is, with these legs to say goodbye to; said again when it has others."""
        self._new[call.id] = _Up(call, legs)

    def over(self, call: CallInProgress) -> None:
        self._new.pop(call.id, None)
        if self._saved.pop(call.id, None) is not None:
            self._left_over = True

    async def run(self) -> None:
        """Write down what is new; while anything is there, say that we are alive, and take away what is over."""
        loop = asyncio.get_running_loop()
        beat_at = 0.0
        while True:
            await asyncio.sleep(SAVED_EVERY)
            beats = (self._saved or self._left_over) and loop.time() >= beat_at
            if beats:
                for call, (up, where) in self._saved.items():
                    if up.where != where:
                        self._new.setdefault(call, up)
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
        batch = list(islice(self._new.items(), BATCH))
        where = [up.where for _, up in batch]
        try:
            await self._rows.save([up.standing() for _, up in batch], self._clock())
        except StoreUnavailable:
            raise
        except Exception:                  # the boundary of what is only a precaution: it must end no call
            log.exception("calls that are up not saved", calls=[call for call, _ in batch])
        for (call, up), saved_at in zip(batch, where, strict=True):
            if call not in self._new:
                self._left_over = True     # it ended while it was written down
            else:
                if self._new[call] is up:  # else it has other legs meanwhile: the next round
                    del self._new[call]
                self._saved[call] = up, saved_at
