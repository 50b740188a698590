"""Forms and entries: what an input is, what it says, and which one a complaint belongs to."""

from __future__ import annotations

import pytest

from b2bua.apply.entries import ClientEntry, ExtensionEntry, GroupEntry, NumberEntry, TrunkEntry
from b2bua.apply.office import Complaint, Part, Thing
from b2bua.phrases import Phrase
from web.forms import Block, info_of, kind_of, made, shown, translated, values_of
from web.i18n import TRANSLATIONS

THING = Thing(Part.NUMBER, "+74951112233")


@pytest.mark.parametrize(("model", "name", "kind"), [
    (ExtensionEntry, "number", "text"), (ExtensionEntry, "on_busy", "text"), (ExtensionEntry, "crm_user", "number"),
    (ExtensionEntry, "password", "password"), (ExtensionEntry, "ascii_only", "switch"),
    (GroupEntry, "strategy", "choice"), (GroupEntry, "members", "lines"),
    (NumberEntry, "hours.open", "lines"), (NumberEntry, "hours.time_zone", "text"),
    (ClientEntry, "limit[3].refused", "switch"), (ClientEntry, "password", "password"),
    (TrunkEntry, "register", "switch"), (TrunkEntry, "transport", "choice"), (TrunkEntry, "networks", "lines"),
    (TrunkEntry, "number_format", "choice"), (TrunkEntry, "country", "text"), (TrunkEntry, "port", "number"),
])
def test_a_field_has_the_input_of_its_type(model: type, name: str, kind: str) -> None:
    assert kind_of(info_of(model, name)) == kind


def test_what_has_its_default_is_not_said_and_an_empty_text_may_mean_something() -> None:
    names = ["name", "country", "pickup_code", "record", "max_calls", "click2call_answer_after"]
    assert values_of({"name": " ", "country": "RU", "pickup_code": "**", "record": "on", "max_calls": "100",
                      "click2call_answer_after": ""}, ClientEntry, names) == {}
    assert values_of({"country": "RU", "pickup_code": "", "max_calls": "7"}, ClientEntry, names) == {
        "pickup_code": "", "record": False, "max_calls": "7"}


def test_lists_are_taken_by_line_and_by_comma() -> None:
    sent = {"hours.open": "mon-fri 09:00-18:00\r\nsat 10:00-14:00", "hours.holidays": "01-01, 2026-05-11; 05-09"}
    assert values_of(sent, NumberEntry, list(sent)) == {
        "hours": {"open": ["mon-fri 09:00-18:00", "sat 10:00-14:00"], "holidays": ["01-01", "2026-05-11", "05-09"]}}
    assert values_of({"members": "101 102\r\n103,104"}, GroupEntry, ["members"]) == {
        "members": ["101", "102", "103", "104"]}


def test_tables_in_lists_are_told_by_their_place() -> None:
    names = [f"limit[{row}].{column}" for row in range(3) for column in ("prefix", "max_calls", "refused")]
    assert values_of({"limit[0].prefix": "+882", "limit[0].refused": "on", "limit[1].prefix": "+7900",
                      "limit[1].max_calls": "2"}, ClientEntry, names) == {
        "limit": [{"prefix": "+882", "refused": True}, {"prefix": "+7900", "max_calls": "2"}]}
    entry = ClientEntry.model_validate({"id": "acme", "limit": [{"prefix": "+882", "refused": True}]})
    texts = shown(entry, ClientEntry, names)
    assert (texts["limit[0].prefix"], texts["limit[0].refused"], texts["limit[1].prefix"]) == ("+882", "on", "")


@pytest.mark.parametrize(("place", "name"), [
    ("hours.open[1]", "hours.open"), ("hours.open", "hours.open"), ("hours", "hours.open"), ("number", "number"),
    ("ring_seconds", None), ("", None),
])
def test_a_complaint_stands_at_its_field_or_above_the_form(place: str, name: str | None) -> None:
    blocks = [Block("Basics", ("number",)), Block("Hours", ("hours.open", "hours.otherwise"), folded=True)]
    complaint = Complaint(THING, place, Phrase("it is missing"), Phrase("Add it."), 0)
    form = made(lambda text: text, NumberEntry, blocks, {}, "", [complaint])
    assert [one.name for one, _ in form.complaints] == ([name] if name else [])
    assert len(form.whole) == (0 if name else 1)
    assert form.blocks[1].folded is not bool(name and name.startswith("hours"))


@pytest.mark.parametrize(("is_new", "hints"), [
    (True, ["", "12 characters or more."]),
    (False, ["Empty: it stays as it is.", "12 characters or more. Empty: it stays as it is."]),
])
def test_only_a_password_that_there_may_be_stays_as_it_is(is_new: bool, hints: list[str]) -> None:
    block = Block("Basics", ("password",))
    forms = [made(str, model, [block], {}, "", is_new=is_new) for model in (ExtensionEntry, ClientEntry)]
    assert [one.hint for form in forms for one in form.blocks[0].inputs] == hints


def test_complaints_of_other_things_are_named() -> None:
    complaint = Complaint(THING, "destination", Phrase("there is no extension or group {target}", target="101"),
                          Phrase("Known in {client!r}: {known}; outside numbers begin with +.", client="acme",
                                 known="102"), None)
    form = made(TRANSLATIONS["ru"].gettext, ExtensionEntry, [Block("Basics", ("number",))], {}, "", [complaint],
                name_of=lambda one: one.thing.key)
    assert form.others == (("+74951112233", "Нет внутреннего номера или группы 101. Есть: 102; внешние номера "
                                            "начинаются с +."),)


def test_whatever_stands_in_a_phrase_is_text() -> None:
    say = TRANSLATIONS["ru"].gettext
    assert translated(say, Phrase("there is no extension {number}", number="{client}")) == (
        "нет внутреннего номера {client}")
    assert translated(say, "Save") == "Save"               # no phrase: somebody's own words
