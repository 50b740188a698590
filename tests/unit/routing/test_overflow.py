"""The graph of destinations: circles are found, and everything comes before where it leads to."""

from __future__ import annotations

import pytest

from b2bua.directory import Cause
from b2bua.routing.overflow import all_from, circles

NO_ANSWER, BUSY, UNREGISTERED = Cause.NO_ANSWER, Cause.BUSY, Cause.UNREGISTERED


@pytest.mark.parametrize(
    ("ways", "found"),
    [
        ({}, []),
        ({"1": {BUSY: "2"}, "2": {}}, []),
        ({"1": {BUSY: "1"}}, [("1", BUSY, ("1", "1"))]),
        ({"1": {BUSY: "2"}, "2": {NO_ANSWER: "1"}}, [("2", NO_ANSWER, ("1", "2", "1"))]),
        ({"1": {BUSY: "2"}, "2": {BUSY: "3"}, "3": {UNREGISTERED: "2"}}, [("3", UNREGISTERED, ("2", "3", "2"))]),
        ({"1": {BUSY: "2", NO_ANSWER: "3"}, "2": {BUSY: "4"}, "3": {BUSY: "4"}, "4": {}}, []),
        ({"1": {BUSY: "2"}, "2": {BUSY: "1", NO_ANSWER: "1"}},
         [("2", BUSY, ("1", "2", "1")), ("2", NO_ANSWER, ("1", "2", "1"))]),
        ({"1": {BUSY: "nobody"}}, []),
    ],
)
def test_each_way_that_leads_back_is_found(
    ways: dict[str, dict[Cause, str]], found: list[tuple[str, Cause, tuple[str, ...]]]
) -> None:
    assert list(circles(ways)) == found


def test_everything_comes_before_where_it_leads_to() -> None:
    ways = {"1": {BUSY: "4", NO_ANSWER: "2"}, "2": {BUSY: "3"}, "3": {BUSY: "4"}, "4": {}, "5": {BUSY: "1"}}
    assert all_from(ways, "1") == ["1", "2", "3", "4"]


def test_a_long_chain_is_no_matter() -> None:
    ways = {str(n): {BUSY: str(n + 1)} for n in range(20_000)}
    assert list(circles(ways)) == []
    assert len(all_from(ways, "0")) == 20_001
