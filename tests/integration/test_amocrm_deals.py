"""Deals in the search for who calls: the open one decides between two cards, and a deal may hold the number itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from b2bua.crm.amocrm import deals
from b2bua.crm.amocrm.adapter import AmoCrm, open_amocrm
from b2bua.crm.port import Contact, EntityKind, OpenDeal
from b2bua.directory import CrmAccount
from b2bua.sandbox import (
    Act,
    Fault,
    SandboxSeed,
    SandboxState,
    SeedAccount,
    SeedCompany,
    SeedContact,
    SeedLead,
    SeedUser,
    running_sandbox,
)

TWICE, OF_A_DEAL, IN_A_NAME = "+79161112233", "+79031112233", "+74957770011"
WON, LOST = 142, 143
SEED = SandboxSeed((
    SeedAccount(
        users=(SeedUser(77, "Анна", is_admin=True), SeedUser(78, "Борис")),
        contacts=(
            SeedContact("Старый с открытой", ("89161112233",), 78, 9001, updated_at=1_000),
            SeedContact("Новый с закрытыми", (TWICE,), 77, 9002, updated_at=3_000),
            SeedContact("Самый новый без сделок", (TWICE,), 77, 9003, updated_at=4_000),
        ),
        companies=(
            SeedCompany("Первая", (OF_A_DEAL,), 77, 9501, updated_at=2_000),
            SeedCompany("Вторая", (OF_A_DEAL,), 78, 9502, updated_at=1_000),
        ),
        leads=(
            SeedLead("Стол", contact=9001, id=7001),
            SeedLead("Стул", contact=9002, status_id=WON, id=7002),
            SeedLead("Шкаф", contact=9002, status_id=LOST, id=7003),
            SeedLead("Звонок с 8 (495) 777-00-11", responsible=78, status_id=LOST, id=7010),
            SeedLead("12.03.2026 +7 495 777 00 11", responsible=77, id=7011),
            SeedLead("Заказ 74957770011234", responsible=77, id=7012),
        ),
    ),
))


class Connected:
    def __init__(self, state: SandboxState, crm: AmoCrm) -> None:
        self.state, self.crm = state, crm

    def asked(self) -> Sequence[str]:
        return [entry.path for entry in self.state.journal]


@pytest.fixture
def amo() -> AbstractAsyncContextManager[Connected]:
    @asynccontextmanager
    async def running() -> AsyncIterator[Connected]:
        async with running_sandbox(SEED) as sandbox:
            account = CrmAccount(sandbox.base_url, "sandbox-token")
            async with open_amocrm(account, link_of=lambda recording: recording) as crm:
                yield Connected(sandbox.state, crm)
            assert not sandbox.state.journal.warnings

    return running()


async def test_of_several_contacts_the_one_with_an_open_deal(amo: Connected) -> None:
    assert await amo.crm.find_contact(TWICE) == Contact(EntityKind.CONTACT, 9001, "Старый с открытой", 78)
    assert amo.asked() == ["/api/v4/contacts", "/api/v4/leads/7003", "/api/v4/leads/7002", "/api/v4/leads/7001"]


async def test_without_an_open_deal_the_last_updated(amo: Connected) -> None:
    found = await amo.crm.find_contact(OF_A_DEAL)
    assert found is not None
    assert (found.kind, found.id) == (EntityKind.COMPANY, 9501)


async def test_one_contact_needs_no_deals(amo: Connected) -> None:
    account = amo.state.account()
    amo.state.add_cards(account, next(iter(account.entities)), [SeedContact("Один", ("+79990001122",), 77, 9100)])
    amo.state.add_lead(account, SeedLead("Стол", contact=9100))
    await amo.crm.find_contact("+79990001122")
    assert amo.asked() == ["/api/v4/contacts"]


async def test_a_deal_whose_name_holds_the_number(amo: Connected) -> None:
    found = await amo.crm.find_contact(IN_A_NAME)
    assert found == Contact(EntityKind.LEAD, 7011, "12.03.2026 +7 495 777 00 11", 77)


async def test_a_closed_deal_is_better_than_nobody(amo: Connected) -> None:
    account = amo.state.account()
    amo.state.add_lead(account, SeedLead("Тел. +79260000001", responsible=78, status_id=WON, id=7100))
    found = await amo.crm.find_contact("+79260000001")
    assert found is not None
    assert (found.kind, found.id, found.responsible) == (EntityKind.LEAD, 7100, 78)


@pytest.mark.parametrize("fault", [
    Fault(path="/api/v4/leads/7003", delay=30), Fault(path="/api/v4/leads/7003", act=Act.ANSWER, status=500),
])
async def test_deals_that_cannot_be_read_in_time_do_not_hide_the_contact(
    amo: Connected, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deals, "URGENT_SECONDS", 0.2)
    amo.state.faults.add(fault)
    found = await amo.crm.find_contact(TWICE)
    assert found is not None
    assert found.id == 9003


async def test_a_token_that_may_not_read_deals_finds_nobody_rather_than_a_fault(amo: Connected) -> None:
    body = '{"status": 403, "title": "Forbidden", "detail": "no right"}'
    amo.state.faults.add(Fault(path="/api/v4/leads", act=Act.ANSWER, status=403, body=body))
    assert await amo.crm.find_contact("+79990000000") is None


async def test_no_more_deals_are_read_than_the_limit(amo: Connected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deals, "URGENT_SECONDS", 10.0)
    account = amo.state.account()
    kind = next(iter(account.entities))
    phone = "+79261234567"
    for number in range(6):
        contact = SeedContact(f"№ {number}", (phone,), 77, 9200 + number, updated_at=1 + number)
        amo.state.add_cards(account, kind, [contact])
        for _ in range(6):
            amo.state.add_lead(account, SeedLead("Закрыта", contact=9200 + number, status_id=LOST))
    found = await amo.crm.find_contact(phone)
    assert found is not None
    assert found.id == 9205
    assert len(amo.asked()) == 1 + deals.MOST_READ


@pytest.mark.parametrize(("said", "numbers"), [
    ("Звонок 8 (495) 123-45-67", ["+74951234567"]),
    ("12.03.2026 +7 916 123-45-67, +74951234567", ["12032026", "+79161234567", "+74951234567"]),
    ("4951234567", ["+74951234567"]),
    ("Кресла, 12 шт.", []),
    ("№ 123456", []),
    ("", []),
])
def test_numbers_in_a_name(said: str, numbers: list[str]) -> None:
    assert deals.numbers_of({"id": 1, "name": said, "custom_fields_values": None}, "RU") == numbers


def test_numbers_in_fields_of_any_shape() -> None:
    fields: list[object] = [{"values": [{"value": "8 495 123-45-67"}, {"value": 7}, None]}, {"values": None}, "x"]
    assert deals.numbers_of({"id": 1, "custom_fields_values": fields}, "RU") == ["+74951234567"]


@pytest.mark.parametrize(("kind", "card", "deal"), [
    (EntityKind.CONTACT, 9001, OpenDeal(7001, "Стол")),
    (EntityKind.CONTACT, 9002, None),                  # all closed
    (EntityKind.CONTACT, 9003, None),                  # none
    (EntityKind.LEAD, 7010, OpenDeal(7010, "the name that was found")),
    (EntityKind.COMPANY, 9999, None),                  # gone meanwhile
])
async def test_the_only_open_deal_of_who_calls(amo: Connected, kind: EntityKind, card: int, deal: OpenDeal) -> None:
    assert await amo.crm.open_deal(Contact(kind, card, "the name that was found", 77)) == deal


async def test_of_two_open_deals_nobody_knows_which(amo: Connected) -> None:
    amo.state.add_lead(amo.state.account(), SeedLead("Ещё стол", contact=9001))
    assert await amo.crm.open_deal(Contact(EntityKind.CONTACT, 9001, "Старый с открытой", 78)) is None
