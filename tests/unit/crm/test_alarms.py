"""Which of a CRM's troubles people are shown, from when, and that each client has one alarm at most."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from b2bua.cdr import ClientId
from b2bua.crm.alarms import ILL_FOR, LATE_AFTER, crm_alarms
from b2bua.crm.outbox import Illness

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ACME, BETA = ClientId("acme"), ClientId("beta")
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(("needs_a_person", "age", "alarms"), [
    (True, timedelta(0), 1), (False, ILL_FOR - SECOND, 0), (False, ILL_FOR, 1),
])
def test_what_may_pass_by_itself_is_an_alarm_later(needs_a_person: bool, age: timedelta, alarms: int) -> None:
    told = crm_alarms({ACME: Illness("403 blocked", NOW - age, needs_a_person)}, {}, NOW)
    assert len(told) == alarms
    assert all("acme" in text and "403 blocked" in text for text in told)


def test_a_backlog_is_an_alarm_when_it_is_old_and_an_illness_says_more() -> None:
    assert not crm_alarms({}, {ACME: NOW - LATE_AFTER + SECOND}, NOW)
    (late,) = crm_alarms({}, {ACME: NOW - LATE_AFTER}, NOW)
    assert "smartswitch outbox" in late
    oldest = {ACME: NOW - LATE_AFTER, BETA: NOW - LATE_AFTER}
    both = crm_alarms({ACME: Illness("not paid", NOW, needs_a_person=True)}, oldest, NOW)
    assert [text.partition(":")[0] for text in both] == ["acme", "beta"]
    assert "not paid" in both[0]
