"""docs/sandbox.md names every failure, switch, control request and path that the stand-in amoCRM has, and no other."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from re import findall

from b2bua.sandbox import control, levers
from b2bua.sandbox.disposable import TokenKind
from b2bua.sandbox.presets import PRESETS
from b2bua.sandbox.routes import api_routes
from b2bua.sandbox.switches import Switches

DOCUMENT = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text("utf-8")


def first_cells(title: str) -> set[str]:
    """What stands in code in the first column of the chapter's table."""
    chapter = DOCUMENT.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in chapter.splitlines() if line.startswith("| `")]
    return {word for row in rows for word in findall("`([^`]+)`", row)}


def test_failures() -> None:
    assert first_cells("Failures by name") == set(PRESETS)


def test_switches() -> None:
    assert first_cells("Switches") == {field.name for field in fields(Switches)}


def test_control_requests() -> None:
    routes = [*control.routes(), *levers.routes()]
    assert first_cells("The control API") == {
        f"{method} {route.path}" for route in routes for method in (route.methods or ()) if method != "HEAD"
    }


def test_paths() -> None:
    documented = first_cells("What it answers")
    for route in api_routes():
        assert any(route.path.startswith(path) for path in documented), route.path
    assert all(any(route.path.startswith(path) for route in api_routes()) for path in documented)


def test_kinds_of_widget_tokens() -> None:
    line = next(line for line in DOCUMENT.splitlines() if "/_fake/widget-token" in line)
    assert set(findall("`([a-z0-9_]+)`", line.partition("kinds:")[2])) == {kind.value for kind in TokenKind}
