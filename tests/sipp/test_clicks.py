"""A clicked number between a SIPp that is the phone of who clicked, and one that is the trunk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from b2bua.app import System
from b2bua.cdr import CallRecord, ClientId, Direction, Disposition, EndedBy, EndReason
from b2bua.control import ClickedCall, ClickOutcome, ClickStage
from b2bua.directory import Client, Directory, Extension, Trunk
from tests.support import sipp
from tests.support.daemon import Addresses
from tests.support.in_process import record_of, running_system
from tests.support.sipp import Sipp, ended

pytestmark = pytest.mark.skipif(not sipp.available, reason="SIPp is not installed (Debian: sip-tester)")

ACME, OUTSIDE = ClientId("acme"), "+79265554433"


@dataclass(frozen=True)
class Ends:
    system: System
    addresses: Addresses
    logs: Path

    def phone(self, scenario: str) -> Sipp:
        return Sipp(scenario, self.addresses.phone("101"), self.logs)

    def trunk(self, scenario: str) -> Sipp:
        return Sipp(scenario, self.addresses.trunk, self.logs)

    async def click(self) -> ClickedCall:
        return self.system.switchboard.click2call(ACME, "101", "8 926 555-44-33", "1")

    async def until(self, clicked: ClickedCall, stage: ClickStage) -> ClickedCall:
        async with asyncio.timeout(20):
            while clicked.stage is not stage:
                clicked = await self.system.switchboard.click_changed(ACME, clicked.id, clicked.version)
        return clicked

    async def record(self, clicked: ClickedCall) -> CallRecord:
        return await record_of(self.system, clicked.id)


@asynccontextmanager
async def ends(home: Path) -> AsyncIterator[Ends]:
    addresses = Addresses.of_this_process()
    directory = Directory(
        clients=(Client(ACME, "Acme"),),
        extensions=(Extension(ACME, "101", "101", {}, address=f"sip:101@{addresses.phone('101')}:5060"),),
        trunks=(Trunk(ACME, "operator", addresses.trunk, 5060, caller_id="+74951112233"),),
    )
    async with running_system(home, addresses, directory) as system:
        yield Ends(system, addresses, home / "sipp")


@asynccontextmanager
async def there(*programs: Sipp) -> AsyncIterator[None]:
    """They listen in the block, and at its end everything has gone as written."""
    if not programs:
        yield
        return
    first, *others = programs
    async with ended(await first.start()) as process:
        await first.listens()
        async with there(*others):
            yield
        await first.finish(process)


async def test_early_media_and_a_codec_that_the_phone_would_not_have_sent_by(tmp_path: Path) -> None:
    async with ends(tmp_path) as office:
        async with there(office.phone("clicked_phone_uas"), office.trunk("clicked_trunk_uas")):
            clicked = await office.until(await office.click(), ClickStage.TALKING)
        clicked = await office.until(clicked, ClickStage.ENDED)
        record = await office.record(clicked)
    assert clicked.outcome is ClickOutcome.TALKED
    assert (record.direction, record.dialled, record.trunk) == (Direction.OUTBOUND, OUTSIDE, "operator")
    assert (record.disposition, record.ended_by, record.extension) == (
        Disposition.ANSWERED, EndedBy.CALLEE, "101")
    assert record.recording is not None


async def test_hung_up_in_the_page_while_they_talk(tmp_path: Path) -> None:
    async with ends(tmp_path) as office:
        async with there(office.phone("inbound_answered_uas"), office.trunk("outbound_answered_uas")):
            clicked = await office.until(await office.click(), ClickStage.TALKING)
            assert office.system.switchboard.hang_up(ACME, clicked.id)
        record = await office.record(clicked)
    assert (record.disposition, record.ended_by, record.reason) == (
        Disposition.ANSWERED, EndedBy.CALLER, EndReason.HUNG_UP)


async def test_hung_up_in_the_page_while_the_other_side_rings(tmp_path: Path) -> None:
    async with ends(tmp_path) as office:
        trunk = office.trunk("outbound_no_answer_cancel_uas")
        async with there(office.phone("inbound_answered_uas"), trunk):
            clicked = await office.until(await office.click(), ClickStage.RINGING_THEM)
            await sipp.seen(trunk, "SIP/2.0 180")
            assert office.system.switchboard.hang_up(ACME, clicked.id)
        record = await office.record(clicked)
    assert (record.disposition, record.ended_by, record.reason) == (
        Disposition.ABANDONED, EndedBy.CALLER, EndReason.CANCELLED)


async def test_hung_up_in_the_page_while_the_own_phone_rings(tmp_path: Path) -> None:
    async with ends(tmp_path) as office:
        phone = office.phone("inbound_cancelled_uas")
        async with there(phone):
            clicked = await office.click()
            await sipp.seen(phone, "SIP/2.0 180")
            assert office.system.switchboard.hang_up(ACME, clicked.id)
        clicked = await office.until(clicked, ClickStage.ENDED)
        record = await office.record(clicked)
    assert clicked.outcome is ClickOutcome.CANCELLED
    assert (record.trunk, record.rang_at is not None) == (None, True)


async def test_a_phone_and_a_number_that_are_busy(tmp_path: Path) -> None:
    async with ends(tmp_path) as office:
        async with there(office.phone("inbound_busy_uas")):
            clicked = await office.until(await office.click(), ClickStage.ENDED)
        assert clicked.outcome is ClickOutcome.YOU_BUSY
        assert (await office.record(clicked)).ended_by is EndedBy.CALLER
    async with ends(tmp_path / "again") as office:
        async with there(office.phone("inbound_answered_uas"), office.trunk("outbound_busy_uas")):
            clicked = await office.until(await office.click(), ClickStage.ENDED)
        assert clicked.outcome is ClickOutcome.THEY_BUSY
        assert (await office.record(clicked)).ended_by is EndedBy.CALLEE
