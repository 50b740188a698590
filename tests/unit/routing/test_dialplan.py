from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from random import Random

import pytest

from b2bua.cdr import EndReason
from b2bua.crm.functions import CrmFunctions
from b2bua.crm.port import Contact, EntityKind
from b2bua.directory import Cause, Directory, Extension, Hours, Strategy
from b2bua.routing.dialplan import find_did, plan_from_extension, plan_inbound
from b2bua.routing.groups import Turns
from b2bua.routing.plan import Announce, DialTrunk, Diverted, NoRoute, Plan, RingExtensions
from b2bua.routing.trunk_choice import TrunkChoice
from tests.support.office import ACME, DID, directory

OFFICE = directory()
NUMBER = OFFICE.numbers[0]
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)         # a Monday


CHOICE = TrunkChoice(lambda trunk: True, Random(1))


def everybody(extension: Extension) -> bool:
    return True


def nobody(extension: Extension) -> bool:
    return False


def ivan(responsible: int | None) -> Contact:
    return Contact(EntityKind.CONTACT, 1, "Иван", responsible)


def rung(plan: Plan | NoRoute) -> list[list[str]]:
    assert isinstance(plan, Plan)
    return [[e.number for e in step.extensions] for step in plan.steps if isinstance(step, RingExtensions)]


@pytest.mark.parametrize(
    ("responsible", "reachable", "expected"),
    [
        (77, {"101", "102"}, [["101"], ["102"]]),
        (77, {"102"}, [["102"]]),
        (78, {"101", "102"}, [["102"]]),
        (None, {"102"}, [["102"]]),
        (55, {"102"}, [["102"]]),
        (77, {"101"}, [["101"]]),
    ],
)
def test_the_responsible_person_rings_first_and_the_destination_follows(
    responsible: int | None, reachable: set[str], expected: list[list[str]]
) -> None:
    plan = plan_inbound(OFFICE, ACME, NUMBER, ivan(responsible), lambda e: e.number in reachable, CHOICE, NOON)
    assert rung(plan) == expected


def test_with_the_function_off_the_contact_changes_nothing() -> None:
    client = OFFICE.clients[0]
    assert client.crm is not None
    account = replace(client.crm, functions=CrmFunctions(forward_to_responsible=False))
    off = replace(OFFICE, clients=(replace(client, crm=account),))
    assert rung(plan_inbound(off, ACME, NUMBER, ivan(77), everybody, CHOICE, NOON)) == [["102"]]


def test_a_number_that_goes_to_a_group_rings_whoever_is_there() -> None:
    number = replace(NUMBER, destination="600")
    assert rung(plan_inbound(OFFICE, ACME, number, None, everybody, CHOICE, NOON)) == [["102", "103"]]
    assert rung(plan_inbound(OFFICE, ACME, number, None, lambda e: e.number == "103", CHOICE, NOON)) == [["103"]]


def grouped(strategy: Strategy) -> Directory:
    group = replace(OFFICE.groups[0], members=("102", "103", "101"), strategy=strategy, member_seconds=7)
    return replace(OFFICE, groups=(group,), numbers=(replace(NUMBER, destination="600"),))


@pytest.mark.parametrize(
    ("strategy", "turns", "there", "expected"),
    [
        (Strategy.TOGETHER, Turns(), "all", [["102", "103", "101"]]),
        (Strategy.IN_TURN, Turns(), "all", [["102"], ["103"], ["101"]]),
        (Strategy.IN_TURN, Turns(begun={(ACME, "600"): "102"}), "101 102", [["102"], ["101"]]),
        (Strategy.ROUND, Turns(), "all", [["102"], ["103"], ["101"]]),
        (Strategy.ROUND, Turns(begun={(ACME, "600"): "102"}), "all", [["103"], ["101"], ["102"]]),
        (Strategy.ROUND, Turns(begun={(ACME, "600"): "101"}), "all", [["102"], ["103"], ["101"]]),
        (Strategy.ROUND, Turns(begun={(ACME, "600"): "102"}), "101 102", [["101"], ["102"]]),
        (Strategy.ROUND, Turns(begun={(ACME, "600"): "gone"}), "all", [["102"], ["103"], ["101"]]),
        (Strategy.LONGEST_IDLE, Turns(), "all", [["102"], ["103"], ["101"]]),
        (Strategy.LONGEST_IDLE, Turns(idle_since={(ACME, "102"): 9.0, (ACME, "103"): 5.0}), "all",
         [["101"], ["103"], ["102"]]),
        (Strategy.LONGEST_IDLE, Turns(idle_since={(ACME, "102"): inf, (ACME, "103"): 5.0}), "102 103",
         [["103"], ["102"]]),
    ],
)
def test_a_group_rings_as_its_strategy_says(
    strategy: Strategy, turns: Turns, there: str, expected: list[list[str]]
) -> None:
    office = grouped(strategy)
    number = office.numbers[0]
    plan = plan_inbound(office, ACME, number, None, lambda e: there == "all" or e.number in there, CHOICE, NOON, turns)
    assert rung(plan) == expected
    assert isinstance(plan, Plan)
    assert {step.seconds for step in plan.steps} == {20 if strategy is Strategy.TOGETHER else 7}
    assert plan.rounds == ((("600", expected[0][0]),) if strategy is Strategy.ROUND else ())


def test_who_has_rung_as_the_responsible_person_is_passed_over_when_the_group_rings_in_turn() -> None:
    office = grouped(Strategy.IN_TURN)
    plan = plan_inbound(office, ACME, office.numbers[0], ivan(79), everybody, CHOICE, NOON)
    assert rung(plan) == [["103"], ["102"], ["101"]]
    assert isinstance(plan, Plan)
    assert [step.why for step in plan.steps] == [
        "103 is responsible for Иван",
        f"{DID} goes to 600, its members in turn: 102",
        "600: 101 is next",
    ]


def overflowing(**ways: str) -> Directory:
    """102 and 600 (102 and 103) have somewhere else to go: `_102_on_busy="103"`."""
    def of(number: str) -> dict[str, str]:
        return {name.removeprefix(f"_{number}_"): target for name, target in ways.items() if name[1:4] == number}

    extensions = tuple(replace(one, **of(one.number)) for one in OFFICE.extensions)  # type: ignore[arg-type]
    group = replace(OFFICE.groups[0], ring_seconds=9, **of("600"))  # type: ignore[arg-type]
    return replace(OFFICE, extensions=extensions, groups=(group,))


def told(plan: Plan | NoRoute, *causes: Cause) -> list[str]:
    """Who rings when the destinations fail so, one after another."""
    assert isinstance(plan, Plan)
    rung, index, left = [], 0, list(causes)
    while True:
        step = plan.steps[index]
        if isinstance(step, DialTrunk):
            rung.append(step.number)
        else:
            rung.append(",".join(one.number for one in step.extensions))
        if index not in plan.ends:
            index += 1
            continue
        onward = plan.onward(index, left.pop(0)) if left else None
        if onward is None or onward.to is None:
            return rung
        assert onward.to > index
        index = onward.to


NO_ANSWER, BUSY, UNREGISTERED = Cause.NO_ANSWER, Cause.BUSY, Cause.UNREGISTERED


@pytest.mark.parametrize(
    ("ways", "there", "causes", "expected"),
    [
        ({}, "all", [NO_ANSWER], ["102"]),
        ({"_102_on_no_answer": "600"}, "all", [NO_ANSWER], ["102", "102,103"]),
        ({"_102_on_no_answer": "600"}, "all", [BUSY], ["102"]),
        ({"_102_on_busy": "101", "_102_on_no_answer": "103"}, "all", [BUSY], ["102", "101"]),
        ({"_102_on_busy": "101", "_102_on_no_answer": "103"}, "all", [NO_ANSWER], ["102", "103"]),
        ({"_102_on_busy": "101", "_101_on_busy": "103"}, "all", [BUSY, BUSY], ["102", "101", "103"]),
        ({"_102_on_busy": "101", "_101_on_busy": "103"}, "all", [BUSY, NO_ANSWER], ["102", "101"]),
        ({"_102_on_unregistered": "101"}, "101 103", [], ["101"]),
        ({"_102_on_unregistered": "101"}, "all", [UNREGISTERED], ["102", "101"]),
        ({"_102_on_unregistered": "101", "_101_on_unregistered": "103"}, "103", [], ["103"]),
        ({"_102_on_busy": "101", "_101_on_unregistered": "103"}, "102 103", [BUSY], ["102", "103"]),
        ({"_102_on_busy": "101"}, "102", [BUSY], ["102"]),
        ({"_102_on_busy": "+79160000001", "_102_on_no_answer": "103"}, "all", [BUSY, BUSY], ["102", "+79160000001"]),
        ({"_102_on_unregistered": "+79160000001"}, "103", [], ["+79160000001"]),
        ({"_102_on_busy": "103", "_103_on_unregistered": "+79160000001"}, "102", [BUSY], ["102", "+79160000001"]),
        ({"_102_forward_always": "103"}, "all", [BUSY], ["103"]),
        ({"_102_forward_always": "103", "_102_on_busy": "101", "_103_on_busy": "600"}, "all", [BUSY],
         ["103", "103"]),                  # 103 stands in for 102
        ({"_102_forward_always": "103", "_103_on_unregistered": "600", "_600_on_unregistered": "101"}, "101 102", [],
         ["101"]),                         # not 102, whose calls all go to 103
        ({"_102_on_busy": "101", "_101_forward_always": "103"}, "all", [BUSY], ["102", "103"]),
        ({"_102_forward_always": "+79160000001"}, "all", [], ["+79160000001"]),
        ({"_102_on_busy": "103", "_103_on_busy": "102"}, "all", [BUSY, BUSY, BUSY], ["102", "103"]),   # no such file
    ],
)
def test_a_call_that_nobody_took_goes_on_by_its_cause(
    ways: dict[str, str], there: str, causes: list[Cause], expected: list[str]
) -> None:
    office = overflowing(**ways)
    plan = plan_inbound(office, ACME, NUMBER, None, lambda e: there == "all" or e.number in there, CHOICE, NOON)
    assert told(plan, *causes) == expected


def test_what_the_number_says_stands_before_what_its_destination_says() -> None:
    office = overflowing(_102_on_busy="101", _102_on_no_answer="101")
    plan = plan_inbound(office, ACME, replace(NUMBER, on_busy="600"), None, everybody, CHOICE, NOON)
    assert told(plan, BUSY) == ["102", "102,103"]
    assert told(plan, NO_ANSWER) == ["102", "101"]
    assert isinstance(plan, Plan)
    assert sorted(step.seconds for step in plan.steps) == [9, 20, 30]


def test_the_responsible_person_is_followed_by_the_number_and_where_it_leads() -> None:
    plan = plan_inbound(overflowing(_102_on_busy="600"), ACME, NUMBER, ivan(77), everybody, CHOICE, NOON)
    assert told(plan, BUSY) == ["101", "102", "102,103"]


MOBILE = "+79160000001"


@pytest.mark.parametrize(
    ("ways", "there", "steps"),
    [
        ({"_101_forward_always": "103"}, "all", [("103", 20), ("102", 20)]),
        ({"_101_forward_always": "103", "_103_forward_always": "102"}, "all", [("102", 20)]),
        ({"_101_forward_always": "102"}, "all", [("102", 20)]),                # not once more as the destination
        ({"_101_forward_always": MOBILE}, "all", [(MOBILE, 20), ("102", 20)]),
        ({"_101_on_unregistered": MOBILE}, "102", [(MOBILE, 20), ("102", 20)]),
        ({"_101_on_unregistered": "103"}, "102 103", [("103", 20), ("102", 20)]),
        ({"_101_on_unregistered": "103"}, "101 102 103", [("101", 20), ("102", 20)]),
        ({"_101_on_unregistered": "103"}, "102", [("102", 20)]),
        ({"_101_on_busy": "103", "_101_on_no_answer": "103"}, "all", [("101", 20), ("102", 20)]),
        ({"_101_forward_always": "600"}, "all", [("102,103", 20), ("102", 20)]),
        ({"_101_forward_always": "announcement:busy"}, "all", [("102", 20)]),
        ({"_101_forward_always": MOBILE, "_102_forward_always": MOBILE}, "all", [(MOBILE, 20)]),
        ({"_101_forward_always": "103", "_103_forward_always": "101"}, "all", [("102", 20)]),      # no such file
    ],
)
def test_who_is_responsible_rings_where_all_their_calls_go_and_the_destination_follows(
    ways: dict[str, str], there: str, steps: list[tuple[str, float]]
) -> None:
    office = overflowing(**ways)
    plan = plan_inbound(office, ACME, NUMBER, ivan(77), lambda e: there == "all" or e.number in there, CHOICE, NOON)
    assert isinstance(plan, Plan)
    assert [(whom(step), step.seconds) for step in plan.steps if not isinstance(step, Announce)] == steps
    assert plan.ends[0] == len(steps) - 1
    said = " ".join((*plan.notes, plan.steps[0].why))
    assert "101 is responsible for Иван" in said


def test_of_a_responsible_person_whose_calls_go_outside_the_trunk_learns_the_number_that_was_called() -> None:
    plan = plan_inbound(overflowing(_101_forward_always=MOBILE), ACME, NUMBER, ivan(77), nobody, CHOICE, NOON)
    assert isinstance(plan, Plan)
    (way,) = plan.steps
    assert isinstance(way, DialTrunk)
    assert way.diverted == Diverted(DID, Cause.ALWAYS)
    assert plan.notes == (f"101 is responsible for Иван; 101 forwards all calls: on to {MOBILE}",
                          f"{DID} goes to 102, where no phone is registered")
    assert plan.ends == (0,)               # a call to a number of ours is no outside call by that


def test_after_all_trunks_to_a_number_outside_comes_who_follows() -> None:
    office = overflowing(_101_forward_always=MOBILE, _102_on_busy="+79160000002")
    spare = replace(office.trunks[0], name="spare", priority=1)
    office = replace(office, trunks=(*office.trunks, spare))
    plan = plan_inbound(office, ACME, NUMBER, ivan(77), everybody, CHOICE, NOON)
    assert isinstance(plan, Plan)
    assert [whom(step) for step in plan.steps if not isinstance(step, Announce)] == [
        MOBILE, MOBILE, "102", "+79160000002", "+79160000002"]
    assert [plan.last_way(index) for index in range(5)] == [1, 1, 2, 4, 4]


def whom(step: RingExtensions | DialTrunk) -> str:
    return step.number if isinstance(step, DialTrunk) else ",".join(one.number for one in step.extensions)


IN_TURN, ROUND, IDLE = Strategy.IN_TURN, Strategy.ROUND, Strategy.LONGEST_IDLE


@pytest.mark.parametrize(
    ("ways", "strategy", "there", "expected"),
    [
        ({"_102_forward_always": "101"}, Strategy.TOGETHER, "all", ["101,103"]),
        ({"_102_forward_always": "103"}, Strategy.TOGETHER, "all", ["103"]),
        ({"_102_forward_always": "101"}, Strategy.TOGETHER, "102 103", ["103"]),
        ({"_102_forward_always": "101", "_101_forward_always": "103"}, IN_TURN, "all", ["103"]),
        ({"_102_forward_always": "101"}, IN_TURN, "all", ["101", "103"]),
        ({"_103_forward_always": "101"}, ROUND, "all", ["101", "102"]),        # the last call has begun with 102
        ({"_103_forward_always": "101"}, IDLE, "all", ["102", "101"]),         # who has talked, wherever it rings
        ({"_102_forward_always": MOBILE}, Strategy.TOGETHER, "all", ["103"]),
        ({"_102_forward_always": "announcement:busy"}, IN_TURN, "all", ["103"]),
        ({"_102_forward_always": "601"}, IN_TURN, "all", ["103"]),             # no such group
        ({"_102_forward_always": "600"}, Strategy.TOGETHER, "all", ["102,103"]),
        ({"_102_forward_always": "101", "_101_forward_always": "600"}, Strategy.TOGETHER, "all", ["101,103"]),
        ({"_102_forward_always": "101", "_101_forward_always": "102"}, Strategy.TOGETHER, "all", ["101,103"]),
        ({"_102_on_busy": "101", "_102_on_no_answer": "101", "_102_on_unregistered": "101"}, IN_TURN, "101 103",
         ["103"]),
    ],
)
def test_a_member_that_forwards_all_its_calls_is_stood_in_for(
    ways: dict[str, str], strategy: Strategy, there: str, expected: list[str]
) -> None:
    office = overflowing(**ways)
    office = replace(office, groups=(replace(office.groups[0], strategy=strategy),))
    turns = Turns({(ACME, "600"): "102"}, {(ACME, "101"): 5.0})
    plan = plan_from_extension(office, office.extensions[0], "600", "RU",
                               lambda e: there == "all" or e.number in there, CHOICE, turns)
    assert isinstance(plan, Plan)
    assert [whom(step) for step in plan.steps if not isinstance(step, Announce)] == expected
    assert plan.rounds == ((("600", "103"),) if strategy is ROUND else ())


def test_what_becomes_of_members_that_forward_their_calls_is_said() -> None:
    office = overflowing(_102_forward_always=MOBILE, _103_forward_always="101")
    plan = plan_inbound(office, ACME, replace(NUMBER, destination="600"), None, everybody, CHOICE, NOON)
    assert isinstance(plan, Plan)
    left_out = f"102 forwards all calls to {MOBILE}: left out, as a group rings extensions only"
    assert plan.steps[0].why == (
        f"{DID} goes to 600; {left_out}; 103 forwards all calls: 101 rings in its place")
    nobody_left = overflowing(_102_forward_always=MOBILE, _600_on_unregistered="101")
    plan = plan_inbound(nobody_left, ACME, replace(NUMBER, destination="600"), None, lambda e: e.number != "103",
                        CHOICE, NOON)
    assert isinstance(plan, Plan)
    assert plan.steps[0].why == f"{DID} goes to 600; {left_out}; no phone of 600 is registered: on to 101"


def test_why_a_call_goes_on_is_said() -> None:
    office = overflowing(_102_on_busy="101", _101_on_unregistered="103", _102_on_no_answer="101")
    plan = plan_inbound(office, ACME, NUMBER, None, lambda e: e.number != "101", CHOICE, NOON)
    assert isinstance(plan, Plan)
    assert plan.onward(0, BUSY) is not None
    assert [one.why for one in plan.goes_on if one.after == 0] == [
        "102 was not answered: on to 101; no phone of 101 is registered: on to 103",
        "102 is busy: on to 101; no phone of 101 is registered: on to 103",
    ]
    office = overflowing(_102_on_unregistered="101")
    moved = plan_inbound(office, ACME, NUMBER, None, lambda e: e.number == "101", CHOICE, NOON)
    assert isinstance(moved, Plan)
    assert moved.steps[0].why == f"{DID} goes to 102; no phone of 102 is registered: on to 101"
    nowhere = plan_inbound(office, ACME, NUMBER, None, nobody, CHOICE, NOON)
    assert nowhere == NoRoute(480, EndReason.NOTHING_TO_RING,
                              f"{DID} goes to 102, where no phone is registered; no phone of 101 is registered")


def test_a_call_that_goes_on_outside_shows_a_number_of_the_office_and_is_no_outside_call_by_that() -> None:
    office = overflowing(_102_on_busy="+79160000001", _102_on_unregistered="+79160000001")
    inside = plan_from_extension(office, office.extensions[0], "102", "RU", everybody, CHOICE)
    assert isinstance(inside, Plan)
    assert not inside.outside
    moved = plan_inbound(office, ACME, NUMBER, None, nobody, CHOICE, NOON)
    assert isinstance(moved, Plan)
    (way,) = moved.steps
    assert isinstance(way, DialTrunk)
    assert (way.number, way.caller_id) == ("+79160000001", DID)
    assert moved.notes == (f"{DID} goes to 102; no phone of 102 is registered: on to +79160000001",)
    closed = replace(office, trunks=(replace(office.trunks[0], prefixes=("+44",)),))
    assert plan_inbound(closed, ACME, NUMBER, None, nobody, CHOICE, NOON) == NoRoute(
        480, EndReason.NOTHING_TO_RING,
        f"{DID} goes to 102, where no phone is registered; "
        "no trunk may be used for +79160000001: operator takes only +44")


def test_who_forwards_all_calls_and_where_nobody_is_says_so() -> None:
    office = overflowing(_102_forward_always="101")
    moved = plan_inbound(office, ACME, NUMBER, None, everybody, CHOICE, NOON)
    assert isinstance(moved, Plan)
    assert moved.steps[0].why == f"{DID} goes to 102; 102 forwards all calls: on to 101"
    nowhere = plan_inbound(office, ACME, NUMBER, None, lambda e: e.number == "102", CHOICE, NOON)
    assert nowhere == NoRoute(480, EndReason.NOTHING_TO_RING, f"{DID} goes to 102; 102 forwards all calls: on to 101; "
                              "no phone of 101 is registered")


@pytest.mark.parametrize(("ways", "seconds"), [({}, 120), ({"on_no_answer": "600", "on_unregistered": "103"}, 20)])
def test_a_number_may_lead_outside_at_once(ways: dict[str, str], seconds: float) -> None:
    number = replace(NUMBER, destination=MOBILE, **ways)  # type: ignore[arg-type]
    plan = plan_inbound(OFFICE, ACME, number, None, everybody, CHOICE, NOON)
    assert isinstance(plan, Plan)
    (way, *_) = plan.steps
    assert isinstance(way, DialTrunk)
    assert (way.number, way.seconds, way.diverted) == (MOBILE, seconds, Diverted(DID, Cause.ALWAYS))
    assert plan.notes == (f"{DID} goes to {MOBILE}",)
    assert told(plan, NO_ANSWER) == ([MOBILE, "102,103"] if ways else [MOBILE])
    no_trunk = replace(OFFICE, trunks=())
    nowhere = plan_inbound(no_trunk, ACME, number, None, everybody, CHOICE, NOON)
    why = f"{MOBILE} is an outside number, and the client has no trunk"
    if ways:
        assert isinstance(nowhere, Plan)
        assert nowhere.steps[0].why == f"{DID} goes to {MOBILE}; {why}: on to 103"
    else:
        assert nowhere == NoRoute(480, EndReason.NOTHING_TO_RING, f"{DID} goes to {MOBILE}; {why}")


def test_outside_of_its_hours_a_number_leads_elsewhere_and_the_responsible_person_is_left_alone() -> None:
    hours = Hours("Europe/Moscow", ("mon-fri 09:00-18:00",), "103")
    number = replace(NUMBER, hours=hours, on_busy="600")
    day = plan_inbound(OFFICE, ACME, number, ivan(77), everybody, CHOICE, NOON)
    assert told(day, BUSY) == ["101", "102", "102,103"]
    assert isinstance(day, Plan)
    assert day.notes == ("open, mon 15:00 in Europe/Moscow",)
    night = plan_inbound(OFFICE, ACME, number, ivan(77), everybody, CHOICE, NOON + timedelta(hours=3))
    assert told(night, BUSY) == ["103"]
    assert isinstance(night, Plan)
    assert night.notes == (f"{DID} is closed, mon 18:00 in Europe/Moscow",)
    away = replace(number, hours=replace(hours, otherwise="+79160000001"))
    outside = plan_inbound(OFFICE, ACME, away, None, everybody, CHOICE, NOON + timedelta(hours=3))
    assert told(outside) == ["+79160000001"]


def test_a_colleagues_call_goes_on_as_well() -> None:
    office = overflowing(_102_on_busy="600")
    assert told(plan_from_extension(office, office.extensions[0], "102", "RU", everybody, CHOICE), BUSY) == [
        "102", "102,103"]


def test_nobody_to_ring_says_why_with_everything_that_was_passed_over() -> None:
    plan = plan_inbound(OFFICE, ACME, NUMBER, ivan(77), nobody, CHOICE, NOON)
    assert isinstance(plan, NoRoute)
    assert (plan.status, plan.reason) == (480, EndReason.NOTHING_TO_RING)
    assert "101 is responsible for Иван; no phone of 101 is registered" in plan.why
    assert "102, where no phone is registered" in plan.why


@pytest.mark.parametrize("dialled", ["+74951112233", "74951112233", "84951112233", "4951112233"])
def test_a_did_is_found_in_every_spelling(dialled: str) -> None:
    assert find_did(OFFICE, ACME, "operator", dialled, "RU") == NUMBER


def test_a_did_bound_to_another_trunk_is_not_this_ones() -> None:
    bound = replace(OFFICE, numbers=(replace(NUMBER, trunk="spare"),))
    assert find_did(bound, ACME, "operator", DID, "RU") is None
    assert find_did(bound, ACME, "spare", DID, "RU") is not None


@pytest.mark.parametrize(
    ("dialled", "number"),
    [("89265554433", "+79265554433"), ("+79265554433", "+79265554433"), ("112", "112"), ("8005553535", "+78005553535")],
)
def test_outside_numbers_go_out_by_the_trunk_in_e164_and_short_ones_as_they_are(dialled: str, number: str) -> None:
    plan = plan_from_extension(OFFICE, OFFICE.extensions[0], dialled, "RU", everybody, CHOICE)
    assert isinstance(plan, Plan)
    assert plan.outside
    (step,) = plan.steps
    assert isinstance(step, DialTrunk)
    assert step.number == number


def test_a_number_that_no_trunk_takes_is_not_allowed() -> None:
    narrow = replace(OFFICE, trunks=(replace(OFFICE.trunks[0], prefixes=("+7",)),))
    plan = plan_from_extension(narrow, OFFICE.extensions[0], "810442079460000", "RU", everybody, CHOICE)
    assert plan == NoRoute(404, EndReason.NOT_ALLOWED,
                           "no trunk may be used for 810442079460000: operator takes only +7")


@pytest.mark.parametrize("dialled", ["", "x", "ivan", "1", "+", "7" * 25, "12;34", "１２３"])
def test_what_is_no_number_goes_nowhere(dialled: str) -> None:
    plan = plan_from_extension(OFFICE, OFFICE.extensions[0], dialled, "RU", everybody, CHOICE)
    assert isinstance(plan, NoRoute)
    assert plan.status == 404


def test_without_a_trunk_only_colleagues_can_be_called() -> None:
    inside = Directory(OFFICE.clients, OFFICE.extensions)
    anna = OFFICE.extensions[0]
    assert isinstance(plan_from_extension(inside, anna, "89265554433", "RU", everybody, CHOICE), NoRoute)
    assert rung(plan_from_extension(inside, anna, "103", "RU", everybody, CHOICE)) == [["103"]]
