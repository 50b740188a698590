"""Whatever strangers and phones do, in whatever order: bans and silence are one thing, bounded, never for our own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.sip import throttle
from b2bua.sip.throttle import AuthThrottle, Banned

SOURCES = ("192.0.2.7", "198.51.100.66", "203.0.113.9", "2001:db8::9")
LOGINS = ("101", "102", "nobody")
LIMIT = 8                               # records kept

event = st.tuples(
    st.sampled_from(["failed", "succeeded", "challenged", "tried", "scanned", "lift"]),
    st.sampled_from(SOURCES), st.sampled_from(LOGINS), st.integers(1, 25), st.floats(0, 400),
)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PAIR_FAILURES": 4, "SOURCE_FAILURES": 9, "LOGIN_FAILURES": 15, "SOURCE_CHALLENGES": 20,
                        "NAMES_TRIED": 5}.items():
        monkeypatch.setattr(throttle, name, value)


@given(st.lists(event, max_size=60))
@settings(deadline=None)
def test_bans_and_silence_are_the_same_thing(events: list[tuple[str, str, str, int, float]]) -> None:
    rule, now = AuthThrottle(LIMIT), 0.0
    for what, source, login, times, elapsed in events:
        now += elapsed
        for number in range(times):
            match what:
                case "failed":
                    rule.failed(source, login, now)
                case "succeeded":
                    rule.succeeded(source, login, now)
                case "challenged":
                    rule.challenged(source, now)
                case "tried":
                    rule.tried(source, f"{login}{number}", now)
                case "scanned":
                    rule.scanned(source, "friendly-scanner", now)
                case _:
                    rule.lift(source, now)
                    assert not [ban for ban in rule.bans(now) if ban.address == source]
        assert len(rule) <= 2 * LIMIT
        bans = rule.bans(now)
        for ban in bans:
            assert ban.why
            assert 0 <= ban.expires_in <= throttle.FORGIVEN_AFTER
            if ban.who is Banned.ACCOUNT:
                assert rule.silent("192.0.2.99", ban.account, now)
            else:
                assert rule.silent(ban.address, ban.account, now)
        banned = {ban.address for ban in bans if ban.who is Banned.ADDRESS}
        for one in SOURCES:
            assert rule.silent(one, "", now) == (one in banned)
        if what == "succeeded":
            assert source not in banned


@given(st.lists(event, max_size=30))
@settings(deadline=None)
def test_a_ban_is_told_when_it_begins_and_all_end(events: list[tuple[str, str, str, int, float]]) -> None:
    rule, now = AuthThrottle(), 0.0
    for what, source, login, times, elapsed in events:
        now += elapsed
        before = {(ban.address, ban.account) for ban in rule.bans(now)}
        for number in range(times):
            if rule.silent(source, login if what == "failed" else "", now):
                break                       # as the registrar: who is silenced is not even counted
            if what == "failed":
                rule.failed(source, login, now)
            elif what == "tried":
                rule.tried(source, f"{login}{number}", now)
            elif what == "challenged":
                rule.challenged(source, now)
        told = {(ban.address, ban.account) for ban in rule.fresh()}
        assert {(ban.address, ban.account) for ban in rule.bans(now)} - before == told
    assert rule.bans(now + throttle.FORGIVEN_AFTER + 1) == []
