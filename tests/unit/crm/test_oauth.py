"""amoCRM's token endpoint: what each answer and each failure means, and who may hear our secrets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import jwt
import pytest

from b2bua.cdr import ClientId
from b2bua.crm.amocrm import oauth
from b2bua.crm.amocrm.access import claims_of, expiry_of
from b2bua.crm.amocrm.connections import client_of, consent_link
from b2bua.crm.amocrm.oauth import (
    Answer,
    Granted,
    Integration,
    Lost,
    NotNow,
    Refused,
    TokenEndpoint,
    consent_url,
    is_trusted,
    url_of,
)
from b2bua.crm.amocrm.status import SOON, status_of
from b2bua.directory import CrmAccount
from b2bua.sealing import Sealer
from b2bua.store.tokens import Connection, ConnectionState, TokenPair

ACME = ClientId("acme")
BASE = "https://acme.amocrm.ru"
INTEGRATION = Integration(ACME, BASE, "5b0c", "of-the-integration", "https://pbx.example.org/amocrm/oauth")
SEALER = Sealer(["a key of the tests, which is long enough"])
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ACCESS = jwt.encode({"account_id": 101, "api_domain": "api-a.amocrm.ru", "exp": 1_800_000_000}, "k" * 32)
PAIR = {"token_type": "Bearer", "expires_in": 86_400, "access_token": ACCESS, "refresh_token": "def502"}

Handler = Callable[[httpx.Request], httpx.Response]


async def asked(handler: Handler, what: str = "refresh") -> Answer:
    async with TokenEndpoint(httpx.MockTransport(handler)) as endpoint:
        return await getattr(endpoint, what)(BASE, INTEGRATION, "what-is-given")     # type: ignore[no-any-return]


async def test_a_refresh_says_who_we_are_and_brings_a_pair() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=PAIR)

    assert await asked(answer) == Granted(ACCESS, "def502", 86_400.0, 101, "api-a.amocrm.ru")
    assert isinstance(await asked(answer, "exchange"), Granted)
    assert [str(request.url) for request in requests] == [f"{BASE}/oauth2/access_token"] * 2
    common = {"client_id": "5b0c", "client_secret": "of-the-integration",
              "redirect_uri": "https://pbx.example.org/amocrm/oauth"}
    assert json.loads(requests[0].content) == {
        **common, "grant_type": "refresh_token", "refresh_token": "what-is-given"}
    assert json.loads(requests[1].content) == {**common, "grant_type": "authorization_code", "code": "what-is-given"}
    assert requests[0].headers["user-agent"].startswith("Smartswitch/")


HINT = '{"hint": "Token has been revoked", "status": 401}'


@pytest.mark.parametrize(("status", "body", "kind"), [
    (400, "{}", Refused), (401, HINT, Refused), (404, "<html>", Refused), (302, "", Refused),
    (402, "{}", NotNow), (403, "<html>blocked</html>", NotNow), (429, "Too many requests", NotNow),
    (408, "", Lost), (500, "{}", Lost), (502, "<html>", Lost), (504, "", Lost),
    (200, "", Lost), (200, "not JSON", Lost), (200, "[]", Lost), (200, "\ufeff" + json.dumps(PAIR), Granted),
    (200, json.dumps({**PAIR, "refresh_token": ""}), Lost), (200, json.dumps({**PAIR, "access_token": 7}), Lost),
    (200, json.dumps({**PAIR, "access_token": "x" * 20_000}), Lost), (200, "[" * 70_000, Lost),
    (200, json.dumps({**PAIR, "access_token": "no JWT"}), Granted),
])
async def test_every_answer_says_whether_the_token_is_spent(status: int, body: str, kind: type) -> None:
    assert type(await asked(lambda _: httpx.Response(status, content=body.encode()))) is kind


@pytest.mark.parametrize(("error", "kind"), [
    (httpx.ConnectError("refused"), NotNow), (httpx.ConnectTimeout("slow"), NotNow),
    (httpx.PoolTimeout("full"), NotNow),
    (httpx.ReadTimeout("slow"), Lost), (httpx.RemoteProtocolError("cut"), Lost), (httpx.WriteError("reset"), Lost),
])
async def test_what_was_never_sent_is_not_spent(error: Exception, kind: type) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error
    assert type(await asked(fail)) is kind


async def test_an_answer_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "EXCHANGE_SECONDS", 0.02)

    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with TokenEndpoint(httpx.MockTransport(never)) as endpoint:
        assert type(await endpoint.refresh(BASE, INTEGRATION, "token")) is Lost


@pytest.mark.parametrize(("seconds", "believed"), [
    (86_400, 86_400.0), (1, 300.0), (10**12, 30 * 86_400.0), ("x", 300.0),
])
async def test_the_life_of_a_token_is_believed_within_reason(seconds: object, believed: float) -> None:
    granted = await asked(lambda _: httpx.Response(200, json={**PAIR, "expires_in": seconds}))
    assert isinstance(granted, Granted)
    assert granted.seconds == believed


@pytest.mark.parametrize(("api_domain", "answer", "found"), [
    ("api-a.amocrm.ru", {"domain": "acme2.amocrm.ru"}, "https://acme2.amocrm.ru"),
    ("api-a.amocrm.ru", {"domain": "acme2.kommo.com"}, "https://acme2.kommo.com"),
    ("api-a.amocrm.ru", {"domain": "evil.example.org"}, None),
    ("api-a.amocrm.ru", {"domain": "amocrm.ru.evil.org"}, None),
    ("api-a.amocrm.ru", {"domain": "evil.org/.amocrm.ru"}, None),
    ("api-a.amocrm.ru", [], None),
    ("evil.example.org", {"domain": "acme2.amocrm.ru"}, None),
])
async def test_a_moved_account_is_found_only_at_the_vendor_s(
    api_domain: str, answer: object, found: str | None
) -> None:
    told: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        told.append(request.url.host)
        assert request.headers["x-refresh-token"] == "token"
        return httpx.Response(200, json=answer)

    async with TokenEndpoint(httpx.MockTransport(handler)) as endpoint:
        assert await endpoint.whereabouts(api_domain, "token", BASE) == found
    assert told == ([] if "evil" in api_domain else [api_domain])


@pytest.mark.parametrize(("host", "known", "trusted"), [
    ("acme.amocrm.ru", BASE, True), ("other.amocrm.com", BASE, True), ("x.kommo.com", BASE, True),
    ("amocrm.ru", BASE, False), ("acme.amocrm.ru.evil.org", BASE, False), ("evil-amocrm.ru", BASE, False),
    ("acme.amocrm.ru:8443", BASE, False), ("user@acme.amocrm.ru", BASE, False), ("127.0.0.1:80", BASE, False),
    ("", BASE, False), ("acme.amocrm.ru\n", BASE, False), ("[::1", BASE, False),
    ("crm.example.org", "https://crm.example.org", True), ("api.example.org", "https://crm.example.org", True),
    ("evil.org", "https://crm.example.org", False), ("x.crm.example", "https://crm.example", False),
    ("1.0.2.9", "https://192.0.2.1", False), ("x.0.2.1", "https://192.0.2.1", False),
    ("127.0.0.1:8088", "http://127.0.0.1:8088", True), ("localhost:9", "http://127.0.0.1:8088", True),
    ("192.0.2.1", "http://127.0.0.1:8088", False), ("127.0.0.1@evil.org", "http://127.0.0.1:8088", False),
])
def test_only_hosts_of_the_vendor_hear_our_secrets(host: str, known: str, trusted: bool) -> None:
    assert is_trusted(host, known) is trusted


def test_addresses_of_accounts_and_of_consent() -> None:
    assert url_of("acme2.amocrm.ru", BASE) == "https://acme2.amocrm.ru"
    assert url_of("127.0.0.1:9", "http://127.0.0.1:8088") == "http://127.0.0.1:9"
    assert url_of("acme.amocrm.ru", "http://127.0.0.1:8088") == "https://acme.amocrm.ru"
    assert consent_url(BASE) == "https://www.amocrm.ru/oauth"
    assert consent_url("https://acme.kommo.com") == "https://www.kommo.com/oauth"
    assert consent_url("http://127.0.0.1:8088") == "http://127.0.0.1:8088/oauth"


def test_a_link_of_consent_names_its_client_for_an_hour() -> None:
    state = httpx.URL(consent_link(INTEGRATION, SEALER, NOW)).params["state"]
    assert client_of(state, SEALER, NOW + timedelta(minutes=59)) == ACME
    assert client_of(state, SEALER, NOW + timedelta(minutes=61)) is None
    assert client_of(state, Sealer(["another key, which is long enough too"]), NOW) is None
    for forged in ("", '["acme", 9999999999]', state[:-4], SEALER.seal('["acme", 9999999999]', "something else"),
                   SEALER.seal("[", "link of consent"), SEALER.seal("[1]", "link of consent")):
        assert client_of(forged, SEALER, NOW) is None


def test_a_token_tells_of_itself_or_nothing() -> None:
    assert claims_of(ACCESS)["account_id"] == 101
    assert expiry_of(ACCESS) == datetime.fromtimestamp(1_800_000_000, UTC)
    for other in ("", "opaque", "a.b.c", jwt.encode({"exp": 10**30}, "k" * 32), jwt.encode({}, "k" * 32)):
        assert expiry_of(other) is None


def test_a_long_lived_token_raises_its_alarm_two_weeks_ahead() -> None:
    def status(left: timedelta) -> tuple[str, bool]:
        token = jwt.encode({"exp": int((NOW + left).timestamp())}, "k" * 32)
        found = status_of(ACME, CrmAccount(BASE, token), None, NOW)
        return found.state, bool(found.alarm)

    assert status(SOON + timedelta(hours=1)) == ("connected", False)
    assert status(SOON - timedelta(hours=1)) == ("connected", True)
    assert status(-timedelta(hours=1)) == ("expired", True)
    assert not status_of(ACME, CrmAccount(BASE, "opaque"), None, NOW).alarm


@pytest.mark.parametrize(("state", "left", "alarm"), [
    (ConnectionState.CONNECTED, timedelta(days=60), ""),
    (ConnectionState.CONNECTED, timedelta(days=13), "have not been renewed for long"),
    (ConnectionState.UNCERTAIN, timedelta(days=89), "wait for a success or authorise it again"),
    (ConnectionState.REFUSED, timedelta(days=89), "authorise it again: smartswitch crm link --client acme"),
    (ConnectionState.DISCONNECTED, timedelta(days=89), "authorise it again"),
])
def test_each_state_of_a_connection_says_what_to_do(state: ConnectionState, left: timedelta, alarm: str) -> None:
    account = CrmAccount(BASE, client_id="5b0c", client_secret="secret")
    pair = TokenPair("access", "refresh", NOW, NOW, NOW + left)
    saved = Connection(ACME, "5b0c", BASE, BASE, 101, None, pair, NOW, state=state, problem="why" if alarm else "")
    found = status_of(ACME, account, saved, NOW)
    assert (alarm in found.alarm) if alarm else not found.alarm
    assert "refresh" not in repr(found)
    assert status_of(ACME, account, None, NOW).state == "not connected"
    assert status_of(ACME, CrmAccount(BASE, client_id="other", client_secret="s"), saved, NOW).state == "not connected"
    assert status_of(ACME, CrmAccount(BASE), None, NOW).state == "locked"
