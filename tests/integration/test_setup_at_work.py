"""From nothing to a working office by its pages alone, on a real daemon: a phone, a trunk that is tested, amoCRM."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

import httpx

from b2bua.app import running
from b2bua.cdr import ClientId
from b2bua.config import Listener, LogSettings, MediaSettings, ServerSettings, Settings, SipSettings, WebSettings
from b2bua.net.udp import UdpTransport
from b2bua.sandbox import SandboxSeed, SeedAccount, SeedUser, running_sandbox
from b2bua.sip.effects import Address
from tests.integration.test_setup_pages import send
from tests.support.phone import Phone
from tests.support.web_site import form_token

BLOCK = os.getpid() % 250 + 2              # a corner of 127.0.0.0/8 that no other run on this machine uses
HERE, TRUNK = f"127.{BLOCK}.111.1", f"127.{BLOCK}.112.1"
OFFICE = "/clients/acme"


def settings(home: Path) -> Settings:
    return Settings(
        server=ServerSettings(data_dir=home, drain_seconds=0),
        sip=SipSettings(listen=(Listener(transport="udp", host=HERE, port=0),)),
        media=MediaSettings(host=HERE, port_min=23000, port_max=23099),
        web=WebSettings(host=HERE, port=0), log=LogSettings(level="error"))


async def page_with(browser: httpx.AsyncClient, path: str, *words: str) -> str:
    """The page, once it says all of these: what was saved is at work within two seconds."""
    async with asyncio.timeout(15):
        while True:
            page = (await browser.get(path)).text
            if all(word in page for word in words):
                return page
            await asyncio.sleep(0.1)


async def test_an_office_is_set_up_by_its_pages_alone(tmp_path: Path) -> None:
    users = SeedUser(77, "Анна Иванова", is_admin=True), SeedUser(78, "Пётр Сидоров")
    seed = SandboxSeed((SeedAccount(users=users),))
    async with (
        running_sandbox(seed) as sandbox,
        running(settings(tmp_path)) as system,
        httpx.AsyncClient(base_url=f"http://{HERE}:{system.web.port}", headers={"Accept": "text/html"}) as browser,
    ):
        form = await browser.get("/sign-in")
        await browser.post("/sign-in", data={"token": form_token(form.text), "login": "operator",
                                             "password": system.keys.operator_password})
        await send(browser, "/clients", id="acme", name="Acme", password="a password of acme")
        await send(browser, f"{OFFICE}/extensions/new", number="101", name="Anna", password="secret-of-a-phone")
        operator = Phone("operator", system.sip[0]).plug(partial(UdpTransport.open, Address(TRUNK, 0)))
        try:
            port = operator.transport.local.port
            await send(browser, f"{OFFICE}/trunks/new", name="line", host=TRUNK, port=str(port))
            await page_with(browser, f"{OFFICE}/trunks/line", "answers OPTIONS")
            page = await browser.get(f"{OFFICE}/trunks/line")
            await browser.post(f"{OFFICE}/trunks/line/test", data={"token": form_token(page.text)})
            page_text = await page_with(browser, f"{OFFICE}/trunks/line", "The trunk works.")
            assert f"UDP {TRUNK}:{port}" in page_text
        finally:
            operator.close()
        await send(browser, f"{OFFICE}/crm", base_url=sandbox.base_url, access="sandbox-token")
        await page_with(browser, f"{OFFICE}/crm", "By a long-lived token", "amoCRM answered last")
        shown = await page_with(browser, f"{OFFICE}/users", "Анна Иванова", "Пётр Сидоров")
        assert 'name="user-77"' in shown
        await send(browser, f"{OFFICE}/users", **{"user-77": "101"})
        overview = await page_with(browser, OFFICE, "The account is connected.", "One user has an extension.")
        assert "One extension is there." in overview
        clients = (await browser.get("/clients")).text
        assert "connected" in clients
        assert ClientId("acme") in system.users.directory.client
