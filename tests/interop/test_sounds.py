"""A real phone hears what the server plays, and who it puts on hold hears music: told by content."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from b2bua.net.udp import UdpTransport
from b2bua.sip.effects import Address
from tests.sipp.office import DID, OFFICE, PASSWORD
from tests.support import baresip
from tests.support.baresip import running_baresip
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.phone import Phone
from tests.support.rtp import audio_address
from tests.support.tone import PCMA, PCMU, RATE, RtpTone, Samples, decode, is_tone, rtp_tone, tone, write_wav

pytestmark = pytest.mark.skipif(not baresip.available, reason="baresip is not installed (Debian: baresip-core)")

ANNOUNCED, WAITING, SPOKEN_OUTSIDE, SPOKEN_BY_PHONE = 600.0, 700.0, 440.0, 1000.0       # Hz
CLOSED = """
[[client.extension]]
number = "109"
password = "correct-horse-battery"
forward_always = "announcement:closed"
"""
CODECS = {"PCMA": PCMA, "PCMU": PCMU}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    addresses, sounds = Addresses.of_this_process(), tmp_path_factory.mktemp("sounds")
    write_wav(sounds / "closed.wav", tone(ANNOUNCED, 3.0))
    write_wav(sounds / "waiting.wav", tone(WAITING, 2.0))
    office = OFFICE.format(trunk=addresses.trunk) + CLOSED
    office = office.replace('name = "Office"', 'name = "Office"\nmusic_on_hold = "waiting"')
    with running_daemon(tmp_path_factory.mktemp("daemon"), addresses, office, sounds=sounds) as daemon:
        yield daemon


async def hears(outside: RtpTone, seconds: float) -> Samples:
    """In the order in which it comes: the numbers of two streams cannot be compared."""
    await outside.hears(seconds)
    return decode(b"".join(payload for _, payload in outside.received), outside.payload_type)


@pytest.mark.parametrize("codec", CODECS)
async def test_a_phone_hears_an_announcement_to_its_end(daemon: Daemon, tmp_path: Path, codec: str) -> None:
    addresses = daemon.addresses
    async with running_baresip(
        tmp_path, addresses.phone("101"), daemon.sip, user="101", login="office-101", password=PASSWORD,
        frequency=SPOKEN_BY_PHONE, codecs=codec,
    ) as phone, asyncio.timeout(30):
        await phone.event("REGISTER_OK")
        await phone.tell("dial", "109")
        await phone.event("CALL_ESTABLISHED")
        await phone.event("CALL_CLOSED")
        samples = phone.heard_since(0)
    sounding = samples[samples != 0]
    assert len(sounding) > 2 * RATE                      # of three seconds; the jitter buffer has its own beginning
    centre = len(sounding) // 2
    assert is_tone(sounding[centre - RATE // 2 : centre + RATE // 2], ANNOUNCED)
    record = daemon.record(dialled="109") if codec == "PCMA" else None
    if record is not None:
        assert (record["disposition"], record["reason"], record["ended_by"], record["status"]) == (
            "unreachable", "announced", "switch", 200)


async def test_who_a_phone_puts_on_hold_hears_music_until_it_resumes(daemon: Daemon, tmp_path: Path) -> None:
    addresses = daemon.addresses
    async with (
        rtp_tone(addresses.trunk, SPOKEN_OUTSIDE) as outside,
        running_baresip(
            tmp_path, addresses.phone("101"), daemon.sip, user="101", login="office-101", password=PASSWORD,
            frequency=SPOKEN_BY_PHONE,
        ) as phone,
        asyncio.timeout(40),
    ):
        server = Address(addresses.daemon, 5060)
        trunk = Phone("operator", server, rtp_port=outside.local.port, seed=secrets.randbits(32))
        trunk.plug(partial(UdpTransport.open, Address(addresses.trunk, 5060)))
        try:
            await phone.event("REGISTER_OK")
            call = trunk.call(DID, as_="+79161234599")
            await call.answered.wait()
            outside.remote = Address(*audio_address(call.sdp))
            await hears(outside, 0.5)
            assert is_tone(await hears(outside, 1.0), SPOKEN_BY_PHONE)
            await phone.tell("hold")
            await hears(outside, 1.0)                    # the last of the phone, a pause, and the first of the music
            on_hold = await hears(outside, 1.0)
            assert call.direction == "sendonly"
            await phone.tell("resume")
            await hears(outside, 1.0)
            resumed = await hears(outside, 1.0)
            call.hang_up()
            await phone.event("CALL_CLOSED")
        finally:
            trunk.close()
    assert is_tone(on_hold, WAITING)
    assert is_tone(resumed, SPOKEN_BY_PHONE)
    record = daemon.record(caller="+79161234599")
    assert (record["disposition"], record["ended_by"]) == ("answered", "caller")
