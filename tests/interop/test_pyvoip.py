"""A phone that knows digest by RFC 2069 only: pyVoIP registers, is called and calls, and both sides hear each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from b2bua.sip.effects import Address
from tests.sipp.office import DID, PASSWORD
from tests.support import pyvoip
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.pyvoip import PyVoip, running_pyvoip
from tests.support.tone import PCMU
from tests.support.voice import Voice, both_hear, voice

pytestmark = pytest.mark.skipif(not pyvoip.available, reason="pyVoIP is not installed, or does not run in this Python")

OUTSIDE, PHONE = 440.0, 1000.0            # Hz: who speaks

# pyVoIP has one name, for its address and for its digest. Its A-law is µ-law in truth: here everybody speaks PCMU.
OFFICE = f"""\
[[client]]
id = "office"
name = "Office"

[[client.trunk]]
name = "operator"
host = "{{trunk}}"
port = 5060

[[client.extension]]
number = "101"
login = "101"
password = "{PASSWORD}"

[[client.number]]
number = "{DID}"
destination = "101"
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    addresses = Addresses.of_this_process()
    home, office = tmp_path_factory.mktemp("daemon"), OFFICE.format(trunk=addresses.trunk)
    with running_daemon(home, addresses, office, without_qop=True) as daemon:
        yield daemon


@asynccontextmanager
async def both_ends(daemon: Daemon, home: Path) -> AsyncIterator[tuple[PyVoip, Voice]]:
    addresses = daemon.addresses
    trunk, server = Address(addresses.trunk, 5060), Address(addresses.daemon, 5060)
    async with (
        voice("operator", trunk, server, OUTSIDE, PCMU) as outside,
        running_pyvoip(
            home, addresses.phone("101"), daemon.sip, user="101", password=PASSWORD, frequency=PHONE
        ) as phone,
    ):
        yield phone, outside


async def test_it_is_called_hears_keys_and_is_held(daemon: Daemon, tmp_path: Path) -> None:
    caller = "+79161260001"
    async with both_ends(daemon, tmp_path) as (phone, outside), asyncio.timeout(20):
        call = outside.line.call(DID, as_=caller)
        await call.answered.wait()
        await both_hear(phone, outside, call)
        outside.tone.press("7")
        await phone.says("key 7")
        await call.agree("sendonly")
        await call.agree("sendrecv")
        await both_hear(phone, outside, call)
        call.hang_up()
        await phone.says("ended")
    record = daemon.record(caller=caller)
    assert (record["disposition"], record["extension"], record["ended_by"]) == ("answered", "101", "caller")


async def test_it_calls_and_hangs_up(daemon: Daemon, tmp_path: Path) -> None:
    """Soon, as its ACK has a tag of its own making in To and is no ACK for us: a call of 32 seconds would be ended."""
    dialled = "+79161260002"
    async with both_ends(daemon, tmp_path) as (phone, outside), asyncio.timeout(20):
        phone.tell("call", dialled)
        await phone.says("answered")
        (call,) = outside.line.calls
        await both_hear(phone, outside, call)
        phone.tell("hangup")
        await call.over.wait()
    record = daemon.record(dialled=dialled)
    assert (record["direction"], record["disposition"], record["ended_by"]) == ("outbound", "answered", "caller")
