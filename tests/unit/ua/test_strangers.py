"""Why a call from an unknown address is no trunk's, and how often that is said."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime

import pytest

from b2bua.cdr import ClientId
from b2bua.control import TurnedAway
from b2bua.directory import Client, Directory, Number, Trunk
from b2bua.ua.strangers import (
    MAX_TOLD,
    SHOWN_AT_MOST,
    TOLD_AT_MOST,
    TOLD_WINDOW,
    Somewhere,
    StrangersLog,
    nearest_match,
)

ACME, OTHER = ClientId("acme"), ClientId("other")
OPERATOR, SPARE = Trunk(ACME, "operator", "op.test"), Trunk(ACME, "spare", "sp.test")
THEIRS = Trunk(OTHER, "main", "main.test")
BOOKS = Directory(
    clients=(Client(ACME, "Acme"), Client(OTHER, "Other", country="GB")),
    trunks=(OPERATOR, SPARE, THEIRS),
    numbers=(Number(ACME, "+74951112233", "101"), Number(ACME, "+74951112244", "101", trunk="spare"),
             Number(OTHER, "+442079460000", "7")),
)


def at(network: str, trunk: Trunk) -> Somewhere:
    return ipaddress.ip_network(network), trunk


PLACES = (at("203.0.113.0/24", OPERATOR), at("203.0.112.9/32", SPARE), at("198.51.100.0/25", THEIRS),
          at("2001:db8::/32", THEIRS))


@pytest.mark.parametrize(("source", "dialled", "why"), [
    ("203.0.114.7", "999", "nearest is operator (acme) has 203.0.113.0/24; the call came from 203.0.114.7, "
     "and 999 is nobody's number"),
    ("198.51.100.200", "x", "nearest is main (other) has 198.51.100.0/25; the call came from 198.51.100.200, "
     "and x is nobody's number"),
    ("2001:db9::1", "x", "nearest is main (other) has 2001:db8::/32; the call came from 2001:db9::1, "
     "and x is nobody's number"),
    ("198.51.100.200", "84951112233", "number +74951112233 belongs to acme, whose operator (acme) has "
     "203.0.113.0/24; the call came from 198.51.100.200"),
    ("198.51.100.200", "+74951112244", "number +74951112244 belongs to acme, whose spare (acme) has 203.0.112.9; "
     "the call came from 198.51.100.200"),
    ("203.0.114.7", "02079460000", "number +442079460000 belongs to other, whose main (other) has 198.51.100.0/25; "
     "the call came from 203.0.114.7"),
])
def test_the_nearest_match_says_what_was_missing(source: str, dialled: str, why: str) -> None:
    assert nearest_match(BOOKS, PLACES, source, [dialled]) == why


def test_the_number_may_be_in_to() -> None:
    assert nearest_match(BOOKS, PLACES, "203.0.114.7", ["s", "74951112233"]).startswith("number +74951112233 belongs")


def test_where_nothing_is_known_that_is_said() -> None:
    assert nearest_match(Directory(), (), "203.0.114.7", ["1"]) == (
        "no trunk has a known address; the call came from 203.0.114.7")
    assert nearest_match(BOOKS, (), "203.0.114.7", ["74951112233"]) == (
        "number +74951112233 belongs to acme, which has no trunk with a known address; the call came from 203.0.114.7")


def test_a_stranger_is_told_of_once_a_minute_and_a_flood_of_them_a_few_times() -> None:
    strangers = StrangersLog()
    assert [strangers.wants("203.0.113.1", now) for now in (0.0, 1.0, TOLD_WINDOW - 1, TOLD_WINDOW)] == [
        True, False, False, True]
    flood = [strangers.wants(f"198.51.100.{host}", TOLD_WINDOW + 1) for host in range(200)]
    assert flood.count(True) == TOLD_AT_MOST - 1
    assert strangers.wants("198.51.100.199", 2 * TOLD_WINDOW + 1)


def test_the_last_call_of_the_latest_sources_is_remembered_and_no_more() -> None:
    strangers = StrangersLog()
    for number in range(3 * SHOWN_AT_MOST):
        source = f"198.51.100.{number % (2 * SHOWN_AT_MOST)}"
        strangers.tell(TurnedAway(datetime.now(UTC), source, str(number) + "9" * 1000, "why", "challenge"))
    last = strangers.last()
    assert [call.source for call in last] == [f"198.51.100.{host}" for host in reversed(range(SHOWN_AT_MOST))]
    assert all(len(call.dialled) == MAX_TOLD for call in last)
    assert last[0].dialled.startswith(str(3 * SHOWN_AT_MOST - 1))
