"""The whole way with real parts: the widget in Chromium, the daemon as an operator starts it, a real phone, an outside
party who talks, and the stand-in amoCRM behind the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from b2bua.sandbox import (
    CallEntry,
    SandboxSeed,
    SandboxState,
    SeedAccount,
    SeedContact,
    SeedIntegration,
    SeedUser,
    SeedWidget,
    create_sandbox,
)
from b2bua.sandbox.installation import install
from b2bua.sip.effects import Address
from tests.support import baresip
from tests.support.baresip import Baresip, running_baresip
from tests.support.chromium import open_chromium
from tests.support.daemon import Addresses, Daemon, running_daemon
from tests.support.phone import Rings
from tests.support.voice import Voice, both_hear, notices, voice
from tests.support.widget_page import CARD, OUTPUT, WidgetPage
from tests.support.widget_server import ACCOUNT, ANNA, SECRET, AmoCrm, free_port, serving_amocrm

pytestmark = pytest.mark.skipif(not baresip.available, reason="baresip is not installed (Debian: baresip-core)")

PASSWORD, PHONE_PASSWORD = "a password of acme", "correct-horse-battery"
DID, OUTSIDE, STRANGER = "+74951112233", "+79265554433", "+79031112233"
SPOKEN_OUTSIDE, SPOKEN_BY_PHONE, RING_TONE = 440.0, 1000.0, 425.0       # Hz
HOSTILE = "<img src=x onerror=\"document.title='stolen'\">"
NAME = f"Ivan {HOSTILE}"
INTEGRATION = "5b0c"

OFFICE = f"""\
[[client]]
id = "acme"
name = "Acme"
password = "{PASSWORD}"

[client.crm]
base_url = "{{crm}}"
client_id = "{INTEGRATION}"
client_secret = "{SECRET}"
redirect_uri = "{{web}}/amocrm/oauth"
widget = "smartswitch"

[[client.trunk]]
name = "operator"
host = "{{trunk}}"
port = 5060
caller_id = "{DID}"

[[client.number]]
number = "{DID}"
destination = "101"

[[client.extension]]
number = "101"
login = "office-101"
password = "{PHONE_PASSWORD}"

[[client.extension]]
number = "102"
password = "{PHONE_PASSWORD}"
"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Whole(WidgetPage):
    state: SandboxState                # of the stand-in amoCRM
    daemon: Daemon
    outside: Voice

    @asynccontextmanager
    async def phone(self) -> AsyncIterator[Baresip]:
        """Anna's, which rings until it is told to pick up."""
        async with running_baresip(
            self.daemon.home / "phone", self.daemon.addresses.phone("101"), self.daemon.sip, user="101",
            login="office-101", password=PHONE_PASSWORD, frequency=SPOKEN_BY_PHONE, answers=False,
        ) as phone:
            await phone.event("REGISTER_OK")
            yield phone

    async def install(self) -> None:
        """As an administrator does it who enters everything right."""
        await self.open()
        await self.click("#open")
        await self.fill(login="acme", password=PASSWORD, user_77="101", user_78="102")
        await self.click("#save")
        await self.tab.until("bench.saves === 1")
        self.tab.complaints.clear()                      # of the live card: until now nobody had an extension
        await self.open()

    async def note(self) -> CallEntry:
        """Written by another process, at a time of its own."""
        while True:
            if entries := self.state.calls():
                (entry,) = entries
                return entry
            await asyncio.sleep(0.1)

    async def card_says(self, words: str) -> None:
        await self.tab.until(f"{CARD}?.innerText.includes({words!r})")


@asynccontextmanager
async def in_thread(blocking: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Its beginning and its end may wait for what runs on our loop."""
    entered = await asyncio.to_thread(blocking.__enter__)
    try:
        yield entered
    finally:
        await asyncio.to_thread(blocking.__exit__, None, None, None)


async def told(daemon: Daemon, event: str) -> None:
    """Once it is in the log."""
    while True:
        if any(event in line for line in daemon.lines()):
            return
        await asyncio.sleep(0.05)


@asynccontextmanager
async def whole(home: Path) -> AsyncIterator[Whole]:
    addresses, port = Addresses.of_this_process(), free_port()
    web = f"http://127.0.0.1:{port}"                     # the widget speaks without TLS to this address alone
    integration = SeedIntegration(INTEGRATION, SECRET, f"{web}/amocrm/oauth", disconnect_url=f"{web}/amocrm/disconnect")
    api = create_sandbox(SandboxSeed((SeedAccount(
        ACCOUNT, users=(SeedUser(ANNA, "Anna Archer", is_admin=True), SeedUser(78, "Ben Kim")),
        contacts=(SeedContact("Somebody else", (STRANGER[:-1] + "4",), id=9000),
                  SeedContact(NAME, ("8 (926) 555-44-33",), responsible=ANNA, id=9001)),
        integrations=(integration,), widgets=(SeedWidget(client_id=INTEGRATION, is_active=False),)),)))
    async with serving_amocrm(AmoCrm(web, phones=(OUTSIDE,), integration=INTEGRATION, api=api)) as crm:
        office = OFFICE.format(crm=crm.origin, web=web, trunk=addresses.trunk)
        outside = voice("operator", Address(addresses.trunk, 5060), Address(addresses.daemon, 5060), SPOKEN_OUTSIDE)
        async with (
            outside as operator, in_thread(running_daemon(home, addresses, office, web=("127.0.0.1", port))) as daemon,
            open_chromium() as tab,
        ):
            await install(api.state.sandbox, INTEGRATION)        # docs/amocrm-connection.md: the account comes first
            await told(daemon, "CRM connected")
            yield Whole(tab, crm, api.state.sandbox, daemon, operator)


async def test_from_the_click_to_the_note_that_plays(tmp_path: Path) -> None:
    async with whole(tmp_path) as office, office.phone() as phone:
        await office.install()
        office.outside.line.does = Rings()
        await office.click()
        ringing = await phone.event("CALL_INCOMING")
        assert ringing["peerdisplayname"].replace('\\"', '"') == NAME       # as it is quoted in From
        await office.card_says("Your phone is ringing")
        assert office.outside.line.calls == []
        await phone.tell("accept")
        await phone.event("CALL_ESTABLISHED")
        call = await office.outside.line.was_called()
        await office.card_says("Ringing at the other end")
        await notices(phone, RING_TONE)
        call.answer()
        await office.card_says("Talking")
        assert (await office.text(CARD)).split("\n")[0] == NAME
        await both_hear(phone, office.outside, call)
        await office.click(".smartswitch-card__hang-up")
        await office.card_says("The call has ended")
        await call.over.wait()
        await phone.event("CALL_CLOSED")
        entry = await office.note()
        (card,) = [card for card in office.state.cards() if card.entries]
        assert (card.id, card.entries) == (9001, (entry,))
        assert (entry.direction, entry.user, entry.phone, entry.talk_seconds > 0) == ("outbound", ANNA, OUTSIDE, True)
        assert entry.link is not None
        played = await office.tab.value(f"""(async () => {{
            const audio = Object.assign(document.createElement('audio'), {{src: {entry.link!r}, controls: true}});
            document.querySelector('#page').append(audio);
            await audio.play();
            await new Promise((ended) => audio.addEventListener('ended', ended));
            return audio.duration;
        }})()""")
        assert played == pytest.approx(entry.talk_seconds, abs=1.0)
        assert await office.tab.value("document.title") == "A page like amoCRM's"
        assert office.tab.complaints == []


async def test_what_is_entered_wrong_is_said_and_what_a_caller_says_stays_text(tmp_path: Path) -> None:
    async with whole(tmp_path) as office:
        tab = office.tab
        await office.open()
        await office.click("#open")
        await office.fill(login="acme", password="a guess", user_77="909")
        await office.click("#window button[type=button]")
        await tab.until(f"{OUTPUT}.textContent.startsWith('Login or password is wrong.')")
        await office.fill(password=PASSWORD)
        await office.click("#save")
        await tab.until("bench.refused === 'unknown_extension'")
        assert "is no extension of Acme" in await office.text(OUTPUT)
        await office.install()
        async with office.phone() as phone:
            call = office.outside.line.call(DID, as_=STRANGER, shown=HOSTILE)
            await phone.event("CALL_INCOMING")
            await office.card_says("Incoming call")
            await phone.tell("accept")
            await call.answered.wait()
            await office.card_says("Talking")
            call.hang_up()
            await office.card_says("The call has ended")
        assert await tab.value("document.querySelectorAll('.smartswitch-card img, #notifications img').length") == 0
        assert await tab.value("document.title") == "A page like amoCRM's"
        office.crm.token_age = 7200.0
        await office.open()
        await office.click()
        assert (await office.notified(1))[-1][2] == "The page is too old. Reload the page."


async def test_without_the_server_it_is_said_and_the_widget_can_still_be_switched_off(tmp_path: Path) -> None:
    async with whole(tmp_path) as office:
        await office.install()
        office.daemon.process.terminate()
        await asyncio.to_thread(office.daemon.process.wait)
        await office.click()
        assert f"The server {office.crm.server} does not answer" in (await office.notified(1))[-1][2]
        await office.click("#open")
        await office.click("#off")
        await office.tab.until("bench.saves === 1")
        assert office.crm.status == "install"


async def test_who_switches_it_off_in_amocrm_is_disconnected(tmp_path: Path) -> None:
    async with whole(tmp_path) as office:
        await office.install()
        await office.click("#open")
        await office.click("#off")
        await office.tab.until("bench.saves === 1")
        assert "disconnected" in await asyncio.to_thread(office.daemon.command, "crm", "status")
