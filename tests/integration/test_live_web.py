"""The live page without a socket: what it shows to whom, what is sent again, and what can be done to a call."""

from __future__ import annotations

import asyncio
import re
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from b2bua.cdr import CallId, ClientId, Direction, Disposition
from b2bua.control import (
    Device,
    ExtensionState,
    FailedTransfer,
    Glance,
    Heard,
    Presence,
    Quality,
    Transfer,
    TransferOutcome,
    TrunkState,
    TurnedAway,
)
from b2bua.store.calls import CallJournal
from b2bua.store.engine import StoreUnavailable
from b2bua.store.recordings import RecordingRows
from tests.support.records import record
from tests.support.web_site import (
    ACME,
    BETA,
    LINKS,
    OF_OFFICE,
    FakeControl,
    Site,
    form_token,
    live_call,
    open_site,
    sign_in,
)
from web.admin.board import NOTHING, TOKEN, Board, Boards, Showing, audio_of

JSON = {"Accept": "application/json"}
HOSTILE = "<script>alert(1)</script>\"'&"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;"
GOOD, POOR = Heard.of(0.2, 7.4), Heard.of(9.6, 81.0)


@pytest.fixture
def site(tmp_path: Path) -> AbstractAsyncContextManager[Site]:
    return open_site(tmp_path)


def extension(client: ClientId = ACME, number: str = "101", presence: Presence = Presence.FREE,
              name: str = "Анна", agent: str = "Yealink T54W") -> ExtensionState:
    return ExtensionState(client, number, name, presence, (Device("sip:101@192.0.2.7", agent, "lagged"),))


async def of_office(browser: httpx.AsyncClient, client: ClientId = ACME) -> None:
    assert (await sign_in(browser, OF_OFFICE[client], client)).status_code == 303


def showing(site: Site, client: ClientId | None = ACME, language: str = "en") -> Showing:
    return Boards(site.control, site.store, lambda: site.users.directory).of(client, language)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.admin.board.EVERY", 0.0)
    monkeypatch.setattr("web.admin.board.LAST_CALLS_EVERY", 0.0)


# -- what it shows

async def test_it_shows_what_goes_on_and_what_went_on(site: Site) -> None:
    site.control.calls.append(live_call(on_hold=True, quality=Quality(GOOD, POOR),
                                        failed_transfer=FailedTransfer("103", 486)))
    site.control.calls.append(live_call("live-2", state="ringing", answered_at=None, rings=("101", "102")))
    site.control.trunks.append(TrunkState(ACME, "operator", False, "no answer to OPTIONS"))
    site.control.extensions.append(extension())
    await site.store.calls.finish(record())
    async with site.browser() as browser:
        await sign_in(browser)
        page = (await browser.get("/")).text
    for part in ("Иван Петров", "+79161234567", "Talking", "with 101", "On hold", "Poor audio", "from the called",
                 "10 % lost, jitter 80 ms", "not transferred to 103: busy", "at 101, 102",
                 "no answer to OPTIONS", "Yealink T54W", "answers slowly", "Free", "Анна", "1:00", 'href="/calls/c-1"',
                 'action="/calls/live-1/transfer"', 'action="/calls/live-1/hang-up"'):
        assert part in page
    assert 'action="/calls/live-2/transfer"' not in page           # nobody talks yet
    assert TOKEN not in page
    assert "<title>2 calls · Smartswitch</title>" in page
    assert 'class="notice' not in page


async def test_an_empty_office_is_told_what_to_do(site: Site) -> None:
    async with site.browser() as browser:
        await of_office(browser)
        page = (await browser.get("/")).text
    for part in ("Nobody is on the phone", "There is no trunk", "There is no extension", 'href="/clients/acme"',
                 "No call has ended yet", '<option value="101">Anna of Acme</option>',
                 '<option value="600">Sales of Acme</option>'):
        assert part in page
    assert "Beta" not in page


async def test_an_office_sees_its_own_and_nothing_of_the_platform(site: Site) -> None:
    for client in (ACME, BETA):
        site.control.calls.append(live_call(f"live-{client}", client=client, contact=f"Caller of {client}"))
        site.control.trunks.append(TrunkState(client, f"line-of-{client}", True, "registered"))
        site.control.extensions.append(extension(client, name=f"Anna of {client}"))
        await site.store.calls.finish(record(f"c-{client}", client=client, contact=f"Late of {client}"))
    site.control.alarming.append("an alarm of the platform")
    site.control.strangers.append(TurnedAway(datetime.now(UTC), "203.0.113.7", "+7495", "why", "silence"))
    async with site.browser() as browser:
        await of_office(browser)
        page = (await browser.get("/")).text
    assert all(of in page for of in ("Caller of acme", "line-of-acme", "Anna of acme", "Late of acme"))
    assert not any(of in page for of in ("beta", "alarm of the platform", "203.0.113.7"))
    async with site.browser() as browser:
        await sign_in(browser)
        page = (await browser.get("/")).text
    assert all(of in page for of in ("Caller of acme", "Caller of beta", "line-of-beta", "Anna of beta", "Late of beta",
                                     "alarm of the platform", "203.0.113.7"))


async def test_in_russian(site: Site) -> None:
    site.control.calls.append(live_call())
    async with site.browser(headers={"Accept-Language": "ru"}) as browser:
        await of_office(browser)
        page = (await browser.get("/")).text
    assert all(said in page for said in ("1 вызов", "Разговор", "Завершить", "Транков пока нет"))


async def test_whatever_a_caller_is_named_it_is_text(site: Site, at_once: None) -> None:
    site.control.calls.append(live_call(contact=HOSTILE, caller=HOSTILE, dialled=HOSTILE))
    site.control.extensions.append(extension(name=HOSTILE, agent=HOSTILE))
    site.control.trunks.append(TrunkState(ACME, HOSTILE, False, HOSTILE))
    site.control.strangers.append(TurnedAway(datetime.now(UTC), "203.0.113.7", HOSTILE, HOSTILE, "silence"))
    await site.store.calls.finish(record(contact=HOSTILE, caller=HOSTILE, why=(HOSTILE,), recording=None))
    async with site.browser() as browser:
        await sign_in(browser)
        pages = [(await browser.get(path)).text for path in ("/", "/calls/live-1/hang-up", "/calls/live-1/transfer")]
        refused = await browser.post("/calls/live-1/transfer", data={"token": form_token(pages[0]), "target": HOSTILE})
        assert refused.status_code == 303
        site.control.transfer_says = TransferOutcome(Transfer.NO_TARGET, HOSTILE)
        refused = await browser.post("/calls/live-1/transfer", data={"token": form_token(pages[0]), "target": HOSTILE})
    assert not any("<script>alert" in page for page in (*pages, refused.text))
    assert pages[0].count(ESCAPED) >= 12
    assert refused.text.count(ESCAPED) >= 4
    assert all(part.count("<script") == 0 for part in (await showing(site, None).current()).parts.values())


@pytest.mark.parametrize("disposition", list(Disposition))
async def test_every_result_has_a_word(site: Site, disposition: Disposition) -> None:
    await site.store.calls.finish(record(disposition=disposition, recording=None))
    async with site.browser() as browser:
        await sign_in(browser)
        assert 'class="badge ' in (await browser.get("/")).text.partition("Last calls")[2]


@pytest.mark.parametrize("presence", list(Presence))
async def test_every_presence_has_a_word(site: Site, presence: Presence) -> None:
    site.control.extensions.append(extension(presence=presence))
    assert "badge" in (await showing(site).current()).lists["extensions"]["acme-101"]


async def test_a_database_that_is_away_costs_the_last_calls_only(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailable("gone")

    site.control.calls.append(live_call())
    monkeypatch.setattr(CallJournal, "last_calls", away)
    monkeypatch.setattr(RecordingRows, "get", away)
    async with site.browser() as browser:
        await sign_in(browser)
        page = await browser.get("/")
        assert page.status_code == 200
        assert "The database does not answer just now" in page.text
        assert "Иван Петров" in page.text
        recording = await browser.get(LINKS.path("rec-1"), headers=JSON)
        assert (recording.status_code, recording.headers["retry-after"]) == (503, "5")


# -- how the audio is

def test_of_good_audio_a_row_says_no_more_than_that() -> None:
    now = datetime.now(UTC)
    call = live_call(answered_at=now - timedelta(seconds=60), quality=Quality(GOOD, GOOD))
    assert audio_of(call, now) == ("good", ())
    assert audio_of(replace(call, quality=None), now) is None
    assert audio_of(replace(call, answered_at=None), now) is None
    assert audio_of(replace(call, quality=Quality(GOOD, Heard.of(3.2, 12.0))), now) == (
        "fair", (("callee", Heard(3, 10, "fair")),))


def test_silence_of_one_side_is_bad_audio_unless_it_has_just_begun_or_is_on_hold() -> None:
    now = datetime.now(UTC)
    call = live_call(answered_at=now - timedelta(seconds=60), quality=Quality(GOOD, None))
    assert audio_of(call, now) == ("poor", (("callee", None),))
    assert audio_of(replace(call, on_hold=True), now) == ("good", ())
    assert audio_of(replace(call, answered_at=now), now) == ("good", ())


# -- what is sent again

def test_only_what_changed_is_sent() -> None:
    old = Board("1 call", {"a": "1", "b": "2"}, {"calls": {"x": "X", "y": "Y"}, "last": {"z": "Z"}})
    assert old.changes(old) == {}
    assert old.changes(NOTHING) == {"title": "1 call", "parts": {"a": "1", "b": "2"}, "lists": {
        "calls": {"order": ["x", "y"], "rows": {"x": "X", "y": "Y"}}, "last": {"order": ["z"], "rows": {"z": "Z"}}}}
    new = Board("1 call", {"a": "1", "b": "3"}, {"calls": {"y": "Y"}, "last": {"z": "Z"}})
    assert new.changes(old) == {"parts": {"b": "3"}, "lists": {"calls": {"order": ["y"], "rows": {}}}}


async def test_an_office_at_which_nothing_happens_is_sent_nothing(site: Site, at_once: None) -> None:
    """What only counts down, or trembles, is no news."""
    one = showing(site)
    site.control.calls.append(live_call(quality=Quality(GOOD, GOOD)))
    site.control.trunks.append(TrunkState(ACME, "operator", True, "registered for 3540 s"))
    before = await one.current()
    assert await one.current() is before
    site.control.calls[0] = replace(site.control.calls[0], quality=Quality(Heard.of(0.1, 9.9), GOOD))
    site.control.trunks[0] = TrunkState(ACME, "operator", True, "registered for 3539 s")
    assert await one.current() is before
    assert one.news(before) == b""
    site.control.calls.clear()
    after = await one.current()
    assert set(after.changes(before)) == {"title", "parts", "lists"}
    assert set(after.changes(before)["parts"]) == {"calls-count"}
    assert one.news(before) is one.news(before)


async def test_many_who_look_cost_one_rendering_a_second(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    glance = FakeControl.glance

    def counted(control: FakeControl, client: ClientId | None, most: int) -> Glance:
        nonlocal looks
        looks += 1
        return glance(control, client, most)

    monkeypatch.setattr(FakeControl, "glance", counted)
    boards = Boards(site.control, site.store, lambda: site.users.directory)
    for _ in range(3):
        await asyncio.gather(*(boards.of(client, language).current()
                               for client in (ACME, BETA, None) for language in ("en", "ru") for _ in range(20)))
    assert looks == 6


async def test_boards_at_which_nobody_looks_are_forgotten(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.admin.board.FORGOTTEN_AFTER", -1.0)
    boards = Boards(site.control, site.store, lambda: site.users.directory)
    first = boards.of(ACME, "en")
    assert boards.of(BETA, "en") is not first
    assert boards.of(ACME, "en") is not first


async def test_the_calls_have_their_turn_amid_a_full_board(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.admin.board.TURN", 0.0)
    site.control.calls += [live_call(f"live-{number}") for number in range(120)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(others())
        board = await showing(site).current()
        working.cancel()
    assert turns > 100
    assert len(board.lists["calls"]) == 101
    assert "and 20 more" in board.lists["calls"]["besides"]


async def test_last_calls_come_as_they_end(site: Site, at_once: None) -> None:
    one = showing(site)
    assert set((await one.current()).lists["last"]) == {"besides"}
    for number in range(6):
        await site.store.calls.finish(record(f"c-{number}", recording=None, started_at=datetime.now(UTC)))
    assert list((await one.current()).lists["last"]) == ["c-5", "c-4", "c-3", "c-2", "c-1"]


# -- what can be done

async def test_a_call_is_transferred_and_hung_up(site: Site) -> None:
    site.control.calls.append(live_call())
    async with site.browser() as browser:
        await of_office(browser)
        page = (await browser.get("/")).text
        tokens = set(re.findall(r'name="token" value="([^"]+)"', page))
        assert len(tokens) == 1                                    # of the row's forms as of the frame's
        sent = await browser.post("/calls/live-1/transfer", data={"token": tokens.pop(), "target": "102"})
        assert (sent.status_code, sent.headers["location"]) == (303, "/?notice=transferring")
        assert "The call is being transferred" in (await browser.get(sent.headers["location"])).text
        asks = (await browser.get("/calls/live-1/hang-up")).text
        assert "Both will be cut off." in asks
        hung_up = await browser.post("/calls/live-1/hang-up", data={"token": form_token(asks)})
        assert (hung_up.status_code, hung_up.headers["location"]) == (303, "/?notice=hung-up")
    assert site.control.acted == [("live-1", "102", "acme"), ("live-1", "acme")]


@pytest.mark.parametrize(("outcome", "says"), [
    (TransferOutcome(Transfer.NO_TARGET, "102 dialled 103, where no phone is registered"), "It cannot be transferred"),
    (TransferOutcome(Transfer.NOT_TALKING), "Nobody talks yet"),
    (TransferOutcome(Transfer.NO_EMPLOYEE), "Nobody of the office"),
    (TransferOutcome(Transfer.UNDER_WAY), "It is being transferred already")])
async def test_a_transfer_that_cannot_be_is_asked_for_again(site: Site, outcome: TransferOutcome, says: str) -> None:
    site.control.calls.append(live_call(direction=Direction.OUTBOUND))
    site.control.transfer_says = outcome
    async with site.browser() as browser:
        await of_office(browser)
        token = form_token((await browser.get("/calls/live-1/transfer")).text)
        answer = await browser.post("/calls/live-1/transfer", data={"token": token, "target": "103"})
    assert answer.status_code == 422
    assert says in answer.text
    assert outcome.why in answer.text
    assert 'value="103"' in answer.text
    assert 'aria-invalid="true" aria-describedby="target-complaint"' in answer.text
    assert '<option value="102">Boris of Acme</option>' in answer.text


async def test_calls_of_others_are_not_there(site: Site) -> None:
    site.control.calls.append(live_call(client=BETA, contact="Caller of beta"))
    async with site.browser(headers=JSON) as browser:
        await of_office(browser)
        token = form_token((await browser.get("/account")).text)
        for call in ("live-1", "nothing"):
            for act in ("transfer", "hang-up"):
                path, data = f"/calls/{call}/{act}", {"token": token, "target": "102"}
                for answer in (await browser.get(path), await browser.post(path, data=data)):
                    assert (answer.status_code, answer.json()["title"]) == (404, "There is no such call now")
    assert site.control.acted == []


async def test_without_the_token_of_ones_own_session_nothing_is_done(site: Site) -> None:
    site.control.calls.append(live_call())
    async with site.browser() as stranger, site.browser() as browser:
        token = form_token((await stranger.get("/sign-in")).text)
        await of_office(browser)
        for given in ("", token, TOKEN):
            for act in ("transfer", "hang-up"):
                data = {"token": given, "target": "102"}
                assert (await browser.post(f"/calls/live-1/{act}", data=data)).status_code == 403
                assert (await stranger.post(f"/calls/live-1/{act}", data=data, headers=JSON)).status_code == 401
    assert site.control.acted == []


async def test_an_operator_acts_on_calls_of_all(site: Site) -> None:
    site.control.calls.append(live_call(client=BETA))
    async with site.browser() as browser:
        await sign_in(browser)
        page = (await browser.get("/calls/live-1/transfer")).text
        assert "Anna of Beta Ltd" in page
        await browser.post("/calls/live-1/hang-up", data={"token": form_token(page)})
    assert site.control.acted == [(CallId("live-1"), "operator")]
