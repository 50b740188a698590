"""What an apply file and the widget say of the CRM's functions, and what they may not say."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from b2bua.apply.file import Change, difference, read_directory
from b2bua.cdr import ClientId
from b2bua.crm.functions import CardKind, CrmFunctions, CrmRules, DealRule, Responsible
from b2bua.crm.switches import Switches
from b2bua.directory import Directory, UsersFrom
from b2bua.faults import ConfigurationFaults
from tests.support.settings_tables import PAGE

ACME = ClientId("acme")
HEAD = """\
[[client]]
id = "acme"
[[client.trunk]]
name = "operator"
host = "sip.example.org"
[[client.extension]]
number = "101"
address = "sip:101@192.0.2.9"
[[client.number]]
number = "8 (495) 765-43-21"
destination = "101"
[[client.number]]
number = "+74957654322"
destination = "101"
"""
CRM = HEAD + """\
[client.crm]
base_url = "https://acme.amocrm.ru"
token = "secret-token"
"""
CRM_LINE = CRM.count("\n")


def read(tmp_path: Path, text: str) -> Directory:
    path = tmp_path / "acme.toml"
    path.write_text(text)
    return read_directory(path, "smartswitch").directory


def functions(tmp_path: Path, text: str) -> CrmFunctions:
    account = read(tmp_path, CRM + text).client[ACME].crm
    assert account is not None
    return account.functions


def faults(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationFaults) as wrong:
        read(tmp_path, CRM + text)
    return [str(fault) for fault in wrong.value.faults]


def test_what_a_file_does_not_say_is_as_the_switch_has_it(tmp_path: Path) -> None:
    assert functions(tmp_path, "") == CrmFunctions()
    assert functions(tmp_path, "[client.crm.rules]\n") == CrmFunctions()


@pytest.mark.parametrize(("said", "widget", "users_from"), [
    ("", "", UsersFrom.FILE), ('widget = "smartswitch"', "smartswitch", UsersFrom.WIDGET),
    ('widget = "smartswitch"\nusers_from = "file"', "smartswitch", UsersFrom.FILE),
    ('users_from = "file"', "", UsersFrom.FILE),
])
def test_users_come_from_the_widget_where_one_is_named(
        tmp_path: Path, said: str, widget: str, users_from: UsersFrom) -> None:
    account = read(tmp_path, CRM + said).client[ACME].crm
    assert account is not None
    assert (account.widget, account.users_from, account.active_users) == (widget, users_from, None)


def test_where_users_come_from_the_widget_one_is_named(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, 'users_from = "widget"')
    assert f"line {CRM_LINE + 1}" in fault
    assert "users come from the widget, but none is named" in fault
    assert "widget" in faults(tmp_path, 'widget = "../account"')[0]
    assert "users_from" in faults(tmp_path, 'users_from = "crm"')[0]


def test_switches_rules_and_numbers(tmp_path: Path) -> None:
    found = functions(tmp_path, """\
pop_up = false
create_on_incoming = true
create_on_outgoing = true
task_on_new_contact = true
task_on_missed = true
not_told = ["8 495 111-22-33", "+442071234567"]
[client.crm.rules]
incoming_missed = "contact"
outgoing_answered = "nothing"
contact_name = "Звонок {number} на {did}"
responsible = "default"
call_back_minutes = 60
[client.crm.rules.deal]
name = "Сделка {name}"
[[client.crm.did]]
number = "8 495 765 43 21"
tag = "advert"
incoming_missed = "unsorted"
deal = {pipeline = 5, stage = 6}
""")
    rules = CrmRules(incoming_missed=CardKind.CONTACT, outgoing_answered=CardKind.NOTHING,
                     contact_name="Звонок {number} на {did}", responsible=Responsible.DEFAULT, call_back_minutes=60,
                     deal=DealRule(name="Сделка {name}"))
    own = replace(rules, tag="advert", incoming_missed=CardKind.UNSORTED, deal=DealRule(5, 6))
    assert found == CrmFunctions(
        pop_up=False, create_on_incoming=True, create_on_outgoing=True, task_on_new_contact=True, task_on_missed=True,
        rules=rules, rules_of_did=(("+74957654321", own),), not_told=("+74951112233", "+442071234567"))
    assert (found.rules_for("+74957654321"), found.rules_for("+74957654322")) == (own, rules)
    kept = TypeAdapter(CrmFunctions)
    assert kept.validate_json(kept.dump_json(found)) == found


@pytest.mark.parametrize(("line", "fault"), [
    ('not_told = ["101"]', "client[0].crm.not_told[0]: '101' is no outside number."),
    ('not_told = ["anonymous"]', "client[0].crm.not_told[0]: 'anonymous' is no outside number."),
    ('not_told = ["84951112233", "+74951112233"]', "client[0].crm.not_told[1]: number +74951112233 is there already"),
    ('[client.crm.rules]\ncontact_name = "{nummer}"', "'{nummer}' stands for nothing. It may say {number}"),
    ('[client.crm.rules]\ncall_back_text = "{number"', "call_back_text: '{' stands for nothing"),
    ('[client.crm.rules]\nfill_in_text = " "', "fill_in_text: it is empty"),
    ('[client.crm.rules]\ncall_back_minutes = 0', "call_back_minutes: "),
    ('[client.crm.rules]\nincoming_missed = "lead"', "this value is not known. Use 'contact', 'unsorted'"),
    ('[client.crm.rules]\noutgoing_answered = "unsorted"', "unsorted leads are of incoming calls only. Say"),
    ('[client.crm.rules]\ncontact = "x"', "rules.contact: there is no such setting"),
    ('[client.crm.rules.deal]\nstage = 142', "deal.stage: a stage is one of its pipeline's. Add `pipeline`."),
    ('[[client.crm.did]]\ntag = "x"', "client[0].crm.did[0].number: it is missing"),
    ('[[client.crm.did]]\nnumber = "+74950000000"', "+74950000000 is no number of 'acme'. Its numbers: +7495"),
    ('[[client.crm.did]]\nnumber = "+74957654321"\n[[client.crm.did]]\nnumber = "84957654321"',
     "client[0].crm.did[1].number: number +74957654321 is there already"),
    ('[[client.crm.did]]\nnumber = "+74957654321"\noutgoing_answered = "contact"',
     "`outgoing_answered` would be without use. Say it in [client.crm.rules]."),
])
def test_every_fault_is_said_with_its_place(tmp_path: Path, line: str, fault: str) -> None:
    (found,) = faults(tmp_path, line + "\n")
    assert fault in found
    assert int(re.findall(r"line (\d+):", found)[0]) > CRM_LINE


def test_a_dry_run_names_what_would_change(tmp_path: Path) -> None:
    old = read(tmp_path, CRM)
    new = read(tmp_path, CRM + 'task_on_missed = true\npatience = 1.0\nnot_told = ["+74951112233"]\n'
               '[client.crm.rules]\ntag = "x"\n[[client.crm.did]]\nnumber = "+74957654321"\n')
    assert difference(old, new) == [
        Change("~", "CRM of acme", ("task_on_missed", "rules.tag", "did", "not_told", "patience"))]


def test_the_example_of_the_page_is_right(tmp_path: Path) -> None:
    (example,) = re.findall(r"(?s)```toml\n(\[client\.crm\]\n(?:(?!```).)*\[\[client\.crm\.did\]\].*?)```",
                            PAGE.read_text("utf-8"))
    account = read(tmp_path, HEAD + example).client[ACME].crm
    assert account is not None
    assert account.functions.rules_for("+74957654321").tag == "advert"
    assert account.functions.rules_for("+74957654321").deal == DealRule(name="Call from {number}")
    assert account.functions.rules_for("+74957654322").incoming_missed is CardKind.NOTHING


SWITCHES = [one.name for one in fields(CrmFunctions) if one.type == "bool" and one.name != "pop_up"]


@given(said=st.dictionaries(st.sampled_from(SWITCHES), st.booleans()),
       before=st.fixed_dictionaries({name: st.booleans() for name in SWITCHES}))
def test_the_widget_sets_its_switches_and_nothing_else(said: dict[str, bool], before: dict[str, bool]) -> None:
    functions = CrmFunctions(pop_up=False, rules=CrmRules(tag="x"), not_told=("+74951112233",), **before)  # type: ignore[arg-type]
    assert Switches.model_validate(said).set_in(functions) == replace(functions, **{**before, **said})  # type: ignore[arg-type]
    assert set(Switches.model_fields) == set(SWITCHES)


@pytest.mark.parametrize("said", [
    {"task_on_missed": "yes"}, {"task_on_missed": 1}, {"rules": {}}, {"pop_up": False}, [],
])
def test_what_is_no_switch_is_refused(said: object) -> None:
    with pytest.raises(ValidationError):
        Switches.model_validate(said)
