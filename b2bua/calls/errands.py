"""Work beside the calls (pop-ups, finishing recordings): owned, bounded, and never a danger to a call."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType

import structlog

MAX_ERRANDS = 2_000                        # under way at once; further ones are dropped, counted and logged

log = structlog.get_logger(__name__)


class Errands:
    """Tasks that no call waits for. Leaving the block waits for those under way, `patience` seconds at most."""

    def __init__(self, patience: float = 5.0) -> None:
        self.dropped = 0
        self.failed = 0
        self._patience = patience
        self._tasks = asyncio.TaskGroup()
        self._under_way: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Errands:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._under_way and kind is None:
            await asyncio.wait(self._under_way, timeout=self._patience)
        for task in self._under_way:
            task.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    def start(self, what: str, errand: Coroutine[object, object, None]) -> None:
        if len(self._under_way) >= MAX_ERRANDS:
            self.dropped += 1
            errand.close()
            log.error("errand dropped", what=what, remedy="the database or the CRM is slow: see its own messages")
            return
        task = self._tasks.create_task(self._run(what, errand))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _run(self, what: str, errand: Coroutine[object, object, None]) -> None:
        try:
            await errand
        except Exception:                  # the boundary of an errand
            self.failed += 1
            log.exception("errand failed", what=what)
