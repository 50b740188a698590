"""Reading the CRM ahead: no call waits, changes show, and an ill CRM is left in peace; on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import cast

import pytest

from b2bua.cdr import ClientId
from b2bua.crm import sync as limits
from b2bua.crm.functions import CrmFunctions
from b2bua.crm.health import SyncState
from b2bua.crm.lookup import FAILURES_TO_OPEN, REST, Lookup
from b2bua.crm.memory import Memory
from b2bua.crm.people import CARDS_OF_A_PAGE, Hint
from b2bua.crm.port import Contact, CrmRejected, CrmUnauthorized, CrmUnavailable, EntityKind
from b2bua.crm.sync import Sync
from b2bua.directory import Client, CrmAccount, Directory
from tests.support.fake_people import FakePeople
from tests.support.virtual_loop import VirtualLoop

ACME = ClientId("acme")
PHONE, OTHER, STRANGER = "+74951234567", "+74957654321", "+79990000000"
ACCOUNT = CrmAccount("https://acme.amocrm.test", "token", webhooks=False)
DAY = 86_400


@dataclass
class Office:
    people: FakePeople = field(default_factory=FakePeople)
    address: str | None = "https://pbx.example.org/hooks/acme"
    waited: float = 0.0

    def __post_init__(self) -> None:
        self.lookup = Lookup(lambda client: cast("object", self.people) if client == ACME else None)  # type: ignore[arg-type,return-value]
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.sync = Sync(self.lookup.memory, lambda client: self.people, self.lookup.is_resting,
                         lambda client: self.address, loop.wall, Random(1))

    def use(self, account: CrmAccount | None = ACCOUNT) -> None:
        self.sync.use(Directory(clients=(Client(ACME, "Acme", account),)))

    async def call(self, phone: str) -> Contact | None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await self.lookup.find_contact(ACME, phone)
        self.waited = loop.time() - began
        return found

    async def complete(self) -> None:
        while self.sync.states()["complete"] == 0:         # noqa: ASYNC110  (of virtual time)
            await asyncio.sleep(1)


@pytest.fixture
def office() -> AbstractAsyncContextManager[Office]:
    @asynccontextmanager
    async def running() -> AsyncIterator[Office]:
        office = Office()
        async with office.lookup, asyncio.TaskGroup() as tasks:
            working = tasks.create_task(office.sync.run())
            yield office
            working.cancel()

    return running()


async def test_after_the_first_pass_no_call_waits(office: Office) -> None:
    office.people.fill(600)
    company = office.people.put(9501, OTHER, kind=EntityKind.COMPANY)
    deal = office.people.put(7001, PHONE, kind=EntityKind.LEAD)
    office.use()
    await office.complete()
    office.people.takes = 30
    assert (await office.call("+79160000599")) == office.people.right("+79160000599")
    assert await office.call(OTHER) == company
    assert await office.call(PHONE) == deal
    assert await office.call(STRANGER) is None
    assert office.waited == 0
    assert office.people.asked["call"] == 0
    assert office.sync.counts.cards >= 602


async def test_no_two_requests_are_closer_than_the_pace(office: Office) -> None:
    office.people.fill(10 * CARDS_OF_A_PAGE + 1)
    office.use()
    await office.complete()
    gaps = [after - before for before, after in zip(office.people.asked_at, office.people.asked_at[1:], strict=False)]
    assert min(gaps) >= limits.PACE
    assert office.people.asked["page contact"] == 11 + 1   # and one for what has changed meanwhile


async def test_who_is_typed_in_just_now_shows_at_the_next_call(office: Office) -> None:
    office.use()
    await office.complete()
    await asyncio.sleep(61)
    ivan = office.people.put(1, STRANGER)
    assert await office.call(STRANGER) is None
    assert office.waited == 0
    await asyncio.sleep(1)
    assert await office.call(STRANGER) == ivan


async def test_changes_are_looked_for_every_few_minutes(office: Office) -> None:
    office.people.fill(300)
    office.people.put(400, PHONE)
    office.use()
    await office.complete()
    before = office.people.asked["page contact"]
    await asyncio.sleep(ACCOUNT.sync_minutes * 60 * 3 + 60)
    assert office.people.asked["page contact"] - before == 3       # one page each, as nothing changed
    changed = office.people.put(400, OTHER, name="Новое имя")
    await asyncio.sleep(ACCOUNT.sync_minutes * 60 + 10)
    assert await office.call(OTHER) == changed
    assert await office.call(PHONE) is None                # it was theirs, and is not any more
    assert office.waited == 0


async def test_a_card_that_a_webhook_names_is_read_at_once(office: Office) -> None:
    office.people.put(1, PHONE)
    office.use()
    await office.complete()
    renamed = office.people.put(1, PHONE, name="Новое имя")
    office.sync.changed(ACME, [Hint(EntityKind.CONTACT, 1)])
    await asyncio.sleep(3)
    assert await office.call(PHONE) == renamed
    del office.people.cards[EntityKind.CONTACT, 1]
    office.sync.changed(ACME, [Hint(EntityKind.CONTACT, 1, is_gone=True)])
    await asyncio.sleep(3)
    assert await office.call(PHONE) is None
    assert office.waited == 0


async def test_a_lying_webhook_changes_nothing(office: Office) -> None:
    ivan = office.people.put(1, PHONE)
    office.use()
    await office.complete()
    office.sync.changed(ACME, [Hint(EntityKind.CONTACT, 1, is_gone=True), Hint(EntityKind.LEAD, 2**62)])
    await asyncio.sleep(5)
    assert await office.call(PHONE) == ivan


async def test_a_storm_of_webhooks_costs_a_few_pages(office: Office) -> None:
    changed = 2 * CARDS_OF_A_PAGE
    office.people.fill(changed)
    office.use()
    await office.complete()
    for card in range(1, changed + 1):
        office.people.touch(card)
    renamed = office.people.put(changed, f"+7916{changed - 1:07d}", name="Новое имя")
    before = office.people.asked.total()
    for _ in range(20):
        office.sync.changed(ACME, [Hint(EntityKind.CONTACT, card) for card in range(1, 5_001)])
    await asyncio.sleep(60)
    assert office.sync.counts.hints_dropped > 0
    assert office.people.asked.total() - before <= 10
    assert office.people.asked["read"] == 0
    assert await office.call(f"+7916{changed - 1:07d}") == renamed


async def test_hints_of_strangers_and_of_clients_without_sync_are_nothing(office: Office) -> None:
    office.sync.changed(ClientId("nobody"), [Hint(EntityKind.CONTACT, 1)])
    assert office.sync.counts.hints == 0
    assert not office.sync.takes_hints(ClientId("nobody"))


@pytest.mark.parametrize("failure", [
    CrmUnavailable("429", retry_after=120), CrmUnavailable("timeout"), CrmUnauthorized("401"), CrmRejected("403"),
])
async def test_a_pass_goes_on_where_it_was_interrupted(office: Office, failure: Exception) -> None:
    office.people.fill(4 * CARDS_OF_A_PAGE)
    office.use()
    await asyncio.sleep(1.5 * limits.PACE)
    assert office.people.asked["page contact"] == 2
    office.people.failures = [failure] * 3
    await asyncio.sleep(2)
    assert office.sync.states()["ill"] == 1
    assert office.sync.state_of(ACME) is SyncState.ILL
    assert office.sync.state_of(ClientId("nobody")) is None
    least = getattr(failure, "retry_after", None) or limits.FIRST_REST
    await office.complete()
    gaps = [after - before for before, after in zip(office.people.asked_at, office.people.asked_at[1:], strict=False)]
    assert sum(gap >= least for gap in gaps) == 3
    assert office.people.asked["page contact"] == 4 + 3 + 1        # what failed was asked again, and no more


async def test_a_fault_of_the_adapter_is_survived(office: Office) -> None:
    ivan = office.people.put(1, PHONE)
    office.people.failures = [ZeroDivisionError("ours")]
    office.use()
    await office.complete()
    assert await office.call(PHONE) == ivan


async def test_a_dead_crm_is_asked_less_and_less(office: Office) -> None:
    office.people.failures = [CrmUnavailable("down")] * 1_000
    office.use()
    await asyncio.sleep(DAY / 2)
    assert office.people.asked.total() < DAY / 2 / limits.LONGEST_REST + 10


async def test_a_crm_that_calls_leave_in_peace_is_not_read_either(office: Office) -> None:
    office.people.failures = [CrmUnavailable("down")] * FAILURES_TO_OPEN
    for number in range(FAILURES_TO_OPEN):
        await office.call(f"+7916111000{number}")
    asked = office.people.asked.total()
    office.use()
    await asyncio.sleep(REST - 1)
    assert office.people.asked.total() == asked
    await office.complete()


async def test_what_the_token_may_not_read_is_left_out(office: Office) -> None:
    ivan = office.people.put(1, PHONE)
    office.people.refused[EntityKind.LEAD] = CrmRejected("403")
    office.use()
    await office.complete()
    assert await office.call(PHONE) == ivan


async def test_the_limit_of_cards_is_said_and_the_others_are_asked_for(office: Office) -> None:
    office.people.fill(1_000)
    office.use(replace(ACCOUNT, sync_cards=500))
    await asyncio.sleep(60)
    assert office.sync.states() == {"partial": 1}
    assert office.sync.counts.cut == 1
    assert await office.call("+79160000999") is not None
    assert office.waited == 0                              # those that changed last are there
    assert await office.call("+79160000000") is not None
    assert office.waited > 0


async def test_between_two_contacts_the_crm_is_asked_ahead(office: Office) -> None:
    office.people.put(2, PHONE)
    first = office.people.put(1, PHONE)
    office.people.put(3, PHONE)
    office.use()
    await office.complete()
    await asyncio.sleep(5)
    assert office.sync.counts.settled == 1
    assert await office.call(PHONE) == first
    assert office.people.asked["call"] == 0


@pytest.mark.patience(3 * DAY)
async def test_every_night_everything_is_read_again_slowly(office: Office) -> None:
    office.people.fill(600)
    office.people.put(700, PHONE)
    office.use()
    await office.complete()
    del office.people.cards[EntityKind.CONTACT, 700]       # nobody tells of it
    await asyncio.sleep(DAY)
    assert office.sync.counts.passes == 2
    office.people.takes = 30
    assert await office.call(PHONE) is None
    assert office.waited == 0


@pytest.mark.patience(3 * DAY)
async def test_a_card_that_vanished_untold_is_found_out_behind_a_call_of_the_day(office: Office) -> None:
    ivan = office.people.put(1, PHONE)
    office.use()
    await office.complete()
    del office.people.cards[EntityKind.CONTACT, 1]
    await asyncio.sleep(4_000)
    assert await office.call(PHONE) == ivan
    assert office.waited == 0
    await asyncio.sleep(1)
    assert await office.call(PHONE) is None


@pytest.mark.patience(3 * DAY)
async def test_more_changes_than_can_be_followed_are_read_as_a_whole(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_PAGES_OF_CHANGES", 2)
    office.people.fill(1_500)
    office.use()
    await office.complete()
    for card in range(1, 1_501):
        office.people.touch(card)
    await asyncio.sleep(ACCOUNT.sync_minutes * 60 + 30)
    assert office.sync.counts.fell_behind == 1
    assert office.sync.states()["complete"] == 0
    ivan = office.people.put(9_000, STRANGER)
    assert await office.call(STRANGER) == ivan             # it waits, and is asked for
    await asyncio.sleep(limits.BEHIND_REST + 60)
    assert office.sync.states()["complete"] == 1
    assert office.sync.counts.passes == 2


async def test_many_cards_of_one_second_are_not_read_again_and_again(office: Office) -> None:
    office.people.fill(6_000)
    for key, holder in office.people.cards.items():
        office.people.cards[key] = replace(holder, updated_at=5)
    office.use()
    await office.complete()
    before = office.people.asked["page contact"]
    await asyncio.sleep(ACCOUNT.sync_minutes * 60 * 4 + 60)
    assert office.people.asked["page contact"] - before == 4
    assert office.sync.counts.fell_behind == 0


@pytest.mark.parametrize("account", [
    None, replace(ACCOUNT, sync=False),
    replace(ACCOUNT, functions=CrmFunctions(forward_to_responsible=False, set_caller_name=False)),
])
async def test_who_does_not_need_it_is_not_read(office: Office, account: CrmAccount | None) -> None:
    office.use(account)
    await asyncio.sleep(3_600)
    assert not office.people.asked


async def test_switched_off_nothing_is_asked_any_more_and_nothing_is_believed(office: Office) -> None:
    office.people.put(1, PHONE)
    office.use()
    await office.complete()
    office.use(replace(ACCOUNT, sync=False))
    await asyncio.sleep(1)
    asked = office.people.asked.total()
    await asyncio.sleep(3_600)
    assert office.people.asked.total() == asked
    assert office.sync.states() == {}
    ivan = office.people.put(2, STRANGER)
    assert await office.call(STRANGER) == ivan


async def test_another_account_begins_anew(office: Office) -> None:
    office.people.put(1, PHONE)
    office.use()
    await office.complete()
    office.people.cards.clear()
    office.use(replace(ACCOUNT, base_url="https://other.amocrm.test"))
    await asyncio.sleep(0.01)
    assert await office.call(PHONE) is None
    assert office.people.asked["call"] == 1


async def test_webhooks_are_asked_for_once_and_taken_back(office: Office) -> None:
    office.use(replace(ACCOUNT, webhooks=True))
    await office.complete()
    assert office.people.told == [(office.address, True)]
    assert office.sync.takes_hints(ACME)
    office.use(ACCOUNT)
    await asyncio.sleep(5)
    assert office.people.told == [(office.address, True), (office.address, False)]
    assert not office.sync.takes_hints(ACME)


@pytest.mark.patience(3 * DAY)
async def test_each_night_it_is_seen_to_that_the_webhooks_are_still_there(office: Office) -> None:
    office.use(replace(ACCOUNT, webhooks=True))
    await asyncio.sleep(DAY)
    assert office.people.told == [(office.address, True)] * 2


async def test_a_request_that_never_gets_its_turn_does_not_keep_others_waiting(office: Office) -> None:
    office.people.takes = 3_600
    office.use()
    await asyncio.sleep(limits.STEP_SECONDS + 1)
    assert office.sync.states() == {"ill": 1}
    office.people.takes = 0.1
    await office.complete()


async def test_more_numbers_than_the_memory_takes_are_a_part(office: Office) -> None:
    office.lookup.memory = office.sync.memory = Memory(size_of_client=100, shards=1)
    office.people.fill(300)
    office.use()
    await asyncio.sleep(60)
    assert office.sync.states() == {"partial": 1}
    assert await office.call("+79160000001") is not None


async def test_a_tariff_without_webhooks_stops_nothing(office: Office) -> None:
    office.people.subscription = CrmRejected("402: the tariff has none")
    office.use(replace(ACCOUNT, webhooks=True))
    await office.complete()
    await asyncio.sleep(3_600)
    assert office.people.asked["subscribe"] == 1


async def test_where_the_crm_cannot_reach_us_it_is_not_asked_to(office: Office) -> None:
    office.address = None
    office.use(replace(ACCOUNT, webhooks=True))
    await office.complete()
    assert office.people.asked["subscribe"] == 0


async def test_what_we_made_ourselves_is_known_before_the_next_pass(office: Office) -> None:
    office.use()
    await office.complete()
    assert await office.call(STRANGER) is None
    office.lookup.forget(ACME, STRANGER)
    office.people.put(1, STRANGER, name="Как вписано")
    found = await office.call(STRANGER)
    assert found is not None
    assert found.name == "Как вписано"
