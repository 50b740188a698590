"""Who fetched which recording: gathered in memory and written behind the answers, bounded by age and number."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime

import structlog
from sqlalchemy import delete, func, insert, select

from b2bua.store.engine import Database, StoreUnavailable, whole
from b2bua.store.rows import storable
from b2bua.store.schema import recording_fetches

GATHER_SECONDS = 5.0                   # a player asks several times: one row is enough for that
MOST_WAITING = 1_000                   # rows in memory; what else is fetched meanwhile stands in the log alone
MOST_KEPT = 100_000                    # rows in the database; the oldest go first

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Some requests of somebody's for one recording, one after the other."""

    recording: str
    at: datetime                       # of the first
    address: str
    who: str                           # who had signed in; "": nobody
    size: int                          # bytes of the answers
    requests: int = 1

    def joined(self, other: Fetch) -> Fetch:
        return replace(self, at=min(self.at, other.at), size=self.size + other.size,
                       requests=self.requests + other.requests)


class FetchLog:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[tuple[str, str, str], Fetch] = {}
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._writing = asyncio.Lock()

    def note(self, fetch: Fetch) -> None:
        key = fetch.recording, fetch.address, fetch.who
        if (known := self._waiting.get(key)) is not None:
            self._waiting[key] = known.joined(fetch)
        elif len(self._waiting) < MOST_WAITING:
            self._waiting[key] = fetch
            self._wake.set()

    @whole
    async def last(self, recording: str, limit: int) -> list[Fetch]:
        """The newest first."""
        await self._write()
        query = (select(recording_fetches).where(recording_fetches.c.recording == recording)
                 .order_by(recording_fetches.c.id.desc()).limit(limit))
        async with self._database.reading() as connection:
            return [Fetch(row.recording, row.at, row.address, row.who, row.size, row.requests)
                    for row in await connection.execute(query)]

    @whole
    async def forget(self, before: datetime) -> None:
        async with self._database.writing() as connection:
            await connection.execute(delete(recording_fetches).where(recording_fetches.c.at < before))

    async def write_behind(self) -> None:
        """Carries what `note` was given to the database, until `close`."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER_SECONDS):
                    await self._closing.wait()
            try:
                await self._database.whole(self._write())
            except StoreUnavailable as error:
                self._wake.set()
                _log.warning("fetches of recordings not written down", error=str(error))
            if self._closing.is_set():
                return

    def close(self) -> None:
        self._closing.set()
        self._wake.set()

    async def _write(self) -> None:
        async with self._writing:      # who reads waits for what another one is writing
            taken, self._waiting = self._waiting, {}
            if not taken:
                return
            newest = select(func.max(recording_fetches.c.id)).scalar_subquery()
            too_many = delete(recording_fetches).where(recording_fetches.c.id <= newest - MOST_KEPT)
            try:
                async with self._database.writing() as connection:
                    await connection.execute(insert(recording_fetches), [_row(fetch) for fetch in taken.values()])
                    await connection.execute(too_many)
            except StoreUnavailable:
                for fetch in taken.values():
                    self.note(fetch)
                raise


def _row(fetch: Fetch) -> dict[str, object]:
    return {**asdict(fetch), "address": storable(fetch.address), "who": storable(fetch.who)}
