"""The gate of one amoCRM account: rate, order, pauses; on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from b2bua.crm.amocrm import gate as limits
from b2bua.crm.amocrm.gate import Gate, Lane
from b2bua.crm.port import CrmUnavailable


class Traffic:
    """Requests through one gate, with the times at which they began."""

    def __init__(self, seconds: float = 0.1) -> None:
        self.gate = Gate()
        self.seconds = seconds
        self.began: list[tuple[float, Lane]] = []
        self.in_flight = self.most_in_flight = 0

    async def request(self, lane: Lane = Lane.RINGING, seconds: float | None = None) -> None:
        async with self.gate.passing(lane):
            self.began.append((asyncio.get_running_loop().time(), lane))
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                await asyncio.sleep(self.seconds if seconds is None else seconds)
            finally:
                self.in_flight -= 1


async def test_no_second_sees_more_than_five_requests_and_no_moment_more_than_two() -> None:
    traffic = Traffic(seconds=0.01)
    await asyncio.gather(*(traffic.request() for _ in range(23)))
    times = [at for at, _ in traffic.began]
    after_five = zip(times, times[limits.PER_SECOND :], strict=False)
    assert all(later - earlier >= limits.WINDOW - 1e-9 for earlier, later in after_five)
    assert times[-1] == pytest.approx(4 * limits.WINDOW, abs=0.1)
    assert traffic.most_in_flight == limits.IN_FLIGHT


async def test_a_ringing_phone_goes_before_everything_that_waits() -> None:
    traffic = Traffic()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(traffic.request(Lane.WRITE))
        await asyncio.sleep(0.05)
        tasks.create_task(traffic.request(Lane.POP_UP))
        tasks.create_task(traffic.request(Lane.RINGING))
    assert [lane for _, lane in traffic.began][:4] == [Lane.WRITE, Lane.POP_UP, Lane.RINGING, Lane.WRITE]


async def test_a_hanging_write_leaves_room_for_a_ringing_phone() -> None:
    traffic = Traffic()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(traffic.request(Lane.WRITE, seconds=30))
        tasks.create_task(traffic.request(Lane.WRITE, seconds=30))
        await asyncio.sleep(1)
        await traffic.request(Lane.RINGING)
        assert asyncio.get_running_loop().time() < 2


async def test_writes_are_not_starved_by_many_slow_questions() -> None:
    traffic = Traffic(seconds=10)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(traffic.request(Lane.WRITE))
        await asyncio.sleep(1)
        tasks.create_task(traffic.request(Lane.WRITE))
        for _ in range(60):
            await asyncio.sleep(1)
            tasks.create_task(traffic.request(Lane.RINGING))
    writes = [at for at, lane in traffic.began if lane is Lane.WRITE]
    assert writes[1] <= 50                                 # after those that came within its ten seconds
    assert traffic.began[-1][0] > 250


async def test_who_loses_patience_leaves_its_place() -> None:
    traffic = Traffic(seconds=5)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(limits.IN_FLIGHT):
            tasks.create_task(traffic.request())
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await traffic.request()
        await traffic.request()
    assert len(traffic.began) == limits.IN_FLIGHT + 1
    assert traffic.in_flight == 0


async def test_a_cancellation_in_the_tick_of_the_admission_gives_the_place_back() -> None:
    traffic = Traffic(seconds=1)
    async with asyncio.TaskGroup() as tasks:
        holders = [tasks.create_task(traffic.request()) for _ in range(limits.IN_FLIGHT)]
        await asyncio.sleep(0.1)
        waiting = tasks.create_task(traffic.request())
        await asyncio.sleep(0)
        holders[0].add_done_callback(lambda _: waiting.cancel())
    for _ in range(limits.IN_FLIGHT):
        await traffic.request(seconds=0)
    assert traffic.in_flight == 0


async def test_a_pause_sends_everybody_away_with_the_time_to_come_again() -> None:
    traffic = Traffic(seconds=3)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(limits.IN_FLIGHT):
            tasks.create_task(traffic.request())
        await asyncio.sleep(0)
        waiting = tasks.create_task(_refusal(traffic))
        await asyncio.sleep(0)
        traffic.gate.pause(60)
        assert await waiting == pytest.approx(60)
        await asyncio.sleep(20)
        assert await _refusal(traffic) == pytest.approx(40)
        await asyncio.sleep(41)
        await traffic.request()


async def test_the_queue_is_bounded() -> None:
    traffic = Traffic(seconds=3_600)
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(traffic.request()) for _ in range(limits.IN_FLIGHT + limits.WAITING)]
        await asyncio.sleep(0.1)
        assert await _refusal(traffic) is None
        for task in waiting:
            task.cancel()


async def _refusal(traffic: Traffic) -> float | None:
    with pytest.raises(CrmUnavailable) as refusal:
        await traffic.request()
    return refusal.value.retry_after
