"""docs/amocrm.md answers the ten questions by tests that are there, and names switches and commands that there are."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from b2bua.crm.functions import CrmFunctions
from tests.unit.test_docs_behaviours import TESTS, defined_in

DOCUMENT = (Path(__file__).parents[2] / "docs" / "amocrm.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`([a-z]+/test_\w+\.py)(?:::(test_\w+))?`", DOCUMENT)))
ANSWERS = {int(number): text for number, text in re.findall(
    r"(?ms)^\*\*(\d+)\. (.*?)(?=^\*\*\d+\. |^## When)", DOCUMENT)}
ASKED = {int(number) for path in ("integration/test_acceptance.py", "scenario/test_crm_hour.py")
         for name in defined_in(TESTS / path) for number in re.findall(r"^test_(\d+)_", name)}


def test_all_ten_questions_are_answered() -> None:
    assert set(ANSWERS) == set(range(1, 11))


@pytest.mark.parametrize("question", sorted(ASKED))
def test_each_answer_names_all_tests_that_ask_its_question(question: int) -> None:
    named = {test for _, test in re.findall(r"`([a-z]+/test_\w+\.py)::(test_\w+)`", ANSWERS[question])}
    assert named == {name for path in ("integration/test_acceptance.py", "scenario/test_crm_hour.py")
                     for name in defined_in(TESTS / path) if name.startswith(f"test_{question}_")}


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_what_is_named_is_there(file: str, test: str) -> None:
    assert (TESTS / file).is_file()
    assert not test or test in defined_in(TESTS / file)


def test_every_switch_is_named_with_what_it_is_at_first() -> None:
    rows = re.findall(r"^\| F\d+ \|[^|]+\| `(\w+)` \| (on|off)", DOCUMENT, re.MULTILINE)
    assert {name: told == "on" for name, told in rows} == {
        field.name: field.default for field in fields(CrmFunctions) if isinstance(field.default, bool)}
