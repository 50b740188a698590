"""Cycles of objects that had grown old are found too, at the full look of a quiet hour, or after a day without one."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from b2bua import collector
from tests.unit.test_collector import Knot


def knot_that_grew_old() -> weakref.ref[Knot]:
    knot = Knot()
    gc.collect(0)
    return weakref.ref(knot)


@pytest.mark.parametrize(("busy_until", "found_at"), [
    (0.0, collector.FULL_EVERY),
    (collector.FULL_EVERY + 100, collector.FULL_EVERY + 100),
    (10 * collector.FULL_AT_LAST, collector.FULL_AT_LAST),
])
@pytest.mark.patience(2 * collector.FULL_AT_LAST)
async def test_an_old_cycle_is_found_when_it_is_quiet_or_at_last(busy_until: float, found_at: float) -> None:
    loop = asyncio.get_running_loop()

    def lingering() -> int:
        return collector.QUIET + (loop.time() < busy_until)

    async with asyncio.TaskGroup() as tasks:
        with collector.short_pauses():
            old = knot_that_grew_old()
            looking = tasks.create_task(collector.look_at_everything(lingering))
            await asyncio.sleep(found_at - 1)
            assert old() is not None
            await asyncio.sleep(collector.CHECK_EVERY + 1)
            assert old() is None
            looking.cancel()
