"""What the stand-in amoCRM sends to others, and what it tells of itself: hooks, webhooks, events, widgets."""

from __future__ import annotations

import hashlib
import hmac
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest

from b2bua.sandbox import SandboxSeed, SeedAccount, SeedContact, SeedIntegration, SeedUser, SeedWidget, running_sandbox
from b2bua.sandbox.delivery import deliver_due
from b2bua.sandbox.entities import EntityType
from b2bua.sandbox.installation import install, switch_off
from b2bua.sandbox.outgoing import Outgoing
from tests.support.sandbox import CrmUser, crm_user, ids, refusal, refused_path, rows

OURS = SeedIntegration(disconnect_url="https://pbx.example.org/amocrm/off?from=amo")
SEED = SandboxSeed((
    SeedAccount(
        users=(SeedUser(77, "Анна", is_admin=True), SeedUser(78, "Борис")),
        contacts=(SeedContact("Иван", ("+74951234567",), 77, 9001),),
        integrations=(OURS, SeedIntegration("plain", token="plain-token", user=78)),
        widgets=(SeedWidget(settings={"pbx_host": "pbx.example.org", "extensions": {"77": "101"}}, is_active=False),),
    ),
))
HOOK = {"destination": "https://pbx.example.org/hook/1", "settings": ["add_contact", "update_contact"], "sort": 10}
CALL = {"direction": "inbound", "duration": 5, "source": "t", "phone": "+74951234567", "created_by": 77}


class Other:
    """The server that the stand-in calls: what it was sent, and what it answers (None: nothing in time)."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.answers: int | None = 200

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.answers is None:
            raise httpx.ReadTimeout("too late", request=request)
        return httpx.Response(self.answers)

    def form(self, index: int = -1) -> dict[str, str]:
        assert self.asked[index].headers["content-type"] == "application/x-www-form-urlencoded"
        return dict(parse_qsl(self.asked[index].content.decode(), keep_blank_values=True))


@pytest.fixture
def crm() -> AbstractAsyncContextManager[CrmUser]:
    return crm_user(SEED)


@pytest.fixture
def other() -> Other:
    return Other()


def connect(crm: CrmUser, other: Other) -> None:
    crm.state.outgoing = Outgoing(httpx.MockTransport(other))


async def test_install_tells_a_code_once_and_it_is_good(crm: CrmUser, other: Other) -> None:
    connect(crm, other)
    assert await install(crm.state, OURS.client_id) == 200
    (request,) = other.asked
    said = dict(request.url.params)
    assert str(request.url).startswith(f"{OURS.redirect_uri}?")
    assert {**said, "code": ""} == {
        "code": "", "referer": "acme.amocrm.test", "from_widget": "1", "client_id": OURS.client_id,
    }
    assert request.extensions["timeout"]["read"] == 3.0
    pair = await crm.post("/oauth2/access_token", {
        "client_id": OURS.client_id, "client_secret": OURS.client_secret, "redirect_uri": OURS.redirect_uri,
        "grant_type": "authorization_code", "code": said["code"],
    })
    assert pair.status_code == 200
    assert crm.account.widgets["smartswitch"].is_active


async def test_install_is_not_repeated_and_may_carry_a_foreign_code(crm: CrmUser, other: Other) -> None:
    connect(crm, other)
    for answers in (500, None):
        other.answers = answers
        assert await install(crm.state, OURS.client_id, code="foreign") is answers
    assert [request.url.params["code"] for request in other.asked] == ["foreign", "foreign"]


async def test_off_kills_all_tokens_and_is_signed(crm: CrmUser, other: Other) -> None:
    connect(crm, other)
    expected = hmac.new(OURS.client_secret.encode(), f"{OURS.client_id}|31000001".encode(), hashlib.sha256).hexdigest()
    assert await switch_off(crm.state, OURS.client_id, is_forged=True) == 200
    assert other.asked[0].url.params["signature"] != expected
    assert (await crm.get("/api/v4/account")).status_code == 200           # a stranger's request changes nothing
    other.answers = None
    assert await switch_off(crm.state, OURS.client_id) is None
    assert dict(other.asked[1].url.params) == {
        "from": "amo", "account_id": "31000001", "client_uuid": OURS.client_id, "signature": expected,
    }
    refusal(await crm.get("/api/v4/account"), 401)
    plain = {"Authorization": "Bearer plain-token"}
    widget = await crm.get("/api/v4/widgets/smartswitch", **plain)         # another integration lives on
    assert widget.json()["is_active_in_account"] is False
    assert await switch_off(crm.state, "plain") is None
    assert len(other.asked) == 2                           # that one has no disconnect URL


async def test_webhooks_are_the_administrators(crm: CrmUser) -> None:
    made = await crm.post("/api/v4/webhooks", HOOK)
    assert (made.status_code, made.json()["destination"], made.json()["disabled"]) == (201, HOOK["destination"], False)
    again = await crm.post("/api/v4/webhooks", {**HOOK, "settings": ["delete_contact"]})
    assert again.json()["id"] == made.json()["id"]
    (row,) = rows(await crm.get("/api/v4/webhooks"), "webhooks")
    assert row["settings"] == ["delete_contact"]
    assert ids(await crm.get("/api/v4/webhooks?filter[destination]=https://x.example"), "webhooks") == []
    for wrong, path in [({"destination": "pbx"}, "destination"), ({"destination": None}, "destination"),
                        ({"settings": ["everything"]}, "settings"), ({"settings": []}, "settings"),
                        ({"sort": "x"}, "sort")]:
        assert refused_path(await crm.post("/api/v4/webhooks", {**HOOK, **wrong})) == path
    plain = {"Authorization": "Bearer plain-token"}
    refusal(await crm.get("/api/v4/webhooks", **plain), 403)
    gone = {"destination": HOOK["destination"]}
    assert (await crm.delete("/api/v4/webhooks", gone)).status_code == 204
    refusal(await crm.delete("/api/v4/webhooks", gone), 404)
    for number in range(100):
        assert (await crm.post("/api/v4/webhooks", {**HOOK, "destination": f"https://x/{number}"})).status_code == 201
    refusal(await crm.post("/api/v4/webhooks", HOOK))


async def test_what_happens_is_told_as_a_form_with_nested_keys(crm: CrmUser, other: Other) -> None:
    connect(crm, other)
    settings = ["add_contact", "update_contact", "responsible_contact", "delete_contact", "status_lead", "note_contact",
                "add_task", "update_task", "add_lead"]
    await crm.post("/api/v4/webhooks", {**HOOK, "settings": settings})
    phone = {"field_code": "PHONE", "values": [{"value": "+79990001122", "enum_code": "MOB"}]}
    contact = {"name": "Н & Ко", "custom_fields_values": [phone]}
    (made,) = rows(await crm.post("/api/v4/contacts", [contact]), "contacts")
    assert await deliver_due(crm.state) == 1
    form = other.form()
    assert {key: form[key] for key in (
        "contacts[add][0][id]", "contacts[add][0][name]", "contacts[add][0][type]",
        "contacts[add][0][custom_fields][0][values][0][value]", "account[id]", "account[subdomain]",
    )} == {
        "contacts[add][0][id]": str(made["id"]), "contacts[add][0][name]": "Н & Ко",
        "contacts[add][0][type]": "contact",
        "contacts[add][0][custom_fields][0][values][0][value]": "+79990001122", "account[id]": "31000001",
        "account[subdomain]": "acme",
    }
    assert other.asked[0].extensions["timeout"]["read"] == 2.0
    await crm.patch(f"/api/v4/contacts/{made['id']}", {"responsible_user_id": 78})
    await crm.post("/api/v4/companies", [{"name": "не заказано"}])
    (lead,) = rows(await crm.post("/api/v4/leads", [{}]), "leads")
    await crm.patch(f"/api/v4/leads/{lead['id']}", {"status_id": 142})
    (task,) = rows(await crm.post("/api/v4/tasks", [{"text": "x", "complete_till": 5}]), "tasks")
    await crm.patch(f"/api/v4/tasks/{task['id']}", {"is_completed": True})
    await crm.post("/api/v4/calls", [CALL])
    crm.state.delete_card(EntityType.CONTACTS, made["id"])
    await deliver_due(crm.state)
    assert [next(iter(other.form(index))) for index in range(1, len(other.asked))] == [
        "contacts[update][0][id]", "contacts[responsible][0][id]", "leads[add][0][id]", "leads[status][0][id]",
        "task[add][0][id]", "task[update][0][id]", "contacts[note][0][note][id]", "contacts[delete][0][id]",
    ]


@pytest.mark.parametrize(("answers", "minutes"), [
    (404, [0, 5, 20]), (None, [0, 5, 20]), (500, [0, 5, 20, 35, 95]), (499, [0, 5, 20, 35, 95]), (204, [0]),
    (299, [0]), (302, [0, 5, 20]),
])
async def test_what_is_not_answered_well_is_told_again(
    crm: CrmUser, other: Other, answers: int | None, minutes: list[int]
) -> None:
    connect(crm, other)
    other.answers = answers
    await crm.post("/api/v4/webhooks", HOOK)
    await crm.post("/api/v4/contacts", [{}])
    told = []
    for minute in range(200):
        told += [minute] * await deliver_due(crm.state)
        crm.state.clock.advance(60.0)
    assert told == minutes


async def test_too_many_bad_answers_switch_a_webhook_off(crm: CrmUser, other: Other) -> None:
    connect(crm, other)
    other.answers = 404
    await crm.post("/api/v4/webhooks", HOOK)
    await crm.post("/api/v4/contacts", [{} for _ in range(100)])
    assert await deliver_due(crm.state) == 100
    (row,) = rows(await crm.get("/api/v4/webhooks"), "webhooks")
    assert row["disabled"] is False
    crm.state.clock.advance(2 * 3_600.0 + 1)
    await deliver_due(crm.state)                           # two hours later they count anew
    (row,) = rows(await crm.get("/api/v4/webhooks"), "webhooks")
    assert row["disabled"] is False
    await crm.post("/api/v4/contacts", [{}])
    assert await deliver_due(crm.state) == 1
    (row,) = rows(await crm.get("/api/v4/webhooks"), "webhooks")
    assert row["disabled"] is True
    await crm.post("/api/v4/contacts", [{}])
    crm.state.clock.advance(86_400.0)
    assert await deliver_due(crm.state) == 0


async def test_a_server_delivers_by_itself_when_the_clock_says_so(other: Other) -> None:
    headers = {"Authorization": "Bearer sandbox-token"}
    async with (
        running_sandbox() as target,                       # any server: it answers 404, and its journal tells
        running_sandbox(SEED) as sandbox,
        httpx.AsyncClient(base_url=sandbox.base_url, headers=headers) as http,
    ):
        await http.post("/api/v4/webhooks", json={**HOOK, "destination": f"{target.base_url}/hook"})
        await http.post("/api/v4/contacts", json=[{"name": "x"}])
        await until(target.state, 1)
        await http.post("/_fake/clock", json={"advance": 300})
        await until(target.state, 2)
        assert target.state.journal.of("POST", "/hook")[1].body.startswith(b"contacts%5Badd%5D")


async def until(state: Any, count: int) -> None:
    """The journal of the other server tells by its own event."""
    while len(state.journal) < count:
        state.news.clear()
        await state.news.wait()


async def test_calls_are_events_newest_first(crm: CrmUser) -> None:
    first, second = rows(await crm.post("/api/v4/calls", [CALL, {**CALL, "direction": "outbound"}]), "calls")
    events = rows(await crm.get("/api/v4/events"), "events")
    assert [(event["type"], event["entity_id"], event["value_after"][0]["note"]["id"]) for event in events] == [
        ("outgoing_call", 9001, second["id"]), ("incoming_call", 9001, first["id"]),
    ]
    assert all(isinstance(event["id"], str) for event in events)
    found = rows(await crm.get("/api/v4/events?filter[type]=incoming_call,x&filter[entity]=contact"), "events")
    assert [event["id"] for event in found] == [events[1]["id"]]
    assert ids(await crm.get("/api/v4/events?filter[type][]=lead_added"), "events") == []
    assert ids(await crm.get("/api/v4/events?filter[entity_id][]=5"), "events") == []
    assert (await crm.get(f"/api/v4/events/{events[0]['id']}")).json() == events[0]
    refusal(await crm.get("/api/v4/events/x"), 404)
    refusal(await crm.get("/api/v4/events?limit=101"), 422)


async def test_a_widgets_settings_are_its_owners(crm: CrmUser) -> None:
    ours = (await crm.get("/api/v4/widgets/smartswitch")).json()
    assert ours["settings"] == {"pbx_host": "pbx.example.org", "extensions": {"77": "101"}}
    plain = {"Authorization": "Bearer plain-token"}
    foreign = (await crm.get("/api/v4/widgets/smartswitch", **plain)).json()
    assert foreign == {name: value for name, value in ours.items() if name != "settings"}
    assert (foreign["is_active_in_account"], foreign["client_uuid"]) == (False, OURS.client_id)
    refusal(await crm.http.post("/api/v4/widgets/smartswitch", json={}, headers=plain), 403)
    installed = await crm.post("/api/v4/widgets/smartswitch", {"pbx_host": "b"})
    assert (installed.json()["is_active_in_account"], installed.json()["settings"]) == (True, {"pbx_host": "b"})
    assert (await crm.http.delete("/api/v4/widgets/smartswitch")).status_code == 204
    assert [row["is_active_in_account"] for row in rows(await crm.get("/api/v4/widgets"), "widgets")] == [False]
    refusal(await crm.get("/api/v4/widgets/another"), 404)
