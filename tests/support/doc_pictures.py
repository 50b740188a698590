"""Takes the pictures of docs/connect-amocrm.md: an office is set up in a browser, on the real pages, step by step.

Nothing in it depends on chance or on the day, so that a picture changes when a page does. They tell one story: Acme
Furniture was set up in the morning, Ivan Petrov called in the afternoon, and shortly after amoCRM let nobody in.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import sys
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import numpy as np
from playwright.async_api import Page

from b2bua.cdr import CallRecord, ClientId, Direction, Disposition, EndReason
from b2bua.config import WebSettings
from b2bua.control import LastRegister, RegisteredPhone, TriedServer, TrunkState, TrunkTest
from b2bua.crm.health import CrmHealth, Status, SyncState
from b2bua.crm.outbox import LEASE
from b2bua.crm.port import Delivered
from b2bua.crm.users import CrmUser, UserMap
from b2bua.directory import CrmAccount, Directory
from b2bua.recording import waveform
from b2bua.recording.waveform import Waveform
from tests.support import amocrm_drawings as drawings
from tests.support.amo_post import call_back
from tests.support.chromium import Tab, open_chromium
from tests.support.records import note, record
from tests.support.web_site import ACME, OF_OFFICE, OFFICES, NoConnections, Site, open_site
from tests.support.widget_page import OUTPUT, WidgetPage
from tests.support.widget_server import open_amocrm
from web.server import bind_web, serve_web
from web.widget.problems import FROM_THE_FILE

WIDTH = 1000
MARGIN = 24                            # around what a picture shows
NOW = datetime(2026, 3, 2, 12, 15, tzinfo=UTC)         # when the calls are looked at
SET_UP = NOW - timedelta(hours=4)
FIRST_CALL = NOW - timedelta(minutes=11)
TALKED, ENDED = timedelta(seconds=192), timedelta(seconds=199)     # of each call that was answered
ZONE = ZoneInfo("Europe/Moscow")
IVAN, NUMBER = "+79161234567", "+74951112233"
SERVER = "https://pbx.example.org"
ACCOUNT = "https://acme.amocrm.ru"
INTEGRATION = "5b0c81d2-6c1e-4f0a-9b7a-2f4d8c1e7a90"
USERS = (CrmUser(77, "Anna Archer", email="anna@acme.example"), CrmUser(78, "Ben Kim", email="ben@acme.example"),
         CrmUser(79, "Clara Lane", email="clara@acme.example"))
REFUSED = "amoCRM refuses to renew the tokens: 401 Token has been revoked"
SHEET = """
[data-mark] { outline: 3px solid #d6006c; outline-offset: 2px; }
[data-foot] ~ *, :has([data-foot]) ~ * { visibility: hidden; }
"""                                    # what the step is about; nothing below the picture's foot reaches into it
MARKED = """([sheet, foot, marked]) => {
    document.activeElement?.blur();
    document.querySelector(foot).setAttribute('data-foot', '');
    for (const selector of marked) document.querySelector(selector).setAttribute('data-mark', '');
    const added = new CSSStyleSheet();
    added.replaceSync(sheet);
    document.adoptedStyleSheets = [added];
}"""
UNMARKED = """() => {
    document.adoptedStyleSheets = [];
    for (const name of ['data-foot', 'data-mark'])
        for (const one of document.querySelectorAll(`[${name}]`)) one.removeAttribute(name);
}"""
DRESS = """
body { color: #2b3340; font-size: 15px; }
#menu { width: 96px; box-sizing: border-box; padding: 12px 6px; background: #28344d; color: #c4ccda; font-size: 11px;
  text-align: center; }
#menu span { display: block; padding: 9px 2px; border-radius: 4px; }
#menu .here { background: #3d4f76; color: #fff; }
#top { left: 96px; border-bottom: 1px solid #dde1e7; font-weight: 700; }
#page { margin-left: 120px; }
#page h2 { margin: 0; font-size: 18px; }
#phones { margin: 12px 0 0; padding: 0; list-style: none; }
#phones a { color: #4c8bf7; text-decoration: none; }
#phones button { margin-left: 12px; padding: 6px 12px; border: 1px solid #cfd5dd; border-radius: 3px; background: #fff;
  font: inherit; }
#window { position: static; display: grid; grid-template-columns: 200px 120px 1fr; gap: 6px 12px; align-items: center;
  box-sizing: border-box; width: 640px; max-height: none; padding: 20px 24px; box-shadow: none; }
#window > label, #window > div, #window > [name=server_url], #window > [name=login] { grid-column: 1 / -1; }
#window > label { margin-top: 14px; font-weight: 600; }
#window > input { box-sizing: border-box; padding: 7px 10px; border: 1px solid #cfd5dd; border-radius: 4px;
  font: inherit; }
#window > span { grid-column: 1; }
#save { grid-column: 1 / -1; justify-self: end; margin-top: 16px; padding: 8px 20px; border: 0; border-radius: 3px;
  background: #4c8bf7; color: #fff; font: inherit; }
#off, body:has(#window) > :not(#window) { display: none; }
#smartswitch-password { margin: 9px 0; }
.smartswitch-form p.smartswitch-form__output { margin-top: 9px; border-radius: 4px; }
"""                                    # of the page like amoCRM's, as amoCRM's own windows are drawn


def standing_at(moment: datetime) -> type[datetime]:
    """What modules take for `datetime`: a clock that stands."""
    class Standing(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Standing:
            return cls.fromtimestamp(moment.timestamp(), tz)
    return Standing


class Codes(NoConnections):
    def code_arrived(self, code: str, host: str, state: str, client_id: str) -> ClientId:
        return ACME


class TheirUsers:
    """amoCRM, as far as it is asked for users."""

    account = CrmAccount(ACCOUNT)

    async def users(self) -> tuple[CrmUser, ...]:
        return USERS

    async def extensions(self, widget: str) -> UserMap:
        raise AssertionError("the office has given no code of its widget")


@dataclass(slots=True)
class Guide:
    directory: Path
    site: Site
    tab: Tab
    blank: Page
    url: str
    taken: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        await self.tab.open(self.url + path)

    async def fill(self, **values: str | bool) -> None:
        for name, value in values.items():
            box = self.tab.page.locator(f'main [name="{name.replace("__", ".")}"]')
            if isinstance(value, bool):
                await box.set_checked(value)
            elif await box.evaluate("one => one.tagName") == "SELECT":
                await box.select_option(value)
            else:
                await box.fill(value)

    async def press(self, name: str) -> None:
        """What it saves is at work afterwards, as in the daemon within a second."""
        async with self.tab.page.expect_navigation():
            await self.tab.page.get_by_role("main").get_by_role("button", name=name, exact=True).click()
        await self.site.users.load()

    async def take(self, name: str, *marked: str, since: str = "", until: str = "main > :last-child") -> None:
        """From the top of the page, or of `since`, to the foot of `until`."""
        page = self.tab.page
        await page.mouse.move(0, 0)            # what lies under it looks otherwise
        await page.evaluate(MARKED, [SHEET, until, marked])
        top = await self._edge(since, "top") - MARGIN if since else 0
        foot = await self._edge(until, "bottom") + MARGIN
        png = await page.screenshot(full_page=True, clip={"x": 0, "y": top, "width": WIDTH, "height": foot - top})
        await page.evaluate(UNMARKED)
        await self._keep(name, png)

    async def _edge(self, selector: str, edge: str) -> float:
        return float(await self.tab.page.locator(selector).first.evaluate(
            f"one => one.getBoundingClientRect().{edge} + scrollY"))

    async def draw(self, name: str, html: str) -> None:
        """On a page of its own: those of ours take no style but their own (CSP)."""
        await self.blank.set_viewport_size({"width": WIDTH, "height": 400})
        await self.blank.set_content(html)
        await self._keep(name, await self.blank.locator("figure").screenshot())

    async def take_framed(self, name: str, *marked: str, window: str = "", title: str = "") -> None:
        """The page like amoCRM's, or its window, among the drawn ones."""
        page = self.tab.page
        await page.evaluate(MARKED, [SHEET, "body", marked])
        png = await (page.locator(window).screenshot() if window else page.screenshot())
        await self.draw(name, drawings.framed(png, title))

    async def _keep(self, name: str, png: bytes) -> None:
        small = await with_few_colours(self.blank, png)
        await asyncio.to_thread((self.directory / f"{name}.png").write_bytes, small)
        self.taken.append(name)


async def take_all(directory: Path) -> set[str]:
    """Names of the pictures, of which no others belong there."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as patches:
        random = SimpleNamespace(token_urlsafe=lambda size: "Zk3vR8mQ2xTn6bWc9pLs4yHd7fGjA5ue", choice=Random(7).choice)
        patches.enter_context(patch("b2bua.handouts.secrets", random))
        standing = ("b2bua.store.directory", SET_UP), ("web.admin.call_page", NOW), ("web.admin.outbox", NOW)
        for module, moment in standing:
            patches.enter_context(patch(f"{module}.datetime", standing_at(moment)))
        async with _guide(Path(scratch), directory) as guide:
            for step in STEPS:
                await step(guide)
    return set(guide.taken)


@asynccontextmanager
async def _guide(scratch: Path, directory: Path) -> AsyncIterator[Guide]:
    async with (open_site(scratch, Codes(), crm_of=lambda client: TheirUsers(), clock=lambda: SET_UP) as site,
                asyncio.TaskGroup() as tasks):
        (client,) = (one for one in OFFICES.clients if one.id == ACME)
        new = Directory((replace(client, name="Acme Furniture"),))
        await site.store.directory.replace(OFFICES, new, await site.store.directory.generation())
        await site.users.load()
        sock = bind_web(WebSettings(port=0))
        serving = tasks.create_task(serve_web(site.served, sock))
        async with open_chromium() as tab:
            await tab.look(width=WIDTH)
            await tab.page.clock.set_fixed_time(NOW)
            assert tab.page.context.browser is not None
            blank = await tab.page.context.browser.new_page()
            yield Guide(directory, site, tab, blank, f"http://127.0.0.1:{sock.getsockname()[1]}")
        serving.cancel()


# -- the steps, in the order of the document


async def signing_in(guide: Guide) -> None:
    await guide.open("/sign-in?to=/clients/acme")
    await guide.fill(login="acme", password=OF_OFFICE[ACME])
    await guide.take("sign-in", "#login", "#password", since="main", until="main")
    await guide.press("Sign in")
    await guide.take("first-steps", ".places [href='/clients/acme']")


async def an_extension_and_its_phone(guide: Guide) -> None:
    await guide.open("/clients/acme/extensions/new")
    await guide.fill(number="101", name="Anna Archer")
    await guide.take("extension", "[name=number]", "[name=name]", until="fieldset")
    await guide.press("Save")
    await guide.take("phone", "svg.qr")
    await guide.open("/clients/acme/extensions/new")
    await guide.fill(number="102", name="Ben Kim")
    await guide.press("Save")
    guide.site.control.phones = [
        RegisteredPhone(ACME, number, f"sip:acme-{number}@192.0.2.{host}:5062", agent, 3500, "reachable")
        for number, host, agent in (("101", 17, "Linphone Android/5.2"), ("102", 18, "Yealink SIP-T54W 96.86.0.70"))]
    await guide.open("/clients/acme/extensions/101")
    await guide.take("phone-registered", ".badge.good", until="section")


async def a_trunk_and_its_test(guide: Guide) -> None:
    await guide.open("/clients/acme/trunks/new")
    await guide.fill(name="operator", host="sip.operator.example", register=True, user="74951112233",
                     password="as the operator gave it", caller_id=NUMBER)
    await guide.take("trunk", "[name=host]", "[name=register]", "[name=user]", "[name=password]",
                     until="fieldset + fieldset")
    await guide.press("Save")
    guide.site.control.trunks = [TrunkState(ACME, "operator", True, "registered for 3540 s")]
    guide.site.control.tests[ACME, "operator"] = TrunkTest(
        SET_UP, (TriedServer("UDP 192.0.2.60:5060", "200 OK", 14),), 0,
        LastRegister(True, "registered for 3540 s", "200 OK", 3420, None))
    await guide.press("Test now")
    await guide.take("trunk-test", "#test .notice", "#test form button", until="#test")


async def a_number(guide: Guide) -> None:
    await guide.open("/clients/acme/numbers/new")
    await guide.fill(number=NUMBER, destination="101", hours__open="mon-fri 09:00-18:00")
    await guide.take("number", "[name=number]", "[name=destination]")
    await guide.press("Save")


async def an_integration(guide: Guide) -> None:
    await guide.open("/clients/acme/crm")
    await guide.take("crm-before", "code.copied", until="section")
    await guide.draw("amocrm-market", drawings.market())
    await guide.draw("amocrm-new-integration", drawings.new_integration())
    await guide.draw("amocrm-keys", drawings.keys())


async def the_account(guide: Guide) -> None:
    await guide.open("/clients/acme/crm")
    await guide.fill(base_url=ACCOUNT, client_id=INTEGRATION, client_secret="its secret key")
    await guide.take("crm-keys", "[name=base_url]", "[name=client_id]", "[name=client_secret]", since="main form",
                     until="fieldset + fieldset")
    await guide.press("Save")
    guide.site.health[ACME] = _health("not connected")
    await guide.open("/clients/acme/crm")
    await guide.take("crm-connect", "a[href='/amocrm/connect/acme']", until="section")
    await guide.draw("amocrm-consent", drawings.consent())
    await guide.open("/amocrm/oauth?code=def502&referer=acme.amocrm.ru&state=of-our-link")
    await guide.take("connecting", since="main", until="main")
    guide.site.health[ACME] = _health("connected")
    await guide.open("/clients/acme/crm")
    await guide.take("crm-connected", ".badge.good", "a[href$='widget.zip']", until="section + section")


async def the_widget(guide: Guide) -> None:
    await guide.draw("amocrm-upload", drawings.upload())
    async with open_amocrm() as (crm, server), server.running():
        crm.managers = {user.id: user.name for user in USERS}
        server.connected = {"client": "Acme Furniture", "extensions": 2, "crm_connected": True,
                            "notes": [FROM_THE_FILE["en"]]}
        page = WidgetPage(guide.tab, crm)
        await page.open("", saved=None)
        await guide.tab.page.add_style_tag(content=DRESS)
        await page.click("#open")
        await page.fill(login="acme", password=OF_OFFICE[ACME])
        await page.click("#window button[type=button]")
        await guide.tab.until(f"{OUTPUT}.textContent.startsWith('The connection works')")
        await page.fill(server_url=SERVER)
        await guide.tab.value("document.querySelector('#save').textContent = 'Сохранить · Save'")
        await guide.take_framed("widget-settings", "[name=login]", "#smartswitch-password", ".smartswitch-form__output",
                                "#save", window="#window", title="Smartswitch")


async def users_and_functions(guide: Guide) -> None:
    await guide.open("/clients/acme/users")
    await guide.press("Ask amoCRM now")
    await guide.fill(**{"user-77": "101", "user-78": "102"})
    await guide.press("Save")
    await guide.open("/clients/acme/users")
    await guide.take("users", "#user-77", "#user-78", until="main form[action$=users]")
    await guide.open("/clients/acme/functions")
    await guide.fill(task_on_missed=True)
    await guide.take("functions", "[name=task_on_missed]", until="fieldset")
    await guide.press("Save")


async def the_first_call(guide: Guide) -> None:
    await _calls(guide.site)
    async with open_amocrm() as (crm, server), server.running():
        await server.change("in", direction="inbound", state="ringing_you", number="+7 916 123-45-67",
                            contact={"type": "contacts", "id": 9001, "name": "Ivan Petrov"},
                            deal={"id": 71, "name": "Furniture for the second floor"}, may_hang_up=False)
        crm.phones = ("+7 (916) 123-45-67",)
        await guide.tab.look(width=WIDTH - 2 * drawings.FRAME, height=340)
        await WidgetPage(guide.tab, crm).open("", saved={
            "login": "acme", "functions": json.dumps({"live_card": True}), "extensions": "{}"})
        await guide.tab.page.add_style_tag(content=DRESS)
        await guide.tab.value(f"document.querySelector('#menu').innerHTML = {drawings.menu('Списки')!r};"
                              "document.querySelector('#top').textContent = 'Контакты · Contacts'")
        await guide.tab.until("document.querySelector('.smartswitch-card')")
        await guide.take_framed("widget-card", ".smartswitch-card")
        await guide.tab.look(width=WIDTH)
    await guide.open("/calls")
    await guide.take("history", ".past .when a")
    await guide.tab.page.click(".past .when a")
    await guide.tab.until("document.querySelector('.player canvas, .player svg')")
    await guide.take("call", ".player")
    at = f"{FIRST_CALL.astimezone(ZONE):%d.%m.%Y %H:%M}"
    await guide.draw("amocrm-card", drawings.card_with_call("Ivan Petrov", "+7 (916) 123-45-67", at))


async def when_something_is_wrong(guide: Guide) -> None:
    guide.site.health[ACME] = _health("refused", REFUSED, answered_ago=420.0, failure=REFUSED, sync=SyncState.ILL)
    await _call_that_waits(guide.site)
    await guide.open("/clients/acme/crm")
    await guide.take("crm-refused", ".badge.fault", ".notice.fault", "a[href='/amocrm/connect/acme']", until="section")
    await guide.open("/outbox")
    await guide.take("outbox", ".decide")


STEPS: tuple[Callable[[Guide], Any], ...] = (
    signing_in, an_extension_and_its_phone, a_trunk_and_its_test, a_number, an_integration, the_account, the_widget,
    users_and_functions, the_first_call, when_something_is_wrong,
)


def _health(state: str, problem: str = "", **changes: Any) -> CrmHealth:
    """As it is soon after the office was set up; `changes` are what is different."""
    if state == "not connected":
        return CrmHealth(Status(ACME, "OAuth", state, SET_UP), None, "", 0, None, "")
    until = SET_UP + timedelta(days=90) if state == "connected" else None
    known = CrmHealth(Status(ACME, "OAuth", state, SET_UP, until, problem), 4.0, "", 1240, SyncState.COMPLETE, "")
    return replace(known, **changes)


async def _calls(site: Site) -> None:
    """An afternoon: the test call, some others, one that was missed and whose task amoCRM has refused."""
    await site.recorded("rec-1")
    loud = Random(3)
    turns = [(bool(second // 9 % 2), loud.randrange(60, 230)) for second in range(int(TALKED.total_seconds()))]
    waveform.keep(Waveform(TALKED.total_seconds(), 1.0,
                           bytes(volume if is_callee else 4 for is_callee, volume in turns),
                           bytes(4 if is_callee else volume for is_callee, volume in turns)),
                  site.recordings / "re" / "rec-1.mp3")
    missed: Mapping[str, Any] = {
        "caller": "+79031112233", "contact": "Green Yard", "answered_at": None, "disposition": Disposition.NO_ANSWER,
        "status": 480, "extension": None, "reason": EndReason.NOBODY_ANSWERED, "cause": 19,
        "why": ("101 is responsible for Green Yard", "no answer (480)"), "why_after": (0.3, 20.4)}
    kinds: tuple[Mapping[str, Any], ...] = (
        {"recording": "rec-1"},
        missed,
        {"direction": Direction.OUTBOUND, "caller": "101", "dialled": "+79265554433", "contact": "Lane & Sons",
         "why": ("+79265554433 through operator",)},
        {"caller": "+79035557788", "contact": "Office Park", "extension": "102", "crm_user": 78, "rang": ("102",),
         "why": ("102 is responsible for Office Park",)},
    )
    for number, changes in enumerate(kinds):
        call = _call(number, FIRST_CALL - timedelta(minutes=47 * number), **changes)
        is_missed = call.answered_at is None
        await site.store.calls.finish(
            call, [call_back(call.id, call.caller, started_at=call.started_at) if is_missed else note(call)])
        told_at = call.ended_at + timedelta(seconds=2)
        (row,) = await site.store.outbox.claim(ACME, NOW, NOW + LEASE, 1)
        if is_missed:
            await site.store.outbox.set_aside(row.id, "403: Forbidden; no access to tasks", told_at)
        else:
            done = Delivered(f"note {50318 - number}", card="contacts/9001")
            await site.store.outbox.done(row.id, done, told_at)


async def _call_that_waits(site: Site) -> None:
    call = _call(9, NOW - timedelta(minutes=5), contact="Lane & Sons", caller="+79265554433",
                 why=("101 is responsible for Lane & Sons",))
    await site.store.calls.finish(call, [note(call)])
    (row,) = await site.store.outbox.claim(ACME, NOW, NOW + LEASE, 1)
    await site.store.outbox.retry(row.id, NOW + timedelta(minutes=13), REFUSED)


def _call(number: int, start: datetime, **changes: Any) -> CallRecord:
    return record(f"5e3c9a71d20b4f{number:02}", **{
        "caller": IVAN, "dialled": NUMBER, "contact": "Ivan Petrov", "started_at": start, "rang": ("101",),
        "rang_at": start + timedelta(seconds=1), "answered_at": start + ENDED - TALKED, "ended_at": start + ENDED,
        "recording": None, "why": ("101 is responsible for Ivan Petrov",), "why_after": (0.3,), **changes})


# -- smaller files

PIXELS = """async (png) => {
    const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
    const canvas = new OffscreenCanvas(image.width, image.height).getContext('2d');
    canvas.drawImage(image, 0, 0);
    const bytes = canvas.getImageData(0, 0, image.width, image.height).data;
    let text = '';
    for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
    return [image.width, image.height, btoa(text)];
}"""
COLOURS = 256


async def with_few_colours(blank: Page, png: bytes) -> bytes:
    """The same picture with a palette, as a page has few colours: half as large. `blank` is a page that decodes it."""
    width, height, bytes_ = await blank.evaluate(PIXELS, base64.b64encode(png).decode())
    pixels = np.frombuffer(base64.b64decode(bytes_), np.uint8).reshape(-1, 4)[:, :3]
    colours, which, often = np.unique(pixels, axis=0, return_inverse=True, return_counts=True)
    palette = colours[np.argsort(-often, kind="stable")[:COLOURS]]
    distance = np.abs(colours[:, None].astype(int) - palette).sum(2)
    rows = distance.argmin(1)[which.ravel()].astype(np.uint8).reshape(height, width)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
                           (b"PLTE", palette.tobytes()), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(exist_ok=True)
    taken = asyncio.run(take_all(target))
    for old in target.glob("*.png"):
        if old.stem not in taken:
            old.unlink()
