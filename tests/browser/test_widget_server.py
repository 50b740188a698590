"""The widget in a real browser against the real server: what is saved is stored, and a click is a call."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Route

from b2bua.cdr import CallId
from b2bua.control import ClickOutcome, ClickStage
from tests.support.chromium import open_chromium
from tests.support.web_site import live_call
from tests.support.widget_page import CARD
from tests.support.widget_server import open_amocrm
from tests.support.widget_site import ACME, PASSWORD, integration_of, open_widget_site

FIELDS = {"[name=login]": "acme", "#smartswitch-password": PASSWORD, "[name=\"extensions[77]\"]": "103",
          "[name=\"extensions[78]\"]": "102"}


async def test_settings_are_stored_and_a_click_is_a_call(tmp_path: Path) -> None:
    ours = integration_of(ACME)
    async with open_amocrm() as (crm, page), open_chromium() as tab:
        crm.integration, crm.secret = ours.client_id, ours.client_secret
        async with open_widget_site(tmp_path, {ACME: crm.origin}, page.port, crm.server) as site:
            await tab.open(f"{crm.origin}/page?hurry=20")
            await tab.until("bench.started")
            await tab.value("document.querySelector('#open').click()")
            for selector, value in FIELDS.items():
                await tab.value(f"document.querySelector('#window ' + {selector!r}).value = {value!r}")
            await tab.value("document.querySelector('#smartswitch-task_on_missed').click()")
            await tab.value("document.querySelector('#save').click()")
            await tab.until("bench.saves === 1")
            await site.control.reloaded.wait()
            saved, _ = await site.store.directory.load()
            account = saved.client[ACME].crm
            assert account is not None
            assert account.functions.task_on_missed
            assert (await site.store.crm_users.load())[ACME].map == {77: "103", 78: "102"}

            await tab.open(f"{crm.origin}/page?hurry=20")
            await tab.until("bench.started")
            await tab.value("document.querySelector('.call').click()")
            await site.control.watched.wait()
            assert site.control.asked == [(ACME, "103", "+7 (495) 123-45-67")]
            await site.control.click_becomes(CallId("c-1"), stage=ClickStage.TALKING, contact="Ivan", talk_seconds=3)
            await tab.until(f"{CARD}?.innerText.includes('Talking')")
            assert "Ivan" in await tab.value(f"{CARD}.innerText")
            await tab.value(f"{CARD}.querySelector('.smartswitch-card__hang-up').click()")
            await tab.until(f"{CARD} === null")
            assert site.control.clicks[CallId("c-1")].outcome is ClickOutcome.TALKED
    assert [one for one in tab.complaints if not one.startswith("Failed to load resource")] == []


async def test_a_click_of_a_browser_that_fell_asleep_rings_nobody_an_hour_later(tmp_path: Path) -> None:
    ours = integration_of(ACME)
    async with open_amocrm() as (crm, page), open_chromium() as tab:
        crm.integration, crm.secret = ours.client_id, ours.client_secret
        lost = []

        async def asleep(route: Route) -> None:
            if route.request.method != "POST" or lost:
                await route.continue_()
                return
            lost.append(route.request.post_data_json)
            await tab.value("(() => { const now = Date.now; Date.now = () => now() + 3600e3; })()")
            await route.abort()

        async with open_widget_site(tmp_path, {ACME: crm.origin}, page.port, crm.server) as site:
            await tab.page.route("**/widget/v1/calls?*", asleep)
            crm.saved, crm.status = {"login": "acme", "server_url": crm.server}, "installed"
            await tab.open(f"{crm.origin}/page?hurry=20")
            await tab.until("bench.started")
            await tab.value("document.querySelector('.call').click()")
            await tab.until("bench.notifications.length === 1")
            assert await tab.value("bench.notifications[0]") == {
                "type": "error", "header": "+7 (495) 123-45-67",
                "text": "The click has come too late to be called. Click once more."}
            assert len(lost) == 1
            assert site.control.asked == []


async def test_a_page_that_waits_comes_back_when_the_server_starts_anew(tmp_path: Path) -> None:
    ours = integration_of(ACME)
    async with open_amocrm() as (crm, page), open_chromium() as tab:
        crm.integration, crm.secret = ours.client_id, ours.client_secret
        crm.saved, crm.status = {"login": "acme", "server_url": crm.server}, "installed"
        async with open_widget_site(_made(tmp_path / "one"), {ACME: crm.origin}, page.port, crm.server) as site:
            site.control.calls = [live_call("live-1")]
            await tab.open(f"{crm.origin}/page?hurry=20")
            await tab.until(f"{CARD}?.innerText.includes('Talking')")
        tab.complaints.clear()
        async with open_widget_site(_made(tmp_path / "two"), {ACME: crm.origin}, page.port, crm.server) as site:
            await tab.until(f"{CARD} === null")                      # that call has ended with its server
            site.control.calls = [live_call("live-2")]
            await tab.until(f"{CARD}?.innerText.includes('Talking')")
            assert await tab.value("bench.callingStatus") == [True, False, True]
    assert len(tab.complaints) < 10


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
