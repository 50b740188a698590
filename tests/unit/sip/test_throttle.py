"""Wrong passwords get slower, then silence; and nobody innocent is silenced with them."""

from __future__ import annotations

from b2bua.sip import throttle
from b2bua.sip.throttle import Answer, AuthThrottle, Banned, Silence

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


# -- bans


def who(rule: AuthThrottle, now: float = 0.0) -> list[tuple[Banned, str, str]]:
    return [(ban.who, ban.address, ban.account) for ban in rule.bans(now)]


def test_wrong_passwords_lead_to_bans_that_are_told_once_and_expire() -> None:
    rule = AuthThrottle()
    fail(rule, throttle.PAIR_FAILURES + 5, now=100.0)
    (ban,) = rule.fresh()
    assert (ban.who, ban.address, ban.account) == (Banned.ACCOUNT_FROM_ADDRESS, STRANGER, "101")
    assert ban.why == f"{throttle.PAIR_FAILURES} wrong passwords"
    assert rule.fresh() == []
    fail(rule, throttle.SOURCE_FAILURES, login="102", now=100.0)
    assert {ban.who for ban in rule.fresh()} == {Banned.ADDRESS, Banned.ACCOUNT_FROM_ADDRESS}
    assert set(who(rule, 100.0)) == {
        (Banned.ACCOUNT_FROM_ADDRESS, STRANGER, "101"), (Banned.ADDRESS, STRANGER, ""),
        (Banned.ACCOUNT_FROM_ADDRESS, STRANGER, "102"),
    }
    assert rule.bans(200.0)[0].expires_in == throttle.FORGIVEN_AFTER - 100
    assert rule.bans(100.1 + throttle.FORGIVEN_AFTER) == []


def test_an_account_is_banned_for_all_but_its_owner() -> None:
    rule = AuthThrottle()
    rule.succeeded(OFFICE, "101", 0.0)
    for host in range(throttle.LOGIN_FAILURES // 10):
        fail(rule, 10, f"198.51.100.{host}")
    assert who(rule) == [(Banned.ACCOUNT, "", "101")]
    assert not rule.silent(OFFICE, "101", 0.0)
    assert rule.lift("101", 0.0) == 1
    assert not rule.silent("203.0.113.1", "101", 0.0)


def test_a_stranger_who_tries_many_names_or_is_a_scanner_is_banned() -> None:
    rule = AuthThrottle()
    for number in range(throttle.NAMES_TRIED):
        assert rule.bans(0.0) == []
        rule.tried(STRANGER, f"1{number:03}", 0.0)
        rule.tried(STRANGER, f"1{number:03}", 0.0)              # again: nothing new
    rule.scanned("203.0.113.9", "friendly-scanner" + "x" * 1000, 0.0)
    assert [(ban.address, len(ban.why) < 100) for ban in rule.bans(0.0)] == [(STRANGER, True), ("203.0.113.9", True)]
    assert len(rule.fresh()) == 2
    rule.tried(STRANGER, "more", 500.0)                         # a ban is not prolonged by who does not know of it
    rule.scanned("203.0.113.9", "friendly-scanner", 500.0)
    assert rule.silent(STRANGER, "", throttle.FORGIVEN_AFTER)
    assert not rule.silent(STRANGER, "", throttle.FORGIVEN_AFTER + 1)
    assert rule.fresh() == []


def test_an_address_from_which_somebody_logged_in_is_not_banned_by_who_forges_it() -> None:
    rule = AuthThrottle()
    rule.succeeded(OFFICE, "101", 0.0)
    for number in range(throttle.NAMES_TRIED + 5):
        rule.tried(OFFICE, f"1{number:03}", 0.0)
    rule.scanned(OFFICE, "sipvicious", 0.0)
    for _ in range(throttle.SOURCE_CHALLENGES + 5):
        rule.challenged(OFFICE, 0.0)
    assert rule.bans(0.0) == rule.fresh() == []
    assert not rule.silent(OFFICE, "101", 0.0)


def test_a_lifted_address_is_forgiven_everything_and_others_nothing() -> None:
    rule = AuthThrottle()
    fail(rule, throttle.SOURCE_FAILURES)
    fail(rule, throttle.SOURCE_FAILURES, "203.0.113.9")
    rule.scanned(STRANGER, "sipcli", 0.0)           # it is banned already
    assert rule.lift("192.0.2.99", 0.0) == 0
    assert rule.lift(STRANGER, 0.0) == 2
    assert not rule.silent(STRANGER, "101", 0.0)
    assert rule.failed(STRANGER, "101", 0.0) == Answer(0.5)
    assert rule.silent("203.0.113.9", "101", 0.0)


def test_what_is_kept_of_strangers_and_shown_of_bans_is_bounded() -> None:
    rule = AuthThrottle(limit=2 * throttle.MAX_LISTED)
    for number in range(3 * throttle.MAX_LISTED):
        source = f"198.51.{number >> 8}.{number & 255}"
        rule.scanned(source, "x" * 60_000, 0.0)
        rule.tried(f"203.0.{number >> 8}.{number & 255}", "y" * 60_000, 0.0)
        rule.fresh()
    assert len(rule) <= 2 * throttle.MAX_LISTED
    assert len(rule.bans(0.0)) <= throttle.MAX_LISTED
    assert all(len(name) <= throttle.MAX_LOGIN for one in rule._challenged.values() for name in one.names)


def test_what_means_nothing_bans_whoever_floods_with_it_and_not_a_lost_phone_that_asks_now_and_then() -> None:
    rule = AuthThrottle()
    every = throttle.UNWANTED_WITHIN / (throttle.UNWANTED - 1)
    for number in range(4 * throttle.UNWANTED):
        rule.unwanted(OFFICE, number * every * 1.01)
    assert not rule.bans(4 * throttle.UNWANTED * every)
    for number in range(throttle.UNWANTED):
        assert not rule.silent(STRANGER, "", 0.01 * number)
        rule.unwanted(STRANGER, 0.01 * number)
    (ban,) = rule.bans(10.0)
    assert (ban.who, ban.address, ban.account) == (Banned.ADDRESS, STRANGER, "")
    assert [(new.address, new.why) for new in rule.fresh()] == [(STRANGER, ban.why)]
    assert rule.lift(STRANGER, 10.0) == 1
    assert not rule.silent(STRANGER, "", 10.0)


def test_where_somebody_has_logged_in_nothing_is_unwanted() -> None:
    rule = AuthThrottle()
    rule.succeeded(OFFICE, "101", 0.0)
    for _ in range(2 * throttle.UNWANTED):
        rule.unwanted(OFFICE, 1.0)
    assert rule.bans(1.0) == []
