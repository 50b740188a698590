"""A real phone: baresip. What it says and hears is judged by content both ways, after each change of a call."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from b2bua.net.udp import UdpTransport
from b2bua.sip.effects import Address
from tests.sipp.office import DID, OFFICE, PASSWORD
from tests.support import baresip
from tests.support.baresip import Baresip, running_baresip
from tests.support.certificates import Authority, ip
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.phone import Phone, PhoneCall
from tests.support.tone import PCMA, PCMU, is_tone
from tests.support.voice import Voice, both_hear, voice
from tests.support.web_site import form_token

pytestmark = pytest.mark.skipif(not baresip.available, reason="baresip is not installed (Debian: baresip-core)")

OUTSIDE, PHONE, COLLEAGUE = 440.0, 1000.0, 1500.0    # Hz: who speaks
CODECS = {PCMA: "PCMA/8000", PCMU: "PCMU/8000"}


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
    outside: Voice

    async def called(self, caller: str) -> PhoneCall:
        """From outside, and answered."""
        call = self.outside.line.call(DID, as_=caller)
        await call.answered.wait()
        await self.phone.event("CALL_ESTABLISHED")
        return call

    async def calls(self, number: str) -> PhoneCall:
        await self.phone.tell("dial", number)
        await self.phone.event("CALL_ESTABLISHED")
        return self.outside.line.calls[-1]

    async def both_hear(self, call: PhoneCall) -> None:
        await both_hear(self.phone, self.outside, call)

    async def hang_up(self, call: PhoneCall) -> None:
        await self.phone.tell("hangup")
        await call.over.wait()
        await self.phone.event("CALL_CLOSED")


@asynccontextmanager
async def line(
    daemon: Daemon, home: Path, codecs: str = "PCMA", spoken: int = PCMA, ca_file: Path | None = None
) -> AsyncIterator[Line]:
    """`codecs` are the phone's, `spoken` is the outside's. By TLS, when there is a `ca_file`."""
    addresses = daemon.addresses
    async with (
        voice("operator", Address(addresses.trunk, 5060), Address(addresses.daemon, 5060), OUTSIDE, spoken) as outside,
        running_baresip(
            home, addresses.phone("101"), daemon.sip if ca_file is None else f"{addresses.daemon}:5061", user="101",
            login="office-101", password=PASSWORD, frequency=PHONE, codecs=codecs, ca_file=ca_file,
        ) as phone,
    ):
        async with asyncio.timeout(10):
            await phone.event("REGISTER_OK")
        yield Line(phone, outside)


# What the phone offers and answers with, what the outside does, and in which codec they can only meet.
@pytest.mark.parametrize(("phone", "outside", "spoken"), [
    ("PCMA", (PCMA,), PCMA),
    ("PCMU", (PCMA, PCMU), PCMU),
    ("PCMA,PCMU", (PCMU,), PCMU),
    ("G722/16000/1,PCMU,PCMA", (PCMA,), PCMA),
])
async def test_it_is_called_and_calls_and_both_hear_each_other(
    daemon: Daemon, tmp_path: Path, phone: str, outside: tuple[int, ...], spoken: int
) -> None:
    case = 10 * len(phone) + len(outside)
    caller, dialled = f"+79161230{case:03}", f"+79161110{case:03}"
    async with line(daemon, tmp_path, phone, spoken) as ends, asyncio.timeout(30):
        ends.outside.line.codecs = {codec: CODECS[codec] for codec in outside}
        call = await ends.called(caller)
        await ends.both_hear(call)
        call.hang_up()
        await ends.phone.event("CALL_CLOSED")
        ends.outside.line.codecs = {spoken: CODECS[spoken]}
        call = await ends.calls(dialled)
        await ends.both_hear(call)
        await ends.hang_up(call)
    record = daemon.record(caller=caller)
    assert (record["disposition"], record["extension"], record["ended_by"]) == ("answered", "101", "caller")
    assert record["recording"] is not None
    record = daemon.record(dialled=dialled)
    assert (record["direction"], record["disposition"], record["ended_by"]) == ("outbound", "answered", "caller")


@pytest.mark.parametrize("outbound", [False, True])
async def test_either_side_presses_keys_and_holds(daemon: Daemon, tmp_path: Path, outbound: bool) -> None:
    number = f"+7916123080{outbound:d}"
    async with line(daemon, tmp_path) as ends, asyncio.timeout(30):
        call = await (ends.calls(number) if outbound else ends.called(number))
        await ends.both_hear(call)

        await ends.phone.tell("sndcode", "5")
        await ends.outside.tone.was_pressed("5")
        ends.outside.tone.press("7")
        await ends.phone.was_pressed("7")
        await ends.both_hear(call)

        # After a hold it plays nothing any more where it has no sound card: what it says is judged, not what it hears.
        await call.agree("sendonly")
        assert call.direction == "recvonly"
        await call.agree("sendrecv")
        assert is_tone(await ends.outside.talks(call), PHONE)
        await ends.phone.tell("hold")
        await call.offered("sendonly")
        await ends.phone.tell("resume")
        await call.offered("sendrecv")
        assert is_tone(await ends.outside.talks(call), PHONE)
        await ends.hang_up(call)


async def test_by_tls_it_is_called_and_calls(daemon: Daemon, authority: Authority, tmp_path: Path) -> None:
    async with line(daemon, tmp_path, ca_file=authority.file) as ends, asyncio.timeout(30):
        call = await ends.called("+79161230055")
        await ends.both_hear(call)
        call.hang_up()
        await ends.phone.event("CALL_CLOSED")
        await ends.hang_up(await ends.calls("+79161110055"))
    assert daemon.record(caller="+79161230055")["disposition"] == "answered"
    assert daemon.record(dialled="+79161110055")["disposition"] == "answered"
    assert "Require: outbound" in (daemon.home / "log").read_text(errors="replace")


@pytest.mark.parametrize("codec_of_the_target", [PCMA, PCMU])
async def test_it_transfers_to_another_phone_of_its_kind(
    daemon: Daemon, tmp_path: Path, codec_of_the_target: int
) -> None:
    addresses, caller = daemon.addresses, f"+7916123460{codec_of_the_target}"
    codec = CODECS[codec_of_the_target].partition("/")[0]
    async with line(daemon, tmp_path / "101") as ends, running_baresip(
        tmp_path / "102", addresses.phone("102"), daemon.sip, user="102", login="office-102", password=PASSWORD,
        frequency=COLLEAGUE, codecs=codec,
    ) as colleague, asyncio.timeout(30):
        await colleague.event("REGISTER_OK")
        ends.outside.line.codecs = dict(CODECS)
        call = await ends.called(caller)
        await ends.both_hear(call)
        await ends.phone.tell("transfer", f"sip:102@{addresses.daemon}")
        await colleague.event("CALL_ESTABLISHED")
        await ends.phone.event("CALL_CLOSED")
        ends.outside.tone.switch(codec_of_the_target)        # the outside is re-INVITEd to what the target speaks
        await both_hear(colleague, ends.outside, call)
        assert f"RTP/AVP {codec_of_the_target}" in call.sdp.decode()
        call.hang_up()
        await colleague.event("CALL_CLOSED")
    record = daemon.record(caller=caller)
    assert (record["disposition"], record["extension"], record["ended_by"]) == ("answered", "102", "caller")


async def test_its_call_is_transferred_on_the_live_page(daemon: Daemon, tmp_path: Path) -> None:
    addresses, caller = daemon.addresses, "+79161234699"
    page = httpx.AsyncClient(base_url=f"http://{addresses.daemon}:8080", trust_env=False)
    async with page, line(daemon, tmp_path / "101") as ends, running_baresip(
        tmp_path / "102", addresses.phone("102"), daemon.sip, user="102", login="office-102", password=PASSWORD,
        frequency=COLLEAGUE, codecs="PCMA",
    ) as colleague, asyncio.timeout(30):
        await colleague.event("REGISTER_OK")
        form = form_token((await page.get("/sign-in")).text)
        password = (daemon.home / "var" / "keys" / "operator-password").read_text().strip()
        await page.post("/sign-in", data={"token": form, "login": "operator", "password": password})
        call = await ends.called(caller)
        await ends.both_hear(call)
        async with page.stream("GET", "/live") as events:      # the relay is asked how the audio is, and tells
            async for said in events.aiter_lines():
                if re.search("(Good|Fair|Poor) audio", said):
                    break
        shown = (await page.get("/")).text
        (act,) = re.findall(r'action="(/calls/[^"]+/transfer)"', shown)
        refused = await page.post(act, data={"token": form_token(shown), "target": "103"})
        assert refused.status_code == 422                      # not registered
        assert (await page.post(act, data={"token": form_token(shown), "target": "102"})).status_code == 303
        await colleague.event("CALL_ESTABLISHED")
        await ends.phone.event("CALL_CLOSED")
        await both_hear(colleague, ends.outside, call)
        call.hang_up()
        await colleague.event("CALL_CLOSED")
    record = daemon.record(caller=caller)
    assert (record["disposition"], record["extension"], record["ended_by"]) == ("answered", "102", "caller")


async def test_it_is_joined_with_the_outside_after_it_was_asked_first(daemon: Daemon, tmp_path: Path) -> None:
    """It is asked for an offer in the middle of its call, as the target of an attended transfer."""
    addresses, dialled = daemon.addresses, "+79161110033"
    async with line(daemon, tmp_path) as ends, asyncio.timeout(30):
        server = Address(addresses.daemon, 5060)
        boris = Phone("103", server, login="office-103", password=PASSWORD, seed=secrets.randbits(32))
        boris.plug(partial(UdpTransport.open, Address(addresses.phone("103"), 5060)))
        try:
            assert (await boris.register()).status == 200
            first, second = boris.call(dialled), boris.call("101")
            await first.answered.wait()
            await second.answered.wait()
            (call,) = ends.outside.line.calls
            first.refer_to(second)
            await second.over.wait()
            await ends.both_hear(call)
            await first.over.wait()                  # it does not hang up by itself: we do
            assert first.notified[-1] == ("200 OK", "terminated;reason=noresource")
            await ends.hang_up(call)
        finally:
            boris.close()
    record = daemon.record(dialled=dialled)
    assert (record["direction"], record["extension"], record["ended_by"]) == ("outbound", "101", "caller")
    assert daemon.record(direction="internal")["reason"] == "transferred"
