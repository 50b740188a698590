"""Several outboxes on one database: no row is delivered twice, a number's rows keep their order, and what a dead one
had in hand is given back."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from b2bua.cdr import CallId, ClientId
from b2bua.crm import outbox as limits
from b2bua.crm.outbox import Outbox, RecordingState
from b2bua.crm.port import Contact, Crm, CrmUnavailable, CrmWrite, Delivered, Made, MadeKind, PopUp
from b2bua.store.store import Store, open_store
from tests.support.records import note, record

CLIENTS = [ClientId(f"client-{number}") for number in range(4)]
NUMBERS, CALLS = 6, 8                  # of each client; calls of each number
PROCESSES = 3


@dataclass
class SharedCrm:
    """What all processes deliver to; every third write fails at first, and each takes a moment."""

    told: dict[tuple[ClientId, str], list[CallId]] = field(default_factory=lambda: defaultdict(list))
    known: dict[CallId, int] = field(default_factory=dict)
    in_hand: set[tuple[ClientId, str]] = field(default_factory=set)
    tries: dict[CallId, int] = field(default_factory=lambda: defaultdict(int))
    all_told: asyncio.Event = field(default_factory=asyncio.Event)

    async def find_contact(self, phone: str) -> Contact | None:
        raise AssertionError("nobody asks")

    async def pop_up(self, pop_up: PopUp) -> None:
        raise AssertionError("nobody asks")

    async def deliver(self, write: CrmWrite, known: tuple[Made, ...] = (), *, repeated: bool = False) -> Delivered:
        lane = write.client, write.phone
        assert lane not in self.in_hand, "two rows of one number at once"
        self.in_hand.add(lane)
        try:
            self.tries[write.call] += 1
            await asyncio.sleep(0.002)
            if self.tries[write.call] == 1 and len(self.tries) % 3 == 0:
                raise CrmUnavailable("at first")
            assert write.call not in self.told[lane], "told twice"
            self.known[write.call] = len(known)
            self.told[lane].append(write.call)
            if sum(map(len, self.told.values())) == len(CLIENTS) * NUMBERS * CALLS:
                self.all_told.set()
            return Delivered(f"note {write.call}", made=(Made(MadeKind.NOTE, write.call, write.call, "contacts/1"),))
        finally:
            self.in_hand.discard(lane)


async def never(recording: str) -> RecordingState:
    return RecordingState.NEVER


def an_outbox(store: Store, crm: Crm, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Outbox:
    return Outbox(store.outbox, lambda client: crm, clock, never)


async def _owe(store: Store) -> None:
    await asyncio.gather(*[
        store.calls.finish(finished, [note(finished)])
        for call in range(CALLS) for number in range(NUMBERS) for client in CLIENTS
        for finished in [record(f"{client}-{number}-{call}", caller=f"+7495000000{number}", client=client)]
    ])


async def test_several_processes_deliver_each_row_once_and_in_order(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FIRST_RETRY", 0.05)
    crm = SharedCrm()
    async with open_store(database_url) as one, open_store(database_url) as two, open_store(database_url) as three:
        await _owe(one)
        outboxes = [an_outbox(store, crm) for store in (one, two, three)]
        async with asyncio.TaskGroup() as tasks:
            for outbox in outboxes:
                tasks.create_task(outbox.run())
            await crm.all_told.wait()
            for outbox in outboxes:
                outbox.stop()
        assert (await one.outbox.backlog()).pending == 0
    assert len(crm.told) == len(CLIENTS) * NUMBERS
    for lane, calls in crm.told.items():
        assert calls == sorted(calls), lane
        assert [crm.known[call] for call in calls] == list(range(CALLS)), "each knows what was made before it"
    assert sum(outbox.counts.delivered for outbox in outboxes) == len(CLIENTS) * NUMBERS * CALLS
    assert sum(outbox.counts.delivered > 0 for outbox in outboxes) > 1


async def test_what_a_dead_process_had_in_hand_is_given_back_and_its_late_word_says_nothing(database_url: str) -> None:
    now = datetime.now(UTC)
    async with open_store(database_url) as dead, open_store(database_url) as heir:
        finished = record("c1", caller="+74950000001")
        await dead.calls.finish(finished, [note(finished)])
        (row,) = await dead.outbox.claim(finished.client, now, now + limits.LEASE, 2)
        assert await heir.outbox.claim(finished.client, now, now + limits.LEASE, 2) == []
        later = now + limits.LEASE + timedelta(seconds=1)
        (again,) = await heir.outbox.claim(finished.client, later, later + limits.LEASE, 2)
        assert (again.id, again.attempts) == (row.id, 2)
        await heir.outbox.done(again.id, _told("5"), later)
        await dead.outbox.done(row.id, _told("6"), later)
        await dead.outbox.retry(row.id, later, "timed out")
        agenda: Mapping[ClientId, datetime] = await heir.outbox.agenda()
        assert agenda == {}
        following = record("c2", caller="+74950000001")
        await heir.calls.finish(following, [note(following)])
        rows: Sequence[object] = (await heir.outbox.claim(finished.client, later, later + limits.LEASE, 2))[0].known
        assert rows == _told("5").made


def _told(number: str) -> Delivered:
    return Delivered(f"note {number}", made=(Made(MadeKind.NOTE, CallId("c1"), number, "contacts/1"),))
