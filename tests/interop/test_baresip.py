"""A real phone: baresip registers, is called and calls, and both sides hear what the other side says."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from b2bua.net.udp import UdpTransport
from b2bua.sip.effects import Address
from tests.sipp.office import DID, OFFICE, PASSWORD
from tests.support import baresip
from tests.support.baresip import Baresip, running_baresip
from tests.support.certificates import Authority, ip
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.phone import Answers, Phone, PhoneCall
from tests.support.rtp import audio_address
from tests.support.tone import PCMA, PCMU, RtpTone, Samples, is_tone, middle, rtp_tone

pytestmark = pytest.mark.skipif(not baresip.available, reason="baresip is not installed (Debian: baresip-core)")

SPOKEN_OUTSIDE, SPOKEN_BY_PHONE, SPOKEN_BY_COLLEAGUE = 440.0, 1000.0, 1500.0     # Hz
CODECS = {"PCMA": PCMA, "PCMU": PCMU}
TALK = 1.5                                           # seconds of audio that are judged


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Daemon]:
    addresses = Addresses.of_this_process()
    office = OFFICE.format(trunk=addresses.trunk)
    tls = authority.issue("pbx", *ip(addresses.daemon))
    with running_daemon(tmp_path_factory.mktemp("daemon"), addresses, office, tls) as daemon:
        yield daemon


@dataclass(frozen=True)
class Line:
    """baresip at the one end, the outside world at the other."""

    phone: Baresip
    trunk: Phone
    outside: RtpTone

    async def talk(self, call: PhoneCall) -> Samples:
        """Let both sides talk for a while; what the outside heard."""
        self.outside.remote = Address(*audio_address(call.sdp))
        await self.outside.hears(0.5)                # the beginning: latching, jitter buffers
        return await self.outside.hears(TALK)


@asynccontextmanager
async def line(daemon: Daemon, home: Path, codec: str, ca_file: Path | None = None) -> AsyncIterator[Line]:
    """By TLS, when there is a `ca_file`."""
    addresses = daemon.addresses
    trunk_at, server = Address(addresses.trunk, 5060), Address(addresses.daemon, 5060)
    async with (
        rtp_tone(addresses.trunk, SPOKEN_OUTSIDE, CODECS[codec]) as outside,
        running_baresip(
            home, addresses.phone("101"), daemon.sip if ca_file is None else f"{addresses.daemon}:5061", user="101",
            login="office-101", password=PASSWORD, frequency=SPOKEN_BY_PHONE, codec=codec, ca_file=ca_file,
        ) as phone,
    ):
        # One daemon serves all tests: the same seed would make the same Call-ID, and a new call a repeated one.
        trunk = Phone("operator", server, rtp_port=outside.local.port, seed=secrets.randbits(32))
        trunk.plug(partial(UdpTransport.open, trunk_at))
        try:
            async with asyncio.timeout(10):
                await phone.event("REGISTER_OK")
            yield Line(phone, trunk, outside)
        finally:
            trunk.close()


@pytest.mark.parametrize("codec", ["PCMA", "PCMU"])
async def test_a_phone_is_called_from_outside_and_both_hear_each_other(
    daemon: Daemon, tmp_path: Path, codec: str
) -> None:
    caller = f"+791612345{codec == 'PCMA':02}"
    async with line(daemon, tmp_path, codec) as ends, asyncio.timeout(20):
        call = ends.trunk.call(DID, as_=caller)
        await call.answered.wait()
        heard_outside = await ends.talk(call)
        call.hang_up()
        await ends.phone.event("CALL_CLOSED")
        heard_by_phone = ends.phone.heard()
    assert is_tone(heard_outside, SPOKEN_BY_PHONE)
    samples, rate = middle(heard_by_phone)
    assert is_tone(samples, SPOKEN_OUTSIDE, rate)
    record = daemon.record(caller=caller)
    assert (record["disposition"], record["extension"], record["ended_by"]) == ("answered", "101", "caller")
    assert record["recording"] is not None


async def test_a_phone_calls_out_and_hangs_up(daemon: Daemon, tmp_path: Path) -> None:
    async with line(daemon, tmp_path, "PCMA") as ends, asyncio.timeout(20):
        ends.trunk.does = Answers(after=0.2)
        await ends.phone.tell("dial", "+79161110022")
        await ends.phone.event("CALL_ESTABLISHED")
        (call,) = ends.trunk.calls
        heard_outside = await ends.talk(call)
        await ends.phone.tell("hangup")
        await call.over.wait()
        await ends.phone.event("CALL_CLOSED")
        heard_by_phone = ends.phone.heard()
    assert is_tone(heard_outside, SPOKEN_BY_PHONE)
    samples, rate = middle(heard_by_phone)
    assert is_tone(samples, SPOKEN_OUTSIDE, rate)
    record = daemon.record(dialled="+79161110022")
    assert (record["direction"], record["disposition"], record["ended_by"]) == ("outbound", "answered", "caller")


async def test_a_phone_by_tls_is_called_and_calls(daemon: Daemon, authority: Authority, tmp_path: Path) -> None:
    async with line(daemon, tmp_path, "PCMA", authority.file) as ends, asyncio.timeout(30):
        call = ends.trunk.call(DID, as_="+79161230055")
        await call.answered.wait()
        await ends.phone.event("CALL_ESTABLISHED")
        heard_outside = await ends.talk(call)
        call.hang_up()
        await ends.phone.event("CALL_CLOSED")
        ends.trunk.does = Answers(after=0.2)
        await ends.phone.tell("dial", "+79161110055")
        await ends.phone.event("CALL_ESTABLISHED")
        await ends.phone.tell("hangup")
        await ends.trunk.calls[1].over.wait()
    assert is_tone(heard_outside, SPOKEN_BY_PHONE)
    assert daemon.record(caller="+79161230055")["disposition"] == "answered"
    assert daemon.record(dialled="+79161110055")["disposition"] == "answered"
    assert "Require: outbound" in (daemon.home / "log").read_text(errors="replace")


@pytest.mark.parametrize("codec_of_the_target", ["PCMA", "PCMU"])
async def test_a_phone_transfers_and_the_outside_and_the_target_hear_each_other(
    daemon: Daemon, tmp_path: Path, codec_of_the_target: str
) -> None:
    addresses, caller = daemon.addresses, f"+791612346{codec_of_the_target == 'PCMA':02}"
    async with line(daemon, tmp_path / "101", "PCMA") as ends, running_baresip(
        tmp_path / "102", addresses.phone("102"), daemon.sip, user="102", login="office-102", password=PASSWORD,
        frequency=SPOKEN_BY_COLLEAGUE, codec=codec_of_the_target,
    ) as colleague, asyncio.timeout(30):
        await colleague.event("REGISTER_OK")
        call = ends.trunk.call(DID, as_=caller)
        await call.answered.wait()
        heard_before = await ends.talk(call)
        await ends.phone.tell("transfer", f"sip:102@{addresses.daemon}")
        await colleague.event("CALL_ESTABLISHED")
        await ends.phone.event("CALL_CLOSED")
        ends.outside.switch(CODECS[codec_of_the_target])     # the outside is re-INVITEd to what the target speaks
        heard_after = await ends.talk(call)
        call.hang_up()
        await colleague.event("CALL_CLOSED")
        heard_by_colleague = colleague.heard()
    assert f"RTP/AVP {CODECS[codec_of_the_target]}" in call.sdp.decode()
    assert is_tone(heard_before, SPOKEN_BY_PHONE)
    assert is_tone(heard_after, SPOKEN_BY_COLLEAGUE)
    samples, rate = middle(heard_by_colleague)
    assert is_tone(samples, SPOKEN_OUTSIDE, rate)
    record = daemon.record(caller=caller)
    assert (record["disposition"], record["extension"], record["ended_by"]) == ("answered", "102", "caller")


async def test_a_phone_that_was_asked_first_is_joined_with_the_outside(daemon: Daemon, tmp_path: Path) -> None:
    """baresip is asked for an offer in the middle of its call, as the target of an attended transfer."""
    addresses, dialled = daemon.addresses, "+79161110033"
    async with line(daemon, tmp_path, "PCMA") as ends, asyncio.timeout(30):
        ends.trunk.does = Answers(after=0.2)
        server = Address(addresses.daemon, 5060)
        boris = Phone("103", server, login="office-103", password=PASSWORD, seed=secrets.randbits(32))
        boris.plug(partial(UdpTransport.open, Address(addresses.phone("103"), 5060)))
        try:
            assert (await boris.register()).status == 200
            first, second = boris.call(dialled), boris.call("101")
            await first.answered.wait()
            await second.answered.wait()
            (call,) = ends.trunk.calls
            first.refer_to(second)
            await second.over.wait()
            heard_outside = await ends.talk(call)
            await first.over.wait()                  # it does not hang up by itself: we do
            assert first.notified[-1] == ("200 OK", "terminated;reason=noresource")
            await ends.phone.tell("hangup")
            await call.over.wait()
            await ends.phone.event("CALL_CLOSED")
        finally:
            boris.close()
        heard_by_phone = ends.phone.heard()
    assert is_tone(heard_outside, SPOKEN_BY_PHONE)
    samples, rate = heard_by_phone
    assert is_tone(samples[-2 * rate : -rate // 2], SPOKEN_OUTSIDE, rate)
    record = daemon.record(dialled=dialled)
    assert (record["direction"], record["extension"], record["ended_by"]) == ("outbound", "101", "caller")
    assert daemon.record(direction="internal")["reason"] == "transferred"
