"""Two real phones of different makers talk through us: baresip and linphone, whose codec lists differ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.sipp.office import OFFICE, PASSWORD
from tests.support import baresip, linphone
from tests.support.baresip import Baresip, running_baresip
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.linphone import Linphone, running_linphone
from tests.support.voice import hears

pytestmark = pytest.mark.skipif(
    not (baresip.available and linphone.available), reason="baresip or linphonec is not installed"
)

ONE, OTHER = 1000.0, 1500.0               # Hz: baresip's voice, and linphone's


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    addresses = Addresses.of_this_process()
    with running_daemon(tmp_path_factory.mktemp("daemon"), addresses, OFFICE.format(trunk=addresses.trunk)) as daemon:
        yield daemon


@asynccontextmanager
async def both(daemon: Daemon, home: Path) -> AsyncIterator[tuple[Baresip, Linphone]]:
    """101 speaks PCMU and PCMA, 102 everything from Opus on: they meet in what both know."""
    addresses = daemon.addresses
    async with (
        running_baresip(
            home / "101", addresses.phone("101"), daemon.sip, user="101", login="office-101", password=PASSWORD,
            frequency=ONE, codecs="PCMU,PCMA",
        ) as one,
        running_linphone(
            home / "102", addresses.phone("102"), daemon.sip, user="102", login="office-102", password=PASSWORD,
            frequency=OTHER, all_codecs=True,
        ) as other,
        asyncio.timeout(30),
    ):
        await one.event("REGISTER_OK")
        yield one, other


async def test_one_calls_and_the_other_holds(daemon: Daemon, tmp_path: Path) -> None:
    async with both(daemon, tmp_path) as (one, other):
        await one.tell("dial", f"sip:102@{daemon.addresses.daemon}")
        await one.event("CALL_ESTABLISHED")
        await asyncio.gather(hears(one, OTHER), hears(other, ONE))
        other.tell("pause")
        await other.says("is now paused")
        other.tell("resume")
        await other.says("Media streams established")
        await hears(other, ONE)
        await one.tell("hangup")
        await other.says("ended")
    record = daemon.record(caller="101")
    assert (record["direction"], record["extension"], record["ended_by"]) == ("internal", "102", "caller")


async def test_the_other_calls_and_keys_are_heard_at_both_ends(daemon: Daemon, tmp_path: Path) -> None:
    async with both(daemon, tmp_path) as (one, other):
        other.tell("call", f"sip:101@{daemon.addresses.daemon}")
        await other.says("Media streams established")
        await one.event("CALL_ESTABLISHED")
        await asyncio.gather(hears(one, OTHER), hears(other, ONE))
        other.tell("5")
        await one.was_pressed("5")
        await one.tell("sndcode", "7")
        await other.says("Receiving tone 7")
        await asyncio.gather(hears(one, OTHER), hears(other, ONE))
        other.tell("terminate")
        await one.event("CALL_CLOSED")
    record = daemon.record(caller="102")
    assert (record["direction"], record["extension"], record["ended_by"]) == ("internal", "101", "caller")
