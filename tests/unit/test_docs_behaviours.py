"""docs/behaviours.md names tests that are there, and every SIPp scenario is played by somebody."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
NAMED = sorted(set(re.findall(r"`([a-z]+/test_\w+\.py)(?:::(test_\w+))?`", (ROOT / "docs/behaviours.md").read_text())))
SCENARIOS = sorted((ROOT / "sipp-scenarios").glob("*.xml"))
PLAYERS = [*TESTS.glob("sipp/*.py"), *ROOT.glob("bench/**/*.py")]


def defined_in(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_tests_and_scenarios_are_found_at_all() -> None:
    assert len(NAMED) > 40
    assert len(SCENARIOS) > 40
    assert PLAYERS


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_what_the_table_names_is_there(file: str, test: str) -> None:
    assert (TESTS / file).is_file()
    assert not test or test in defined_in(TESTS / file)


def test_every_name_of_a_test_in_the_table_is_one_that_is_looked_for() -> None:
    text = (ROOT / "docs/behaviours.md").read_text()
    quoted = re.findall(r"`[^`]*::[^`]*`", text)
    assert [quote for quote in quoted if not re.fullmatch(r"`[a-z]+/test_\w+\.py::test_\w+`", quote)] == []


def test_every_scenario_of_sipp_is_played() -> None:
    players = "\n".join(path.read_text() for path in PLAYERS)
    unplayed = [path.stem for path in SCENARIOS
                if not re.search(rf'"{path.stem}"|"{re.sub("_ua[cs]$", "", path.stem)}"', players)]
    assert unplayed == []
