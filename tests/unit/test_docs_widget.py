"""The widget, its documents and the server's own words agree on functions, outcomes and defaults."""

from __future__ import annotations

import json
import re
from pathlib import Path

from b2bua.crm.switches import Switches

ROOT = Path(__file__).parents[2]
CONTRACT = (ROOT / "docs" / "widget-api.md").read_text("utf-8")
GUIDE = (ROOT / "docs" / "widget.md").read_text("utf-8")
SCRIPT = (ROOT / "widget" / "script.js").read_text("utf-8")
WORDS = json.loads((ROOT / "widget" / "i18n" / "en.json").read_text("utf-8"))


def rows(document: str, heading: str) -> list[list[str]]:
    """The cells of the table that begins with that heading."""
    table = document.split(heading, 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def test_every_outcome_has_words_and_every_word_an_outcome() -> None:
    documented = {name for cell, *_ in rows(CONTRACT, "| `outcome` | |") for name in re.findall(r"`(\w+)`", cell)}
    assert documented == WORDS["outcomes"].keys()


def test_every_state_has_words() -> None:
    (line,) = [row[1] for row in rows(CONTRACT, "| member | |") if row[0] == "`state`"]
    assert {name for name in WORDS["states"] if not name.endswith("_inbound")} == set(re.findall(r"`(\w+)`", line))


def test_the_functions_are_those_of_the_server_with_its_defaults() -> None:
    written = SCRIPT.split("const FUNCTIONS = {", 1)[1].split("};", 1)[0]
    functions = {name: value == "true" for name, value in re.findall(r"(\w+): (true|false)", written)}
    assert functions == Switches().model_dump()
    assert WORDS["functions"].keys() == WORDS["sentences"].keys() == functions.keys() | {"live_card"}
    guide = {name: state == "on" for name, _, state in rows(GUIDE, "| function | what it does | at first |")}
    assert guide == {WORDS["functions"][name]: on for name, on in (functions | {"live_card": True}).items()}
