"""Wrong passwords get slower, then silence; and nobody innocent is silenced with them."""

from __future__ import annotations

from b2bua.sip import throttle
from b2bua.sip.throttle import Answer, AuthThrottle, Silence

OFFICE = "192.0.2.7"
STRANGER = "198.51.100.66"


def fail(rule: AuthThrottle, times: int, source: str = STRANGER, login: str = "101", now: float = 0.0) -> None:
    for _ in range(times):
        rule.failed(source, login, now)


def test_each_wrong_password_is_answered_later_than_the_one_before_up_to_a_cap() -> None:
    rule = AuthThrottle()
    answers = [rule.failed(STRANGER, "101", 0.0) for _ in range(6)]
    assert answers == [Answer(0.5), Answer(1.0), Answer(2.0), Answer(4.0), Answer(8.0), Answer(8.0)]


def test_after_enough_of_them_there_is_silence_until_it_is_forgiven() -> None:
    rule = AuthThrottle()
    fail(rule, throttle.PAIR_FAILURES - 1)
    assert not rule.silent(STRANGER, "101", 0.0)
    assert rule.failed(STRANGER, "101", 0.0) == Silence()
    assert rule.silent(STRANGER, "101", throttle.FORGIVEN_AFTER)
    assert not rule.silent(STRANGER, "101", throttle.FORGIVEN_AFTER + 0.1)
    assert rule.failed(STRANGER, "101", throttle.FORGIVEN_AFTER + 0.1) == Answer(0.5)


def test_guessing_at_many_logins_silences_the_source() -> None:
    rule = AuthThrottle()
    for login in range(throttle.SOURCE_FAILURES):
        rule.failed(STRANGER, str(login), 0.0)
    assert rule.silent(STRANGER, "", 0.0)
    assert not rule.silent(OFFICE, "101", 0.0)


def test_one_phone_with_an_old_password_does_not_silence_its_office() -> None:
    rule = AuthThrottle()
    rule.succeeded(OFFICE, "102", 0.0)
    for login in ("101", "103", "104", "105"):
        fail(rule, throttle.PAIR_FAILURES, OFFICE, login)
    assert rule.silent(OFFICE, "101", 1.0)
    assert not rule.silent(OFFICE, "102", 1.0)
    assert not rule.silent(OFFICE, "", 1.0)


def test_strangers_cannot_lock_the_owner_of_a_login_out() -> None:
    rule = AuthThrottle()
    rule.succeeded(OFFICE, "101", 0.0)
    for host in range(throttle.LOGIN_FAILURES // 10 + 1):
        fail(rule, 10, f"198.51.100.{host}")
    assert rule.silent("203.0.113.1", "101", 1.0)
    assert not rule.silent(OFFICE, "101", 1.0)


def test_the_right_password_forgives_this_login_and_no_other() -> None:
    rule = AuthThrottle()
    fail(rule, 10, OFFICE, "101")
    fail(rule, 5, OFFICE, "102")
    rule.succeeded(OFFICE, "101", 0.0)
    assert rule.failed(OFFICE, "101", 0.0) == Answer(0.5)
    assert rule.failed(OFFICE, "102", 0.0) == Answer(8.0)


def test_whoever_never_answers_a_challenge_is_a_scanner() -> None:
    rule = AuthThrottle()
    for _ in range(throttle.SOURCE_CHALLENGES):
        assert not rule.silent(STRANGER, "", 0.0)
        rule.challenged(STRANGER, 0.0)
    assert rule.silent(STRANGER, "", 0.0)


def test_phones_that_answer_their_challenges_are_challenged_for_ever() -> None:
    rule = AuthThrottle()
    for _ in range(3 * throttle.SOURCE_CHALLENGES):
        rule.challenged(OFFICE, 0.0)
        rule.succeeded(OFFICE, "101", 0.0)
    assert not rule.silent(OFFICE, "101", 0.0)


def test_its_memory_is_bounded_in_number_and_size() -> None:
    rule = AuthThrottle(limit=100)
    for number in range(1000):
        rule.failed(f"198.51.{number >> 8}.{number & 255}", "x" * 60_000, 0.0)
    assert len(rule) <= 100
    assert all(len(login) <= throttle.MAX_LOGIN for _, login in rule._records)


def test_a_flood_of_forged_addresses_pushes_out_nothing_that_is_known_of_real_ones() -> None:
    rule = AuthThrottle(limit=100)
    rule.succeeded(OFFICE, "101", 0.0)
    fail(rule, throttle.PAIR_FAILURES)
    for number in range(1000):
        rule.challenged(f"203.0.{number >> 8}.{number & 255}", 0.0)
    fail(rule, throttle.SOURCE_FAILURES, OFFICE, "102")
    assert rule.silent(STRANGER, "101", 0.0)
    assert not rule.silent(OFFICE, "101", 0.0)
    assert len(rule) <= 200
