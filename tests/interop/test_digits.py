"""Keys between baresip, which has telephone-event (RFC 4733), and an operator who has none and speaks INFO."""

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
from tests.support.phone import Answers, Phone
from tests.support.rtp import audio_address
from tests.support.tone import rtp_tone

pytestmark = pytest.mark.skipif(not baresip.available, reason="baresip is not installed (Debian: baresip-core)")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    addresses = Addresses.of_this_process()
    with running_daemon(tmp_path_factory.mktemp("daemon"), addresses, OFFICE.format(trunk=addresses.trunk)) as daemon:
        yield daemon


@pytest.mark.parametrize("by_trunk", [True, False])
async def test_keys_pass_both_ways(daemon: Daemon, tmp_path: Path, by_trunk: bool) -> None:
    addresses = daemon.addresses
    async with (
        rtp_tone(addresses.trunk, 440.0) as outside,
        running_baresip(tmp_path, addresses.phone("101"), daemon.sip, user="101", login="office-101",
                        password=PASSWORD, frequency=1000.0) as phone,
        asyncio.timeout(30),
    ):
        trunk = Phone("operator", Address(addresses.daemon, 5060), does=Answers(after=0.2),
                      rtp_port=outside.local.port, seed=secrets.randbits(32))
        trunk.has_events = False
        trunk.plug(partial(UdpTransport.open, Address(addresses.trunk, 5060)))
        try:
            await phone.event("REGISTER_OK")
            if by_trunk:
                call = trunk.call(DID, as_="+79161237001")
            else:
                await phone.tell("dial", "+79161117001")
                call = await trunk.was_called()
            await call.answered.wait()
            await phone.event("CALL_ESTABLISHED")
            assert b"telephone-event" not in call.sdp or not by_trunk
            outside.remote = Address(*audio_address(call.sdp))
            await outside.hears(0.5)

            pressed = ""
            for key in "15*":                   # said by INFO, heard in the audio
                call.info(f"Signal={key}\r\nDuration=120\r\n", "application/dtmf-relay")
                pressed += (await phone.event("CALL_DTMF_START"))["param"]
            assert pressed == "15*"
            assert call.responses == [200, 200, 200]

            for count, key in enumerate("470#", 1):     # pressed in the audio, told by INFO
                await phone.tell("sndcode", key)
                while len(call.requests) < count:
                    call.asked.clear()
                    await call.asked.wait()
            keys = [request.body.split()[0] for request in call.requests]
            assert keys == [b"Signal=4", b"Signal=7", b"Signal=0", b"Signal=#"]
            assert outside.keys == ""
            call.hang_up()
            await phone.event("CALL_CLOSED")
        finally:
            trunk.close()
