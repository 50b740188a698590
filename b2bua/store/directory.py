"""Clients, trunks, numbers, extensions and groups in the database; the whole of them is one snapshot with a number."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Table, and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from b2bua.cdr import ClientId
from b2bua.directory import (
    Client,
    CrmAccount,
    Directory,
    Extension,
    Group,
    Hours,
    Number,
    PrefixLimit,
    Strategy,
    Trunk,
)
from b2bua.numbers import NumberFormat
from b2bua.store.engine import Database, StoreUnavailable, whole
from b2bua.store.schema import (
    clients,
    crm_accounts,
    directory_generation,
    extensions,
    groups,
    numbers,
    trunks,
)
from b2bua.trunk_profiles import CallerSource, FromShows, Identity

WATCH_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class DirectoryChanged(Exception):
    """Somebody else changed the directory meanwhile: read it again and decide again."""

    def __init__(self) -> None:
        super().__init__("somebody else changed the directory meanwhile")


class DirectoryStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def generation(self) -> int:
        """Grows with every change."""
        async with self._database.reading() as connection:
            return await _generation(connection)

    async def changes(self, since: int) -> AsyncIterator[int]:
        """Each generation after `since`, soon after it was written; goes on when the database was away."""
        seen = since
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                generation = await self.generation()
            except StoreUnavailable as error:
                _log.debug("directory not watched", error=str(error))
                continue
            if generation != seen:
                seen = generation
                yield generation

    @whole
    async def load(self) -> tuple[Directory, int]:
        """The directory and its generation, of one moment."""
        async with self._database.reading() as connection:
            generation = await _generation(connection)
            rows = {table.name: await _rows(connection, table) for table in _TABLES}
        accounts = {row.pop("client"): row for row in rows["crm_accounts"]}
        return Directory(
            clients=tuple(_client(row, accounts.get(row["id"])) for row in rows["clients"]),
            extensions=tuple(_extension(row) for row in rows["extensions"]),
            trunks=tuple(_trunk(row) for row in rows["trunks"]),
            groups=tuple(_group(row) for row in rows["groups"]),
            numbers=tuple(_number(row) for row in rows["numbers"]),
        ), generation

    @whole
    async def replace(self, old: Directory, new: Directory, generation: int) -> int:
        """Makes `old`, which was read at `generation`, into `new`; returns the new generation.

        Raises DirectoryChanged when the database is past that generation.
        """
        async with self._database.writing() as connection:
            counted = await connection.execute(
                update(directory_generation).where(directory_generation.c.generation == generation)
                .values(generation=generation + 1))
            if counted.rowcount != 1:
                raise DirectoryChanged
            before, after = _rows_of(old), _rows_of(new)
            # Who refers to others goes first and comes last.
            for table in reversed(_TABLES):
                stale = [key for key, row in before[table].items() if after[table].get(key) != row]
                await _remove(connection, table, [key for key in stale if table in _LEAVES or key not in after[table]])
            for table in _TABLES:
                await _write(connection, table, before[table], after[table])
        return generation + 1


Key = tuple[Any, ...]

_TABLES = (clients, crm_accounts, trunks, extensions, groups, numbers)

# Nobody refers to these, so a changed row may go and come again: a login can move from one extension to another though
# it is UNIQUE, and a number to another trunk while its old one goes.
_LEAVES = (crm_accounts, extensions, groups, numbers)


async def _generation(connection: AsyncConnection) -> int:
    return int((await connection.execute(select(directory_generation.c.generation))).scalar_one())


async def _rows(connection: AsyncConnection, table: Table) -> list[dict[str, Any]]:
    found = await connection.execute(select(table).order_by(*table.primary_key))
    return [dict(row) for row in found.mappings()]


async def _remove(connection: AsyncConnection, table: Table, keys: Iterable[Key]) -> None:
    for key in keys:
        await connection.execute(delete(table).where(_is(table, key)))


async def _write(connection: AsyncConnection, table: Table, before: Mapping[Key, dict[str, Any]],
                 after: Mapping[Key, dict[str, Any]]) -> None:
    added = []
    for key, row in after.items():
        if key in before and table not in _LEAVES:
            if row != before[key]:
                await connection.execute(update(table).where(_is(table, key)).values(**row))
        elif before.get(key) != row:
            added.append(row)
    if added:
        await connection.execute(insert(table), added)


def _is(table: Table, key: Key) -> ColumnElement[bool]:
    return and_(*[column == value for column, value in zip(table.primary_key.columns, key, strict=True)])


def _rows_of(directory: Directory) -> dict[Table, dict[Key, dict[str, Any]]]:
    rows: dict[Table, list[dict[str, Any]]] = {
        clients: [{"id": client.id, "name": client.name, "max_calls": client.max_calls, "record": client.record,
                   "country": client.country, "caller_id": client.caller_id,
                   "forward_outside": client.forward_outside, "outgoing_per_hour": client.outgoing_per_hour,
                   "limits": json.dumps([_fields(limit) for limit in client.limits])} for client in directory.clients],
        crm_accounts: [{"client": client.id, **_fields(client.crm)} for client in directory.clients if client.crm],
        trunks: [_trunk_row(trunk) for trunk in directory.trunks],
        extensions: [{**_fields(extension), "ha1": json.dumps(dict(extension.ha1))}
                     for extension in directory.extensions],
        groups: [{**_fields(group), "members": json.dumps(group.members), "strategy": group.strategy.value}
                 for group in directory.groups],
        numbers: [{**_fields(number), "hours": json.dumps(_fields(number.hours)) if number.hours else None}
                  for number in directory.numbers],
    }
    return {table: {tuple(row[column.name] for column in table.primary_key.columns): row for row in found}
            for table, found in rows.items()}


def _fields(value: CrmAccount | Trunk | Extension | Group | Number | Hours | PrefixLimit) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value).__dataclass_fields__}


def _client(row: dict[str, Any], account: dict[str, Any] | None) -> Client:
    limits = tuple(PrefixLimit(**limit) for limit in json.loads(row["limits"]))
    return Client(**{**row, "limits": limits}, crm=CrmAccount(**account) if account is not None else None)


def _extension(row: dict[str, Any]) -> Extension:
    return Extension(**{**row, "client": ClientId(row["client"]), "ha1": json.loads(row["ha1"])})


def _group(row: dict[str, Any]) -> Group:
    return Group(**{**row, "members": tuple(json.loads(row["members"])), "strategy": Strategy(row["strategy"])})


def _number(row: dict[str, Any]) -> Number:
    hours = json.loads(row["hours"]) if row["hours"] is not None else None
    if hours is not None:
        hours = Hours(**{**hours, "open": tuple(hours["open"]), "holidays": tuple(hours["holidays"])})
    return Number(**{**row, "hours": hours})


def _trunk(row: dict[str, Any]) -> Trunk:
    return Trunk(**{
        **row,
        "networks": tuple(ipaddress.ip_network(network) for network in json.loads(row["networks"])),
        "prefixes": tuple(json.loads(row["prefixes"])),
        **{name: kind(row[name]) for name, kind in _RULES.items() if row[name] is not None},
        "trusts": tuple(map(CallerSource, json.loads(row["trusts"]))) if row["trusts"] is not None else None,
    })


def _trunk_row(trunk: Trunk) -> dict[str, Any]:
    return {
        **_fields(trunk),
        "networks": json.dumps([str(network) for network in trunk.networks]),
        "prefixes": json.dumps(trunk.prefixes),
        **{name: rule.value for name in _RULES if (rule := getattr(trunk, name)) is not None},
        "trusts": json.dumps([source.value for source in trunk.trusts]) if trunk.trusts is not None else None,
    }


_RULES: Mapping[str, type[NumberFormat | Identity | FromShows]] = {
    "number_format": NumberFormat, "caller_format": NumberFormat, "identity": Identity, "from_shows": FromShows,
}
