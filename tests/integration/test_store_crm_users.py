"""What the CRM told of its users, in both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import select

from b2bua.cdr import ClientId
from b2bua.crm.users import MOST_USERS, CrmUser, KnownUsers, MapSource
from b2bua.directory import Client, CrmAccount, Directory, UsersFrom
from b2bua.sealing import Sealer
from b2bua.store.engine import open_database
from b2bua.store.schema import crm_users
from b2bua.store.store import open_store
from tests.support.records import NOON

ACME, OTHER = ClientId("acme"), ClientId("other")
SEALER = Sealer(["a key of the tests, which is long enough"])
URL = "https://acme.amocrm.ru"
ACCOUNT = CrmAccount(URL, "token", widget="smartswitch", users_from=UsersFrom.WIDGET)
DIRECTORY = Directory((Client(ACME, "Acme", ACCOUNT), Client(OTHER, "Other", ACCOUNT)))
ANNA, VERA = CrmUser(77, "Анна", True, "anna@example.org"), CrmUser(79, "Вера", False)
LATER = NOON + timedelta(hours=1)


async def test_what_was_told_is_read_back_for_each_client(database_url: str) -> None:
    async with open_store(database_url, sealer=SEALER) as store:
        await store.directory.replace(Directory(), DIRECTORY, 0)
        assert await store.crm_users.load() == {}
        assert await store.crm_users.save_users(ACME, URL, (VERA, ANNA), NOON)
        assert await store.crm_users.save_map(ACME, URL, {79: "103", 77: "101"}, MapSource.WIDGET, NOON)
        assert await store.crm_users.save_map(OTHER, URL, {77: "200"}, MapSource.SETTINGS, NOON)
        assert await store.crm_users.load() == {
            ACME: KnownUsers((ANNA, VERA), {77: "101", 79: "103"}),
            OTHER: KnownUsers((), {77: "200"}, MapSource.SETTINGS)}


async def test_only_what_is_new_raises_the_generation(database_url: str) -> None:
    async with open_store(database_url, sealer=SEALER) as store:
        generation = await store.directory.replace(Directory(), DIRECTORY, 0)
        for is_new in (True, False):
            assert await store.crm_users.save_users(ACME, URL, (ANNA, VERA), NOON) is is_new
            assert await store.crm_users.save_map(ACME, URL, {77: "101"}, MapSource.WIDGET, NOON) is is_new
            assert await store.directory.generation() == generation + 2
        assert not await store.crm_users.save_map(ACME, URL, {77: "101"}, MapSource.SETTINGS, LATER)
        assert await store.crm_users.save_map(ACME, URL, {}, MapSource.SETTINGS, LATER)
        assert await store.crm_users.save_users(ACME, URL, (ANNA,), LATER)
        assert await store.crm_users.load() == {ACME: KnownUsers((ANNA,))}


async def test_since_when_it_is_known_so_stays_for_who_has_not_changed(database_url: str) -> None:
    async with open_store(database_url, sealer=SEALER) as store:
        await store.directory.replace(Directory(), DIRECTORY, 0)
        await store.crm_users.save_users(ACME, URL, (ANNA, VERA), NOON)
        await store.crm_users.save_users(ACME, URL, (ANNA, replace(VERA, is_active=True)), LATER)
    async with open_database(database_url) as database, database.reading() as connection:
        rows = await connection.execute(select(crm_users.c.id, crm_users.c.seen_at))
        seen = {row.id: row.seen_at for row in rows}
    assert seen == {77: NOON, 79: LATER}


async def test_of_a_client_that_is_gone_nothing_is_kept(database_url: str) -> None:
    async with open_store(database_url, sealer=SEALER) as store:
        await store.directory.replace(Directory(), DIRECTORY, 0)
        await store.crm_users.save_users(ACME, URL, (ANNA,), NOON)
        await store.crm_users.save_map(ACME, URL, {77: "101"}, MapSource.WIDGET, NOON)
        only_other = Directory(DIRECTORY.clients[1:])
        await store.directory.replace(DIRECTORY, only_other, await store.directory.generation())
        assert await store.crm_users.load() == {}
        assert not await store.crm_users.save_users(ACME, URL, (ANNA,), NOON)
        assert await store.crm_users.load() == {}


async def test_another_account_has_other_users_and_other_settings_the_same(database_url: str) -> None:
    async def applied(account: CrmAccount | None) -> bool:
        old, generation = await store.directory.load()
        first, *others = old.clients
        await store.directory.replace(old, replace(old, clients=(replace(first, crm=account), *others)), generation)
        return ACME in await store.crm_users.load()

    async with open_store(database_url, sealer=SEALER) as store:
        await store.directory.replace(Directory(), DIRECTORY, 0)
        for account, is_kept in ((replace(ACCOUNT, patience=1.0, widget=""), True),
                                 (replace(ACCOUNT, base_url="https://other.amocrm.ru"), False), (None, False)):
            await store.crm_users.save_users(ACME, URL, (ANNA,), NOON)
            await store.crm_users.save_map(ACME, URL, {77: "101"}, MapSource.WIDGET, NOON)
            await store.crm_users.save_users(OTHER, URL, (ANNA,), NOON)
            assert await applied(account) is is_kept
            assert OTHER in await store.crm_users.load()


async def test_what_the_account_before_tells_late_is_not_kept(database_url: str) -> None:
    async with open_store(database_url, sealer=SEALER) as store:
        await store.directory.replace(Directory(), DIRECTORY, 0)
        assert not await store.crm_users.save_users(ACME, "https://before.amocrm.ru", (ANNA,), NOON)
        assert not await store.crm_users.save_map(ACME, "https://before.amocrm.ru", {77: "1"}, MapSource.WIDGET, NOON)
        assert await store.crm_users.load() == {}


async def test_a_directory_with_a_widget_reads_back(database_url: str) -> None:
    async with open_store(database_url, sealer=SEALER) as store:
        told = replace(ACCOUNT, active_users=frozenset({77}))
        with_widget = Directory((Client(ACME, "Acme", told),))
        await store.directory.replace(Directory(), with_widget, 0)
        assert (await store.directory.load())[0] == Directory((Client(ACME, "Acme", ACCOUNT),))


async def test_there_is_a_bound(database_url: str) -> None:
    many = [CrmUser(n, "N") for n in range(1, MOST_USERS + 10)]
    async with open_store(database_url, sealer=SEALER) as store:
        await store.directory.replace(Directory(), DIRECTORY, 0)
        await store.crm_users.save_users(ACME, URL, many, NOON)
        await store.crm_users.save_map(ACME, URL, {user.id: "101" for user in many}, MapSource.WIDGET, NOON)
        known = (await store.crm_users.load())[ACME]
        assert (len(known.users), len(known.map)) == (MOST_USERS, MOST_USERS)


async def test_two_who_save_at_once_leave_what_one_of_them_said(database_url: str) -> None:
    first, second = (ANNA, VERA), (replace(ANNA, name="Анна-Мария"), CrmUser(80, "Глеб"))
    async with open_store(database_url, sealer=SEALER) as one, open_store(database_url, sealer=SEALER) as other:
        await one.directory.replace(Directory(), DIRECTORY, 0)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(one.crm_users.save_users(ACME, URL, first, NOON))
                tasks.create_task(other.crm_users.save_users(ACME, URL, second, NOON))
        assert (await one.crm_users.load())[ACME].users in (first, second)
