"""`smartswitch recordings`: withdrawn and given back by id or by call, and who fetched them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from b2bua.__main__ import cli
from b2bua.cdr import CallId, ClientId
from b2bua.store.fetches import Fetch
from b2bua.store.migrate import migrate
from b2bua.store.recordings import Recording
from b2bua.store.store import open_store

NOW = datetime.now(UTC)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMARTSWITCH_SERVER__DATA_DIR", str(tmp_path / "data"))
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def _url(home: Path) -> str:
    return f"sqlite+aiosqlite:///{home / 'data' / 'smartswitch.db'}"


async def _recorded(home: Path) -> None:
    (home / "data").mkdir(exist_ok=True)
    await migrate(_url(home))
    async with open_store(_url(home)) as store:
        await store.recordings.begin("rec-1", CallId("c-1"), ClientId("acme"), NOW)
        for number in range(2):
            store.recordings.fetch_log.note(
                Fetch("rec-1", NOW + timedelta(hours=number), f"203.0.113.{number}", "[red]anna" * number, 500))


async def _stored(home: Path) -> Recording:
    async with open_store(_url(home)) as store:
        found = await store.recordings.get("rec-1")
        assert found is not None
        return found


@pytest.mark.parametrize("what", ["rec-1", "c-1"])
def test_a_recording_is_withdrawn_and_given_back(home: Path, what: str) -> None:
    asyncio.run(_recorded(home))
    withdrawn = run("recordings", "revoke", what)
    assert (withdrawn.exit_code, withdrawn.stdout) == (0, "rec-1 of the call c-1 is withdrawn.\n")
    stored = asyncio.run(_stored(home))
    assert stored.revoked
    assert stored.decided_at is not None
    assert "@" in (stored.decided_by or "")
    assert run("recordings", "restore", what).stdout == "rec-1 of the call c-1 is given back.\n"
    assert not asyncio.run(_stored(home)).revoked


def test_who_fetched_it_is_listed(home: Path) -> None:
    asyncio.run(_recorded(home))
    shown = run("recordings", "fetches", "c-1").stdout.splitlines()
    assert "203.0.113.1" in shown[2]
    assert "[red]anna" in shown[2]
    assert "203.0.113.0" in shown[3]
    (last,) = json.loads(run("recordings", "fetches", "rec-1", "--limit", 1, "--json").stdout)["fetches"]
    assert last == {"recording": "rec-1", "at": (NOW + timedelta(hours=1)).isoformat(), "address": "203.0.113.1",
                    "who": "[red]anna", "size": 500, "requests": 1}


@pytest.mark.parametrize("command", ["revoke", "restore", "fetches"])
@pytest.mark.parametrize("empty", [True, False])
def test_what_is_no_recording_is_said(home: Path, command: str, empty: bool) -> None:
    if not empty:
        asyncio.run(_recorded(home))
    answer = run("recordings", command, "rec-9")
    assert answer.exit_code == 1
    assert answer.stderr.startswith("smartswitch: rec-9 is no recording")


def test_what_nobody_fetched_is_said(home: Path) -> None:
    asyncio.run(_recorded(home))

    async def forget() -> None:
        async with open_store(_url(home)) as store:
            await store.recordings.fetch_log.forget(NOW + timedelta(days=1))

    asyncio.run(forget())
    assert run("recordings", "fetches", "rec-1").stdout == "Nobody has fetched it.\n"
