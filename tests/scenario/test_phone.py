"""The fake phone is a phone: two of them, one as the other's server, on a good and on a bad network."""

import asyncio

import pytest

from b2bua.sip.effects import Address, EndCause, Party
from tests.support.network import Conditions, Network
from tests.support.phone import Answers, Dead, Phone, Rejects, Rings

HERE, THERE = Address("10.0.0.1", 5060), Address("10.0.0.2", 5060)

Pair = tuple[Network, Phone, Phone]


def two_phones(conditions: Conditions = Conditions(), seed: int = 0) -> Pair:
    network = Network(seed, conditions)
    return network, Phone("100", THERE, name="Анна").on(network, HERE), Phone("200", HERE, seed=1).on(network, THERE)


async def test_a_call_is_answered_and_ended_by_the_caller() -> None:
    _, anna, boris = two_phones()
    call = anna.call("200")
    await call.answered.wait()
    call.hang_up()
    (theirs,) = boris.calls
    await theirs.over.wait()
    assert theirs.shown == "Анна"
    assert theirs.answered_at == pytest.approx(2.0, abs=0.1)
    assert theirs.ended is not None
    assert (theirs.ended.by, theirs.ended.cause) == (Party.REMOTE, EndCause.BYE)
    assert call.ladder() == theirs.ladder()[:-1] == ["INVITE", "100", "180", "200", "ACK", "BYE"]


async def test_the_called_phone_may_hang_up() -> None:
    _, anna, boris = two_phones()
    boris.does = Answers(after=1.0, hangs_up_after=10.0)
    call = anna.call("200")
    await call.over.wait()
    assert call.ended_at == pytest.approx(11.0, abs=0.1)


async def test_busy_is_busy() -> None:
    _, anna, boris = two_phones()
    boris.does = Rejects(486)
    call = anna.call("200")
    await call.over.wait()
    assert (call.status, call.ladder()) == (486, ["INVITE", "100", "486", "ACK"])


async def test_a_caller_gives_up() -> None:
    _, anna, boris = two_phones()
    boris.does = Rings()
    call = anna.call("200")
    await call.rang.wait()
    call.hang_up()
    await boris.calls[0].over.wait()
    assert boris.calls[0].ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487"]


async def test_a_dead_phone_is_given_up_after_32_seconds() -> None:
    _, anna, boris = two_phones()
    boris.does = Dead()
    call = anna.call("200")
    await call.over.wait()
    assert call.ended_at == pytest.approx(32.0, abs=0.1)


async def test_hold_is_answered_by_its_mirror_image() -> None:
    _, anna, boris = two_phones()
    call = anna.call("200")
    await call.answered.wait()
    (theirs,) = boris.calls
    call.offer("sendonly")
    await settled()
    assert (theirs.direction, call.direction) == ("sendonly", "recvonly")
    call.hang_up()
    await settled()


@pytest.mark.parametrize("seed", range(5))
async def test_a_bad_network_only_takes_longer(seed: int) -> None:
    _, anna, boris = two_phones(Conditions(loss=0.2, duplication=0.1, reordering=0.1, jitter=0.05), seed)
    call = anna.call("200")
    await call.answered.wait()
    await settled()
    call.hang_up()
    await boris.calls[0].over.wait()
    assert boris.calls[0].status == 200


async def settled() -> None:
    await asyncio.sleep(40)               # virtual seconds: longer than any transaction lives
