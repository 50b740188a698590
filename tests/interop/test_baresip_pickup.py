"""Real phones pick up: one baresip rings, another dials the code, and the caller and it hear each other."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from b2bua.net.udp import UdpTransport
from b2bua.sip.effects import Address
from tests.sipp.office import DID, OFFICE, PASSWORD
from tests.support import baresip
from tests.support.baresip import Baresip, running_baresip
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.phone import Phone
from tests.support.rtp import audio_address
from tests.support.tone import PCMA, is_tone, rtp_tone
from tests.support.voice import hears

pytestmark = pytest.mark.skipif(not baresip.available, reason="baresip is not installed (Debian: baresip-core)")

SPOKEN_OUTSIDE, SPOKEN_BY_PICKER, SPOKEN_BY_OTHER = 440.0, 1000.0, 1500.0     # Hz
IVAN = "+79161237788"
GROUP = """
[[client.group]]
number = "600"
members = ["101", "103"]
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    addresses = Addresses.of_this_process()
    office = OFFICE.format(trunk=addresses.trunk) + GROUP
    with running_daemon(tmp_path_factory.mktemp("daemon"), addresses, office) as daemon:
        yield daemon


@asynccontextmanager
async def desk(
    daemon: Daemon, home: Path, number: str, frequency: float, *, answers: bool = True, contacts: str = ""
) -> AsyncIterator[Baresip]:
    async with running_baresip(
        home / number, daemon.addresses.phone(number), daemon.sip, user=number, login=f"office-{number}",
        password=PASSWORD, frequency=frequency, answers=answers,
        contacts=contacts,
    ) as phone:
        async with asyncio.timeout(10):
            await phone.event("REGISTER_OK")
        yield phone


@pytest.mark.parametrize("code", ["**101", "*8"])
async def test_a_phone_takes_what_rings_at_another(daemon: Daemon, tmp_path: Path, code: str) -> None:
    addresses = daemon.addresses
    caller = IVAN[:-1] + str(len(code))
    async with (
        rtp_tone(addresses.trunk, SPOKEN_OUTSIDE, PCMA) as outside,
        desk(daemon, tmp_path, "101", SPOKEN_BY_OTHER, answers=False) as ringing,
        desk(daemon, tmp_path, "103", SPOKEN_BY_PICKER) as picker,
    ):
        trunk = Phone("operator", Address(addresses.daemon, 5060), rtp_port=outside.local.port,
                      seed=secrets.randbits(32))
        trunk.plug(partial(UdpTransport.open, Address(addresses.trunk, 5060)))
        try:
            async with asyncio.timeout(30):
                call = trunk.call(DID, as_=caller)
                await ringing.event("CALL_INCOMING")
                await call.rang.wait()
                await picker.tell("dial", code)
                await picker.event("CALL_ESTABLISHED")
                await call.answered.wait()
                await ringing.event("CALL_CLOSED")
                outside.remote = Address(*audio_address(call.sdp))
                await outside.hears(0.5)
                heard_outside = await outside.hears(1.5)
                await hears(picker, SPOKEN_OUTSIDE)
                call.hang_up()
                await picker.event("CALL_CLOSED")
        finally:
            trunk.close()
    assert is_tone(heard_outside, SPOKEN_BY_PICKER)
    record = daemon.record(caller=caller)
    assert (record["direction"], record["disposition"], record["extension"]) == ("inbound", "answered", "103")
    assert record["recording"] is not None
    log = (daemon.home / "log").read_text(errors="replace")
    assert "Call completed elsewhere" in log


async def test_a_phone_that_asks_for_presence_is_refused_and_works_on(daemon: Daemon, tmp_path: Path) -> None:
    contacts = f'"Boris" <sip:102@{daemon.sip}>;presence=p2p\n'
    async with desk(daemon, tmp_path, "103", SPOKEN_BY_PICKER, contacts=contacts) as phone, asyncio.timeout(30):
        while "489 Bad Event" not in (daemon.home / "log").read_text(errors="replace"):      # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await phone.tell("dial", "**102")
        await phone.event("CALL_CLOSED")
    assert daemon.record(caller="103", dialled="**102")["status"] == 480
    log = (daemon.home / "log").read_text(errors="replace")
    assert "Event: presence" in log
    assert "Allow-Events: dialog" in log
