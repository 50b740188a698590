"""The command line: exit codes, what it prints, and that nothing happens by half."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from b2bua.__main__ import cli
from b2bua.store.migrate import migrate
from b2bua.store.store import open_store
from tests.support.records import note, record

APPLY = """\
[[client]]
id = "acme"
[[client.extension]]
number = "101"
password = "plain-password"
[[client.number]]
number = "+74957654321"
destination = "101"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMARTSWITCH_SERVER__DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "acme.toml").write_text(APPLY)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments])


def test_apply_twice_changes_once(home: Path) -> None:
    first = run("apply", home / "acme.toml")
    assert first.exit_code == 0, first.output
    assert first.stdout.splitlines() == [
        "+ client acme", "+ extension acme/101", "+ number acme/+74957654321", "3 changes made."]
    assert run("apply", home / "acme.toml").stdout == "Nothing to change.\n"


def test_a_dry_run_makes_nothing_not_even_the_database(home: Path) -> None:
    done = run("apply", home / "acme.toml", "--dry-run", "--json")
    assert done.exit_code == 0
    assert len(json.loads(done.stdout)["changes"]) == 3
    assert not (home / "data").exists()


def test_a_changed_file_is_followed_and_prune_removes_others(home: Path) -> None:
    run("apply", home / "acme.toml")
    (home / "other.toml").write_text('[[client]]\nid = "other"\n')
    assert run("apply", home / "other.toml").stdout.splitlines()[0] == "+ client other"
    assert "- client acme" in run("apply", home / "other.toml", "--prune", "--dry-run").stdout
    (home / "acme.toml").write_text(APPLY.replace("plain-password", "other-password"))
    changed = run("apply", home / "acme.toml")
    assert changed.stdout.splitlines()[0] == "~ extension acme/101: password"
    with closing(sqlite3.connect(home / "data" / "smartswitch.db")) as database:
        assert "password" not in "".join(map(str, database.execute("SELECT * FROM extensions").fetchone()))


def test_a_wrong_apply_file_exits_with_2_and_touches_nothing(home: Path) -> None:
    (home / "acme.toml").write_text(APPLY.replace('destination = "101"', 'destination = "999"'))
    done = run("apply", home / "acme.toml")
    assert done.exit_code == 2
    assert "line 8: client[0].number[0].destination: there is no extension or group 999" in done.stderr
    assert not (home / "data").exists()


def test_a_wrong_configuration_exits_with_2_whatever_was_asked(home: Path) -> None:
    (home / "wrong.toml").write_text("[sip]\nrealmm = 1\n")
    for command in (["check"], ["serve"], ["calls"], ["migrate"], ["apply", home / "acme.toml"]):
        done = run(*command, "--config", home / "wrong.toml")
        assert done.exit_code == 2, command
        assert "line 2: sip.realmm: there is no such setting. Did you mean `realm`?" in done.stderr


def test_check_says_all_is_well_or_every_fault_as_json(home: Path) -> None:
    (home / "right.toml").write_text('[sip]\nlisten = [{ transport = "udp", host = "127.0.0.1", port = 0 }]\n'
                                     "[web]\nport = 0\n")
    assert run("check", "--config", home / "right.toml").exit_code == 0
    (home / "wrong.toml").write_text("[sip]\nt1 = 0\nlisten = []\n")
    done = run("check", "--config", home / "wrong.toml", "--json", "--running")
    assert done.exit_code == 2
    assert [fault["field"] for fault in json.loads(done.stdout)["faults"]] == ["sip.t1", "sip.listen"]


def test_calls_shows_the_last_ones_as_text_whatever_strangers_wrote(home: Path) -> None:
    url = f"sqlite+aiosqlite:///{home / 'data' / 'smartswitch.db'}"
    call = record(caller="[red]\x1b[2J+7495")

    async def finish() -> None:
        await migrate(url)
        async with open_store(url) as store:
            await store.calls.finish(call, [note(call)])

    assert run("calls").stdout.splitlines()[-1] == "No past call."
    (home / "data").mkdir()
    asyncio.run(finish())
    shown = run("calls")
    assert shown.exit_code == 0
    assert "[red]\ufffd[2J+7495" in shown.stdout
    assert "Иван Петров" in shown.stdout
    listed = json.loads(run("calls", "--json").stdout)
    assert listed["last"][0]["talk_seconds"] == 60
    assert listed["daemon"].startswith("no daemon has run")
    assert json.loads(run("calls", "--json", "--client", "nobody").stdout)["last"] == []


def test_bans_and_explanations_are_asked_of_the_daemon_and_without_one_that_is_said(home: Path) -> None:
    explain = ["explain", "--client", "acme", "--from", "101", "--to", "102"]
    for words in (["bans"], ["bans", "--json"], ["bans", "lift", "198.51.100.7"], explain):
        done = run(*words)
        assert done.exit_code == 1
        assert "no daemon has run in" in done.stderr
    assert run("bans", "lift").exit_code == 2


def test_migrate_says_from_where_to_where(home: Path) -> None:
    assert "it was empty" in run("migrate").stdout
    assert (home / "data" / "smartswitch.db").stat().st_mode & 0o777 == 0o600
    assert "it was so before" in run("migrate").stdout


def test_a_trouble_of_the_machine_is_one_sentence_and_exit_code_1(home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "smartswitch.db").write_text("no database at all " * 100)
    done = run("migrate")
    assert done.exit_code == 1
    assert done.stderr == "smartswitch: file is not a database\n"


CRM = """\
[client.crm]
base_url = "https://acme.amocrm.ru"
token = "long-lived"
"""


def test_another_key_is_taken_in_use_and_a_lost_one_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "acme.toml").write_text(APPLY + CRM)
    assert run("reseal").stdout == "0 secrets sealed with the first key.\n"
    assert run("crm", "status").stdout == "No client has a CRM.\n"
    assert not (home / "data" / "smartswitch.db").exists()
    run("apply", home / "acme.toml")
    made = (home / "data" / "keys" / "database").read_text().strip()
    new = "another key, which is long enough too"
    monkeypatch.setenv("SMARTSWITCH_DATABASE__SECRET_KEYS", json.dumps([new, made]))
    assert run("apply", home / "acme.toml", "--dry-run").stdout == "Nothing to change.\n"
    assert run("reseal").stdout == "1 secret sealed with the first key.\n"
    monkeypatch.setenv("SMARTSWITCH_DATABASE__SECRET_KEYS", json.dumps([made]))
    lost = run("reseal")
    assert lost.exit_code == 1
    assert "crm_accounts/acme/token is sealed with the key" in lost.stderr
    assert "locked" in run("crm", "status").stdout
    assert "~ CRM of acme: token" in run("apply", home / "acme.toml").stdout
    assert json.loads(run("crm", "status", "--json").stdout)["connections"][0]["state"] == "connected"
    with closing(sqlite3.connect(home / "data" / "smartswitch.db")) as database:
        assert "long-lived" not in str(database.execute("SELECT * FROM crm_accounts").fetchone())


def test_a_key_that_could_be_guessed_is_a_fault(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMARTSWITCH_DATABASE__SECRET_KEYS", '["short"]')
    done = run("check")
    assert done.exit_code == 2
    assert "openssl rand -base64 32" in done.stderr
    assert '"short"' not in done.stderr
