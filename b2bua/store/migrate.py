"""Brings a database to the schema of this version, by the Alembic scripts that are packaged beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from b2bua.store.engine import one_line, open_database, sqlite_file

_LOCK = 7_335_060_001                  # PostgreSQL's advisory lock: two servers that start together migrate one by one


class UnusableDatabase(Exception):
    """One sentence: it answers, or could not be asked, and a person has to do something about it."""


class UnknownSchema(UnusableDatabase):
    """The database was made by a newer version, or by another program."""


async def migrate(url: str) -> tuple[str | None, str]:
    """Makes the database if need be. Returns the revisions before and after. Raises UnusableDatabase,
    StoreUnavailable, or OSError when the directory of the file cannot be made."""
    _make_file(url)
    with _in_one_sentence():
        async with open_database(url) as database, database.writing() as connection:
            return await connection.run_sync(_upgrade)


async def pending(url: str) -> tuple[str | None, str]:
    """The database's revision and the one this version needs; changes nothing. Raises as migrate does."""
    with _in_one_sentence():
        async with open_database(url) as database, database.reading() as connection:
            return await connection.run_sync(_revisions)


def _make_file(url: str) -> None:
    """Trunk passwords and CRM tokens are in it: for its owner alone. SQLite gives its other files the same rights."""
    file = sqlite_file(url)
    if file is not None and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise UnusableDatabase(one_line(error)) from error
    except ModuleNotFoundError as error:       # the driver is an extra
        raise UnusableDatabase(f"the Python package {error.name} is missing: "
                               "pip install 'smartswitch[postgresql]'") from error


def _upgrade(connection: Connection) -> tuple[str | None, str]:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    before, head = _revisions(connection)
    if before != head:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, head


def _revisions(connection: Connection) -> tuple[str | None, str]:
    scripts = ScriptDirectory.from_config(_config())
    current = MigrationContext.configure(connection).get_current_revision()
    head = scripts.get_current_head()
    assert head is not None, "there is at least the first migration"
    if current is not None:
        try:
            scripts.get_revision(current)
        except CommandError as error:
            raise UnknownSchema(f"the database is at revision {current}, which this version does not know") from error
    return current, head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
