"""Migrations make what schema.py says, on both databases, once."""

from __future__ import annotations

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, column, insert, table, text

from b2bua.cdr import ClientId, Disposition
from b2bua.crm.functions import CrmFunctions
from b2bua.directory import Client, CrmAccount, Extension, Group, Trunk
from b2bua.store.call_search import CallFilter
from b2bua.store.engine import open_database
from b2bua.store.migrate import UnknownSchema, _config, migrate, pending
from b2bua.store.rows import CALL_COLUMNS, call_row
from b2bua.store.schema import Instant, metadata
from b2bua.store.store import open_store
from tests.support.records import record


async def test_migrations_lead_to_the_schema_of_the_code(empty_database_url: str) -> None:
    before, after = await migrate(empty_database_url)
    assert before is None
    async with open_database(empty_database_url) as database, database.reading() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata))
    assert differences == []
    assert await pending(empty_database_url) == (after, after)


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    before, after = await migrate(database_url)
    assert before == after


async def test_what_is_pending_is_said_without_touching_the_database(empty_database_url: str) -> None:
    before, head = await pending(empty_database_url)
    assert before is None
    assert head
    assert (await pending(empty_database_url))[0] is None


async def test_a_database_of_a_newer_version_is_left_alone(database_url: str) -> None:
    async with open_database(database_url) as database, database.writing() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UnknownSchema, match="9999"):
        await migrate(database_url)


async def test_a_directory_of_the_first_release_means_the_same_today(empty_database_url: str) -> None:
    def first_release(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for statement in (
            "INSERT INTO clients (id, name, max_calls, record, country) VALUES ('acme', 'Acme', 7, true, 'RU')",
            "INSERT INTO crm_accounts (client, base_url, token, forward_to_responsible, set_caller_name, pop_up,"
            " patience, responsible_ring_seconds) VALUES ('acme', 'https://a', 't', true, false, true, 1.5, 20)",
            "INSERT INTO extensions (client, number, login, ha1, name, ascii_only, max_contacts)"
            " VALUES ('acme', '101', 'acme-101', '{}', '', false, 5)",
            "INSERT INTO trunks (client, name, host, transport, networks, register, \"user\", password, domain,"
            " caller_id, country, max_calls)"
            " VALUES ('acme', 'op', 'op.test', 'UDP', '[]', false, '', '', '', '+7495', 'RU', 100)",
            "INSERT INTO groups (client, number, members, name) VALUES ('acme', '600', '[\"101\"]', '')",
        ):
            connection.execute(text(statement))

    async with open_database(empty_database_url) as database, database.writing() as connection:
        await connection.run_sync(first_release)
    await migrate(empty_database_url)
    async with open_store(empty_database_url) as store:
        directory, _ = await store.directory.load()
    acme = ClientId("acme")
    account = CrmAccount("https://a", "t", CrmFunctions(set_caller_name=False))
    assert directory.clients == (Client(acme, "Acme", account, max_calls=7, login="acme"),)
    assert directory.extensions == (Extension(acme, "101", "acme-101", {}),)
    assert directory.groups == (Group(acme, "600", ("101",)),)
    assert directory.trunks == (Trunk(acme, "op", "op.test", caller_id="+7495"),)


async def test_calls_of_an_earlier_release_are_found_like_new_ones(empty_database_url: str) -> None:
    old, new = record("old", caller="+79161234567"), record("new", caller="+79161234567")
    missed = record("missed", answered_at=None, disposition=Disposition.BUSY, contact=None, recording=None)

    def earlier_release(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0017")
        earlier = table("calls", *[column(name, Instant() if name.endswith("_at") else None) for name in CALL_COLUMNS])
        connection.execute(insert(earlier), [call_row(old), call_row(missed)])

    async with open_database(empty_database_url) as database, database.writing() as connection:
        await connection.run_sync(earlier_release)
    await migrate(empty_database_url)
    async with open_store(empty_database_url) as store:
        await store.calls.finish(new)
        for wanted, calls in ((CallFilter(number="4567"), [old, new]), (CallFilter(name="петров"), [old, new]),
                              (CallFilter(extension="102"), [missed]), (CallFilter(recorded=False), [missed])):
            assert (await store.history.search(wanted, 5)).calls == calls
