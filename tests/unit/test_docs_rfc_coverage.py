"""docs/rfc-coverage.md claims what the code cites, and leaves out nothing that it cites."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "rfc-coverage.md"
WHOLE = "whole"

_HEADING = re.compile(r"## RFC ([0-9]{4}): \S.*")
_ROW = re.compile(r"\| (whole|§[0-9A-Z][0-9A-Z.]*) \| ([^|]+) \| (done|deviates|not) \|(?: ([^|]+))? \|")
_HEAD = ("| section | what | state | how |", "|---|---|---|---|")
# "RFC 3261 §12.1 and §12.2", "RFC 4028 §7 to §10", and a bare "RFC 3264".
_CITATION = re.compile(r"RFC ([0-9]{4})((?:,? (?:and |to )?§[0-9A-Z][0-9A-Za-z.]*)*)")
_SECTION = re.compile(r"§([0-9A-Z][0-9A-Za-z.]*[0-9A-Za-z]|[0-9A-Z])")


class Section(NamedTuple):
    rfc: str
    name: str                           # "§12.2", or WHOLE

    def __str__(self) -> str:
        return f"RFC {self.rfc}" if self.name == WHOLE else f"RFC {self.rfc} {self.name}"


class Claim(NamedTuple):
    state: str
    how: str


def claims() -> dict[Section, Claim]:
    found: dict[Section, Claim] = {}
    rfc = ""
    for line in PAGE.read_text("utf-8").splitlines():
        if heading := _HEADING.fullmatch(line):
            assert heading[1] > rfc, f"RFC {heading[1]} is out of order, or twice there"
            rfc = heading[1]
        elif line.startswith("|") and line not in _HEAD:
            row = _ROW.fullmatch(line)
            assert row is not None, f"no row: {line}"
            section = Section(rfc, row[1])
            assert section not in found, f"twice: {section}"
            found[section] = Claim(row[3], row[4] or "")
    return found


def citations() -> dict[Section, str]:
    """Every section that the code cites, with a file that does."""
    found: dict[Section, str] = {}
    for folder in ("b2bua", "web"):
        for path in (ROOT / folder).rglob("*.py"):
            for rfc, rest in _CITATION.findall(path.read_text("utf-8")):
                for name in _SECTION.findall(rest) or [None]:
                    found[Section(rfc, WHOLE if name is None else f"§{name}")] = str(path.relative_to(ROOT))
    return found


CLAIMS, CITED = claims(), citations()


def test_what_is_claimed_is_cited_where_it_is_done() -> None:
    assert [str(section) for section, claim in CLAIMS.items() if claim.state != "not" and section not in CITED] == []


def test_what_the_code_cites_is_in_the_table() -> None:
    assert {str(section): path for section, path in CITED.items() if section not in CLAIMS} == {}


def test_a_deviation_is_explained() -> None:
    assert [str(section) for section, claim in CLAIMS.items() if claim.state == "deviates" and not claim.how] == []


def test_a_section_that_the_code_says_it_deviates_from_is_not_called_done() -> None:
    """Where a `Deviation` comment names its section in the same breath."""
    wrong = []
    for path in (ROOT / "b2bua").rglob("*.py"):
        for rfc, name in re.findall(r"Deviation from RFC ([0-9]{4}) (§[0-9.]+[0-9])", path.read_text("utf-8")):
            if CLAIMS[Section(rfc, name)].state != "deviates":
                wrong.append(f"RFC {rfc} {name} in {path.name}")
    assert wrong == []


def test_the_citations_are_read_as_they_are_written() -> None:
    text = "(RFC 3261 §12.1, §12.2.1.1 and §15), RFC 4028 §7 to §10. RFC 3264; RFC 3550 §A.1."
    sections = [(rfc, _SECTION.findall(rest)) for rfc, rest in _CITATION.findall(text)]
    assert sections == [
        ("3261", ["12.1", "12.2.1.1", "15"]), ("4028", ["7", "10"]), ("3264", []), ("3550", ["A.1"])]
