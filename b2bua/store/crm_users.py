"""What the clients' CRMs have told of their users, and whose extension is whose by the widget. A change is one of the
directory: it raises the generation, so that a running daemon goes by it within a second."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from b2bua.cdr import ClientId
from b2bua.crm.users import MOST_USERS, CrmUser, KnownUsers, MapSource, UserMap
from b2bua.store.engine import Database, whole
from b2bua.store.rows import storable
from b2bua.store.schema import crm_accounts, crm_user_map, crm_users, directory_generation

_Row = dict[str, Any]


class CrmUserRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def load(self) -> dict[ClientId, KnownUsers]:
        async with self._database.reading() as connection:
            users, pairs = [
                (await connection.execute(select(table).order_by(*table.primary_key))).mappings().all()
                for table in (crm_users, crm_user_map)
            ]
        users_of: defaultdict[str, list[CrmUser]] = defaultdict(list)
        for row in users:
            users_of[row["client"]].append(CrmUser(row["id"], row["name"], row["is_active"], row["email"]))
        map_of: defaultdict[str, dict[int, str]] = defaultdict(dict)
        source_of: dict[str, MapSource] = {}
        for row in pairs:
            map_of[row["client"]][row["user"]] = row["extension"]
            source_of[row["client"]] = MapSource(row["source"])
        return {
            ClientId(client): KnownUsers(
                tuple(users_of[client]), map_of[client], source_of.get(client, MapSource.WIDGET))
            for client in {*users_of, *map_of}
        }

    @whole
    async def save_users(self, client: ClientId, base_url: str, users: Sequence[CrmUser], at: datetime) -> bool:
        """These are all that the account at `base_url` has; whether that is new. Nothing is kept of a client that is
        gone, or has another account by now."""
        rows = {user.id: {"name": storable(user.name), "email": storable(user.email), "is_active": user.is_active}
                for user in users[:MOST_USERS]}
        return await self._save(crm_users, "id", client, base_url, rows, {"seen_at": at})

    @whole
    async def save_map(
        self, client: ClientId, base_url: str, pairs: UserMap, source: MapSource, at: datetime
    ) -> bool:
        """This is all of the map; the rest as of users."""
        return await self._save(crm_user_map, "user", client, base_url, _map_rows(pairs),
                                {"source": source.value, "at": at})

    async def _save(
        self, table: Table, key: str, client: ClientId, base_url: str, rows: Mapping[int, _Row], stamp: _Row
    ) -> bool:
        async with self._database.reading() as connection:
            if await _there(connection, table, key, client) == rows:
                return False
        async with self._database.writing() as connection:
            # First, as `apply` does: whoever changes the directory waits here, and then sees who is still there.
            await connection.execute(
                update(directory_generation).values(generation=directory_generation.c.generation + 1))
            account = select(crm_accounts.c.base_url).where(crm_accounts.c.client == client)
            if (await connection.execute(account)).scalar_one_or_none() != base_url:
                return False
            await _put(connection, table, key, client, rows, stamp)
        return True


async def has_map(connection: AsyncConnection, client: ClientId, pairs: UserMap) -> bool:
    return await _there(connection, crm_user_map, "user", client) == _map_rows(pairs)


async def map_of(connection: AsyncConnection, client: ClientId) -> dict[int, str]:
    return {user: row["extension"] for user, row in (await _there(connection, crm_user_map, "user", client)).items()}


async def put_map(connection: AsyncConnection, client: ClientId, pairs: UserMap, at: datetime) -> None:
    """What somebody has saved in the widget, within the caller's transaction: it is all of the map."""
    stamp = {"source": MapSource.SETTINGS.value, "at": at}
    await _put(connection, crm_user_map, "user", client, _map_rows(pairs), stamp)


async def forget(connection: AsyncConnection, client: ClientId) -> None:
    """Within the caller's transaction: what was told was of another account."""
    for table in (crm_users, crm_user_map):
        await connection.execute(delete(table).where(table.c.client == client))


def _map_rows(pairs: UserMap) -> dict[int, _Row]:
    return {user: {"extension": storable(extension)} for user, extension in list(pairs.items())[:MOST_USERS]}


async def _put(
    connection: AsyncConnection, table: Table, key: str, client: ClientId, rows: Mapping[int, _Row], stamp: _Row
) -> None:
    there = await _there(connection, table, key, client)
    await _remove(connection, table, key, client, [id_ for id_ in there if there[id_] != rows.get(id_)])
    added = [{"client": client, key: id_, **row, **stamp} for id_, row in rows.items() if there.get(id_) != row]
    if added:
        await connection.execute(insert(table), added)


async def _there(connection: AsyncConnection, table: Table, key: str, client: ClientId) -> dict[int, _Row]:
    names = _NAMES[table.name]
    found = await connection.execute(select(table).where(table.c.client == client))
    return {row[key]: {name: row[name] for name in names} for row in found.mappings()}


_NAMES = {"crm_users": ("name", "email", "is_active"), "crm_user_map": ("extension",)}


async def _remove(connection: AsyncConnection, table: Table, key: str, client: ClientId, ids: Iterable[int]) -> None:
    for id_ in ids:
        await connection.execute(delete(table).where(table.c.client == client, table.c[key] == id_))
