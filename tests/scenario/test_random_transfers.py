"""An office in which everybody transfers, holds, takes over and hangs up as chance will have it, on the live page as
well: whatever the order, no call breaks, nothing is left behind, each call is in the books once, and each outside call
in the CRM once."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from b2bua.cdr import Direction
from b2bua.control import LiveCall, Transfer
from b2bua.crm.port import CallNote
from tests.support.anchored import AnchoredPlane
from tests.support.network import Conditions
from tests.support.office import DID, Office, open_office
from tests.support.phone import Answers, Phone, PhoneCall, Rejects, Rings

MARIA = "+79265554433"
STEPS = 30
TARGETS = ("101", "102", "103", "600", MARIA, "abc", "")
BEHAVIOURS = (Answers(after=0.0), Answers(after=1.0), Answers(after=1.0, hangs_up_after=1.5), Rejects(486), Rings())


class Chance:
    """One run: who does what next."""

    def __init__(self, office: Office, phones: list[Phone], seed: int) -> None:
        self.office = office
        self.phones = phones
        self.random = random.Random(seed)
        self._placed: list[PhoneCall] = []

    def step(self) -> None:
        everybody = [*self.phones, self.office.trunk]
        phone = self.random.choice(everybody)
        up = [call for call in phone.calls if call.answered.is_set() and not call.over.is_set()]
        early = [call for call in phone.calls if not call.over.is_set() and not call.answered.is_set()]
        phone.does = self.random.choice(BEHAVIOURS)
        phone.refuses_offers = self.random.choice((0, 0, 0, 0, 488))
        match self.random.randrange(12):
            case 0 | 1 if len(self.office.pbx.live_calls()) < 6:
                self._call(phone)
            case 2 | 3 | 4 if up:
                self._transfer(self.random.choice(up), up + early)
            case 5 if up and phone in self.phones:
                phone.call("102", headers=[("Replaces", self.random.choice(up).replaces)])
            case 6 if up:
                self.random.choice(up).offer(self.random.choice(("sendonly", "sendrecv", "inactive")))
            case 7 if up or early:
                self.random.choice(up + early).hang_up()
            case 8 if up:
                self.random.choice(up).answers_with = self.random.choice((200, 200, 481, 0))
            case 9 | 10 | 11 if live := self.office.pbx.live_calls():
                self._at_the_page(self.random.choice(live))

    def _call(self, phone: Phone) -> None:
        if phone is self.office.trunk:
            call = phone.call(DID, as_=f"+7916{len(self._placed):07}")
        else:
            call = phone.call(self.random.choice(("101", "102", "103", "600", MARIA)))
        self._placed.append(call)

    def _at_the_page(self, call: LiveCall) -> None:
        pbx = self.office.pbx
        if self.random.random() < 0.2:
            assert pbx.hang_up(call.client, call.id, "operator")
        for _ in range(self.random.choice((1, 1, 2))):
            target = self.random.choice(TARGETS)
            accepted = pbx.transfer(call.client, call.id, target, "operator").transfer is Transfer.ACCEPTED
            assert not accepted or call.state == "talking"
        assert pbx.glance(None, 3).all_calls == len(pbx.live_calls())

    @property
    def taken(self) -> int:
        """Calls that got through to us; some were given up before their second INVITE, with the password."""
        return sum(any(step.isdigit() and step != "401" for step in call.ladder()) for call in self._placed)

    def _transfer(self, call: PhoneCall, others: list[PhoneCall]) -> None:
        other = self.random.choice(others)
        if self.random.random() < 0.5 or other.session.current_dialog() is None:
            call.refer(f"<sip:{self.random.choice(TARGETS)}@10.0.0.1>")
        else:
            call.refer_to(other)
        if self.random.random() < 0.3:
            call.hang_up()


async def plays(office: Office) -> None:
    """Music for who is on hold, and announcements where nobody is."""
    was = office.books.directory
    office.change(
        clients=tuple(replace(one, music_on_hold="music") for one in was.clients),
        groups=tuple(replace(one, on_busy="announcement:busy") for one in was.groups),
        numbers=tuple(replace(one, on_busy="600", on_no_answer="announcement:unavailable") for one in was.numbers),
    )
    await office.pbx.settings_changed()


@pytest.mark.parametrize("seed", range(80))
async def test_whatever_happens(seed: int) -> None:
    bad = Conditions(jitter=0.01, loss=0.05, duplication=0.05, reordering=0.05) if seed % 2 else Conditions()
    async with open_office(seed=seed, conditions=bad, media=AnchoredPlane()) as office:
        if seed % 3:
            await plays(office)
        chance = Chance(office, [await office.phone(number) for number in ("101", "102", "103")], seed)
        for _ in range(STEPS):
            chance.step()
            await asyncio.sleep(chance.random.choice((0.0, 0.003, 0.02, 1.0, 3.0)))
        for phone in (*chance.phones, office.trunk):
            phone.does = Rejects(486)
        await asyncio.sleep(200)                     # who rings or transfers comes to an end
        for phone in (*chance.phones, office.trunk):
            for call in phone.calls:
                call.hang_up()
        await office.all_quiet()
        assert office.pbx.counters.faults == office.agent.counters.faults == 0
        records = office.books.records
        assert len(records) == chance.taken
        outside = [record for record in records if record.direction is not Direction.INTERNAL]
        assert sorted(write.call for write in office.books.writes) == sorted(record.id for record in outside)
        whose = {record.id: f"({record.extension})" for record in outside}
        notes = [write for write in office.books.writes if isinstance(write, CallNote) and write.talked]
        assert all(note.talked[-1].endswith(whose[note.call]) for note in notes)       # who talked last owns it
        for phone in (*chance.phones, office.trunk):
            assert all(call.over.is_set() for call in phone.calls), seed
