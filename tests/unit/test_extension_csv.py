"""A sheet that nobody has touched changes nothing; one that somebody has filled in says what it asks for, by line."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2bua.apply.back import entry_of
from b2bua.apply.entries import ExtensionEntry
from b2bua.apply.extension_csv import BYTE_ORDER_MARK, LARGEST, MOST_ROWS, BadSheet, Sheet, read, written
from b2bua.apply.office import Office, Part, Thing
from b2bua.cdr import ClientId
from b2bua.directory import Client, Directory, Extension

ACME = ClientId("acme")


def office(*extensions: Extension) -> Office:
    directory = Directory((Client(ACME, "Acme"),), extensions)
    return Office(ACME, directory, 1, entry_of(directory, ACME))


def extension(number: str, **more: object) -> Extension:
    return Extension(ACME, number, f"acme-{number}", {"MD5": "0" * 32}, **more)      # type: ignore[arg-type]


ANNA = extension("101", name="Анна", caller_id="+79161234567", on_busy="102")
BORIS = extension("102", name='Boris "Bo"; senior', hide_caller_id=True, crm_user=7)


def sheet(text: str, *extensions: Extension, removes_others: bool = False) -> Sheet:
    return read(text, office(*extensions), lambda: "made-password", removes_others=removes_others)


def faults(text: str, *extensions: Extension) -> list[tuple[int, str, str]]:
    with pytest.raises(BadSheet) as bad:
        sheet(text, *extensions)
    return [(one.line, one.field, one.problem) for one in bad.value.faults]


def test_what_goes_out_opens_in_a_russian_excel_and_has_no_password() -> None:
    text = written(office(ANNA, BORIS))
    assert text.startswith(f"{BYTE_ORDER_MARK}number;login;name;")
    assert "password" not in text
    assert "0" * 32 not in text
    (first, second) = csv.DictReader(io.StringIO(text.removeprefix(BYTE_ORDER_MARK)), delimiter=";")
    assert (first["name"], first["caller_id"], first["on_busy"]) == ("Анна", "'+79161234567", "102")
    assert (second["name"], second["hide_caller_id"], second["crm_user"]) == ('Boris "Bo"; senior', "true", "7")


@pytest.mark.parametrize("name", ["=HYPERLINK(\"http://evil\")", "+1", "-1", "@SUM(A1)", "'", "'=1", "'quoted'"])
def test_no_cell_is_a_formula_and_all_come_back(name: str) -> None:
    one = office(extension("101", name=name))
    text = written(one)
    (row,) = csv.DictReader(io.StringIO(text.removeprefix(BYTE_ORDER_MARK)), delimiter=";")
    assert row["name"][0] == "'"
    (edit,) = read(text, one, str).edits
    assert edit.values is not None
    assert edit.values["name"] == name


NAMES = st.text(st.characters(exclude_categories=("C", "Z")), max_size=12)


@given(NAMES, st.sampled_from(["", "+79161234567", "8 495 111-22-33"]), st.booleans(), st.sampled_from(";,\t"))
def test_what_went_out_says_the_same_when_it_comes_in(name: str, caller_id: str, is_on: bool, delimiter: str) -> None:
    one = office(extension("101", name=name, caller_id=caller_id, ascii_only=is_on), extension("*7#"))
    back = read(written(one, delimiter), one, str)
    assert back.made == {}
    for edit in back.edits:
        entry = one.get(edit.thing)
        assert entry is not None
        again = ExtensionEntry.model_validate(edit.values)
        assert again.model_copy(update={"login": None}) == entry


def test_empty_cells_that_spreadsheets_add_mean_nothing() -> None:
    (edit,) = sheet("number;name;;\n101;Anna;;;;\n;;\n", ANNA).edits
    assert edit.values is not None
    assert edit.values["name"] == "Anna"
    (edit,) = sheet("sep=\t\nnumber\tname\ton_busy\n101\n", ANNA).edits
    assert edit.values == {"number": "101", "caller_id": "+79161234567"}


def test_columns_that_are_not_there_stay_and_empty_cells_are_defaults() -> None:
    (edit,) = sheet("number,name,on_busy\n101,Anna,\n", ANNA).edits
    assert edit.thing == Thing(Part.EXTENSION, "101")
    assert edit.values == {"number": "101", "name": "Anna", "caller_id": "+79161234567"}


def test_who_is_new_gets_a_password_unless_there_is_one_or_no_need() -> None:
    made = sheet("sep=;\r\nnumber;password;address\r\n103;;\r\n104;of-my-own;\r\n105;;sip:5@192.0.2.1\r\n")
    assert made.made == {"103": "made-password"}
    assert [(edit.values or {}).get("password") for edit in made.edits] == ["made-password", "of-my-own", None]
    assert made.lines == (3, 4, 5)
    assert {edit.thing.key for edit in made.edits} == {""}


def test_who_is_not_in_the_sheet_goes_only_if_that_is_wanted() -> None:
    assert len(sheet("number\n101\n", ANNA, BORIS).edits) == 1
    edits = sheet("number\n101\n", ANNA, BORIS, removes_others=True).edits
    assert (edits[1].thing.key, edits[1].values) == ("102", None)


def test_yes_and_no_in_two_languages_but_not_in_names() -> None:
    (edit,) = sheet("number;name;ascii_only;hide_caller_id\n101;Да;ИСТИНА;Нет\n", ANNA).edits
    assert edit.values is not None
    assert (edit.values["name"], edit.values["ascii_only"], edit.values["hide_caller_id"]) == ("Да", "true", "false")


@pytest.mark.parametrize(("text", "said"), [
    ("", [(1, "number", "there is no column number")]),
    ("number\n", [(1, "", "there is no row below the header")]),
    ("номер\n101\n", [(1, "номер", "there is no column 'номер'"), (1, "number", "there is no column number")]),
    ("number;number\n1;1\n", [(1, "number", "there are two columns number")]),
    ("number" + ";x" * 50, [(1, "", "there are more than 50 columns")]),
    ("number\n\n101\n101\n", [(4, "number", "extension 101 stands in line 3 already")]),
    ("number;name\n101;a;b\n", [(2, "", "the row has 3 cells, and there are 2 columns")]),
    ('number;name\n101;"a\n', [(2, "", "this is no CSV: unexpected end of data")]),
    ("n" * (LARGEST + 1), [(1, "", f"the sheet has more than {LARGEST} characters")]),
])
def test_a_sheet_that_cannot_be_read_says_where(text: str, said: list[tuple[int, str, str]]) -> None:
    assert faults(text) == said


def test_rows_have_a_limit() -> None:
    rows = "".join(f"{number}\n" for number in range(MOST_ROWS + 1))
    assert faults(f"number\n{rows}") == [(MOST_ROWS + 2, "", f"there are more than {MOST_ROWS} rows")]
