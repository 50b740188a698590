"""The set-up in a real browser, found as people and screen readers find it: by labels and by what is written there."""

from __future__ import annotations

from pathlib import Path

from b2bua.directory import Directory
from tests.support.chromium import Tab, go
from tests.support.looks import good_on_every_screen
from tests.support.signed_in import Open, sign_in, signed_in
from tests.support.web_site import ACME, BETA, OF_OFFICE, Site

HOSTILE = "<img src=x onerror=\"document.title='stolen'\">"
CYRILLIC = "Вера"
FAILED_FORM = "the server responded with a status of 422"


async def directory(site: Site) -> Directory:
    return (await site.store.directory.load())[0]


async def test_an_extension_is_added_and_its_phone_is_told_once(tmp_path: Path) -> None:
    async with signed_in(tmp_path, ACME, "/clients/acme/extensions") as (site, tab):
        page = tab.page
        await go(page.get_by_role("link", name="Add an extension"))
        await page.get_by_label("Number", exact=True).fill("101")
        await page.get_by_label("Name", exact=True).fill(HOSTILE)
        await go(page.get_by_role("button", name="Save"))
        await page.get_by_role("alert").wait_for()
        assert await tab.value("document.querySelector('[aria-invalid=true]').value") == "101"
        assert await page.get_by_label("Name", exact=True).input_value() == HOSTILE
        await good_on_every_screen(tab, "extension-taken")
        await page.get_by_role("alert").get_by_role("link").first.click()
        assert await tab.value("document.activeElement.value") == "101"
        await page.keyboard.press("Control+A")
        await page.keyboard.type("103")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Set up the phone of 103").wait_for()
        assert await page.get_by_role("img", name="QR code of the phone").is_visible()
        await good_on_every_screen(tab, "handout")
        await go(page.get_by_role("link", name="Done"))
        await page.get_by_role("link", name="103").wait_for()
        assert HOSTILE in await page.locator("main").inner_text()
        async with page.expect_download() as downloading:
            await page.get_by_role("link", name="Export").click()
        sheet = await (await downloading.value).path()
        assert "103" in sheet.read_text("utf-8-sig")
        assert await tab.value("document.title") != "stolen"
        saved = await directory(site)
    assert saved.extension[ACME, "103"].name == HOSTILE
    assert (BETA, "103") not in saved.extension
    assert [one for one in tab.complaints if FAILED_FORM not in one] == []


async def test_a_sheet_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    async with signed_in(tmp_path, ACME, "/clients/acme/extensions") as (site, tab):
        page, file = tab.page, tmp_path / "sheet.csv"
        async with page.expect_download() as downloading:
            await page.get_by_role("link", name="Export").click()
        exported = (await (await downloading.value).path()).read_text("utf-8-sig")
        await page.route("**/sheet.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
        await go(page.get_by_role("link", name="Import"))
        assert not await page.get_by_label("CSV file").is_visible()         # nothing would read it
        await page.unroute("**/sheet.js")
        await page.reload()
        file.write_bytes(f"number;name;on_no_answer\n103;{CYRILLIC};102\n104;Vera;999\n".encode("cp1251"))
        await page.get_by_label("CSV file").wait_for()
        await page.get_by_label("CSV file").set_input_files(file)
        await tab.until(f"document.querySelector('#sheet').value.includes({CYRILLIC!r})")
        await go(page.get_by_role("button", name="Show what would change"))
        wrong = page.get_by_role("alert")
        assert "Line 3" in await wrong.inner_text()
        assert "999" in await wrong.inner_text()
        assert CYRILLIC in await page.get_by_label("CSV text").input_value()
        await good_on_every_screen(tab, "sheet-wrong")
        text = await page.get_by_label("CSV text").input_value()
        await page.get_by_label("CSV text").fill(text.replace("999", "101"))
        await go(page.get_by_role("button", name="Show what would change"))
        await page.get_by_role("heading", name="What would change 2").wait_for()
        await good_on_every_screen(tab, "sheet-to-be-imported")
        assert (ACME, "103") not in (await directory(site)).extension
        await go(page.get_by_role("button", name="Import this"))
        await page.get_by_role("heading", name="Passwords of new phones").wait_for()
        assert await page.get_by_role("row").filter(has_text=CYRILLIC).locator("code").count() == 2
        await good_on_every_screen(tab, "sheet-passwords")
        await go(page.get_by_role("link", name="Done"))
        await page.get_by_role("link", name="103").wait_for()
        async with page.expect_download() as downloading:
            await page.get_by_role("link", name="Export").click()
        after = (await (await downloading.value).path()).read_text("utf-8-sig")
        assert set(exported.splitlines()) < set(after.splitlines())
        assert (await directory(site)).extension[ACME, "104"].on_no_answer == "101"
    assert [one for one in tab.complaints if FAILED_FORM not in one] == []


async def test_hours_are_set_by_the_keyboard_alone(tmp_path: Path) -> None:
    """From the first key to the log of changes; what is wrong is reached from above, and is still there."""
    async with signed_in(tmp_path, ACME, "/clients/acme/numbers") as (site, tab):
        keys = tab.page.keyboard
        await keys.press("Tab")
        assert await tab.value("document.activeElement.textContent") == "Skip to the content"
        await keys.press("Enter")
        await tabs_to(tab, "+74951112233")
        await keys.press("Enter")
        await tab.page.get_by_role("heading", name="Number +74951112233").wait_for()
        await tabs_to(tab, "Open")
        await keys.type("mon-fri 09:00-18:00")
        await keys.press("Enter")
        await keys.type("sat 25:00-26:00")
        await tabs_to(tab, "Outside these hours calls go to")
        await keys.type("announcement:busy")
        await keys.press("Enter")                      # in a field of one line it sends the form
        await tab.page.get_by_role("alert").wait_for()
        await good_on_every_screen(tab, "hours-wrong")
        await tabs_to(tab, "Open")                     # the summary's link, which leads to the field
        await keys.press("Enter")
        assert await tab.value("document.activeElement.value") == "mon-fri 09:00-18:00\nsat 25:00-26:00"
        for key in ("Control+End", "Shift+Home"):
            await keys.press(key)
        await keys.type("sat 10:00-14:00")
        await tabs_to(tab, "Save")
        await keys.press("Enter")
        await tab.page.get_by_role("status").wait_for()
        await good_on_every_screen(tab, "numbers-with-hours")
        await tab.page.get_by_role("link", name="Changes", exact=True).press("Enter")
        change = tab.page.locator(".changes > li").first
        for words in ("changed", "Number +74951112233", "by acme", "Open", "sat 10:00-14:00"):
            assert words in await change.inner_text()
        assert await change.locator("time").count() == 1
        hours = next(one.hours for one in (await directory(site)).numbers if one.client == ACME)
    assert hours is not None
    assert [one for one in tab.complaints if FAILED_FORM not in one] == []


async def tabs_to(tab: Tab, name: str) -> None:
    """Forward, until what has the focus is called so: no way round for who has no mouse."""
    for _ in range(60):
        await tab.page.keyboard.press("Tab")
        if await tab.value("(document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim()") == name:
            return
    raise AssertionError(f"the keyboard does not get to {name}")


async def test_a_session_is_ended_from_another_browser(opened: Open) -> None:
    tab, other = opened.tab, await opened.tab.another()
    await opened.sign_in(ACME)
    await sign_in(other, opened.url, ACME, OF_OFFICE[ACME])
    await go(tab.page.get_by_role("link", name="Acme"))
    rows = tab.page.locator("main li")
    assert await rows.count() == 2
    await good_on_every_screen(tab, "account-two")
    await go(rows.filter(has_not_text="This one").get_by_role("button", name="End"))
    await tab.page.get_by_text("The session was ended.").wait_for()
    assert await rows.count() == 1
    await go(other.page.get_by_role("link", name="History"))
    await other.page.get_by_role("button", name="Sign in").wait_for()
    await go(tab.page.get_by_role("link", name="History"))
    await tab.page.get_by_role("heading", name="History").wait_for()
    assert tab.complaints == []


async def test_on_a_phone_a_group_is_made_a_number_leads_there_and_both_stand_in_the_log(tmp_path: Path) -> None:
    async with signed_in(tmp_path, ACME, "/clients/acme/groups") as (site, tab):
        page = tab.page
        await tab.look(width=390)
        await go(page.get_by_role("link", name="Add a group"))
        await page.get_by_label("Number", exact=True).fill("700")
        await page.get_by_label("Members").fill("102\n101")
        await go(page.get_by_role("button", name="Save"))
        await page.get_by_role("status").wait_for()
        await go(page.get_by_role("link", name="Numbers"))
        await go(page.get_by_role("link", name="+74951112233"))
        await page.get_by_label("Calls go to", exact=True).fill("700")
        await go(page.get_by_role("button", name="Save"))
        await page.get_by_role("status").wait_for()
        await go(page.get_by_role("link", name="Changes"))
        await page.get_by_role("heading", level=1, name="Changes").wait_for()
        log = await page.locator("main").inner_text()
        assert "700" in log
        assert "+74951112233" in log
        await good_on_every_screen(tab, "changes")
        saved = await directory(site)
    assert saved.group[ACME, "700"].members == ("102", "101")
    assert [one.destination for one in saved.numbers if one.client == ACME] == ["700"]
    assert tab.complaints == []
