"""The widget's API on a real socket: every code of docs/widget-api.md, and that nobody reaches what is another's."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from b2bua.cdr import CallId, Direction
from b2bua.control import ClickOutcome, ClickStage, Draining, TooManyClicks, TrunkState
from b2bua.crm.port import Contact, EntityKind
from b2bua.crm.users import MOST_USERS, CrmUser
from b2bua.sandbox.disposable import TokenKind
from b2bua.store.engine import StoreUnavailable
from b2bua.store.widget_settings import WidgetSettingsRows
from tests.support.web_site import live_call
from tests.support.widget_site import (
    ACME,
    ANNA,
    BEN,
    BETA,
    CARL,
    FUNCTIONS,
    NEW,
    PASSWORD,
    WidgetSite,
    account_of,
    integration_of,
    open_widget_site,
    problem_of,
)
from web import lockout
from web.lockout import FREE_FAILURES
from web.widget import cards, door, waiters
from web.widget.openapi import OPERATIONS
from web.widget.problems import LANGUAGES, STATUS, WORDS
from web.widget.settings import CROWD_FAILURES

LONG = 600                             # seconds of waiting that no test sees the end of

CONTRACT = Path(__file__).parents[2] / "docs" / "widget-api.md"
ORIGIN = "https://acme.amocrm.test"


@pytest.fixture
def site(tmp_path: Path) -> AbstractAsyncContextManager[WidgetSite]:
    return open_widget_site(tmp_path)


# -- who asks


@pytest.mark.parametrize(("kind", "code"), [
    (TokenKind.OTHER_SECRET, "token_invalid"), (TokenKind.UNSIGNED, "token_invalid"),
    (TokenKind.HS512, "token_invalid"), (TokenKind.EXPIRED, "token_expired"), (TokenKind.NOT_YET, "token_invalid"),
    (TokenKind.OTHER_AUDIENCE, "token_invalid"), (TokenKind.OTHER_ACCOUNT, "token_invalid"),
    (TokenKind.OTHER_CLIENT, "token_invalid"), (TokenKind.OTHER_HOST, "token_elsewhere")])
async def test_a_wrong_token_opens_nothing(site: WidgetSite, kind: TokenKind, code: str) -> None:
    for method, path in ROUTES:
        answer = await site.ask(method, path.format(id="c-1"), token=site.token(kind=kind))
        assert problem_of(answer) == (401, code)
        assert answer.json()["remedy"]
    assert site.control.asked == []


async def test_what_is_no_token_at_all_opens_nothing_either(site: WidgetSite) -> None:
    right = site.token().split(".")
    for token in ("x", "a.b.c", ".".join([right[0], right[1], ""]), "A" * 5_000, ".".join(right) + "x",
                  jwt.encode({"client_uuid": [1]}, "k" * 32), jwt.encode({}, "k" * 32)):
        assert problem_of(await site.ask("GET", "calls", token=token)) == (401, "token_invalid")
    assert problem_of(await site.ask("GET", "calls", token="")) == (401, "token_missing")


@pytest.mark.parametrize("claims", [
    {"user_id": "77"}, {"user_id": True}, {"user_id": 0}, {"user_id": 2**63}, {"account_id": None}, {"iss": "7"},
    {"iss": "https://acme.amocrm.test.evil.example"}, {"exp": "soon"}, {"exp": None}, {"nbf": None}, {"aud": []},
    {"iss": "https://beta.amocrm.test"}])
async def test_a_signed_token_that_says_what_it_may_not_opens_nothing(site: WidgetSite, claims: dict[str, Any]) -> None:
    ours = integration_of(ACME)
    said = jwt.decode(site.token(), options={"verify_signature": False}) | claims
    token = jwt.encode(said, ours.client_secret, "HS256")
    assert problem_of(await site.ask("GET", "settings", token=token))[0] == 401


async def test_clocks_may_differ_by_a_minute_and_a_token_serves_many_times(site: WidgetSite) -> None:
    old, ahead = site.token(age=1_830), site.token(age=-30)
    for token in (old, old, ahead):
        assert (await site.ask("GET", "calls", token=token)).status_code == 200
    assert problem_of(await site.ask("GET", "calls", token=site.token(age=1_900))) == (401, "token_expired")
    assert problem_of(await site.ask("GET", "calls", token=site.token(age=-100))) == (401, "token_invalid")


async def test_a_token_is_good_on_the_pages_of_its_account_alone(site: WidgetSite) -> None:
    there = await site.ask("GET", "calls", headers={"Origin": "https://beta.amocrm.test"})
    assert problem_of(there) == (401, "token_invalid")
    assert (await site.ask("GET", "calls", headers={"Origin": ORIGIN})).status_code == 200


# -- what belongs to whom

ROUTES = (("POST", "check"), ("GET", "settings"), ("POST", "settings"), ("GET", "calls"), ("POST", "calls"),
          ("GET", "calls/{id}"), ("DELETE", "calls/{id}"))


async def test_no_call_is_reached_by_anybody_but_its_employee(site: WidgetSite) -> None:
    mine = (await site.click()).json()["id"]
    site.control.calls.append(live_call("live-1"))               # rings at 101 of Acme
    for stranger in (site.token(user=BEN), site.token(BETA), site.token(BETA, BEN)):
        for call in (mine, "live-1"):
            for method in ("GET", "DELETE"):
                answer = await site.ask(method, f"calls/{call}", token=stranger)
                assert problem_of(answer) == (404, "no_such_call")
        assert (await site.ask("GET", "calls", token=stranger)).json() == {"version": "none", "calls": []}
    assert site.control.hung_up == []
    for call in (mine, "live-1"):
        assert (await site.ask("GET", f"calls/{call}")).status_code == 200


async def test_no_other_extension_rings_than_that_of_the_token(site: WidgetSite) -> None:
    for wrong in ("102", "999", "101 "):
        assert problem_of(await site.click(extension=wrong)) == (403, "extension_mismatch")
    assert problem_of(await site.click(token=site.token(user=CARL))) == (403, "no_extension")
    assert problem_of(await site.click(token=site.token(NEW))) == (404, "not_connected")
    for unknown in ({"user": 78}, {"client": "beta"}, {"account_id": 102}):
        assert problem_of(await site.click(**unknown)) == (422, "invalid")
    assert site.control.asked == []
    await site.click(token=site.token(BETA, BEN), extension="102")
    assert site.control.asked == [(BETA, "102", "+7 (495) 123-45-67")]


async def test_one_clients_administrator_saves_nothing_of_anothers(site: WidgetSite) -> None:
    before = await site.store.directory.load()
    for token, status in ((site.token(BETA), (401, "password_needed")), (site.token(NEW), (401, "password_needed"))):
        assert problem_of(await site.save(token=token)) == status
        # The password is right, and the account is not Acme's.
        assert problem_of(await site.save(token=token, password=PASSWORD)) == (404, "not_connected")
        assert problem_of(await site.ask("POST", "check", {"login": "acme"}, token=token)) == status
    assert await site.store.directory.load() == before


# -- calls


async def test_a_click_rings_the_phone_and_its_steps_are_told(site: WidgetSite) -> None:
    clicked = await site.click(extension="101", entity={"type": "companies", "id": 5})
    assert clicked.status_code == 202
    call = clicked.json()
    assert call == {"id": "c-1", "version": 1, "direction": "outbound", "state": "ringing_you", "outcome": None,
                    "why": None, "number": "+7 (495) 123-45-67", "contact": None, "deal": None,
                    "talk_seconds": None, "may_hang_up": True}
    waiting = asyncio.ensure_future(site.ask("GET", "calls/c-1", after="1"))  # noqa: TID251 - awaited below
    await _until_one_waits(site)
    await site.control.click_becomes(CallId("c-1"), stage=ClickStage.TALKING, contact="Иван", talk_seconds=0)
    talking = (await waiting).json()
    assert (talking["state"], talking["version"], talking["contact"]) == (
        "talking", 2, {"type": "companies", "id": 5, "name": "Иван"})
    assert (await site.ask("GET", "calls/c-1", after="1")).json() == talking           # at once
    ended = await site.ask("DELETE", "calls/c-1")
    assert (ended.json()["state"], ended.json()["outcome"], ended.json()["may_hang_up"]) == ("ended", "talked", False)
    again = await site.ask("DELETE", "calls/c-1")
    assert (again.status_code, again.json()) == (200, ended.json())
    assert site.control.hung_up == ["c-1"]
    assert (await site.ask("GET", "calls/c-1", after="3")).json() == ended.json()      # nothing comes after


async def _until_one_waits(site: WidgetSite) -> None:
    await asyncio.wait_for(site.control.watched.wait(), 10)


async def test_a_double_click_is_one_call(site: WidgetSite) -> None:
    request = str(uuid4())
    answers = await asyncio.gather(*[site.click(request=request) for _ in range(5)])
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [202]
    assert {answer.json()["id"] for answer in answers} == {"c-1"}
    assert problem_of(await site.click()) == (409, "already_calling")
    other = await site.click(request=request, token=site.token(user=BEN))     # somebody else's click
    assert (other.status_code, other.json()["id"]) == (202, "c-2")


async def test_a_click_that_somebody_before_us_may_have_called_is_not_called_again(site: WidgetSite) -> None:
    """Its answer was lost with the server, or its browser has slept; the page repeats it, and says how old it is."""
    lost = await site.click(age=5)                               # we are here for less
    assert problem_of(lost) == (409, "click_too_late")
    assert lost.json()["remedy"]
    request = str(uuid4())
    assert (await site.click(request=request, age=0)).status_code == 202
    for age in (5, 3_600):
        assert (await site.click(request=request, age=age)).json()["id"] == "c-1"      # that one is known
    assert problem_of(await site.click(age=-1)) == (422, "invalid")
    assert len(site.control.asked) == 1


@pytest.mark.parametrize(("raised", "expected"), [
    (ValueError("no number"), (422, "invalid_number")), (Draining(), (503, "unavailable")),
    (TooManyClicks(), (429, "too_many")), (LookupError("gone"), (403, "no_extension"))])
async def test_what_the_switch_refuses_is_told(site: WidgetSite, raised: Exception, expected: tuple[int, str]) -> None:
    site.control.refuses = raised
    answer = await site.click("call me")
    assert problem_of(answer) == expected
    assert ("retry-after" in answer.headers) == (expected[0] in (429, 503))


@pytest.mark.parametrize("outcome", list(ClickOutcome))
async def test_every_outcome_is_one_of_the_contracts(site: WidgetSite, outcome: ClickOutcome) -> None:
    await site.click()
    await site.control.click_becomes(CallId("c-1"), stage=ClickStage.ENDED, outcome=outcome, why="No audio came.")
    told = (await site.ask("GET", "calls/c-1")).json()
    assert (told["state"], told["outcome"], told["why"]) == ("ended", outcome.value, "No audio came.")
    assert f"`{outcome.value}`" in CONTRACT.read_text("utf-8")


async def test_the_live_card_shows_who_calls_and_how_it_ended(
        site: WidgetSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "EVERY", 0.0)
    ringing = live_call("live-1", state="ringing", answered_at=None)
    site.control.calls = [ringing, live_call("live-2", extension="102"), live_call("live-3", client=BETA),
                          live_call("live-4", direction=Direction.INTERNAL)]
    first = (await site.ask("GET", "calls")).json()
    (call,) = first["calls"]
    assert (call["id"], call["state"], call["direction"], call["number"], call["may_hang_up"]) == (
        "live-1", "ringing_you", "inbound", "+79161234567", False)
    assert call["contact"] == {"type": "contacts", "id": None, "name": "Иван Петров"}
    assert (await site.ask("DELETE", "calls/live-1")).json() == call                   # it is its group's as well
    site.control.calls[0] = live_call("live-1")
    (call,) = (await site.ask("GET", "calls", after=first["version"])).json()["calls"]
    assert (call["state"], call["version"], call["may_hang_up"]) == ("talking", 2, True)
    assert call["talk_seconds"] >= 65
    del site.control.calls[0]
    (call,) = (await site.ask("GET", "calls")).json()["calls"]
    assert (call["state"], call["outcome"], call["version"]) == ("ended", "talked", 3)
    site.control.calls = [replace(ringing, id=CallId("live-5")), replace(ringing, id=CallId("live-6"))]
    await site.ask("GET", "calls")
    site.control.calls = [live_call("live-5", extension="102")]
    ends = {call["id"]: call["outcome"] for call in (await site.ask("GET", "calls")).json()["calls"]}
    assert ends == {"live-1": "talked", "live-5": "answered_elsewhere", "live-6": "missed"}


async def test_whoever_has_a_ringing_phone_has_the_card(site: WidgetSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also who is not the first of a group, and to whom a colleague's call is being transferred."""
    monkeypatch.setattr(cards, "EVERY", 0.0)
    ringing = live_call("live-1", extension="102", state="ringing", answered_at=None, rings=("102", "101"))
    transferred = live_call("live-2", extension="102", rings=("101",))
    site.control.calls = [ringing, transferred, live_call("live-3", extension="101", rings=("102",))]
    shown = {call["id"]: (call["state"], call["may_hang_up"], call["talk_seconds"])
             for call in (await site.ask("GET", "calls")).json()["calls"]}
    talks = shown.pop("live-3")
    assert shown == {"live-1": ("ringing_you", False, None), "live-2": ("ringing_you", False, None)}
    assert talks[:2] == ("talking", True)
    site.control.calls = [replace(ringing, state="talking", rings=(), answered_at=ringing.started_at)]
    ends = {call["id"]: call["outcome"] for call in (await site.ask("GET", "calls")).json()["calls"]}
    assert ends == {"live-1": "answered_elsewhere", "live-2": "missed", "live-3": "talked"}


@pytest.mark.parametrize(("card", "contact", "deal"), [
    (Contact(EntityKind.CONTACT, 9001, "Ivan", 77), {"type": "contacts", "id": 9001, "name": "Ivan"},
     {"id": 9001, "name": "Deal of Ivan"}),
    (Contact(EntityKind.COMPANY, 9501, "Firm", 77), {"type": "companies", "id": 9501, "name": "Firm"}, None),
])
async def test_the_live_card_names_the_deal_as_soon_as_it_is_known(
    site: WidgetSite, monkeypatch: pytest.MonkeyPatch, card: Contact, contact: dict[str, Any],
    deal: dict[str, Any] | None,
) -> None:
    monkeypatch.setattr(cards, "EVERY", 0.01)
    site.control.calls.append(live_call("live-1", contact=card.name, card=card))
    first = (await site.ask("GET", "calls")).json()
    (shown,) = first["calls"]
    assert (shown["contact"], shown["deal"], shown["version"]) == (contact, None, 1)
    if deal is not None:
        later = (await site.ask("GET", "calls", after=first["version"])).json()
        assert (later["calls"][0]["deal"], later["calls"][0]["version"]) == (deal, 2)


async def test_a_clicked_call_is_in_the_list_once(site: WidgetSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "EVERY", 0.0)
    await site.click()
    site.control.calls = [live_call("c-1", direction=Direction.OUTBOUND, state="routing", answered_at=None)]
    (call,) = (await site.ask("GET", "calls")).json()["calls"]
    assert (call["state"], call["version"]) == ("ringing_you", 1)
    site.control.calls.clear()
    await site.control.click_becomes(CallId("c-1"), stage=ClickStage.ENDED, outcome=ClickOutcome.YOU_BUSY)
    (call,) = (await site.ask("GET", "calls")).json()["calls"]
    assert (call["state"], call["outcome"]) == ("ended", "you_busy")


async def test_a_sixth_who_waits_frees_the_oldest(site: WidgetSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "EVERY", 0.01)
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(site.ask("GET", "calls", after="none")) for _ in range(waiters.MOST_OF_ONE)]
        await asyncio.wait(waiting, timeout=0.5)
        assert not any(one.done() for one in waiting)
        sixth = tasks.create_task(site.ask("GET", "calls", after="none"))
        await asyncio.wait([*waiting, sixth], return_when=asyncio.FIRST_COMPLETED)
        (freed,) = [one for one in waiting if one.done()]
        assert freed.result().json() == {"version": "none", "calls": []}
        site.control.calls.append(live_call())
        for one in (*waiting, sixth):
            await one
        assert sixth.result().json()["calls"][0]["id"] == "live-1"


async def test_whoever_waits_is_answered_in_time(site: WidgetSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiters, "LONGEST_WAIT", 0.05)
    call = (await site.click()).json()
    assert (await site.ask("GET", "calls/c-1", after="1")).json() == call
    quiet = await site.ask("GET", "calls", token=site.token(user=BEN), after="none")
    assert quiet.json() == {"version": "none", "calls": []}


# -- settings


async def test_the_connection_is_tested_and_nothing_changed(site: WidgetSite) -> None:
    site.control.trunks.append(TrunkState(ACME, "operator", False, "no answer to OPTIONS"))
    site.control.trunks.append(TrunkState(BETA, "other", False, "not ours"))
    before = await site.store.directory.load()
    for body in ({"login": "", "password": ""}, {"login": "acme", "password": PASSWORD}, {}):
        answer = await site.ask("POST", "check", body)
        assert answer.json() == {"client": "Acme", "extensions": 3, "crm_connected": False,
                                 "notes": ["The trunk operator is down: no answer to OPTIONS."]}
    assert "не работает" in (await site.ask("POST", "check", {}, lang="ru")).json()["notes"][0]
    new = await site.ask("POST", "check", {"login": "new", "password": PASSWORD}, token=site.token(NEW))
    assert new.json()["client"] == "New"
    assert problem_of(await site.ask("POST", "check", {}, token=site.token(NEW))) == (401, "password_needed")
    assert await site.store.directory.load() == before


async def test_what_is_saved_counts_at_once_and_twice_is_once(site: WidgetSite) -> None:
    switched = {**FUNCTIONS, "create_on_outgoing": True}
    assert (await site.save(functions=switched, extensions={"77": " 103 ", "79": "101"})).status_code == 200
    saved, generation = await site.store.directory.load()
    crm = saved.client[ACME].crm
    assert crm is not None
    assert (crm.functions.create_on_outgoing, crm.functions.task_on_missed, crm.functions.pop_up) == (True, True, True)
    beta = saved.client[BETA].crm
    assert beta is not None
    assert not beta.functions.create_on_outgoing
    await site.click()
    await site.click(token=site.token(user=CARL))
    assert [extension for _, extension, _ in site.control.asked] == ["103", "101"]
    assert (await site.save(functions=switched, extensions={"77": "103", "79": "101"})).status_code == 200
    assert (await site.store.directory.load())[1] == generation
    shown = await site.ask("GET", "settings")
    assert shown.json() == {"client": "Acme", "login": "acme", "functions": switched}


async def test_a_right_password_connects_the_account_for_good(site: WidgetSite) -> None:
    token = site.token(NEW)
    assert problem_of(await site.ask("GET", "settings", token=token)) == (404, "not_connected")
    assert problem_of(await site.save(login="new", token=token)) == (401, "password_needed")
    assert (await site.save(login="new", password=PASSWORD, token=token)).json()["client"] == "New"
    assert (await site.click(token=token)).status_code == 202
    assert (await site.save(login="new", token=token)).status_code == 200
    saved, _ = await site.store.directory.load()
    assert saved.client[NEW].crm is not None
    assert saved.client[NEW].crm.account == account_of(NEW).id


async def test_who_is_no_administrator_changes_nothing(site: WidgetSite) -> None:
    token = site.token(user=BEN)
    assert problem_of(await site.save(token=token, password=PASSWORD)) == (403, "not_admin")
    assert problem_of(await site.ask("POST", "check", {}, token=token)) == (403, "not_admin")
    assert problem_of(await site.ask("GET", "settings", token=token)) == (403, "not_admin")
    said = jwt.decode(site.token(), options={"verify_signature": False})
    del said["is_admin"]                                         # the CRM does not say: then the password does
    unsaid = jwt.encode(said, integration_of(ACME).client_secret, "HS256")
    assert problem_of(await site.save(token=unsaid)) == (401, "password_needed")
    assert (await site.save(token=unsaid, password=PASSWORD)).status_code == 200


@pytest.mark.parametrize(("extensions", "code", "named"), [
    ({"77": "101", "78": "101"}, "double_extension", ("101", "Anna Archer", "Ben Kim")),
    ({"77": "104"}, "unknown_extension", ("104", "Anna Archer", "Acme")),
    ({"77": "101", "4711": "102"}, "unknown_user", ("4711",))])
async def test_a_map_that_cannot_be_is_refused_as_a_whole(
        site: WidgetSite, extensions: dict[str, str], code: str, named: tuple[str, ...]) -> None:
    before = await site.store.directory.load(), await site.store.crm_users.load()
    for lang in LANGUAGES:
        answer = await site.ask("POST", "settings", {
            "widget_version": "1", "login": "acme", "extensions": extensions,
            "functions": {**FUNCTIONS, "create_on_incoming": True}}, lang=lang)
        assert problem_of(answer) == (422, code)
        assert all(word in answer.json()["detail"] for word in named)
    assert (await site.store.directory.load(), await site.store.crm_users.load()) == before


async def test_a_map_of_an_office_of_any_size_is_read_and_its_doubles_are_named(site: WidgetSite) -> None:
    users = [CrmUser(user, "Пётр Ли" if user < 1_002 else f"Мария {user}") for user in range(1_000, 1_300)]
    at = site.origins.get(ACME, "https://acme.amocrm.test")
    await site.store.crm_users.save_users(ACME, at, users, datetime.now(UTC))
    await site.users.load()
    double = await site.save(extensions={"1000": "101", "1001": "101", "1002": "102"})
    assert problem_of(double) == (422, "double_extension")
    assert double.json()["detail"] == "101: Пётр Ли (1000), Пётр Ли (1001)"
    everybody = await site.save(extensions={str(user.id): "101" for user in users})
    assert problem_of(everybody) == (422, "double_extension")
    assert len(everybody.json()["detail"]) == 500
    longest = {str(99_999_999 + user): f"{user:012}" for user in range(MOST_USERS)}
    assert problem_of(await site.save(extensions=longest)) == (422, "unknown_extension")       # and not too large
    assert problem_of(await site.save(extensions={**longest, "1": "1"})) == (422, "invalid")


async def test_guessing_gets_slower_and_locks_out(site: WidgetSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "FIRST_WAIT", LONG)
    guesses = [("acme", "wrong"), ("nobody", PASSWORD), ("acme", ""), ("", "x"), ("beta", "wrong"), ("x", "y")]
    told = [problem_of(await site.save(login=login, password=password)) for login, password in guesses if password]
    assert told == [(401, "wrong_password")] * (FREE_FAILURES + 1)
    locked = await site.save(password=PASSWORD)
    assert problem_of(locked) == (429, "too_many")
    assert 0 < int(locked.headers["retry-after"]) <= LONG
    assert problem_of(await site.ask("POST", "check", {"login": "acme", "password": PASSWORD})) == (429, "too_many")
    assert (await site.save()).status_code == 200                # without one, there is nothing to guess


async def test_one_s_own_password_buys_no_guesses_at_another_s(
    site: WidgetSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockout, "FIRST_WAIT", LONG)
    for _ in range(FREE_FAILURES):
        assert problem_of(await site.save(login="beta", password="wrong")) == (401, "wrong_password")
    assert (await site.save(password=PASSWORD)).status_code == 200
    assert problem_of(await site.save(login="beta", password="wrong")) == (401, "wrong_password")
    assert problem_of(await site.save(login="beta", password="wrong")) == (429, "too_many")


async def test_a_colleague_who_goes_on_guessing_keeps_the_owner_out_of_nothing(
    site: WidgetSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one office, behind one address. Whoever has the integration's secret makes tokens of as many as they like."""
    def token(user: int) -> str:
        said = jwt.decode(site.token(user=user), options={"verify_signature": False})
        del said["is_admin"]                                     # the CRM does not say: then the password does
        return jwt.encode(said, integration_of(ACME).client_secret, "HS256")

    owner, colleague = token(ANNA), token(BEN)
    monkeypatch.setattr(lockout, "FIRST_WAIT", 0.001)
    for _ in range(2 * CROWD_FAILURES):                          # who waits as long as they are told
        await site.save(token=colleague, password="wrong")
        await asyncio.sleep(0)
    assert problem_of(await site.save(token=owner, password="mistyped")) == (401, "wrong_password")
    assert (await site.save(token=owner, password=PASSWORD)).status_code == 200
    monkeypatch.setattr(lockout, "FIRST_WAIT", LONG)
    told = [problem_of(await site.save(token=token(1_000 + n), password="wrong"))[0] for n in range(CROWD_FAILURES + 5)]
    assert told[-1] == 429
    assert told.count(401) <= CROWD_FAILURES + 1


async def test_guesses_at_once_count_as_well(site: WidgetSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "FIRST_WAIT", LONG)
    answers = await asyncio.gather(*[site.save(password=f"guess {n}") for n in range(20)])
    assert [answer.status_code for answer in answers].count(401) == FREE_FAILURES + 1


async def test_passwords_are_in_no_log(site: WidgetSite, capsys: pytest.CaptureFixture[str],
                                       caplog: pytest.LogCaptureFixture) -> None:
    await site.save(password="a guess that is wrong")
    await site.save(password=PASSWORD)
    await site.save(password=["a guess that is wrong"])
    written = "".join(capsys.readouterr()) + caplog.text
    assert "wrong password in a widget" in written
    assert PASSWORD not in written
    assert "a guess that is wrong" not in written


# -- bodies and limits


@pytest.mark.parametrize(("body", "expected"), [
    (b"", (400, "malformed")), (b"{", (400, "malformed")), (b"[]", (400, "malformed")), (b'"x"', (400, "malformed")),
    (b"\xff\xfe", (400, "malformed")), (b"[" * 60_000, (400, "malformed")), (b"{}", (422, "invalid")),
    (b'{"phone": "\\ud800", "request": "x"}', (400, "malformed")), (b'{"phone": 1, "request": "x"}', (422, "invalid")),
    (b'{"phone": "1", "request": "no uuid"}', (422, "invalid")), (b" " * 70_000, (413, "too_large")),
    (b'{"phone": "' + b"1" * 65 + b'", "request": "2f6d0d4e-8a43-4f1e-9d0a-0d8f3f3b2c11"}', (422, "invalid")),
    (b'{"phone":"1","request":"2f6d0d4e-8a43-4f1e-9d0a-0d8f3f3b2c11","entity":{"type":"x","id":1}}', (422, "invalid"))])
async def test_bodies_of_all_kinds(site: WidgetSite, body: bytes, expected: tuple[int, str]) -> None:
    answer = await site.ask("POST", "calls", body)
    assert problem_of(answer) == expected
    assert site.control.asked == []
    if expected[1] == "invalid":
        assert re.match(r"[a-z.]+: ", answer.json()["detail"])


async def test_other_bodies_than_json_are_not_read(site: WidgetSite) -> None:
    answer = await site.ask("POST", "calls", b"phone=1", headers={"Content-Type": "text/plain"})
    assert problem_of(answer) == (400, "malformed")


@pytest.mark.parametrize("limit", ["PER_ADDRESS", "PER_CLIENT", "PER_USER"])
async def test_who_asks_too_often_is_told_to_wait(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(door, limit, 3)
    async with open_widget_site(tmp_path) as site:
        answers = [await site.ask("GET", "calls") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert problem_of(answers[-1]) == (429, "too_many")
        assert answers[-1].headers["retry-after"] == str(door.LIMITED_SECONDS)
        others = {"PER_ADDRESS": site.token(BETA), "PER_CLIENT": site.token(user=BEN), "PER_USER": site.token(user=BEN)}
        other = await site.ask("GET", "calls", token=others[limit])
        assert other.status_code == (200 if limit == "PER_USER" else 429)
        metrics = (await site.http.get("/metrics")).text
        assert f'event="widget_limited"}} {1 if limit == "PER_USER" else 2}.0' in metrics


async def test_a_database_that_is_away_is_said(site: WidgetSite, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(WidgetSettingsRows, "save", away)
    answer = await site.save()
    assert problem_of(answer) == (503, "unavailable")
    assert answer.headers["retry-after"]
    assert (await site.click()).status_code == 202               # calls need no database


async def test_every_code_of_the_contract_has_words_in_all_languages() -> None:
    rows = re.findall(r"^\| (\d{3}) \| (.+?) \|", CONTRACT.read_text("utf-8"), re.MULTILINE)
    documented = {code: int(status) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    assert documented == dict(STATUS)
    assert {code: set(words) for code, words in WORDS.items()} == {code: set(LANGUAGES) for code in STATUS}


# -- other pages


@pytest.mark.parametrize(("path", "origin", "is_let"), [
    ("calls", ORIGIN, True), ("calls", "https://beta.amocrm.test", True), ("calls", "https://new.amocrm.test", False),
    ("calls", "https://other.amocrm.ru", False), ("calls", "http://acme.amocrm.test", False), ("calls", "null", False),
    ("calls", ORIGIN + ".evil.example", False), ("calls", ORIGIN + ":444", False), ("calls", ORIGIN + "/", False),
    ("check", "https://other.amocrm.ru", True), ("settings", "https://other.kommo.com", True),
    ("check", "https://a.b.amocrm.ru", False), ("check", "https://amocrm.ru", False),
    ("check", "http://other.amocrm.ru", False), ("check", "https://evilamocrm.ru", False),
    ("check", "https://other.amocrm.ru.evil.example", False), ("calls/c-1", ORIGIN, True), ("nothing", ORIGIN, True)])
async def test_pages_of_connected_accounts_may_ask_and_read_and_no_others(
        site: WidgetSite, path: str, origin: str, is_let: bool) -> None:
    asked = await site.http.options(f"/widget/v1/{path}", headers={
        "Origin": origin, "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-auth-token"})
    assert (asked.status_code, asked.headers["vary"]) == (204, "Origin")
    names = ("access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers",
             "access-control-max-age")
    assert [asked.headers.get(name) for name in names] == (
        [origin, "GET, POST, DELETE", "X-Auth-Token, Content-Type", "600"] if is_let else [None] * 4)
    refused = await site.ask("GET", path, token="", headers={"Origin": origin})
    assert refused.status_code >= 400
    assert refused.headers.get("access-control-allow-origin") == (origin if is_let else None)
    assert refused.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in refused.headers


@pytest.mark.parametrize("garbled", [
    {}, {"X-Auth-Token": b"\xff"}, {"X-Auth-Token": b"e30.e30."}, {"Content-Type": b"\xff"},
    {"Content-Type": "application/json; charset=utf-16"}, {"Authorization": "Bearer x"}, {"Accept-Language": ";q=,"},
    {"Cookie": "session=:::::"}, {"X-Forwarded-For": "," * 500}, {"Range": "bytes=-"}, {"Expect": "100-continue"},
    {"Content-Encoding": "gzip"}, {"Accept": "application/xml"}])
async def test_whatever_is_asked_is_answered_so_that_a_page_can_read_it(
        site: WidgetSite, garbled: Mapping[str, str | bytes]) -> None:
    token = site.token()
    for path in ("check", "settings", "calls", "calls/c-1", "calls/%00%ff%2e%2e", "nothing", "openapi.json", ""):
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"):
            for body in (None, b"\xff{"):
                sent = {"X-Auth-Token": token, "Origin": ORIGIN, **garbled}
                answer = await site.http.request(method, f"/widget/v1/{path}?lang=%ff&lang=ru&after=%ff", headers=sent,
                                                 content=body)
                where = f"{method} {path} {answer.status_code}"
                assert answer.status_code < 500, where
                assert answer.headers["access-control-allow-origin"] == ORIGIN, where
                if answer.status_code >= 400 and method != "HEAD":
                    assert problem_of(answer)[1], where
                    assert answer.json()["remedy"], where


async def test_a_method_that_is_none_here_is_told_which_there_are(site: WidgetSite) -> None:
    answer = await site.ask("PUT", "settings")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")


async def test_a_fault_of_ours_can_be_read_as_well(site: WidgetSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(site.control.__class__, "click2call", broken)
    for lang in LANGUAGES:
        answer = await site.ask("POST", "calls", {"phone": "1", "request": str(uuid4())}, lang=lang,
                                headers={"Origin": ORIGIN})
        assert problem_of(answer) == (500, "fault")
        assert answer.json()["title"] == WORDS["fault"][lang][0]
        assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert 'event="faults"} 3.0' in (await site.http.get("/metrics")).text


async def test_an_account_of_kommo_is_served_and_one_that_has_moved_is_told_so(tmp_path: Path) -> None:
    at, before = "https://acme.kommo.com", "https://acme.amocrm.com"
    async with open_widget_site(tmp_path, {ACME: at}) as site:
        async def asked(method: str, path: str, origin: str, lang: str = "en", **body: str) -> httpx.Response:
            said = jwt.decode(site.token(), options={"verify_signature": False}) | {"iss": origin}
            token = jwt.encode(said, integration_of(ACME).client_secret, "HS256")
            return await site.ask(method, path, body or None, token=token, lang=lang, headers={"Origin": origin})

        clicked = await asked("POST", "calls", at, phone="+7 495 123-45-67", request=str(uuid4()))
        assert (clicked.status_code, clicked.headers["access-control-allow-origin"]) == (202, at)
        titles = set()
        for lang in LANGUAGES:
            moved = await asked("POST", "check", before, lang, login="", password="")
            assert problem_of(moved) == (401, "token_elsewhere")
            assert moved.headers["access-control-allow-origin"] == before
            assert "amoCRM" in moved.json()["remedy"]
            titles.add(moved.json()["title"])
        assert len(titles) == len(LANGUAGES)
        assert "access-control-allow-origin" not in (await asked("GET", "calls", before)).headers
        assert [one for _, one, _ in site.control.asked] == ["101"]


async def test_any_page_may_look_whether_we_are_there_and_read_nothing(site: WidgetSite) -> None:
    answer = await site.http.get("/healthz", headers={"Origin": "https://anybody.example"})
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "access-control-allow-origin" not in answer.headers


async def test_who_waits_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as tasks:
        began = datetime.now(UTC)
        async with open_widget_site(tmp_path) as site:
            waiting = tasks.create_task(site.ask("GET", "calls", after="none"))
            await asyncio.wait([waiting], timeout=0.3)
            assert not waiting.done()
        assert (await waiting).status_code == 200
        assert (datetime.now(UTC) - began).total_seconds() < waiters.LONGEST_WAIT


# -- the description


async def test_the_description_is_of_the_routes_and_answers_are_as_it_says(site: WidgetSite) -> None:
    said = (await site.http.get("/widget/v1/openapi.json")).json()
    described = {(method.upper(), path.removeprefix("/widget/v1/")) for path, item in said["paths"].items()
                 for method in item}
    assert described == set(ROUTES)
    for reference in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(said)):
        assert reference in said["components"]["schemas"]
    codes = {code for operation in OPERATIONS for status, told in said["paths"][f"/widget/v1{operation.path}"][
        operation.method.lower()]["responses"].items() for code in told["description"].split(", ") if code in STATUS
        and STATUS[code] == int(status)}
    assert codes == set(STATUS)
