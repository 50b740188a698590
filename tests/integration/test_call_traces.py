"""`smartswitch trace`: ladders in both databases, their end, and the command with a daemon and without one."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from alembic import command
from pydantic import SecretStr
from sqlalchemy import Connection
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from b2bua.__main__ import cli
from b2bua.app import System, running
from b2bua.calls import ladder_keeper
from b2bua.calls.ladder import Messages, Step, pack, unpack
from b2bua.cdr import CallId, CallRecord, ClientId, EndReason
from b2bua.config import (
    DatabaseSettings,
    Listener,
    LogSettings,
    MediaSettings,
    ServerSettings,
    Settings,
    SipSettings,
    WebSettings,
)
from b2bua.crm.port import Delivered
from b2bua.directory import Client, Directory, Extension, Number, Trunk
from b2bua.net.udp import UdpTransport
from b2bua.sip.auth import ha1
from b2bua.sip.effects import Address
from b2bua.store.call_traces import CallTrace
from b2bua.store.engine import open_database
from b2bua.store.migrate import _config, migrate
from b2bua.store.store import Store, open_store
from b2bua.upkeep import forget_old_traces
from tests.support.phone import Answers, Behaviour, Phone
from tests.support.records import NOON, note, record

ACME = ClientId("acme")
ONE, OTHER = "5f0c0000000000aa", "5f0c0000000000bb"
BLOCK = os.getpid() % 250 + 2              # a corner of 127.0.0.0/8 that no other run on this machine uses
HERE, TRUNK, DESK = f"127.{BLOCK}.71.1", f"127.{BLOCK}.72.1", f"127.{BLOCK}.73.1"
DID, IVAN, PASSWORD = "+74951112233", "+79161234567", "secret-of-a-phone"
STEPS = pack(Messages((Step(0.0, "in", "trunk operator at 10.0.1.1:5060", "INVITE (CSeq 1)"),)))


def kept(call: str, started_at: datetime = NOON) -> CallTrace:
    return CallTrace(CallId(call), ACME, started_at, STEPS)


# -- the store


async def test_a_ladder_comes_back_and_the_first_word_on_a_call_stands(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.call_traces.save([kept(ONE), kept(OTHER)])
        await store.call_traces.save([replace(kept(ONE), steps=b"other")])
        await store.call_traces.save([])
        assert await store.call_traces.get(CallId(ONE)) == STEPS
        assert await store.call_traces.get(CallId("5f0c")) is None


async def test_old_ladders_go(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("b2bua.store.call_traces.FORGOTTEN_AT_ONCE", 2)
    monkeypatch.setattr("b2bua.upkeep.FORGOTTEN_AT_ONCE", 2)
    now = datetime.now(UTC)
    async with open_store(database_url) as store, asyncio.TaskGroup() as tasks:
        ages = {"old-1": 8, "old-2": 9, "old-3": 10, "new": 6}
        await store.call_traces.save([kept(call, now - timedelta(days=days)) for call, days in ages.items()])
        upkeep = tasks.create_task(forget_old_traces(7, store))
        await _gone(store, "old-1", "old-2", "old-3")
        upkeep.cancel()
        assert await store.call_traces.get(CallId("new")) == STEPS
        upkeep = tasks.create_task(forget_old_traces(0, store))     # none are noted: what there is goes too
        await _gone(store, "new")
        upkeep.cancel()


async def _gone(store: Store, *calls: str) -> None:
    async with asyncio.timeout(30):
        while [one for one in calls if await store.call_traces.get(CallId(one)) is not None]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_calls_are_found_by_the_beginning_of_their_ids(database_url: str) -> None:
    ids = [ONE, OTHER, "5f0b000000000000", "5f0d000000000000", "5F0C-other", "x_1", "x%1"]
    async with open_store(database_url) as store:
        for call in ids:
            await store.calls.finish(record(call))
        assert await store.calls.beginning_with("5f0c", 10) == [ONE, OTHER]
        assert await store.calls.beginning_with("5f0c", 1) == [ONE]
        assert await store.calls.beginning_with(ONE, 10) == [ONE]
        assert await store.calls.beginning_with("5F0C", 10) == ["5F0C-other"]
        assert await store.calls.beginning_with("x_", 10) == ["x_1"]
        assert await store.calls.beginning_with("x%", 10) == ["x%1"]
        assert await store.calls.beginning_with("zzzz", 10) == []


# -- the command, without a daemon


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SMARTSWITCH_SERVER__DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path


def url(home: Path) -> str:
    return f"sqlite+aiosqlite:///{home / 'data' / 'smartswitch.db'}"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


async def _in_the_books(home: Path, *calls: CallRecord) -> None:
    await migrate(url(home))
    async with open_store(url(home)) as store:
        for call in calls:
            await store.calls.finish(call, [note(call)])


def past(call: str = ONE, **changes: object) -> CallRecord:
    return record(call, why=("+74957654321 goes to 101",), why_after=(0.01,), **changes)


def yesterday(call: CallRecord) -> CallRecord:
    """What was delivered of older ones is forgotten."""
    later = datetime.now(UTC) - timedelta(days=1) - NOON
    assert call.rang_at is not None
    assert call.answered_at is not None
    return replace(call, started_at=call.started_at + later, rang_at=call.rang_at + later,
                   answered_at=call.answered_at + later, ended_at=call.ended_at + later)


def test_a_past_call_is_told_with_its_recording_and_what_the_crm_was_told(home: Path) -> None:
    async def happened() -> None:
        call = yesterday(past())
        began = call.started_at
        await _in_the_books(home, call)
        async with open_store(url(home)) as store:
            await store.call_traces.save([kept(ONE)])
            await store.recordings.begin("rec-1", call.id, call.client, call.started_at)
            await store.recordings.finished("rec-1", "2026/rec-1.mp3", 60.0, 180_000)
            (row,) = await store.outbox.claim(ACME, began + timedelta(hours=1), began + timedelta(hours=2), 10)
            await store.outbox.done(row.id, Delivered("note 7", card="contacts/9001"), began + timedelta(seconds=70))

    asyncio.run(happened())
    told = run("trace", ONE[:6])
    assert told.exit_code == 0, told.output
    title, *lines = told.stdout.splitlines()
    assert title.startswith(f"call {ONE} of acme: inbound, +74951112233 calls +74957654321, by trunk operator; 20")
    assert title.endswith("answered, hung up")
    assert lines == [
        "    0.000  <- trunk operator at 10.0.1.1:5060  INVITE (CSeq 1)",
        "    0.010     +74957654321 goes to 101",
        "    1.250     it rings",
        "    6.000     answered",
        "   66.000     ended by caller: hung up (answered, 200, 60 s of talk)",
        "   70.000     outbox 1, call with +74951112233: delivered (1 try, on contacts/9001): note 7",
        "              recording rec-1: ready, 60.0 s, 180000 bytes",
    ]
    plain = json.loads(run("trace", ONE, "--json").stdout)
    assert (plain["call"]["id"], plain["is_over"], plain["notes"]) == (ONE, True, [])
    assert plain["lines"][0] == {"after": 0.0, "kind": "in",
                                 "text": "trunk operator at 10.0.1.1:5060  INVITE (CSeq 1)"}


def test_what_waits_for_the_crm_says_why(home: Path) -> None:
    async def happened() -> None:
        first, second = past(), past(OTHER, caller="+74950000001")
        third = past("5f0d000000000000", caller="+7495000002")
        began = yesterday(first).started_at
        calls = [replace(yesterday(one), started_at=began) for one in (first, second, third)]
        await _in_the_books(home, *calls)
        async with open_store(url(home)) as store:
            rows = await store.outbox.claim(ACME, began + timedelta(hours=1), began + timedelta(hours=2), 10)
            later = datetime.now(UTC) + timedelta(hours=5, seconds=30)
            await store.outbox.retry(rows[0].id, later, "amoCRM: 502\x1b[2J")
            await store.outbox.set_aside(rows[1].id, "400: not valid", began + timedelta(seconds=80))
            await store.outbox.set_aside(rows[2].id, "no", began)
            await store.outbox.drop([rows[2].id], "dropped by somebody", began + timedelta(seconds=90))
            await store.recordings.begin("rec-1", CallId(ONE), ACME)
            await store.recordings.begin("rec-2", CallId(OTHER), ACME)
            await store.recordings.failed("rec-2", "disk full")

    asyncio.run(happened())
    waits = run("trace", ONE).stdout
    assert "outbox 1, call with +74951112233: waits, next in 5 h 0 min (1 try): amoCRM: 502\ufffd[2J" in waits
    assert "recording rec-1: not ready yet" in waits
    aside = run("trace", OTHER).stdout
    assert "   80.000     outbox 2, call with +74950000001: set aside, for a person to resend or drop (1 try)" in aside
    assert "recording rec-2: failed: disk full" in aside
    assert "   90.000     outbox 3, call with +7495000002: dropped: dropped by somebody" in run("trace", "5f0d").stdout


def test_of_several_calls_that_begin_so_each_is_named(home: Path) -> None:
    asyncio.run(_in_the_books(home, past(), past(OTHER), past("5f0d000000000000")))
    several = run("trace", "5f0c")
    assert several.exit_code == 1
    assert several.stdout == ""
    assert several.stderr.splitlines() == [
        "smartswitch: several calls begin with 5f0c: name one of them", f"smartswitch: {ONE}", f"smartswitch: {OTHER}"]
    assert run("trace", OTHER).exit_code == 0
    assert run("trace", "5f0d").exit_code == 0


def test_an_unknown_call_and_one_that_is_no_call(home: Path) -> None:
    for _ in range(2):                     # without a database, and with one
        unknown = run("trace", "abcd\x1b[2J/..%2f")
        assert unknown.exit_code == 1
        first, second = unknown.stderr.splitlines()
        assert first.startswith("smartswitch: no call begins with abcd\ufffd[2J/..%2f; smartswitch calls --json")
        assert second.startswith("smartswitch: of calls in progress nothing is known: no daemon has run in")
        asyncio.run(_in_the_books(home, past()))
    short = run("trace", "5f0")
    assert short.exit_code == 2
    assert "4 letters of its id at least" in short.stderr
    (home / "wrong.toml").write_text("[log]\ncall_trace_days = -1\n")
    assert run("trace", ONE, "--config", home / "wrong.toml").exit_code == 2


def test_why_a_call_has_no_messages(home: Path) -> None:
    died = past(OTHER, reason=EndReason.RESTARTED)
    unreadable = past("5f0d000000000000")

    async def happened() -> None:
        await _in_the_books(home, past(), died, unreadable)
        async with open_store(url(home)) as store:
            await store.call_traces.save([replace(kept(unreadable.id), steps=b"of another version")])

    asyncio.run(happened())
    assert run("trace", ONE).stdout.splitlines()[-1].startswith(
        "its messages are not known: none were kept (log.call_trace_days)")
    told = run("trace", OTHER)
    assert told.exit_code == 0
    assert "the switch died during this call" in told.stdout.splitlines()[-1]
    assert "   66.000     ended by caller: restarted" in told.stdout
    assert "its messages are not readable" in run("trace", unreadable.id).stdout


def test_a_database_of_before_ladders_were_kept(home: Path) -> None:
    def earlier_release(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0019")

    async def happened() -> None:
        async with open_database(url(home)) as database, database.writing() as connection:
            await connection.run_sync(earlier_release)
        async with open_store(url(home)) as store:
            await store.calls.finish(past())

    asyncio.run(happened())
    told = run("trace", ONE)
    assert told.exit_code == 0, told.output
    assert "   66.000     ended by caller: hung up (answered, 200, 60 s of talk)" in told.stdout.splitlines()
    assert told.stdout.splitlines()[-1] == (
        "its messages are not known: the database is of an earlier version (smartswitch migrate)")
    asyncio.run(migrate(url(home)))
    assert "smartswitch migrate" not in run("trace", ONE).stdout


# -- the command, with a daemon


@asynccontextmanager
async def an_office(home: Path, database: str | None = None, *, days: int = 7) -> AsyncIterator[tuple[System, Phone]]:
    wanted = Settings(
        server=ServerSettings(data_dir=home / "data", drain_seconds=1),
        sip=SipSettings(listen=(Listener(transport="udp", host=HERE, port=0),), qualify_every=0),
        media=MediaSettings(host=HERE, port_min=23000, port_max=23999),
        web=WebSettings(host=HERE, port=0),
        database=DatabaseSettings(url=SecretStr(database) if database else None),
        log=LogSettings(level="error", call_trace_days=days),
    )
    async with (
        running(wanted) as system, phone_at(TRUNK, system.sip[0], Answers()) as trunk,
        phone_at(DESK, system.sip[0], Answers(after=0.05), PASSWORD) as desk,
    ):
        hashes = {name: ha1(name, "101", "smartswitch", PASSWORD) for name in ("MD5", "SHA-256")}
        directory = Directory(
            (Client(ACME, "Acme"),), (Extension(ACME, "101", "101", hashes),),
            (Trunk(ACME, "operator", TRUNK, trunk.transport.local.port),), (),
            (Number(ACME, DID, "101", ring_seconds=5),))
        old, generation = await system.store.directory.load()
        await system.store.directory.replace(old, directory, generation)
        await system.switchboard.settings_changed()
        assert (await desk.register()).status == 200
        yield system, trunk


@asynccontextmanager
async def phone_at(host: str, server: Address, does: Behaviour, password: str = "") -> AsyncIterator[Phone]:
    phone = Phone("101", server, password=password, does=does).plug(partial(UdpTransport.open, Address(host, 0)))
    try:
        yield phone
    finally:
        phone.close()


async def asked(system: System, database: str, *words: str) -> Result:
    environment = {"SMARTSWITCH_SERVER__DATA_DIR": str(system.settings.server.data_dir),
                   "SMARTSWITCH_WEB__HOST": system.web.host, "SMARTSWITCH_WEB__PORT": str(system.web.port),
                   "SMARTSWITCH_DATABASE__URL": database}
    with capture_logs():                   # the system, in this process, would log between the lines of the command
        return await asyncio.to_thread(CliRunner().invoke, cli, ["trace", *words], env=environment)


async def test_a_call_in_progress_is_asked_of_the_daemon_and_is_in_the_database_after_it(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder_keeper, "LINGERS", 0.2)
    monkeypatch.setattr(ladder_keeper, "KEPT_EVERY", 0.05)
    async with an_office(tmp_path, database_url) as (system, trunk):
        call = trunk.call(DID, as_=IVAN)
        await call.answered.wait()
        (live,) = system.switchboard.live_calls()
        told = await asked(system, database_url, live.id[:8])
        assert told.exit_code == 0, told.output
        title, *lines = told.stdout.splitlines()
        assert title.startswith(f"call {live.id} of acme: inbound, {IVAN} calls {DID}, by trunk operator; ")
        assert title.endswith("; in progress")
        port = trunk.transport.local.port
        assert lines[0].startswith(f"    0.000  <- trunk operator at {TRUNK}:{port}  INVITE (CSeq 1): PCMA")
        assert any("-> phone 101 at" in line and "INVITE (CSeq 1)" in line for line in lines)
        assert any(line.endswith(f"{DID} goes to 101") for line in lines)
        assert any(" begins" in line and "recording" in line for line in lines)
        assert not any("ended by" in line for line in lines)
        plain = json.loads((await asked(system, database_url, live.id, "--json")).stdout)
        assert (plain["call"]["id"], plain["is_over"]) == (live.id, False)
        call.hang_up()
        async with asyncio.timeout(20):
            while (steps := await system.store.call_traces.get(live.id)) is None:  # noqa: ASYNC110 - as a person looks
                await asyncio.sleep(0.02)
        ended = [step.what for step in unpack(steps).steps if "BYE" in step.what]
        assert ended[:2] == ["BYE (CSeq 2)", "200 OK (CSeq 2 BYE)"]
        told = await asked(system, database_url, live.id)
        assert told.stdout.splitlines()[0].endswith("answered, hung up")
        assert "200 OK (CSeq 2 BYE)" in told.stdout
        assert (await asked(system, database_url, "ffff0000ffff")).exit_code == 1


async def test_the_end_of_the_daemon_keeps_what_it_has_noted(tmp_path: Path) -> None:
    database = f"sqlite+aiosqlite:///{tmp_path / 'data' / 'smartswitch.db'}"
    async with an_office(tmp_path) as (system, trunk):
        call = trunk.call(DID, as_=IVAN)
        await call.answered.wait()
        (live,) = system.switchboard.live_calls()
    async with open_store(database) as store:
        ended = await store.calls.get(live.id)
        assert ended is not None
        assert ended.reason is EndReason.SHUTDOWN
        steps = await store.call_traces.get(live.id)
    assert steps is not None
    assert any("BYE" in step.what for step in unpack(steps).steps)


async def test_with_no_days_nothing_is_noted(tmp_path: Path) -> None:
    database = f"sqlite+aiosqlite:///{tmp_path / 'data' / 'smartswitch.db'}"
    async with an_office(tmp_path, days=0) as (system, trunk):
        call = trunk.call(DID, as_=IVAN)
        await call.answered.wait()
        (live,) = system.switchboard.live_calls()
        told = await asked(system, database, live.id)
        assert told.exit_code == 0, told.output
        assert told.stdout.splitlines()[-1] == "its messages are not known: log.call_trace_days is 0"
        assert any(line.endswith(f"{DID} goes to 101") for line in told.stdout.splitlines())
        call.hang_up()
    async with open_store(database) as store:
        assert await store.calls.get(live.id) is not None
        assert await store.call_traces.get(live.id) is None
