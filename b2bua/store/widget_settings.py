"""What a client's administrator saves in the widget, in one transaction: functions, users, and whose widget it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from b2bua.apply.difference import Change, FieldChange, changed
from b2bua.cdr import ClientId
from b2bua.crm.functions import CrmFunctions
from b2bua.crm.users import UserMap
from b2bua.store import crm_users
from b2bua.store.changes import log_rows
from b2bua.store.directory import DirectoryChanged
from b2bua.store.engine import Database, whole
from b2bua.store.schema import changes, crm_accounts, directory_generation

_FUNCTIONS = TypeAdapter(CrmFunctions)


class WidgetSettingsRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def save(self, client: ClientId, base_url: str, account: int,
                   switched: Callable[[CrmFunctions], CrmFunctions], pairs: UserMap, at: datetime,
                   who: str = "") -> bool:
        """Whether that changed anything; a change is one of the directory, and is kept beside `who` has made it.
        `account`: whose widget has sent it.

        Raises DirectoryChanged when the client's CRM is not at `base_url` any more.
        """
        async with self._database.reading() as connection:
            new, _ = await _new(connection, client, base_url, account, switched)
            if not new and await crm_users.has_map(connection, client, pairs):
                return False
        async with self._database.writing() as connection:
            # First, as `apply` does: whoever changes the directory waits here, and then sees what is there.
            await connection.execute(
                update(directory_generation).values(generation=directory_generation.c.generation + 1))
            generation = (await connection.execute(select(directory_generation.c.generation))).scalar_one()
            new, values = await _new(connection, client, base_url, account, switched)
            if new:
                await connection.execute(update(crm_accounts).where(crm_accounts.c.client == client).values(**new))
            before = await crm_users.map_of(connection, client)
            await crm_users.put_map(connection, client, pairs, at)
            if before != pairs:
                values.append(FieldChange("users", _as_json(before), _as_json(pairs)))
            change = Change("~", f"CRM of {client}", tuple(one.name for one in values), client, tuple(values))
            await connection.execute(insert(changes), log_rows([change], who, at, generation))
        return True


def _as_json(pairs: UserMap) -> dict[str, str]:
    return {str(user): extension for user, extension in sorted(pairs.items())}


async def _new(connection: AsyncConnection, client: ClientId, base_url: str, account: int,
               switched: Callable[[CrmFunctions], CrmFunctions]) -> tuple[dict[str, Any], list[FieldChange]]:
    """The columns that change, and what that is to people."""
    t = crm_accounts.c
    found = await connection.execute(select(t.base_url, t.functions, t.account).where(t.client == client))
    row = found.one_or_none()
    if row is None or row.base_url != base_url:
        raise DirectoryChanged
    before = _FUNCTIONS.validate_json(row.functions)
    after = switched(before)
    new: dict[str, Any] = {} if after == before else {"functions": _FUNCTIONS.dump_json(after).decode()}
    told = list(changed(before, after))
    if row.account == account:
        return new, told
    return {**new, "account": account}, [*told, FieldChange("account", row.account, account)]
