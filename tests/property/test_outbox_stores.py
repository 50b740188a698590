"""SQLite's outbox and the one in memory, on which the tests of deliveries stand, give the same rows for the same words,
a person's among them.

FUZZ_EXAMPLES=N looks at N histories that nobody has seen before, where the default is the same few ones each time.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b2bua.cdr import CallId
from b2bua.crm.port import CrmWrite, Delivered, Made, MadeKind
from b2bua.store.deliveries import BEHIND
from b2bua.store.migrate import migrate
from b2bua.store.store import Store, open_store
from tests.support.amo_post import ACME, call_back, card, deal, fill_in, note, talked_to
from tests.support.memory_outbox import MemoryOutbox, State
from tests.support.records import NOON, record

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
PHONES = ("+79160000001", "+79160000002")
STEP = BEHIND + timedelta(seconds=60)  # whatever was put off behind another may be looked at again
LEASE = STEP + timedelta(seconds=1)    # runs out at the step after the next


@dataclass(frozen=True)
class Owes:
    phone: str
    with_card: bool


@dataclass(frozen=True)
class Says:
    """About one of the rows that were claimed last, or, when a person says it, of all."""

    word: str
    which: int


steps = st.lists(st.one_of(
    st.builds(Owes, st.sampled_from(PHONES), st.booleans()),
    st.builds(Says, st.sampled_from(("done", "retry", "release", "aside", "aside", "resend", "drop")),
              st.integers(0, 20)),
), min_size=1, max_size=25)


def writes_of(call: str, phone: str, *, with_card: bool) -> list[CrmWrite]:
    told = [note(call, phone), fill_in(call, phone), talked_to(call, phone), call_back(call, phone)]
    return [card(call, phone), deal(call, phone), *told] if with_card else told


class Both:
    def __init__(self, store: Store) -> None:
        self.now: datetime = NOON
        self.store, self.memory = store, MemoryOutbox(lambda: self.now)
        self.in_hand: list[int] = []
        self.calls = 0

    async def owe(self, step: Owes) -> None:
        self.calls += 1
        writes = writes_of(f"c{self.calls}", step.phone, with_card=step.with_card)
        for write in writes:
            self.memory.add(write)
        await self.store.calls.finish(record(f"c{self.calls}", ended_at=self.now), writes)

    async def say(self, step: Says) -> None:
        rows = range(1, len(self.memory.rows) + 1) if step.word in ("resend", "drop") else self.in_hand
        if not rows:
            return
        row = rows[step.which % len(rows)]
        made = Delivered("ok", made=(Made(MadeKind.NOTE, CallId("c"), str(row), "contacts/1"),))
        for outbox in (self.memory, self.store.outbox):
            match step.word:
                case "done":
                    await outbox.done(row, made, self.now)
                case "retry":
                    await outbox.retry(row, self.now + STEP, "503")
                case "release":
                    await outbox.release(row, self.now)
                case "aside":
                    await outbox.set_aside(row, "400", self.now)
        if step.word == "resend":
            self.memory.resend(row, self.now)
            await self.store.outbox.resend([row], self.now)
        elif step.word == "drop":
            self.memory.drop(row, self.now)
            await self.store.outbox.drop([row], "by root", self.now)

    async def claim(self) -> None:
        expected = await self.memory.claim(ACME, self.now, self.now + LEASE, 100)
        claimed = await self.store.outbox.claim(ACME, self.now, self.now + LEASE, 100)
        assert list(claimed) == sorted(expected, key=lambda row: row.id)
        self.in_hand = [row.id for row in claimed] or self.in_hand

    async def check(self) -> None:
        aside = {row.id: row.said for row in await self.store.outbox.aside(ACME, 1_000)}
        assert aside == {row.id: row.said for row in self.memory.rows if row.state is State.ASIDE}
        waiting = {row.id: row.attempts for row in await self.store.outbox.waiting(ACME, 1_000)}
        assert waiting == {row.id: row.attempts for row in self.memory.rows if row.state is State.PENDING}


async def live(url: str, history: list[Owes | Says]) -> None:
    await migrate(url)
    async with open_store(url) as store:
        both = Both(store)
        for step in history:
            await (both.owe(step) if isinstance(step, Owes) else both.say(step))
            await both.check()
            both.now += STEP
            await both.claim()


@settings(max_examples=EXAMPLES or 25, derandomize=not EXAMPLES, deadline=None,
          suppress_health_check=[HealthCheck.too_slow])
@given(history=steps)
def test_both_give_the_same_rows_for_the_same_words(history: list[Owes | Says]) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        patch("b2bua.store.store.KEEP_DELIVERED_DAYS", 36_500),        # by the clock of today all of it was long ago
    ):
        asyncio.run(live(f"sqlite+aiosqlite:///{Path(directory) / 'test.db'}", history))
