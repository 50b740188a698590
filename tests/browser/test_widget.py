"""The widget in a real browser, on a page like amoCRM's, against a server that keeps it to docs/widget-api.md."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest
from playwright.async_api import Route

from tests.support.accessibility import accessible
from tests.support.chromium import open_chromium
from tests.support.looks import keep
from tests.support.widget_page import CARD, OUTPUT, WidgetPage
from tests.support.widget_server import ANNA, Server, open_amocrm

FAILED_REQUESTS = ("Failed to load resource", "Access to ")      # the second: by CORS
HOSTILE = "<img src=x onerror=\"document.title='stolen'\"><b>Eve</b>"
SAVED = {"login": "acme", "functions": json.dumps({"live_card": False}), "extensions": json.dumps({"77": "101"})}
LIVE = {**SAVED, "functions": json.dumps({"live_card": True})}
UNCOVERED = """getComputedStyle(document.querySelector('.smartswitch-card')).position === 'fixed' &&
    [...document.querySelectorAll('a, button')].filter(one => !one.closest('.smartswitch-card')).every(control => {
        const box = control.getBoundingClientRect();
        return control === document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    })"""
ALL_SWITCHES = ("forward_to_responsible", "set_caller_name", "create_on_incoming", "create_on_outgoing",
                "task_on_new_contact", "task_on_missed")


@dataclass(frozen=True, slots=True)
class Bench(WidgetPage):
    server: Server

    async def the_call(self) -> str:
        """The id of the call that a click has made."""
        return str((await self.server.asked_for("POST calls"))["request"])

    def is_well(self) -> None:
        """Nothing was asked that the contract does not have, and the page has logged nothing but failed requests."""
        assert self.server.complaints == []
        assert [one for one in self.tab.complaints if not one.startswith(FAILED_REQUESTS)] == []


@pytest.fixture
def bench() -> AbstractAsyncContextManager[Bench]:
    return _open()


@asynccontextmanager
async def _open() -> AsyncIterator[Bench]:
    async with open_amocrm() as (crm, server), open_chromium() as tab:
        opened = Bench(tab, crm, server)
        yield opened
        opened.is_well()


async def test_one_click_is_one_call_whose_steps_are_told(bench: Bench) -> None:
    async with bench.server.running():
        bench.crm.card = {"type": "contacts", "id": 9001}
        await bench.open(saved=SAVED)
        await bench.tab.value("document.querySelectorAll('.call').forEach(call => { call.click(); call.click(); })")
        call = await bench.the_call()
        assert await bench.notified(1) == [["call", "+7 (495) 123-45-67", "Your phone is ringing: pick it up"]]
        await keep(bench.tab, "widget-ringing")
        contact = {"type": "contacts", "id": 9001, "name": "Ivan Petrov"}
        await bench.server.change(call, state="ringing_them", contact=contact, deal={"id": 71, "name": "Furniture"})
        await bench.notified(2)
        await bench.server.change(call, state="talking", talk_seconds=60)
        await bench.tab.until(f"/1:(0[1-9]|[1-5][0-9])/.test({CARD}.innerText)")         # the page counts on
        assert (await bench.text(CARD)).split("\n")[:4] == ["Ivan Petrov", "+7 (495) 123-45-67", "Furniture", "Talking"]
        assert await bench.tab.value(f"[...{CARD}.querySelectorAll('a')].map(a => a.getAttribute('href'))") == [
            "/contacts/detail/9001", "/leads/detail/71"]
        await keep(bench.tab, "widget-talking")
        await accessible(bench.tab, ".smartswitch-card")
        await bench.click(".smartswitch-card__hang-up")
        assert (await bench.notified(4))[1:] == [
            ["call", "Ivan Petrov", "Ringing at the other end"], ["call", "Ivan Petrov", "Talking"],
            ["call", "Ivan Petrov", "The call has ended"]]
        await bench.tab.until(f"{CARD} === null")                    # nothing stays on the page
    (asked,) = [one for one in bench.server.asked if one.what == "POST calls"]
    assert (asked.user, asked.body["phone"], asked.body["extension"], asked.body["entity"]) == (
        ANNA, "+7 (495) 123-45-67", "101", {"type": "contacts", "id": 9001})
    assert [one.what for one in bench.server.asked].count(f"DELETE calls/{call}") == 1
    assert "GET calls" not in [one.what for one in bench.server.asked]         # the live card is off
    assert await bench.tab.value("bench.callingStatus") == [True, False]


async def test_what_fails_is_said_in_words_and_hostile_words_stay_words(bench: Bench) -> None:
    server = bench.server
    bench.crm.phones, bench.crm.name, bench.crm.language = (HOSTILE,), "AMOCRM", "es"
    async with server.running():
        server.problems["POST calls"] = {"status": 403, "title": "No tiene extensión", "detail": HOSTILE,
                                         "remedy": "Pídala a su administrador.", "code": "no_extension"}
        await bench.open(saved=SAVED)
        await bench.click()
        (told,) = await bench.notified(1)
        assert told == ["error", HOSTILE, f"No tiene extensión. {HOSTILE}. Pídala a su administrador."]
        del server.problems["POST calls"]
        server.lost_answers = 1
        await bench.tab.value("new Promise(passed => setTimeout(passed, 2500))")     # or it would be a double click
        await bench.click()
        await bench.notified(2)
        _, asked, again = server.bodies("POST calls")
        assert again.pop("age") >= 1                                 # sent again, and one call
        assert again == asked
        first = asked["request"]
        assert len(server.calls) == 1
        await server.change(first, contact={"type": "javascript", "id": 1, "name": HOSTILE},
                            deal={"id": "71\" onclick=\"x", "name": HOSTILE}, state="talking", talk_seconds=0)
        await bench.tab.until(f"{CARD}?.innerText.includes('En conversación')")
        assert (await bench.text(CARD)).count(HOSTILE) == 3
        assert await bench.tab.value(f"{CARD}.querySelector('a')") is None
        await server.change(first, state="ended", outcome="struck by lightning", why=HOSTILE)
        assert (await bench.notified(4))[-1] == ["error", HOSTILE, HOSTILE]
        await keep(bench.tab, "widget-hostile")
    assert await bench.tab.value("document.querySelectorAll('#notifications img, .smartswitch-card img').length") == 0
    assert await bench.tab.value("document.title") == "A page like amoCRM's"


async def test_installing_from_an_empty_window(bench: Bench) -> None:
    server, tab = bench.server, bench.tab
    bench.crm.managers[78] = HOSTILE
    async with server.running():
        await bench.open()
        await bench.click("#open")
        assert await tab.value("document.querySelector('[name=server_url]').value") == bench.crm.server
        await bench.fill(login="acme", password="wrong", user_77=" 101 ", user_78="101")
        server.problems["POST check"] = {"status": 401, "title": "Login or password is wrong", "code": "wrong_password",
                                         "remedy": "Ask your operator."}
        await bench.click("#window button[type=button]")
        await tab.until(f"{OUTPUT}.textContent === 'Login or password is wrong. Ask your operator.'")
        del server.problems["POST check"]
        server.connected = {**server.connected, "crm_connected": False, "notes": [f"The trunk {HOSTILE} is down."]}
        await bench.click("#window button[type=button]")
        await tab.until(f"{OUTPUT}.textContent.startsWith('The connection works: Acme, extensions: 2.')")
        assert "handed its access to the server yet. Save the settings" in (await bench.text(OUTPUT))
        assert f"The trunk {HOSTILE} is down." in await bench.text(OUTPUT)
        await tab.look(width=1280, height=1300)
        await keep(tab, "widget-settings")
        await accessible(tab, ".smartswitch-form")
        await bench.click("#save")
        await tab.until("bench.refused")
        assert await bench.text(OUTPUT) == (
            f"The extension 101 stands at two users: Anna Archer and {HOSTILE}. Each needs their own.")
        assert await bench.notified(1) == [["error", "Smartswitch", await bench.text(OUTPUT)]]
        assert server.bodies("POST settings") == []
        await bench.fill(user_78="104", password="right")
        server.problems["POST settings"] = {"status": 422, "title": "There is no extension 104",
                                            "code": "unknown_extension"}
        await bench.click("#save")
        await tab.until(f"{OUTPUT}.textContent === 'There is no extension 104.'")
        await tab.until("bench.refused")
        assert bench.crm.saved == {}
        del server.problems["POST settings"]
        await bench.fill(user_78="")
        await tab.value("document.querySelector('#smartswitch-task_on_missed').click()")
        await tab.value("document.querySelector('#smartswitch-live_card').click()")
        await bench.click("#save")
        await tab.until("bench.saves === 1")
    sent = server.bodies("POST settings")[-1]
    assert (sent["login"], sent["password"], sent["extensions"]) == ("acme", "right", {"77": "101"})
    assert [name for name in ALL_SWITCHES if sent["functions"][name]] == [
        "forward_to_responsible", "set_caller_name", "task_on_missed"]
    assert json.loads(bench.crm.saved["functions"])["live_card"] is False
    assert "right" not in json.dumps(bench.crm.saved) + json.dumps(await tab.value("({...localStorage})"))
    assert "wrong" not in json.dumps(bench.crm.saved)


async def test_an_office_of_three_hundred_is_saved_whole_and_doubles_are_named(bench: Bench) -> None:
    """Among them those who have left, whose extension another has now, and some who share a name."""
    server, tab, crm = bench.server, bench.tab, bench.crm
    crm.managers = {user: f"Иванова-Константинопольская Мария № {user}" for user in range(1000, 1300)}
    crm.managers |= {77: "Anna Archer", 1001: "Пётр Ли", 1002: "Пётр Ли", 1003: HOSTILE}
    crm.left = frozenset({1004, 1005})
    saved = {str(user): str(user - 900) for user in crm.managers if user != 77} | {"1004": "101", "1005": "102"}
    async with server.running():
        await bench.open(saved={**SAVED, "extensions": json.dumps(saved)})
        await bench.click("#open")
        await bench.fill(user_1002="101", user_1003=" 100")
        await bench.click("#save")
        await tab.until("bench.refused === 'doubles'")
        assert await bench.text(OUTPUT) == (
            "The extension 101 stands at two users: Пётр Ли (1001) and Пётр Ли (1002). Each needs their own. "
            f"The extension 100 stands at two users: {crm.managers[1000]} and {HOSTILE}. Each needs their own.")
        assert server.bodies("POST settings") == []
        await bench.fill(user_1002="102", user_1003="103")
        await bench.click("#save")
        await tab.until("bench.saves === 1")
    (sent,) = server.bodies("POST settings")
    assert sent["extensions"] == {str(user): str(user - 900) for user in range(1000, 1300) if user not in crm.left}


async def test_settings_are_sent_where_the_browsers_store_is_full(bench: Bench) -> None:
    async with bench.server.running():
        await bench.open(saved=SAVED)
        await bench.tab.value("(() => { for (const name of ['getItem', 'setItem', 'removeItem']) "
                              "Storage.prototype[name] = () => { throw new Error('full'); }; })()")
        await bench.click("#open")
        await bench.click("#save")
        await bench.tab.until("bench.saves === 1")
        assert len(bench.server.bodies("POST settings")) == 1


async def test_a_server_that_is_away_keeps_nobody_from_saving_nor_from_switching_off(bench: Bench) -> None:
    server, tab = bench.server, bench.tab
    await bench.open(saved=LIVE)
    await bench.click()
    ((kind, _, text),) = await bench.notified(1)
    assert kind == "error"
    assert f"The server {bench.crm.server} does not answer. Check the address" in text
    assert await tab.value(CARD) is None
    bench.crm.saved, bench.crm.status = {}, "install"
    await bench.open("hurry=100")
    await bench.click("#open")
    await bench.fill(login="acme", password="right", user_77="101")
    await bench.click("#save")
    await tab.until("bench.saves === 1")
    ((kind, _, text),) = await bench.notified(1)
    assert kind == "error"
    assert "does not answer" in text
    assert "are kept in the CRM, but have not reached the server" in text
    assert bench.crm.saved["login"] == "acme"
    async with server.running():                                     # it comes back while the page is open
        assert (await server.asked_for("POST settings"))["password"] == "right"
        await tab.until("localStorage.length === 0")
        await bench.click("#open")
        await bench.fill(user_77="102")
        server.problems["POST settings"] = {"status": 401, "title": "Your page is too old", "code": "token_expired"}
        await bench.click("#save")                                   # which is not for what was entered
        await tab.until("bench.saves === 2")
        assert (await bench.notified(3))[2][2].startswith("Your page is too old. The settings are kept in the CRM")
    await bench.open()                                               # and, while it is away, the page is loaded anew
    await bench.click("#open")
    await bench.fill(user_77="101", user_78="101")                   # which could not be saved
    await bench.click("#off")
    await tab.until("bench.saves === 1")                             # of this page
    assert bench.crm.status == "install"


async def test_settings_that_are_owed_are_sent_when_amocrm_is_opened_again(bench: Bench) -> None:
    server, tab = bench.server, bench.tab
    await bench.open(saved=SAVED)
    await tab.value("localStorage.setItem('smartswitch-unsent', '1')")
    server.problems["POST settings"] = {"status": 401, "title": "A password is needed", "code": "password_needed"}
    async with server.running():
        server.functions = {"create_on_outgoing": True, "set_caller_name": False}
        await bench.open()
        (told,) = await bench.notified(1)
        assert told[2] == "A password is needed. Enter the password in the widget's settings and save them once more."
        (sent,) = server.bodies("POST settings")
        assert (sent["extensions"], "password" in sent) == ({"77": "101"}, False)
        del server.problems["POST settings"]
        await bench.click("#open")                                   # where the server's own state is shown
        await tab.until("document.querySelector('#smartswitch-create_on_outgoing').checked")
        assert not await tab.value("document.querySelector('#smartswitch-set_caller_name').checked")
        await bench.click("#save")
        await tab.until("bench.saves === 1")
        assert server.bodies("POST settings")[-1]["functions"]["create_on_outgoing"] is True
        assert await tab.value("localStorage.length") == 0
        await bench.click("#open")
        await bench.fill(server_url="http://pbx.example.org")
        await bench.click("#save")
        await tab.until("bench.refused === 'no_https'")
        assert await tab.value("localStorage.length") == 0
    server.deaf_to_origin = True
    async with server.running():
        await bench.open()
        await bench.click("#open")
        await bench.click("#window button[type=button]")
        await tab.until(f"{OUTPUT}.textContent.includes('is there, but does not talk to this page')")


async def test_of_two_tabs_one_asks_and_both_show_who_calls(bench: Bench) -> None:
    server, tab = bench.server, bench.tab
    bench.crm.saved = {**LIVE, "server_url": bench.crm.server}
    both = "[...document.querySelectorAll('iframe')].map(f => f.contentDocument.querySelector('.smartswitch-card'))"
    async with server.running():
        await tab.open(f"{bench.crm.origin}/two")
        for frame in (0, 1):                                         # it is hung up in either
            await server.change(f"c-0{frame}", state="ringing_them")
            await tab.until(f"{both}.every(card => card?.innerText.includes('Ringing at the other end'))")
            await tab.value(f"{both}[{frame}].querySelector('.smartswitch-card__hang-up').click()")
            await tab.until(f"{both}.every(card => card === null)")
            server.calls.clear()
        await server.change("c-1", direction="inbound", state="ringing_you", may_hang_up=False,
                            contact={"type": "companies", "id": 5, "name": "Carter & Sons"})
        await tab.until(f"{both}.every(card => card?.innerText.includes('Incoming call'))")
        assert await tab.value(f"{both}[0].querySelector('.smartswitch-card__hang-up')") is None
        await keep(tab, "widget-two-tabs")
        assert server.most_watchers == 1
        # The tab that leads is closed, and the other one takes over.
        await tab.value("document.querySelector('iframe').remove()")
        await server.change("c-1", state="talking", talk_seconds=0, may_hang_up=True)
        await tab.until(f"{both}.every(card => card?.innerText.includes('Talking'))")
        server.calls.clear()                                         # which the server need not have told
        await server.change("c-2", number="", direction="inbound", state="ended", outcome="missed")
        await tab.until(f"{both}[0]?.innerText.includes('The call was missed')")
        assert (await bench.text(f"{both}[0]")).split("\n")[:2] == ["Withheld number", "The call was missed"]
        await tab.until(f"{both}[0] === null")
    assert server.bodies("POST calls") == []


async def test_no_call_is_shown_for_ever_and_the_page_comes_back_by_itself(bench: Bench) -> None:
    server, tab = bench.server, bench.tab
    async with server.running():
        await bench.open(saved=LIVE)
        await server.change("c-1", direction="inbound", state="talking", talk_seconds=5)
        await tab.until(f"{CARD}?.innerText.includes('Talking')")
    await tab.until(f"{CARD} === null")                              # the server is away, and nobody knows
    assert await tab.value("bench.callingStatus") == [True, False]
    assert len(tab.complaints) <= 7                                  # no error each second in the CRM's console
    async with server.running():
        await tab.until(f"{CARD}?.innerText.includes('Talking')")    # the same call, as it was told before
        server.problems["GET calls"] = {"status": 401, "title": "The page is too old", "code": "token_expired"}
        await server.change("c-1", talk_seconds=6)
        await tab.until(f"{CARD} === null")                          # a browser that has slept
        del server.problems["GET calls"]
        await tab.until(f"{CARD}?.innerText.includes('Talking')")    # and amoCRM has got another token
        server.problems["GET calls"] = {"status": 403, "title": "You have no extension", "code": "no_extension"}
        await server.change("c-1", talk_seconds=7)
        await tab.until(f"{CARD} === null")
    assert await tab.value("bench.callingStatus.at(-1)") is False


async def test_a_click_whose_server_starts_anew_ends_on_the_page(bench: Bench) -> None:
    server, tab = bench.server, bench.tab
    async with server.running():
        await bench.open(saved=SAVED)
        await bench.click()
        await tab.until(f"{CARD}?.innerText.includes('Your phone is ringing')")
    server.problems[f"GET calls/{await bench.the_call()}"] = {
        "status": 404, "title": "There is no such call", "code": "no_such_call"}
    async with server.running():
        assert (await bench.notified(2))[1] == ["error", "+7 (495) 123-45-67", "There is no such call."]
        await tab.until(f"{CARD} === null")
    assert len(server.bodies("POST calls")) == 1


async def test_what_was_clicked_is_not_shown_once_the_widget_is_switched_off(bench: Bench) -> None:
    server, tab = bench.server, bench.tab
    async with server.running():
        await bench.open(saved=LIVE)
        await bench.click()
        call = await bench.the_call()
        await tab.until(f"{CARD}?.innerText.includes('Your phone is ringing')")
        await bench.notified(1)            # the click has its answer: from now on its call is followed
        await bench.click("#open")
        await bench.click("#off")
        await tab.until(f"bench.saves === 1 && {CARD} === null")
        await server.change(call, state="talking", talk_seconds=0)
        answered = f"performance.getEntriesByType('resource').some(one => one.name.includes('calls/{call}'))"
        await tab.until(answered)                                    # what the page had asked before
        await tab.value("new Promise(passed => setTimeout(passed, 1000))")
        assert await tab.value(CARD) is None
        assert (await bench.notified(1))[1:] == []


async def test_a_page_without_notifications_has_the_card(bench: Bench) -> None:
    async with bench.server.running():
        await bench.open(saved=SAVED)
        await bench.tab.value("delete (window.APP || window.AMOCRM).notifications")
        await bench.click()
        await bench.server.change(await bench.the_call(), state="ringing_them")
        await bench.tab.until(f"{CARD}?.innerText.includes('Ringing at the other end')")
        await bench.click(".smartswitch-card__hang-up")
        await bench.tab.until(f"{CARD} === null")


async def late(route: Route) -> None:
    await asyncio.sleep(0.5)
    await route.continue_()


async def test_the_card_keeps_off_amocrms_controls_and_goes_when_told(bench: Bench) -> None:
    server, tab = bench.server, bench.tab
    async with server.running():
        await tab.look(width=1280, height=800)
        await tab.page.route("**/style.css*", late)                  # the card may be there before its style
        await bench.open("busy-corner", saved=LIVE)
        assert await tab.value(CARD) is None
        await server.change("c-1", state="talking", talk_seconds=4000)
        await tab.until(f"{CARD}?.innerText.includes('1:06:4')")
        await tab.until(UNCOVERED)
        await tab.value("document.body.append(Object.assign(document.createElement('button'),"
                        " {textContent: 'Chat', style: 'position: fixed; right: 20px; top: 90px'}))")
        await tab.until(UNCOVERED)                                   # nor off what comes while it is there
        await keep(tab, "widget-corner")
        await bench.click(".smartswitch-card__close")
        await server.change("c-1", state="ended", outcome="talked")
        await server.change("c-2", state="ringing_you", direction="inbound")
        await tab.until(f"{CARD}?.innerText.includes('Incoming call')")
        assert await tab.value(f"{CARD}.children.length") == 1
