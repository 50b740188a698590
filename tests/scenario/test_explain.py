"""`smartswitch explain`: what it says is what then happens, and asking changes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from b2bua.calls.report import COLLEAGUES, NOBODYS, NOT_TOLD
from b2bua.cdr import ClientId, Direction
from b2bua.control import Explanation
from b2bua.crm.functions import CrmFunctions, CrmRules, DealRule
from b2bua.directory import Group, Strategy
from tests.support.office import ACME, DID, Office, open_office
from tests.support.phone import Rejects, Rings

IVAN = "+79161234567"


@pytest.fixture
def office():
    return open_office()


def sentences(explanation: Explanation) -> list[str]:
    return [*explanation.notes, *(step.why for step in explanation.steps)]


async def test_an_inbound_call_goes_as_it_was_explained(office: Office) -> None:
    office.change(numbers=(replace(office.books.directory.numbers[0], on_no_answer="103"),))
    await office.pbx.settings_changed()
    office.crm.knows(IVAN, "Иван Петров", responsible=77)
    for number in ("101", "102", "103"):
        await office.phone(number, Rings())
    explanation = await office.pbx.explain(ACME, "8 916 123-45-67", "84951112233")
    assert explanation.direction is Direction.INBOUND
    assert [step.does for step in explanation.steps] == [
        "rings 101 for 20 s", "rings 102 for 20 s", "rings 103 for 30 s"]
    assert explanation.steps[1].onward == ("102 was not answered: on to 103",)
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    happened = iter(record.why)
    assert all(sentence in happened for sentence in sentences(explanation)), record.why
    await office.all_quiet()


async def test_where_all_calls_of_members_and_of_who_is_responsible_go_is_said(office: Office) -> None:
    old = office.books.directory
    ways = {"101": "+79160000001", "102": "103"}
    office.change(
        clients=(replace(old.clients[0], forward_outside=True),),
        extensions=tuple(replace(one, forward_always=ways.get(one.number)) for one in old.extensions),
        numbers=(replace(old.numbers[0], destination="600"),),
    )
    await office.pbx.settings_changed()
    office.crm.knows(IVAN, "Иван Петров", responsible=77)
    await office.phone("103", Rings())
    office.trunk.does = Rejects(486)
    explanation = await office.pbx.explain(ACME, IVAN, DID)
    assert [step.does for step in explanation.steps] == [
        f"calls +79160000001 through operator, showing {DID}", "rings 103 for 20 s"]
    assert explanation.steps[1].why == f"{DID} goes to 600; 102 forwards all calls: 103 rings in its place"
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert set(sentences(explanation)) <= set(record.why)
    await office.all_quiet()


async def test_who_dials_outside_hears_by_which_trunk_and_as_whom(office: Office) -> None:
    anna = await office.phone("101")
    office.trunk.does = Rejects(486)
    explanation = await office.pbx.explain(ACME, "101", "89265554433")
    assert (explanation.direction, len(explanation.steps)) == (Direction.OUTBOUND, 1)
    assert explanation.steps[0].does == f"calls +79265554433 through operator, showing {DID}"
    assert not office.trunk.calls
    await anna.call("89265554433").over.wait()
    record = await office.record()
    assert set(sentences(explanation)) <= set(record.why)
    await office.all_quiet()


async def test_to_ask_takes_nobodys_turn(office: Office) -> None:
    office.change(groups=(Group(ACME, "600", ("102", "103"), strategy=Strategy.ROUND),))
    await office.pbx.settings_changed()
    for number in ("101", "102", "103"):
        await office.phone(number, Rings())
    first = [(await office.pbx.explain(ACME, "101", "600")).steps[0].does for _ in range(3)]
    assert first == ["rings 102 for 15 s"] * 3


@pytest.mark.parametrize(("caller", "dialled", "status", "why"), [
    (IVAN, "+74950000000", 404, "+74950000000 is no number of acme"),
    (IVAN, DID, 480, f"{DID} goes to 102, where no phone is registered"),
    ("101", "103", 480, "101 dialled 103, where no phone is registered"),
    ("101", "nobody", 404, "nobody is neither an extension, a group nor an outside number"),
])
async def test_why_a_call_would_be_refused(office: Office, caller: str, dialled: str, status: int, why: str) -> None:
    explanation = await office.pbx.explain(ACME, caller, dialled)
    assert (explanation.steps, explanation.status, explanation.refusal) == ((), status, why)


async def test_a_withheld_number_is_not_looked_up_and_a_slow_crm_is_said(office: Office) -> None:
    await office.phone("102")
    assert (await office.pbx.explain(ACME, "anonymous", DID)).notes == ()
    assert office.crm.asked == []
    office.crm.delay = 30.0
    began = asyncio.get_running_loop().time()
    explanation = await office.pbx.explain(ACME, IVAN, DID)
    assert asyncio.get_running_loop().time() - began == pytest.approx(1.5)
    assert explanation.notes == (f"the CRM did not say within 1.5 s who {IVAN} is",)


async def test_what_the_crm_is_told_is_said_for_both_ways_in_which_it_may_end(office: Office) -> None:
    await office.phone("102")
    await office.phone("101")
    quiet = "the CRM is told, if somebody talks: the call; if nobody does: the call"
    assert (await office.pbx.explain(ACME, IVAN, DID)).crm == quiet
    assert (await office.pbx.explain(ACME, "101", "89265554433")).crm == quiet
    assert (await office.pbx.explain(ACME, "anonymous", DID)).crm == f"the CRM is told nothing: {NOBODYS}"
    assert (await office.pbx.explain(ACME, "101", "102")).crm == f"the CRM is told nothing: {COLLEAGUES}"
    functions = CrmFunctions(create_on_incoming=True, task_on_new_contact=True, task_on_missed=True,
                             rules=CrmRules(deal=DealRule()), not_told=("+79265554433",))
    await rule(office, functions)
    assert (await office.pbx.explain(ACME, IVAN, DID)).crm == (
        "the CRM is told, if somebody talks: a contact, unless there is one, a deal of that contact, the call, a task "
        "to fill in that contact, that the call-back task is done; if nobody does: an unsorted lead, unless there is "
        "one, the call, a task to call back who is known")
    assert (await office.pbx.explain(ACME, "101", "89265554433")).crm == f"the CRM is told nothing: {NOT_TOLD}"
    office.change(numbers=(replace(office.books.directory.numbers[0], destination="announcement:music"),))
    await office.pbx.settings_changed()
    assert (await office.pbx.explain(ACME, IVAN, DID)).crm.endswith("unless there is one, the call")
    await rule(office, None)
    assert (await office.pbx.explain(ACME, IVAN, DID)).crm == ""


async def rule(office: Office, functions: CrmFunctions | None) -> None:
    (client,) = office.books.directory.clients
    account = None if functions is None or client.crm is None else replace(client.crm, functions=functions)
    office.change(clients=(replace(client, crm=account),))
    await office.pbx.settings_changed()


async def test_there_is_no_such_client(office: Office) -> None:
    with pytest.raises(LookupError):
        await office.pbx.explain(ClientId("nobody"), "101", "102")
