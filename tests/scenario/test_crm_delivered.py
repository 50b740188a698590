"""What amoCRM holds when the outbox has written to it: each thing once, whatever answer was lost on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase

import pytest

from b2bua.cdr import Direction
from b2bua.crm import outbox as limits
from b2bua.crm.alarms import crm_alarms
from b2bua.crm.functions import CardKind, CrmFunctions
from b2bua.crm.outbox import Outbox, RecordingState
from b2bua.crm.port import CrmWrite
from b2bua.sandbox import Act, Fault
from b2bua.sandbox.entities import EntityType, Fate
from b2bua.sandbox.seed import SeedLead
from tests.support.amo_post import (
    BOSS,
    EPOCH,
    FIRM,
    IVAN,
    NEW,
    AmoPost,
    call_back,
    card,
    deal,
    fill_in,
    finds_late,
    missed,
    note,
    talked_to,
    wall,
)
from tests.support.memory_outbox import State

pytestmark = pytest.mark.patience(40 * 86_400.0)

AT = int(EPOCH.timestamp())
UNSORTED = CardKind.UNSORTED


# -- each write


async def test_a_stranger_becomes_a_contact_with_everything_that_follows_from_it() -> None:
    post = AmoPost()
    await post.deliver(card(), deal(), note(recording="rec"), fill_in())
    contact = post.contacts[-1]
    assert (contact.name, contact.phones, contact.tags) == (f"Клиент {NEW}", [NEW], ["звонок"])
    assert (contact.responsible_user_id, contact.created_at) == (77, AT)
    made = post.leads[-1]
    assert (made.name, made.pipeline_id, made.status_id, made.tags) == (f"Сделка {NEW}", 1_000, 1_002, ["звонок"])
    assert (made.links(EntityType.CONTACTS), made.created_at, made.responsible_user_id) == ([contact.id], AT, 77)
    (entry,) = post.state.calls()
    assert (entry.uniq, entry.created_at, entry.user) == ("c1", AT, 77)
    (task,) = post.tasks
    assert (task.entity_type, task.entity_id, task.text) == (EntityType.CONTACTS, contact.id, f"Заполнить {NEW}")
    assert (task.complete_till, task.responsible_user_id, task.task_type_id) == (AT + 900, 77, 1)
    assert post.new_cards == [NEW]
    assert not post.state.journal.warnings


@pytest.mark.parametrize("phone", [IVAN, FIRM])
async def test_whom_amocrm_knows_is_not_made_again(phone: str) -> None:
    post = AmoPost()
    said = await post.deliver(card(phone=phone), deal(phone=phone), fill_in(phone=phone))
    assert said[0].startswith("known already")
    assert said[1:] == ["no new contact", "no new contact"]
    assert {method for method, _, _ in (line.partition(" ") for line in post.asked())} == {"GET"}


async def test_calling_again_makes_no_second_contact_though_the_search_does_not_know_it_yet() -> None:
    post = AmoPost()
    finds_late(post.amo, 3_600.0)
    await post.deliver(card("c1"), note("c1"), card("c2"), note("c2"))
    made = [contact for contact in post.contacts if contact.phones == [NEW]]
    assert len(made) == 1
    assert [(one.entity_id, one.params["uniq"], one.created_at) for one in post.notes] == [
        (made[0].id, "c1", AT), (made[0].id, "c2", AT),
    ]


async def test_a_contact_of_ours_that_a_person_deleted_is_made_anew_and_one_whose_number_changed_is_another() -> None:
    post = AmoPost()
    await post.deliver(card("c1"))
    first = post.contacts[-1]
    post.state.delete_card(EntityType.CONTACTS, first.id)
    await post.deliver(card("c2"))
    second = post.contacts[-1]
    assert second.id != first.id
    second.fields = []
    await post.deliver(card("c3"))
    assert post.contacts[-1].id not in (first.id, second.id)


@pytest.mark.parametrize(("wanted", "default", "expected"), [(77, BOSS, 77), (79, BOSS, BOSS), (None, BOSS, BOSS),
                                                             (79, 79, 77)])
async def test_a_person_who_is_gone_is_replaced(wanted: int | None, default: int, expected: int) -> None:
    post = AmoPost()
    post.account = replace(post.account, default_user=default)
    await post.deliver(card(user=wanted), deal(user=wanted), fill_in(user=wanted), call_back("c2", user=wanted))
    assert post.contacts[-1].responsible_user_id == expected
    assert post.leads[-1].responsible_user_id == expected
    filled, back = sorted(post.tasks, key=lambda task: task.text)
    assert filled.responsible_user_id == expected
    assert back.responsible_user_id == (77 if wanted is None else 77 if wanted == 79 else expected)


@pytest.mark.parametrize("place", [(1_000, 999), (999, 1_002), (999, None)])
async def test_a_deal_whose_stage_is_gone_begins_where_deals_begin(place: tuple[int, int | None]) -> None:
    post = AmoPost()
    await post.deliver(card(), deal(pipeline=place[0], stage=place[1]))
    made = post.leads[-1]
    assert (made.name, made.pipeline_id, made.status_id) == (f"Сделка {NEW}", 1_000, 1_001)


async def test_a_missed_stranger_waits_as_an_unsorted_lead_that_tells_the_call_itself() -> None:
    post = AmoPost()
    said = await post.deliver(card(make=UNSORTED), missed(), fill_in())
    (lead,) = post.state.unsorted()
    assert (lead.metadata["uniq"], lead.metadata["called_at"], lead.created_at) == ("c1", AT, AT)
    assert (lead.metadata["phone"], lead.metadata["from"], lead.metadata["call_responsible"]) == (NEW, NEW, 77)
    (entry,) = post.state.calls()      # once, though the note was owed as well
    assert entry.uniq == "c1"
    assert said[1].startswith("told already")
    assert said[2] == "no new contact"
    assert not post.state.journal.warnings


async def test_calling_again_while_the_unsorted_lead_waits_adds_calls_to_it() -> None:
    post = AmoPost()
    await post.deliver(card("c1", make=UNSORTED), missed("c1"), card("c2", make=UNSORTED), missed("c2"))
    assert len(post.state.unsorted()) == 1
    assert [entry.uniq for entry in post.state.calls()] == ["c1", "c2"]
    assert {one.entity_type for one in post.notes} == {EntityType.LEADS}


@pytest.mark.parametrize("fate", [Fate.ACCEPTED, Fate.DECLINED])
async def test_after_somebody_decided_the_next_call_is_of_whom_they_decided(fate: Fate) -> None:
    post = AmoPost()
    await post.deliver(card("c1", make=UNSORTED), missed("c1"))
    (lead,) = post.state.unsorted()
    word = ("POST", "accept") if fate is Fate.ACCEPTED else ("DELETE", "decline")
    async with post.sandbox.client() as person:
        await person.request(word[0], f"/api/v4/leads/unsorted/{lead.uid}/{word[1]}", json={"user_id": 77})
    said = await post.deliver(card("c2", make=UNSORTED), missed("c2"))
    if fate is Fate.ACCEPTED:
        assert said[0].startswith("known already")
        assert len(post.state.unsorted()) == 1
    else:
        assert len([one for one in post.state.unsorted() if one.fate is Fate.OPEN]) == 1
    assert [entry.uniq for entry in post.state.calls()].count("c2") == 1
    assert len([line for line in post.known if line.startswith("unsorted") and line.endswith("open")]) == (
        fate is Fate.DECLINED
    )


@pytest.mark.parametrize("seconds", [61, 0])
async def test_an_answered_stranger_who_becomes_an_unsorted_lead_is_told_by_the_note_with_its_recording(
    seconds: int
) -> None:
    post = AmoPost()
    told = note(recording="rec", talk_seconds=seconds)
    await post.deliver(card(make=UNSORTED, talk_seconds=seconds, answered=True), told)
    (entry,) = post.state.calls()
    assert (entry.uniq, entry.talk_seconds, entry.link) == ("c1", seconds, "https://pbx.example.org/r/rec.mp3")


async def test_where_unsorted_leads_are_off_and_for_outgoing_calls_a_contact_is_made() -> None:
    post = AmoPost()
    await post.deliver(card("c1", make=UNSORTED, direction=Direction.OUTBOUND))
    assert post.contacts[-1].phones == [NEW]
    post.amo.is_unsorted_on = False
    await post.deliver(card("c2", phone="+79160000002", make=UNSORTED))
    assert post.contacts[-1].phones == ["+79160000002"]
    assert not post.state.unsorted()


@pytest.mark.parametrize("is_lost", [True, False])
async def test_a_call_of_a_number_that_only_a_deal_holds_is_told_there_once(is_lost: bool) -> None:
    post = AmoPost()
    held = post.state.add_lead(post.amo, SeedLead(f"Заказ {NEW}", id=7_002))
    if is_lost:
        post.state.faults.add(Fault("/api/v4/leads/*/notes", "POST", act=Act.RESET, committed=True, times=1))
    said = await post.deliver(card(), note())
    assert said[0] == f"known already: lead {held.id}"
    assert [(one.entity_type, one.entity_id, one.params["uniq"]) for one in post.notes] == [
        (EntityType.LEADS, held.id, "c1")
    ]


async def test_one_open_call_back_however_often_they_call_and_a_new_one_when_a_person_is_done_with_it() -> None:
    post = AmoPost()
    calls = ("c1", "c2", "c3")
    said = await post.deliver(*[write for call in calls for write in (missed(call, IVAN), call_back(call))])
    (task,) = post.tasks
    assert said[1::2] == [f"task {task.id}", f"task {task.id} is open already", f"task {task.id} is open already"]
    assert (task.entity_id, task.responsible_user_id, task.complete_till) == (9001, 77, AT + 900)
    task.is_completed = True
    await post.deliver(call_back("c4"))
    assert len(post.tasks) == 2
    del post.amo.tasks[post.tasks[-1].id]
    await post.deliver(call_back("c5"))
    assert len(post.tasks) == 2


async def test_a_call_back_goes_to_the_phones_user_else_to_whose_card_it_is() -> None:
    post = AmoPost()
    await post.deliver(call_back("c1", FIRM), call_back("c2", IVAN, user=BOSS), call_back("c3", NEW))
    assert [(task.entity_type, task.responsible_user_id) for task in post.tasks] == [
        (EntityType.COMPANIES, BOSS), (EntityType.CONTACTS, BOSS),
    ]
    assert post.store.rows[-1].said == "no card"


async def test_talking_to_them_closes_the_task_and_asks_nothing_when_none_is_open() -> None:
    post = AmoPost()
    await post.deliver(call_back("c1"), talked_to("c2"))
    (task,) = post.tasks
    assert task.is_completed
    assert task.result
    before = len(post.asked())
    assert await post.deliver(talked_to("c3")) == ["no open task"]
    assert len(post.asked()) == before


@pytest.mark.parametrize("deleted", [True, False])
async def test_what_a_person_has_done_with_the_task_is_left_alone(deleted: bool) -> None:
    post = AmoPost()
    await post.deliver(call_back("c1"))
    (task,) = post.tasks
    task.is_completed, task.result = True, "Сам перезвонил"
    if deleted:
        post.amo.tasks.clear()
    await post.deliver(talked_to("c2"))
    assert not any(line.startswith("PATCH") for line in post.asked())
    assert task.result == "Сам перезвонил"
    assert await post.deliver(talked_to("c3")) == ["no open task"]


async def test_a_recording_that_comes_late_is_added_to_the_note_and_holds_up_no_later_call() -> None:
    post = AmoPost()
    post.recordings["rec"] = RecordingState.PENDING
    first = post.store.add(note("c1", IVAN, recording="rec", talked=("Анна (101)", "Борис (102)")))
    async with post.running() as outbox:
        await asyncio.sleep(limits.RECORDING_CAP.total_seconds() + 60)
        assert first.state is State.DONE
        (told,) = post.state.calls()
        assert told.link is None
        post.store.add(note("c2", IVAN))
        outbox.wake()
        await asyncio.sleep(60)
        assert len(post.state.calls()) == 2
        await asyncio.sleep(3_600)
        post.recordings["rec"] = RecordingState.READY
        outbox.recording_finished("rec")
        await asyncio.sleep(5)
    (told, _) = post.state.calls()
    assert told.link == "https://pbx.example.org/r/rec.mp3"
    assert (told.talk_seconds, told.uniq, told.status) == (61, "c1", 4)
    assert "Анна (101), Борис (102)" in told.result
    assert "+74951112233" in told.result
    assert all(row.state is State.DONE for row in post.store.rows)
    assert not post.state.journal.warnings


async def test_a_recording_that_never_comes_is_no_longer_waited_for() -> None:
    post = AmoPost()
    post.recordings["rec"] = RecordingState.PENDING
    post.store.add(note(phone=IVAN, recording="rec"))
    async with post.running():
        await asyncio.sleep((limits.RECORDING_CAP + limits.LINK_CAP + timedelta(minutes=2)).total_seconds())
    assert [row.said for row in post.store.rows][1:] == ["no recording came"]
    assert not any(line.startswith("PATCH") for line in post.asked())


@pytest.mark.parametrize("deleted", [True, False])
async def test_a_link_follows_a_note_whose_card_was_merged_and_is_dropped_with_a_deleted_one(deleted: bool) -> None:
    post = AmoPost()
    post.recordings["rec"] = RecordingState.PENDING
    post.store.add(note(phone=IVAN, recording="rec"))
    async with post.running() as outbox:
        await asyncio.sleep(limits.RECORDING_CAP.total_seconds() + 60)
        (told,) = post.notes
        told.entity_type, told.entity_id = EntityType.CONTACTS, 9001       # it hung on the deal
        if deleted:
            post.amo.notes.clear()
        post.recordings["rec"] = RecordingState.READY
        outbox.recording_finished("rec")
        await asyncio.sleep(5)
    assert post.store.rows[1].said == ("the note is gone" if deleted else "link added")
    assert told.params.get("link") == (None if deleted else "https://pbx.example.org/r/rec.mp3")


# -- switched off


OFF = CrmFunctions()


@pytest.mark.parametrize("write", [card(), card(direction=Direction.OUTBOUND), deal(), fill_in(), call_back(),
                                   talked_to()], ids=lambda write: type(write).__name__)
async def test_what_was_switched_off_since_the_call_asks_nothing(write: CrmWrite) -> None:
    post = AmoPost(functions=OFF)
    assert await post.deliver(write) == ["switched off"]
    assert post.asked() == []


async def test_a_number_that_is_none_of_the_crms_business_since_the_call_is_not_told() -> None:
    post = AmoPost(functions=CrmFunctions(not_told=(IVAN,)))
    assert await post.deliver(note(phone=IVAN)) == ["switched off"]
    assert post.asked() == []


# -- answers that are lost


FAULTS = {
    "reset": Fault(act=Act.RESET), "502": Fault(act=Act.ANSWER, status=502), "504": Fault(act=Act.ANSWER, status=504),
    "cut": Fault(act=Act.CUT), "silence": Fault(act=Act.SILENCE),
    "empty": Fault(act=Act.ANSWER, status=200, body="", content_type="application/json"),
}
DOUBTFUL: list[tuple[str, tuple[CrmWrite, ...], str, Callable[[AmoPost], list[object]]]] = [
    ("contact", (card(),), "/api/v4/contacts", lambda post: list(post.contacts[1:])),
    ("unsorted", (card(make=UNSORTED),), "/api/v4/leads/unsorted/sip", lambda post: list(post.state.unsorted())),
    ("deal", (card(), deal()), "/api/v4/leads", lambda post: list(post.leads[1:])),
    ("call", (note(phone=IVAN),), "/api/v4/calls", lambda post: list(post.state.calls())),
    ("call of a new contact", (card(), note()), "/api/v4/calls", lambda post: list(post.state.calls())),
    ("call on an unsorted lead", (card("c1", make=UNSORTED), missed("c2")), "/api/v4/leads/*/notes",
     lambda post: [entry for entry in post.state.calls() if entry.uniq == "c2"]),
    ("fill in", (card(), fill_in()), "/api/v4/tasks", lambda post: list(post.tasks)),
    ("call back", (call_back(),), "/api/v4/tasks", lambda post: list(post.tasks)),
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("is_late", [True, False], ids=["search knows it late", "search knows it at once"])
@pytest.mark.parametrize(("writes", "path", "there"), [row[1:] for row in DOUBTFUL], ids=[row[0] for row in DOUBTFUL])
async def test_a_lost_answer_makes_nothing_twice_and_loses_nothing(
    writes: tuple[CrmWrite, ...], path: str, there: Callable[[AmoPost], list[object]], fault: str, committed: bool,
    is_late: bool,
) -> None:
    post = AmoPost()
    if is_late:
        finds_late(post.amo, 3_600.0)
    post.state.faults.add(replace(FAULTS[fault], path=path, method="POST", committed=committed, times=1))
    await post.deliver(*writes)
    assert len(there(post)) == 1
    assert all(row.state is State.DONE for row in post.store.rows)
    again = [line for line in post.asked() if fnmatchcase(line, f"POST {path}")]
    after = post.asked()[post.asked().index(again[0]) + 1:]
    assert after[0].startswith("GET")  # it was looked for ...
    found_nobody = is_late and path == "/api/v4/calls" and card() in writes
    assert len(again) == (1 if committed and not found_nobody else 2)      # ... and repeated only if it was not there


async def test_a_contact_that_somebody_else_made_meanwhile_is_not_ours_and_none_is_added() -> None:
    post = AmoPost()
    post.state.faults.add(Fault("/api/v4/contacts", "POST", act=Act.RESET, times=1))
    post.store.add(card())
    post.store.add(deal())
    post.store.add(fill_in())
    async with post.running():
        await asyncio.sleep(1.0)
        async with post.sandbox.client() as other:
            await other.post("/api/v4/contacts", json=[{"name": "Форма", "custom_fields_values": [
                {"field_code": "PHONE", "values": [{"value": NEW}]}]}])
        await asyncio.sleep(60)
    assert [contact.name for contact in post.contacts[1:]] == ["Форма"]
    assert [row.said for row in post.store.rows][1:] == ["no new contact", "no new contact"]


async def test_a_note_whose_first_try_had_no_recording_yet_is_owed_the_link() -> None:
    post = AmoPost()
    post.recordings["rec"] = RecordingState.PENDING
    post.state.faults.add(Fault("/api/v4/calls", "POST", act=Act.RESET, committed=True, times=1))
    post.store.add(note(phone=IVAN, recording="rec"))
    async with post.running():
        await asyncio.sleep(limits.RECORDING_CAP.total_seconds() + 1.0)
        assert len(post.state.calls()) == 1
        post.recordings["rec"] = RecordingState.READY      # before the second try
        await asyncio.sleep(120)
    (entry,) = post.state.calls()
    assert entry.link == "https://pbx.example.org/r/rec.mp3"


async def test_a_card_that_was_set_aside_brings_all_of_its_call_with_it_when_it_is_resent() -> None:
    post = AmoPost()
    post.state.faults.add(Fault("/api/v4/contacts", "POST", act=Act.ANSWER, status=400, times=1))
    said = await post.deliver(card(), deal(), note(), fill_in(), talked_to("c1", NEW))
    assert [row.state for row in post.store.rows] == [*[State.ASIDE] * 4, State.DONE]
    assert said[1:4] == ["waits for its card, row 1"] * 3
    assert (len(post.contacts), post.state.calls(), post.tasks) == (1, [], [])
    post.store.resend(1, wall())
    said = await post.deliver(card(), deal(), note(), fill_in())
    assert [row.state for row in post.store.rows] == [State.DONE] * 5
    assert [word.split()[0] for word in said] == ["contact", "deal", "note", "task"]
    assert len(post.contacts) == 2
    assert [entry.uniq for entry in post.state.calls()] == ["c1"]


async def test_without_its_card_a_call_is_told_on_a_later_ones() -> None:
    post = AmoPost()
    post.state.faults.add(Fault("/api/v4/contacts", "POST", act=Act.ANSWER, status=400, times=1))
    await post.deliver(card(), deal(), note(), fill_in(), call_back(phone=NEW))
    await post.deliver(card("c2"))
    post.store.drop(1, wall())
    said = await post.deliver(deal(), note(), fill_in(), call_back(phone=NEW))
    assert said[0] == said[2] == "no new contact"
    assert [word.split()[0] for word in (said[1], said[3])] == ["note", "task"]


async def test_everything_is_told_with_the_times_of_the_call_after_an_hour_without_the_crm() -> None:
    post = AmoPost()
    post.state.faults.add(Fault("/api/*", act=Act.ANSWER, status=503))
    for write in (card(), deal(), note(), fill_in(), call_back("c2", IVAN)):
        post.store.add(write)
    async with post.running():
        await asyncio.sleep(3_600)
        assert not post.state.calls()
        post.state.faults.clear()
        await asyncio.sleep(3 * limits.LONGEST_RETRY)
    assert post.contacts[-1].created_at == post.leads[-1].created_at == AT
    assert [entry.created_at for entry in post.state.calls()] == [AT]
    assert [(task.created_at, task.complete_till) for task in post.tasks] == [(AT, AT + 900)] * 2
    assert post.sandbox.rate.highest <= 5


async def test_every_body_leaves_out_what_it_does_not_know() -> None:
    post = AmoPost()
    post.account = replace(post.account, default_user=None)
    await post.deliver(card(user=None, tag=""), deal(user=None, pipeline=None, stage=None, tag=""), note(user=None),
                       fill_in(user=None))
    bodies = [json.loads(entry.body) for entry in post.state.journal if entry.method == "POST"]
    assert len(bodies) == 4
    assert "null" not in json.dumps(bodies)


HTML = "<html><body>nginx</body></html>"


@pytest.mark.parametrize(("fault", "most_asked"), [
    (Fault("/api/*", act=Act.ANSWER, status=403, body=HTML), 13), (Fault("/api/*", act=Act.ANSWER, status=402), 4),
    (Fault("/api/*", act=Act.ANSWER, status=401), 28),
], ids=["blocked", "unpaid", "unauthorised"])
async def test_an_account_that_is_shut_is_an_alarm_at_once_left_alone_and_comes_back(
    fault: Fault, most_asked: int
) -> None:
    post = AmoPost()
    post.state.faults.add(fault)
    for number in range(10):
        post.store.add(note(f"c{number}", IVAN if number % 2 else FIRM))
    async with post.running() as outbox:
        await asyncio.sleep(5)
        (alarm,) = crm_alarms(outbox.ill, {}, wall())
        assert alarm.startswith("acme: ")
        await asyncio.sleep(3 * 3_600)
        assert len(post.asked()) <= most_asked
        assert all(row.state is State.PENDING for row in post.store.rows)
        post.state.faults.clear()
        await asyncio.sleep(2 * 3_600)
        assert not crm_alarms(outbox.ill, {}, wall())
    assert sorted(entry.uniq for entry in post.state.calls()) == [f"c{number}" for number in range(10)]


async def test_what_waits_for_a_person_is_not_given_up_after_three_days() -> None:
    post = AmoPost()
    post.state.faults.add(Fault("/api/*", act=Act.ANSWER, status=402))
    row = post.store.add(note(phone=IVAN))
    async with post.running():
        await asyncio.sleep(10 * 86_400)
        assert row.state is State.PENDING
        post.state.faults.clear()
        await asyncio.sleep(2 * 3_600)
    assert row.state is State.DONE


async def test_a_row_that_a_person_resends_is_looked_for_and_what_had_arrived_is_not_doubled() -> None:
    post = AmoPost()
    await post.deliver(note("c1", IVAN))
    arrived = post.store.rows[0]
    arrived.state, arrived.attempts, arrived.due_at = State.PENDING, 1, wall()     # as OutboxRows.resend has it
    post.store.made.clear()
    await post.deliver()
    assert len(post.state.calls()) == 1


async def test_a_recording_that_is_finished_while_its_row_is_asked_about_is_told_once() -> None:
    post = AmoPost()
    asked = asyncio.Event()
    answer = asyncio.Event()

    async def state(recording: str) -> RecordingState:
        asked.set()
        await answer.wait()
        return RecordingState.READY

    async with post.connected(), asyncio.TaskGroup() as tasks:
        outbox = Outbox(post.store, post.crm_of, wall, state)
        tasks.create_task(outbox.run())
        row = post.store.add(note(phone=IVAN, recording="rec"))
        outbox.wake()
        await asked.wait()
        outbox.recording_finished("rec")
        await asyncio.sleep(1)
        assert row.attempts == 1       # its lease was not given back under its feet
        answer.set()
        await asyncio.sleep(5)
        outbox.stop()
    assert len(post.state.calls()) == 1
