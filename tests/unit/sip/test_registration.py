"""Our registration at a trunk: every state × every kind of answer, and the time between tries."""

from __future__ import annotations

from random import Random

import pytest

from b2bua.sip.auth import DigestClient, DigestPolicy, DigestServer, Verdict, ha1
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request, Response
from b2bua.sip.registration import (
    LONGEST_RETRY,
    MAX_ROUND,
    Account,
    Failed,
    Registered,
    Registration,
    RegistrationEffect,
    SendRegister,
    State,
    Unregistered,
)
from b2bua.sip.uri import Uri

CONTACT = Uri.sip("t123", "192.0.2.1", 5060)


def machine(seed: int = 1, expires: int = 3600) -> Registration:
    account = Account(Uri.parse("sip:operator.test"), Uri.parse("sip:74950000000@operator.test"), expires)
    return Registration(account, CONTACT, DigestClient("74950000000", "secret", Random(seed)), Random(seed))


def answer(status: int, *headers: tuple[str, str], reason: str | None = None) -> Response:
    return Response(status, reason, Headers(headers))


OK = answer(200, ("Contact", "<sip:t123@192.0.2.1:5060>;expires=600"))
DIGEST = DigestServer(DigestPolicy("operator"), b"key")


def challenge(status: int = 401, *, stale: bool = False) -> Response:
    name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
    return answer(status, (name, DIGEST.challenges("", 0.0, stale=stale)[0][1]))


def only(effects: list[RegistrationEffect]) -> RegistrationEffect:
    assert len(effects) == 1
    return effects[0]


def in_state(state: State) -> Registration:
    registration = machine()
    if state is State.IDLE:
        return registration
    registration.start(0.0)
    match state:
        case State.REGISTERED | State.UNREGISTERING:
            registration.response(OK, 0.0)
        case State.WAITING:
            registration.response(answer(503), 0.0)
    if state is State.UNREGISTERING:
        registration.stop(1.0)
    assert registration.state is state
    return registration


def test_it_registers_and_says_until_when() -> None:
    registration = machine()
    register = only(registration.start(0.0))
    assert isinstance(register, SendRegister)
    assert (str(register.uri), register.cseq, register.expires) == ("sip:operator.test", 1, 3600)
    assert dict(register.headers) == {"Contact": "<sip:t123@192.0.2.1:5060>", "Expires": "3600"}
    assert registration.response(OK, 2.0) == [Registered(602.0)]


@pytest.mark.parametrize(
    ("headers", "granted"),
    [
        ([("Contact", "<sip:t123@10.9.9.9:1024>;expires=120")], 120),               # rewritten by an edge on the way
        ([("Contact", "<sip:else@192.0.2.9>;expires=50, <sip:t123@192.0.2.1:5060>;expires=70")], 70),
        ([("Contact", "<sip:t123@192.0.2.1:5060>"), ("Expires", "90")], 90),
        ([("Expires", "90")], 90),
        ([], 3600),
        ([("Contact", "garbage <"), ("Expires", "soon")], 3600),
        ([("Expires", "99999999999")], 3600),
    ],
)
def test_the_granted_time_is_read_where_registrars_write_it(headers: list[tuple[str, str]], granted: float) -> None:
    registration = machine()
    registration.start(0.0)
    assert registration.response(answer(200, *headers), 0.0) == [Registered(granted)]


@pytest.mark.parametrize(("routes", "followed"), [
    ((), ()),
    (("<sip:edge.test;lr>, <sip:core.test;lr>",), ("<sip:edge.test;lr>", "<sip:core.test;lr>")),
    (("<sip:edge.test;lr>", "<sips:core.test;lr>"), ("<sip:edge.test;lr>", "<sips:core.test;lr>")),
    (("<sip:strict.test>",), ()),
    (("<sip:edge.test;lr>, <sip:strict.test>",), ()),
    (("<tel:+7495>",), ()),
    (("garbage <",), ()),
    (tuple(f"<sip:{n}.test;lr>" for n in range(9)), ()),
    ((", ".join(f"<sip:{n}.test;lr>" for n in range(200)),), ()),
])
def test_the_registrars_service_route_is_followed_where_it_can_be(
    routes: tuple[str, ...], followed: tuple[str, ...]
) -> None:
    registration = machine()
    registration.start(0.0)
    ok = answer(200, ("Expires", "90"), *(("Service-Route", route) for route in routes))
    assert registration.response(ok, 0.0) == [Registered(90.0, followed)]


def test_a_registration_is_refreshed_before_its_time_when_the_registrar_has_moved() -> None:
    registration = in_state(State.REGISTERED)
    assert isinstance(only(registration.refresh(100.0)), SendRegister)
    assert registration.refresh(101.0) == []                     # one at a time
    waiting = in_state(State.WAITING)
    assert waiting.refresh(0.1) == []                            # a registrar that said no is not pressed


@pytest.mark.parametrize("granted", [1, 20, 60, 600, 3600])
@pytest.mark.parametrize("seed", range(5))
def test_the_refresh_comes_before_the_end_and_not_at_once(granted: int, seed: int) -> None:
    registration = machine(seed)
    registration.start(0.0)
    registration.response(answer(200, ("Expires", str(granted))), 0.0)
    assert registration.next_timeout is not None
    assert granted * 0.3 < registration.next_timeout < granted
    if granted >= 100:
        assert granted - registration.next_timeout >= 40.0          # one try with its 32 s fits
    assert registration.handle_timeout(registration.next_timeout - 0.01) == []
    assert isinstance(only(registration.handle_timeout(registration.next_timeout)), SendRegister)


@pytest.mark.parametrize("status", [401, 407])
def test_a_challenge_is_answered_under_the_same_call_id_and_the_next_cseq(status: int) -> None:
    registration = machine()
    first = only(registration.start(0.0))
    second = only(registration.response(challenge(status), 0.1))
    assert isinstance(first, SendRegister)
    assert isinstance(second, SendRegister)
    assert (second.call_id, second.cseq) == (first.call_id, 2)
    signed = [value for name, value in second.headers if name in ("Authorization", "Proxy-Authorization")]
    request = Request("REGISTER", second.uri, Headers([("Authorization", signed[0])]))
    credentials = DIGEST.credentials(request)
    assert credentials is not None
    known = {"MD5": ha1("MD5", "74950000000", "operator", "secret")}
    assert DIGEST.verify(credentials, request, known, "", 0.1) is Verdict.ACCEPTED


def test_a_refused_password_waits_a_minute_and_tries_again() -> None:
    registration = machine()
    registration.start(0.0)
    registration.response(challenge(), 0.0)
    failed = only(registration.response(challenge(), 0.0))
    assert isinstance(failed, Failed)
    assert failed.reason == "credentials refused"
    assert 60.0 <= failed.retry_at <= 90.0
    again = only(registration.handle_timeout(failed.retry_at))
    assert isinstance(again, SendRegister)
    assert not any(name == "Authorization" for name, _ in again.headers)


def test_a_stale_nonce_costs_one_more_round() -> None:
    registration = machine()
    registration.start(0.0)
    registration.response(challenge(), 0.0)
    assert isinstance(only(registration.response(challenge(stale=True), 0.0)), SendRegister)
    assert registration.response(OK, 0.0) == [Registered(600.0)]


def test_the_refresh_is_signed_ahead() -> None:
    registration = machine()
    registration.start(0.0)
    registration.response(challenge(), 0.0)
    registration.response(OK, 0.0)
    refresh = only(registration.handle_timeout(registration.next_timeout or 0.0))
    assert isinstance(refresh, SendRegister)
    assert "nc=00000002" in dict(refresh.headers)["Authorization"]


def test_a_registrar_that_asks_in_circles_is_left_for_a_while() -> None:
    registration = machine()
    effect = only(registration.start(0.0))
    rounds = 0
    while isinstance(effect, SendRegister):
        rounds += 1
        effect = only(registration.response(challenge(stale=True), 0.0))
    assert rounds == MAX_ROUND + 1
    assert isinstance(effect, Failed)


def test_a_longer_interval_is_obeyed_and_kept() -> None:
    registration = machine(expires=60)
    registration.start(0.0)
    longer = only(registration.response(answer(423, ("Min-Expires", "300")), 0.0))
    assert isinstance(longer, SendRegister)
    assert dict(longer.headers)["Expires"] == "300"
    assert registration.response(answer(200), 0.0) == [Registered(300.0)]
    refresh = only(registration.handle_timeout(registration.next_timeout or 0.0))
    assert isinstance(refresh, SendRegister)
    assert refresh.expires == 300


def test_a_longer_interval_is_asked_for_with_the_credentials_that_were_taken() -> None:
    registration = machine(expires=60)
    registration.start(0.0)
    only(registration.response(challenge(), 0.0))
    longer = only(registration.response(answer(423, ("Min-Expires", "300")), 0.0))
    assert isinstance(longer, SendRegister)
    assert "Authorization" in dict(longer.headers)


@pytest.mark.parametrize("least", ["", "30", "60", "many", "999999"])
def test_a_423_that_helps_nobody_is_a_failure(least: str) -> None:
    registration = machine(expires=60)
    registration.start(0.0)
    assert isinstance(only(registration.response(answer(423, ("Min-Expires", least)), 0.0)), Failed)


def test_a_redirection_is_followed_for_one_round() -> None:
    registration = machine()
    registration.start(0.0)
    there = only(registration.response(answer(302, ("Contact", "<sip:other.test:5070;transport=udp>")), 0.0))
    assert isinstance(there, SendRegister)
    assert str(there.uri) == "sip:other.test:5070"
    signed = only(registration.response(challenge(), 0.0))
    assert isinstance(signed, SendRegister)
    assert str(signed.uri) == "sip:other.test:5070"
    registration.response(OK, 0.0)
    refresh = only(registration.handle_timeout(registration.next_timeout or 0.0))
    assert isinstance(refresh, SendRegister)
    assert str(refresh.uri) == "sip:operator.test"


def test_a_redirection_to_nowhere_is_a_failure() -> None:
    registration = machine()
    registration.start(0.0)
    assert isinstance(only(registration.response(answer(302), 0.0)), Failed)


def test_it_never_gives_up_and_never_hammers() -> None:
    registration = machine()
    effects, now, waits = registration.start(0.0), 0.0, []
    for _ in range(40):
        assert isinstance(only(effects), SendRegister)
        failed = only(registration.response(answer(408), now))
        assert isinstance(failed, Failed)
        waits.append(failed.retry_at - now)
        now = failed.retry_at
        effects = registration.handle_timeout(now)
    assert 2.5 <= waits[0] <= 5.0
    assert all(LONGEST_RETRY / 2 <= wait <= LONGEST_RETRY for wait in waits[10:])
    assert len(set(waits)) == 40                    # jitter: many trunks do not come back at one moment


def test_retry_after_is_obeyed_within_reason() -> None:
    for header, least, most in [("120 (busy);duration=5", 120, 120), ("999999999", 3600, 3600), ("soon", 2.5, 5)]:
        registration = machine()
        registration.start(0.0)
        failed = only(registration.response(answer(503, ("Retry-After", header)), 0.0))
        assert isinstance(failed, Failed)
        assert least <= failed.retry_at <= most


@pytest.mark.parametrize(
    ("status", "still"), [(408, True), (500, True), (503, True), (403, False), (404, False), (603, False)]
)
def test_a_failed_refresh_leaves_the_registration_unless_it_is_refused(status: int, still: bool) -> None:
    registration = in_state(State.REGISTERED)
    registration.handle_timeout(registration.next_timeout or 0.0)
    failed = only(registration.response(answer(status), 560.0))
    assert isinstance(failed, Failed)
    assert failed.still_registered is still


def test_it_unregisters_on_stop() -> None:
    registration = in_state(State.REGISTERED)
    last = only(registration.stop(1.0))
    assert isinstance(last, SendRegister)
    assert (last.expires, dict(last.headers)["Expires"]) == (0, "0")
    assert isinstance(only(registration.response(challenge(), 1.0)), SendRegister)
    assert registration.response(answer(200), 1.1) == [Unregistered()]
    assert registration.state is State.IDLE


def test_a_stop_during_a_register_waits_for_its_answer_and_takes_it_back() -> None:
    registration = in_state(State.REGISTERING)
    assert registration.stop(0.5) == []
    last = only(registration.response(OK, 0.6))
    assert isinstance(last, SendRegister)
    assert last.expires == 0
    assert registration.response(answer(200), 1.0) == [Unregistered()]


@pytest.mark.parametrize("state", [State.IDLE, State.WAITING])
def test_where_nothing_is_bound_stop_is_over_at_once(state: State) -> None:
    registration = in_state(state)
    assert registration.stop(1.0) == [Unregistered()]
    assert (registration.state, registration.next_timeout) == (State.IDLE, None)


@pytest.mark.parametrize("state", [State.IDLE, State.REGISTERED, State.WAITING])
@pytest.mark.parametrize("response", [OK, answer(401), answer(503), answer(302)], ids=lambda r: str(r.status))
def test_an_answer_that_nobody_waits_for_is_dropped(state: State, response: Response) -> None:
    registration = in_state(state)
    before = registration.next_timeout
    assert registration.response(response, 1.0) == []
    assert (registration.state, registration.next_timeout) == (state, before)


@pytest.mark.parametrize("state", [state for state in State if state is not State.IDLE])
def test_a_second_start_does_nothing(state: State) -> None:
    assert in_state(state).start(1.0) == []


@pytest.mark.parametrize("state", [State.IDLE, State.REGISTERING, State.UNREGISTERING])
def test_where_an_answer_is_awaited_no_timer_runs(state: State) -> None:
    registration = in_state(state)
    assert registration.next_timeout is None
    assert registration.handle_timeout(1e9) == []
