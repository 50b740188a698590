"""Working hours: whether a number is open at an instant, by the wall clock of its time zone. Pure.

The wall clock is what people mean by nine o'clock: on the days when it is put forward or back, hours follow it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from b2bua.directory import Hours

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MIDNIGHT = 24 * 60

_DAY = "(?:" + "|".join(DAYS) + ")"
_DAYS = f"{_DAY}(?:-{_DAY})?"
_TIME = "([0-9]{2}):([0-9]{2})"
_PERIOD = re.compile(f"({_DAYS}(?:,{_DAYS}){{0,6}}) {_TIME}-{_TIME}")
_HOLIDAY = re.compile(r"(?:([0-9]{4})-)?([0-9]{2})-([0-9]{2})")
_LEAP_YEAR = 2000


@dataclass(frozen=True, slots=True)
class Period:
    """From a minute of some weekdays until another; past midnight when that is not later."""

    days: frozenset[int]                   # 0 is Monday
    begin: int                             # minutes of the day
    end: int

    def has(self, day: int, minute: int, *, before_is_open: bool) -> bool:
        """`before_is_open`: what began the day before may go on."""
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        late = day in self.days and minute >= self.begin
        return late or (before_is_open and (day - 1) % 7 in self.days and minute < self.end)


@lru_cache(maxsize=4096)
def period(text: str) -> Period:
    """"mon-fri 09:00-18:00". Raises ValueError."""
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise ValueError(text)
    begin, end = _minutes(found[2], found[3]), _minutes(found[4], found[5])
    if begin == MIDNIGHT:
        raise ValueError(text)
    days: set[int] = set()
    for part in found[1].split(","):
        first, _, last = part.partition("-")
        length = (DAYS.index(last or first) - DAYS.index(first)) % 7
        days |= {(DAYS.index(first) + step) % 7 for step in range(length + 1)}
    return Period(frozenset(days), begin, end)


def _minutes(hour: str, minute: str) -> int:
    minutes = int(hour) * 60 + int(minute)
    if int(minute) > 59 or minutes > MIDNIGHT:
        raise ValueError(f"{hour}:{minute}")
    return minutes


@lru_cache(maxsize=4096)
def holiday(text: str) -> tuple[int | None, int, int]:
    """Year (None: each), month and day of "2026-05-11" or "05-11". Raises ValueError."""
    found = _HOLIDAY.fullmatch(text)
    if found is None:
        raise ValueError(text)
    year, month, day = int(found[1]) if found[1] else None, int(found[2]), int(found[3])
    date(year if year is not None else _LEAP_YEAR, month, day)
    return year, month, day


@lru_cache(maxsize=512)
def zone(name: str) -> ZoneInfo | None:
    """None: the system does not know it. Kept, as its file must not be read for each call."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class Judgement:
    open: bool
    why: str


def judge(hours: Hours, now: datetime) -> Judgement:
    """`now` is aware."""
    where = zone(hours.time_zone)
    if where is None:                      # the file was applied on another machine: rather rung than not
        return Judgement(True, f"the time zone {hours.time_zone} is not known here, so it is taken as open")
    local = now.astimezone(where)
    day, minute = local.weekday(), local.hour * 60 + local.minute
    said = f"{DAYS[day]} {local:%H:%M} in {hours.time_zone}"
    if _is_holiday(hours, local.date()):
        return Judgement(False, f"closed on {local:%Y-%m-%d}, a holiday")
    before = not _is_holiday(hours, local.date() - timedelta(days=1))
    if any(period(text).has(day, minute, before_is_open=before) for text in hours.open):
        return Judgement(True, f"open, {said}")
    return Judgement(False, f"closed, {said}")


def _is_holiday(hours: Hours, day: date) -> bool:
    return any(holiday(text) in ((day.year, day.month, day.day), (None, day.month, day.day)) for text in hours.holidays)
