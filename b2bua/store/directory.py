"""Clients, trunks, numbers, extensions and groups in the database; the whole of them is one snapshot with a number."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Table, and_, bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from b2bua.apply.difference import difference
from b2bua.cdr import ClientId
from b2bua.crm.functions import CrmFunctions
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
    UsersFrom,
)
from b2bua.numbers import NumberFormat
from b2bua.sealing import Sealer, SecretsLocked
from b2bua.store import crm_users
from b2bua.store.changes import log_rows
from b2bua.store.engine import Database, StoreUnavailable, whole
from b2bua.store.schema import (
    changes,
    clients,
    crm_accounts,
    directory_generation,
    extensions,
    groups,
    numbers,
    trunks,
)
from b2bua.store.secrets import SEALED, opened, sealed
from b2bua.trunk_profiles import CallerSource, FromShows, Identity

WATCH_SECONDS = 1.0
AT_ONCE = 100                          # rows that SQLAlchemy takes at a time: each of them costs the loop some 10 µs

_log = structlog.get_logger(__name__)


class DirectoryChanged(Exception):
    """Somebody else changed the directory meanwhile: read it again and decide again."""

    def __init__(self) -> None:
        super().__init__("somebody else changed the directory meanwhile")


@dataclass(frozen=True, slots=True)
class Taken:
    login: bool
    phones: frozenset[str]


class DirectoryStore:
    def __init__(self, database: Database, sealer: Sealer | None = None) -> None:
        """Who gives no `sealer` wants no secrets: they are empty."""
        self._database = database
        self._sealer = sealer or Sealer(())
        self._wants_secrets = sealer is not None

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
    async def load(self, of: ClientId | None = None) -> tuple[Directory, int]:
        """The directory, or what of it is one client's, and its generation, of one moment. Secrets that are locked are
        told, and empty."""
        async with self._database.reading() as connection:
            generation = await _generation(connection)
            rows = {table.name: await _rows(connection, table, of) for table in _TABLES}
        return await asyncio.to_thread(self._directory, rows), generation

    @whole
    async def exists(self, client: ClientId) -> bool:
        async with self._database.reading() as connection:
            return (await connection.execute(select(clients.c.id).where(clients.c.id == client))).first() is not None

    @whole
    async def taken(self, client: ClientId, login: str, phones: Collection[str]) -> Taken:
        """What of these another client has already: the login of its administrator, logins of its phones."""
        async with self._database.reading() as connection:
            own = await connection.execute(select(clients.c.id).where(clients.c.login == login, clients.c.id != client))
            found = await connection.execute(
                select(extensions.c.login).where(extensions.c.login.in_(phones), extensions.c.client != client))
            return Taken(own.first() is not None, frozenset(row.login for row in found))

    def _directory(self, rows: Mapping[str, list[dict[str, Any]]]) -> Directory:
        accounts = {row["client"]: self._opened(row) for row in rows["crm_accounts"]}
        return Directory(
            clients=tuple(_client(row, accounts.get(row["id"])) for row in rows["clients"]),
            extensions=tuple(_extension(row) for row in rows["extensions"]),
            trunks=tuple(_trunk(row) for row in rows["trunks"]),
            groups=tuple(_group(row) for row in rows["groups"]),
            numbers=tuple(_number(row) for row in rows["numbers"]),
        )

    @whole
    async def replace(self, old: Directory, new: Directory, generation: int, who: str = "") -> int:
        """Makes `old`, which was read at `generation` and may be one client's part, into `new`, and keeps what that
        has changed beside who has done it; returns the new generation.

        Raises DirectoryChanged when the database is past that generation, SecretsLocked when there is no key.
        """
        log = await asyncio.to_thread(_log_rows, old, new, who, generation + 1)
        before, after = await asyncio.to_thread(_rows_of, old), await asyncio.to_thread(_rows_of, new)
        async with self._database.writing() as connection:
            counted = await connection.execute(
                update(directory_generation).where(directory_generation.c.generation == generation)
                .values(generation=generation + 1))
            if counted.rowcount != 1:
                raise DirectoryChanged
            # Who refers to others goes first and comes last.
            for table in reversed(_TABLES):
                stale = [key for key, row in before[table].items() if after[table].get(key) != row]
                await _remove(connection, table, [key for key in stale if table in _LEAVES or key not in after[table]])
            for table in _TABLES:
                await self._write(connection, table, before[table], after[table])
            for client in _of_other_accounts(old, new):
                await crm_users.forget(connection, client)
            for some in _in_parts(log):
                await connection.execute(insert(changes), some)
        return generation + 1

    async def _write(self, connection: AsyncConnection, table: Table, before: Mapping[Key, dict[str, Any]],
                     after: Mapping[Key, dict[str, Any]]) -> None:
        added = []
        for key, row in after.items():
            if key in before and table not in _LEAVES:
                if row != before[key]:
                    await connection.execute(update(table).where(_is(table, key)).values(**row))
            elif before.get(key) != row:
                added.append(row)
        for some in _in_parts(added):
            await connection.execute(insert(table), [sealed(table, row, self._sealer) for row in some])

    def _opened(self, account: dict[str, Any]) -> dict[str, Any]:
        try:
            return opened(crm_accounts, account, self._sealer)
        except SecretsLocked as error:
            if self._wants_secrets:
                _log.error("CRM secrets locked", why=str(error), remedy="calls go on without this CRM meanwhile")
            return {**account, **dict.fromkeys(SEALED[crm_accounts], "")}


def _log_rows(old: Directory, new: Directory, who: str, generation: int) -> list[dict[str, Any]]:
    return log_rows(difference(old, new), who, datetime.now(UTC), generation)


def _of_other_accounts(old: Directory, new: Directory) -> Iterable[ClientId]:
    """Whose CRM is another one, or none, from now on."""
    for client in old.clients:
        now = new.client.get(client.id)
        if now is not None and client.crm is not None and (now.crm is None or now.crm.base_url != client.crm.base_url):
            yield client.id


Key = tuple[Any, ...]
T = TypeVar("T")

_TABLES = (clients, crm_accounts, trunks, extensions, groups, numbers)

# Nobody refers to these, so a changed row may go and come again: a login can move from one extension to another though
# it is UNIQUE, and a number to another trunk while its old one goes.
_LEAVES = (crm_accounts, extensions, groups, numbers)


def _in_parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    return (rows[start:start + AT_ONCE] for start in range(0, len(rows), AT_ONCE))


async def _generation(connection: AsyncConnection) -> int:
    return int((await connection.execute(select(directory_generation.c.generation))).scalar_one())


async def _rows(connection: AsyncConnection, table: Table, of: ClientId | None) -> list[dict[str, Any]]:
    query = select(table).order_by(*table.primary_key)
    if of is not None:
        query = query.where(table.c["id" if table is clients else "client"] == of)
    found = await connection.stream(query)
    return [dict(row) async for part in found.mappings().partitions(AT_ONCE) for row in part]


async def _remove(connection: AsyncConnection, table: Table, keys: Sequence[Key]) -> None:
    columns = table.primary_key.columns
    statement = delete(table).where(*[column == bindparam(f"key_{column.name}") for column in columns])
    rows = [{f"key_{column.name}": value for column, value in zip(columns, key, strict=True)} for key in keys]
    for some in _in_parts(rows):
        await connection.execute(statement, some)


def _is(table: Table, key: Key) -> ColumnElement[bool]:
    return and_(*[column == value for column, value in zip(table.primary_key.columns, key, strict=True)])


def _rows_of(directory: Directory) -> dict[Table, dict[Key, dict[str, Any]]]:
    rows: dict[Table, list[dict[str, Any]]] = {
        clients: [{"id": client.id, "name": client.name, "max_calls": client.max_calls, "record": client.record,
                   "country": client.country, "caller_id": client.caller_id,
                   "forward_outside": client.forward_outside, "outgoing_per_hour": client.outgoing_per_hour,
                   "limits": json.dumps([_fields(limit) for limit in client.limits]),
                   "music_on_hold": client.music_on_hold, "pickup_code": client.pickup_code,
                   "group_pickup_code": client.group_pickup_code, "show_callers": client.show_callers,
                   "click2call_answer_after": client.click2call_answer_after,
                   "login": client.login, "password_hash": client.password_hash}
                  for client in directory.clients],
        crm_accounts: [_account_row(client.id, client.crm) for client in directory.clients if client.crm],
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
    crm = None
    if account is not None:
        known = {name: value for name, value in account.items() if name != "client"}
        crm = CrmAccount(**{**known, "functions": _FUNCTIONS.validate_json(account["functions"]),
                            "users_from": UsersFrom(account["users_from"])})
    return Client(**{**row, "limits": limits}, crm=crm)


_FUNCTIONS = TypeAdapter(CrmFunctions)


def _account_row(client: ClientId, account: CrmAccount) -> dict[str, Any]:
    row = {"client": client, **_fields(account), "functions": _FUNCTIONS.dump_json(account.functions).decode(),
           "users_from": account.users_from.value}
    del row["active_users"]                # the CRM's word, in a table of its own
    return row


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
