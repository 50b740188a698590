"""Which columns hold secrets of others', and how all of them are sealed with the first key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, and_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from b2bua.sealing import Sealer, SecretsLocked, is_sealed
from b2bua.store.engine import Database, whole
from b2bua.store.schema import crm_accounts, crm_connections

SEALED: Mapping[Table, tuple[str, ...]] = {
    crm_accounts: ("token", "client_secret"),
    crm_connections: ("access_token", "refresh_token"),
}                                      # each of these tables has one row a client


def sealed(table: Table, row: Mapping[str, Any], sealer: Sealer) -> dict[str, Any]:
    """The row as it may be stored. Raises SecretsLocked."""
    places = {name: _place(table, row["client"], name) for name in SEALED.get(table, ())}
    return {**row, **{name: sealer.seal(row[name], place) for name, place in places.items()}}


def opened(table: Table, row: Mapping[str, Any], sealer: Sealer) -> dict[str, Any]:
    """The row as it was before it was sealed, or never was. Raises SecretsLocked."""
    places = {name: _place(table, row["client"], name) for name in SEALED.get(table, ())}
    return {**row, **{name: sealer.open(row[name], place) for name, place in places.items()}}


def _place(table: Table, client: str, column: str) -> str:
    return f"{table.name}/{client}/{column}"


@dataclass(frozen=True, slots=True)
class Resealed:
    sealed: int                        # secrets that were sealed with the first key now
    locked: tuple[str, ...]            # why others stay as they are, each in one sentence


class SecretRows:
    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    @whole
    async def reseal(self, *, only_plain: bool = False) -> Resealed:
        """Seals everything with the first key, or only what an older version left plain. What cannot be opened stays
        as it is. Raises StoreUnavailable, and SecretsLocked when there is no key."""
        count, locked = 0, []
        async with self._database.writing() as connection:
            for table, columns in SEALED.items():
                for row in (await connection.execute(select(table))).mappings():
                    for column in columns:
                        if self._sealer.is_current(row[column]) or (only_plain and is_sealed(row[column])):
                            continue
                        try:
                            count += await self._renew(connection, table, dict(row), column)
                        except SecretsLocked as error:
                            locked.append(str(error))
        return Resealed(count, tuple(locked))

    async def _renew(self, connection: AsyncConnection, table: Table, row: dict[str, Any], column: str) -> int:
        place = _place(table, row["client"], column)
        renewed = self._sealer.seal(self._sealer.open(row[column], place), place)
        is_the_one = and_(table.c.client == row["client"], table.c[column] == row[column])   # nobody changed it since
        return (await connection.execute(update(table).where(is_the_one).values({column: renewed}))).rowcount
