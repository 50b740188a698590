"""One client's newest tokens: in the database, else in the spill file, and in memory; what is newest is used."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from b2bua.cdr import ClientId
from b2bua.store.engine import StoreUnavailable
from b2bua.store.tokens import Connection, ConnectionState

log = structlog.get_logger(__name__)


class Rows(Protocol):
    """Where the tokens are (store/tokens.py)."""

    async def get(self, client: ClientId) -> Connection | None: ...

    async def lease(self, seen: Connection, lease: str) -> bool: ...

    async def release(self, held: Connection, lease: str, *, unsent: bool) -> None: ...

    async def keep(self, new: Connection) -> bool: ...

    async def moved(self, held: Connection, base_url: str) -> bool: ...

    async def mark(self, one: Connection, state: ConnectionState, since: datetime, problem: str) -> bool: ...

    async def spill(self, new: Connection) -> bool: ...

    async def spilled(self, client: ClientId) -> Connection | None: ...

    async def forget_spilled(self, client: ClientId) -> None: ...


@dataclass(slots=True)
class RefreshCounts:
    """What became of tokens, for the metrics."""

    renewed: int = 0
    taken_over: int = 0                # renewed by another process
    lost: int = 0                      # answers
    refused: int = 0
    not_now: int = 0
    unstored: int = 0                  # new tokens that the database did not take at once
    moved: int = 0                     # accounts, to another address
    codes: int = 0                     # that connected an account
    codes_refused: int = 0


class KeptTokens:
    """`newest` is what is used; `came_at`: when it came, by the loop's clock, or None when it was there before us."""

    def __init__(self, client: ClientId, rows: Rows, counts: RefreshCounts) -> None:
        self.newest: Connection | None = None
        self.came_at: float | None = None
        self._client = client
        self._rows = rows
        self._counts = counts
        self._unsaved: Connection | None = None        # the newest, while the database has not taken it

    @property
    def is_stored(self) -> bool:
        """Whether the database has the newest tokens."""
        return self._unsaved is None

    async def look(self) -> bool:
        """Brings `newest` to what there is; False while the database has older ones. Raises StoreUnavailable."""
        if self._unsaved is not None and not await self._save(self._unsaved):
            return False
        saved = await self._rows.get(self._client)
        later = self._later(saved) or await self._spilled(saved)
        if later is not None:
            self._unsaved = later
            return await self._save(later)
        if saved is not None:
            self._counts.taken_over += self.newest is not None and saved.generation > self.newest.generation
            self._take(saved)
        return True

    async def store(self, new: Connection) -> None:
        """In the database, else in the spill file, and only then in use; should neither take it, in memory alone."""
        self._unsaved = new
        if await self._save(new):
            return
        self._counts.unstored += 1
        try:
            spilled = await self._rows.spill(new)
        except Exception:              # whatever it is, the tokens are in hand and the old ones are dead
            log.exception("CRM tokens not spilled", client=new.client)
            spilled = False
        log.error("new CRM tokens are not in the database", client=new.client, spilled=spilled,
                  remedy="it is tried again; do not stop the daemon before it is done" if not spilled else
                         "it is tried again, by the next start too")
        self._take(new)

    def _later(self, saved: Connection | None) -> Connection | None:
        """Ours, when the database was restored from a backup: it gets them back."""
        if self.newest is None or self.newest.tokens is None:
            return None
        return self.newest if saved is None or saved.generation < self.newest.generation else None

    async def _spilled(self, saved: Connection | None) -> Connection | None:
        """What another process, which may be dead by now, has got later and could not store."""
        try:
            spilled = await self._rows.spilled(self._client)
        except OSError as error:
            log.error("spilled CRM tokens are not read", client=self._client, why=str(error))
            return None
        return spilled if spilled is not None and (saved is None or spilled.generation > saved.generation) else None

    async def _save(self, new: Connection) -> bool:
        """Whether the database has these, or better ones."""
        try:
            kept = await self._rows.keep(new)
            saved = new if kept else await self._rows.get(new.client)
        except StoreUnavailable as error:
            log.warning("CRM tokens wait for the database", client=new.client, why=str(error))
            return False
        except Exception:              # what would they be worth if this lost them?
            log.exception("CRM tokens not stored", client=new.client)
            return False
        if self._unsaved is new:
            self._unsaved = None
        if saved is not None:
            self._take(saved)
        with suppress(OSError):
            await self._rows.forget_spilled(new.client)
        return True

    def _take(self, newest: Connection) -> None:
        """From now on these are used, unless they were read before others were stored."""
        known = self.newest
        if known is not None and newest.generation < known.generation:
            return
        self.newest = newest
        if known is not None and known.generation < newest.generation:
            self.came_at = asyncio.get_running_loop().time()
