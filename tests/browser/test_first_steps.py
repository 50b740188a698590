"""What an operator and an administrator come for, on a real daemon: from an empty server to the first call, amoCRM
connected and lost and connected again, a client that comes and goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from playwright.async_api import Page

from b2bua.app import System, running
from b2bua.cdr import ClientId
from b2bua.config import Listener, LogSettings, MediaSettings, ServerSettings, Settings, SipSettings, WebSettings
from b2bua.directory import CrmAccount, Directory, Extension
from b2bua.net.udp import UdpTransport
from b2bua.sandbox import Sandbox, SandboxSeed, SeedAccount, SeedIntegration, SeedUser, running_sandbox
from b2bua.sandbox.installation import switch_off
from b2bua.sip.auth import DigestPolicy, DigestServer, Verdict, ha1
from b2bua.sip.effects import Address
from b2bua.sip.message import Request, Response
from tests.support.chromium import Tab, go, open_chromium
from tests.support.daemon import Addresses
from tests.support.looks import good_on_every_screen
from tests.support.phone import Answers, Dead, Phone
from tests.support.signed_in import sign_in

ACME = ClientId("acme")
ADDRESSES = Addresses.of_this_process()
DID, IVAN = "+74951112233", "+79161234567"
ACCOUNT, ITS_PASSWORD = "74951112233", "as the contract says"
OF_ACME = "a password of acme"
INTEGRATION, SECRET = "5b0c", "a secret of the integration"


@dataclass(frozen=True, slots=True)
class Server:
    system: System
    tab: Tab                           # the operator's
    url: str

    @property
    def page(self) -> Page:
        return self.tab.page

    async def add_client(self, short: str, name: str, password: str) -> None:
        await self.page.goto(f"{self.url}/clients")
        await self.page.get_by_label("Short name", exact=True).fill(short)
        await self.page.get_by_label("Name", exact=True).fill(name)
        await self.page.get_by_label("Password").fill(password)
        await go(self.page.get_by_role("button", name="Add", exact=True))
        await self.page.get_by_role("heading", name="First steps").wait_for()

    async def office(self) -> Directory:
        """As the database has it."""
        return (await self.system.store.directory.load())[0]

    async def crm(self) -> CrmAccount:
        crm = (await self.office()).client[ACME].crm
        assert crm is not None
        return crm

    async def users(self) -> dict[str, int | None]:
        """Of the CRM, by their extensions."""
        return {one.number: one.crm_user for one in (await self.office()).extensions}

    async def has_extensions(self, *numbers: str) -> None:
        known, generation = await self.system.store.directory.load()
        extensions = tuple(Extension(ACME, number, f"acme-{number}", {"MD5": "0" * 32}) for number in numbers)
        await self.system.store.directory.replace(known, replace(known, extensions=extensions), generation)

    async def another(self, login: str, password: str, to: str = "/") -> Tab:
        """Somebody who signs in, in a browser of their own."""
        tab = await self.tab.another()
        await sign_in(tab, self.url, login, password, to)
        return tab


@asynccontextmanager
async def new_server(home: Path) -> AsyncIterator[Server]:
    settings = Settings(
        server=ServerSettings(data_dir=home, drain_seconds=0),
        sip=SipSettings(listen=(Listener(transport="udp", host=ADDRESSES.daemon, port=0),)),
        media=MediaSettings(host=ADDRESSES.daemon, port_min=23000, port_max=23099),
        web=WebSettings(port=0), log=LogSettings(level="error"))
    async with running(settings) as system, open_chromium() as tab:
        url = f"http://{system.web.host}:{system.web.port}"
        await sign_in(tab, url, "operator", system.keys.operator_password, "/clients")
        yield Server(system, tab, url)


class Operator(Phone):
    """The other end of a trunk, which lets its own account register and nobody else."""

    digest = DigestServer(DigestPolicy("operator"), b"key of the operator")

    def _yes(self, request: Request) -> Response:
        if request.method != "REGISTER":
            return super()._yes(request)
        source, said = ADDRESSES.daemon, self.digest.credentials(request)
        known = {"MD5": ha1("MD5", ACCOUNT, "operator", ITS_PASSWORD),
                 "SHA-256": ha1("SHA-256", ACCOUNT, "operator", ITS_PASSWORD)}
        if said is not None and self.digest.verify(said, request, known, source, self.now()) is Verdict.ACCEPTED:
            return super()._yes(request)
        return request.response(401, to_tag=self.core.new_tag(), headers=self.digest.challenges(source, self.now()))


def plugged(phone: Phone, host: str) -> Phone:
    return phone.plug(partial(UdpTransport.open, Address(host, 0)))


async def shown(page: Page, words: str) -> None:
    """The page, read anew until it says this: what was saved is at work within a second or two."""
    while words not in await page.locator("main").inner_text():
        await page.reload()


async def next_step(page: Page) -> str:
    return await page.locator("[aria-current=step] b").inner_text()


async def test_from_an_empty_server_to_the_first_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with new_server(tmp_path) as server:
        assert "There is no client yet." in await server.page.locator("main").inner_text()
        await server.add_client("acme", "Acme & Sons", OF_ACME)
        await the_first_call(server, await server.another("acme", OF_ACME, "/clients/acme"), monkeypatch)


async def the_first_call(server: Server, tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tab.page
    assert await next_step(page) == "Extensions"
    await good_on_every_screen(tab, "first-steps")
    await go(page.locator("[aria-current=step] a"))
    await go(page.get_by_role("link", name="Add an extension"))
    await page.get_by_label("Number", exact=True).fill("101")
    await page.get_by_label("Name", exact=True).fill("Anna")
    await go(page.get_by_role("button", name="Save"))
    await page.get_by_role("heading", name="Set up the phone of 101").wait_for()
    login, password, _, address = await page.locator("dl.credentials code").all_inner_texts()
    anna = plugged(Phone("101", server.system.sip[0], domain=server.system.sip[0].host, login=login, password=password,
                         does=Answers(after=0.0)), ADDRESSES.phone("101"))
    assert address == f"{server.system.sip[0].host}:{server.system.sip[0].port}"
    operator = plugged(Operator("operator", server.system.sip[0], does=Dead()), ADDRESSES.trunk)
    try:
        assert (await anna.register()).status == 200
        await go(page.get_by_role("link", name="Overview"))
        await shown(page, "One phone is there.")
        assert await next_step(page) == "Trunk"
        await go(page.locator("[aria-current=step] a"))
        await a_trunk(tab, operator, monkeypatch)
        await go(page.get_by_role("link", name="Overview"))
        assert await next_step(page) == "Outside numbers"
        await go(page.locator("[aria-current=step] a"))
        await go(page.get_by_role("link", name="Add a number"))
        await page.get_by_label("Number", exact=True).fill(DID)
        await page.get_by_label("Calls go to", exact=True).fill("101")
        await go(page.get_by_role("button", name="Save"))
        await page.get_by_role("link", name=DID).wait_for()
        await go(page.get_by_role("link", name="Overview"))
        await shown(page, "One number leads somewhere.")
        assert await next_step(page) == "Test call"
        await server.system.switchboard.settings_changed()
        call = operator.call(DID, as_=IVAN)
        await call.answered.wait()
        call.hang_up()
        await shown(page, "1 of 1 up")
        assert await next_step(page) == "amoCRM"
        await go(page.get_by_role("link", name="Test call"))
        assert IVAN in await page.locator(".past").inner_text()
    finally:
        anna.close()
        operator.close()


async def a_trunk(tab: Tab, operator: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that registers: first to where nobody answers, then with a wrong password, then right."""
    page = tab.page
    host, port = operator.transport.local.host, operator.transport.local.port
    await go(page.get_by_role("link", name="Add a trunk"))
    await page.get_by_label("Name", exact=True).fill("line")
    await page.get_by_label("Server of the operator").fill(host)
    await page.get_by_label("Port", exact=True).fill(str(port))
    await page.get_by_label("Register there").check()
    await go(page.get_by_role("button", name="Save"))
    await page.get_by_role("alert").wait_for()
    await good_on_every_screen(tab, "trunk-wrong")
    await page.get_by_label("User name").fill(ACCOUNT)
    await page.get_by_label("Password").fill("mistyped")
    await page.get_by_role("group", name="Kind of operator").get_by_text("Show", exact=True).click()
    await page.get_by_role("combobox", name="Kind of operator").fill("registering-8")
    await go(page.get_by_role("button", name="Save"))
    await page.get_by_role("heading", name="Trunk line").wait_for()
    await shown(page, "down")
    monkeypatch.setattr("b2bua.ua.trunk_tests.REST", 0.0)
    with monkeypatch.context() as hasty:
        hasty.setattr("b2bua.ua.trunk_tests.PATIENCE", 0.2)
        await go(page.get_by_role("button", name="Test now"))
        await page.get_by_text("The trunk does not work.").wait_for()
    assert "No answer to OPTIONS." in await page.locator("#test").inner_text()
    await good_on_every_screen(tab, "trunk-silent")
    operator.does = Answers(after=0.0)
    await page.get_by_label("Password").fill("mistyped, too")
    await go(page.get_by_role("button", name="Save"))
    await shown(page, "credentials refused")
    await go(page.get_by_role("button", name="Test now"))
    await page.get_by_text("The registrar refuses user name and password.").wait_for()
    assert "401 Unauthorized" in await page.locator("#test").inner_text()
    await page.get_by_label("Password").fill(ITS_PASSWORD)
    await go(page.get_by_role("button", name="Save"))
    await shown(page, "registered for")
    await go(page.get_by_role("button", name="Test now"))
    await page.get_by_text("The trunk works.").wait_for()
    await good_on_every_screen(tab, "trunk-works")


async def test_a_client_comes_sees_what_is_its_own_and_goes(tmp_path: Path) -> None:
    async with new_server(tmp_path) as server:
        page = server.page
        await server.add_client("acme", "Acme & Sons", OF_ACME)
        await page.goto(f"{server.url}/clients")
        await page.get_by_label("Short name", exact=True).fill("acme")
        await page.get_by_label("Name", exact=True).fill("Acme again")
        await page.get_by_label("Password").fill("short")
        await go(page.get_by_role("button", name="Add", exact=True))
        await page.get_by_role("alert").get_by_role("link", name="Short name").click()
        assert await server.tab.value("document.activeElement.value") == "acme"
        assert await page.get_by_label("Name", exact=True).input_value() == "Acme again"
        await good_on_every_screen(server.tab, "client-taken")
        await server.add_client("beta", "Beta Ltd", "a password of beta")
        tab = await server.another("beta", "a password of beta", "/clients/beta")
        for path, status in (("/clients", 403), ("/clients/acme", 404), ("/clients/acme/extensions", 404)):
            answer = await tab.page.goto(server.url + path)
            assert answer is not None
            assert answer.status == status
            assert "Acme" not in await tab.page.content()
        await go(tab.page.get_by_role("link", name="To the first page"))
        await go(tab.page.get_by_role("link", name="Set-up", exact=True))
        await tab.page.get_by_role("heading", name="Beta Ltd").wait_for()
        await page.goto(f"{server.url}/clients/beta")
        await go(page.get_by_role("link", name="Remove"))
        await go(page.get_by_role("button", name="Remove"))
        await page.get_by_text("This is not its short name.").wait_for()
        await good_on_every_screen(server.tab, "client-remove")
        await page.get_by_label("Write beta to remove it").fill("beta")
        await go(page.get_by_role("button", name="Remove"))
        await page.get_by_text("The client was removed.").wait_for()
        await shown(page, "1 client")
        assert "Beta Ltd" not in await page.locator("main").inner_text()
        await go(tab.page.get_by_role("link", name="History"))
        await tab.page.get_by_role("button", name="Sign in").wait_for()
        assert [one.id for one in (await server.office()).clients] == [ACME]


async def test_amocrm_is_connected_used_lost_and_connected_again(tmp_path: Path) -> None:
    async with new_server(tmp_path) as server:
        integration = SeedIntegration(INTEGRATION, SECRET, f"{server.url}/amocrm/oauth",
                                      disconnect_url=f"{server.url}/amocrm/disconnect")
        account = SeedAccount(users=(SeedUser(77, "Anna Archer", is_admin=True), SeedUser(78, "Ben Kim")),
                              integrations=(integration,))
        async with running_sandbox(SandboxSeed((account,))) as crm:
            await server.add_client("acme", "Acme & Sons", OF_ACME)
            await server.has_extensions("101", "102")
            await go(server.page.get_by_role("link", name="amoCRM").first)
            await connects(server, crm)
            await gives_extensions(server)
            await switches_functions(server)
            await loses_the_connection_and_mends_it(server, crm)
            await leaves(server, crm)


async def connects(server: Server, crm: Sandbox) -> None:
    page = server.page
    await page.get_by_label("Address of the account").fill(crm.base_url)
    await go(page.get_by_role("button", name="Save"))
    await page.get_by_role("alert").wait_for()
    await good_on_every_screen(server.tab, "crm-wrong")
    await page.get_by_label("Id of the integration").fill(INTEGRATION)
    await page.get_by_label("Secret key of the integration").fill(SECRET)
    await go(page.get_by_role("button", name="Save"))
    await shown(page, "Press “Connect”")
    await good_on_every_screen(server.tab, "crm-not-connected")
    await go(page.get_by_role("link", name="Connect", exact=True))
    await go(page.get_by_role("link", name="Разрешить"))                # at amoCRM
    await good_on_every_screen(server.tab, "crm-connecting")
    await go(page.get_by_role("link", name="See whether it is connected"))
    await shown(page, "amoCRM answered last")
    await page.get_by_role("link", name="Connect again").wait_for()
    await good_on_every_screen(server.tab, "crm-connected")


async def gives_extensions(server: Server) -> None:
    """One to each user; two do not get the same."""
    page = server.page
    await go(page.get_by_role("link", name="Users", exact=True))
    await go(page.get_by_role("button", name="Ask amoCRM now"))
    await shown(page, "Anna Archer")
    for name in ("Anna Archer", "Ben Kim"):
        await page.get_by_label(f"Extension of {name}").fill("101")
    await go(page.get_by_role("button", name="Save"))
    complaints = page.get_by_role("alert")
    assert "Ben Kim: Anna Archer has extension 101, too." in await complaints.inner_text()
    await good_on_every_screen(server.tab, "users-double")
    await complaints.get_by_role("link", name="Ben Kim").click()
    await page.keyboard.press("Control+A")
    await page.keyboard.type("102")
    await page.keyboard.press("Enter")
    await page.get_by_role("status").wait_for()
    assert await server.users() == {"101": 77, "102": 78}


async def switches_functions(server: Server) -> None:
    """With a rule that is wrong first: nothing of what was entered is lost."""
    page = server.page
    await go(page.get_by_role("link", name="Functions", exact=True))
    await page.get_by_label("A new contact on an outgoing call").check()
    await page.get_by_label("A task for each missed call").check()
    await page.get_by_label("Text of the task for a missed call").fill("Call {who} back")
    await page.get_by_label("That one is due after, min").fill("0")
    await go(page.get_by_role("button", name="Save"))
    await page.get_by_role("alert").wait_for()
    assert await page.get_by_label("A new contact on an outgoing call").is_checked()
    assert await page.locator("[aria-invalid=true]").evaluate_all("fields => fields.map(one => one.value)") == [
        "Call {who} back", "0"]
    assert not (await server.crm()).functions.create_on_outgoing
    await good_on_every_screen(server.tab, "functions-wrong")
    await page.get_by_label("Text of the task for a missed call").fill("Call {number} back")
    await page.get_by_label("That one is due after, min").fill("30")
    await go(page.get_by_role("button", name="Save"))
    await page.get_by_role("status").wait_for()
    assert "operator (Changes)" in await page.locator("main").inner_text()
    assert await page.get_by_label("That one is due after, min").input_value() == "30"
    functions = (await server.crm()).functions
    assert (functions.create_on_outgoing, functions.task_on_missed) == (True, True)
    assert (functions.rules.call_back_text, functions.rules.call_back_minutes) == ("Call {number} back", 30)
    await shown(page, "Functions")


async def loses_the_connection_and_mends_it(server: Server, crm: Sandbox) -> None:
    page, tokens = server.page, crm.state.tokens
    tokens.revoke(INTEGRATION)
    await go(page.get_by_role("link", name="Users", exact=True))
    await go(page.get_by_role("button", name="Ask amoCRM now"))
    await go(page.get_by_role("link", name="amoCRM").first)
    await shown(page, "amoCRM lets us in no more: connect the account again.")
    await good_on_every_screen(server.tab, "crm-refused")
    await page.get_by_text("Paste a code instead").click()
    await page.get_by_label("Code", exact=True).fill("not a code at all")
    await go(page.get_by_role("button", name="Connect"))
    await page.get_by_role("alert").get_by_role("link", name="Code").click()
    assert await server.tab.value("document.activeElement.value") == "not a code at all"
    await good_on_every_screen(server.tab, "crm-no-code")
    await page.get_by_label("Code", exact=True).fill("a-code-of-yesterday")
    await go(page.get_by_role("button", name="Connect"))
    await page.get_by_text("The last code did not connect the account").wait_for()
    await good_on_every_screen(server.tab, "crm-old-code")
    code = tokens.issue_code(crm.state.grant(crm.state.account(None), INTEGRATION, None), crm.state.clock.now())
    await page.get_by_text("Paste a code instead").click()
    await page.get_by_label("Code", exact=True).fill(code)
    await go(page.get_by_role("button", name="Connect"))
    await page.get_by_text("The account is connected.").wait_for()


async def leaves(server: Server, crm: Sandbox) -> None:
    """First in amoCRM, then here."""
    page = server.page
    await switch_off(crm.state, INTEGRATION)
    await shown(page, "switched off in amoCRM")
    await good_on_every_screen(server.tab, "crm-switched-off")
    await go(page.get_by_role("link", name="Remove"))
    await go(page.get_by_role("button", name="Remove"))
    await page.get_by_text("This office has no CRM yet.").wait_for()
    assert (await server.office()).clients[0].crm is None
