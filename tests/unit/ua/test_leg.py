"""while_up: a block is left exactly when its leg ends, and a shutdown's cancellation passes through."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from b2bua.sip.effects import Confirmed, EndCause, Ended, Party
from b2bua.sip.invite_session import InviteSession
from b2bua.ua.agent import UserAgent
from b2bua.ua.leg import MAX_WAITING_EVENTS, Inbox, Leg, LegEnded, Wish, while_up


def a_leg() -> Leg:
    return Leg(cast(UserAgent, None), cast(InviteSession, None), Inbox(), "leg")


def end(leg: Leg) -> None:
    leg.notify(Ended(leg.session, Party.REMOTE, EndCause.BYE))


async def test_the_block_is_left_when_the_leg_ends() -> None:
    leg = a_leg()
    asyncio.get_running_loop().call_soon(end, leg)
    with pytest.raises(LegEnded) as caught:
        async with while_up(leg):
            await asyncio.Event().wait()
    assert caught.value.leg is leg
    assert caught.value.end.cause is EndCause.BYE


async def test_a_leg_that_has_ended_already_lets_nobody_in() -> None:
    leg = a_leg()
    end(leg)
    with pytest.raises(LegEnded):
        async with while_up(leg):
            pytest.fail("the block ran")


async def test_a_block_that_is_left_first_hears_nothing_of_a_later_end() -> None:
    leg = a_leg()
    async with while_up(leg):
        pass
    end(leg)
    await asyncio.sleep(0)


async def test_an_end_in_the_very_tick_in_which_the_block_is_left_is_raised_and_cancels_nothing_later() -> None:
    leg = a_leg()
    with pytest.raises(LegEnded):
        async with while_up(leg):
            end(leg)
    await asyncio.sleep(0)


async def test_an_error_of_the_block_passes_even_when_the_leg_ends_with_it() -> None:
    leg = a_leg()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - both at once is the case
        async with while_up(leg):
            end(leg)
            raise ZeroDivisionError
    await asyncio.sleep(0)


async def test_the_inner_block_of_two_is_left_for_its_own_leg_and_the_outer_one_goes_on() -> None:
    outer, inner = a_leg(), a_leg()
    async with while_up(outer):
        asyncio.get_running_loop().call_soon(end, inner)
        with pytest.raises(LegEnded) as caught:
            async with while_up(inner):
                await asyncio.Event().wait()
        assert caught.value.leg is inner
        await asyncio.sleep(0)


async def test_a_shutdown_passes_through_untouched() -> None:
    leg = a_leg()

    async def talk() -> None:
        async with while_up(leg):
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(talk())
        await asyncio.sleep(0)
        task.cancel()
        end(leg)
    assert task.cancelled()


async def test_the_inbox_keeps_order_and_its_bound() -> None:
    leg = a_leg()
    for _ in range(MAX_WAITING_EVENTS + 5):
        leg.notify(Confirmed(leg.session, b""))
    assert leg.inbox.dropped == 5
    end(leg)                                # always has a place: who reads the inbox must learn of it
    events = [(await leg.inbox.get()) for _ in range(MAX_WAITING_EVENTS + 1)]
    assert {one for one, _ in events} == {leg}
    assert [type(event) for _, event in events[-2:]] == [Confirmed, Ended]


async def test_a_failed_inbox_raises_after_what_came_before() -> None:
    leg = a_leg()
    end(leg)
    leg.inbox.fail(ConnectionError())
    await leg.inbox.get()
    with pytest.raises(ConnectionError):
        await leg.inbox.get()


async def test_a_released_leg_may_end_and_the_block_goes_on() -> None:
    leg = a_leg()
    async with while_up(leg) as block:
        block.release()
        end(leg)
        await asyncio.sleep(0)


async def test_an_end_that_came_before_the_release_is_still_raised() -> None:
    leg = a_leg()
    with pytest.raises(LegEnded):           # noqa: PT012 - both in one tick is the case
        async with while_up(leg) as block:
            end(leg)
            block.release()
            await asyncio.Event().wait()


class Roster:
    """Of the agent, what move needs."""

    def __init__(self) -> None:
        self.moved: list[Leg] = []

    def move(self, leg: Leg) -> None:
        self.moved.append(leg)


async def test_a_leg_that_moves_takes_its_events_along_and_has_ended_for_the_call_that_it_leaves() -> None:
    roster, old, new = Roster(), Inbox(), Inbox()
    leg, stays = (Leg(cast(UserAgent, roster), cast(InviteSession, None), old, name) for name in ("leg", "stays"))
    event = Confirmed(leg.session, b"")
    for one in (leg, stays):
        one.notify(event)
    moved = leg.move(new)
    assert roster.moved == [moved]
    assert (moved.end, moved.name, moved.inbox) == (None, "leg", new)
    assert await new.get() == (moved, event)
    assert await old.get() == (stays, event)
    left, ended = await old.get()
    assert left is leg
    assert isinstance(ended, Ended)
    leg.hang_up()                           # its dialog is another call's: nothing is sent


class Asks(Wish):
    def __init__(self) -> None:
        self.came_too_late = False

    def too_late(self) -> None:
        self.came_too_late = True


async def test_a_wish_that_nobody_reads_is_told_so() -> None:
    leg, wish = a_leg(), Asks()
    leg.notify(Confirmed(leg.session, b""))
    leg.inbox.put(leg, wish)
    leg.inbox.close()
    assert wish.came_too_late
