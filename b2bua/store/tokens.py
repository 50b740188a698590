"""The connections to CRM accounts by OAuth, and their tokens: which is stored, and who may spend it.

A refresh token is good for one refresh. Whoever wants to spend it takes the connection's lease first, in one statement
that says what it has seen: of several processes one gets it. `sent` counts the tries that were begun with this token,
before they begin: should one never tell how it ended, the next one knows.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from b2bua.cdr import ClientId
from b2bua.sealing import Sealer, SecretsLocked
from b2bua.store.engine import Database, whole
from b2bua.store.rows import instant, storable
from b2bua.store.schema import crm_connections
from b2bua.store.secrets import SEALED, opened, sealed

LONGEST_PROBLEM = 500                  # characters

_log = structlog.get_logger(__name__)


class ConnectionState(Enum):
    CONNECTED = "connected"
    UNCERTAIN = "uncertain"            # answers to refreshes were lost: the tokens may be dead
    REFUSED = "refused"                # a person must authorise us again
    DISCONNECTED = "disconnected"      # the integration was switched off in the account


@dataclass(frozen=True, slots=True)
class TokenPair:
    access: str = field(repr=False)
    refresh: str = field(repr=False)   # single use
    obtained_at: datetime
    access_until: datetime
    refresh_until: datetime


@dataclass(frozen=True, slots=True)
class Connection:
    """One client's. `tokens` is None when our keys do not open them: then `problem` says so, and they stay stored."""

    client: ClientId
    client_id: str                     # the integration whose tokens these are
    applied_url: str                   # base_url of the settings when they came
    base_url: str                      # where the account is now
    account: int | None                # its id in the CRM
    api_domain: str | None             # who knows where it has moved to
    tokens: TokenPair | None
    since: datetime                    # of the state
    generation: int = 1
    sent: int = 0
    state: ConnectionState = ConnectionState.CONNECTED
    problem: str = ""
    lease: str = ""


Mark = tuple[int, str, str]            # generation, state, base_url: whether there is something new


class TokenRows:
    """`spill`: a directory for tokens that the database does not take. All methods but those about it may raise
    StoreUnavailable; none deletes tokens that are not stored elsewhere."""

    def __init__(self, database: Database, sealer: Sealer, spill: Path | None) -> None:
        self._database = database
        self._sealer = sealer
        self._spill = spill

    @whole
    async def marks(self) -> dict[ClientId, Mark]:
        t = crm_connections.c
        async with self._database.reading() as connection:
            found = await connection.execute(select(t.client, t.generation, t.state, t.base_url))
            return {ClientId(row.client): (row.generation, row.state, row.base_url) for row in found}

    @whole
    async def get(self, client: ClientId) -> Connection | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(
                select(crm_connections).where(crm_connections.c.client == client))).mappings().one_or_none()
        return self._connection(dict(row)) if row is not None else None

    @whole
    async def lease(self, seen: Connection, lease: str) -> bool:
        """Whether the lease is ours: nothing has happened since `seen` was read. A refresh is begun with this."""
        t = crm_connections.c
        is_as_seen = and_(_is(seen.client, seen.generation), t.lease == seen.lease, t.sent == seen.sent)
        return await self._changed(is_as_seen, lease=lease, sent=seen.sent + 1)

    @whole
    async def release(self, held: Connection, lease: str, *, unsent: bool) -> None:
        """The refresh is over without new tokens. `unsent`: the CRM has not seen the token, for certain."""
        t = crm_connections.c
        changes = {"sent": t.sent - 1} if unsent else {}
        await self._changed(and_(t.client == held.client, t.lease == lease), lease="", **changes)

    @whole
    async def keep(self, new: Connection) -> bool:
        """In the database when this returns True; False when it has tokens of that generation, or later ones."""
        row = sealed(crm_connections, _row(new), self._sealer)
        insert = (sqlite if self._database.is_sqlite else postgresql).insert(crm_connections).values(**row)
        newer = insert.on_conflict_do_update(
            index_elements=["client"], set_={name: insert.excluded[name] for name in row if name != "client"},
            where=crm_connections.c.generation < insert.excluded.generation)
        async with self._database.writing() as connection:
            return (await connection.execute(newer)).rowcount == 1

    @whole
    async def moved(self, held: Connection, base_url: str) -> bool:
        """The account is at another address now; its tokens are the same."""
        return await self._changed(_is(held.client, held.generation), base_url=base_url)

    @whole
    async def mark(self, one: Connection, state: ConnectionState, since: datetime, problem: str) -> bool:
        """What becomes of tokens of this generation; False when there are newer ones."""
        return await self._changed(_is(one.client, one.generation), state=state.value, since=since,
                                   problem=storable(problem, LONGEST_PROBLEM))

    async def _changed(self, which: ColumnElement[bool], **values: Any) -> bool:
        async with self._database.writing() as connection:
            return (await connection.execute(update(crm_connections).where(which).values(**values))).rowcount == 1

    # -- while the database is away

    async def spill(self, new: Connection) -> bool:
        """On the disk, sealed, when this returns True. Raises OSError, SecretsLocked."""
        return await asyncio.to_thread(self._write, new)

    async def spilled(self, client: ClientId) -> Connection | None:
        """What no database has taken yet, maybe since a process before this one. Raises OSError."""
        return await asyncio.to_thread(self._read, client)

    async def forget_spilled(self, client: ClientId) -> None:
        """They are in the database now, or worth nothing any more. Raises OSError."""
        if self._spill is not None:
            await asyncio.to_thread((self._spill / f"{client}.json").unlink, missing_ok=True)

    def _write(self, new: Connection) -> bool:
        if self._spill is None:
            return False
        row = sealed(crm_connections, _row(new), self._sealer)
        self._spill.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", dir=self._spill)        # 0600 by itself
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(row, file, default=datetime.isoformat)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(self._spill / f"{new.client}.json")
        directory = os.open(self._spill, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return True

    def _read(self, client: ClientId) -> Connection | None:
        file = self._spill / f"{client}.json" if self._spill is not None else None
        if file is None or not file.exists():
            return None
        try:
            row = json.loads(file.read_text("utf-8"))
            row.update({name: instant(row[name]) for name in _INSTANTS})
            found = self._connection(row)
        except (ValueError, KeyError, TypeError) as error:
            _log.error("spilled tokens are not readable", file=str(file), why=str(error),
                       remedy="the account may have to be authorised again; the file stays for a person to look at")
            return None
        return found if found.tokens is not None else None

    def _connection(self, row: Mapping[str, Any]) -> Connection:
        try:
            tokens, problem = _tokens(opened(crm_connections, row, self._sealer)), row["problem"]
        except SecretsLocked as error:
            tokens, problem = None, str(error)
        return Connection(
            ClientId(row["client"]), row["client_id"], row["applied_url"], row["base_url"], row["account"],
            row["api_domain"], tokens, row["since"], row["generation"], row["sent"], ConnectionState(row["state"]),
            problem, row["lease"])


_INSTANTS = ("obtained_at", "access_until", "refresh_until", "since")


def _is(client: ClientId, generation: int) -> ColumnElement[bool]:
    return and_(crm_connections.c.client == client, crm_connections.c.generation == generation)


def _tokens(row: Mapping[str, Any]) -> TokenPair:
    return TokenPair(row["access_token"], row["refresh_token"], row["obtained_at"], row["access_until"],
                     row["refresh_until"])


def _row(one: Connection) -> dict[str, Any]:
    assert one.tokens is not None, "what is stored anew has tokens"
    return {
        "client": one.client, "client_id": one.client_id, "applied_url": one.applied_url, "base_url": one.base_url,
        "account": one.account, "api_domain": one.api_domain,
        **dict(zip(SEALED[crm_connections], (one.tokens.access, one.tokens.refresh), strict=True)),
        "obtained_at": one.tokens.obtained_at, "access_until": one.tokens.access_until,
        "refresh_until": one.tokens.refresh_until, "generation": one.generation, "sent": one.sent,
        "state": one.state.value, "since": one.since, "problem": storable(one.problem, LONGEST_PROBLEM),
        "lease": one.lease,
    }
