"""What the stand-in amoCRM does with work: tasks, unsorted leads, leads with contacts, links, pipelines, users."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from copy import deepcopy
from typing import Any

import pytest

from b2bua.sandbox import (
    SandboxSeed,
    SeedAccount,
    SeedCompany,
    SeedContact,
    SeedCustomer,
    SeedIntegration,
    SeedLead,
    SeedPipeline,
    SeedUser,
)
from b2bua.sandbox.entities import EntityType, Fate
from tests.support.sandbox import NOW, CrmUser, crm_user, ids, refusal, refused_path, rows

SEED = SandboxSeed((
    SeedAccount(
        users=(SeedUser(77, "Анна", is_admin=True), SeedUser(78, "Борис"), SeedUser(79, "Вера", is_active=False)),
        contacts=(
            SeedContact("Иван Петров", ("8 (495) 123-45-67",), 77, 9001),
            SeedContact("Мария", ("+79161112233",), 78, 9002),
        ),
        companies=(SeedCompany("Вектор", ("+74957654321",), 78, 9501),),
        leads=(SeedLead("Кресла", contact=9002, id=7001),),
        pipelines=(
            SeedPipeline(), SeedPipeline(2_000, "Опт", ((2_001, "Новый"),), is_unsorted_on=False),
        ),
        integrations=(
            SeedIntegration(), SeedIntegration("plain", token="plain-token", user=78),
            SeedIntegration("outside", token="outside-token", is_external=True),
        ),
    ),
))
TASK = {"text": "Перезвонить", "complete_till": int(NOW) + 900, "entity_id": 9001, "entity_type": "contacts",
        "responsible_user_id": 78}
PHONE = {"field_code": "PHONE", "values": [{"value": "+79990001122", "enum_code": "WORK"}]}
UNSORTED: dict[str, Any] = {
    "source_uid": "trunk-1", "source_name": "Smartswitch",
    "metadata": {
        "phone": "+79990001122", "call_responsible": 77, "called_at": int(NOW) - 10, "duration": 0, "link": "",
        "service_code": "smartswitch", "uniq": "call-1", "is_call_event_needed": True, "from": "+79990001122",
    },
    "_embedded": {
        "leads": [{"name": "Пропущенный +79990001122"}],
        "contacts": [{"name": "+79990001122", "custom_fields_values": [PHONE]}],
    },
}


@pytest.fixture
def crm() -> AbstractAsyncContextManager[CrmUser]:
    return crm_user(SEED)


@pytest.fixture
def sloppy() -> AbstractAsyncContextManager[CrmUser]:
    return crm_user(SEED, allowed=("unknown field",))


async def test_tasks_are_written_found_and_closed(crm: CrmUser) -> None:
    first, second = rows(await crm.post("/api/v4/tasks", [
        {**TASK, "request_id": "t-1"}, {"text": "Без карточки", "complete_till": 5},
    ]), "tasks")
    assert (first["request_id"], second["request_id"]) == ("t-1", "1")
    row = (await crm.get(f"/api/v4/tasks/{first['id']}")).json()
    assert {name: row[name] for name in TASK} == TASK
    assert (row["task_type_id"], row["is_completed"], row["created_by"]) == (1, False, 77)
    done = await crm.patch(f"/api/v4/tasks/{first['id']}", {"is_completed": True, "result": {"text": "Поговорили"}})
    assert done.json()["updated_at"] == int(NOW)
    kept = {task.id: task for task in crm.state.tasks()}
    assert (kept[first["id"]].is_completed, kept[first["id"]].result) == (True, "Поговорили")
    assert (kept[second["id"]].responsible_user_id, kept[second["id"]].entity_type) == (77, None)
    await crm.patch("/api/v4/tasks", [{"id": second["id"], "text": "Иначе"}])
    assert crm.state.tasks()[1].text == "Иначе"
    refusal(await crm.patch("/api/v4/tasks/5", {"text": "x"}), 404)
    assert (await crm.get("/api/v4/tasks/5")).status_code == 204


@pytest.mark.parametrize(("wanted", "found"), [
    ("", [1, 2, 3]), ("filter[is_completed]=0", [1, 3]), ("filter[is_completed][]=1", [2]),
    ("filter[entity_type]=contacts&filter[entity_id][]=9001", [1, 2]), ("filter[entity_id]=7001", [3]),
    ("filter[responsible_user_id]=77", [3]), ("filter[responsible_user_id][0]=78", [1, 2]),
    ("filter[task_type]=2", [2]), ("order[complete_till]=desc", [3, 1, 2]), ("filter[task_type][]=9", []),
    (f"filter[updated_at][from]={int(NOW) + 1}", []), (f"filter[updated_at][to]={int(NOW)}", [1, 2, 3]),
    ("limit=1&page=2", [2]), ("limit=1&page=4", []),
])
async def test_filters_of_tasks_cost_nothing(crm: CrmUser, wanted: str, found: list[int]) -> None:
    made = rows(await crm.post("/api/v4/tasks", [
        TASK, {**TASK, "task_type_id": 2, "is_completed": True, "complete_till": int(NOW)},
        {"text": "x", "complete_till": int(NOW) + 1_000, "entity_type": "leads", "entity_id": 7001},
    ]), "tasks")
    numbers = {row["id"]: number for number, row in enumerate(made, 1)}
    assert [numbers[row] for row in ids(await crm.get(f"/api/v4/tasks?{wanted}"), "tasks")] == found


@pytest.mark.parametrize(("wrong", "path"), [
    ({"text": ""}, "text"), ({"text": 5}, "text"), ({"complete_till": None}, "complete_till"),
    ({"complete_till": "soon"}, "complete_till"), ({"entity_type": "contact"}, "entity_type"),
    ({"entity_type": None}, "entity_type"), ({"entity_id": 5}, "entity_id"),
    ({"responsible_user_id": 79}, "responsible_user_id"), ({"responsible_user_id": 5}, "responsible_user_id"),
    ({"task_type_id": 9}, "task_type_id"), ({"is_completed": 1}, "is_completed"), ({"result": "ok"}, "result"),
    ({"request_id": None}, "request_id"),
])
async def test_wrong_tasks_are_refused_by_name(crm: CrmUser, wrong: dict[str, Any], path: str) -> None:
    assert refused_path(await crm.post("/api/v4/tasks", [TASK, {**TASK, **wrong}])) == path
    assert not crm.state.tasks()


async def test_an_unsorted_call_hides_its_contact_until_it_is_accepted(crm: CrmUser) -> None:
    (made,) = rows(await crm.post("/api/v4/leads/unsorted/sip", [{**UNSORTED, "request_id": "u-1"}]), "unsorted")
    (contact,), (lead,) = made["_embedded"]["contacts"], made["_embedded"]["leads"]
    assert made["request_id"] == "u-1"
    call = {"direction": "inbound", "duration": 5, "source": "t", "phone": "89990001122"}
    assert ids(await crm.get("/api/v4/contacts?query=9990001122"), "contacts") == []
    assert ids(await crm.get("/api/v4/leads"), "leads") == [7001]
    assert (await crm.post("/api/v4/calls", [call])).json()["errors"][0]["status"] == 263
    waiting = await crm.get("/api/v4/leads/unsorted?filter[category][]=sip")
    assert ids(waiting, "unsorted") == [made["uid"]]
    assert ids(await crm.get("/api/v4/leads/unsorted?filter[category][]=forms"), "unsorted") == []
    row = (await crm.get(f"/api/v4/leads/unsorted/{made['uid']}")).json()
    assert row["metadata"] == UNSORTED["metadata"]
    answer = await crm.post(f"/api/v4/leads/unsorted/{made['uid']}/accept", {"user_id": 78, "status_id": 1002})
    assert answer.json()["uid"] == made["uid"]
    assert ids(await crm.get("/api/v4/contacts?query=9990001122"), "contacts") == [contact["id"]]
    stored = (await crm.get(f"/api/v4/leads/{lead['id']}?with=contacts")).json()
    assert (stored["status_id"], stored["responsible_user_id"]) == (1002, 78)
    assert [other["id"] for other in stored["_embedded"]["contacts"]] == [contact["id"]]
    assert rows(await crm.post("/api/v4/calls", [call]), "calls")[0]["entity_id"] == lead["id"]
    assert [one.uniq for one in crm.state.calls()] == ["call-1", ""]       # the first by is_call_event_needed
    assert [one.fate for one in crm.state.unsorted()] == [Fate.ACCEPTED]
    refusal(await crm.post(f"/api/v4/leads/unsorted/{made['uid']}/accept", {"user_id": 78}), 404)
    refusal(await crm.get(f"/api/v4/leads/unsorted/{made['uid']}"), 404)
    assert ids(await crm.get("/api/v4/leads/unsorted"), "unsorted") == []


@pytest.mark.parametrize("body", [None, {"user_id": 77}])
async def test_a_declined_unsorted_call_leaves_nothing(crm: CrmUser, body: dict[str, int] | None) -> None:
    (made,) = rows(await crm.post("/api/v4/leads/unsorted/sip", [UNSORTED]), "unsorted")
    assert (await crm.delete(f"/api/v4/leads/unsorted/{made['uid']}/decline", body)).status_code == 200
    assert [contact.id for contact in crm.state.contacts()] == [9001, 9002]
    assert [lead.id for lead in crm.state.leads()] == [7001]
    assert not crm.state.calls()
    assert crm.state.unsorted()[0].fate is Fate.DECLINED


async def test_an_unsorted_call_is_refused_twice_and_where_it_is_switched_off(crm: CrmUser) -> None:
    async def post(item: dict[str, Any]) -> int:
        return (await crm.post("/api/v4/leads/unsorted/sip", [item])).status_code

    assert await post({**UNSORTED, "request_id": "a", "created_at": 5}) == 200
    assert await post({**UNSORTED, "request_id": "b"}) == 400              # the same data
    crm.state.switches.duplicate_unsorted_status = 422
    assert await post(UNSORTED) == 422
    other = {**UNSORTED, "source_uid": "trunk-2"}
    assert await post({**other, "pipeline_id": 2_000}) == 400              # off there
    crm.account.is_unsorted_on = False
    assert (await crm.get("/api/v4/account")).json()["is_unsorted_on"] is False
    crm.state.switches.unsorted_off_status = 403
    assert await post(other) == 403
    crm.account.is_unsorted_on = True
    assert await post(other) == 200
    assert len(crm.state.unsorted()) == 2


@pytest.mark.parametrize("name", [*UNSORTED, *(f"metadata.{name}" for name in UNSORTED["metadata"])])
async def test_all_of_an_unsorted_call_is_mandatory(crm: CrmUser, name: str) -> None:
    item = deepcopy(UNSORTED)
    within, _, last = name.rpartition(".")
    del (item[within] if within else item)[last]
    assert refused_path(await crm.post("/api/v4/leads/unsorted/sip", [item])) == name
    assert not crm.state.unsorted()


async def test_a_wrong_part_of_an_unsorted_call_is_refused(crm: CrmUser) -> None:
    two = {**UNSORTED, "_embedded": {"contacts": [{"name": "a"}, {"name": "b"}]}}
    assert refused_path(await crm.post("/api/v4/leads/unsorted/sip", [two])) == "_embedded.contacts"
    gone = {**UNSORTED, "pipeline_id": 5}
    assert refused_path(await crm.post("/api/v4/leads/unsorted/sip", [gone])) == "pipeline_id"
    (made,) = rows(await crm.post("/api/v4/leads/unsorted/sip", [UNSORTED]), "unsorted")
    wrong = await crm.post(f"/api/v4/leads/unsorted/{made['uid']}/accept", {"user_id": 77, "status_id": 2_001})
    assert refused_path(wrong) == "status_id"
    wrong = await crm.post(f"/api/v4/leads/unsorted/{made['uid']}/accept", {"user_id": 79})
    assert refused_path(wrong) == "user_id"
    assert crm.state.unsorted()[0].fate is Fate.OPEN


async def test_a_lead_with_its_contact_and_company_in_one_request(crm: CrmUser) -> None:
    lead = {"name": "Заявка", "price": 5, "request_id": "l-1", "_embedded": {
        "contacts": [{"first_name": "Новый", "custom_fields_values": [PHONE]}], "companies": [{"id": 9501}],
    }}
    (made,) = (await crm.post("/api/v4/leads/complex", [lead])).json()
    contact = next(contact for contact in crm.state.contacts() if contact.id == made["contact_id"])
    assert (contact.name, contact.phones) == ("Новый", ["+79990001122"])
    assert made == {"id": made["id"], "contact_id": contact.id, "company_id": 9501, "merged": False,
                    "request_id": ["l-1"]}
    assert contact.links(EntityType.LEADS) == [made["id"]]
    (again,) = (await crm.post("/api/v4/leads/complex", [lead])).json()    # without duplicate control
    assert again["contact_id"] != contact.id
    refusal(await crm.post("/api/v4/leads/complex", [lead] * 51))
    two = {"_embedded": {"contacts": [{"name": "a"}, {"name": "b"}]}}
    assert refused_path(await crm.post("/api/v4/leads/complex", [two])) == "_embedded.contacts"
    stranger = {"_embedded": {"contacts": [{"id": 5}]}}
    assert refused_path(await crm.post("/api/v4/leads/complex", [stranger])) == "_embedded.contacts.0.id"
    assert len(crm.state.leads()) == 3


async def test_duplicate_control_merges_by_number_but_not_within_a_request(crm: CrmUser) -> None:
    crm.account.has_duplicate_control = True
    lead = {"_embedded": {"contacts": [{"custom_fields_values": [PHONE]}]}}
    first, second = (await crm.post("/api/v4/leads/complex", [lead, lead])).json()
    assert (first["merged"], second["merged"]) == (False, False)
    assert first["contact_id"] != second["contact_id"]
    local = {"field_code": "PHONE", "values": [{"value": "8 (999) 000-11-22"}]}
    (merged,) = (await crm.post("/api/v4/leads/complex", [{"_embedded": {"contacts": [
        {"custom_fields_values": [local]}
    ]}}])).json()
    assert (merged["merged"], merged["contact_id"], merged["id"]) == (True, first["contact_id"], first["id"])
    (other,) = (await crm.post("/api/v4/leads/complex", [{**lead, "pipeline_id": 2_000}])).json()
    assert (other["merged"], other["contact_id"]) == (True, first["contact_id"])
    assert len(crm.state.contacts()) == 4
    assert other["id"] not in (first["id"], second["id"])


async def test_a_complex_lead_of_a_call_is_unsorted(crm: CrmUser) -> None:
    lead = {"name": "Звонок", "_embedded": {
        "metadata": {"category": "sip", **UNSORTED["metadata"]}, "contacts": UNSORTED["_embedded"]["contacts"],
    }}
    (made,) = (await crm.post("/api/v4/leads/complex", [lead])).json()
    (unsorted,) = crm.state.unsorted()
    assert unsorted.embedded[EntityType.LEADS] == (made["id"],)
    assert unsorted.phone == "+79990001122"
    assert ids(await crm.get("/api/v4/contacts?query=9990001122"), "contacts") == []
    crm.account.is_unsorted_on = False
    refusal(await crm.post("/api/v4/leads/complex", [lead]))
    other = {"_embedded": {"metadata": {"category": "mail"}}}
    assert refused_path(await crm.post("/api/v4/leads/complex", [other])) == "_embedded.metadata.category"


async def test_links_are_made_listed_and_cut(crm: CrmUser) -> None:
    body = [{"to_entity_id": 9001, "to_entity_type": "contacts", "metadata": {"is_main": True}}]
    (link,) = rows(await crm.post("/api/v4/leads/7001/link", body), "links")
    assert (link["entity_id"], link["to_entity_id"], link["to_entity_type"]) == (7001, 9001, "contacts")
    found = rows(await crm.get("/api/v4/leads/7001/links"), "links")
    assert [(row["to_entity_id"], row["metadata"]["main_contact"]) for row in found] == [(9002, True), (9001, False)]
    other_way = rows(await crm.get("/api/v4/contacts/9001/links?filter[to_entity_type]=leads"), "links")
    assert [row["to_entity_id"] for row in other_way] == [7001]
    assert (await crm.post("/api/v4/leads/7001/unlink", [
        {"to_entity_id": number, "to_entity_type": "contacts"} for number in (9001, 9002)
    ])).status_code == 204
    assert (await crm.get("/api/v4/leads/7001/links")).status_code == 204
    refusal(await crm.post("/api/v4/leads/5/link", body), 404)
    for wrong, path in [({"to_entity_id": 5}, "to_entity_id"), ({"to_entity_type": "contact"}, "to_entity_type"),
                        ({"to_entity_type": "leads", "to_entity_id": 7001}, "to_entity_type")]:
        assert refused_path(await crm.post("/api/v4/leads/7001/link", [{**body[0], **wrong}])) == path


async def test_pipelines_and_their_stages(crm: CrmUser) -> None:
    main, wholesale = rows(await crm.get("/api/v4/leads/pipelines"), "pipelines")
    assert (main["is_main"], main["is_unsorted_on"]) == (True, True)
    assert (wholesale["is_main"], wholesale["is_unsorted_on"]) == (False, False)
    stages = main["_embedded"]["statuses"]
    assert [(stage["id"], stage["type"], stage["is_editable"]) for stage in stages] == [
        (1_000_000, 1, False), (1_001, 0, True), (1_002, 0, True), (142, 0, False), (143, 0, False),
    ]
    assert [stage["sort"] for stage in stages] == sorted(stage["sort"] for stage in stages)
    assert (await crm.get("/api/v4/leads/pipelines/2000")).json()["id"] == 2_000
    assert ids(await crm.get("/api/v4/leads/pipelines/2000/statuses"), "statuses") == [2_000_000, 2_001, 142, 143]
    assert (await crm.get("/api/v4/leads/pipelines/2000/statuses/142")).json()["pipeline_id"] == 2_000
    refusal(await crm.get("/api/v4/leads/pipelines/5"), 404)
    refusal(await crm.get("/api/v4/leads/pipelines/1000/statuses/2001"), 404)


@pytest.mark.parametrize(("given", "place"), [
    ({}, (1_000, 1_001)), ({"pipeline_id": 2_000}, (2_000, 2_001)), ({"status_id": 2_001}, (2_000, 2_001)),
    ({"status_id": 142}, (1_000, 142)), ({"status_id": 142, "pipeline_id": 2_000}, (2_000, 142)),
])
async def test_where_a_lead_begins(crm: CrmUser, given: dict[str, int], place: tuple[int, int]) -> None:
    (made,) = rows(await crm.post("/api/v4/leads", [given]), "leads")
    lead = next(lead for lead in crm.state.leads() if lead.id == made["id"])
    assert (lead.pipeline_id, lead.status_id) == place


async def test_a_stage_that_is_gone_is_refused(crm: CrmUser) -> None:
    await crm.patch("/api/v4/leads/7001", {"status_id": 1_002})
    crm.account.delete_stage(1_002)
    assert crm.state.leads()[0].status_id == 1_001
    for wrong in ({"status_id": 1_002}, {"status_id": 2_001, "pipeline_id": 1_000}):
        assert refused_path(await crm.post("/api/v4/leads", [wrong])) == "status_id"
    assert refused_path(await crm.post("/api/v4/leads", [{"pipeline_id": 5}])) == "pipeline_id"


async def test_a_pipeline_that_is_gone_is_refused(crm: CrmUser) -> None:
    crm.account.pipelines[2_000].is_unsorted_on = True
    (made,) = rows(await crm.post("/api/v4/leads/unsorted/sip", [{**UNSORTED, "pipeline_id": 2_000}]), "unsorted")
    (won,) = rows(await crm.post("/api/v4/leads", [{"pipeline_id": 2_000, "status_id": 142}]), "leads")
    assert (await crm.post("/_fake/delete", {"pipeline": 1_000})).status_code == 400   # the main one
    assert (await crm.post("/_fake/delete", {"pipeline": 2_000})).status_code == 200
    assert refused_path(await crm.post("/api/v4/leads", [{"pipeline_id": 2_000}])) == "pipeline_id"
    late = {**UNSORTED, "source_uid": "x", "pipeline_id": 2_000}
    assert refused_path(await crm.post("/api/v4/leads/unsorted/sip", [late])) == "pipeline_id"
    await crm.post(f"/api/v4/leads/unsorted/{made['uid']}/accept", {"user_id": 77})
    places = {lead.id: (lead.pipeline_id, lead.status_id) for lead in crm.state.leads()}
    assert places == {7001: (1_000, 1_001), won["id"]: (1_000, 142),
                      made["_embedded"]["leads"][0]["id"]: (1_000, 1_001)}


async def test_users_are_for_administrators_of_integrations_that_may(crm: CrmUser) -> None:
    (first,) = rows(await crm.get("/api/v4/users?limit=1&with=group,uuid"), "users")
    assert (first["_embedded"]["groups"][0]["id"], first["uuid"]) == (0, f"{77:032x}")
    page = (await crm.get("/api/v4/users?limit=2&page=2")).json()
    assert (page["_total_items"], page["_page_count"], page["_page"]) == (3, 2, 2)
    assert [user["rights"]["is_active"] for user in page["_embedded"]["users"]] == [False]
    crm.account.users[78].is_active = False
    assert (await crm.get("/api/v4/users/78")).json()["rights"]["is_active"] is False
    refusal(await crm.get("/api/v4/users/5"), 404)
    crm.account.users[78].is_active = True
    for token in ("plain-token", "outside-token"):
        for path in ("/api/v4/users", "/api/v4/users/77"):
            refusal(await crm.get(path, Authorization=f"Bearer {token}"), 403)


@pytest.mark.parametrize(("leads", "customers", "chosen"), [
    (0, 0, 9001), (1, 0, "lead"), (0, 1, "customer"), (1, 1, 9001), (2, 0, 9001), (0, 2, 9001),
])
async def test_which_card_a_call_is_for(crm: CrmUser, leads: int, customers: int, chosen: int | str) -> None:
    made = [crm.state.add_lead(crm.account, SeedLead("x", contact=9001)) for _ in range(leads)]
    made += [crm.state.add_customer(crm.account, SeedCustomer("x", contact=9001)) for _ in range(customers)]
    crm.state.add_lead(crm.account, SeedLead("lost", contact=9001, status_id=143))
    call = {"direction": "inbound", "duration": 5, "source": "t", "phone": "+74951234567"}
    (row,) = rows(await crm.post("/api/v4/calls", [call]), "calls")
    if isinstance(chosen, str):
        assert (row["entity_type"], row["entity_id"]) == (chosen, made[0].id)
    else:
        assert row["entity_id"] == chosen


@pytest.mark.parametrize(("method", "path", "body", "said"), [
    ("POST", "tasks", [{**TASK, "priority": 1}], "priority"),
    ("POST", "tasks", [{**TASK, "result": {"text": "x", "mood": 1}}], "result.mood"),
    ("POST", "leads/unsorted/sip", [{**UNSORTED, "x": 1}], "x"),
    ("POST", "leads/unsorted/sip", [{**UNSORTED, "metadata": {**UNSORTED["metadata"], "to": 1}}], "metadata.to"),
    ("POST", "leads", [{"_embedded": {"people": []}}], "_embedded.people"),
    ("POST", "contacts", [{"price": 5}], "price"),
    ("POST", "contacts", [{"custom_fields_values": [{**PHONE, "code": "x"}]}], "custom_fields_values.0.code"),
    ("POST", "leads/7001/link", [{"to_entity_id": 9001, "to_entity_type": "contacts", "main": 1}], "main"),
    ("POST", "contacts/9001/notes", [{"note_type": "common", "params": {"txt": "x"}}], "params.txt"),
    ("PATCH", "contacts/9001", {"phone": "x"}, "phone"),
])
async def test_what_amocrm_would_ignore_stands_in_the_journal(
    sloppy: CrmUser, method: str, path: str, body: Any, said: str
) -> None:
    answer = await sloppy.http.request(method, f"/api/v4/{path}", json=body)
    assert answer.status_code == 200, answer.text
    (warning,) = sloppy.state.journal.warnings
    assert warning.endswith(f"unknown field {said!r}")


@pytest.mark.parametrize("path", ["tasks", "leads/unsorted/sip", "leads/complex", "leads/7001/link"])
async def test_writes_are_arrays_of_json_by_post(crm: CrmUser, path: str) -> None:
    refusal(await crm.http.post(f"/api/v4/{path}", content=b"[{}]"))
    for no_json in (b"[", b'[{"text": NaN}]', b'[{"text": "\\ud83d"}]', b"[" * 100_000):
        headers = {"Content-Type": "application/json"}
        refusal(await crm.http.post(f"/api/v4/{path}", content=no_json, headers=headers))
    for wrong in ({}, [], [5]):
        refusal(await crm.post(f"/api/v4/{path}", wrong))
    refusal(await crm.delete(f"/api/v4/{path}"), 405)
