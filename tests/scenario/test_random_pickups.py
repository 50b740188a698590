"""An office in which everybody calls, picks up, transfers and hangs up as chance will have it, and the lamps of a desk
show at each pause what the phones themselves are doing; nothing breaks, and nothing is left."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from b2bua.cdr import Direction
from b2bua.directory import Extension
from b2bua.sip.auth import ha1
from b2bua.sip.dialog_info import MAX_DIALOGS
from b2bua.sip.subscription import RATE
from tests.support.anchored import AnchoredPlane
from tests.support.network import Conditions
from tests.support.office import ACME, DID, PASSWORD, REALM, Office, open_office
from tests.support.phone import Answers, Phone, PhoneCall, Rejects, Rings
from tests.support.watcher import Lamp, watching_phone

STEPS = 40
WATCHED = ("101", "102", "103")
CODES = ("**101", "**102", "**103", "**600", "*8", "**999")
BEHAVIOURS = (Rings(), Rings(), Rings(), Answers(after=1.0), Answers(after=3.0, hangs_up_after=2.0), Rejects(486))
MOST_CALLS = 5                             # at once


class Chance:
    """One run: who does what next."""

    def __init__(self, office: Office, phones: list[Phone], lamps: dict[str, Lamp], seed: int) -> None:
        self.office, self.phones, self.lamps = office, phones, lamps
        self.random = random.Random(seed)
        self.outside = 0

    def step(self) -> None:
        phone = self.random.choice(self.phones)
        phone.does = self.random.choice(BEHAVIOURS)
        busy = [call for call in phone.calls if not call.over.is_set()]
        ringing = [call for call in busy if call.session.role.value == "UAS" and not call.answered.is_set()]
        up = [call for call in busy if call.answered.is_set()]
        few = len(self.office.pbx.live_calls()) < MOST_CALLS and len(busy) < MAX_DIALOGS - 1
        match self.random.randrange(10):
            case 0 | 1 if few:
                self.outside += 1
                self.office.trunk.call(DID, as_=f"+7916{self.outside:07}")
            case 2 if few:
                phone.call(self.random.choice(("101", "102", "103", "600")))
            case 3 | 4 | 5 if len(busy) < MAX_DIALOGS - 1:
                phone.call(self.random.choice(CODES))
            case 6 if len(busy) < MAX_DIALOGS - 1:
                self._by_lamp(phone)
            case 7 if ringing:
                self.random.choice(ringing).answer()
            case 8 if up:
                self.random.choice(up).refer(f"<sip:{self.random.choice(WATCHED)}@10.0.0.1>")
            case 9 if busy:
                self.random.choice(busy).hang_up()

    def _by_lamp(self, phone: Phone) -> None:
        """As a phone whose lamp blinks, or has blinked."""
        told = [one for lamp in self.lamps.values() for dialogs in lamp.told[-3:] for one in dialogs if one.call_id]
        if told:
            phone.call("102", headers=[("Replaces", self.random.choice(told).replaces)])

    async def pause(self) -> None:
        """What is under way comes to rest, and then the lamps are right."""
        for phone in self.phones:
            phone.does = Rings()
        before: list[Counter[str]] = []
        while (now := [Counter(map(_state, _there(phone))) for phone in self.phones]) != before:
            before = now
            await asyncio.sleep(2 * RATE)
        for phone, seen in zip(self.phones, now, strict=True):
            lit = Counter("early" if state == "trying" else state for state in self.lamps[phone.user].lit)
            if seen.total() > MAX_DIALOGS:
                assert lit.total() == MAX_DIALOGS
            else:
                assert lit == seen, f"{phone.user}: the lamp shows {lit}, and the phone does {seen}"


def _there(phone: Phone) -> list[PhoneCall]:
    return [call for call in phone.calls if not call.over.is_set()]


def _state(call: PhoneCall) -> str:
    return "confirmed" if call.answered.is_set() else "early"


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_they_do_the_lamps_are_right_and_each_call_is_in_the_books_once(seed: int) -> None:
    conditions = Conditions(duplication=0.1) if seed % 3 == 0 else Conditions()
    async with open_office(seed=seed, conditions=conditions, media=AnchoredPlane()) as office:
        directory = office.books.directory
        reception = Extension(ACME, "100", "100", {"MD5": ha1("MD5", "100", REALM, PASSWORD)})
        office.change(extensions=(*directory.extensions, reception))
        await office.pbx.settings_changed()
        phones = [await office.phone(number, Rings()) for number in WATCHED]
        watcher = await watching_phone(office, "100")
        lamps = {number: watcher.lamp(number) for number in WATCHED}
        for lamp in lamps.values():
            assert (await lamp.subscribe()).status == 200
        chance = Chance(office, phones, lamps, seed)
        for step in range(STEPS):
            chance.step()
            await asyncio.sleep(chance.random.choice((0.0, 0.0, 0.005, 0.02, 0.5, 1.5)))
            if step % 8 == 7:
                await chance.pause()
        for phone in (*phones, office.trunk):
            for call in list(phone.calls):
                call.hang_up()
        await asyncio.sleep(60)
        await chance.pause()
        assert all(not lamp.lit for lamp in lamps.values())
        for lamp in lamps.values():
            await lamp.subscribe(0)
        await office.all_quiet()
        assert office.pbx.counters.faults == office.agent.counters.faults == 0
        assert len(office.pbx.board) == 0
        assert len(office.pbx.notifier.subscriptions) == 0
        records = office.books.records
        assert len({record.id for record in records}) == len(records)
        assert len([one for one in records if one.direction is Direction.INBOUND]) == chance.outside
