"""Guessing gets slower."""

from __future__ import annotations

from web.lockout import FIRST_WAIT, FORGIVEN_AFTER, FREE_FAILURES, LONGEST_WAIT, Lockout


def failed(lockout: Lockout, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        lockout.failed("192.0.2.1", "acme", now)


def test_a_person_may_mistype() -> None:
    lockout = Lockout()
    failed(lockout, FREE_FAILURES)
    assert lockout.wait("192.0.2.1", 0.0) == 0


def test_each_further_failure_doubles_the_wait_up_to_the_longest() -> None:
    lockout = Lockout()
    failed(lockout, FREE_FAILURES)
    waits = []
    for _ in range(12):
        failed(lockout, 1)
        waits.append(lockout.wait("192.0.2.1", 0.0))
    assert waits[:3] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]
    assert waits[-1] == LONGEST_WAIT
    assert lockout.wait("192.0.2.1", LONGEST_WAIT) == 0
    assert lockout.wait("192.0.2.2", 0.0) == 0


def test_success_and_time_forgive() -> None:
    lockout = Lockout()
    failed(lockout, 10)
    lockout.succeeded("192.0.2.1", "acme")
    assert lockout.wait("192.0.2.1", 0.0) == 0
    failed(lockout, 10)
    failed(lockout, 1, now=FORGIVEN_AFTER + 1)
    assert lockout.wait("192.0.2.1", FORGIVEN_AFTER + 1) == 0


def test_the_right_password_of_one_account_forgives_nothing_at_another() -> None:
    lockout = Lockout()
    failed(lockout, FREE_FAILURES + 2)
    lockout.failed("192.0.2.1", "beta", 1.0)
    lockout.succeeded("192.0.2.1", "beta")
    assert lockout.wait("192.0.2.1", 0.0) == 2 * FIRST_WAIT          # as if beta had not been there
    lockout.succeeded("192.0.2.1", "acme")
    assert (lockout.wait("192.0.2.1", 0.0), len(lockout)) == (0, 0)


def test_many_addresses_do_not_make_it_grow() -> None:
    lockout = Lockout(limit=100)
    failed(lockout, 10)
    for number in range(99):
        lockout.failed(f"198.51.100.{number}", "acme", 1.0)
    assert lockout.wait("192.0.2.1", 1.0) > 0
    lockout.failed("203.0.113.1", "acme", 1.0)
    assert len(lockout) == 100
    assert lockout.wait("192.0.2.1", 1.0) == 0             # who failed longest ago was forgotten
