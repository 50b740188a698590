"""Whatever is sent to the stand-in amoCRM is answered as amoCRM would: done whole, or refused with nothing stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.sandbox import SandboxSeed, SeedAccount, SeedContact, SeedIntegration, SeedLead, SeedUser, SeedWidget, preset
from b2bua.sandbox.presets import PRESETS
from tests.support.sandbox import NOW, CrmUser, crm_user
from tests.support.virtual_loop import VirtualLoop

SEED = SandboxSeed((
    SeedAccount(
        users=(SeedUser(77, "Анна", is_admin=True), SeedUser(79, "Вера", is_active=False)),
        contacts=(SeedContact("Иван", ("+74951234567",), 77, 9001),), leads=(SeedLead("Л", contact=9001, id=7001),),
        widgets=(SeedWidget(),), integrations=(SeedIntegration(code="once"),),
    ),
))
TASK = 40_000_002                      # of the task that each test begins with; the widget has the number before it
PHONE = [{"field_code": "PHONE", "values": [{"value": "+79990001122", "enum_code": "WORK"}]}]
METADATA = {
    "phone": "+79990001122", "call_responsible": 77, "called_at": 5, "duration": 0, "link": "", "service_code": "s",
    "uniq": "u", "is_call_event_needed": True, "from": "+79990001122",
}
CONTACT = {"name": "К", "first_name": "К", "responsible_user_id": 77, "custom_fields_values": PHONE, "created_by": 0,
           "tags_to_add": [{"name": "т"}], "_embedded": {"leads": [{"id": 7001}], "tags": [{"name": "т"}]}}
WRITES: list[tuple[str, str, Any]] = [
    ("POST", "/api/v4/contacts", [CONTACT]),
    ("PATCH", "/api/v4/contacts/9001", CONTACT),
    ("PATCH", "/api/v4/contacts", [{"id": 9001, "name": "Н"}, {**CONTACT, "id": 9001}]),
    ("PATCH", "/api/v4/tasks", [{"id": TASK, "text": "н"}, {"id": TASK, "is_completed": True}]),
    ("POST", "/api/v4/leads", [{"name": "С", "price": 5, "status_id": 1_001, "pipeline_id": 1_000}]),
    ("POST", "/api/v4/leads/complex", [{"_embedded": {"contacts": [{"custom_fields_values": PHONE}],
                                                      "companies": [{"name": "Ф"}]}}]),
    ("POST", "/api/v4/leads/complex", [{"_embedded": {"metadata": {"category": "sip", **METADATA}}}]),
    ("POST", "/api/v4/leads/unsorted/sip", [{"source_uid": "t", "source_name": "S", "metadata": METADATA,
                                             "pipeline_id": 1_000, "created_at": 5,
                                             "_embedded": {"contacts": [{"name": "К"}], "leads": [{"name": "Л"}]}}]),
    ("POST", "/api/v4/leads/7001/link", [{"to_entity_id": 9001, "to_entity_type": "contacts",
                                          "metadata": {"is_main": True}}]),
    ("POST", "/api/v4/tasks", [{"text": "т", "complete_till": 5, "entity_id": 9001, "entity_type": "contacts",
                                "task_type_id": 1, "is_completed": False, "result": {"text": "р"}}]),
    ("POST", "/api/v4/calls", [{"direction": "inbound", "duration": 5, "source": "s", "phone": "+74951234567",
                                "call_status": 4, "call_responsible": 77, "created_at": 5, "request_id": "r"}]),
    ("POST", "/api/v4/contacts/9001/notes", [{"note_type": "call_in", "params": {"uniq": "u", "duration": 5,
                                                                                 "call_status": 4}}]),
    ("POST", "/api/v4/contacts/notes", [{"entity_id": 9001, "note_type": "common", "params": {"text": "т"}}]),
    ("POST", "/api/v2/events/", {"add": [{"type": "phone_call", "phone_number": "+74951234567", "users": [77]}]}),
    ("POST", "/api/v4/webhooks", {"destination": "https://x.example", "settings": ["add_contact"], "sort": 5}),
    ("POST", "/api/v4/widgets/smartswitch", {"extensions": {"77": "101"}}),
    ("POST", "/oauth2/access_token", {"client_id": SeedIntegration().client_id,
                                      "client_secret": SeedIntegration().client_secret,
                                      "redirect_uri": SeedIntegration().redirect_uri, "code": "once",
                                      "grant_type": "authorization_code"}),
    ("POST", "/_fake/faults", {"path": "*", "act": "answer", "status": 503, "probability": 0.5, "times": 1}),
    ("POST", "/_fake/seed", {"account": "acme", "contacts": [{"name": "x"}], "leads": [{"name": "x"}]}),
    ("POST", "/_fake/clock", {"advance": 5}),
]
BEFORE_COMMIT = {"refused", "reset", "500", "502", "503", "504", "401", "402", "429-json", "429-text", "blocked"}
ANSWERS = {200, 201, 204, 400, 404, 422}
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-10, 10_000),
    st.sampled_from([10**30, 1e300, float("nan"), float("inf"), 0.5, 9001, 7001, 77, 79]),
    st.sampled_from(["", "x", "9001", "contacts", "sip", "call_in", "<b>", "\ud83d\ude00", "\ud83d", "1" * 5_000]),
    st.just([]), st.just({}), st.just([None]), st.just([[]]), st.just({"id": None}), st.just([{"id": 9001}]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something may be replaced."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, str, Any]:
    """A good write of which up to three values are others, missing or new."""
    method, path, body = deepcopy(draw(st.sampled_from(WRITES)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(body)))
        if not place:
            body = deepcopy(draw(VALUES))
            continue
        *way, last = place
        holder = body
        for key in way:
            holder = holder[key]
        if draw(st.booleans()):
            holder[last] = deepcopy(draw(VALUES))
        elif isinstance(holder, dict):
            del holder[last]
    return method, path, body


def played(test: Callable[[CrmUser], Any], allowed: tuple[str, ...] = ("",)) -> None:
    loop = VirtualLoop()

    async def run() -> None:
        async with crm_user(SEED, allowed=allowed, clock=lambda: NOW + loop.time()) as crm:
            await test(crm)

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()


def held(crm: CrmUser) -> str:
    """All that the account holds."""
    account, state = crm.account, crm.state
    parts = [state.contacts(), state.companies(), state.leads(), state.tasks(), state.notes(), state.unsorted(),
             state.pop_ups(), list(account.webhooks.by_destination.values())]
    return "\n".join(str(row) for part in parts for row in part)


@settings(max_examples=400, deadline=None)
@given(st.lists(damaged(), min_size=1, max_size=4))
def test_a_damaged_write_is_refused_whole_or_done_and_all_stays_readable(writes: list[tuple[str, str, Any]]) -> None:
    async def test(crm: CrmUser) -> None:
        await crm.post("/api/v4/tasks", [{"text": "x", "complete_till": 5}])
        for method, path, body in writes:
            before = held(crm)
            answer = await crm.http.request(method, path, content=json.dumps(body), headers={
                "Content-Type": "application/json",
            })
            assert answer.status_code in ANSWERS, answer.text
            if answer.status_code >= 400 and not path.startswith("/_fake/"):
                assert held(crm) == before, answer.text
            crm.state.faults.clear()
        for path in ("/api/v4/contacts?with=leads,customers", "/api/v4/leads", "/api/v4/tasks", "/api/v4/events",
                     "/api/v4/contacts/notes", "/api/v4/leads/unsorted", "/api/v4/webhooks", "/_fake/state", "/",
                     "/api/v4/contacts?query=1", "/api/v4/leads/7001/links", "/api/v4/leads/pipelines"):
            assert (await crm.get(path)).status_code in (200, 204)

    played(test)


@pytest.mark.parametrize("write", WRITES, ids=[f"{method} {path}" for method, path, _ in WRITES])
def test_undamaged_they_are_done(write: tuple[str, str, Any]) -> None:
    async def test(crm: CrmUser) -> None:
        method, path, body = write
        await crm.post("/api/v4/tasks", [{"text": "x", "complete_till": 5}])
        answer = await crm.http.request(method, path, json=body)
        assert answer.status_code in (200, 201), answer.text

    played(test, allowed=())


QUERIES = st.dictionaries(
    st.sampled_from(["page", "limit", "query", "with", "order[id]", "order[x]", "filter[id][]", "filter[id][0]",
                     "filter[updated_at][from]", "filter[is_completed]", "filter[statuses][0][status_id]", "filter["]),
    st.sampled_from(["", "1", "250", "251", "-1", "x", "1" * 30, "1" * 5_000, "asc", "desc", "%00", "leads", "²"]),
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["contacts", "leads", "tasks", "users", "events", "webhooks", "widgets", "contacts/notes",
                        "leads/unsorted", "leads/pipelines", "account", "contacts/custom_fields"]), QUERIES,
       st.booleans())
def test_any_question_is_answered(what: str, query: dict[str, str], has_filters: bool) -> None:
    async def test(crm: CrmUser) -> None:
        crm.state.switches.has_filters = has_filters
        answer = await crm.http.get(f"/api/v4/{what}", params=query)
        assert answer.status_code in (200, 204, 422), answer.text

    played(test)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1_000), st.lists(st.sampled_from(sorted(set(PRESETS) - {"large"})), max_size=3))
def test_what_a_client_learns_of_its_write_is_true(seed: int, names: list[str]) -> None:
    """Of each write that was answered by 200 the task is there; of each that failed before the commit it is not."""
    async def test(crm: CrmUser) -> None:
        crm.state.faults.seed(seed)
        crm.state.faults.add(*(preset(name, "/api/v4/tasks", "POST", probability=0.5) for name in names))
        certain, possible = set(), set()
        for number in range(12):
            text = f"task {number}"
            body = [{"text": text, "complete_till": 5}]
            try:
                answer = await crm.http.post("/api/v4/tasks", json=body, timeout=10)
                row = json.loads(answer.content.removeprefix(b"\xef\xbb\xbf")) if answer.status_code == 200 else None
                (certain if isinstance(row, dict) and "_embedded" in row else possible).add(text)
            except (ValueError, httpx.TransportError):
                possible.add(text)
        stored = [task.text for task in crm.state.tasks()]
        assert len(stored) == len(set(stored))
        assert certain <= set(stored) <= certain | possible
        if names and BEFORE_COMMIT.issuperset(names):
            assert set(stored) == certain

    played(test)
