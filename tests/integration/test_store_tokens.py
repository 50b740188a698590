"""Tokens of CRM accounts in both databases: sealed, spent by one at a time, and replaced by later ones alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from b2bua.cdr import ClientId
from b2bua.crm.amocrm.kept import Rows
from b2bua.directory import Client, CrmAccount, Directory
from b2bua.sealing import Sealer, SecretsLocked, is_sealed
from b2bua.store.engine import open_database
from b2bua.store.secrets import Resealed
from b2bua.store.store import open_store
from b2bua.store.tokens import Connection, ConnectionState, TokenPair, TokenRows
from tests.support.memory_tokens import MemoryTokens, TokenDatabase
from tests.support.records import NOON

ACME = ClientId("acme")
OLD, NEW = "an old key, which is random and long", "a new key, which is random and long"
PAIR = TokenPair("access-1", "refresh-1" + "x" * 2000, NOON, NOON + timedelta(days=1), NOON + timedelta(days=90))
FIRST = Connection(ACME, "integration", "https://acme.amocrm.ru", "https://acme.amocrm.ru", 101, "api-a.amocrm.ru",
                   PAIR, NOON)
SECOND = replace(FIRST, tokens=replace(PAIR, access="access-2", refresh="refresh-2"), generation=2)
LATER = NOON + timedelta(hours=1)


async def stored_secrets(url: str) -> list[str]:
    async with open_database(url) as database, database.reading() as connection:
        rows = [*await connection.execute(text("SELECT token, client_secret FROM crm_accounts")),
                *await connection.execute(text("SELECT access_token, refresh_token FROM crm_connections"))]
    return [value for row in rows for value in row if value]


@asynccontextmanager
async def several(url: str) -> AsyncIterator[tuple[Rows, Rows]]:
    """What two processes have of one database."""
    if url == "memory":
        database = TokenDatabase()
        yield MemoryTokens(database), MemoryTokens(database)
        return
    async with (open_store(url, sealer=Sealer([NEW])) as one, open_store(url, sealer=Sealer([NEW])) as other):
        yield one.tokens, other.tokens


@pytest.fixture(params=["memory", "database"])
def rows(request: pytest.FixtureRequest, database_url: str) -> AbstractAsyncContextManager[tuple[Rows, Rows]]:
    """The double of other tests keeps to the same rules as both databases."""
    return several("memory" if request.param == "memory" else database_url)


async def test_tokens_are_sealed_at_rest(database_url: str) -> None:
    async with open_store(database_url, sealer=Sealer([NEW])) as store:
        assert await store.tokens.keep(FIRST)
        assert await store.tokens.marks() == {ACME: (1, "connected", "https://acme.amocrm.ru")}
    assert all(map(is_sealed, await stored_secrets(database_url)))


async def test_tokens_read_back_as_they_were(rows: tuple[Rows, Rows]) -> None:
    one, other = rows
    assert await one.get(ACME) is None
    assert await one.keep(FIRST)
    assert await other.get(ACME) == FIRST


async def test_only_later_tokens_replace_those_that_are_there(rows: tuple[Rows, Rows]) -> None:
    one, other = rows
    assert await one.keep(SECOND)
    for older in (FIRST, replace(SECOND, base_url="https://other.amocrm.ru")):
        assert not await other.keep(older)
    assert await one.get(ACME) == SECOND
    assert await other.keep(replace(FIRST, generation=3))
    assert await one.get(ACME) == replace(FIRST, generation=3)


async def test_of_many_processes_one_has_the_lease_until_it_gives_it_back(rows: tuple[Rows, Rows]) -> None:
    one, other = rows
    await one.keep(FIRST)
    got = await asyncio.gather(*(each.lease(FIRST, f"lease-{n}") for n in range(10) for each in rows))
    assert sum(got) == 1
    held = await one.get(ACME)
    assert held is not None
    assert held.sent == 1
    assert not await other.lease(FIRST, "late")
    await one.release(held, "somebody else's", unsent=True)
    assert await one.get(ACME) == held
    await one.release(held, held.lease, unsent=True)
    assert await one.get(ACME) == FIRST


async def test_a_lease_whose_holder_died_can_be_taken_by_who_has_seen_it(rows: tuple[Rows, Rows]) -> None:
    dead, alive = rows
    await dead.keep(FIRST)
    assert await dead.lease(FIRST, "dead")
    left = await alive.get(ACME)
    assert left is not None
    assert await alive.lease(left, "alive")
    mine = await alive.get(ACME)
    assert mine is not None
    assert (mine.lease, mine.sent) == ("alive", 2)
    await alive.release(mine, "alive", unsent=False)
    assert await alive.get(ACME) == replace(FIRST, sent=2)
    assert await alive.keep(SECOND)
    assert not await dead.lease(left, "of old tokens")


async def test_what_is_said_of_old_tokens_does_not_touch_new_ones(rows: tuple[Rows, Rows]) -> None:
    one, other = rows
    await one.keep(FIRST)
    assert await one.mark(FIRST, ConnectionState.REFUSED, LATER, "revoked")
    refused = await other.get(ACME)
    assert refused == replace(FIRST, state=ConnectionState.REFUSED, since=LATER, problem="revoked")
    assert await one.moved(FIRST, "https://acme2.amocrm.ru")
    await other.keep(SECOND)
    assert not await one.mark(FIRST, ConnectionState.REFUSED, LATER, "late")
    assert not await one.moved(FIRST, "https://late.amocrm.ru")
    assert await one.get(ACME) == SECOND


async def test_what_the_crm_says_is_stored_whatever_it_says(database_url: str) -> None:
    async with open_store(database_url, sealer=Sealer([NEW])) as store:
        await store.tokens.keep(FIRST)
        await store.tokens.mark(FIRST, ConnectionState.REFUSED, LATER, "revoked\0\udcff" + "x" * 1000)
        refused = await store.tokens.get(ACME)
        assert refused is not None
        assert len(refused.problem) == 500


async def test_tokens_outlive_the_removal_of_their_client_from_the_settings(database_url: str) -> None:
    with_client = Directory((Client(ACME, "Acme", CrmAccount("https://acme.amocrm.ru", client_id="integration")),))
    async with open_store(database_url, sealer=Sealer([NEW])) as store:
        generation = await store.directory.replace(Directory(), with_client, 0)
        await store.tokens.keep(FIRST)
        await store.directory.replace(with_client, Directory(), generation)
        assert await store.tokens.get(ACME) == FIRST


async def test_another_key_is_taken_in_use_without_losing_anything(database_url: str) -> None:
    account = CrmAccount("https://acme.amocrm.ru", "long-lived", client_secret="secret")
    directory = Directory((Client(ACME, "Acme", account),))
    async with open_store(database_url, sealer=Sealer([OLD])) as store:
        await store.directory.replace(Directory(), directory, 0)
        await store.tokens.keep(FIRST)
    before = await stored_secrets(database_url)
    async with open_store(database_url, sealer=Sealer([NEW, OLD])) as store:
        assert (await store.secrets.reseal(only_plain=True)).sealed == 0
        assert await store.secrets.reseal() == Resealed(4, ())
        assert await store.secrets.reseal() == Resealed(0, ())
    assert not set(before) & set(await stored_secrets(database_url))
    async with open_store(database_url, sealer=Sealer([NEW])) as store:
        assert (await store.directory.load())[0] == directory
        assert await store.tokens.get(ACME) == FIRST



async def test_with_the_key_lost_everything_else_is_read_and_what_is_sealed_stays(database_url: str) -> None:
    account = CrmAccount("https://acme.amocrm.ru", "long-lived", default_user=5)
    directory = Directory((Client(ACME, "Acme", account),))
    async with open_store(database_url, sealer=Sealer([OLD])) as store:
        await store.directory.replace(Directory(), directory, 0)
        await store.tokens.keep(FIRST)
    before = await stored_secrets(database_url)
    async with open_store(database_url, sealer=Sealer([NEW])) as store:
        loaded, generation = await store.directory.load()
        assert loaded.clients[0].crm == replace(account, token="")
        locked = await store.tokens.get(ACME)
        assert locked is not None
        assert locked.tokens is None
        assert "add the old key" in locked.problem
        assert len((await store.secrets.reseal()).locked) == 3
        assert await stored_secrets(database_url) == before
        await store.directory.replace(loaded, directory, generation)       # the file is applied once more
        assert await store.tokens.keep(SECOND)                             # the account is authorised once more
        assert (await store.directory.load())[0] == directory
        assert await store.tokens.get(ACME) == SECOND


async def test_what_an_older_version_left_plain_is_read_and_sealed(database_url: str) -> None:
    account = CrmAccount("https://acme.amocrm.ru", "long-lived")
    directory = Directory((Client(ACME, "Acme", account),))
    async with open_store(database_url, sealer=Sealer([NEW])) as store:
        await store.directory.replace(Directory(), directory, 0)
        async with open_database(database_url) as database, database.writing() as connection:
            await connection.execute(text("UPDATE crm_accounts SET token = 'long-lived'"))
        assert (await store.directory.load())[0] == directory
        assert (await store.secrets.reseal(only_plain=True)).sealed == 1
        assert (await store.directory.load())[0] == directory
    assert all(map(is_sealed, await stored_secrets(database_url)))


async def test_without_a_key_no_secret_is_written(database_url: str) -> None:
    async with open_store(database_url) as store:
        with pytest.raises(SecretsLocked):
            await store.directory.replace(
                Directory(), Directory((Client(ACME, "Acme", CrmAccount("https://acme.amocrm.ru", "token")),)), 0)
        with pytest.raises(SecretsLocked):
            await store.tokens.keep(FIRST)
        assert (await store.directory.load())[0] == Directory()
    assert await stored_secrets(database_url) == []


async def test_spilled_tokens_are_sealed_for_their_owner_and_come_back(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"
    async with open_database(url) as database:
        rows = TokenRows(database, Sealer([NEW]), tmp_path / "spill.tokens")
        assert await rows.spilled(ACME) is None
        assert await rows.spill(FIRST)
        assert await rows.spill(SECOND)
        assert await rows.spilled(ACME) == SECOND
        (file,) = (tmp_path / "spill.tokens").iterdir()
        assert file.stat().st_mode & 0o077 == 0
        assert "refresh-2" not in file.read_text()
        assert await TokenRows(database, Sealer([OLD]), tmp_path / "spill.tokens").spilled(ACME) is None
        file.write_text(file.read_text()[:50])
        assert await rows.spilled(ACME) is None
        assert file.exists()
        await rows.forget_spilled(ACME)
        await rows.forget_spilled(ACME)
        assert not file.exists()
        assert not await TokenRows(database, Sealer([NEW]), None).spill(FIRST)
