"""One database, SQLite or PostgreSQL: connections, transactions, and what is set on each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Table, Update, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from b2bua.store.row_writer import Batch, PooledRows, RowWriter, SqliteRows
from b2bua.store.schema import instant_text
from b2bua.store.unavailable import StoreUnavailable as StoreUnavailable
from b2bua.store.unavailable import one_line as one_line
from b2bua.store.unavailable import translated

BUSY_SECONDS = 5.0                     # how long SQLite waits for another process's transaction
CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 20.0               # PostgreSQL: a statement that takes longer is given up
CONNECTIONS = 5
EXTRA_CONNECTIONS = 5

# WAL: readers and the one writer do not wait for each other. FULL, not NORMAL: in WAL mode NORMAL may lose the last
# commits at a power cut, and a call that we called stored must be there. The group commit of calls.py makes it one
# fsync for many calls.
SQLITE_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "journal_size_limit=67108864")

T = TypeVar("T")
P = ParamSpec("P")


class Database:
    """Readers take `reading()`, writers `writing()`: SQLite must know at BEGIN which it will be."""

    def __init__(
        self, engine: AsyncEngine, rows: RowWriter, hop: _SqliteHop | None, tasks: asyncio.TaskGroup
    ) -> None:
        self._engine = engine
        self._rows = rows
        self._hop = hop
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self.is_sqlite = engine.dialect.name == "sqlite"

    def insert_once(self, table: Table, columns: Sequence[str]) -> str:
        """INSERT for tuples in the order of `columns`; a row that is there already is left as it is."""
        dialect = sqlite if self.is_sqlite else postgresql
        statement = dialect.insert(table).inline().on_conflict_do_nothing()
        return str(statement.compile(dialect=self._engine.dialect, column_keys=list(columns)))

    def insert_latest(self, table: Table, columns: Sequence[str], key: str) -> str:
        """The same, but a row of this key that is there already becomes this one."""
        dialect = sqlite if self.is_sqlite else postgresql
        insert = dialect.insert(table).inline()
        given = {name: insert.excluded[name] for name in columns if name != key}
        statement = insert.on_conflict_do_update(index_elements=[key], set_=given)
        return str(statement.compile(dialect=self._engine.dialect, column_keys=list(columns)))

    def statement(self, statement: Update, columns: Sequence[str]) -> str:
        """Another one for `write_rows`, with a value for each of `columns`."""
        return str(statement.compile(dialect=self._engine.dialect, column_keys=list(columns)))

    def values(self, values: Iterable[Any]) -> tuple[Any, ...]:
        """A row for `insert_once`, whose values no SQLAlchemy type looks at."""
        if not self.is_sqlite:
            return tuple(values)
        return tuple([instant_text(value) if type(value) is datetime else value for value in values])

    async def write_rows(self, batches: Sequence[Batch]) -> None:
        """Statements of `insert_once`, rows of `values`; one transaction. Raises StoreUnavailable or RowsRefused."""
        await self._rows.write(batches)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """One moment of the database: a transaction that sees no later changes. Raises StoreUnavailable."""
        with translated():
            async with self._engine.connect() as connection:
                if not self.is_sqlite:
                    await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed when the block is left without an exception. Raises StoreUnavailable."""
        with translated():
            async with self._engine.connect() as connection:
                if self.is_sqlite:
                    await connection.execution_options(begin_immediate=True)
                async with connection.begin():
                    yield connection

    async def at_once(self, work: Callable[[Connection], T]) -> T:
        """A transaction of many statements, for what is hot: in SQLite, `work` runs in a thread of its own. Not to be
        cancelled, see `whole`. Raises StoreUnavailable."""
        if self._hop is not None:
            with translated():
                return await self._hop.run(work)
        async with self.writing() as connection:
            return await connection.run_sync(work)

    async def whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs to its end though its waiter is cancelled: a statement that is cut off costs the connection, and
        aiosqlite's never closes when it is cancelled twice. Every statement has its time limit."""
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        task = self._tasks.create_task(_settle(work, outcome))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await outcome

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs to its end, and raises nothing."""
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def settled(self) -> None:
        """Nothing is running any more."""
        while self._running:
            await asyncio.wait(self._running)


async def _settle(work: Coroutine[Any, Any, T], outcome: asyncio.Future[T]) -> None:
    try:
        result = await work
    except Exception as error:  # noqa: BLE001 - handed to who asked
        if not outcome.done():
            outcome.set_exception(error)
    else:
        if not outcome.done():
            outcome.set_result(result)


class _SqliteHop:
    """A connection and a thread of its own, so that a transaction is one hop to another thread; by way of aiosqlite
    each statement is several."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite hop")

    async def run(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def close(self) -> None:
        self._thread.submit(self._engine.dispose)
        self._thread.shutdown(wait=True)

    def _run(self, work: Callable[[Connection], T]) -> T:
        with self._engine.connect() as connection:
            connection.execution_options(begin_immediate=True)
            with connection.begin():
                return work(connection)


class _OnDatabase(Protocol):
    _database: Database


S = TypeVar("S", bound=_OnDatabase)


def whole(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """A method that asks the database: see Database.whole."""
    @wraps(method)
    async def shielded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.whole(method(self, *args, **kwargs))
    return shielded


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    engine = _sqlite(url) if url.startswith("sqlite") else _postgresql(url)
    file = sqlite_file(url)
    rows = SqliteRows(file, SQLITE_PRAGMAS, BUSY_SECONDS) if file is not None else PooledRows(engine)
    hop = _SqliteHop(_sqlite_in_a_thread(url)) if file is not None else None
    try:
        async with background() as tasks:
            database = Database(engine, rows, hop, tasks)
            try:
                yield database
            finally:
                await database.settled()
    finally:
        rows.close()
        if hop is not None:
            hop.close()
        await engine.dispose()


@asynccontextmanager
async def background() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group for tasks that end when the block says so: an exception of the block, a shutdown for one, does not
    cut them off, and comes out as it is."""
    failure: BaseException | None = None
    async with asyncio.TaskGroup() as tasks:
        try:
            yield tasks
        except BaseException as error:  # noqa: BLE001 - raised below
            failure = error
    if failure is not None:
        raise failure


def sqlite_file(url: str) -> Path | None:
    """The file behind a SQLite URL; None for PostgreSQL."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    return Path(str(parsed.database))


def without_password(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


def _sqlite(url: str) -> AsyncEngine:
    file = sqlite_file(url)
    if file is not None and not file.parent.is_dir():      # said here: aiosqlite's thread outlives a failed open
        raise StoreUnavailable(f"the directory {file.parent} does not exist")
    engine = create_async_engine(url, connect_args={"timeout": BUSY_SECONDS}, pool_size=CONNECTIONS,
                                 max_overflow=0)
    _set_up(engine.sync_engine)
    return engine


def _sqlite_in_a_thread(url: str) -> Engine:
    engine = create_engine(make_url(url).set(drivername="sqlite"), connect_args={"timeout": BUSY_SECONDS}, pool_size=1)
    _set_up(engine)
    return engine


def _set_up(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None        # BEGIN is ours: the driver's own comes too late for DDL and reads
        cursor = connection.cursor()
        for pragma in SQLITE_PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE for writers: a transaction that reads first and writes later may find its snapshot outdated, and
        # SQLite then fails at once instead of waiting for busy_timeout.
        immediate = connection.get_execution_options().get("begin_immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _postgresql(url: str) -> AsyncEngine:
    return create_async_engine(
        url, pool_size=CONNECTIONS, max_overflow=EXTRA_CONNECTIONS, pool_timeout=CONNECT_SECONDS, pool_pre_ping=True,
        connect_args={"timeout": CONNECT_SECONDS, "command_timeout": STATEMENT_SECONDS,
                      "server_settings": {"application_name": "smartswitch", "timezone": "UTC"}},
    )
