"""Who is signed in to the pages, so that they can be listed, and which sessions were ended before their time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, insert, select, update

from b2bua.cdr import ClientId
from b2bua.store.engine import Database, whole
from b2bua.store.rows import storable
from b2bua.store.schema import web_sessions

MOST_LISTED = 100
MOST_ENDED = 10_000
LONGEST_AGENT = 300                    # characters


@dataclass(frozen=True, slots=True)
class SessionRow:
    id: str
    client: ClientId | None            # None: the platform operator's
    opened_at: datetime
    expires_at: datetime
    address: str
    agent: str                         # User-Agent


class WebSessionRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def opened(self, session: SessionRow) -> None:
        """Those that have expired are forgotten meanwhile."""
        async with self._database.writing() as connection:
            await connection.execute(delete(web_sessions).where(web_sessions.c.expires_at < session.opened_at))
            await connection.execute(insert(web_sessions).values(
                id=session.id, client=session.client, opened_at=session.opened_at, expires_at=session.expires_at,
                address=session.address, agent=storable(session.agent, LONGEST_AGENT), ended=False))

    @whole
    async def open_of(self, client: ClientId | None, now: datetime) -> list[SessionRow]:
        """The latest first."""
        query = (select(web_sessions).where(_whose(client), web_sessions.c.ended.is_(False),
                                            web_sessions.c.expires_at > now)
                 .order_by(web_sessions.c.opened_at.desc()).limit(MOST_LISTED))
        async with self._database.reading() as connection:
            return [SessionRow(row["id"], ClientId(row["client"]) if row["client"] is not None else None,
                               row["opened_at"], row["expires_at"], row["address"], row["agent"])
                    for row in (await connection.execute(query)).mappings()]

    @whole
    async def end(self, client: ClientId | None, sessions: Sequence[str]) -> None:
        """Those of them that are this client's."""
        async with self._database.writing() as connection:
            await connection.execute(update(web_sessions).where(_whose(client), web_sessions.c.id.in_(sessions))
                                     .values(ended=True))

    @whole
    async def ended(self, now: datetime) -> list[str]:
        """Their ids, as long as they would be open."""
        query = (select(web_sessions.c.id).where(web_sessions.c.ended.is_(True), web_sessions.c.expires_at > now)
                 .order_by(web_sessions.c.expires_at).limit(MOST_ENDED))
        async with self._database.reading() as connection:
            return [row.id for row in await connection.execute(query)]


def _whose(client: ClientId | None) -> ColumnElement[bool]:
    return web_sessions.c.client.is_(None) if client is None else web_sessions.c.client == client
