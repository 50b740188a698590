"""Open or closed, by the wall clock of a place."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from b2bua.directory import Hours
from b2bua.routing.hours import holiday, judge, period, zone

OFFICE = Hours("Europe/Berlin", ("mon-fri 09:00-18:00", "sat 10:00-14:00"), "700", ("2026-05-01", "12-25"))
NIGHT = Hours("Europe/Berlin", ("fri,sat 22:00-06:00",), "700", ("2026-03-14",))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("utc", "open_"),
    [
        ("2026-03-02 07:59", False), ("2026-03-02 08:00", True), ("2026-03-02 16:59", True),
        ("2026-03-02 17:00", False),
        ("2026-03-07 09:30", True), ("2026-03-07 13:00", False), ("2026-03-08 10:00", False),
        ("2026-03-27 08:00", True), ("2026-03-27 07:30", False),         # CET, the Friday before the clocks go forward
        ("2026-03-30 07:00", True), ("2026-03-30 06:30", False),         # CEST, the Monday after
        ("2026-10-23 07:00", True), ("2026-10-26 07:00", False), ("2026-10-26 08:00", True),       # and back
        ("2026-05-01 10:00", False), ("2027-04-30 10:00", True), ("2026-12-25 10:00", False),
        ("2028-12-25 10:00", False),
    ],
)
def test_an_office_is_open_by_its_own_clock(utc: str, open_: bool) -> None:
    assert judge(OFFICE, at(utc)).open is open_


@pytest.mark.parametrize(
    ("utc", "open_"),
    [
        ("2026-03-06 20:59", False), ("2026-03-06 21:00", True), ("2026-03-07 04:59", True),
        ("2026-03-07 05:00", False),
        ("2026-03-08 04:00", True), ("2026-03-09 04:00", False),
        ("2026-03-13 22:30", True), ("2026-03-14 02:00", False),      # Saturday is a holiday
        ("2026-03-15 02:00", False),
        ("2026-03-29 03:59", True), ("2026-03-29 04:00", False),         # the hour from two to three is left out
        ("2026-10-25 00:30", True), ("2026-10-25 01:30", True), ("2026-10-25 05:00", False),       # and comes twice
    ],
)
def test_a_night_shift_belongs_to_the_day_on_which_it_begins(utc: str, open_: bool) -> None:
    assert judge(NIGHT, at(utc)).open is open_


def test_it_is_said_why() -> None:
    assert judge(OFFICE, at("2026-03-02 17:30")).why == "closed, mon 18:30 in Europe/Berlin"
    assert judge(OFFICE, at("2026-05-01 10:00")).why == "closed on 2026-05-01, a holiday"
    nowhere = judge(Hours("Mars/Base", OFFICE.open, "700"), at("2026-03-08 10:00"))
    assert (nowhere.open, nowhere.why) == (True, "the time zone Mars/Base is not known here, so it is taken as open")


@pytest.mark.parametrize(
    ("text", "days"),
    [("mon 09:00-18:00", {0}), ("sat-mon 00:00-24:00", {5, 6, 0}), ("mon,wed-fri 08:00-09:00", {0, 2, 3, 4}),
     ("mon-sun 22:00-06:00", set(range(7)))],
)
def test_weekdays_are_read(text: str, days: set[int]) -> None:
    assert period(text).days == days


@pytest.mark.parametrize("text", ["", "mon", "mon 9:00-18:00", "mon 09:00-25:00", "mon 09:60-10:00", "moon 09:00-10:00",
                                  "mon-fri", "Mon 09:00-10:00", "mon 24:00-06:00", "mon 09:00-18:00 ",
                                  "mon 24:30-25:00"])
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        period(text)


@pytest.mark.parametrize("text", ["", "2026", "2026-13-01", "02-30", "2026-02-29", "1-1", "2026-05-01 "])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        holiday(text)
    assert holiday("02-29") == (None, 2, 29)


@pytest.mark.parametrize("name", ["", "Europe", "../etc/passwd", "/etc/passwd", "Mars/Base", "Europe/Berlin\0"])
def test_what_is_no_time_zone_is_none(name: str) -> None:
    assert zone(name) is None
