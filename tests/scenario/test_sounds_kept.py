"""Sound files are looked at for as long as the daemon runs, whatever is found in their directory."""

from __future__ import annotations

import asyncio

import pytest

from b2bua.upkeep import SOUNDS_LOOKED_AT_EVERY, keep_sounds


async def test_a_look_that_breaks_is_followed_by_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    looks: list[float] = []
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def look() -> None:
        looks.append(loop.time() - begun)
        if len(looks) == 2:
            raise OSError("the disk is gone")

    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(keep_sounds(look))
        await asyncio.sleep(4.5 * SOUNDS_LOOKED_AT_EVERY)
        keeping.cancel()
    assert looks == pytest.approx([SOUNDS_LOOKED_AT_EVERY * count for count in (1, 2, 3, 4)])
    assert "sounds not looked at" in capsys.readouterr().out
