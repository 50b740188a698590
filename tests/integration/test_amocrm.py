"""The amoCRM adapter against the stand-in: what it finds, what it writes, and what each failure becomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from b2bua.cdr import CallId, ClientId, Direction, Disposition
from b2bua.crm.amocrm import api as limits
from b2bua.crm.amocrm import contacts
from b2bua.crm.amocrm.adapter import AmoAccounts, AmoCrm, open_amocrm
from b2bua.crm.health import CrmHealth, Status, health_of
from b2bua.crm.port import (
    CallNote,
    Contact,
    CrmError,
    CrmNoCard,
    CrmRejected,
    CrmShut,
    CrmUnauthorized,
    CrmUnavailable,
    EntityKind,
    PopUp,
)
from b2bua.directory import Client, CrmAccount, Directory
from b2bua.sandbox import (
    Act,
    Fault,
    Sandbox,
    SandboxSeed,
    SeedAccount,
    SeedCompany,
    SeedContact,
    SeedLead,
    SeedUser,
    running_sandbox,
)

IVAN = "+74951234567"
STARTED = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SEED = SandboxSeed((
    SeedAccount(
        users=(SeedUser(77, "Анна", is_admin=True), SeedUser(78, "Борис"), SeedUser(79, "Вера", is_active=False)),
        contacts=(
            SeedContact("Иван Петров", ("8 (495) 123-45-67",), 78, 9001),
            SeedContact("Заказ 4951234567", (), 77, 9002),
            SeedContact("Дубль старый", ("+79161112233",), 77, 9011, updated_at=1_000),
            SeedContact("Дубль новый", ("89161112233",), 78, 9012, updated_at=2_000),
            SeedContact("Ганс", ("+494951234567",), 77, 9003),
            SeedContact("С компанией", ("+79031112233",), 77, 9004),
        ),
        companies=(SeedCompany("Вектор", ("+7 495 765-43-21",), 78, 9501), SeedCompany("Не та", (IVAN,), 77, 9502)),
        leads=(SeedLead("Кресла", contact=9004, id=7001),),
    ),
))
NOTE = CallNote(
    call=CallId("call-1"), client=ClientId("acme"), direction=Direction.INBOUND, phone=IVAN, started_at=STARTED,
    talk_seconds=61, disposition=Disposition.ANSWERED, user=77, contact_name="Иван", did="+74951112233",
    recording="rec-1",
)


def link_of(recording: str) -> str:
    return f"https://pbx.example.org/r/{recording}.mp3"


class Connected:
    """A running stand-in and our adapter, connected to it."""

    def __init__(self, sandbox: Sandbox, crm: AmoCrm) -> None:
        self.sandbox, self.crm, self.state = sandbox, crm, sandbox.state

    def asked(self) -> list[str]:
        return [f"{entry.method} {entry.path}" for entry in self.state.journal]

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[AmoCrm]:
        """Another connection, whose gate knows nothing of earlier troubles."""
        async with open_amocrm(self.crm.account, link_of=link_of) as crm:
            yield crm


@pytest.fixture
def amo() -> AbstractAsyncContextManager[Connected]:
    @asynccontextmanager
    async def running() -> AsyncIterator[Connected]:
        async with running_sandbox(SEED) as sandbox:
            account = CrmAccount(sandbox.base_url, "sandbox-token", default_user=78)
            async with open_amocrm(account, link_of=link_of) as crm:
                yield Connected(sandbox, crm)
            assert not sandbox.state.journal.warnings

    return running()


async def test_a_contact_is_found_however_it_was_typed_in(amo: Connected) -> None:
    assert await amo.crm.find_contact(IVAN) == Contact(EntityKind.CONTACT, 9001, "Иван Петров", 78)
    assert await amo.crm.find_contact("+494951234567") == Contact(EntityKind.CONTACT, 9003, "Ганс", 77)


async def test_a_company_when_no_contact_has_the_number(amo: Connected) -> None:
    assert await amo.crm.find_contact("+74957654321") == Contact(EntityKind.COMPANY, 9501, "Вектор", 78)


async def test_of_two_contacts_the_last_changed_is_taken(amo: Connected) -> None:
    found = await amo.crm.find_contact("+79161112233")
    assert found is not None
    assert found.id == 9012


async def test_nobody(amo: Connected) -> None:
    assert await amo.crm.find_contact("+79990000000") is None
    assert amo.asked() == ["GET /api/v4/contacts", "GET /api/v4/companies", "GET /api/v4/leads"]


async def test_short_numbers_make_no_request(amo: Connected) -> None:
    for phone in ("101", "", "123456"):
        assert await amo.crm.find_contact(phone) is None
    assert amo.asked() == []


async def test_a_match_on_a_later_page_is_found_and_paging_is_bounded(amo: Connected) -> None:
    account = amo.state.account()
    kind = next(iter(account.entities))
    amo.state.add_cards(account, kind, [SeedContact(f"Заказ 9035556677 № {number}") for number in range(300)])
    amo.state.add_cards(account, kind, [SeedContact("Он", ("+79035556677",), 78, 9900)])
    found = await amo.crm.find_contact("+79035556677")
    assert found is not None
    assert found.id == 9900
    assert len(amo.asked()) == 2


async def test_an_answered_call_with_all_its_fields(amo: Connected) -> None:
    written = await amo.crm.deliver(NOTE)
    (entry,) = amo.state.calls()
    assert f"note {entry.note}" == written.outcome
    assert (entry.direction, entry.user, entry.talk_seconds, entry.status) == ("inbound", 77, 61, 4)
    assert entry.link == "https://pbx.example.org/r/rec-1.mp3"
    assert (entry.uniq, entry.phone, entry.created_at) == ("call-1", IVAN, int(STARTED.timestamp()))
    (request,) = amo.state.journal
    body = json.loads(request.body)[0]
    assert body["created_by"] == body["responsible_user_id"] == body["call_responsible"] == 77
    assert request.headers["user-agent"].startswith("Smartswitch/")


@pytest.mark.parametrize(("disposition", "status"), [
    (Disposition.NO_ANSWER, 6), (Disposition.BUSY, 7), (Disposition.ABANDONED, 6), (Disposition.UNREACHABLE, 6),
])
async def test_an_unanswered_call_has_neither_talk_time_nor_link(
    amo: Connected, disposition: Disposition, status: int
) -> None:
    note = replace(NOTE, direction=Direction.OUTBOUND, disposition=disposition, talk_seconds=0, recording=None)
    await amo.crm.deliver(note)
    (entry,) = amo.state.calls()
    assert (entry.direction, entry.status, entry.talk_seconds, entry.link) == ("outbound", status, 0, None)
    assert "link" not in json.loads(next(iter(amo.state.journal)).body)[0]


@pytest.mark.parametrize(("user", "default", "expected"), [(None, 78, 78), (79, 78, 78), (79, 79, 0), (None, None, 0)])
async def test_a_gone_user_is_replaced_by_the_default_or_by_nobody(
    amo: Connected, user: int | None, default: int | None, expected: int
) -> None:
    account = replace(amo.crm.account, default_user=default)
    await replace(amo.crm, account=account).deliver(replace(NOTE, user=user))
    (entry,) = amo.state.calls()
    assert entry.user == expected


async def test_a_number_without_a_card(amo: Connected) -> None:
    with pytest.raises(CrmNoCard):
        await amo.crm.deliver(replace(NOTE, phone="+79990000000"))
    body = '{"errors": [{"title": "Entity not found", "status": 263}], "_embedded": {"calls": []}}'
    amo.state.faults.add(Fault("/api/v4/calls", act=Act.ANSWER, status=200, body=body, content_type="application/json"))
    with pytest.raises(CrmNoCard):                         # whatever the status
        await amo.crm.deliver(replace(NOTE, phone="+79990000000"))
    for phone in ("", "101"):
        with pytest.raises(CrmNoCard):
            await amo.crm.deliver(replace(NOTE, phone=phone))
    assert [line for line in amo.asked() if line.startswith("POST")] == ["POST /api/v4/calls"] * 2


LOST_ANSWERS = [
    Fault(act=Act.RESET), Fault(act=Act.CUT), Fault(act=Act.ANSWER, status=502),
    Fault(act=Act.ANSWER, status=200, body="<html>", content_type="text/html"),
]


@pytest.mark.parametrize("fault", LOST_ANSWERS)
@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("phone", [IVAN, "+79161112233", "+79031112233", "+74957654321"])
async def test_a_repeat_after_a_lost_answer_makes_no_double(
    amo: Connected, fault: Fault, committed: bool, phone: str
) -> None:
    note = replace(NOTE, phone=phone)
    amo.state.faults.add(replace(fault, path="/api/v4/calls", committed=committed, times=1))
    with pytest.raises(CrmUnavailable):
        await amo.crm.deliver(note)
    assert len(amo.state.calls()) == committed
    amo.state.switches.per_second = None
    async with amo.fresh() as crm:
        written = await crm.deliver(note, repeated=True)
    (entry,) = amo.state.calls()
    assert f"note {entry.note}" == written.outcome


async def test_another_call_of_the_same_number_is_not_taken_for_ours(amo: Connected) -> None:
    await amo.crm.deliver(NOTE)
    await amo.crm.deliver(replace(NOTE, call=CallId("call-2")), repeated=True)
    assert [entry.uniq for entry in amo.state.calls()] == ["call-1", "call-2"]


def answer(status: int, body: str | None = None, kind: str = "application/json", **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault("/api/*", act=Act.ANSWER, status=status, body=body, content_type=kind, headers=named)


HTML = "<html><body>nginx</body></html>"
VERDICTS: list[tuple[Fault, type[CrmError], float | None]] = [
    (answer(401), CrmUnauthorized, None),
    (answer(402), CrmShut, limits.UNPAID_PAUSE),
    (answer(403), CrmRejected, None),
    (answer(403, '{"title": "IP", "code": 113}'), CrmUnauthorized, None),
    (answer(403, HTML, "text/html"), CrmShut, limits.BLOCK_PAUSE),
    (answer(404), CrmUnauthorized, None),
    (answer(400), CrmRejected, None),
    (answer(422), CrmRejected, None),
    (answer(429, '{"status": 429, "retry_after": 300}'), CrmUnavailable, 300),
    (answer(429, "slow down", "text/plain"), CrmUnavailable, limits.FIRST_PAUSE),
    (answer(429, "slow down", "text/plain", retry_after="20"), CrmUnavailable, 20),
    (answer(429, '{"retry_after": 999999999}'), CrmUnavailable, limits.LONGEST_RETRY_AFTER),
    (answer(500, '{"title": "x", "trace_id": "y"}'), CrmUnavailable, None),
    (answer(502, HTML, "text/html"), CrmUnavailable, None),
    (answer(503), CrmUnavailable, None),
    (answer(504), CrmUnavailable, None),
    (answer(302, "", "text/html", location="https://elsewhere.example.org/"), CrmUnavailable, None),
    (answer(200, HTML, "text/html"), CrmUnavailable, None),
    (answer(200, ""), CrmUnavailable, None),
    (answer(200, "[" * 100_000), CrmUnavailable, None),
    (answer(200, '"' + "x" * (limits.LARGEST_BODY + 1) + '"'), CrmUnavailable, None),
    (Fault("/api/*", act=Act.RESET), CrmUnavailable, None),
    (Fault("/api/*", act=Act.CUT), CrmUnavailable, None),
]


async def test_what_each_failure_means(amo: Connected) -> None:
    requests: list[Callable[[AmoCrm], object]] = [lambda crm: crm.find_contact(IVAN), lambda crm: crm.deliver(NOTE)]
    amo.state.switches.per_second = None
    for fault, kind, retry_after in VERDICTS:
        for request in requests:
            amo.state.faults.clear()
            amo.state.faults.add(replace(fault))
            async with amo.fresh() as crm:
                with pytest.raises(CrmError) as raised:
                    await request(crm)                     # type: ignore[misc]
            assert type(raised.value) is kind, fault
            if isinstance(raised.value, CrmUnavailable):
                assert raised.value.retry_after == retry_after, fault
    assert not amo.state.calls()


@pytest.mark.parametrize("body", [
    '{"_embedded": {}}', '{"_embedded": {"contacts": [7, null, {}, {"id": "x"}]}}',
    '\ufeff{"_embedded": {"contacts": [{"id": 1, "custom_fields_values": [7, {"field_code": "PHONE"}]}]}}',
])
async def test_json_of_another_shape_finds_nobody(amo: Connected, body: str) -> None:
    amo.state.faults.add(answer(200, body))
    assert await amo.crm.find_contact(IVAN) is None


@pytest.mark.parametrize("body", ["[]", "null", "7", "{}", '{"_embedded": 7}'])
async def test_json_that_is_no_list_says_nothing_about_who_is_there(amo: Connected, body: str) -> None:
    amo.state.faults.add(answer(200, body))
    with pytest.raises(CrmUnavailable, match="no list"):
        await amo.crm.find_contact(IVAN)


async def test_pages_are_told_when_it_answered_last_and_why_it_does_not_now(amo: Connected) -> None:
    def health() -> CrmHealth:
        status, now = Status(ClientId("acme"), "OAuth", "connected"), asyncio.get_running_loop().time()
        return health_of(status, amo.crm.api.traffic, now, numbers=0, sync=None, code_trouble="")

    assert (health().answered_ago, health().failure) == (None, "")
    await amo.crm.find_contact(IVAN)
    assert health().answered_ago is not None
    amo.state.faults.add(answer(503))
    with pytest.raises(CrmUnavailable):
        await amo.crm.find_contact(IVAN)
    assert "503" in health().failure
    amo.state.faults.clear()
    await amo.crm.find_contact(IVAN)
    assert health().failure == ""


async def test_a_paused_account_is_not_asked(amo: Connected) -> None:
    amo.state.faults.add(replace(answer(429, '{"retry_after": 60}'), times=1))
    with pytest.raises(CrmUnavailable):
        await amo.crm.find_contact(IVAN)
    for _ in range(3):
        with pytest.raises(CrmUnavailable) as refusal:
            await amo.crm.deliver(NOTE)
        assert refusal.value.retry_after == pytest.approx(60, abs=2)
    assert len(amo.asked()) == 1


@pytest.mark.parametrize("fault", [Fault(delay=30), Fault(act=Act.SILENCE)])
async def test_a_silent_crm_is_given_up(amo: Connected, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contacts, "LOOKUP_SECONDS", 0.2)
    amo.state.faults.add(fault)
    with pytest.raises(CrmUnavailable, match="TimeoutError"):
        await amo.crm.find_contact(IVAN)


async def test_a_lookup_is_cancelled_by_its_callers_patience(amo: Connected) -> None:
    amo.state.faults.add(Fault(delay=30, times=2))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await amo.crm.find_contact(IVAN)
    amo.state.faults.clear()
    assert await amo.crm.find_contact(IVAN) is not None    # the connection and the gate are free again


async def test_nobody_listens() -> None:
    async with running_sandbox(SEED) as sandbox:
        account = CrmAccount(sandbox.base_url, "sandbox-token")
    async with open_amocrm(account, link_of=link_of) as crm:
        with pytest.raises(CrmUnavailable, match="ConnectError"):
            await crm.find_contact(IVAN)


async def test_the_pop_up_goes_to_the_users_who_ring(amo: Connected) -> None:
    await amo.crm.pop_up(PopUp(ClientId("acme"), IVAN, (77, 78)))
    await amo.crm.pop_up(PopUp(ClientId("acme"), IVAN, ()))
    await amo.crm.pop_up(PopUp(ClientId("acme"), "", (77,)))
    (shown,) = amo.state.pop_ups()
    assert (shown.phone, shown.users, shown.entity_id) == (IVAN, (77, 78), 9001)
    assert amo.asked() == ["POST /api/v2/events/"]


async def test_the_rate_of_an_account_stays_below_its_limit(amo: Connected) -> None:
    await asyncio.gather(*(amo.crm.find_contact(IVAN) for _ in range(12)))
    assert amo.sandbox.rate.highest <= 7
    assert {entry.status for entry in amo.state.journal} == {200}


async def test_accounts_follow_the_directory(amo: Connected) -> None:
    acme = Client(ClientId("acme"), "Acme", amo.crm.account)
    async with AmoAccounts(link_of) as accounts:
        await accounts.use(Directory(clients=(acme, Client(ClientId("plain"), "Plain"))))
        first = accounts.crm_of(acme.id)
        assert first is not None
        assert accounts.crm_of(ClientId("plain")) is None
        patient = replace(acme, crm=replace(amo.crm.account, patience=3.0))
        await accounts.use(Directory(clients=(patient,)))
        second = accounts.crm_of(acme.id)
        assert second is not None
        assert second.api is first.api                     # the same gate, the same rate
        assert second.account.patience == 3.0
        await accounts.use(Directory(clients=(replace(acme, crm=replace(amo.crm.account, token="other")),)))
        third = accounts.crm_of(acme.id)
        assert third is not None
        assert third.api is not first.api
        assert await first.find_contact(IVAN) is not None
        assert accounts.alarms() == []
        for _ in range(3):
            with pytest.raises(CrmUnauthorized):
                await third.find_contact(IVAN)
        assert len([entry for entry in amo.state.journal if entry.status == 401]) == 1     # then it rests
        (alarm,) = accounts.alarms()
        assert "acme: the long-lived token is refused" in alarm
        await accounts.use(Directory())
        assert accounts.crm_of(acme.id) is None
