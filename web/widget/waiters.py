"""Requests that wait for a change: for so long, so many of one employee, and none when we close."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

LONGEST_WAIT = 25.0                    # seconds
MOST_OF_ONE = 5                        # of one employee; when a sixth comes, the oldest is answered with what there is


class Waiters:
    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[asyncio.Timeout]] = {}
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def patience(self, whose: Hashable) -> AsyncIterator[None]:
        """Raises TimeoutError in the block when it has waited for long enough."""
        waiting = self._waiting.setdefault(whose, deque())
        if len(waiting) >= MOST_OF_ONE:
            _end(waiting.popleft())
        try:
            async with asyncio.timeout(0 if self._closed else LONGEST_WAIT) as one:
                waiting.append(one)
                yield
        finally:
            if one in waiting:
                waiting.remove(one)
            if not waiting and self._waiting.get(whose) is waiting:
                del self._waiting[whose]

    def close(self) -> None:
        """Whoever waits is answered now; nobody waits any more."""
        self._closed = True
        for waiting in self._waiting.values():
            for one in waiting:
                _end(one)


def _end(one: asyncio.Timeout) -> None:
    if not one.expired():
        one.reschedule(asyncio.get_running_loop().time())
