"""Small writes that come at the same time share a transaction, and its statements: one commit, which is one fsync, and
in PostgreSQL one trip for all of them. While one transaction is on its way, the next ones gather."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy.engine import Connection

from b2bua.store.engine import Database, StoreUnavailable

MOST_SHARED = 100                      # writes in one transaction

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, eq=False)
class _Asked(Generic[A, R]):
    write: A
    outcome: asyncio.Future[R]

    def succeeded(self, result: R) -> None:
        if not self.outcome.done():    # done: its waiter was cancelled
            self.outcome.set_result(result)

    def failed(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


class GroupedWrites(Generic[A, R]):
    def __init__(self, database: Database, carry_out: Callable[[Connection, Sequence[A]], Sequence[R]]) -> None:
        """`carry_out`: writes in the order in which they came, and a result for each."""
        self._database = database
        self._carry_out = carry_out
        self._waiting: deque[_Asked[A, R]] = deque()
        self._is_writing = False

    async def write(self, one: A) -> R:
        """Its result, once it is committed; it is done to its end though the waiter is cancelled. It may be carried out
        twice: alone, when another one broke the transaction that they shared."""
        asked: _Asked[A, R] = _Asked(one, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if not self._is_writing:
            self._is_writing = True
            self._database.begin(self._write_all())
        return await asked.outcome

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                some = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_SHARED))]
                await self._write_together(some)
        finally:
            self._is_writing = False

    async def _write_together(self, some: list[_Asked[A, R]]) -> None:
        writes = [one.write for one in some]
        try:
            results = await self._database.at_once(lambda connection: self._carry_out(connection, writes))
        except StoreUnavailable as error:
            for one in some:
                one.failed(error)
        except Exception as error:  # noqa: BLE001 - handed to who asked
            if len(some) == 1:
                some[0].failed(error)
                return
            for one in some:
                await self._write_together([one])
        else:
            for one, result in zip(some, results, strict=True):
                one.succeeded(result)
