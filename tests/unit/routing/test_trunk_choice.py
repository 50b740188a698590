"""In which order trunks are tried."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from b2bua.directory import Trunk
from b2bua.routing.trunk_choice import TrunkChoice
from tests.support.office import ACME


def trunk(name: str, priority: int = 0, weight: int = 1, prefixes: tuple[str, ...] = ()) -> Trunk:
    return Trunk(ACME, name, "192.0.2.1", priority=priority, weight=weight, prefixes=prefixes)


def choice(*down: str, seed: int = 1) -> TrunkChoice:
    return TrunkChoice(lambda trunk: trunk.name not in down, Random(seed))


def order(choice: TrunkChoice, *trunks: Trunk, number: str = "+79265554433") -> list[str]:
    return [one.name for one in choice.order(trunks, number).trunks]


@pytest.mark.parametrize(("down", "expected"), [
    ((), ["a", "b", "c"]),
    (("a",), ["b", "c", "a"]),
    (("a", "b"), ["c", "a", "b"]),
    (("a", "b", "c"), ["a", "b", "c"]),
])
def test_what_is_up_goes_first_and_then_priority_decides(down: tuple[str, ...], expected: list[str]) -> None:
    assert order(choice(*down), trunk("c", 9), trunk("a", 0), trunk("b", 1)) == expected


def test_among_equals_the_weight_is_the_share_of_calls() -> None:
    draws = choice(seed=7)
    first = Counter(order(draws, trunk("light", weight=1), trunk("heavy", weight=3))[0] for _ in range(4000))
    assert first["heavy"] == pytest.approx(3000, abs=150)


def test_a_lottery_leaves_nobody_out() -> None:
    draws = choice()
    for _ in range(50):
        assert sorted(order(draws, *(trunk(name, weight=5) for name in "abcd"))) == list("abcd")


def test_prefixes_leave_out_and_say_so() -> None:
    ordered = choice().order((trunk("abroad", prefixes=("+44", "+49")), trunk("home")), "+79265554433")
    assert [one.name for one in ordered.trunks] == ["home"]
    assert ordered.notes == ("abroad takes only +44, +49",)
    assert order(choice(), trunk("abroad", prefixes=("+44", "+49")), trunk("home", 1), number="+4930123456") == [
        "abroad", "home"]


def test_a_short_number_never_fails_for_want_of_a_prefix() -> None:
    abroad, home = trunk("abroad", prefixes=("+44",)), trunk("home", prefixes=("+7", "112"))
    assert order(choice(), abroad, home, number="112") == ["home"]
    assert sorted(order(choice(), abroad, home, number="101")) == ["abroad", "home"]
    assert order(choice(), abroad, home, number="+4930123456") == []


def test_the_order_is_explained_when_there_is_one() -> None:
    assert choice("a").order((trunk("a"), trunk("b")), "112").notes == ("trunks in their order: b, a (down)",)
    assert choice("a").order((trunk("a"),), "112").notes == ()
    assert choice().order((), "112").trunks == ()
