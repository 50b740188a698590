"""Many rows into the database in one transaction: the one hot path of the store, so it goes straight to the driver."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from b2bua.store.unavailable import StoreUnavailable, one_line, translated

Batch = tuple[str, Sequence[tuple[Any, ...]]]      # a statement and the rows for it


_REFUSALS = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)


class RowsRefused(Exception):
    """The database will never take these rows."""


class RowWriter(Protocol):
    async def write(self, batches: Sequence[Batch]) -> None:
        """All in one transaction. Raises StoreUnavailable or RowsRefused, and then nothing was written."""
        ...

    def close(self) -> None: ...


class SqliteRows:
    """A connection and a thread of its own: one hop to the thread for the whole transaction. By way of SQLAlchemy and
    aiosqlite it is a dozen, and costs a millisecond more per transaction (bench/store.py)."""

    def __init__(self, file: Path, pragmas: Sequence[str], busy_seconds: float) -> None:
        self._file = file
        self._pragmas = pragmas
        self._busy_seconds = busy_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite rows")
        self._connection: sqlite3.Connection | None = None

    async def write(self, batches: Sequence[Batch]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, batches)

    def close(self) -> None:
        self._thread.submit(self._disconnect)
        self._thread.shutdown(wait=True)

    def _write(self, batches: Sequence[Batch]) -> None:
        try:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            try:
                for statement, rows in batches:
                    connection.executemany(statement, rows)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except (*_REFUSALS, ValueError, OverflowError) as error:
            raise RowsRefused(str(error)) from error
        except sqlite3.Error as error:
            self._disconnect()         # the file may have been moved, replaced or repaired: look again the next time
            raise StoreUnavailable(str(error)) from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(
                f"{self._file.absolute().as_uri()}?mode=rw", uri=True, timeout=self._busy_seconds, isolation_level=None,
                check_same_thread=False)
            for pragma in self._pragmas:
                self._connection.execute(f"PRAGMA {pragma}")
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class PooledRows:
    """By way of SQLAlchemy's pool: asyncpg sends all rows of a statement in one round trip."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def write(self, batches: Sequence[Batch]) -> None:
        try:
            with translated():
                async with self._engine.begin() as connection:
                    for statement, rows in batches:
                        await connection.exec_driver_sql(statement, list(rows))
        except SQLAlchemyError as error:
            raise RowsRefused(one_line(error)) from error

    def close(self) -> None:
        """Nothing of its own: the engine is disposed of by its owner."""
