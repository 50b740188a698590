"""An event loop whose clock jumps to the next timer: hours of calls in milliseconds, and a deadlock is an error."""

from __future__ import annotations

import asyncio
import heapq
import selectors
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

EPOCH = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)      # the wall time at virtual second 0: a Monday morning
LIMIT = 24 * 3600.0                                 # a scenario that runs longer waits for what never comes


class Deadlock(RuntimeError):
    """Every task waits, and nothing will ever wake one."""


class JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer it moves the clock there.

    What a thread is about to do it cannot know: no executors, no database drivers on this loop.
    """

    now = 0.0
    limit = LIMIT

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        if self.now + timeout > self.limit:
            raise Deadlock(f"still waiting after {self.limit:.0f} s of virtual time")
        self.now += max(0.0, timeout)
        return ready


class OrderedTimer(asyncio.TimerHandle):
    """Timers of the same moment, the normal case on a virtual clock, go off in the order in which they were set."""

    __slots__ = ("serial",)
    serial: int

    def __lt__(self, other: Any) -> bool:
        return bool((self.when(), self.serial) < (other.when(), other.serial))


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, limit: float = LIMIT) -> None:
        self.clock = JumpingSelector()
        self.clock.limit = limit
        self._serials = count()
        super().__init__(self.clock)

    def call_at(                                    # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = OrderedTimer(when, callback, args, self, context)
        timer.serial = next(self._serials)
        heapq.heappush(self._scheduled, timer)      # type: ignore[attr-defined]
        timer._scheduled = True                     # type: ignore[attr-defined]
        return timer

    def time(self) -> float:
        return self.clock.now

    def wall(self) -> datetime:
        """The injected wall clock of scenarios: it runs with the virtual one."""
        return EPOCH + timedelta(seconds=self.clock.now)

    def run_forever(self) -> None:
        try:
            super().run_forever()
        except Deadlock as stuck:
            raise Deadlock("\n  ".join([str(stuck), *map(_where, asyncio.all_tasks(self))])) from None


def _where(task: asyncio.Task[Any]) -> str:
    """A task's name and the line on which it waits."""
    frames = task.get_stack(limit=8)
    at = ", ".join(f"{frame.f_code.co_qualname}:{frame.f_lineno}" for frame in frames) or "not started"
    return f"{task.get_name()} at {at}"
