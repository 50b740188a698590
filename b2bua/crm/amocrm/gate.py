"""One account's gate: at most so many requests a second and in flight, a ringing phone's first, none while paused."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

from b2bua.crm.port import CrmUnavailable

PER_SECOND = 5                         # amoCRM allows an integration 7; the rest is for clocks that differ
WINDOW = 1.1                           # what we call a second: what was sent may be under way for longer than the next
IN_FLIGHT = 2
PATIENT_IN_FLIGHT = 1                  # so that a hanging write never keeps a ringing phone's question waiting
WAITING = 500                          # requests waiting at the gate; more are sent away


class Lane(Enum):
    """Who goes first; the value is the head start in seconds that it leaves to a ringing phone."""

    RINGING = 0.0
    POP_UP = 1.0
    WRITE = 10.0                       # and no more, or a slow CRM and many calls would starve the writes
    SYNC = 60.0

    @property
    def is_urgent(self) -> bool:
        return self in (Lane.RINGING, Lane.POP_UP)


_Waiting = tuple[float, int, "asyncio.Future[None]"]       # (when it counts as come, arrival, its turn)


class Gate:
    """The second is a sliding one: no WINDOW ever holds more than PER_SECOND starts."""

    def __init__(self) -> None:
        self._starts: deque[float] = deque(maxlen=PER_SECOND)
        self._waiting: dict[bool, list[_Waiting]] = {True: [], False: []}      # urgent, patient
        self._in_flight = {True: 0, False: 0}
        self._arrivals = 0
        self._paused_until = 0.0
        self._paused_as: type[CrmUnavailable] = CrmUnavailable
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def paused_for(self) -> float:
        return max(0.0, self._paused_until - asyncio.get_running_loop().time())

    def pause(self, seconds: float, as_what: type[CrmUnavailable] = CrmUnavailable) -> None:
        """The account is left alone; who waits or comes meanwhile is told when to come again."""
        until = asyncio.get_running_loop().time() + seconds
        if until > self._paused_until:
            self._paused_until, self._paused_as = until, as_what
        for queue in self._waiting.values():
            while queue:
                _, _, turn = heapq.heappop(queue)
                if not turn.done():
                    turn.set_exception(self._paused_as("the account is paused", retry_after=self.paused_for))

    @asynccontextmanager
    async def passing(self, lane: Lane) -> AsyncIterator[None]:
        """Raises CrmUnavailable when paused or crowded."""
        await self._turn(lane)
        try:
            yield
        finally:
            self._left(lane)

    def _left(self, lane: Lane) -> None:
        self._in_flight[lane.is_urgent] -= 1
        self._admit()

    async def _turn(self, lane: Lane) -> None:
        if (pause := self.paused_for) > 0:
            raise self._paused_as("the account is paused", retry_after=pause)
        if sum(map(len, self._waiting.values())) >= WAITING:
            raise CrmUnavailable("too many requests wait for this account")
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._arrivals += 1
        heapq.heappush(self._waiting[lane.is_urgent], (loop.time() + lane.value, self._arrivals, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:
                self._left(lane)       # let in within the very tick of the cancellation
            raise

    def _admit(self) -> None:
        """Lets in whoever may go now, and comes back by itself when only time is lacking."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        loop = asyncio.get_running_loop()
        while (urgent := self._next()) is not None:
            if (wait := self._until_next_start(loop.time())) > 0:
                self._alarm = loop.call_later(wait, self._admit)
                return
            _, _, turn = heapq.heappop(self._waiting[urgent])
            self._starts.append(loop.time())
            self._in_flight[urgent] += 1
            turn.set_result(None)

    def _next(self) -> bool | None:
        """Which of the queues goes next; None when nobody waits or may go."""
        if sum(self._in_flight.values()) >= IN_FLIGHT:
            return None
        heads = [(head, urgent) for urgent in (True, False) if (head := self._head(urgent)) is not None]
        return min(heads)[1] if heads else None

    def _head(self, urgent: bool) -> tuple[float, int] | None:
        queue = self._waiting[urgent]
        while queue and queue[0][2].done():                # its owner lost patience
            heapq.heappop(queue)
        if not queue or (not urgent and self._in_flight[False] >= PATIENT_IN_FLIGHT):
            return None
        return queue[0][0], queue[0][1]

    def _until_next_start(self, now: float) -> float:
        return 0.0 if len(self._starts) < PER_SECOND else self._starts[0] + WINDOW - now
