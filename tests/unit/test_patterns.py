"""Regular expressions mean the same in every Python that we run on."""

from __future__ import annotations

import re
from pathlib import Path

SOURCES = [path for room in ("b2bua", "web") for path in sorted(Path(room).rglob("*.py"))]
POSSESSIVE_GROUP = re.compile(r"\)(?:[*+?]|\{[0-9,]+\})\+")


def test_no_possessive_quantifier_stands_after_a_group() -> None:
    """CPython before 3.11.5, Debian 12's among them, matches those wrongly (gh-106052): an atomic group does it."""
    found = [
        f"{path}:{number}" for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if POSSESSIVE_GROUP.search(line)
    ]
    assert SOURCES
    assert found == []
