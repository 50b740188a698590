"""Who calls: patience, memory, one question at a time, and peace for an ill CRM; on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from b2bua.cdr import ClientId
from b2bua.crm import lookup as limits
from b2bua.crm.lookup import Lookup
from b2bua.crm.memory import Memory
from b2bua.crm.port import CrmUnavailable
from tests.support.fake_crm import FakeCrm, contact

ACME = ClientId("acme")
PHONE, STRANGER = "+74951234567", "+79160000000"
IVAN = contact("Иван Петров")


class Office:
    def __init__(self) -> None:
        self.crm = FakeCrm({PHONE: IVAN})
        self.lookup = Lookup(lambda client: self.crm if client == ACME else None)
        self.waited = 0.0

    async def ask(self, phone: str = PHONE, patience: float = 1.5) -> object:
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await self.lookup.find_contact(ACME, phone, patience)
        self.waited = loop.time() - began
        return found


@pytest.fixture
def office() -> AbstractAsyncContextManager[Office]:
    @asynccontextmanager
    async def running() -> AsyncIterator[Office]:
        office = Office()
        async with office.lookup:
            yield office

    return running()


async def test_a_phone_waits_no_longer_than_its_patience(office: Office) -> None:
    office.crm.answers_after = 10
    assert await office.ask() is None
    assert office.waited == pytest.approx(1.5)
    assert office.lookup.counts.late == 1


async def test_the_late_answer_serves_the_next_call(office: Office) -> None:
    office.crm.answers_after = 10
    await office.ask()
    await asyncio.sleep(10)
    assert await office.ask() == IVAN
    assert office.waited == 0
    assert office.crm.asked[PHONE] == 1


async def test_calls_of_one_number_share_one_question(office: Office) -> None:
    office.crm.answers_after = 1
    assert await asyncio.gather(*(office.ask() for _ in range(5))) == [IVAN] * 5
    assert office.crm.asked[PHONE] == 1
    assert office.lookup.counts.shared == 4


async def test_a_caller_who_hangs_up_does_not_stop_the_question(office: Office) -> None:
    office.crm.answers_after = 1
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(office.ask())
        second = tasks.create_task(office.ask())
        await asyncio.sleep(0.5)
        first.cancel()
    assert second.result() == IVAN
    assert office.crm.asked[PHONE] == 1


async def test_a_hit_is_remembered_for_five_minutes_and_then_refreshed_behind_the_caller(office: Office) -> None:
    await office.ask()
    await asyncio.sleep(limits.HIT_FRESH - 1)
    await office.ask()
    assert office.crm.asked[PHONE] == 1
    await asyncio.sleep(2)
    office.crm.contacts[PHONE] = maria = contact("Мария")
    office.crm.answers_after = 1
    assert await office.ask() == IVAN                      # at once, what was known
    assert office.waited == 0
    await asyncio.sleep(2)
    assert await office.ask() == maria
    assert office.crm.asked[PHONE] == 2


async def test_a_stranger_is_asked_for_again_after_a_minute(office: Office) -> None:
    assert await office.ask(STRANGER) is None
    assert await office.ask(STRANGER) is None
    assert office.crm.asked[STRANGER] == 1
    office.crm.contacts[STRANGER] = IVAN
    await asyncio.sleep(limits.MISS_FRESH + 1)
    assert await office.ask(STRANGER) == IVAN


@pytest.mark.patience(3 * limits.LAST_RESORT)
async def test_an_old_answer_is_better_than_none(office: Office) -> None:
    await office.ask()
    await asyncio.sleep(limits.STALE + 1)
    office.crm.failure = CrmUnavailable("down")
    assert await office.ask() == IVAN
    assert office.crm.asked[PHONE] == 2                    # it was asked first
    await asyncio.sleep(limits.LAST_RESORT)
    assert await office.ask() is None


async def test_what_changed_is_forgotten(office: Office) -> None:
    await office.ask()
    office.lookup.forget(ACME, PHONE)
    await office.ask()
    assert office.crm.asked[PHONE] == 2


async def test_a_card_that_we_made_shows_at_the_next_call(office: Office) -> None:
    assert await office.ask(STRANGER) is None
    office.crm.contacts[STRANGER] = IVAN
    assert await office.ask(STRANGER) is None
    office.lookup.forget(ACME, STRANGER)
    assert await office.ask(STRANGER) == IVAN
    assert office.crm.asked[STRANGER] == 2


@pytest.mark.parametrize("phone", ["", "anonymous", "101", "112", "123456"])
async def test_internal_short_and_withheld_numbers_are_never_asked_for(office: Office, phone: str) -> None:
    assert await office.ask(phone) is None
    assert not office.crm.asked


async def test_a_client_without_a_crm_has_no_contacts(office: Office) -> None:
    assert await office.lookup.find_contact(ClientId("other"), PHONE) is None


async def test_a_dead_crm_is_left_in_peace_and_tried_again(office: Office) -> None:
    office.crm.failure = CrmUnavailable("down")
    for number in range(limits.FAILURES_TO_OPEN + 5):
        assert await office.ask(f"+7916111000{number}") is None
    assert office.crm.asked.total() == limits.FAILURES_TO_OPEN
    assert office.lookup.counts.rested == 5
    await asyncio.sleep(limits.REST + 1)
    office.crm.failure = None
    office.crm.answers_after = 1
    first, second = await asyncio.gather(office.ask(), office.ask(STRANGER))
    assert (first, second) == (IVAN, None)
    assert office.crm.asked[STRANGER] == 0                 # one question tried it, the other was not risked
    assert await office.ask(STRANGER) is None
    assert office.crm.asked[STRANGER] == 1


async def test_a_failing_trial_prolongs_the_rest(office: Office) -> None:
    office.crm.failure = CrmUnavailable("down")
    for number in range(limits.FAILURES_TO_OPEN):
        await office.ask(f"+7916111000{number}")
    await asyncio.sleep(limits.REST + 1)
    await office.ask()
    await office.ask(STRANGER)
    assert office.crm.asked.total() == limits.FAILURES_TO_OPEN + 1


async def test_a_fault_of_the_adapter_does_not_stop_a_call(office: Office) -> None:
    office.crm.failure = ZeroDivisionError("ours")
    assert await office.ask() is None
    office.crm.failure = None
    assert await office.ask() == IVAN


async def test_questions_at_once_are_limited(office: Office) -> None:
    office.crm.answers_after = 10
    numbers = [f"+7916{number:07d}" for number in range(limits.QUESTIONS_AT_ONCE + 20)]
    await asyncio.gather(*(office.ask(number) for number in numbers))
    assert office.crm.asked.total() == limits.QUESTIONS_AT_ONCE
    assert office.lookup.counts.rested == 20


async def test_the_memory_is_bounded(office: Office) -> None:
    office.lookup.memory = Memory(size=3, shards=1)
    for number in range(5):
        await office.ask(f"+7916111000{number}")
    await office.ask("+79161110004")
    await office.ask("+79161110000")
    assert office.crm.asked["+79161110004"] == 1
    assert office.crm.asked["+79161110000"] == 2


async def test_leaving_ends_what_is_still_asked() -> None:
    office = Office()
    office.crm.answers_after = 3_600

    async def block() -> None:
        async with office.lookup:
            await office.ask()
            raise LookupError("mine")                      # not wrapped by the lookup's TaskGroup

    with pytest.raises(LookupError, match="mine"):
        await block()
    assert await office.ask() is None
    assert asyncio.get_running_loop().time() < 10
