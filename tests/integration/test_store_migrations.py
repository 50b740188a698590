"""Migrations make what schema.py says, on both databases, once."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from b2bua.store.engine import open_database
from b2bua.store.migrate import UnknownSchema, migrate, pending
from b2bua.store.schema import metadata


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
