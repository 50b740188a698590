"""The switch's own sentences in other languages: all forms are said somewhere, and what calls note has its form."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

import b2bua
from b2bua.calls.outcomes import Disposition
from web.i18n import LANGUAGES, LOCALE
from web.sentences import told

CORE = Path(b2bua.__file__).parent
OTHERS = [language for language in LANGUAGES if language != "en"]
# Made of parts, so that no single text in the code has the form.
MADE_UP = {
    "registered for {} s", "{} has extension {}, which there is not",
    "{} and {} have extension {}, which there is not", "{} and {} both have extension {}",
    "{} and {} all have extension {}", "{} is switched off in the CRM, but {}", "{} is not in the CRM, but {}",
    "the CRM's users cannot be read, so that who is switched off is not known: {}",
    "the widget's settings cannot be read, so that changes in them are not known: {}",
    "{} goes to {}", "{} was not answered: on to {}", "{} is busy: on to {}", "{} cannot be reached: on to {}",
    "{} forwards all calls: on to {}", "{}, its members in turn: {}", "{}, its members by round: {}",
    "{}, its members, who has been without a call longest first: {}", "{}, where no phone is registered",
    "{}, which does not exist", "{}: the CRM waits for calls since {}", "smartswitch outbox lists them",
    "{} dialled {}", "a call failed there lately", "the database does not answer",
    *(f"{one.value} ({{}})" for one in Disposition if one is not Disposition.ANSWERED),
}


def _form(node: ast.expr) -> str | None:
    """`f"{a} is {b}"` as "{} is {}"."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def _nodes() -> Iterator[ast.AST]:
    for part in ("calls", "routing", "crm", "ua", "sip", "net"):
        for path in (CORE / part).rglob("*.py"):
            yield from ast.walk(ast.parse(path.read_text("utf-8")))


def _forms(language: str) -> dict[str, str]:
    with (LOCALE / "sentences" / f"{language}.po").open("rb") as file:
        return {str(message.id): str(message.string) for message in read_po(file, locale=language) if message.id}


@pytest.mark.parametrize("language", OTHERS)
def test_every_form_is_said_somewhere_and_fills_in_as_much(language: str) -> None:
    said = {_form(node) for node in _nodes() if isinstance(node, ast.expr)} | MADE_UP
    for form, other in _forms(language).items():
        assert form in said
        assert len(re.findall(r"\{\d?\}", other)) == form.count("{}"), form


@pytest.mark.parametrize("language", OTHERS)
def test_what_a_call_notes_has_a_form(language: str) -> None:
    noted = {_form(node.args[0]) for node in _nodes()
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "note"
             and node.args}
    of_parts = {None, "{}: {}", "{} ({})"}     # what stands in them has forms of its own, or is a name
    assert not sorted(str(one) for one in noted - of_parts - _forms(language).keys())


@pytest.mark.parametrize("language", OTHERS)
def test_what_comes_of_a_write_to_the_crm_has_a_form(language: str) -> None:
    outcomes = {_form(node.args[0]) for node in _nodes()
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Delivered"}
    assert "note {}" in outcomes
    assert not sorted(str(one) for one in outcomes - {None} - _forms(language).keys())


@pytest.mark.parametrize(("sentence", "russian"), [
    ("600 was not answered: on to 101", "600 не ответил: дальше на 101"),
    ("the CRM knows +79161234567 as is busy: on to", "CRM знает +79161234567 как «is busy: on to»"),
    ("closed on 2026-05-09, a holiday; +7495 goes to 101", "закрыто 2026-05-09: праздник; +7495 ведёт на 101"),
    ("hung up: no audio came for too long", "разъединено: слишком долго не было звука"),
    ("nothing that anybody has a form for", "nothing that anybody has a form for"),
])
def test_a_sentence_is_said_with_what_stood_in_it(sentence: str, russian: str) -> None:
    assert told(sentence, "ru") == russian
    assert told(sentence, "en") == sentence


@given(st.text(st.sampled_from("a: ;{}0%\n") | st.characters(), min_size=1, max_size=80))
def test_no_name_breaks_it(name: str) -> None:
    said = told(f"the CRM gave no contact for {name}", "ru")
    assert said.startswith("в CRM нет контакта для ") or "; " in name
