"""Where nobody knows the real amoCRM for certain the stand-in has a switch: both settings; and the control API."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from b2bua.sandbox import (
    QueryDigits,
    SandboxSeed,
    SeedAccount,
    SeedContact,
    SeedIntegration,
    SeedLead,
    SeedUser,
    running_sandbox,
)
from b2bua.sandbox.entities import EntityType
from tests.support.certificates import Authority, ip
from tests.support.sandbox import NOW, CrmUser, crm_user, ids, refusal, refused_path, rows

SEED = SandboxSeed((
    SeedAccount(
        users=(SeedUser(77, "Анна", is_admin=True), SeedUser(78, "Борис")),
        contacts=(
            SeedContact("Иван Петров", ("8 (495) 123-45-67",), 77, 9001, updated_at=100),
            SeedContact("Мария", ("+79161112233",), 78, 9002, updated_at=200),
            SeedContact("Договор 74951234567", (), 78, 9003, updated_at=300),
            SeedContact("Другой город", ("+78121234567",), 77, 9004, updated_at=400),
        ),
        leads=(SeedLead("Кресла", contact=9002, id=7001), SeedLead("Столы", id=7002, status_id=142)),
    ),
    SeedAccount(31_000_002, "beta", "Бета", integrations=(SeedIntegration("beta", token="beta-token"),)),
))
CALL = {"direction": "inbound", "duration": 5, "source": "t", "phone": "+79161112233"}


@pytest.fixture
def crm() -> AbstractAsyncContextManager[CrmUser]:
    return crm_user(SEED)


@pytest.fixture
def filtering() -> AbstractAsyncContextManager[CrmUser]:
    return crm_user(SEED, allowed=("filters are ignored",))


@pytest.mark.parametrize(("rule", "query", "found"), [
    (QueryDigits.ANYWHERE, "4951234567", [9001, 9003]), (QueryDigits.ANYWHERE, "+7 495 123-45-67", [9003]),
    (QueryDigits.LITERAL, "4951234567", [9003]), (QueryDigits.LITERAL, "(495) 123", [9001]),
    (QueryDigits.LAST_SEVEN, "4951234567", [9001, 9003, 9004]), (QueryDigits.LAST_SEVEN, "123456", [9003, 9004]),
    (QueryDigits.ANYWHERE, "петров", [9001]), (QueryDigits.LITERAL, "ПЕТРОВ", [9001]),
])
async def test_how_a_query_compares_digits(crm: CrmUser, rule: QueryDigits, query: str, found: list[int]) -> None:
    crm.state.switches.query_digits = rule
    answer = await crm.http.get("/api/v4/contacts", params={"query": query})
    assert ids(answer, "contacts") == found


@pytest.mark.parametrize(("wanted", "found"), [
    ("filter[id][]=9001&filter[id][]=9003", [9001, 9003]), ("filter[responsible_user_id]=78", [9002, 9003]),
    ("filter[updated_at][from]=200&filter[updated_at][to]=300", [9002, 9003]),
    (f"filter[created_at][from]={int(NOW) + 1}", []), ("filter[name]=%D0%9C%D0%B0%D1%80%D0%B8%D1%8F", [9002]),
    ("filter[id]=9001&filter[responsible_user_id]=78", []),
])
async def test_filters_work_with_the_add_on_only(filtering: CrmUser, wanted: str, found: list[int]) -> None:
    path = f"/api/v4/contacts?{wanted}"
    assert ids(await filtering.get(path), "contacts") == [9001, 9002, 9003, 9004]
    assert "filters are ignored" in filtering.state.journal.warnings[0]
    account = "/api/v4/account?with=is_api_filter_enabled"
    assert (await filtering.get(account)).json()["is_api_filter_enabled"] is False
    filtering.state.switches.has_filters = True
    assert ids(await filtering.get(path), "contacts") == found
    assert (await filtering.get(account)).json()["is_api_filter_enabled"] is True


async def test_filters_of_leads_by_stage(crm: CrmUser) -> None:
    crm.state.switches.has_filters = True
    stage = "filter[statuses][0][pipeline_id]=1000&filter[statuses][0][status_id]=142"
    assert ids(await crm.get(f"/api/v4/leads?{stage}"), "leads") == [7002]
    assert ids(await crm.get("/api/v4/leads?filter[pipeline_id]=1000"), "leads") == [7001, 7002]


async def test_paging_may_never_end(crm: CrmUser) -> None:
    path = "/api/v4/contacts?limit=3&page=2"
    assert "next" not in (await crm.get(path)).json()["_links"]
    crm.state.switches.next_never_ends = True
    again = (await crm.get(path)).json()["_links"]["next"]["href"]
    followed = await crm.http.get(again)
    assert followed.json()["_links"]["next"]["href"] == again
    assert ids(followed, "contacts") == [9004]


async def test_a_call_status_may_come_back_as_a_string(crm: CrmUser) -> None:
    crm.account.delete(EntityType.LEADS, 7001, NOW)
    await crm.post("/api/v4/calls", [{**CALL, "call_status": 4}])
    for as_string, seen in ((False, 4), (True, "4")):
        crm.state.switches.call_status_as_string = as_string
        (note,) = rows(await crm.get("/api/v4/contacts/9002/notes"), "notes")
        assert note["params"]["call_status"] == seen
    assert crm.state.calls()[0].status == 4


async def test_the_vendors_own_nulls_are_taken_in_calls() -> None:
    async with crm_user(SEED, allowed=("null in",)) as crm:
        nulls = dict.fromkeys(("uniq", "link", "call_result", "call_status"))
        assert (await crm.post("/api/v4/calls", [{**CALL, **nulls}])).status_code == 200
        assert len(crm.state.journal.warnings) == 4        # and yet ours should leave them out


async def test_a_kind_of_number_that_was_removed_is_refused(crm: CrmUser) -> None:
    field = {"field_code": "PHONE", "values": [{"value": "1", "enum_code": "WORK"}]}
    before = rows(await crm.get("/api/v4/contacts/custom_fields"), "custom_fields")[0]["enums"]
    crm.account.enums["PHONE"].remove("WORK")
    path = "custom_fields_values.0.values.0.enum_code"
    assert refused_path(await crm.post("/api/v4/contacts", [{"custom_fields_values": [field]}])) == path
    after = rows(await crm.get("/api/v4/contacts/custom_fields"), "custom_fields")[0]["enums"]
    assert after == [enum for enum in before if enum["value"] != "WORK"]   # the others keep their ids
    plain = {"field_code": "PHONE", "values": [{"value": "1"}]}
    assert (await crm.post("/api/v4/contacts", [{"custom_fields_values": [plain]}])).status_code == 200


async def test_a_deleted_contact_is_gone_with_all_of_its(crm: CrmUser) -> None:
    await crm.post("/api/v4/contacts/9002/notes", [{"note_type": "common", "params": {"text": "x"}}])
    await crm.post("/api/v4/tasks", [
        {"text": "x", "complete_till": 5, "entity_id": 9002, "entity_type": "contacts"}
    ])
    crm.state.delete_card(EntityType.CONTACTS, 9002)
    assert (await crm.get("/api/v4/contacts/9002")).status_code == 204
    assert (crm.state.notes(), crm.state.tasks()) == ([], [])
    assert (await crm.get("/api/v4/leads/7001/links")).status_code == 204
    assert (await crm.post("/api/v4/calls", [CALL])).json()["errors"][0]["status"] == 263


async def test_states_values_stay_as_they_were(crm: CrmUser) -> None:
    before = crm.state.contacts()[0]
    await crm.patch("/api/v4/contacts/9001", {"name": "Другой", "tags_to_add": [{"name": "т"}], "_embedded": {
        "leads": [{"id": 7001}],
    }})
    assert (before.name, before.tags, before.links(EntityType.LEADS)) == ("Иван Петров", [], [])
    after = crm.state.contacts()[0]
    assert (after.name, after.tags, after.links(EntityType.LEADS)) == ("Другой", ["т"], [7001])
    await crm.patch("/api/v4/contacts/9001", {"tags_to_delete": [{"name": "т"}]})
    assert crm.state.contacts()[0].tags == []


async def test_the_journal_counts_by_method_path_and_account(crm: CrmUser) -> None:
    await crm.get("/api/v4/contacts?query=nobody")
    await crm.post("/api/v4/calls", [CALL])
    beta = {"Host": "beta.amocrm.test", "Authorization": "Bearer beta-token"}
    await crm.http.get("/api/v4/contacts", headers=beta)
    await crm.http.get("/api/v4/contacts", headers={**beta, "Authorization": "Bearer wrong"})
    journal = crm.state.journal
    assert len(journal.of("GET", "/api/v4/contacts")) == 3
    assert [entry.status for entry in journal.of("GET", "/api/v4/contacts", "beta")] == [204, 401]
    assert [entry.client_id for entry in journal.of(account="beta")] == ["beta", None]
    assert [str(entry) for entry in journal.of(account="acme", status=200)] == ["POST /api/v4/calls -> 200"]


# The control API.

async def control(crm: CrmUser, path: str, body: dict[str, Any] | None = None, method: str = "") -> dict[str, Any]:
    """Its answer, which is no amoCRM's."""
    answer = await crm.http.request(method or ("GET" if body is None else "POST"), f"/_fake/{path}", json=body)
    assert answer.status_code == 200, answer.text
    known: dict[str, Any] = answer.json()
    return known


async def test_users_accounts_and_cards_are_changed_from_outside(crm: CrmUser) -> None:
    seen = await control(crm, "users", {"id": 78, "is_active": False})
    assert [user["is_active"] for user in seen["users"]] == [True, False]
    seen = await control(crm, "users", {"id": 80, "name": "Вера", "is_admin": True})
    assert [user["id"] for user in seen["users"]] == [77, 78, 80]
    seen = await control(crm, "users", {"id": 78, "is_deleted": True})
    assert [user["id"] for user in seen["users"]] == [77, 80]
    seen = await control(crm, "delete", {"type": "contacts", "id": 9001})
    assert [contact["id"] for contact in seen["contacts"]] == [9002, 9003, 9004]
    await control(crm, "delete", {"stage": 1_001})
    assert [lead.status_id for lead in crm.state.leads()] == [1_002, 142]
    seen = await control(crm, "account", {"account": "beta", "is_unsorted_on": False, "subdomain": "gamma"})
    assert seen["account"]["subdomain"] == "acme"
    assert (await control(crm, "state?account=gamma"))["account"]["is_unsorted_on"] is False
    await control(crm, "seed", {"customers": [{"name": "П", "contact": 9002}], "leads": [{"name": "Л"}]})
    assert (len(crm.state.customers()), len(crm.state.leads())) == (1, 3)


async def test_the_whole_state_is_json(crm: CrmUser) -> None:
    await crm.post("/api/v4/tasks", [{"text": "x", "complete_till": 5, "entity_id": 9001, "entity_type": "contacts"}])
    await crm.post("/api/v4/calls", [CALL])
    seen = await control(crm, "state")
    assert {name: len(seen[name]) for name in ("contacts", "leads", "tasks", "notes", "unsorted", "customers")} == {
        "contacts": 4, "leads": 2, "tasks": 1, "notes": 1, "unsorted": 0, "customers": 0,
    }
    assert seen["tasks"][0]["entity_type"] == "contacts"
    assert seen["contacts"][1]["linked"] == {"leads": [7001]}


async def test_faults_rate_and_journal_from_outside(crm: CrmUser) -> None:
    await control(crm, "faults", {"preset": "502-after-commit", "path": "/api/v4/calls", "times": 1})
    assert (await crm.post("/api/v4/calls", [CALL])).status_code == 502
    assert len(crm.state.calls()) == 1
    assert "silence" in (await control(crm, "faults"))["presets"]
    await control(crm, "switches", {"only_report_rate": True, "query_digits": "literal"})
    assert crm.state.switches.query_digits is QueryDigits.LITERAL
    await crm.get("/api/v4/account")
    seen = await control(crm, "journal?method=POST&path=/api/v4/c&account=acme")
    assert (seen["count"], seen["entries"][0]["status"], seen["warnings"]) == (1, 502, [])
    assert (await control(crm, "rate"))["accounts"] == {"acme": 2}
    await control(crm, "rate", method="DELETE")
    assert (await control(crm, "rate"))["highest"] == 0
    await control(crm, "block", {})
    assert (await crm.get("/api/v4/account")).status_code == 403
    await control(crm, "unblock", {})
    assert (await crm.get("/api/v4/account")).status_code == 200
    assert (await control(crm, "clock", {"now": 5}))["now"] == 5


@pytest.mark.parametrize(("path", "wrong"), [
    ("faults", {"preset": "plague"}), ("faults", {"then": "x"}), ("users", {}), ("users", {"id": 5, "account": "x"}),
    ("delete", {}), ("delete", {"type": "people", "id": 5}), ("install", {"client_id": "x"}),
    ("off", {"signature": "odd"}), ("widget-token", {"user": 77, "kind": "odd"}), ("clock", {"advance": True}),
    ("seed", {"leads": [{"name": "x", "contact": 5}]}), ("account", {"name": "x"}), ("clock", []),
])
async def test_wrong_orders_are_refused(crm: CrmUser, path: str, wrong: Any) -> None:
    answer = await crm.post(f"/_fake/{path}", wrong)
    assert answer.status_code == 400
    assert answer.json()["detail"]


async def test_install_and_off_from_outside(crm: CrmUser) -> None:
    asked: list[httpx.Request] = []

    def other(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(202)

    crm.state.outgoing.transport = httpx.MockTransport(other)
    assert (await control(crm, "install", {}))["answered"] == 202
    assert (await control(crm, "off", {"signature": "wrong"}))["answered"] is None     # it has no disconnect URL
    assert (await crm.get("/api/v4/account")).status_code == 200
    await control(crm, "off", {})
    refusal(await crm.get("/api/v4/account"), 401)
    assert len(asked) == 1
    assert (await control(crm, "deliver", {}))["tried"] == 0


async def test_the_page_shows_work_and_requests(crm: CrmUser) -> None:
    task = {"text": "<i>Перезвонить</i>", "complete_till": int(NOW), "responsible_user_id": 78}
    await crm.post("/api/v4/tasks", [task])
    await crm.post("/api/v4/webhooks", {"destination": "https://x.example/<", "settings": ["add_lead"]})
    await crm.post("/api/v2/events/", {"add": [{"type": "phone_call", "phone_number": "+7", "users": [77]}]})
    page = (await crm.http.get("/")).text
    for shown in ("&lt;i&gt;Перезвонить&lt;/i&gt; → Борис", "https://x.example/&lt;: add_lead", "+7 → Анна",
                  "POST /api/v4/tasks -&gt; 200"):
        assert shown in page
    assert "<i>" not in page


async def test_https_with_a_certificate_of_ones_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("crm", *ip("127.0.0.1"))
    context = authority.client()
    async with (
        running_sandbox(SEED, certificate=files.certificate, key=files.key) as sandbox,
        httpx.AsyncClient(base_url=sandbox.base_url, verify=context) as http,
    ):
        answer = await http.get("/api/v4/account", headers={"Authorization": "Bearer sandbox-token"})
        assert sandbox.base_url.startswith("https://")
        assert answer.json()["_links"]["self"]["href"] == f"{sandbox.base_url}/api/v4/account"
