"""Ring groups, as their members and callers live them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from b2bua.cdr import Disposition
from b2bua.directory import Strategy
from tests.support.office import DID, Office, open_office
from tests.support.phone import Answers, Phone, PhoneCall, Rejects, Rings

IVAN = "+79161234567"


@pytest.fixture
def office():
    return open_office()


async def has(office: Office, strategy: Strategy) -> None:
    """A number that goes to a group of 102 and 103, ten seconds each."""
    directory = office.books.directory
    group = replace(directory.groups[0], strategy=strategy, member_seconds=10)
    office.change(groups=(group,), numbers=(replace(directory.numbers[0], destination="600"),))
    await office.pbx.settings_changed()


async def talk(call: PhoneCall, seconds: float = 5.0) -> None:
    await call.answered.wait()
    await asyncio.sleep(seconds)
    call.hang_up()
    await asyncio.sleep(1)


def rang(*phones: Phone) -> list[int]:
    return [len(phone.calls) for phone in phones]


async def test_in_turn_each_rings_for_its_time_and_the_next_takes_over(office: Office) -> None:
    await has(office, Strategy.IN_TURN)
    boris, vera = await office.phone("102", Rings()), await office.phone("103", Answers(after=2.0))
    call = office.trunk.call(DID, as_=IVAN)
    await talk(call)
    record = await office.record()
    assert boris.calls[0].ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    assert boris.calls[0].rang_at is not None
    assert vera.calls[0].rang_at is not None
    assert vera.calls[0].rang_at - boris.calls[0].rang_at == pytest.approx(10, abs=0.2)
    assert (record.extension, record.rang) == ("103", ("102", "103"))
    assert f"{DID} goes to 600, its members in turn: 102" in record.why
    assert "600: 103 is next" in record.why
    await office.all_quiet()


async def test_in_turn_a_busy_member_is_followed_at_once(office: Office) -> None:
    await has(office, Strategy.IN_TURN)
    await office.phone("102", Rejects(486))
    vera = await office.phone("103", Answers(after=1.0))
    began = asyncio.get_running_loop().time()
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    assert vera.calls[0].rang_at is not None
    assert vera.calls[0].rang_at - began < 1
    call.hang_up()
    assert (await office.record()).extension == "103"
    await office.all_quiet()


async def test_in_turn_nobody_answers_and_everybody_has_rung(office: Office) -> None:
    await has(office, Strategy.IN_TURN)
    await office.phone("102", Rings())
    await office.phone("103", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (call.status, record.disposition, record.rang) == (480, Disposition.NO_ANSWER, ("102", "103"))
    await office.all_quiet()


async def test_by_round_each_call_begins_with_the_next_member(office: Office) -> None:
    await has(office, Strategy.ROUND)
    anna = await office.phone("101")
    boris, vera = await office.phone("102", Answers(after=1.0)), await office.phone("103", Answers(after=1.0))
    seen = []
    for place in range(4):                 # from outside and from inside: it is one round
        await talk(office.trunk.call(DID, as_=IVAN) if place % 2 else anna.call("600"))
        seen.append(rang(boris, vera))
    assert seen == [[1, 0], [1, 1], [2, 1], [2, 2]]
    await office.all_quiet()


async def test_by_round_two_calls_at_once_begin_with_two_members(office: Office) -> None:
    await has(office, Strategy.ROUND)
    boris, vera = await office.phone("102"), await office.phone("103")
    calls = [office.trunk.call(DID, as_=IVAN) for _ in range(2)]
    for call in calls:
        await call.answered.wait()
    assert rang(boris, vera) == [1, 1]
    for call in calls:
        call.hang_up()
    await office.record(2)
    await office.all_quiet()


async def test_longest_idle_is_who_has_been_without_any_call_longest(office: Office) -> None:
    await has(office, Strategy.LONGEST_IDLE)
    anna = await office.phone("101")
    boris, vera = await office.phone("102", Answers(after=1.0)), await office.phone("103", Answers(after=1.0))
    await talk(anna.call("102"))           # a call beside the group counts
    await talk(office.trunk.call(DID, as_=IVAN))
    assert rang(boris, vera) == [1, 1]
    await talk(office.trunk.call(DID, as_=IVAN))
    assert rang(boris, vera) == [2, 1]
    boris_calls = boris.call("101")        # as does one that the member made; who is in a call comes last
    await boris_calls.answered.wait()
    await talk(office.trunk.call(DID, as_=IVAN))
    await talk(office.trunk.call(DID, as_=IVAN))
    assert rang(boris, vera) == [3, 3]
    boris_calls.hang_up()
    await office.record(6)
    await office.all_quiet()


async def test_who_hands_a_call_over_is_idle_from_then_on(office: Office) -> None:
    await has(office, Strategy.LONGEST_IDLE)
    anna, boris = await office.phone("101"), await office.phone("102", Answers(after=1.0))
    vera = await office.phone("103", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    boris.calls[0].refer("<sip:103@10.0.0.1>")
    await boris.calls[0].over.wait()
    await talk(anna.call("600"))           # 103 talks to the outside now
    assert rang(boris, vera) == [2, 1]
    call.hang_up()
    await office.record(2)
    await office.all_quiet()


async def test_what_a_group_remembers_goes_with_the_directory(office: Office) -> None:
    await has(office, Strategy.ROUND)
    await office.phone("102", Answers(after=1.0))
    await talk(office.trunk.call(DID, as_=IVAN))
    turns = office.pbx.turns.now
    assert len(turns.begun) == len(turns.idle_since) == 1
    office.change(groups=(), extensions=(), numbers=())
    await office.pbx.settings_changed()
    assert len(turns.begun) == len(turns.idle_since) == 0
