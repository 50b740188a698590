"""Reading amoCRM ahead, against the stand-in and against answers of our own making; then all of it, on sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from random import Random

import httpx
import pytest

from b2bua.cdr import ClientId
from b2bua.crm.amocrm import people as limits
from b2bua.crm.amocrm.adapter import AmoAccounts, AmoCrm, open_amocrm
from b2bua.crm.amocrm.people import HOOK_SETTINGS, AmoPeople
from b2bua.crm.lookup import Lookup
from b2bua.crm.people import CARDS_OF_A_PAGE, Hint
from b2bua.crm.port import Contact, CrmRejected, CrmUnauthorized, CrmUnavailable, EntityKind
from b2bua.crm.sync import Sync
from b2bua.directory import Client, CrmAccount, Directory
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
)
from b2bua.sandbox import running_sandbox as running

ACME = ClientId("acme")
IVAN, VECTOR, OF_A_DEAL = "+74951234567", "+74957654321", "+79161112233"
SEED = SandboxSeed((
    SeedAccount(
        users=(SeedUser(77, "Анна", is_admin=True), SeedUser(78, "Борис")),
        contacts=(SeedContact("Иван", ("8 (495) 123-45-67", "101"), 78, 9001), SeedContact("Без номера", (), 77, 9002)),
        companies=(SeedCompany("Вектор", (VECTOR,), 78, 9501),),
        leads=(SeedLead("Звонок с 8 916 111-22-33", responsible=77, id=7001), SeedLead("Кресла", id=7002)),
    ),
))
HOOK = "https://pbx.example.org/hooks/amocrm/acme.seal"


class Connected:
    def __init__(self, state: SandboxState, crm: AmoCrm) -> None:
        self.state, self.crm, self.people = state, crm, crm.people


@pytest.fixture
def amo() -> AbstractAsyncContextManager[Connected]:
    @asynccontextmanager
    async def connected() -> AsyncIterator[Connected]:
        async with running(SEED) as sandbox:
            account = CrmAccount(sandbox.base_url, "sandbox-token")
            async with open_amocrm(account, link_of=lambda recording: recording) as crm:
                yield Connected(sandbox.state, crm)
            assert not sandbox.state.journal.warnings

    return connected()


async def test_cards_come_with_their_numbers(amo: Connected) -> None:
    page = await amo.people.page(EntityKind.CONTACT, 1)
    found = {one.contact.id: one for one in page.holders}
    assert found[9001].contact == Contact(EntityKind.CONTACT, 9001, "Иван", 78)
    assert found[9001].phones == (IVAN, "101")
    assert found[9002].phones == ()
    assert not page.more
    deals = {one.contact.id: one.phones for one in (await amo.people.page(EntityKind.LEAD, 1)).holders}
    assert deals == {7001: (OF_A_DEAL,), 7002: ()}


async def test_pages_are_those_that_changed_last_first(amo: Connected) -> None:
    account = amo.state.account()
    kind = next(iter(account.entities))
    cards = [SeedContact(f"№ {n}", (), 77, 10_000 + n, updated_at=1 + n) for n in range(2 * CARDS_OF_A_PAGE + 10)]
    amo.state.add_cards(account, kind, cards)
    pages = [await amo.people.page(EntityKind.CONTACT, number) for number in (1, 2, 3, 4)]
    assert [page.more for page in pages] == [True, True, False, False]
    seen = [one.updated_at for page in pages for one in page.holders]
    assert len(seen) == len(cards) + 2
    assert seen == sorted(seen, reverse=True)


async def test_a_card_by_its_id(amo: Connected) -> None:
    found = await amo.people.read(EntityKind.COMPANY, 9501)
    assert found is not None
    assert (found.contact.name, found.phones) == ("Вектор", (VECTOR,))
    assert await amo.people.read(EntityKind.CONTACT, 1) is None
    assert await amo.people.read(EntityKind.LEAD, 9501) is None


@pytest.mark.parametrize(("fault", "expected"), [
    (Fault(act=Act.ANSWER, status=429), CrmUnavailable),
    (Fault(act=Act.ANSWER, status=403, body="<html>", content_type="text/html"), CrmUnavailable),
    (Fault(act=Act.ANSWER, status=403, body='{"status": 403}'), CrmRejected),
    (Fault(act=Act.ANSWER, status=404), CrmUnauthorized),
    (Fault(act=Act.ANSWER, status=401), CrmUnauthorized),
    (Fault(act=Act.CUT), CrmUnavailable),
    (Fault(delay=30), CrmUnavailable),
])
async def test_what_failures_become(
    amo: Connected, fault: Fault, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "READ_SECONDS", 0.3)
    amo.state.faults.add(fault)
    with pytest.raises(expected):
        await amo.people.page(EntityKind.CONTACT, 1)


# -- webhooks, and rows that no amoCRM should send


def answering(answer: Callable[[httpx.Request], httpx.Response]) -> AbstractAsyncContextManager[AmoPeople]:
    @asynccontextmanager
    async def connected() -> AsyncIterator[AmoPeople]:
        account = CrmAccount("https://acme.amocrm.test", "token")
        async with open_amocrm(account, link_of=lambda recording: recording) as crm:
            await crm.api._http.aclose()
            crm.api._http = httpx.AsyncClient(base_url=account.base_url, transport=httpx.MockTransport(answer))
            yield crm.people

    return connected()


class Hooks:
    """`/api/v4/webhooks` of an account."""

    def __init__(self, *hooks: dict[str, object], refusal: int = 0) -> None:
        self.hooks, self.refusal = list(hooks), refusal
        self.asked: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.method)
        assert request.url.path == "/api/v4/webhooks"
        match request.method:
            case "GET":
                return httpx.Response(200, json={"_embedded": {"webhooks": self.hooks}}) if self.hooks else (
                    httpx.Response(204))
            case _ if self.refusal:
                return httpx.Response(self.refusal, json={"title": "Payment Required", "status": self.refusal})
            case "POST":
                self.hooks.append(json.loads(request.content))
                return httpx.Response(201, json=self.hooks[-1])
            case _:
                gone = json.loads(request.content)["destination"]
                self.hooks = [hook for hook in self.hooks if hook["destination"] != gone]
                return httpx.Response(204)


FOREIGN: dict[str, object] = {"destination": "https://elsewhere.example", "settings": list(HOOK_SETTINGS)}


async def test_a_webhook_is_subscribed_once_and_others_are_left_alone() -> None:
    account = Hooks(FOREIGN)
    async with answering(account.answer) as people:
        await people.subscribe(HOOK, on=True)
        await people.subscribe(HOOK, on=True)
        assert account.asked == ["GET", "POST", "GET"]
        await people.subscribe(HOOK, on=False)
        await people.subscribe(HOOK, on=False)
    assert account.hooks == [FOREIGN]
    assert account.asked[3:] == ["GET", "DELETE", "GET"]


@pytest.mark.parametrize("hook", [
    {"destination": HOOK, "settings": list(HOOK_SETTINGS), "disabled": True},
    {"destination": HOOK, "settings": ["add_contact"]},
    {"destination": HOOK, "settings": None},
])
async def test_a_webhook_that_was_switched_off_or_tells_too_little_is_renewed(hook: dict[str, object]) -> None:
    account = Hooks(hook)
    async with answering(account.answer) as people:
        await people.subscribe(HOOK, on=True)
    assert account.asked == ["GET", "POST"]


@pytest.mark.parametrize("status", [400, 402, 403])
async def test_a_tariff_without_webhooks_refuses_and_pauses_nothing(status: int) -> None:
    account = Hooks(FOREIGN, refusal=status)
    async with answering(account.answer) as people:
        with pytest.raises(CrmRejected):
            await people.subscribe(HOOK, on=True)
        await people.subscribe(HOOK, on=False)             # the gate is open


@pytest.mark.parametrize("row", [
    {}, {"id": None}, {"id": True}, {"id": 9001, "custom_fields_values": 7, "updated_at": []},
    {"id": 9001, "custom_fields_values": [{"field_code": "PHONE", "values": [{"value": None}, {"value": "x" * 999}]}]},
    {"id": 10**40, "name": "\x00", "responsible_user_id": 10**40, "updated_at": 10**40},
    {"id": 9001, "is_deleted": True, "custom_fields_values": [{"field_code": "PHONE", "values": [{"value": IVAN}]}]},
])
async def test_rows_of_any_shape_can_be_remembered(row: dict[str, object]) -> None:
    body = {"_links": {"next": {}}, "_embedded": {"contacts": [row, "x"], "leads": [row], "companies": [row]}}
    lookup = Lookup(lambda client: None)
    async with answering(lambda request: httpx.Response(200, json=body)) as people:
        for kind in EntityKind:
            for holder in (await people.page(kind, 1)).holders:
                lookup.memory.hold(ACME, holder, 1.0)
    assert lookup.memory.get(ACME, IVAN) is None


# -- the whole


async def test_a_call_of_somebody_read_ahead_asks_nobody(amo: Connected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("b2bua.crm.sync.PACE", 0.25)       # the stand-in takes seven a second
    client = Client(ACME, "Acme", amo.crm.account)
    async with AmoAccounts(lambda recording: recording) as accounts, Lookup(accounts.crm_of) as lookup:
        directory = Directory(clients=(client,))
        await accounts.use(directory)
        sync = Sync(lookup.memory, accounts.people_of, lookup.is_resting, lambda client: None,
                    lambda: datetime.now(UTC), Random(1))
        sync.use(directory)
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(sync.run())
            while not lookup.memory.is_whole(ACME):        # noqa: ASYNC110  (the test's own patience ends it)
                await asyncio.sleep(0.05)
            amo.state.journal.clear()
            amo.state.faults.add(Fault(delay=30))
            begun = asyncio.get_running_loop().time()
            assert await lookup.find_contact(ACME, IVAN) == Contact(EntityKind.CONTACT, 9001, "Иван", 78)
            assert await lookup.find_contact(ACME, VECTOR) == Contact(EntityKind.COMPANY, 9501, "Вектор", 78)
            deal = await lookup.find_contact(ACME, OF_A_DEAL)
            assert deal is not None
            assert (deal.kind, deal.id, deal.responsible) == (EntityKind.LEAD, 7001, 77)
            assert lookup.counts.remembered == 3
            assert lookup.counts.asked == 0
            assert await lookup.find_contact(ACME, "+79990000000") is None
            assert asyncio.get_running_loop().time() - begun < 5
            amo.state.faults.clear()
            kind = next(iter(amo.state.account().entities))
            amo.state.account().entities[kind][9001].name = "Пётр"
            sync.changed(ACME, [Hint(EntityKind.CONTACT, 9001)])
            while (found := await lookup.find_contact(ACME, IVAN)) is None or found.name != "Пётр":    # noqa: ASYNC110
                await asyncio.sleep(0.05)
            working.cancel()
