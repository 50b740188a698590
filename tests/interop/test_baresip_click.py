"""A clicked number with a real phone, baresip: it rings, is picked up, hears ringing, and both hear each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from b2bua.app import System
from b2bua.cdr import ClientId, Disposition, EndedBy
from b2bua.control import ClickedCall, ClickOutcome, ClickStage
from b2bua.directory import Client, Directory, Extension, Trunk
from b2bua.sip.auth import ha1
from b2bua.sip.effects import Address
from tests.support import baresip
from tests.support.baresip import Baresip, running_baresip
from tests.support.daemon import Addresses
from tests.support.in_process import record_of, running_system
from tests.support.phone import Rejects, Rings
from tests.support.tone import PCMA, PCMU
from tests.support.voice import Voice, both_hear, notices, voice

pytestmark = pytest.mark.skipif(not baresip.available, reason="baresip is not installed (Debian: baresip-core)")

ACME, PASSWORD, OUTSIDE = ClientId("acme"), "correct-horse-battery", "+79265554433"
SPOKEN_OUTSIDE, SPOKEN_BY_PHONE, TONES = 440.0, 1000.0, 425.0      # Hz
CODECS = {PCMA: "PCMA/8000", PCMU: "PCMU/8000"}


@dataclass(frozen=True)
class Ends:
    system: System
    phone: Baresip
    outside: Voice

    def click(self) -> ClickedCall:
        return self.system.switchboard.click2call(ACME, "101", OUTSIDE, "1")

    async def until(self, clicked: ClickedCall, stage: ClickStage) -> ClickedCall:
        while clicked.stage is not stage:
            clicked = await self.system.switchboard.click_changed(ACME, clicked.id, clicked.version)
        return clicked


@asynccontextmanager
async def ends(home: Path, codecs: str, spoken: int, *, answers: bool = False) -> AsyncIterator[Ends]:
    addresses = Addresses.of_this_process()
    hashes = {name: ha1(name, "office-101", "smartswitch", PASSWORD) for name in ("MD5", "SHA-256")}
    directory = Directory(
        clients=(Client(ACME, "Acme", click2call_answer_after=0 if answers else None),),
        extensions=(Extension(ACME, "101", "office-101", hashes),),
        trunks=(Trunk(ACME, "operator", addresses.trunk, 5060, caller_id="+74951112233"),),
    )
    async with (
        running_system(home, addresses, directory) as system,
        voice("operator", Address(addresses.trunk, 5060), system.sip[0], SPOKEN_OUTSIDE, spoken) as outside,
        running_baresip(
            home / "phone", addresses.phone("101"), f"{addresses.daemon}:5060", user="101", login="office-101",
            password=PASSWORD, frequency=SPOKEN_BY_PHONE, codecs=codecs, answers=answers,
        ) as phone,
        asyncio.timeout(60),
    ):
        await phone.event("REGISTER_OK")
        yield Ends(system, phone, outside)


# The phone's codecs, and the one by which the outside is reached.
@pytest.mark.parametrize(("codecs", "spoken"), [("PCMA", PCMA), ("PCMA,PCMU", PCMU), ("G722/16000/1,PCMU,PCMA", PCMA)])
async def test_click_ring_pick_up_ringing_and_both_hear_each_other(tmp_path: Path, codecs: str, spoken: int) -> None:
    async with ends(tmp_path, codecs, spoken) as office:
        office.outside.line.does = Rings()
        clicked = office.click()
        await office.phone.event("CALL_INCOMING")
        assert office.outside.line.calls == []
        await office.phone.tell("accept")
        await office.phone.event("CALL_ESTABLISHED")
        call = await office.outside.line.was_called()
        await notices(office.phone, TONES)
        call.answer()
        clicked = await office.until(clicked, ClickStage.TALKING)
        await both_hear(office.phone, office.outside, call)
        await office.phone.tell("hangup")
        await call.over.wait()
        clicked = await office.until(clicked, ClickStage.ENDED)
        record = await record_of(office.system, clicked.id)
    assert clicked.outcome is ClickOutcome.TALKED
    assert (record.disposition, record.ended_by, record.extension) == (Disposition.ANSWERED, EndedBy.CALLER, "101")
    assert record.recording is not None


async def test_a_phone_hears_that_the_number_is_busy(tmp_path: Path) -> None:
    async with ends(tmp_path, "PCMA", PCMA, answers=True) as office:
        office.outside.line.does = Rejects(486)
        clicked = office.click()
        await office.phone.event("CALL_ESTABLISHED")
        clicked = await office.until(clicked, ClickStage.ENDED)
        assert clicked.outcome is ClickOutcome.THEY_BUSY
        await notices(office.phone, TONES)
        await office.phone.event("CALL_CLOSED")          # by us, at the end of the tone
        assert (await record_of(office.system, clicked.id)).disposition is Disposition.BUSY


async def test_a_phone_that_declines(tmp_path: Path) -> None:
    async with ends(tmp_path, "PCMA", PCMA) as office:
        clicked = office.click()
        await office.phone.event("CALL_INCOMING")
        await office.phone.tell("hangup")
        clicked = await office.until(clicked, ClickStage.ENDED)
        assert clicked.outcome in (ClickOutcome.YOU_BUSY, ClickOutcome.YOU_DECLINED)
        assert office.outside.line.calls == []
