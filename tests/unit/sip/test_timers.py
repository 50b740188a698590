"""The timer values of RFC 3261 table 4, and the structure that holds all deadlines."""

from __future__ import annotations

import pytest

from b2bua.sip.timers import Deadline, Deadlines, Timer, Timers


def fired(deadlines: Deadlines, now: float) -> list[tuple[float, object]]:
    return [(deadline.at, deadline.owner) for deadline in deadlines.due(now)]


def test_the_values_are_those_of_table_4() -> None:
    timers = Timers()
    assert (timers.a, timers.e, timers.g) == (0.5, 0.5, 0.5)
    assert {timers.b, timers.d, timers.f, timers.h, timers.j, timers.l, timers.m, timers.timeout} == {32.0}
    assert (timers.i, timers.k) == (5.0, 5.0)


@pytest.mark.parametrize(("timers", "seconds"), [(Timers(), 3.5), (Timers(t1=1.0), 3.0), (Timers(t1=4.0), 0.0)])
def test_a_slow_request_gets_its_100_when_timer_e_has_reached_t2(timers: Timers, seconds: float) -> None:
    """RFC 4320 §4.1."""
    assert timers.trying == seconds


def test_deadlines_come_in_their_order_and_not_before_their_time() -> None:
    deadlines = Deadlines()
    for at in (32.0, 0.5, 31.99, 0.51, 1800.0, 0.5):
        deadlines.arm(at, f"armed for {at}", Timer.A)
    assert fired(deadlines, 0.499) == []
    assert fired(deadlines, 0.505) == [(0.5, "armed for 0.5"), (0.5, "armed for 0.5")]
    assert fired(deadlines, 32.0) == [(0.51, "armed for 0.51"), (31.99, "armed for 31.99"), (32.0, "armed for 32.0")]
    assert fired(deadlines, 1799.9) == []
    assert fired(deadlines, 1800.0) == [(1800.0, "armed for 1800.0")]
    assert len(deadlines) == 0


def test_those_of_one_time_come_as_they_were_armed() -> None:
    deadlines = Deadlines()
    for owner in range(50):
        deadlines.arm(7.25, owner, Timer.A)
    assert [owner for _, owner in fired(deadlines, 8.0)] == list(range(50))


def test_one_that_is_disarmed_does_not_come_even_while_another_of_its_time_is_being_handled() -> None:
    deadlines = Deadlines()
    deadlines.arm(1.0, "first", Timer.A)
    second = deadlines.arm(1.0, "second", Timer.B)
    third = deadlines.arm(2.0, "third", Timer.B)
    deadlines.disarm(third)
    seen = []
    for deadline in deadlines.due(5.0):
        seen.append(deadline.owner)
        deadlines.disarm(second)
    assert seen == ["first"]
    assert deadlines.next is None


def test_disarming_twice_or_after_it_fired_or_nothing_is_no_harm() -> None:
    deadlines = Deadlines()
    one, other = deadlines.arm(1.0, "one", Timer.A), deadlines.arm(2.0, "other", Timer.A)
    assert fired(deadlines, 1.0) == [(1.0, "one")]
    for deadline in (one, other, other, None):
        deadlines.disarm(deadline)
    assert len(deadlines) == 0


def test_what_is_armed_for_the_past_is_due_at_once() -> None:
    deadlines = Deadlines()
    assert fired(deadlines, 1000.0) == []
    deadlines.arm(3.0, "late", Timer.A)
    assert deadlines.next == 3.0
    assert fired(deadlines, 1000.0) == [(3.0, "late")]


def test_what_is_armed_while_others_are_handled_comes_when_it_is_due() -> None:
    deadlines = Deadlines()
    deadlines.arm(1.0, 1, Timer.A)
    seen = []
    for deadline in deadlines.due(3.0):
        seen.append(deadline.at)
        deadlines.arm(deadline.at + 1.0, 1, Timer.A)
    assert seen == [1.0, 2.0, 3.0]
    assert deadlines.next is not None
    assert 3.9 < deadlines.next <= 4.0


def test_next_is_never_late_and_leads_to_the_deadline_in_two_steps() -> None:
    deadlines = Deadlines()
    deadlines.arm(10.03, "owner", Timer.A)
    at, steps = 0.0, 0
    while not fired(deadlines, at):
        assert deadlines.next is not None
        assert at < deadlines.next <= 10.03
        at = deadlines.next
        steps += 1
    assert (at, steps) == (10.03, 2)


def test_a_disarmed_deadline_is_not_woken_up_for() -> None:
    deadlines = Deadlines()
    deadlines.disarm(deadlines.arm(5.0, "gone", Timer.A))
    deadlines.arm(7.0, "there", Timer.A)
    assert deadlines.next == 7.0


def test_arming_and_disarming_for_hours_leaves_no_garbage() -> None:
    deadlines = Deadlines()
    for step in range(20_000):
        now = step * 0.5
        deadlines.disarm(deadlines.arm(now + 32.0, "owner", Timer.B))
        deadlines.disarm(deadlines.arm(now + 0.01, "owner", Timer.A))
        deadlines.disarm(deadlines.arm(now + 1e6, "owner", Timer.A))
        assert list(deadlines.due(now)) == []
    assert len(deadlines._near) < 10
    assert len(deadlines._slots) == len(deadlines._order) < 1100
    assert sum(map(len, deadlines._slots.values())) == 0


def test_a_far_deadline_is_kept_over_many_horizons() -> None:
    deadlines = Deadlines()
    deadlines.arm(100_000.0, "far", Timer.A)
    steps = 0
    while not (found := fired(deadlines, at := deadlines.next or 0.0)):
        steps += 1
    assert (at, found) == (100_000.0, [(100_000.0, "far")])
    assert steps < 1600


def test_a_deadline_shows_what_it_is() -> None:
    deadlines = Deadlines()
    deadline = deadlines.arm(1.5, "owner", Timer.K)
    assert repr(deadline) == "Deadline(1.500, K)"
    deadlines.disarm(deadline)
    assert isinstance(deadline, Deadline)
    assert repr(deadline) == "Deadline(1.500, K, disarmed)"
