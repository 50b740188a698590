"""The stand-in amoCRM over real HTTP: its rules as a table, its faults, its page."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest

from b2bua.sandbox import (
    Act,
    Fault,
    Sandbox,
    SandboxSeed,
    SeedAccount,
    SeedContact,
    SeedIntegration,
    SeedLead,
    SeedUser,
    running_sandbox,
)

SEED = SandboxSeed((
    SeedAccount(
        users=(SeedUser(77, "Анна", is_admin=True), SeedUser(78, "Борис"), SeedUser(79, "Вера", is_active=False)),
        contacts=(
            SeedContact("Иван Петров", ("8 (495) 123-45-67",), 77, 9001),
            SeedContact("Мария", ("+79161112233",), 78, 9002, updated_at=1),
            SeedContact("Кредит 4951234567", (), 78, 9003),
        ),
        leads=(SeedLead("Кресла", contact=9002, id=7001),),
        integrations=(
            SeedIntegration(code="once"),
            SeedIntegration("second", token="plain-token", user=78),
        ),
    ),
    SeedAccount(31_000_002, "beta", "Бета", integrations=(SeedIntegration("beta", token="beta-token"),)),
))
TOKEN = "sandbox-token"
CALL = {"direction": "inbound", "duration": 5, "source": "t", "phone": "+74951234567"}


class Client:
    """The sandbox and a client with the administrator's token."""

    def __init__(self, sandbox: Sandbox, http: httpx.AsyncClient) -> None:
        self.sandbox, self.http, self.state = sandbox, http, sandbox.state

    async def get(self, path: str, token: str = TOKEN, **headers: str) -> httpx.Response:
        return await self.http.get(path, headers={"Authorization": f"Bearer {token}", **headers})

    async def post(self, path: str, body: Any) -> httpx.Response:
        return await self.http.post(path, json=body, headers={"Authorization": "Bearer sandbox-token"})

    async def patch(self, path: str, body: Any) -> httpx.Response:
        return await self.http.patch(path, json=body, headers={"Authorization": "Bearer sandbox-token"})


@pytest.fixture
def client() -> AbstractAsyncContextManager[Client]:
    @asynccontextmanager
    async def running() -> AsyncIterator[Client]:
        async with running_sandbox(SEED) as sandbox, httpx.AsyncClient(base_url=sandbox.base_url) as http:
            sandbox.state.switches.per_second = sandbox.state.switches.account_per_second = None
            yield Client(sandbox, http)

    return running()


def rows(answer: httpx.Response, name: str) -> list[dict[str, Any]]:
    assert answer.headers["content-type"] == "application/hal+json"
    embedded: list[dict[str, Any]] = answer.json()["_embedded"][name]
    return embedded


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    return body


async def test_who_may_ask(client: Client) -> None:
    for token in ("x y", "wrong"):
        assert_problem(await client.get("/api/v4/account", token), 401)
    assert_problem(await client.get("/api/v4/nowhere", "wrong"), 401)      # before the path is looked at
    assert_problem(await client.get("/api/v4/nowhere"), 404)
    assert_problem(await client.get("/api/v4/calls"), 405)
    assert_problem(await client.get("/api/v4/users", "plain-token"), 403)
    assert (await client.get("/api/v4/users", **{"X-Context-User-ID": "78"})).status_code == 403
    assert (await client.get("/api/v4/users", **{"X-Context-User-ID": "79"})).status_code == 401
    client.state.switches.is_paid = False
    assert_problem(await client.get("/api/v4/account"), 402)


async def test_accounts_are_told_apart_by_host_and_by_token(client: Client) -> None:
    assert (await client.get("/api/v4/account")).json()["subdomain"] == "acme"
    assert (await client.get("/api/v4/account", "beta-token")).json()["subdomain"] == "beta"
    beta = {"Host": "beta.amocrm.test"}
    assert (await client.get("/api/v4/account", "beta-token", **beta)).json()["subdomain"] == "beta"
    assert_problem(await client.get("/api/v4/account", **beta), 401)
    assert (await client.get("/api/v4/contacts", "beta-token")).status_code == 204


async def test_the_account_and_its_parts(client: Client) -> None:
    plain = (await client.get("/api/v4/account")).json()
    assert {"id", "name", "created_at", "current_user_id", "country", "is_unsorted_on"} <= set(plain)
    assert "_embedded" not in plain
    parts = (await client.get("/api/v4/account?with=task_types,version")).json()
    assert [kind["code"] for kind in parts["_embedded"]["task_types"]] == ["FOLLOW_UP", "MEETING"]
    assert "version" in parts


async def test_users_with_totals(client: Client) -> None:
    answer = (await client.get("/api/v4/users?limit=2")).json()
    assert (answer["_total_items"], answer["_page_count"]) == (3, 2)
    assert [user["id"] for user in answer["_embedded"]["users"]] == [77, 78]
    assert (await client.get("/api/v4/users/79")).json()["rights"]["is_active"] is False


async def test_a_query_finds_strangers_and_paging_ends(client: Client) -> None:
    found = await client.get("/api/v4/contacts?query=4951234567&with=leads")
    assert [row["id"] for row in rows(found, "contacts")] == [9001, 9003]
    first = (await client.get("/api/v4/contacts?limit=2")).json()
    assert "next" in first["_links"]
    last = await client.http.get(first["_links"]["next"]["href"], headers={"Authorization": "Bearer sandbox-token"})
    assert "next" not in last.json()["_links"]
    nothing = await client.get("/api/v4/contacts?limit=2&page=3")
    assert nothing.status_code == 204
    assert not nothing.content
    assert "content-type" not in nothing.headers
    assert_problem(await client.get("/api/v4/contacts?limit=251"), 422)
    ordered = await client.get("/api/v4/contacts?order[updated_at]=asc")
    assert rows(ordered, "contacts")[0]["id"] == 9002
    ignored = await client.get("/api/v4/contacts?filter[id]=9001")
    assert len(rows(ignored, "contacts")) == 3


async def test_a_contact_row(client: Client) -> None:
    row = (await client.get("/api/v4/contacts/9002?with=leads")).json()
    assert row["responsible_user_id"] == 78
    (phone,) = row["custom_fields_values"]
    assert (phone["field_code"], phone["values"][0]["value"]) == ("PHONE", "+79161112233")
    assert [lead["id"] for lead in row["_embedded"]["leads"]] == [7001]
    assert (await client.get("/api/v4/contacts/5")).status_code == 204


async def test_contacts_are_created_and_changed(client: Client) -> None:
    phone = {"field_code": "PHONE", "values": [{"value": "+79990001122", "enum_code": "MOB"}]}
    made = await client.post("/api/v4/contacts", [
        {"first_name": "Новый", "custom_fields_values": [phone], "request_id": "c-1", "tags_to_add": [{"name": "т"}]},
        {"name": "Второй"},
    ])
    first, second = rows(made, "contacts")
    assert (first["request_id"], second["request_id"]) == ("c-1", "1")
    number = {"field_code": "PHONE", "values": [{"value": "+79990001133"}]}
    changed = await client.patch(f"/api/v4/contacts/{first['id']}", {"custom_fields_values": [number]})
    assert changed.status_code == 200
    row = (await client.get(f"/api/v4/contacts/{first['id']}")).json()
    assert [value["value"] for value in row["custom_fields_values"][0]["values"]] == ["+79990001133"]
    assert_problem(await client.patch("/api/v4/contacts/5", {"name": "x"}), 404)
    assert not client.state.journal.warnings


@pytest.mark.parametrize(("item", "path"), [
    ({"responsible_user_id": 79}, "responsible_user_id"),
    ({"responsible_user_id": 5}, "responsible_user_id"),
    ({"responsible_user_id": "77"}, "responsible_user_id"),
    ({"custom_fields_values": [{"field_code": "SHOE", "values": []}]}, "custom_fields_values.0.field_code"),
    ({"custom_fields_values": [{"field_code": "PHONE", "values": [{"value": "1", "enum_code": "X"}]}]},
     "custom_fields_values.0.values.0.enum_code"),
    ({"request_id": None}, "request_id"),
])
async def test_wrong_contacts_are_refused_by_name(client: Client, item: dict[str, Any], path: str) -> None:
    refused = assert_problem(await client.post("/api/v4/contacts", [item]), 400)
    assert refused["validation-errors"][0]["errors"][0]["path"] == path
    assert len(client.state.contacts()) == 3


async def test_writes_must_be_json_arrays(client: Client) -> None:
    headers = {"Authorization": "Bearer sandbox-token"}
    assert_problem(await client.http.post("/api/v4/contacts", content=b"[{}]", headers=headers), 400)
    assert_problem(await client.post("/api/v4/contacts", []), 400)
    assert_problem(await client.post("/api/v4/contacts", {"name": "x"}), 400)
    assert_problem(await client.post("/api/v4/contacts", [{}] * 251), 400)
    await client.post("/api/v4/contacts", [{"nickname": "x"}])
    assert "unknown field 'nickname'" in client.state.journal.warnings[0]


async def test_a_call_lands_on_the_card_of_its_number_every_time(client: Client) -> None:
    for _ in range(2):                                     # amoCRM does not deduplicate
        (call,) = rows(await client.post("/api/v4/calls", [{**CALL, "uniq": "u", "created_by": 77}]), "calls")
        assert (call["entity_id"], call["entity_type"], call["request_id"]) == (9001, "contact", "0")
    assert [entry.uniq for entry in client.state.calls()] == ["u", "u"]
    (on_lead,) = rows(await client.post("/api/v4/calls", [{**CALL, "phone": "89161112233"}]), "calls")
    assert (on_lead["entity_id"], on_lead["entity_type"]) == (7001, "lead")


async def test_a_call_of_nobody_is_not_stored(client: Client) -> None:
    nobody = {**CALL, "phone": "+79000000000", "request_id": "k"}
    answer = await client.post("/api/v4/calls", [nobody])
    assert answer.status_code == 400
    assert answer.json()["errors"][0] | {"detail": ""} == {
        "title": "Entity not found", "status": 263, "detail": "", "request_id": "k",
    }
    mixed = await client.post("/api/v4/calls", [nobody, CALL])
    assert (mixed.status_code, len(mixed.json()["errors"]), mixed.json()["_total_items"]) == (200, 1, 1)
    client.state.switches.mixed_calls_status = 400
    assert (await client.post("/api/v4/calls", [nobody, CALL])).status_code == 400


@pytest.mark.parametrize("wrong", [
    {"phone": ""}, {"direction": "sideways"}, {"duration": "5"}, {"created_by": 79}, {"request_id": None},
])
async def test_wrong_calls_are_refused(client: Client, wrong: dict[str, Any]) -> None:
    body = assert_problem(await client.post("/api/v4/calls", [{**CALL, **wrong}]), 400)
    assert body["validation-errors"][0]["errors"][0]["path"] == next(iter(wrong))
    assert not client.state.calls()


async def test_notes_are_written_changed_and_filtered(client: Client) -> None:
    call = {"note_type": "call_in", "params": {"uniq": "u", "duration": 5, "source": "t", "phone": "+7495"}}
    (note,) = rows(await client.post("/api/v4/contacts/9001/notes", [call]), "notes")
    await client.post("/api/v4/contacts/notes", [{"entity_id": 9002, "note_type": "common", "params": {"text": "?"}}])
    link = {"note_type": "call_in", "params": {"link": "https://pbx.example.org/r.mp3"}}
    assert (await client.patch(f"/api/v4/contacts/9001/notes/{note['id']}", link)).status_code == 200
    found = await client.get("/api/v4/contacts/notes?filter[note_type][]=call_in&filter[entity_id][]=9001")
    (row,) = rows(found, "notes")
    assert row["params"] == {**call["params"], **link["params"]}           # type: ignore[dict-item]
    assert len(rows(await client.get("/api/v4/contacts/9002/notes"), "notes")) == 1
    assert (await client.get("/api/v4/contacts/notes?filter[note_type][]=sms_in")).status_code == 204
    null = {**call, "params": {"link": None}}
    refused = assert_problem(await client.post("/api/v4/contacts/9001/notes", [null]), 400)
    assert refused["validation-errors"][0]["errors"][0]["code"] == "NotNullable"
    assert_problem(await client.post("/api/v4/contacts/5/notes", [call]), 400)


@pytest.mark.parametrize("slash", ["", "/"])
async def test_pop_ups_as_json_and_as_form(client: Client, slash: str) -> None:
    event = {"type": "phone_call", "phone_number": "+74951234567", "users": [77, 78]}
    answer = await client.post(f"/api/v2/events{slash}", {"add": [event]})
    assert answer.json()["_embedded"]["items"][0] | {"uid": ""} == {
        "element_id": 9001, "element_type": 1, "uid": "", "phone_number": "+74951234567",
    }
    form = {"add[0][type]": "phone_call", "add[0][phone_number]": "+79000000000"}
    headers = {"Authorization": "Bearer sandbox-token"}
    strange = await client.http.post(f"/api/v2/events{slash}", data=form, headers=headers)
    assert strange.json()["_embedded"]["items"][0]["element_id"] is None
    assert [shown.users for shown in client.state.pop_ups()] == [(77, 78), (77, 78, 79)]
    assert_problem(await client.get(f"/api/v2/events{slash}"), 405)


async def test_tokens_are_exchanged_once_and_rotate(client: Client) -> None:
    base = {"client_id": "sandbox-integration", "client_secret": SeedIntegration().client_secret,
            "redirect_uri": "https://pbx.example.org/amocrm/oauth"}
    code = {**base, "grant_type": "authorization_code", "code": "once"}
    assert_problem(await client.http.post("/oauth2/access_token", json={**code, "client_secret": "x"}), 400)
    assert_problem(await client.http.post("/oauth2/access_token", json={**code, "redirect_uri": "x"}), 400)
    pair = (await client.http.post("/oauth2/access_token", json=code)).json()
    assert (pair["token_type"], pair["expires_in"]) == ("Bearer", 86_400)
    assert_problem(await client.http.post("/oauth2/access_token", json=code), 400)
    assert (await client.get("/api/v4/account", pair["access_token"])).status_code == 200
    assert_problem(await client.get("/api/v4/account", pair["refresh_token"]), 401)
    refresh = {**base, "grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    fresh = (await client.http.post("/oauth2/access_token/", data=refresh)).json()
    assert_problem(await client.get("/api/v4/account", pair["access_token"]), 401)
    again = assert_problem(await client.http.post("/oauth2/access_token", json=refresh), 401)
    assert again["hint"] == "Token has been revoked"
    client.state.clock.advance(86_401)
    assert_problem(await client.get("/api/v4/account", fresh["access_token"]), 401)


async def test_the_rate_is_limited_and_insisting_is_blocked(client: Client) -> None:
    client.state.switches.per_second, client.state.switches.block_after = 7, 6
    answers = [(await client.get("/api/v4/account")).status_code for _ in range(10)]
    assert answers == [200] * 7 + [429] * 3
    assert client.sandbox.rate.highest == 10
    client.state.switches.limited_as_text = True
    assert (await client.get("/api/v4/account")).headers["content-type"].startswith("text/plain")
    await client.get("/api/v4/account")
    await client.get("/api/v4/account")
    blocked = await client.http.post("/oauth2/access_token", json={})
    assert (blocked.status_code, blocked.headers["content-type"]) == (403, "text/html; charset=utf-8")
    await client.http.post("/_fake/unblock", json={"x": 1})
    assert (await client.http.post("/oauth2/access_token", json={})).status_code == 400


async def test_faults_before_and_after_the_commit(client: Client) -> None:
    for committed in (False, True):
        for act in (Act.RESET, Act.CUT):
            client.state.faults.add(Fault("/api/v4/calls", act=act, committed=committed, times=1))
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post("/api/v4/calls", [CALL])
        client.state.faults.add(Fault("/api/v4/calls", act=Act.ANSWER, status=502, committed=committed, times=1))
        assert_problem(await client.post("/api/v4/calls", [CALL]), 502)
    assert len(client.state.calls()) == 3
    assert (await client.post("/api/v4/calls", [CALL])).status_code == 200
    statuses = [entry.status for entry in client.state.journal.of("POST", "/api/v4/calls")]
    assert statuses == [0, 0, 502, 0, 0, 502, 200]


async def test_faults_by_path_method_count_and_time(client: Client) -> None:
    client.state.faults.add(Fault("/api/v4/c*", "POST", act=Act.ANSWER, status=500, skip=1, times=2))
    answers = [(await client.post("/api/v4/calls", [CALL])).status_code for _ in range(4)]
    assert answers == [200, 500, 500, 200]
    assert (await client.get("/api/v4/contacts")).status_code == 200
    client.state.faults.add(Fault("/api/v4/users", act=Act.SILENCE))
    client.state.faults.add(Fault("/api/v4/account", delay=60))
    for path in ("/api/v4/users", "/api/v4/account"):
        with pytest.raises(httpx.ReadTimeout):
            await client.http.get(path, headers={"Authorization": "Bearer sandbox-token"}, timeout=0.2)


async def test_the_control_api(client: Client) -> None:
    http = client.http
    seeded = await http.post("/_fake/seed", json={"contacts": [{"name": "Новый", "phones": ["+79030000000"]}]})
    assert "Новый" in [card["name"] for card in seeded.json()["cards"]]
    await http.post("/_fake/faults", json={"path": "/api/v4/account", "act": "answer", "status": 504, "times": 1})
    assert_problem(await client.get("/api/v4/account"), 504)
    assert (await http.get("/_fake/faults")).json()["faults"][0]["times"] == 0
    before = (await http.get("/_fake/clock")).json()["now"]
    assert (await http.post("/_fake/clock", json={"advance": 3_600})).json()["now"] >= before + 3_600
    assert (await http.post("/_fake/switches", json={"is_paid": False})).json()["is_paid"] is False
    entries = (await http.get("/_fake/journal?path=/api/v4/account")).json()["entries"]
    assert [entry["status"] for entry in entries] == [504]
    for path, wrong in [
        ("faults", {"pth": "x"}), ("faults", {"delay": "long"}), ("faults", {"act": "dance"}), ("clock", {}),
        ("switches", {"colour": 1}), ("seed", {"contacts": [{"phones": []}]}), ("seed", {"account": "nobody"}),
    ]:
        assert_problem_like(await http.post(f"/_fake/{path}", json=wrong))
    await http.delete("/_fake/journal")
    assert not len(client.state.journal)


def assert_problem_like(answer: httpx.Response) -> None:
    assert answer.status_code == 400
    assert answer.json()["detail"]


async def test_the_page_shows_calls_and_lets_nothing_in(client: Client) -> None:
    client.state.add_cards(client.state.account(), next(iter(client.state.account().entities)), [
        SeedContact('<script>alert("x")</script>', ("+79035550000",)),
    ])
    calls = [("+79035550000", "https://pbx.example.org/r/1.mp3?a=1&b=2"), ("+74951234567", "javascript:alert(1)")]
    for phone, link in calls:
        await client.post("/api/v4/calls", [{**CALL, "phone": phone, "link": link, "call_status": 4, "duration": 65}])
    await client.post("/api/v2/events/", {"add": [{"type": "phone_call", "phone_number": "<b>", "users": [77]}]})
    page = await client.http.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script>" not in page.text
    assert "javascript:" not in page.text
    assert "<b>," not in page.text
    assert '<audio controls preload="none" src="https://pbx.example.org/r/1.mp3?a=1&amp;b=2">' in page.text
    assert "1:05" in page.text


async def test_a_taken_port_is_an_error_and_a_block_may_fail(client: Client) -> None:
    port = httpx.URL(client.sandbox.base_url).port
    assert port is not None
    with pytest.raises(OSError, match="in use"):
        async with running_sandbox(port=port):
            pass

    async def block() -> None:
        async with running_sandbox():
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await block()


async def test_closing_ends_slow_answers_at_once() -> None:
    loop = asyncio.get_running_loop()
    async with running_sandbox(SEED) as sandbox, httpx.AsyncClient(base_url=sandbox.base_url) as http:
        sandbox.state.faults.add(Fault(delay=600))
        with pytest.raises(httpx.ReadTimeout):
            await http.get("/api/v4/account", timeout=0.1)
        began = loop.time()
    assert loop.time() - began < 5
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", httpx.URL(sandbox.base_url).port or 0)) != 0
