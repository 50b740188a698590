"""The calls of the demo: what is done, what is expected of it, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import miniaudio
import numpy as np

from b2bua.cdr import CallRecord, Direction, Disposition
from b2bua.demo.audio import dominant_hz, same_tone
from b2bua.demo.endpoint import Endpoint, Talk
from b2bua.demo.office import (
    CONTACT,
    KNOWN,
    NUMBER,
    OUTSIDE,
    PASSWORDS,
    SLOW,
    SLOW_CONTACT,
    UNKNOWN,
    VERA,
    Office,
)
from b2bua.recording.formats import Samples
from b2bua.sandbox import CallEntry, Fault
from b2bua.sandbox.entities import Task

TALK_SECONDS = 3.0
PATIENCE = 60.0                            # seconds for what comes after a call: its record, its note
CRM_DELAY = 10.0                           # seconds the ill CRM takes for each answer
STEP = 0.1


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation of one call."""

    call: str
    what: str
    expected: str
    seen: str
    ok: bool


class Story:
    """Runs the calls one after another; checks come out as they are made."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._call = ""

    async def tell(self) -> AsyncIterator[Check]:
        for chapter in (self._known_caller, self._nobody_answers, self._called_back, self._out, self._inside,
                        self._slow_crm):
            async for check in chapter():
                yield check

    async def _known_caller(self) -> AsyncIterator[Check]:
        """Outside, a contact with a responsible user: their phone rings and shows the name."""
        self._call = "outside → Anna's contact"
        office = self._office
        talk = await office.trunk.call(NUMBER, shown_as=KNOWN, talk_seconds=TALK_SECONDS)
        phone = await _last_talk(office.anna)
        yield self._same("phone 101 shows", CONTACT, phone.shown_name)
        yield self._same("phone 102 and 103 rang", 0, len(office.boris.talks) + len(office.vera.talks))
        for check in self._heard(talk, office.trunk, phone, office.anna):
            yield check
        record = await self._record(KNOWN, Direction.INBOUND)
        yield self._same("call record", "answered by 101, ended by caller", _summary(record))
        entry = await self._entry(CONTACT)
        yield self._same("note in the card", "inbound, Анна Смирнова", f"{entry.direction}, {entry.user_name}")
        yield self._check("talk time in the note", f"{TALK_SECONDS:.0f} s", f"{entry.talk_seconds} s",
                          abs(entry.talk_seconds - TALK_SECONDS) <= 1)
        left, right = await self._recording(entry)
        yield self._tone("recording, left: caller", left, office.trunk.hz)
        yield self._tone("recording, right: callee", right, office.anna.hz)

    async def _nobody_answers(self) -> AsyncIterator[Check]:
        """Outside, a stranger: the number's destination rings; nobody picks up."""
        self._call = "outside → nobody answers"
        office = self._office
        office.vera.picks_up = False
        talk = await office.trunk.call(NUMBER, shown_as=UNKNOWN, talk_seconds=TALK_SECONDS)
        phone = await _last_talk(office.vera)
        yield self._same("phone 103 shows", UNKNOWN, phone.shown_number)
        yield self._same("caller is told", 480, talk.status)
        record = await self._record(UNKNOWN, Direction.INBOUND)
        seen = f"{record.disposition.value}, rang {', '.join(record.rang)}"
        yield self._same("call record", "no answer, rang 103", seen)
        office.vera.picks_up = True
        task = await self._task(UNKNOWN, is_completed=False)
        contacts = [contact.name for contact in office.crm.contacts() if UNKNOWN in contact.phones]
        yield self._same("new contact", UNKNOWN, ", ".join(contacts))
        yield self._same("task", f"Перезвонить {UNKNOWN}, of user {VERA}",
                         f"{task.text}, of user {task.responsible_user_id}")
        due = task.complete_till - int(record.ended_at.timestamp())
        yield self._check("the task is due in", "15 min", f"{due / 60:.0f} min", abs(due - 15 * 60) <= 1)

    async def _called_back(self) -> AsyncIterator[Check]:
        """The task is done by itself once somebody talks to them, and they are no second contact."""
        self._call = "phone 103 calls back"
        office = self._office
        await office.vera.call(UNKNOWN, shown_as="103", talk_seconds=TALK_SECONDS, credentials=_of("103"))
        record = await self._record("103", Direction.OUTBOUND)
        yield self._same("call record", "answered by 103, ended by caller", _summary(record))
        task = await self._task(UNKNOWN, is_completed=True)
        yield self._same("the task is closed", "Разговор состоялся", task.result)
        await self._everything_delivered()
        entries = [entry.direction for entry in self._entries(UNKNOWN)]
        yield self._same("calls in their card", "inbound, outbound", ", ".join(entries))

    async def _out(self) -> AsyncIterator[Check]:
        self._call = "phone 102 → outside"
        office = self._office
        talk = await office.boris.call(OUTSIDE, shown_as="102", talk_seconds=TALK_SECONDS, credentials=_of("102"))
        far = await _last_talk(office.trunk)
        yield self._same("the operator is shown", NUMBER, far.shown_number)
        for check in self._heard(talk, office.boris, far, office.trunk):
            yield check
        record = await self._record("102", Direction.OUTBOUND)
        yield self._same("call record", "answered by 102, ended by caller", _summary(record))

    async def _inside(self) -> AsyncIterator[Check]:
        self._call = "phone 101 → phone 102"
        office = self._office
        await self._everything_delivered()     # what is asked for an earlier call is none of this one's
        asked = len(office.crm.journal)
        talk = await office.anna.call("102", shown_as="101", talk_seconds=TALK_SECONDS, credentials=_of("101"))
        phone = await _last_talk(office.boris)
        yield self._same("phone 102 shows", "Анна Смирнова", phone.shown_name)
        for check in self._heard(talk, office.anna, phone, office.boris):
            yield check
        record = await self._record("101", Direction.INTERNAL)
        yield self._same("call record", "answered by 102, ended by caller", _summary(record))
        yield self._same("requests to the CRM", 0, len(office.crm.journal) - asked)

    async def _slow_crm(self) -> AsyncIterator[Check]:
        """The CRM answers after 10 s: the phone rings after its patience all the same."""
        self._call = "outside, the CRM takes 10 s"
        office = self._office
        office.crm.faults.add(Fault(delay=CRM_DELAY))
        try:
            talk = await office.trunk.call(NUMBER, shown_as=SLOW, talk_seconds=TALK_SECONDS)
            phone = await _last_talk(office.vera)
            waited = phone.invited_at - talk.invited_at
            yield self._check("phone 103 rings after", "1.5 s", f"{waited:.2f} s", abs(waited - 1.5) <= 0.3)
            for check in self._heard(talk, office.trunk, phone, office.vera):
                yield check
            yield self._same("notes when it ended", 0, len(self._entries(SLOW_CONTACT)))
            office.crm.faults.clear()
            entry = await self._entry(SLOW_CONTACT)
            yield self._same("note, later", "inbound, Вера Попова", f"{entry.direction}, {entry.user_name}")
            record = await self._record(SLOW, Direction.INBOUND)
            yield self._same("time in the note", int(record.started_at.timestamp()), entry.created_at)
        finally:
            office.crm.faults.clear()

    # -- how it is found out

    def _heard(self, one: Talk, one_end: Endpoint, other: Talk, other_end: Endpoint) -> list[Check]:
        return [
            self._heard_by(one_end, one, other_end),
            self._heard_by(other_end, other, one_end),
        ]

    def _heard_by(self, listener: Endpoint, talk: Talk, speaker: Endpoint) -> Check:
        ok = same_tone(talk.heard_hz, speaker.hz)
        return self._check(f"{listener.name} hears {speaker.name}", f"{speaker.hz} Hz", f"{talk.heard_hz} Hz", ok)

    def _tone(self, what: str, samples: Samples, hz: int) -> Check:
        heard = dominant_hz(samples)
        return self._check(what, f"{hz} Hz", f"{heard} Hz", same_tone(heard, hz))

    async def _record(self, caller: str, direction: Direction) -> CallRecord:
        async with asyncio.timeout(PATIENCE):
            while True:                    # the books tell nobody of a new record
                for record in await self._office.system.store.calls.last_calls(limit=10):
                    if record.caller == caller and record.direction is direction:
                        return record
                await asyncio.sleep(STEP)

    async def _everything_delivered(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while (await self._office.system.store.outbox.backlog()).pending:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(STEP)

    async def _task(self, phone: str, *, is_completed: bool) -> Task:
        """The one to call this number back, when it is so."""
        async with asyncio.timeout(PATIENCE):
            while True:                    # looked at as a person would
                for task in self._office.crm.tasks():
                    if phone in task.text and task.is_completed is is_completed:
                        return task
                await asyncio.sleep(STEP)

    def _entries(self, contact: str) -> list[CallEntry]:
        return [entry for card in self._office.crm.cards() if card.name == contact for entry in card.entries]

    async def _entry(self, contact: str) -> CallEntry:
        async with asyncio.timeout(PATIENCE):
            while not (entries := self._entries(contact)):  # noqa: ASYNC110 - looked at as a person would
                await asyncio.sleep(STEP)
        return entries[-1]

    async def _recording(self, entry: CallEntry) -> tuple[Samples, Samples]:
        """The MP3 behind the note's link, decoded: left and right."""
        assert entry.link is not None, "the note has no link to a recording"
        async with httpx.AsyncClient() as browser:
            answer = await browser.get(entry.link)
        answer.raise_for_status()
        decoded = miniaudio.decode(answer.content, nchannels=2, sample_rate=8000)
        both = np.frombuffer(decoded.samples, dtype=np.int16).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    def _same(self, what: str, expected: object, seen: object) -> Check:
        return self._check(what, str(expected), str(seen), expected == seen)

    def _check(self, what: str, expected: str, seen: str, ok: bool) -> Check:
        return Check(self._call, what, expected, seen, ok)


async def _last_talk(endpoint: Endpoint) -> Talk:
    """The endpoint's last call, when it is over there too."""
    async with asyncio.timeout(PATIENCE):
        while not endpoint.talks:  # noqa: ASYNC110 - looked at as a person would
            await asyncio.sleep(STEP)
        await endpoint.talks[-1].over.wait()
    return endpoint.talks[-1]


def _summary(record: CallRecord) -> str:
    who = f" by {record.extension}" if record.disposition is Disposition.ANSWERED else ""
    return f"{record.disposition.value}{who}, ended by {record.ended_by.value}"


def _of(number: str) -> tuple[str, str]:
    return number, PASSWORDS[number]
