"""`smartswitch outbox`: what waits and what was set aside, in people's words; resent and dropped by them."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from b2bua.__main__ import cli
from b2bua.cdr import ClientId
from b2bua.crm.writes import OutboxRow
from b2bua.store.migrate import migrate
from b2bua.store.store import Store, open_store
from tests.support.records import NOON, note, record

ACME = ClientId("acme")
LATER = NOON + timedelta(hours=1)
LEASE = LATER + timedelta(minutes=5)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMARTSWITCH_SERVER__DATA_DIR", str(tmp_path / "data"))
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


async def _refused(home: Path, *calls: str) -> list[int]:
    """Calls of which the first is set aside; their rows."""
    (home / "data").mkdir(exist_ok=True)
    url = f"sqlite+aiosqlite:///{home / 'data' / 'smartswitch.db'}"
    await migrate(url)
    async with open_store(url) as store:
        for number, call in enumerate(calls):
            finished = record(call, caller=f"+7495000000{number}")
            await store.calls.finish(finished, [note(finished)])
        rows = await store.outbox.claim(ACME, LATER, LEASE, 10)
        await store.outbox.set_aside(rows[0].id, "400: phone: [red]not valid", LATER)
        return [row.id for row in rows]


async def _claimed(home: Path) -> list[OutboxRow]:
    async with open_store(f"sqlite+aiosqlite:///{home / 'data' / 'smartswitch.db'}") as store:
        return await _due(store)


async def _due(store: Store) -> list[OutboxRow]:
    now = LEASE + timedelta(days=10_000)
    return list(await store.outbox.claim(ACME, now, now + timedelta(minutes=5), 10))


def test_what_waits_and_what_was_refused_is_listed_in_words(home: Path) -> None:
    assert run("outbox").stdout.splitlines() == ["Nothing waits for a CRM.", "Nothing was set aside."]
    refused, waits = asyncio.run(_refused(home, "c1", "c2"))
    shown = run("outbox")
    assert shown.exit_code == 0
    assert "call with +74950000001" in shown.stdout
    assert "[red]not valid" in shown.stdout
    assert "+74950000001" not in run("outbox", "--aside").stdout
    listed = json.loads(run("outbox", "--json", "--client", "acme").stdout)
    assert [row["id"] for row in listed["waiting"]] == [waits]
    assert [(row["id"], row["said"], row["attempts"]) for row in listed["aside"]] == [
        (refused, "400: phone: [red]not valid", 1)
    ]
    assert json.loads(run("outbox", "--json", "--client", "beta").stdout) == {"waiting": [], "aside": []}


def test_what_was_set_aside_is_resent_and_only_that(home: Path) -> None:
    refused, waits = asyncio.run(_refused(home, "c1", "c2"))
    part = run("outbox", "resend", refused, waits)
    assert part.exit_code == 1
    assert "only 1 of 2 resent" in part.stderr
    assert run("outbox", "--aside").stdout.splitlines() == ["Nothing was set aside."]
    assert [(row.id, row.attempts) for row in asyncio.run(_claimed(home))] == [(refused, 2), (waits, 2)]


def test_what_is_dropped_keeps_who_when_and_why_and_is_not_sent(home: Path) -> None:
    (refused,) = asyncio.run(_refused(home, "c1"))
    assert run("outbox", "drop", refused).exit_code == 2               # why?
    assert run("outbox", "drop", refused, "--why", "a test call").stdout == "1 dropped.\n"
    assert run("outbox", "resend", refused).exit_code == 1
    assert asyncio.run(_claimed(home)) == []


@pytest.mark.parametrize("command", [["resend", "1"], ["drop", "1", "--why", "x"]])
def test_without_a_database_there_is_nothing_to_decide_and_none_is_made(home: Path, command: list[str]) -> None:
    assert run("outbox", *command).exit_code == 1
    assert not (home / "data").exists()
