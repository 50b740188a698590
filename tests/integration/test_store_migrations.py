"""Migrations make what schema.py says, on both databases, once."""

from __future__ import annotations

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from b2bua.cdr import ClientId
from b2bua.directory import Client, Extension, Group, Trunk
from b2bua.store.engine import open_database
from b2bua.store.migrate import UnknownSchema, _config, migrate, pending
from b2bua.store.schema import metadata
from b2bua.store.store import open_store


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
    assert directory.clients == (Client(acme, "Acme", max_calls=7),)
    assert directory.extensions == (Extension(acme, "101", "acme-101", {}),)
    assert directory.groups == (Group(acme, "600", ("101",)),)
    assert directory.trunks == (Trunk(acme, "op", "op.test", caller_id="+7495"),)
