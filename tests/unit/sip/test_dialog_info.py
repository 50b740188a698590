"""The documents of the dialog package: what phones need, well-formed whatever is in it."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2bua.sip.dialog_info import DialogInfo, DialogState, DialogTags, Who, full_state
from b2bua.sip.uri import Uri
from tests.support.watcher import Told, read_document

BORIS = Uri.sip("102", "pbx.example.org")
TAGS = DialogTags("f8@10.0.0.1", "theirs", "ours")


def test_a_ringing_phone_is_told_with_what_a_pick_up_needs() -> None:
    ringing = DialogInfo("7", DialogState.EARLY, True, TAGS, Who(Uri.sip("+79161234567", "pbx.example.org"), "Иван"))
    assert full_state(BORIS, 3, [ringing]).decode().splitlines() == [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="3" state="full" '
        'entity="sip:102@pbx.example.org">',
        '<dialog id="7" call-id="f8@10.0.0.1" local-tag="theirs" remote-tag="ours" direction="recipient">',
        "<state>early</state>",
        "<local><identity>sip:102@pbx.example.org</identity>",
        '<target uri="sip:102@pbx.example.org"/></local>',
        '<remote><identity display="Иван">sip:+79161234567@pbx.example.org</identity>',
        '<target uri="sip:+79161234567@pbx.example.org"/></remote>',
        "</dialog>",
        "</dialog-info>",
    ]


def test_nothing_going_on_is_a_dialog_that_is_over() -> None:
    assert read_document(full_state(BORIS, 0, [])) == (0, "sip:102@pbx.example.org", [Told("102", "terminated")])


def test_what_was_told_and_is_over_is_told_as_that_beside_what_goes_on() -> None:
    talking = DialogInfo("9", DialogState.CONFIRMED, False)
    _, _, told = read_document(full_state(BORIS, 1, [talking], ["7", "8"]))
    assert [(one.id, one.state) for one in told] == [
        ("9", "confirmed"), ("7", "terminated"), ("8", "terminated")]


@pytest.mark.parametrize("name", ['"<&>"', "</identity>", "a\x00b\x0b", "\ud800", "]]>", "\ufffe"])
def test_a_name_is_never_markup(name: str) -> None:
    who = Who(Uri.sip("1", "h"), name)
    _, _, (told,) = read_document(full_state(BORIS, 1, [DialogInfo("9", DialogState.EARLY, True, TAGS, who)]))
    clean = "".join(" " if c < " " or c in "\ud800\ufffe" else c for c in name)
    assert told.name == clean


@given(st.text(max_size=20), st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_any_text_makes_a_document_that_can_be_read(call_id: str, tag: str, name: str) -> None:
    one = DialogInfo(tag, DialogState.EARLY, False, DialogTags(call_id, tag, name), Who(Uri.sip("1", "h"), name))
    root = ElementTree.fromstring(full_state(BORIS, 1, [one], [name]))   # noqa: S314 - our own words
    assert [element.tag.partition("}")[2] for element in root] == ["dialog", "dialog"]
