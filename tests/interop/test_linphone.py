"""A real phone: linphone is called and calls, holds, presses keys and transfers, and all hear whom they should."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from b2bua.sip.effects import Address
from tests.sipp.office import DID, OFFICE, PASSWORD
from tests.support import linphone
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.linphone import Linphone, running_linphone
from tests.support.phone import Rejects
from tests.support.tone import PCMA, PCMU, is_tone
from tests.support.voice import Voice, both_hear, hear_each_other, voice
from tests.support.web_site import fields, sign_in

pytestmark = pytest.mark.skipif(not linphone.available, reason="linphonec is not installed (Debian: linphone-cli)")

OUTSIDE, PHONE, COLLEAGUE = 440.0, 1000.0, 1500.0      # Hz: who speaks
BY_INFO = "application/dtmf-relay"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    addresses = Addresses.of_this_process()
    with running_daemon(tmp_path_factory.mktemp("daemon"), addresses, OFFICE.format(trunk=addresses.trunk)) as daemon:
        yield daemon


@dataclass(frozen=True)
class Line:
    """linphone at the one end, the outside world at the other."""

    phone: Linphone
    outside: Voice


@asynccontextmanager
async def line(
    daemon: Daemon, home: Path, *, transport: str = "udp", info: bool = False, codec: int = PCMA
) -> AsyncIterator[Line]:
    """`codec` is what the outside speaks; when that is not PCMA, the phone knows many others besides."""
    addresses = daemon.addresses
    async with (
        voice("operator", Address(addresses.trunk, 5060), Address(addresses.daemon, 5060), OUTSIDE, codec) as outside,
        running_linphone(
            home, addresses.phone("101"), daemon.sip, user="101", login="office-101", password=PASSWORD,
            frequency=PHONE, transport=transport, info=info, all_codecs=codec != PCMA,
        ) as phone,
    ):
        yield Line(phone, outside)


@asynccontextmanager
async def colleague(daemon: Daemon) -> AsyncIterator[Voice]:
    at, server = Address(daemon.addresses.phone("102"), 5060), Address(daemon.addresses.daemon, 5060)
    async with voice("102", at, server, COLLEAGUE, login="office-102", password=PASSWORD) as somebody:
        yield somebody


async def test_it_is_called_and_either_side_holds_and_resumes(daemon: Daemon, tmp_path: Path) -> None:
    caller = "+79161240001"
    async with line(daemon, tmp_path / "101") as ends, asyncio.timeout(30):
        call = ends.outside.line.call(DID, as_=caller)
        await call.answered.wait()
        await both_hear(ends.phone, ends.outside, call)

        ends.phone.tell("pause")
        await ends.phone.says("is now paused")
        assert call.direction == "sendonly"
        assert is_tone(await ends.outside.talks(call), PHONE)        # its music on hold
        ends.phone.tell("resume")
        await ends.phone.says("Media streams established")
        assert call.direction == "sendrecv"
        await both_hear(ends.phone, ends.outside, call)

        await call.agree("sendonly")
        await ends.phone.says("has been paused by")
        await call.agree("sendrecv")
        await ends.phone.says("Media streams established")
        await both_hear(ends.phone, ends.outside, call)

        call.hang_up()
        await ends.phone.says("ended")
    record = daemon.record(caller=caller)
    assert (record["disposition"], record["extension"], record["ended_by"]) == ("answered", "101", "caller")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_it_calls_out_and_hangs_up(daemon: Daemon, tmp_path: Path, transport: str) -> None:
    dialled = f"+791612401{transport == 'tcp':02}"
    async with line(daemon, tmp_path / "101", transport=transport) as ends, asyncio.timeout(20):
        ends.phone.tell("call", f"sip:{dialled}@{daemon.addresses.daemon}")
        await ends.phone.says("Media streams established")
        (call,) = ends.outside.line.calls
        await both_hear(ends.phone, ends.outside, call)
        ends.phone.tell("terminate")
        await call.over.wait()
    record = daemon.record(dialled=dialled)
    assert (record["direction"], record["disposition"], record["ended_by"]) == ("outbound", "answered", "caller")


async def test_by_tcp_it_is_called_and_holds(daemon: Daemon, tmp_path: Path) -> None:
    caller = "+79161240007"
    async with line(daemon, tmp_path / "101", transport="tcp") as ends, asyncio.timeout(20):
        call = ends.outside.line.call(DID, as_=caller)
        await call.answered.wait()
        await ends.phone.says("Media streams established")
        await hold_and_resume(ends.phone)
        await both_hear(ends.phone, ends.outside, call)
        ends.phone.tell("terminate")
        await call.over.wait()
    assert daemon.record(caller=caller)["ended_by"] == "callee"


async def test_its_many_codecs_and_the_one_of_the_outside_stay_agreed(daemon: Daemon, tmp_path: Path) -> None:
    async with line(daemon, tmp_path / "101", codec=PCMU) as ends, asyncio.timeout(20):
        ends.phone.tell("call", f"sip:+79161240008@{daemon.addresses.daemon}")
        await ends.phone.says("Media streams established")
        (call,) = ends.outside.line.calls
        assert b"opus/48000" in call.sdp
        await hold_and_resume(ends.phone)
        await both_hear(ends.phone, ends.outside, call)
        await call.agree("sendonly")
        await ends.phone.says("has been paused by")
        await call.agree("sendrecv")
        await ends.phone.says("Media streams established")
        await both_hear(ends.phone, ends.outside, call)
        call.hang_up()
        await ends.phone.says("ended")


async def test_its_keys_and_those_of_the_outside_arrive_as_rtp_events(daemon: Daemon, tmp_path: Path) -> None:
    async with line(daemon, tmp_path / "101") as ends, asyncio.timeout(20):
        call = ends.outside.line.call(DID, as_="+79161240003")
        await call.answered.wait()
        await both_hear(ends.phone, ends.outside, call)
        ends.phone.tell("5")
        await ends.outside.tone.was_pressed("5")
        ends.phone.tell("#")
        await ends.outside.tone.was_pressed("5#")
        ends.outside.tone.press("7")
        await ends.phone.says("Receiving tone 7")
        await both_hear(ends.phone, ends.outside, call)
        call.hang_up()
        await ends.phone.says("ended")


@pytest.mark.parametrize("outside_has_events", [True, False])
async def test_its_keys_by_info_arrive_as_the_outside_knows_them(
    daemon: Daemon, tmp_path: Path, outside_has_events: bool
) -> None:
    """It offers no telephone-event then; where the outside has it, it hears the key in the audio."""
    async with line(daemon, tmp_path / "101", info=True) as ends, asyncio.timeout(20):
        ends.outside.line.has_events = outside_has_events
        call = ends.outside.line.call(DID, as_="+79161240004")
        await call.answered.wait()
        await both_hear(ends.phone, ends.outside, call)
        call.info("Signal=7\r\nDuration=160\r\n", BY_INFO)
        await ends.phone.says("Receiving tone 7")
        ends.phone.tell("5")
        if outside_has_events:
            await ends.outside.tone.was_pressed("5")
            assert call.requests == []
        else:
            await call.asked.wait()
            (request,) = call.requests
            assert (request.method, request.headers.get("Content-Type")) == ("INFO", BY_INFO)
            assert b"Signal=5" in request.body
        assert call.responses == [200]
        call.hang_up()
        await ends.phone.says("ended")


async def test_it_transfers_blindly(daemon: Daemon, tmp_path: Path) -> None:
    caller = "+79161240005"
    async with line(daemon, tmp_path / "101") as ends, colleague(daemon) as third, asyncio.timeout(30):
        call = ends.outside.line.call(DID, as_=caller)
        await call.answered.wait()
        await both_hear(ends.phone, ends.outside, call)
        ends.phone.tell("transfer", f"sip:102@{daemon.addresses.daemon}")
        await ends.phone.says("ended")
        await hear_each_other(ends.outside, call, third, third.line.calls[0])
        call.hang_up()
        await third.line.calls[0].over.wait()
    record = daemon.record(caller=caller)
    assert (record["disposition"], record["extension"], record["ended_by"]) == ("answered", "102", "caller")


async def test_a_blind_transfer_to_who_is_busy_leaves_the_call_as_it_was(daemon: Daemon, tmp_path: Path) -> None:
    caller = "+79161240009"
    async with line(daemon, tmp_path / "101") as ends, colleague(daemon) as third, asyncio.timeout(30):
        third.line.does = Rejects(486)
        call = ends.outside.line.call(DID, as_=caller)
        await call.answered.wait()
        await ends.phone.says("Media streams established")
        ends.phone.tell("transfer", f"sip:102@{daemon.addresses.daemon}")
        await third.line.was_called()
        await both_hear(ends.phone, ends.outside, call)
        ends.phone.tell("terminate")
        await call.over.wait()
    assert daemon.record(caller=caller)["extension"] == "101"


async def test_it_asks_a_colleague_and_joins_the_two(daemon: Daemon, tmp_path: Path) -> None:
    caller = "+79161240006"
    async with line(daemon, tmp_path / "101") as ends, colleague(daemon) as third, asyncio.timeout(30):
        call = ends.outside.line.call(DID, as_=caller)
        await call.answered.wait()
        await both_hear(ends.phone, ends.outside, call)
        ends.phone.tell("pause")
        await ends.phone.says("is now paused")
        ends.phone.tell("call", f"sip:102@{daemon.addresses.daemon}")
        await ends.phone.says("Media streams established with .* for call 2")
        (consultation,) = third.line.calls
        assert is_tone(await third.talks(consultation), PHONE)
        ends.phone.tell("transfer", "1", "--to-call", "2")
        for _ in range(2):
            await ends.phone.says("Call [12] with .* ended")
        await hear_each_other(ends.outside, call, third, third.line.calls[0])
        call.hang_up()
        await consultation.over.wait()
    record = daemon.record(caller=caller)
    assert (record["disposition"], record["extension"], record["ended_by"]) == ("answered", "102", "caller")


async def test_it_calls_out_then_asks_a_colleague_and_joins_the_two_by_the_second_call(
    daemon: Daemon, tmp_path: Path
) -> None:
    dialled = "+79161240010"
    async with line(daemon, tmp_path / "101") as ends, colleague(daemon) as third, asyncio.timeout(30):
        ends.phone.tell("call", f"sip:{dialled}@{daemon.addresses.daemon}")
        await ends.phone.says("Media streams established")
        (call,) = ends.outside.line.calls
        ends.phone.tell("pause")
        await ends.phone.says("is now paused")
        ends.phone.tell("call", f"sip:102@{daemon.addresses.daemon}")
        await ends.phone.says("Media streams established with .* for call 2")
        (consultation,) = third.line.calls
        ends.phone.tell("transfer", "2", "--to-call", "1")
        for _ in range(2):
            await ends.phone.says("Call [12] with .* ended")
        await hear_each_other(ends.outside, call, third, third.line.calls[0])
        consultation.hang_up()
        await call.over.wait()
    record = daemon.record(dialled=dialled)
    assert (record["direction"], record["extension"], record["ended_by"]) == ("outbound", "102", "caller")


async def hold_and_resume(phone: Linphone) -> None:
    phone.tell("pause")
    await phone.says("is now paused")
    phone.tell("resume")
    await phone.says("Media streams established")


async def test_it_sets_itself_up_by_the_link_of_a_new_extension(daemon: Daemon, tmp_path: Path) -> None:
    """What a QR code holds is an address: of a file that makes an account of it."""
    password = (daemon.home / "var" / "keys" / "operator-password").read_text("utf-8").strip()
    async with httpx.AsyncClient(base_url=f"http://{daemon.addresses.daemon}:8080", trust_env=False,
                                 headers={"Accept": "text/html"}) as browser:
        await sign_in(browser, password)
        new = "/clients/office/extensions/new"
        form = fields((await browser.get(new)).text)
        saved = await browser.post(new, data={**form, "number": "150", "name": "Дора \"D\""})
        page = (await browser.get(saved.headers["location"])).text
    link = re.search(r"<code>(http://\S+/provision/\S+)</code>", page)
    assert link is not None
    async with running_linphone(tmp_path / "150", daemon.addresses.phone("150"), daemon.sip, frequency=PHONE,
                                transport="tcp", provisioned=link[1]):
        assert link[1] not in daemon.log()
