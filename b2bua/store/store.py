"""Everything that outlives the process, in one database; opened once, closed when all is durable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from b2bua.store.bindings import BindingRows
from b2bua.store.calls import CallJournal
from b2bua.store.directory import DirectoryStore
from b2bua.store.engine import StoreUnavailable, background, open_database
from b2bua.store.outbox import OutboxRows
from b2bua.store.recordings import RecordingRows
from b2bua.store.spill import SpillFile
from b2bua.store.standing import StandingRows

KEEP_DELIVERED_DAYS = 30
HOUSEKEEPING_SECONDS = 3600.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Store:
    calls: CallJournal
    directory: DirectoryStore
    outbox: OutboxRows
    recordings: RecordingRows
    bindings: BindingRows
    standing: StandingRows


@asynccontextmanager
async def open_store(url: str, *, spill: Path | None = None) -> AsyncIterator[Store]:
    """A migrated database (see migrate.py) as a Store. `spill`: where finished calls go while the database is away."""
    async with open_database(url) as database:
        store = Store(
            calls=CallJournal(database, SpillFile(spill) if spill is not None else None),
            directory=DirectoryStore(database),
            outbox=OutboxRows(database),
            recordings=RecordingRows(database),
            bindings=BindingRows(database),
            standing=StandingRows(database),
        )
        async with background() as tasks:
            writers = [tasks.create_task(store.calls.write_behind()), tasks.create_task(store.calls.spill_over())]
            housekeeping = tasks.create_task(_keep_house(store.outbox))
            try:
                yield store
            finally:
                housekeeping.cancel()
                store.calls.close()
                await asyncio.wait(writers)


async def _keep_house(outbox: OutboxRows) -> None:
    while True:
        try:
            forgotten = await outbox.forget_done(datetime.now(UTC) - timedelta(days=KEEP_DELIVERED_DAYS))
        except StoreUnavailable as error:
            _log.warning("outbox not tidied", error=str(error))
        else:
            if forgotten:
                _log.info("outbox tidied", forgotten=forgotten)
        await asyncio.sleep(HOUSEKEEPING_SECONDS)
