"""The ground that scenarios stand on: hours pass at once, and waiting for nothing is an error."""

import asyncio

import pytest

from tests.support.virtual_loop import EPOCH, Deadlock, VirtualLoop


async def test_three_hours_pass_at_once_and_in_order() -> None:
    loop = asyncio.get_running_loop()
    seen: list[tuple[float, str]] = []
    async with asyncio.TaskGroup() as tasks:
        for after in (3 * 3600.0, 0.5, 32.0):
            tasks.create_task(_note(after, seen))
    assert seen == [(0.5, "0.5"), (32.0, "32.0"), (10800.0, "10800.0")]
    assert isinstance(loop, VirtualLoop)
    assert (loop.wall() - EPOCH).total_seconds() == 10800


async def _note(after: float, seen: list[tuple[float, str]]) -> None:
    await asyncio.sleep(after)
    seen.append((asyncio.get_running_loop().time(), str(after)))


def test_a_deadlock_names_the_tasks_that_wait() -> None:
    async def wait_for_nobody() -> None:
        await asyncio.get_running_loop().create_future()

    loop = VirtualLoop()
    with pytest.raises(Deadlock, match=r"no timer is set(.|\n)*wait_for_nobody"):
        loop.run_until_complete(wait_for_nobody())
    _finish(loop)


def test_virtual_time_has_a_limit() -> None:
    loop = VirtualLoop(limit=100.0)
    with pytest.raises(Deadlock, match="100 s of virtual time"):
        loop.run_until_complete(asyncio.sleep(101))
    _finish(loop)


def _finish(loop: VirtualLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
