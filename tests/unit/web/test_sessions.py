"""Sessions and form tokens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.cdr import ClientId
from web.sessions import MOST_ENDED, SESSION_SECONDS, Session, Sessions

KEY = b"a key"


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_is_known_until_it_expires() -> None:
    clock = Clock()
    sessions = Sessions(KEY, clock)
    _, cookie = sessions.open()
    clock.now += SESSION_SECONDS - 1
    assert sessions.read(cookie) is not None
    clock.now += 1
    assert sessions.read(cookie) is None


def test_a_session_outlives_a_restart_and_not_another_key() -> None:
    _, cookie = Sessions(KEY).open()
    assert Sessions(KEY).read(cookie) is not None
    assert Sessions(b"another key").read(cookie) is None


def test_a_session_that_was_ended_stays_ended_and_others_go_on() -> None:
    sessions = Sessions(KEY)
    (session, mine), (_, other) = sessions.open(), sessions.open()
    sessions.end([session.id])
    assert sessions.read(mine) is None
    assert not sessions.is_open(session)
    assert sessions.read(other) is not None


def test_ended_sessions_do_not_pile_up() -> None:
    sessions = Sessions(KEY)
    for number in range(MOST_ENDED + 10):
        sessions.end([str(number)])
    assert sessions.is_open(Session("0", 2**40))
    assert not sessions.is_open(Session(str(MOST_ENDED + 9), 2**40))


@pytest.mark.parametrize("cookie", [None, "", ":", ":::", "a:b:c:d", "a:99999999999:::", "é:1::é:", ":" * 500])
def test_what_we_did_not_make_is_no_session(cookie: str | None) -> None:
    assert Sessions(KEY).read(cookie) is None


@settings(max_examples=200)
@given(st.text(max_size=250))
def test_no_cookie_breaks_it(cookie: str) -> None:
    assert Sessions(KEY).read(cookie) is None


def test_a_longer_life_cannot_be_written_in() -> None:
    sessions = Sessions(KEY)
    name, expires_at, *rest = sessions.open()[1].split(":")
    assert sessions.read(":".join((name, str(int(expires_at) + 1), *rest))) is None


def test_an_administrator_is_of_one_client_and_one_password() -> None:
    sessions = Sessions(KEY)
    session, cookie = sessions.open(ClientId("acme"), "a hash")
    assert sessions.read(cookie) == session
    assert session.client == "acme"
    assert session.password == sessions.print_of("a hash") != sessions.print_of("another hash")
    assert sessions.read(cookie.replace("acme", "beta")) is None


def test_a_form_token_fits_its_owner_only() -> None:
    sessions = Sessions(KEY)
    token = sessions.form_token("me")
    assert sessions.is_form_token("me", token)
    assert not sessions.is_form_token("you", token)
    assert not sessions.is_form_token("me", "")
    assert not sessions.is_form_token("", sessions.form_token(""))
    assert not sessions.is_form_token("me", "é")


def test_a_session_cookie_is_no_form_token() -> None:
    sessions = Sessions(KEY)
    content, _, seal = sessions.open()[1].rpartition(":")
    assert not sessions.is_form_token(content, seal)
