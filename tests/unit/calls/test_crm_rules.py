"""What a call owes the CRM, as a table of decisions that every combination of switches and calls is held to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2bua.calls.call import CallEnd, CallInProgress
from b2bua.calls.left_behind import closed
from b2bua.calls.report import MAX_NAMED, report
from b2bua.cdr import CallId, Direction, Disposition, EndedBy, EndReason
from b2bua.crm.functions import CardKind, CrmFunctions, CrmRules, DealRule, Responsible
from b2bua.crm.port import CallNote, Card, Contact, CrmWrite, Deal, EntityKind, Purpose, Task
from b2bua.crm.texts import MAX_FILLED, filled
from b2bua.crm.writes import kind_of
from b2bua.directory import CrmAccount, Extension
from b2bua.store.standing import LeftBehind, StandingCall
from tests.support.office import ACME, DID, directory

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
IVAN = "+79161234567"
ANNA, BORIS, VERA = directory().extensions
EVERYTHING = CrmFunctions(create_on_incoming=True, create_on_outgoing=True, task_on_new_contact=True,
                          task_on_missed=True, rules=CrmRules(outgoing_unanswered=CardKind.CONTACT, deal=DealRule()))

# `card`: what the rule says where F7 (in) or F8 (out) is on, else nothing. A deal only where the rule has one.
TABLE = """
way  talked  card      F9   F10   the CRM is owed, in this order
in   yes     nothing   *    off   note
in   yes     nothing   *    on    note, talked
in   yes     contact   off  off   card, deal, note
in   yes     contact   off  on    card, deal, note, talked
in   yes     contact   on   off   card, deal, note, fill in
in   yes     contact   on   on    card, deal, note, fill in, talked
in   yes     unsorted  *    off   card, note
in   yes     unsorted  *    on    card, note, talked
in   no      nothing   *    off   note
in   no      nothing   *    on    note, call back
in   no      contact   off  off   card, deal, note
in   no      contact   on   off   card, deal, note, fill in
in   no      contact   *    on    card, deal, note, call back
in   no      unsorted  *    off   card, note
in   no      unsorted  *    on    card, note, call back
out  yes     nothing   *    off   note
out  yes     nothing   *    on    note, talked
out  yes     contact   off  off   card, deal, note
out  yes     contact   off  on    card, deal, note, talked
out  yes     contact   on   off   card, deal, note, fill in
out  yes     contact   on   on    card, deal, note, fill in, talked
out  no      nothing   *    *     note
out  no      contact   off  *     card, deal, note
out  no      contact   on   *     card, deal, note, fill in
"""
ROWS = [tuple(line.split(maxsplit=5)) for line in TABLE.splitlines()[2:]]
SWITCH = ("off", "on")


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def a_call(way: str, functions: CrmFunctions, phone: str = IVAN, trunk: str | None = "operator") -> CallInProgress:
    account = CrmAccount("http://crm.test", "token", functions, default_user=70)
    direction = Direction.INBOUND if way == "in" else Direction.OUTBOUND
    caller, dialled = (phone, DID) if way == "in" else (ANNA.number, phone)
    call = CallInProgress(CallId("1"), ACME, direction, caller, dialled, trunk, Clock(), account)
    if way == "out":
        call.extension = ANNA
    return call


def ended(call: CallInProgress, *talking: Extension | None, after: float = 60.0) -> tuple[CrmWrite, ...]:
    """These talk one after another, and the call ends `after` seconds from its start."""
    if talking:
        call.answered(talking[0])
        for extension in talking[1:]:
            call.handed_to(extension)
    call.clock.now = START + timedelta(seconds=after)  # type: ignore[attr-defined]
    call.over(Disposition.NO_ANSWER, CallEnd(EndedBy.SWITCH, EndReason.NOBODY_ANSWERED, 480))
    return report(call)[1]


def in_words(writes: tuple[CrmWrite, ...]) -> list[str]:
    words = {"call note": "note", "talked to": "talked"}
    return [one.purpose.value if isinstance(one, Task) else words.get(kind_of(one), kind_of(one)) for one in writes]


def expected(way: str, talked: str, card: str, f9: str, f10: str, has_deal: bool) -> list[str]:
    facts = (way, talked, card, f9, f10)
    (row,) = [row for row in ROWS if all(cell in ("*", fact) for cell, fact in zip(row, facts, strict=False))]
    return [word for word in row[5].split(", ") if has_deal or word != "deal"]


def test_every_combination_of_switches_rules_and_calls_owes_what_the_table_says() -> None:
    seen = 0
    kinds = [kind.value for kind in CardKind]
    for way, talked, rule, f7, f8, f9, f10, has_deal, quiet in product(
            ("in", "out"), ("yes", "no"), kinds, SWITCH, SWITCH, SWITCH, SWITCH, (False, True), (False, True)):
        if (way, rule) == ("out", "unsorted"):             # amoCRM takes them of incoming calls only
            continue
        case = {("in", "yes"): "incoming_answered", ("in", "no"): "incoming_missed",
                ("out", "yes"): "outgoing_answered", ("out", "no"): "outgoing_unanswered"}
        # The other three rules say something else: they are none of this call's business.
        others = CardKind.CONTACT if rule == "nothing" else CardKind.NOTHING
        rules = CrmRules(**{  # type: ignore[arg-type]
            name: CardKind(rule) if here == (way, talked) else others for here, name in case.items()
        }, deal=DealRule() if has_deal else None)
        functions = CrmFunctions(
            forward_to_responsible=quiet, set_caller_name=quiet, pop_up=quiet, create_on_incoming=f7 == "on",
            create_on_outgoing=f8 == "on", task_on_new_contact=f9 == "on", task_on_missed=f10 == "on", rules=rules)
        writes = ended(a_call(way, functions), *([BORIS if way == "in" else None] if talked == "yes" else []))
        card = rule if (f7 if way == "in" else f8) == "on" else "nothing"
        assert in_words(writes) == expected(way, talked, card, f9, f10, has_deal), (way, talked, functions)
        assert all(one.phone == IVAN and one.started_at == START for one in writes)
        seen += 1
    assert seen == (3 + 3 + 2 + 2) * 2**6


@pytest.mark.parametrize("way", ["in", "out"])
@pytest.mark.parametrize("phone", ["", "112", "101", "123456", "*21*79160000001#", "ivan", "0" * 40, IVAN])
def test_calls_of_nobody_in_particular_and_of_whom_the_crm_shall_not_be_told_owe_nothing(way: str, phone: str) -> None:
    call = a_call(way, replace(EVERYTHING, not_told=("+74950000000", IVAN)), phone)
    assert ended(call, BORIS) == ()
    assert report(call)[0].disposition is Disposition.ANSWERED


def test_a_seven_digit_number_is_somebodys() -> None:
    assert in_words(ended(a_call("in", CrmFunctions(), "2345678"))) == ["note"]


def test_what_never_left_the_office_makes_nobody_a_contact() -> None:
    assert in_words(ended(a_call("out", EVERYTHING, trunk=None))) == ["note"]


def test_a_number_that_only_plays_something_was_not_missed_unless_somebody_has_rung() -> None:
    rules = replace(EVERYTHING, create_on_incoming=False)
    told = a_call("in", rules)
    told.is_for_people = False
    assert in_words(ended(told)) == ["note"]
    rang = a_call("in", rules)
    rang.is_for_people = False
    rang.ringing(BORIS)                                    # who is responsible for the caller, before the announcement
    assert in_words(ended(rang)) == ["note", "call back"]


def test_each_number_has_its_own_rules_and_who_calls_out_has_the_clients() -> None:
    own = CrmRules(incoming_missed=CardKind.CONTACT, contact_name="{number} ({did})", tag="advert")
    functions = replace(EVERYTHING, rules_of_did=((DID, own), ("operator", own)))
    card, *_ = ended(a_call("in", functions))
    assert isinstance(card, Card)
    assert (card.make, card.name, card.tag, card.did) == (CardKind.CONTACT, f"{IVAN} ({DID})", "advert", DID)
    card, *_ = ended(a_call("out", functions), None)
    assert isinstance(card, Card)
    assert (card.name, card.tag, card.did) == (IVAN, "", "operator")


@pytest.mark.parametrize(("talking", "user"), [
    ((BORIS,), 78), ((BORIS, VERA), 79), ((BORIS, None), 78), ((None,), None),
])
def test_a_new_card_is_whoevers_who_talked_last(talking: tuple[Extension | None, ...], user: int | None) -> None:
    card, deal, note, task, _ = ended(a_call("in", EVERYTHING), *talking)
    assert isinstance(card, Card)
    assert isinstance(deal, Deal)
    assert isinstance(task, Task)
    assert (card.user, deal.user, task.user, task.purpose) == (user, user, user, Purpose.FILL_IN)
    assert isinstance(note, CallNote)
    assert note.user == (user or 70)


def test_a_new_card_is_the_default_users_where_the_rule_says_so_and_the_task_is_still_who_talkeds() -> None:
    functions = replace(EVERYTHING, rules=CrmRules(responsible=Responsible.DEFAULT, deal=DealRule()))
    card, deal, _, task, _ = ended(a_call("in", functions), BORIS)
    assert isinstance(card, Card)
    assert isinstance(deal, Deal)
    assert isinstance(task, Task)
    assert (card.user, deal.user, task.user) == (None, None, 78)


@pytest.mark.parametrize(("rang", "note_of", "task_of"), [
    ((), 79, None), ((BORIS,), 78, 78), ((BORIS, BORIS), 78, 78), ((ANNA, BORIS), 79, None),
    ((replace(BORIS, crm_user=None),), 79, None),
])
def test_a_missed_call_is_the_users_whose_phone_alone_has_rung_else_the_responsible_ones(
    rang: tuple[Extension, ...], note_of: int, task_of: int | None
) -> None:
    call = a_call("in", replace(EVERYTHING, create_on_incoming=False))
    call.contact = Contact(EntityKind.CONTACT, 1, "Иван", 79)
    for extension in rang:
        call.ringing(extension)
    note, task = ended(call, after=25)
    assert isinstance(note, CallNote)
    assert isinstance(task, Task)
    assert (note.user, task.user, task.text) == (note_of, task_of, f"Перезвонить {IVAN}")
    assert task.due_at == START + timedelta(seconds=25, minutes=15)


def test_a_contact_that_is_made_of_a_missed_call_is_nobodys_though_a_phone_rang() -> None:
    call = a_call("in", replace(EVERYTHING, rules=CrmRules(incoming_missed=CardKind.CONTACT)))
    call.ringing(BORIS)
    card, _, task = ended(call)
    assert isinstance(card, Card)
    assert isinstance(task, Task)
    assert (card.user, task.user) == (None, 78)


@pytest.mark.parametrize(("talking", "named"), [
    ((BORIS,), ()),
    ((BORIS, VERA), ("Employee 102 (102)", "Employee 103 (103)")),
    ((BORIS, VERA, BORIS), ("Employee 103 (103)", "Employee 102 (102)")),
    ((BORIS, None), ()),
    ((replace(ANNA, name=""), BORIS), ("101", "Employee 102 (102)")),
])
def test_who_talked_is_named_and_the_last_owns_the_call(
    talking: tuple[Extension | None, ...], named: tuple[str, ...]
) -> None:
    (note,) = ended(a_call("in", CrmFunctions()), *talking)
    assert isinstance(note, CallNote)
    assert note.talked == named


def test_who_dialled_is_the_first_of_those_who_talked() -> None:
    (note,) = ended(a_call("out", CrmFunctions()), None, BORIS)
    assert isinstance(note, CallNote)
    assert (note.talked, note.user) == (("Employee 101 (101)", "Employee 102 (102)"), 78)


def test_a_call_that_goes_round_the_whole_office_names_the_last_of_them() -> None:
    everybody = [replace(ANNA, number=str(number), name="") for number in range(200, 260)]
    (note,) = ended(a_call("in", CrmFunctions()), *everybody)
    assert isinstance(note, CallNote)
    assert note.talked == tuple(one.number for one in everybody[-MAX_NAMED:])


def test_who_was_asked_in_an_internal_call_that_went_outside_has_not_talked_to_the_outside() -> None:
    call = CallInProgress(CallId("1"), ACME, Direction.INTERNAL, "101", "102", None, Clock())
    call.answered(BORIS)
    call.went_outside(ANNA, IVAN, "operator", CrmAccount("http://crm.test", "token"))
    (note,) = ended(call)
    assert isinstance(note, CallNote)
    assert (note.talked, note.user) == ((), 77)


@given(number=st.text(max_size=80), did=st.text(max_size=80), name=st.text(max_size=400),
       template=st.text(st.sampled_from("аz \n{}"), max_size=200))
def test_what_is_filled_in_is_one_line_of_bounded_length_and_never_a_template_itself(
    number: str, did: str, name: str, template: str
) -> None:
    text = filled(template + "{name} {number} {did}", number=IVAN + number, did=did, name=name)
    assert 0 < len(text) <= MAX_FILLED
    assert text.isprintable()
    assert filled("{name}", number=IVAN, did=DID, name="{did}") == "{did}"
    assert filled("{name}", number=IVAN, did=DID, name="") == IVAN


def test_a_call_that_the_switch_did_not_survive_has_its_tasks_due_after_its_true_end() -> None:
    for talking in ((BORIS,), ()):
        call = a_call("in", replace(EVERYTHING, rules=CrmRules(fill_in_minutes=20)))
        writes = ended(call, *talking, after=5)
        left = LeftBehind(StandingCall(call.record(), writes, ()), START + timedelta(seconds=65))
        record, later = closed(left)
        assert record.reason is EndReason.RESTARTED
        (due,) = [one.due_at for one in later if isinstance(one, Task)]
        assert due == START + timedelta(seconds=65, minutes=20 if talking else 15)
        assert in_words(later) == in_words(writes)
