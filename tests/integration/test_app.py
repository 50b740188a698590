"""The whole system in one process, on real sockets, a real database and a real relay."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from b2bua.__main__ import cli
from b2bua.app import System, running
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
from b2bua.directory import Client, Directory, Extension, Number, Trunk
from b2bua.net.udp import UdpTransport
from b2bua.sip.auth import ha1
from b2bua.sip.effects import Address
from tests.support.certificates import Authority, ip
from tests.support.phone import Answers, Behaviour, Phone, Rings

pytestmark = pytest.mark.both_loops

BLOCK = os.getpid() % 250 + 2              # a corner of 127.0.0.0/8 that no other run on this machine uses
HERE, TRUNK, DESK = f"127.{BLOCK}.11.1", f"127.{BLOCK}.12.1", f"127.{BLOCK}.13.1"
ACME = ClientId("acme")
DID, IVAN = "+74951112233", "+79161234567"
PASSWORD = "secret-of-a-phone"


def settings(home: Path, *, sip_port: int = 0, database: str | None = None) -> Settings:
    return Settings(
        server=ServerSettings(data_dir=home, drain_seconds=1),
        sip=SipSettings(listen=(Listener(transport="udp", host=HERE, port=sip_port),)),
        media=MediaSettings(host=HERE, port_min=21000, port_max=21999),
        web=WebSettings(host=HERE, port=0),
        database=DatabaseSettings(url=SecretStr(database) if database else None),
        log=LogSettings(level="error"),
    )


def office(trunk_port: int) -> Directory:
    hashes = {name: ha1(name, "101", "smartswitch", PASSWORD) for name in ("MD5", "SHA-256")}
    return Directory(
        clients=(Client(ACME, "Acme"),),
        extensions=(Extension(ACME, "101", "101", hashes),),
        trunks=(Trunk(ACME, "operator", TRUNK, trunk_port),),
        numbers=(Number(ACME, DID, "101", ring_seconds=5),),
    )


@asynccontextmanager
async def phone_at(host: str, server: Address, does: Behaviour, password: str = "") -> AsyncIterator[Phone]:
    phone = Phone("101", server, password=password, does=does).plug(partial(UdpTransport.open, Address(host, 0)))
    try:
        yield phone
    finally:
        phone.close()


async def hand_in(system: System, directory: Directory) -> None:
    old, generation = await system.store.directory.load()
    await system.store.directory.replace(old, directory, generation)
    await system.switchboard.settings_changed()


async def the_record(system: System) -> CallRecord:
    async with asyncio.timeout(10):
        while not (records := await system.store.calls.last_calls()):  # noqa: ASYNC110 - as a person looks
            await asyncio.sleep(0.02)
    return records[0]


async def test_a_call_from_a_trunk_to_a_registered_phone_ends_up_in_the_books(
    tmp_path: Path, database_url: str
) -> None:
    async with (
        running(settings(tmp_path, database=database_url)) as system,
        phone_at(TRUNK, system.sip[0], Answers()) as trunk,
        phone_at(DESK, system.sip[0], Answers(after=0.05), PASSWORD) as desk,
    ):
        await hand_in(system, office(trunk.transport.local.port))
        assert (await desk.register()).status == 200
        call = trunk.call(DID, as_=IVAN)
        await call.answered.wait()
        assert len(system.switchboard.live_calls()) == 1
        call.hang_up()
        record = await the_record(system)
        assert (record.disposition, record.extension, record.caller) == (Disposition.ANSWERED, "101", IVAN)
        assert record.recording is not None


async def test_the_command_line_explains_what_would_happen(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as system, phone_at(DESK, system.sip[0], Answers(), PASSWORD) as desk:
        await hand_in(system, office(5060))
        assert (await desk.register()).status == 200
        environment = {"SMARTSWITCH_SERVER__DATA_DIR": str(tmp_path), "SMARTSWITCH_WEB__HOST": system.web.host,
                       "SMARTSWITCH_WEB__PORT": str(system.web.port)}

        async def explained(*words: str) -> Result:
            with capture_logs():               # the system, in this process, would log between the lines of the command
                return await asyncio.to_thread(CliRunner().invoke, cli, ["explain", *words], env=environment)

        told = await explained("--client", "acme", "--from", IVAN, "--to", "8 495 111-22-33")
        assert told.stdout.splitlines() == ["inbound call", f"1. {DID} goes to 101", "   rings 101 for 5 s"]
        refused = await explained("--client", "acme", "--from", "101", "--to", "nobody", "--json")
        assert json.loads(refused.stdout)["status"] == 404
        unknown = await explained("--client", "nobody", "--from", "101", "--to", "102")
        assert (unknown.exit_code, "There is no client 'nobody'" in unknown.stderr) == (1, True)


async def test_the_web_server_speaks_tls_by_its_own_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("pbx", *ip(HERE))
    web = WebSettings(host=HERE, port=0, certificate=files.certificate, certificate_key=files.key)
    wanted = settings(tmp_path / "data").model_copy(update={"web": web})
    trusting = ssl.create_default_context(cafile=str(authority.file))
    async with running(wanted) as system, httpx.AsyncClient(verify=trusting, trust_env=False) as browser:
        metrics = await browser.get(f"https://{HERE}:{system.web.port}/metrics")
        assert f'smartswitch_certificate_expiry_timestamp_seconds{{file="{files.certificate}"}}' in metrics.text


@pytest.mark.parametrize(("of_trunk", "of_phone"), [(0, 1), (1, 0)])
async def test_with_two_listeners_each_is_served_by_its_own(tmp_path: Path, of_trunk: int, of_phone: int) -> None:
    wanted = settings(tmp_path)
    listeners = tuple(Listener(transport="udp", host=host, port=0) for host in (HERE, f"127.{BLOCK}.11.2"))
    wanted = wanted.model_copy(update={"sip": SipSettings(listen=listeners)})
    async with (
        running(wanted) as system,
        phone_at(TRUNK, system.sip[of_trunk], Answers()) as trunk,
        phone_at(DESK, system.sip[of_phone], Answers(after=0.05), PASSWORD) as desk,
    ):
        await hand_in(system, office(trunk.transport.local.port))
        assert (await desk.register()).status == 200
        call = trunk.call(DID, as_=IVAN)
        await call.answered.wait()
        assert desk.calls[0].session.flow.remote == system.sip[of_phone]
        assert call.session.flow.remote == system.sip[of_trunk]
        contact = desk.calls[0].session.invite.contact
        assert contact is not None
        assert (contact.uri.host, contact.uri.port) == system.sip[of_phone]
        call.hang_up()
        assert (await the_record(system)).disposition is Disposition.ANSWERED


async def test_a_phone_is_reachable_after_a_restart_without_registering_again(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as system:
        server = system.sip[0]
        async with phone_at(TRUNK, server, Answers()) as trunk, phone_at(DESK, server, Answers(0.05), PASSWORD) as desk:
            await hand_in(system, office(trunk.transport.local.port))
            assert (await desk.register()).status == 200
            desk_address = desk.transport.local
    async with running(settings(tmp_path, sip_port=server.port)) as system:
        desk = Phone("101", server, does=Answers(0.05)).plug(partial(UdpTransport.open, desk_address))
        async with phone_at(TRUNK, server, Answers()) as trunk:
            call = trunk.call(DID, as_=IVAN)
            await call.answered.wait()
            call.hang_up()
            await the_record(system)
        desk.close()


async def test_a_change_of_the_directory_by_another_process_is_taken_over(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as system, phone_at(TRUNK, system.sip[0], Answers()) as trunk:
        old, generation = await system.store.directory.load()
        await system.store.directory.replace(old, office(trunk.transport.local.port), generation)
        async with asyncio.timeout(10):
            while not system.switchboard.directory.clients:  # noqa: ASYNC110 - what another process sees
                await asyncio.sleep(0.05)
        assert system.switchboard.directory.numbers[0].number == DID


async def test_the_end_of_the_system_hangs_up_and_is_told_in_the_books(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as system:
        server = system.sip[0]
        async with phone_at(TRUNK, server, Answers()) as trunk, phone_at(DESK, server, Answers(0.05), PASSWORD) as desk:
            await hand_in(system, office(trunk.transport.local.port))
            await desk.register()
            call = trunk.call(DID, as_=IVAN)
            await call.answered.wait()
            await system.switchboard.drain(0)
            record = await the_record(system)
            await call.over.wait()
    assert record.reason is EndReason.SHUTDOWN
    assert record.disposition is Disposition.ANSWERED


async def test_junk_from_strangers_gets_no_answer_and_does_no_harm(tmp_path: Path) -> None:
    rng = random.Random(7)
    async with running(settings(tmp_path)) as system:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind((f"127.{BLOCK}.14.1", 0))
            stranger.setblocking(False)
            for size in (0, 1, 2, 4, 500, 1500, 60_000):
                stranger.sendto(rng.randbytes(size), system.sip[0])
                stranger.sendto(b"OPTIONS sip:x@y SIP/2.0\r\n" + rng.randbytes(size), system.sip[0])
            stranger.sendto(
                b"OPTIONS sip:100@1.1.1.1 SIP/2.0\r\nVia: SIP/2.0/UDP 1.2.3.4;branch=z9hG4bKx\r\n"
                b"From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: scan\r\nCSeq: 1 OPTIONS\r\n"
                b"User-Agent: friendly-scanner\r\n\r\n",
                system.sip[0],
            )
            async with httpx.AsyncClient() as browser:
                health = await browser.get(f"http://{HERE}:{system.web.port}/healthz")
            assert health.status_code == 200
            with pytest.raises(BlockingIOError):
                stranger.recv(65535)
        assert system.agent.counters.malformed > 5
        assert system.agent.counters.faults == 0
        assert system.agent.core.session_count == 0


async def test_a_call_from_a_stranger_is_challenged_and_no_phone_rings(tmp_path: Path) -> None:
    async with (
        running(settings(tmp_path)) as system,
        phone_at(TRUNK, system.sip[0], Answers()) as trunk,
        phone_at(DESK, system.sip[0], Rings(), PASSWORD) as desk,
        phone_at(f"127.{BLOCK}.14.2", system.sip[0], Rings()) as stranger,
    ):
        await hand_in(system, office(trunk.transport.local.port))
        await desk.register()
        call = stranger.call("101")
        await call.over.wait()
        assert call.status == 401
        assert desk.calls == []
        assert await system.store.calls.last_calls() == []


@pytest.mark.parametrize("what", ["sip", "web"])
def test_a_port_that_is_taken_is_one_clear_sentence_and_nothing_is_left_running(tmp_path: Path, what: str) -> None:
    kind = socket.SOCK_DGRAM if what == "sip" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind((HERE, 0))
        if what == "web":
            taken.listen()
        ports = {"sip": 0, "web": 0} | {what: taken.getsockname()[1]}
        config = tmp_path / "smartswitch.toml"
        config.write_text(
            f'[server]\ndata_dir = "{tmp_path}/var"\n[media]\nhost = "{HERE}"\n[web]\nhost = "{HERE}"\n'
            f'port = {ports["web"]}\n[[sip.listen]]\nhost = "{HERE}"\nport = {ports["sip"]}\n'
        )
        command = [sys.executable, "-m", "b2bua", "serve", "--config", str(config)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert str(ports[what]) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.glob("var/*.db"))
