"""Databases to test on: every test that takes `database_url` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2bua.store.migrate import migrate
from tests.support.postgres import Cluster, running_cluster

_names = (f"test_{number}" for number in itertools.count(1))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def migrated(postgres: Cluster) -> str:
    """A PostgreSQL database at the newest schema, to be copied."""
    postgres.sql("CREATE DATABASE migrated")
    asyncio.run(migrate(postgres.url("migrated")))
    return "migrated"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any table."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"
    return _postgres_database(request, "template1")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database at the newest schema, for this test alone."""
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"
        asyncio.run(migrate(url))
        return url
    return _postgres_database(request, request.getfixturevalue("migrated"))


def _postgres_database(request: pytest.FixtureRequest, template: str) -> str:
    cluster: Cluster = request.getfixturevalue("postgres")
    name = next(_names)
    cluster.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    return cluster.url(name)
