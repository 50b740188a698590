"""Registrations across restarts: a phone that registered for an hour is reachable in the first second."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select

from b2bua.cdr import ClientId
from b2bua.store.engine import Database, whole
from b2bua.store.rows import LONGEST_WHY, storable
from b2bua.store.schema import bindings


@dataclass(frozen=True, slots=True)
class SavedBinding:
    """`payload` is the registrar's own text; only it reads that."""

    client: ClientId
    extension: str
    key: str
    expires_at: datetime
    payload: str


class BindingRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def save(self, saved: Iterable[SavedBinding]) -> None:
        """These, and no others."""
        rows = {(one.client, one.extension, storable(one.key)): one for one in saved}
        async with self._database.writing() as connection:
            await connection.execute(delete(bindings))
            if rows:
                await connection.execute(insert(bindings), [
                    {"client": client, "extension": extension, "key": key, "expires_at": one.expires_at,
                     "payload": storable(one.payload, LONGEST_WHY)}
                    for (client, extension, key), one in rows.items()
                ])

    @whole
    async def load(self, now: datetime) -> list[SavedBinding]:
        """What has not expired meanwhile."""
        async with self._database.reading() as connection:
            found = await connection.execute(select(bindings).where(bindings.c.expires_at > now))
            return [SavedBinding(row.client, row.extension, row.key, row.expires_at, row.payload) for row in found]
