"""The set-up pages without a socket: each does what its user comes for, for their own office alone."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import httpx
import pytest

from b2bua.cdr import ClientId
from b2bua.control import RegisteredPhone
from b2bua.directory import Directory, Extension
from b2bua.sip.auth import ha1
from tests.support.web_site import ACME, BETA, OF_OFFICE, PASSWORD, REALM, Site, fields, form_token, open_site, sign_in
from web.setup.extensions import ROWS

HOSTILE = "<script>alert(1)</script>\"'&\u202e"
EXTENSIONS, GROUPS, NUMBERS = (f"/clients/acme/{place}" for place in ("extensions", "groups", "numbers"))
SETTINGS, CHANGES = "/clients/acme/settings", "/clients/acme/changes"


@asynccontextmanager
async def office(tmp_path: Path, login: str = ACME) -> AsyncIterator[tuple[Site, httpx.AsyncClient]]:
    """Its administrator's browser."""
    async with open_site(tmp_path) as site, site.browser() as browser:
        await sign_in(browser, OF_OFFICE[ClientId(login)], login)
        yield site, browser


async def send(browser: httpx.AsyncClient, path: str, **changed: str) -> httpx.Response:
    """The form of a page as it stands there, with some fields filled in otherwise."""
    sent = fields((await browser.get(path)).text) | {name.replace("__", "."): text for name, text in changed.items()}
    return await browser.post(path, data={name: text for name, text in sent.items() if text != "OFF"})


async def directory(site: Site) -> Directory:
    return (await site.store.directory.load())[0]


# -- extensions


async def test_who_is_there_is_seen_and_found(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        site.control.phones = [
            RegisteredPhone(ACME, "101", "sip:101@192.0.2.9", "Phone", 60, "reachable"),
            RegisteredPhone(BETA, "102", "sip:102@192.0.2.9", "Phone", 60, "reachable")]
        page = (await browser.get(EXTENSIONS)).text
        assert "Anna of Acme" in page
        assert "Beta" not in page
        assert page.count(">registered<") == 1
        assert page.count(">no phone<") == 1
        assert "Anna" not in (await browser.get(EXTENSIONS, params={"q": "boRIS"})).text
        nobody = (await browser.get(EXTENSIONS, params={"q": HOSTILE})).text
        assert "Nothing has that" in nobody
        assert "<script>alert" not in nobody


async def test_a_large_office_is_shown_page_by_page(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        old, generation = await site.store.directory.load()
        many = tuple(Extension(ACME, str(number), f"acme-{number}", {"MD5": "0" * 32}) for number in range(1000, 3000))
        await site.store.directory.replace(old, replace(old, extensions=old.extensions + many), generation)
        first = (await browser.get(EXTENSIONS)).text
        assert first.count('scope="row"') == ROWS
        last = (await browser.get(EXTENSIONS, params={"page": "21"})).text
        assert last.count('scope="row"') == 2
        assert "2002 extensions" in last
        assert (await browser.get(EXTENSIONS, params={"page": "999"})).text == last
        for page in ("0", "-1", "x", "9" * 40):
            assert (await browser.get(EXTENSIONS, params={"page": page})).text.count('scope="row"') == ROWS


async def test_a_new_extension_gets_a_password_and_its_phone_a_code(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        answer = await send(browser, f"{EXTENSIONS}/new", number="103", name=HOSTILE)
        assert answer.status_code == 303
        page = (await browser.get(answer.headers["location"])).text
        assert "<svg" in page
        assert "sip.example.org:5060" in page
        assert "data:" not in page
        assert "style=" not in page
        password = re.search(r"<dt>Password</dt><dd><code>(\w+)</code>", page)
        assert password is not None
        extension = (await directory(site)).extension[ACME, "103"]
        assert extension.name == HOSTILE
        assert extension.ha1["MD5"] == ha1("MD5", "acme-103", REALM, password[1])
        listed = (await browser.get(EXTENSIONS)).text
        assert "<script>alert" not in listed
        assert html.escape(HOSTILE).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in listed


async def test_a_phone_sets_itself_up_once(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser), site.browser(headers={"Accept": "*/*"}) as phone:
        answer = await send(browser, f"{EXTENSIONS}/new", number="103")
        page = answer.headers["location"]
        shown = (await browser.get(page)).text
        address = re.search(r"<code>https://pbx\.example\.org/provision/([\w-]+)</code>", shown)
        assert address is not None
        link = address[1]
        assert (await phone.head(f"/provision/{link}")).status_code == 200
        xml = await phone.get(f"/provision/{link}")
        assert xml.headers["content-type"].startswith("application/xml")
        assert xml.headers["cache-control"] == "no-store"
        said = {entry.get("name"): entry.text for entry in ElementTree.fromstring(xml.text).iter()}  # noqa: S314 - ours
        assert (said["username"], said["userid"]) == ("103", "acme-103")
        assert ha1("MD5", "acme-103", REALM, said["passwd"] or "") == (
            (await directory(site)).extension[ACME, "103"].ha1["MD5"])
        for path in (link, "guessed"):
            assert (await phone.get(f"/provision/{path}")).status_code == 410
        assert "A phone has fetched its settings" in (await browser.get(page)).text


async def test_one_field_is_changed_and_the_rest_stays(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        before = (await directory(site)).extension[ACME, "101"]
        answer = await send(browser, f"{EXTENSIONS}/101", name="Анна", on_busy="102", hide_caller_id="on")
        assert (answer.status_code, answer.headers["location"]) == (303, f"{EXTENSIONS}?notice=saved")
        assert (await directory(site)).extension[ACME, "101"] == replace(
            before, name="Анна", on_busy="102", hide_caller_id=True)
        assert "Saved" in (await browser.get(answer.headers["location"])).text
        await send(browser, f"{EXTENSIONS}/101", on_busy="", hide_caller_id="OFF")
        assert (await directory(site)).extension[ACME, "101"] == replace(before, name="Анна")


async def test_another_number_takes_groups_and_phones_along(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        before = (await directory(site)).extension[ACME, "101"]
        assert (await send(browser, f"{EXTENSIONS}/101", number="111")).status_code == 303
        after = await directory(site)
        assert after.extension[ACME, "111"] == replace(before, number="111")
        assert after.group[ACME, "600"].members == ("111", "102")


async def test_what_is_wrong_is_said_at_its_field_and_the_form_keeps_what_was_typed(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        generation = await site.store.directory.generation()
        answer = await send(browser, f"{EXTENSIONS}/101", name=HOSTILE, on_busy="999", ring_seconds="soon",
                            max_calls="0")
        assert answer.status_code == 422
        page = answer.text
        assert 'href="#f-ring_seconds"' in page
        assert re.search(r'id="f-ring_seconds" name="ring_seconds" value="soon"[^>]*aria-invalid="true"', page)
        assert "This is the wrong kind of value. Give a whole number." in page
        assert "Give 1 or more." in page
        assert "<script>alert" not in page
        answer = await send(browser, f"{EXTENSIONS}/101", on_busy="999")
        assert "There is no extension or group 999. Known are 101, 102, 600; outside" in answer.text
        answer = await send(browser, f"{EXTENSIONS}/new", number="")
        assert "This has to be filled in." in answer.text
        assert await site.store.directory.generation() == generation


async def test_complaints_are_said_in_the_language_of_the_page(tmp_path: Path) -> None:
    async with office(tmp_path) as (_, browser):
        browser.headers["Accept-Language"] = "ru"
        answer = await send(browser, f"{EXTENSIONS}/101", on_busy="999")
        assert "Нет внутреннего номера или группы 999. Есть: 101, 102, 600; внешние" in answer.text
        answer = await send(browser, f"{EXTENSIONS}/101", max_calls="0", ring_seconds="soon")
        assert "Это слишком мало. Нужно: 1 или больше." in answer.text
        assert "Это значение не того вида. Нужно: целое число." in answer.text


async def test_what_others_need_cannot_go_and_it_is_said_who(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        page = await browser.get(f"{EXTENSIONS}/101/remove")
        assert "Group 600" in page.text
        assert 'href="/clients/acme/groups/600"' in page.text
        answer = await browser.post(f"{EXTENSIONS}/101/remove", data={"token": form_token(page.text)})
        assert answer.status_code in (409, 422)
        await send(browser, f"{GROUPS}/600", members="102")
        page = await browser.get(f"{EXTENSIONS}/101/remove")
        assert "It is gone at once" in page.text
        answer = await browser.post(f"{EXTENSIONS}/101/remove", data=fields(page.text))
        assert answer.headers["location"] == f"{EXTENSIONS}?notice=removed"
        assert (ACME, "101") not in (await directory(site)).extension


async def test_what_somebody_else_has_changed_meanwhile_is_shown(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        opened = fields((await browser.get(f"{EXTENSIONS}/101")).text)
        await send(browser, f"{EXTENSIONS}/101", name="Of somebody else")
        answer = await browser.post(f"{EXTENSIONS}/101", data={**opened, "name": "Mine"})
        assert answer.status_code == 409
        assert "Of somebody else" in answer.text
        assert "Mine" in answer.text
        assert (await directory(site)).extension[ACME, "101"].name == "Of somebody else"
        await send(browser, f"{GROUPS}/new", number="601", members="101")
        page = await browser.get(f"{GROUPS}/601/remove")
        await send(browser, f"{GROUPS}/601", name="Of somebody else")
        assert (await browser.post(f"{GROUPS}/601/remove", data=fields(page.text))).status_code == 409
        assert (ACME, "601") in (await directory(site)).group


async def test_a_new_password_is_another_one_and_is_logged_without_it(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        page = (await browser.get(f"{EXTENSIONS}/101")).text
        sent = {name: fields(page)[name] for name in ("token", "seen")}
        answer = await browser.post(f"{EXTENSIONS}/101/password", data=sent)
        shown = (await browser.get(answer.headers["location"])).text
        password = re.search(r"<dt>Password</dt><dd><code>(\w+)</code>", shown)
        assert password is not None
        hashes = (await directory(site)).extension[ACME, "101"].ha1
        assert hashes["MD5"] == ha1("MD5", "acme-101", REALM, password[1])
        log = (await browser.get(CHANGES)).text
        assert "a secret: not shown" in log
        assert password[1] not in log
        assert hashes["MD5"] not in log


# -- groups and numbers


async def test_a_group_is_made_changed_and_removed(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        answer = await send(browser, f"{GROUPS}/new", number="601", name="Support", members="102\n101",
                            strategy="in-turn", member_seconds="20")
        assert answer.status_code == 303
        group = (await directory(site)).group[ACME, "601"]
        assert (group.members, group.strategy.value, group.member_seconds) == (("102", "101"), "in-turn", 20)
        answer = await send(browser, f"{GROUPS}/601", strategy="together")
        assert answer.status_code == 422
        assert "The members of 601 ring together, so no one has a time of their own." in answer.text
        assert (await send(browser, f"{GROUPS}/601", strategy="together", member_seconds="15")).status_code == 303
        answer = await send(browser, f"{GROUPS}/new", number="101", members="101 109")
        assert "There is no extension 109" in answer.text
        assert "Number 101 is there already" in answer.text
        page = await browser.get(f"{GROUPS}/601/remove")
        assert (await browser.post(f"{GROUPS}/601/remove", data=fields(page.text))).status_code == 303


async def test_a_number_has_hours(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        page = (await browser.get(f"{NUMBERS}/new")).text
        assert fields(page)["hours.time_zone"] == "Europe/Moscow"
        assert '<option value="600">' in page
        assert '<option value="announcement:busy">' in page
        answer = await send(browser, f"{NUMBERS}/new", number="8 (495) 222-33-44", destination="600",
                            hours__open="mon-fri 09:00-18:00\nsat 10:00-14:00", hours__otherwise="announcement:busy",
                            hours__holidays="01-01, 2026-05-11")
        assert answer.status_code == 303
        hours = (await directory(site)).did[ACME, "+74952223344"].hours
        assert hours is not None
        assert hours.open == ("mon-fri 09:00-18:00", "sat 10:00-14:00")
        assert hours.holidays == ("01-01", "2026-05-11")
        path = f"{NUMBERS}/{quote('+74952223344')}"
        answer = await send(browser, path, hours__open="mon-fri 9-18", hours__time_zone="Moscow")
        assert answer.status_code == 422
        assert "&#39;mon-fri 9-18&#39; is no opening time. Write it like mon-fri 09:00-18:00." in answer.text
        assert "There is no time zone" in answer.text
        assert (await send(browser, path, hours__open="", hours__otherwise="", hours__holidays="")).status_code == 303
        assert (await directory(site)).did[ACME, "+74952223344"].hours is None
        assert "always open" in (await browser.get(NUMBERS)).text


# -- settings


async def test_an_administrator_changes_the_office_but_not_its_limits(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        page = (await browser.get(SETTINGS)).text
        assert "max_calls" not in fields(page)
        answer = await send(browser, SETTINGS, name="Acme Ltd", pickup_code="", record="OFF", max_calls="9999",
                            outgoing_per_hour="9999", id="beta")
        assert answer.status_code == 303
        client = (await directory(site)).client[ACME]
        assert (client.name, client.pickup_code, client.record) == ("Acme Ltd", "", False)
        assert (client.max_calls, client.outgoing_per_hour) == (100, 600)
        assert (await send(browser, SETTINGS, login="beta")).status_code == 422


async def test_the_operator_sets_limits_and_sees_every_office(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site, site.browser() as browser:
        await sign_in(browser, PASSWORD)
        page = fields((await browser.get(SETTINGS)).text)
        limits = {"limit[0].prefix": "+882", "limit[0].refused": "on", "limit[2].prefix": "+7900",
                  "limit[2].max_calls": "2"}
        assert (await browser.post(SETTINGS, data={**page, **limits, "max_calls": "7"})).status_code == 303
        client = (await directory(site)).client[ACME]
        assert client.max_calls == 7
        assert [(one.prefix, one.max_calls, one.refused) for one in client.limits] == [
            ("+882", None, True), ("+7900", 2, False)]
        page = fields((await browser.get(SETTINGS)).text)
        gone = {name: text for name, text in page.items() if not name.startswith("limit[0]")}
        answer = await browser.post(SETTINGS, data={**gone, "limit[1].max_calls": "", "limit[1].prefix": "+7900"})
        assert answer.status_code == 422
        assert "The limit for +7900 limits nothing." in answer.text
        assert 'aria-describedby="f-limit-0-prefix-hint' in answer.text
        assert (await browser.post(SETTINGS, data=gone)).status_code == 303
        assert [one.prefix for one in (await directory(site)).client[ACME].limits] == ["+7900"]
        assert (await browser.get("/clients/beta/extensions")).status_code == 200
        assert (await browser.get("/clients/nobody/extensions")).status_code == 404


async def test_who_changes_their_password_says_the_old_one(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        before = (await directory(site)).client[ACME].password_hash
        answer = await send(browser, SETTINGS, password="a new long password", current="guessed")
        assert answer.status_code == 422
        assert "The current password is wrong." in answer.text
        assert "a new long password" not in answer.text
        answer = await send(browser, SETTINGS, password="short", current=OF_OFFICE[ACME])
        assert "12 to 200 characters" in answer.text
        assert (await directory(site)).client[ACME].password_hash == before
        answer = await send(browser, SETTINGS, password="a new long password", current=OF_OFFICE[ACME])
        assert answer.headers["location"] == "/sign-in"
        await site.users.load()
        assert (await browser.get(SETTINGS)).headers["location"].startswith("/sign-in")
        assert (await sign_in(browser, "a new long password", ACME)).headers["location"] == "/"


# -- changes


async def test_the_log_says_who_has_changed_what_from_what_to_what(tmp_path: Path) -> None:
    async with office(tmp_path) as (_, browser):
        await send(browser, f"{EXTENSIONS}/101", name=HOSTILE)
        page = (await browser.get(CHANGES)).text
        assert "Extension 101" in page
        assert "by acme" in page
        assert "Anna of Acme" in page
        assert "<script>alert" not in page
        for number in range(200, 260):
            await send(browser, f"{EXTENSIONS}/new", number=str(number))
        first = (await browser.get(CHANGES)).text
        older = re.search(r'href="\?before=(\d+)"', first)
        assert older is not None
        second = (await browser.get(CHANGES, params={"before": older[1]})).text
        assert "Anna of Acme" in second
        assert "Beta" not in first + second


# -- sheets


async def test_a_sheet_goes_out_and_changes_nothing_when_it_comes_in(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        sheet = await browser.get(f"{EXTENSIONS}.csv")
        assert sheet.headers["content-type"].startswith("text/csv")
        assert sheet.content.startswith(b"\xef\xbb\xbfnumber;")
        assert "0" * 32 not in sheet.text
        generation = await site.store.directory.generation()
        answer = await send(browser, f"{EXTENSIONS}/import", sheet=sheet.text, remove="on")
        assert "Nothing: everything is so already." in answer.text
        assert await site.store.directory.generation() == generation


async def test_a_sheet_is_looked_at_first_and_carried_out_then(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        sheet = "number;name;caller_id\r\n101;Анна;+79161234567\r\n103;Carl;\r\n"
        look = await send(browser, f"{EXTENSIONS}/import", sheet=sheet)
        assert look.status_code == 200
        assert (ACME, "103") not in (await directory(site)).extension
        assert "Extension 103" in look.text
        assert "One password is made" in look.text
        done = await browser.post(f"{EXTENSIONS}/import", data=fields(look.text))
        assert done.status_code == 303
        shown = (await browser.get(done.headers["location"])).text
        assert "acme-103" in shown
        after = await directory(site)
        assert after.extension[ACME, "101"].caller_id == "+79161234567"
        assert after.extension[ACME, "103"].name == "Carl"


async def test_a_sheet_with_faults_says_them_by_line(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        answer = await send(browser, f"{EXTENSIONS}/import", sheet="number;on_busy\n101;999\n102;\n")
        assert answer.status_code == 422
        assert "Line 2, <bdi>on_busy</bdi>: There is no extension or group 999." in answer.text
        answer = await send(browser, f"{EXTENSIONS}/import", sheet=f"number;{HOSTILE}\n101;x\n")
        assert answer.status_code == 422
        assert "<script>alert" not in answer.text
        answer = await send(browser, f"{EXTENSIONS}/import", sheet="number\n101\n", remove="on")
        assert "Group 600" in answer.text
        # What was changed after the look is looked at again.
        look = await send(browser, f"{EXTENSIONS}/import", sheet="number;name\n101;Anna\n")
        again = await browser.post(f"{EXTENSIONS}/import",
                                   data={**fields(look.text), "sheet": "number;name\n101;Anna\n102;Carl\n"})
        assert again.status_code == 200
        assert (await directory(site)).extension[ACME, "102"].name == "Boris of Acme"


# -- who may


@pytest.mark.parametrize("path", [
    "extensions", "extensions/new", "extensions/101", "extensions/101/remove", "extensions.csv", "extensions/import",
    "groups", "groups/new", "groups/600", "groups/600/remove", "numbers", "numbers/new", "numbers/%2B74959998877",
    "numbers/%2B74959998877/remove", "settings", "changes", "phones/x",
])
async def test_another_office_is_not_there(tmp_path: Path, path: str) -> None:
    async with office(tmp_path) as (_, browser):
        answer = await browser.get(f"/clients/beta/{path}")
        assert answer.status_code == 404
        assert "Beta" not in answer.text


async def test_nothing_is_changed_in_another_office_nor_without_the_forms_token(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        generation = await site.store.directory.generation()
        sent = fields((await browser.get(f"{EXTENSIONS}/101")).text)
        for path in ("extensions/new", "extensions/101", "extensions/101/remove", "extensions/101/password",
                     "extensions/import", "groups/600", "groups/600/remove", "numbers/new", "settings"):
            assert (await browser.post(f"/clients/beta/{path}", data={**sent, "number": "109"})).status_code == 404
            assert (await browser.post(f"/clients/acme/{path}", data={**sent, "token": "x"})).status_code == 403
        assert await site.store.directory.generation() == generation


async def test_a_handout_is_its_offices_alone(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser), site.browser() as other:
        answer = await send(browser, f"{EXTENSIONS}/new", number="103")
        page = answer.headers["location"].rpartition("/")[2]
        await sign_in(other, OF_OFFICE[BETA], BETA)
        assert (await other.get(f"/clients/beta/phones/{page}")).status_code == 404
        assert (await other.get(f"/clients/acme/phones/{page}")).status_code == 404
