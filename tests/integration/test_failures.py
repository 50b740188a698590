"""Failure drills on the whole system: what breaks round a call must not break the call, nor what is owed for it."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from structlog.testing import capture_logs

import b2bua.app
from b2bua.app import System, running
from b2bua.calls import switchboard
from b2bua.calls.standing import BEAT_EVERY, SAVED_EVERY
from b2bua.cdr import CallRecord, ClientId, Disposition, EndReason
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
from b2bua.crm import outbox
from b2bua.crm.amocrm import access
from b2bua.demo.audio import RtpVoice
from b2bua.directory import Client, CrmAccount, Directory, Extension, Group, Number, Trunk
from b2bua.keys import open_sealer
from b2bua.media.relay.plane import EmbeddedPlane
from b2bua.net.resolver import Answers as DnsAnswers
from b2bua.net.resolver import DnsFailure
from b2bua.net.udp import UdpTransport
from b2bua.sandbox import Act, Fault, Sandbox, SandboxSeed, SeedAccount, SeedContact, SeedUser, running_sandbox
from b2bua.sandbox.state import CallEntry
from b2bua.sip.auth import ha1
from b2bua.sip.effects import Address
from b2bua.store import calls as journal
from b2bua.store import engine
from b2bua.store.engine import open_database
from b2bua.store.migrate import migrate
from b2bua.store.recordings import Recording, RecordingStage
from b2bua.store.store import Store, open_store
from b2bua.ua import trunk as trunks
from tests.support.mp3 import decode
from tests.support.phone import Answers, Phone, PhoneCall, Rings
from tests.support.postgres import running_cluster
from tests.support.rtp import audio_address

BLOCK = os.getpid() % 250 + 2              # a corner of 127.0.0.0/8 that no other run on this machine uses
HERE, OPERATOR, DESK, CRM_HOST = (f"127.{BLOCK}.{corner}.1" for corner in (31, 32, 33, 34))
SIP_PORT, WEB_PORT = 5060, 8080            # of the daemon, on its own address
ACME = ClientId("acme")
DID, IVAN = "+74951112233", "+79161234567"
PASSWORD = "secret-of-a-phone"
TOKEN = "sandbox-token"
PATIENCE = 0.5                             # of phones with the CRM
PROMPTLY = 4.0                             # more than a busy machine takes, less than what no call may wait for (5 s)
SOON = 30.0                                # an upper bound, of a busy machine that starts a daemon too
TICK = 0.02
T = TypeVar("T")
ROOT = Path(__file__).parents[2]
SEED = SandboxSeed((SeedAccount(
    users=(SeedUser(77, "Анна", is_admin=True),), contacts=(SeedContact("Иван Петров", (IVAN,), 77),)
),))


# -- the stage


def settings(home: Path, *, database: str | None = None, web_port: int = 0, sip_port: int = 0,
             rtp_timeout: float = 60, hold_timeout: float = 300) -> Settings:
    return Settings(
        server=ServerSettings(data_dir=home, drain_seconds=1),
        sip=SipSettings(listen=(Listener(transport="udp", host=HERE, port=sip_port),)),
        media=MediaSettings(
            host=HERE, port_min=22000, port_max=22999, rtp_timeout=rtp_timeout, hold_timeout=hold_timeout
        ),
        web=WebSettings(host=HERE, port=web_port),
        database=DatabaseSettings(url=SecretStr(database) if database else None),
        log=LogSettings(level="error"),
    )


def office(operator: Address, crm_url: str | None = None) -> Directory:
    account = None
    if crm_url is not None:
        account = CrmAccount(crm_url, TOKEN, patience=PATIENCE, default_user=77)
    hashes = {"MD5": ha1("MD5", "101", "smartswitch", PASSWORD)}
    return Directory(
        clients=(Client(ACME, "Acme", crm=account, max_calls=2),),
        extensions=(Extension(ACME, "101", "101", hashes, crm_user=77),),
        trunks=(Trunk(ACME, "operator", operator.host, operator.port, max_calls=2),),
        numbers=(Number(ACME, DID, "101", ring_seconds=5),),
    )


async def hand_in(system: System, directory: Directory) -> None:
    old, generation = await system.store.directory.load()
    await system.store.directory.replace(old, directory, generation)
    await system.switchboard.settings_changed()


@asynccontextmanager
async def phone_at(host: str, server: Address, port: int = 0) -> AsyncIterator[Phone]:
    phone = Phone("101", server, password=PASSWORD, does=Answers(0.05))
    phone.plug(partial(UdpTransport.open, Address(host, port)))
    try:
        yield phone
    finally:
        phone.close()


@dataclass
class Stage:
    """The system, an operator, and a registered phone."""

    system: System
    operator: Phone
    desk: Phone

    @property
    def media(self) -> EmbeddedPlane:
        assert isinstance(self.system.switchboard.media, EmbeddedPlane)
        return self.system.switchboard.media

    async def call(self, within: float = SOON) -> PhoneCall:
        """From outside, answered."""
        return await answered(self.operator, within)

    async def is_quiet(self) -> bool:
        """The last call's ports are free."""
        return not self.system.switchboard.live_calls()

    async def records(self, count: int) -> list[CallRecord]:
        async def there() -> list[CallRecord] | None:
            records = await self.system.store.calls.last_calls()
            return records if len(records) >= count else None

        records = await until(there)
        assert len(records) == count
        return records


@asynccontextmanager
async def stage(home: Path, crm_url: str | None = None, **options: object) -> AsyncIterator[Stage]:
    async with (
        running(settings(home, **options)) as system,  # type: ignore[arg-type]
        phone_at(OPERATOR, system.sip[0]) as operator,
        phone_at(DESK, system.sip[0]) as desk,
    ):
        await hand_in(system, office(operator.transport.local, crm_url))
        assert (await desk.register()).status == 200
        yield Stage(system, operator, desk)


async def answered(operator: Phone, within: float = SOON) -> PhoneCall:
    call = operator.call(DID, as_=IVAN)
    async with asyncio.timeout(within):
        await call.answered.wait()
    return call


async def over(*calls: PhoneCall, within: float) -> None:
    async with asyncio.timeout(within):
        for call in calls:
            await call.over.wait()


async def until(look: Callable[[], Awaitable[T | None]]) -> T:
    """What a person does who waits for something in a database, on a page, in another process."""
    async with asyncio.timeout(SOON):
        while not (seen := await look()):  # noqa: ASYNC110 - see above
            await asyncio.sleep(TICK)
    return seen


@asynccontextmanager
async def talking(call: PhoneCall, other: PhoneCall, voices: dict[str, RtpVoice]) -> AsyncIterator[None]:
    """Both sides say their tone while the block lasts."""
    voices["operator"].say_to(Address(*audio_address(call.sdp)))
    voices["desk"].say_to(Address(*audio_address(other.sdp)))
    try:
        yield
    finally:
        for voice in voices.values():
            voice.close()


async def voices_of(operator: Phone, desk: Phone) -> dict[str, RtpVoice]:
    voices = {"operator": await RtpVoice.open(OPERATOR, 440), "desk": await RtpVoice.open(DESK, 800)}
    operator.rtp_port, desk.rtp_port = voices["operator"].port, voices["desk"].port
    return voices


async def heard(voice: RtpVoice, packets: int) -> None:
    async def enough() -> bool:
        return voice.packets >= packets

    await until(enough)


# -- the media relay


async def test_a_relay_that_is_killed_ends_its_calls_at_once_and_the_next_call_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("b2bua.media.relay.plane.OPEN_PATIENCE", 10.0)      # until it has been started again
    async with stage(tmp_path) as on:
        call = await on.call()
        pid = on.media.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await over(call, on.desk.calls[0], within=PROMPTLY)
        call = await on.call()
        call.hang_up()
        second, first = await on.records(2)
    assert (first.disposition, first.reason) == (Disposition.ANSWERED, EndReason.MEDIA_TIMEOUT)
    assert "hung up: the media relay is being started again" in first.why
    assert second.reason is EndReason.HUNG_UP


async def test_a_relay_is_deaf_to_the_signal_that_a_service_manager_sends_to_all_processes(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        call = await on.call()
        assert on.media.pid is not None
        relay = psutil.Process(on.media.pid)
        for process in (relay, *relay.children()):
            process.terminate()
        voices = await voices_of(on.operator, on.desk)
        async with talking(call, on.desk.calls[0], voices):
            call.offer("sendrecv")         # now with the ports of the voices
            on.desk.calls[0].offer("sendrecv")
            await heard(voices["desk"], 10)
        assert not call.over.is_set()
        call.hang_up()


async def test_silence_on_both_sides_ends_a_call_but_not_while_it_is_on_hold(tmp_path: Path) -> None:
    async with stage(tmp_path, rtp_timeout=1, hold_timeout=3) as on:
        loop = asyncio.get_running_loop()
        on_hold, began = await on.call(), loop.time()
        on.desk.calls[0].offer("sendonly")
        silent = await on.call()
        await over(silent, on.desk.calls[1], within=PROMPTLY)
        assert loop.time() - began >= 1.0
        assert not on_hold.over.is_set()
        await over(on_hold, on.desk.calls[0], within=PROMPTLY)
        assert loop.time() - began >= 3.0
        assert {record.reason for record in await on.records(2)} == {EndReason.MEDIA_TIMEOUT}


async def test_a_disk_that_takes_no_more_ends_the_recording_and_not_the_call(tmp_path: Path) -> None:
    async with running_sandbox(SEED, CRM_HOST) as crm, stage(tmp_path, crm.base_url) as on:
        relay = psutil.Process(on.media.pid)
        (writer,) = relay.children()
        resource.prlimit(writer.pid, resource.RLIMIT_FSIZE, (10, 10))
        voices = await voices_of(on.operator, on.desk)
        call = await on.call()
        async with talking(call, on.desk.calls[0], voices):
            async def stopped() -> bool:
                return on.media.counts.recordings_stopped == 1

            with capture_logs() as logs:
                await until(stopped)
            await heard(voices["desk"], voices["desk"].packets + 10)
            await heard(voices["operator"], voices["operator"].packets + 10)
        assert not call.over.is_set()
        call.hang_up()
        (record,) = await on.records(1)
        (entry,) = await notes(crm, 1)
        assert record.recording is not None
        assert (await recording(on.system, record.recording, RecordingStage.FAILED)).problem
    assert (entry.uniq, entry.link) == (record.id, None)
    (alarm,) = [line for line in logs if line["event"] == "recording stopped"]
    assert (alarm["log_level"], alarm["why"]) == ("error", "File too large")
    assert "the call goes on" in alarm["remedy"]


async def recording(system: System, wanted: str, stage: RecordingStage) -> Recording:
    async def settled() -> Recording | None:
        known = await system.store.recordings.get(wanted)
        return known if known is not None and known.stage is stage else None

    return await until(settled)


# -- the other side


async def test_an_answer_that_makes_no_sense_leaves_no_leg_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path) as on:
        with monkeypatch.context() as operator:
            operator.setattr(on.operator, "sdp", lambda direction: b"")        # an INVITE without an offer
            operator.setattr(on.operator, "answer_to", lambda offer: b"no session description")
            call = on.operator.call(DID, as_=IVAN)
            await over(call, within=PROMPTLY)
        await over(on.desk.calls[0], within=PROMPTLY)
        call = await on.call()
        monkeypatch.setattr(on.operator, "answer_to", lambda offer: b"no session description")
        on.operator.do(call.session.reoffer(b"", on.operator.now()))
        await over(call, on.desk.calls[1], within=PROMPTLY)
        later, first = await on.records(2)
        assert on.system.switchboard.counters.faults == 0
        assert (first.reason, later.reason) == (EndReason.NO_COMMON_CODEC, EndReason.PROTOCOL_ERROR)


async def test_a_caller_who_leaves_while_a_name_is_looked_up_leaves_no_phone_ringing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names()
    names.answers = asyncio.Event()
    monkeypatch.setattr(b2bua.app, "SystemDns", lambda _: names)
    async with stage(tmp_path) as on:
        directory = office(on.operator.transport.local)
        slow = replace(directory.extensions[0], number="102", login="102", address="sip:102@phone.example")
        group = Group(ACME, "600", ("101", "102"))
        number = replace(directory.numbers[0], destination="600")
        await hand_in(on.system, replace(
            directory, extensions=(*directory.extensions, slow), groups=(group,), numbers=(number,)
        ))
        on.desk.does = Rings()
        call = on.operator.call(DID, as_=IVAN)

        async def rings() -> bool:
            return bool(on.desk.calls)

        await until(rings)
        assert names.asked
        call.hang_up()
        await over(on.desk.calls[0], within=PROMPTLY)
        names.answers.set()


# -- the database


async def test_a_locked_database_holds_up_no_call_and_loses_and_doubles_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 2 * SOON)          # who waited for the database would be seen
    async with running_sandbox(SEED, CRM_HOST) as crm, stage(tmp_path, crm.base_url) as on:
        async with locked(tmp_path / "smartswitch.db"):
            for _ in range(4):             # twice as many as client and trunk may have at once
                call = await on.call(within=SOON)
                call.hang_up()
                await over(on.desk.calls[-1], within=SOON)
                await until(on.is_quiet)
        await on.records(4)
        assert len({entry.uniq for entry in await notes(crm, 4)}) == 4
        for record in await on.records(4):
            assert record.recording is not None
            await recording(on.system, record.recording, RecordingStage.FAILED)    # nobody said anything


async def test_the_end_of_the_switch_waits_for_no_database_and_the_next_start_has_the_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.2)
    monkeypatch.setattr(switchboard, "LAST_RECORDS", 0.2)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as lock:
        async with stage(tmp_path) as on:
            call = await on.call()
            await lock.enter_async_context(locked(tmp_path / "smartswitch.db"))
            call.hang_up()
            await over(on.desk.calls[0], within=PROMPTLY)
            began = loop.time()
        assert loop.time() - began < 10
    async with stage(tmp_path) as on:
        (record,) = await on.records(1)
    assert record.disposition is Disposition.ANSWERED


async def test_postgresql_stopped_and_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SPILL_AFTER", 0.5)
    monkeypatch.setattr(journal, "RETRY_SECONDS", (0.1,))
    with running_cluster() as cluster:
        await migrate(cluster.url("postgres"))
        async with (
            running_sandbox(SEED, CRM_HOST) as crm,
            stage(tmp_path, crm.base_url, database=cluster.url("postgres")) as on,
        ):
            cluster.stop()
            for _ in range(3):
                call = await on.call(within=PROMPTLY)
                call.hang_up()
                await until(on.is_quiet)

            async def spilled() -> bool:
                return on.system.store.calls.spilled >= 3

            await until(spilled)
            await asyncio.to_thread(cluster.start)
            call = await on.call(within=PROMPTLY)
            call.hang_up()
            records = await on.records(4)
            entries = await notes(crm, 4)
        assert {entry.uniq for entry in entries} == {record.id for record in records}


@asynccontextmanager
async def locked(database: Path) -> AsyncIterator[None]:
    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as other:
        while not other.in_transaction:
            try:
                other.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                await asyncio.sleep(0.01)  # the system is writing, and needs this loop to come to its end
        yield
        other.execute("ROLLBACK")


# -- the CRM


async def notes(crm: Sandbox, count: int) -> list[CallEntry]:
    async def there() -> bool:
        return len(crm.state.calls()) >= count

    await until(there)
    return crm.state.calls()


FAULTS = {
    "slow": Fault(delay=10),
    "500": Fault(act=Act.ANSWER, status=500),
    "429": Fault(act=Act.ANSWER, status=429),
    "revoked": Fault(act=Act.ANSWER, status=401),
    "answer lost": Fault(method="POST", path="/api/v4/calls", act=Act.RESET, committed=True, times=2),
    "no answer": Fault(method="GET", act=Act.SILENCE),
}


HARMS_ONLY_QUESTIONS = ("slow", "no answer")


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_ill_crm_holds_up_no_call_and_gets_each_note_once(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "FIRST_RETRY", 0.2)
    monkeypatch.setattr(outbox, "UNAUTHORIZED_RETRY", 0.3)
    monkeypatch.setattr(access, "FIRST_REST", 0.3)
    async with running_sandbox(SEED, CRM_HOST) as crm, stage(tmp_path, crm.base_url) as on:
        crm.state.faults.add(replace(FAULTS[fault]))
        for _ in range(2):
            call = await on.call(within=PROMPTLY)
            call.hang_up()
            await over(on.desk.calls[-1], within=PROMPTLY)

        async def felt() -> bool:
            return on.system.outbox.counts.retried >= 1 or fault in HARMS_ONLY_QUESTIONS

        await until(felt)
        records = await on.records(2)
        crm.state.faults.clear()
        entries = await notes(crm, 2)
        await nothing_owed(on.system)
        assert len(crm.state.calls()) == 2
    assert {(entry.uniq, entry.created_at) for entry in entries} == {
        (record.id, int(record.started_at.timestamp())) for record in records
    }


async def test_a_crm_that_is_not_there_gets_its_notes_when_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "FIRST_RETRY", 0.2)
    async with running_sandbox(SEED, CRM_HOST) as gone:
        url = gone.base_url
    async with stage(tmp_path, url) as on:
        call = await on.call(within=PROMPTLY)
        call.hang_up()
        (record,) = await on.records(1)
        async with running_sandbox(SEED, CRM_HOST, int(url.rpartition(":")[2])) as crm:
            (entry,) = await notes(crm, 1)
            await nothing_owed(on.system)
            assert len(crm.state.calls()) == 1
    assert (entry.uniq, entry.created_at) == (record.id, int(record.started_at.timestamp()))


async def nothing_owed(system: System) -> None:
    async def done() -> bool:
        return (await system.store.outbox.backlog()).pending == 0

    await until(done)


# -- the daemon as a process

# A row that a dead daemon had claimed comes back after its lease: two minutes, and here one second.
SERVE = (
    "import datetime, b2bua.crm.outbox as o, b2bua.__main__ as m; o.LEASE = datetime.timedelta(seconds=1); m.main()"
)
CONFIG = """
[server]
data_dir = "{home}/var"
drain_seconds = 1
[media]
host = "{host}"
port_min = 22000
port_max = 22999
[web]
host = "{host}"
port = {web}
[log]
level = "info"
[[sip.listen]]
host = "{host}"
port = {sip}
[database]
url = "{database}"
"""


@dataclass
class Daemon:
    process: subprocess.Popen[bytes]
    family: list[psutil.Process]           # relay, writer

    async def ended(self, within: float) -> int:
        """Its exit status, when it and all its processes are gone."""
        self.family += [one for one in self._children() if one not in self.family]
        status = await asyncio.to_thread(self.process.wait, within)
        _, left = await asyncio.to_thread(psutil.wait_procs, self.family, 5)
        assert not left
        return status

    async def kill(self) -> None:
        self.process.kill()
        assert await self.ended(5) == -signal.SIGKILL

    def terminate(self) -> None:
        self.family += [one for one in self._children() if one not in self.family]
        self.process.terminate()

    def _children(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []


@asynccontextmanager
async def daemon(home: Path, database: str = "") -> AsyncIterator[Daemon]:
    config = home / "smartswitch.toml"
    url = database or sqlite_of(home)
    config.write_text(CONFIG.format(home=home, host=HERE, web=WEB_PORT, sip=SIP_PORT, database=url))
    command = [sys.executable, "-c", SERVE, "serve", "--config", str(config)]
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    served = Daemon(process, [])
    try:
        async with httpx.AsyncClient(base_url=f"http://{HERE}:{WEB_PORT}") as browser:
            async def ready() -> bool:
                assert process.poll() is None, (home / "log").read_text()
                with suppress(httpx.HTTPError):
                    return (await browser.get("/readyz")).status_code == 200
                return False

            await until(ready)
        served.family = served._children()
        yield served
    finally:
        for one in (*served._children(), *served.family):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.kill()
        process.wait()


def sqlite_of(home: Path) -> str:
    return f"sqlite+aiosqlite:///{home}/var/smartswitch.db"


@asynccontextmanager
async def people(home: Path, crm_url: str | None = None, database: str = "") -> AsyncIterator[tuple[Phone, Phone]]:
    """Operator and desk phone of a daemon whose directory is already there when it starts."""
    server = Address(HERE, SIP_PORT)
    async with phone_at(OPERATOR, server) as operator, phone_at(DESK, server) as desk:
        (home / "var").mkdir()
        await migrate(database or sqlite_of(home))
        async with books(home, database) as store:
            old, generation = await store.directory.load()
            await store.directory.replace(old, office(operator.transport.local, crm_url), generation)
        yield operator, desk


@asynccontextmanager
async def books(home: Path, database: str = "") -> AsyncIterator[Store]:
    settings = Settings(server=ServerSettings(data_dir=home / "var"))       # the daemon's, whose keys these are
    async with open_store(database or sqlite_of(home), sealer=open_sealer(settings)) as store:
        yield store


async def test_a_recording_survives_the_death_of_the_daemon_up_to_the_last_second(tmp_path: Path) -> None:
    async with people(tmp_path) as (operator, desk), AsyncExitStack() as talk:
        voices = await voices_of(operator, desk)
        async with daemon(tmp_path) as first:
            assert (await desk.register()).status == 200
            call = await answered(operator)
            await talk.enter_async_context(talking(call, desk.calls[0], voices))
            await heard(voices["desk"], 100)           # two seconds
            said = voices["desk"].packets / 50
            await first.kill()
        async with daemon(tmp_path) as second:
            async with books(tmp_path) as store:
                async def made() -> Path | None:
                    return next((tmp_path / "var").rglob("*.mp3"), None)

                mp3 = await until(made)

                async def known() -> Recording | None:
                    found = await store.recordings.get(mp3.stem)
                    return found if found is not None and found.stage is RecordingStage.READY else None

                told = await until(known)
            assert (await desk.register()).status == 200
            again = await answered(operator)           # and the next call is as any other
            again.hang_up()
            second.terminate()
            assert await second.ended(8) == 0
        left, right = decode(mp3)
        assert told.seconds >= said - 1.0
        assert len(left) / 8000 >= said - 1.0
        assert abs(right).max() > 1000
        assert (tmp_path / "var" / told.path).exists() or mp3.exists()


@pytest.mark.patience(180)                # it starts up to four daemons
@pytest.mark.parametrize("deaths", [1, 2])
async def test_a_call_that_was_up_when_the_daemon_died_is_closed_once_and_its_phones_are_told(
    tmp_path: Path, database_url: str, deaths: int
) -> None:
    """`deaths`: the next one dies as well, at some moment of its start."""
    async with (
        running_sandbox(SEED, CRM_HOST) as crm, people(tmp_path, crm.base_url, database_url) as (operator, desk),
        books(tmp_path, database_url) as store,
    ):
        voices = await voices_of(operator, desk)
        async with daemon(tmp_path, database_url) as first:
            assert (await desk.register()).status == 200
            call = await answered(operator)
            async with talking(call, desk.calls[0], voices):
                await heard(voices["desk"], 50)

                async def written_down() -> bool:
                    async with open_database(database_url) as database, database.reading() as connection:
                        return bool((await connection.execute(text("SELECT count(*) FROM standing_calls"))).scalar())

                await until(written_down)
                died_at = datetime.now(UTC)
                await first.kill()
        for _ in range(deaths - 1):
            async with daemon(tmp_path, database_url) as next_one:
                await next_one.kill()
        async with daemon(tmp_path, database_url) as last:
            await over(call, desk.calls[0], within=PROMPTLY)

            async def closed() -> list[CallRecord]:
                return await store.calls.last_calls()

            (record,) = await until(closed)
            (entry,) = await notes(crm, 1)
            last.terminate()
            assert await last.ended(8) == 0
        async with daemon(tmp_path, database_url) as after_that:
            after_that.terminate()
            assert await after_that.ended(8) == 0
        assert [one.id for one in await store.calls.last_calls()] == [record.id]
        assert [one.uniq for one in crm.state.calls()] == [record.id]
    assert (record.disposition, record.reason) == (Disposition.ANSWERED, EndReason.RESTARTED)
    assert record.answered_at is not None
    assert record.started_at <= record.answered_at <= record.ended_at
    assert abs(record.ended_at - died_at) < timedelta(seconds=BEAT_EVERY + SAVED_EVERY + 1)
    assert record.recording is not None
    assert (entry.uniq, entry.created_at) == (record.id, int(record.started_at.timestamp()))
    assert entry.link is not None
    assert "BYE" in call.ladder()


async def test_a_note_whose_answer_the_daemon_did_not_live_to_see_is_not_written_twice(tmp_path: Path) -> None:
    async with running_sandbox(SEED, CRM_HOST) as crm, people(tmp_path, crm.base_url) as (operator, desk):
        async with daemon(tmp_path) as first:
            assert (await desk.register()).status == 200
            crm.state.faults.add(Fault(method="POST", path="/api/v4/calls", act=Act.SILENCE, committed=True))
            call = await answered(operator)
            call.hang_up()
            (entry,) = await notes(crm, 1)
            await first.kill()
        crm.state.faults.clear()
        async with daemon(tmp_path) as second, books(tmp_path) as store:
            async def done() -> bool:
                return (await store.outbox.backlog()).pending == 0

            await until(done)
            assert [one.uniq for one in crm.state.calls()] == [entry.uniq]
            second.terminate()
            assert await second.ended(8) == 0


@pytest.mark.parametrize("moment", ["ringing", "talking", "delivering"])
async def test_sigterm_ends_everything_in_time_whatever_goes_on(tmp_path: Path, moment: str) -> None:
    async with running_sandbox(SEED, CRM_HOST) as crm, people(tmp_path, crm.base_url) as (operator, desk):
        async with daemon(tmp_path) as served:
            assert (await desk.register()).status == 200
            if moment == "ringing":
                desk.does = Rings()
                call = operator.call(DID, as_=IVAN)
                await call.rang.wait()
            else:
                call = await answered(operator)
            if moment == "delivering":
                crm.state.faults.add(Fault(method="POST", path="/api/v4/calls", delay=1))
                call.hang_up()

                async def under_way() -> bool:
                    return bool(crm.state.journal.of("POST", "/api/v4/calls"))

                await until(under_way)
            served.terminate()
            assert await served.ended(1 + 7) == 0
            await over(call, desk.calls[0], within=PROMPTLY)
        async with books(tmp_path) as store:
            (record,) = await store.calls.last_calls()
            owed = (await store.outbox.backlog()).pending
    expected = EndReason.HUNG_UP if moment == "delivering" else EndReason.SHUTDOWN
    assert record.reason is expected
    assert owed + len(crm.state.calls()) >= 1


# -- the trunk


class Names:
    """A name server that knows what it is told."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.down = False
        self.asked = False
        self.answers: asyncio.Event | None = None      # when to

    async def query(self, name: str, kind: str) -> DnsAnswers:
        self.asked = True
        if self.answers is not None:
            await self.answers.wait()
        if self.down:
            raise DnsFailure("no name server answers")
        found = (self.known[name],) if kind == "A" and name in self.known else ()
        return DnsAnswers(found, 0.0)


async def test_a_trunk_that_is_away_is_told_so_and_calls_go_out_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names()
    monkeypatch.setattr(b2bua.app, "SystemDns", lambda _: names)
    monkeypatch.setattr(trunks, "PING_EVERY", 0.2)
    monkeypatch.setattr(trunks, "PING_WHEN_DOWN", 0.1)
    monkeypatch.setattr(trunks, "RESOLVE_EVERY", 0.0)
    async with stage(tmp_path) as on:
        port = on.operator.transport.local.port
        directory = office(Address("operator.example", port))
        await hand_in(on.system, directory)

        def state() -> tuple[bool, str]:
            (trunk,) = on.system.switchboard.trunk_states()
            return trunk.up, trunk.detail

        async def says(up: bool, detail: str) -> bool:
            return state() == (up, detail)

        await until(partial(says, False, "no address for operator.example"))
        call = on.desk.call("+79031112233")
        await over(call, within=PROMPTLY)
        (record,) = await on.records(1)
        assert "operator is not reachable now: no address for operator.example" in record.why
        names.known["operator.example"] = OPERATOR
        await until(partial(says, True, "answers OPTIONS"))
        on.operator.close()
        await until(partial(says, False, "no answer to OPTIONS"))
        call = on.desk.call("+79031112233")
        await over(call, within=PROMPTLY)
        assert "operator: transport failed" in (await on.records(2))[0].why
        async with phone_at(OPERATOR, on.system.sip[0], port) as back:
            await until(partial(says, True, "a call failed there lately; answers OPTIONS"))
            names.down = True              # what was found once is kept
            call = on.desk.call("+79031112233")
            async with asyncio.timeout(5):
                await call.answered.wait()
            assert back.calls
            call.hang_up()
            await on.records(3)
