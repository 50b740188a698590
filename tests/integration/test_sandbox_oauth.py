"""Who may ask the stand-in amoCRM: OAuth 2.0 whole, moved accounts, users who left, widget tokens, order of checks."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from html import unescape
from re import findall

import httpx
import jwt
import pytest

from b2bua.sandbox import SandboxSeed, SeedAccount, SeedIntegration, SeedUser, preset
from b2bua.sandbox.disposable import TokenKind, mint
from b2bua.sandbox.switches import Consent
from tests.support.sandbox import NOW, CrmUser, crm_user, refusal

OURS = SeedIntegration(code="once")
SEED = SandboxSeed((
    SeedAccount(
        users=(SeedUser(77, "Анна", is_admin=True), SeedUser(78, "Борис"), SeedUser(79, "Вера", is_active=False)),
        integrations=(OURS, SeedIntegration("plain", token="plain-token", user=78)),
    ),
    SeedAccount(31_000_002, "beta", "Бета", integrations=(SeedIntegration("beta", token="beta-token"),)),
))
CLIENT = {"client_id": OURS.client_id, "client_secret": OURS.client_secret, "redirect_uri": OURS.redirect_uri}
CODE = {**CLIENT, "grant_type": "authorization_code", "code": "once"}
ENDPOINT = "/oauth2/access_token"


@pytest.fixture
def crm() -> AbstractAsyncContextManager[CrmUser]:
    return crm_user(SEED)


def refresh_of(pair: httpx.Response) -> dict[str, str]:
    assert pair.status_code == 200, pair.text
    assert pair.headers["content-type"] == "application/json"
    return {**CLIENT, "grant_type": "refresh_token", "refresh_token": pair.json()["refresh_token"]}


async def opens(crm: CrmUser, pair: httpx.Response) -> bool:
    token = pair.json()["access_token"]
    return (await crm.get("/api/v4/account", Authorization=f"Bearer {token}")).status_code == 200


async def consent(crm: CrmUser, decision: Consent, **more: str) -> httpx.URL:
    crm.state.switches.consent = decision
    query = {"client_id": OURS.client_id, "state": "s 1", **more}
    answer = await crm.http.get("http://www.amocrm.test/oauth", params=query)
    assert answer.status_code == 302
    return httpx.URL(answer.headers["location"])


async def test_consent_gives_a_code_for_the_account_that_is_named(crm: CrmUser) -> None:
    back = await consent(crm, Consent.GRANT)
    assert str(back).startswith(OURS.redirect_uri)
    assert {**back.params, "code": ""} == {
        "code": "", "referer": "acme.amocrm.test", "state": "s 1", "platform": "1",
    }
    assert await opens(crm, await crm.post(ENDPOINT, {**CODE, "code": back.params["code"]}))
    beta = await consent(crm, Consent.GRANT, account="beta")
    assert beta.params["referer"] == "beta.amocrm.test"
    refusal(await crm.post(ENDPOINT, {**CODE, "code": beta.params["code"]}))           # not on acme's host
    there = f"http://beta.amocrm.test{ENDPOINT}"
    pair = await crm.post(there, {**CODE, "code": beta.params["code"]})
    assert jwt.decode(pair.json()["access_token"], options={"verify_signature": False})["account_id"] == 31_000_002


async def test_consent_may_be_refused(crm: CrmUser) -> None:
    assert dict((await consent(crm, Consent.DENY)).params) == {"error": "access_denied", "state": "s 1"}
    wrong = await crm.http.get("http://www.amocrm.test/oauth?client_id=nobody")
    refusal(wrong)
    refusal(await crm.http.get("http://www.amocrm.test/oauth", params={"client_id": OURS.client_id, "account": "x"}))
    refusal(await crm.get(f"/oauth?client_id={OURS.client_id}"), 404)      # never on an account's host


async def test_a_person_may_click_the_consent(crm: CrmUser) -> None:
    page = await crm.http.get("http://www.amocrm.test/oauth", params={"client_id": OURS.client_id, "state": '"><b>'})
    assert "<b>" not in page.text
    grant, deny = (unescape(link) for link in findall('href="([^"]*)"', page.text))
    answers = [await crm.http.get(f"http://www.amocrm.test{link}") for link in (grant, deny)]
    assert ["code=" in answer.headers["location"] for answer in answers] == [True, False]
    assert all(httpx.URL(answer.headers["location"]).params["state"] == '"><b>' for answer in answers)


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("as_form", [False, True])
async def test_a_code_is_good_once_and_for_twenty_minutes(crm: CrmUser, slash: str, as_form: bool) -> None:
    async def ask(**fields: str) -> httpx.Response:
        body = {**CODE, **fields}
        path = ENDPOINT + slash
        return await (crm.http.post(path, data=body) if as_form else crm.http.post(path, json=body))

    for wrong in ({"client_id": "x"}, {"client_secret": "x"}, {"redirect_uri": OURS.redirect_uri + "/"},
                  {"code": "x"}, {"grant_type": "password"}):
        problem = refusal(await ask(**wrong))
        assert problem["type"].endswith("OAuthProblemJson")
        assert problem["hint"]
    crm.state.clock.advance(20 * 60 - 1)
    pair = await ask()                                     # none of the mistakes has used it up
    assert (pair.json()["token_type"], pair.json()["expires_in"]) == ("Bearer", 86_400)
    assert pair.json()["server_time"] == int(NOW) + 20 * 60 - 1
    refusal(await ask())
    crm.state.switches.wrong_client_status = 401
    refusal(await ask(client_secret="x"), 401)
    late = crm.state.tokens.issue_code(crm.state.grant(crm.account, OURS.client_id), crm.state.clock.now())
    crm.state.clock.advance(20 * 60)
    refusal(await ask(code=late))


async def test_the_token_endpoint_wants_json_or_a_form(crm: CrmUser) -> None:
    refusal(await crm.http.post(ENDPOINT, content=b"{}"))
    refusal(await crm.http.post(ENDPOINT, content=b"{", headers={"Content-Type": "application/json"}))
    refusal(await crm.post(ENDPOINT, ["x"]))
    refusal(await crm.get(ENDPOINT), 405)


async def test_refreshing_rotates_the_pair_and_kills_the_old_one(crm: CrmUser) -> None:
    first = await crm.post(ENDPOINT, CODE)
    second = await crm.post(ENDPOINT, refresh_of(first))
    assert (await opens(crm, first), await opens(crm, second)) == (False, True)
    again = refusal(await crm.post(ENDPOINT, refresh_of(first)), 401)
    assert again["hint"] == "Token has been revoked"
    assert await opens(crm, second)                        # a second use of an old one does no more harm
    crm.state.clock.advance(24 * 3_600)
    assert not await opens(crm, second)
    crm.state.clock.advance(89 * 24 * 3_600 - 1)
    third = await crm.post(ENDPOINT, refresh_of(second))   # in the last second of its three months
    crm.state.clock.advance(90 * 24 * 3_600)
    refusal(await crm.post(ENDPOINT, refresh_of(third)), 401)
    access = {**CLIENT, "grant_type": "refresh_token", "refresh_token": third.json()["access_token"]}
    refusal(await crm.post(ENDPOINT, access), 401)


async def test_a_refresh_whose_answer_is_lost_has_killed_the_old_pair(crm: CrmUser) -> None:
    first = await crm.post(ENDPOINT, CODE)
    crm.state.faults.add(preset("reset-after-commit", "/oauth2/*", times=1))
    with pytest.raises(httpx.ReadError):
        await crm.post(ENDPOINT, refresh_of(first))
    assert not await opens(crm, first)
    refusal(await crm.post(ENDPOINT, refresh_of(first)), 401)
    assert len(crm.state.journal.of("POST", ENDPOINT)) == 3


async def test_the_clock_may_jump_back(crm: CrmUser) -> None:
    pair = await crm.post(ENDPOINT, CODE)
    for jump in (-3_600.0, 7_200.0):
        crm.state.clock.advance(jump)
        assert await opens(crm, pair)
    crm.state.clock.set(NOW + 86_400)
    assert not await opens(crm, pair)


async def test_a_long_lived_token_is_a_jwt_that_ends(crm: CrmUser) -> None:
    token = crm.state.tokens.issue_long_lived(crm.state.grant(crm.account, OURS.client_id), NOW, 86_400)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["exp"], claims["sub"], claims["aud"]) == (int(NOW) + 86_400, "77", OURS.client_id)
    headers = {"Authorization": f"Bearer {token}"}
    assert (await crm.get("/api/v4/account", **headers)).status_code == 200
    crm.state.clock.advance(86_400)
    refusal(await crm.get("/api/v4/account", **headers), 401)


async def test_a_moved_account_is_found_at_the_apis_own_host(crm: CrmUser) -> None:
    pair = (await crm.post(ENDPOINT, CODE)).json()
    claims = jwt.decode(pair["access_token"], options={"verify_signature": False})
    where = f"http://{claims['api_domain']}/oauth2/account/current/subdomain"
    crm.state.rename("acme", "acme2")
    for status in (401, 404):
        crm.state.switches.old_host_status = status
        for path in ("/api/v4/account", "/api/v4/nowhere"):
            refusal(await crm.get(path), status)
        refusal(await crm.post(ENDPOINT, {**CODE, "refresh_token": pair["refresh_token"]}), status)
    headers = {"X-Refresh-Token": pair["refresh_token"]}
    found = (await crm.get(where, **headers)).json()
    assert found == {
        "id": 31_000_001, "subdomain": "acme2", "domain": "acme2.amocrm.test", "top_level_domain": "test",
    }
    assert (await crm.http.get(f"http://{found['domain']}/api/v4/account")).json()["subdomain"] == "acme2"
    refresh = {**CLIENT, "grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    assert (await crm.http.post(f"http://{found['domain']}{ENDPOINT}", json=refresh)).status_code == 200
    dead = refusal(await crm.get(where, **headers), 401)
    assert dead["hint"] == "Token has been revoked"
    refusal(await crm.get(where), 401)
    refusal(await crm.http.get("http://acme2.amocrm.test/oauth2/account/current/subdomain", headers=headers), 404)
    refusal(await crm.http.get("http://nobody.amocrm.test/api/v4/account"), 401)
    refusal(await crm.http.get("http://www.amocrm.test/api/v4/account"), 401)


async def test_an_administrators_token_outlives_its_user_and_others_do_not(crm: CrmUser) -> None:
    plain = {"Authorization": "Bearer plain-token"}
    assert (await crm.get("/api/v4/account", **plain)).json()["current_user_id"] == 78
    crm.account.users[78].is_active = False
    refusal(await crm.get("/api/v4/account", **plain), 401)
    del crm.account.users[78]
    refusal(await crm.get("/api/v4/account", **plain), 401)
    del crm.account.users[77]
    assert (await crm.get("/api/v4/users")).status_code == 200
    refusal(await crm.post("/api/v4/contacts", [{"responsible_user_id": 78}]))


@pytest.mark.parametrize(("token", "user", "status"), [
    ("sandbox-token", "78", 200), ("sandbox-token", "79", 401), ("sandbox-token", "5", 401),
    ("sandbox-token", "x", 401), ("plain-token", "77", 401), ("plain-token", "78", 401),
])
async def test_acting_for_another_user(crm: CrmUser, token: str, user: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {token}", "X-Context-User-ID": user}
    answer = await crm.get("/api/v4/account", **headers)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["current_user_id"] == int(user)
        refusal(await crm.get("/api/v4/users", **headers), 403)            # with that user's rights


async def test_the_order_of_the_checks(crm: CrmUser) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    crm.state.switches.is_paid, crm.state.switches.per_second = False, 2
    refusal(await crm.get("/api/v4/nowhere", **wrong), 401)
    refusal(await crm.get("/api/v4/account", Authorization="Basic sandbox-token"), 401)
    for _ in range(3):
        refusal(await crm.get("/api/v4/nowhere"), 402)     # is not counted yet
    crm.state.switches.is_paid = True
    answers = [(await crm.get("/api/v4/nowhere")).status_code for _ in range(3)]
    assert answers == [404, 404, 429]
    refusal(await crm.get("/api/v4/nowhere", **wrong), 401)


@pytest.mark.parametrize("kind", TokenKind)
async def test_widget_tokens_right_and_wrong(crm: CrmUser, kind: TokenKind) -> None:
    answer = await crm.http.post("/_fake/widget-token", json={"user": 78, "kind": kind.value})
    token = answer.json()["token"]
    now = crm.state.clock.now()

    def is_good() -> bool:
        """As a careful server would look at it, by the sandbox's clock."""
        try:
            claims = jwt.decode(
                token, OURS.client_secret, algorithms=["HS256"], audience="https://pbx.example.org",
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError:
            return False
        known = (claims["account_id"], claims["client_uuid"], claims["iss"])
        return claims["nbf"] <= now < claims["exp"] and known == (
            crm.account.id, OURS.client_id, "https://acme.amocrm.test"
        )

    assert is_good() == (kind is TokenKind.RIGHT)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["user_id"], claims["is_admin"], claims["exp"] - claims["iat"]) == (78, False, 1_800)


async def test_each_widget_token_is_another_one(crm: CrmUser) -> None:
    assert mint(crm.account, OURS, 77, NOW) != mint(crm.account, OURS, 77, NOW)


async def test_a_browsers_cookie_has_its_users_rights(crm: CrmUser) -> None:
    opened = await crm.http.post("/_fake/session", json={"user": 78})
    headers = {"Cookie": opened.json()["cookie"]}
    async with httpx.AsyncClient(transport=crm.sandbox.transport, base_url=crm.sandbox.base_url) as browser:
        assert (await browser.get("/api/v4/account", headers=headers)).json()["current_user_id"] == 78
        refusal(await browser.get("/api/v4/users", headers=headers), 403)
        refusal(await browser.get("/api/v4/account"), 401)
        refusal(await browser.get("/api/v4/account", headers={"Cookie": "session_id=plain"}), 401)
