"""Random calls on networks that lose, double and reorder: in the end both ends agree, and nothing is left."""

from __future__ import annotations

import asyncio
import random

import pytest

from b2bua.cdr import Disposition
from tests.support.network import Conditions
from tests.support.office import DID, open_office
from tests.support.phone import Answers, Rejects, Rings

BAD = Conditions(latency=0.02, jitter=0.05, loss=0.08, duplication=0.05, reordering=0.1, held=0.3)
CALLS = 12


@pytest.mark.parametrize("seed", range(12))
async def test_every_call_comes_to_the_same_end_everywhere(seed: int) -> None:
    rng = random.Random(seed)
    async with open_office(seed=seed) as office:
        phones = [await office.phone(number) for number in ("101", "102", "103")]
        office.network.conditions = BAD
        made = []
        for _ in range(CALLS):
            for phone in phones:
                behaviours = [Answers(rng.uniform(0.1, 4)), Answers(1.0, hangs_up_after=5.0), Rejects(486), Rings()]
                phone.does = rng.choice(behaviours)
            caller = rng.choice([office.trunk, *phones])
            if caller is office.trunk:
                call = caller.call(DID, as_="+79161234567")
            else:
                call = caller.call(rng.choice(["101", "102", "103", "600", "+79265554433"]))
            made.append(call)
            asyncio.get_running_loop().call_later(rng.uniform(0.01, 60), call.hang_up)
            await asyncio.sleep(rng.uniform(0.5, 20))
        await asyncio.sleep(400)
        assert all(call.over.is_set() for call in made)
        assert len(office.books.records) <= CALLS
        for phone in (*phones, office.trunk):
            assert all(call.over.is_set() for call in phone.calls), office.network.ladder()
            assert phone.core.session_count == 0
        answered = [record for record in office.books.records if record.disposition is Disposition.ANSWERED]
        assert all(record.answered_at and record.talk_seconds >= 0 for record in answered)
        office.network.conditions = Conditions()
        await office.all_quiet()
