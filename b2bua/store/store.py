"""Everything that outlives the process, in one database; opened once, closed when all is durable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from b2bua.sealing import Sealer
from b2bua.store.bindings import BindingRows
from b2bua.store.call_search import CallSearch
from b2bua.store.call_traces import CallTraceRows
from b2bua.store.calls import CallJournal
from b2bua.store.changes import ChangeRows
from b2bua.store.crm_users import CrmUserRows
from b2bua.store.directory import DirectoryStore
from b2bua.store.engine import StoreUnavailable, background, open_database
from b2bua.store.fetches import FetchLog
from b2bua.store.outbox import OutboxRows
from b2bua.store.recordings import RecordingRows
from b2bua.store.secrets import SecretRows
from b2bua.store.spill import SpillFile
from b2bua.store.standing import StandingRows
from b2bua.store.tokens import TokenRows
from b2bua.store.web_sessions import WebSessionRows
from b2bua.store.widget_settings import WidgetSettingsRows

KEEP_DELIVERED_DAYS = 30
KEEP_FETCHES_DAYS = 90                 # of recordings: who heard them
HOUSEKEEPING_SECONDS = 3600.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Store:
    calls: CallJournal
    history: CallSearch
    directory: DirectoryStore
    outbox: OutboxRows
    recordings: RecordingRows
    bindings: BindingRows
    standing: StandingRows
    tokens: TokenRows
    secrets: SecretRows
    crm_users: CrmUserRows
    widget_settings: WidgetSettingsRows
    web_sessions: WebSessionRows
    changes: ChangeRows
    call_traces: CallTraceRows


@asynccontextmanager
async def open_store(
    url: str, *, spill: Path | None = None, token_spill: Path | None = None, sealer: Sealer | None = None
) -> AsyncIterator[Store]:
    """A migrated database (see migrate.py) as a Store. `spill`: where finished calls go while the database is away;
    `token_spill`: a directory for the CRM's tokens meanwhile. Without a `sealer` secrets can neither be read nor
    written: SecretsLocked."""
    of_tokens = sealer or Sealer(())
    async with open_database(url) as database:
        store = Store(
            calls=CallJournal(database, SpillFile(spill) if spill is not None else None),
            history=CallSearch(database),
            directory=DirectoryStore(database, sealer),
            outbox=OutboxRows(database),
            recordings=RecordingRows(database),
            bindings=BindingRows(database),
            standing=StandingRows(database),
            tokens=TokenRows(database, of_tokens, token_spill),
            secrets=SecretRows(database, of_tokens),
            crm_users=CrmUserRows(database),
            widget_settings=WidgetSettingsRows(database),
            web_sessions=WebSessionRows(database),
            changes=ChangeRows(database),
            call_traces=CallTraceRows(database),
        )
        async with background() as tasks:
            writers = [tasks.create_task(writer) for writer in (
                store.calls.write_behind(), store.calls.spill_over(), store.recordings.fetch_log.write_behind())]
            housekeeping = tasks.create_task(_keep_house(store.outbox, store.recordings.fetch_log))
            try:
                yield store
            finally:
                housekeeping.cancel()
                store.calls.close()
                store.recordings.fetch_log.close()
                await asyncio.wait(writers)


async def _keep_house(outbox: OutboxRows, fetches: FetchLog) -> None:
    while True:
        try:
            forgotten = await outbox.forget_done(datetime.now(UTC) - timedelta(days=KEEP_DELIVERED_DAYS))
            await fetches.forget(datetime.now(UTC) - timedelta(days=KEEP_FETCHES_DAYS))
        except StoreUnavailable as error:
            _log.warning("outbox and fetches of recordings not tidied", error=str(error))
        else:
            if forgotten:
                _log.info("outbox tidied", forgotten=forgotten)
        await asyncio.sleep(HOUSEKEEPING_SECONDS)
