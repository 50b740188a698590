"""Further set-up pages without a socket: trunks and their test, amoCRM, functions, users, first steps; and the list of
clients."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import httpx
import pytest

from b2bua.cdr import ClientId
from b2bua.control import BeingTested, LastRegister, RegisteredPhone, TriedServer, TrunkFault, TrunkState, TrunkTest
from b2bua.crm.health import CrmHealth, Status, SyncState
from b2bua.crm.users import CrmUser
from b2bua.directory import CrmAccount, Directory, UsersFrom
from tests.integration.test_setup_pages import HOSTILE, directory, fields, office, send
from tests.support.records import record
from tests.support.web_site import ACME, BETA, OF_OFFICE, OFFICES, PASSWORD, NoConnections, Site, open_site, sign_in
from web.setup.users import ROWS

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TRUNKS, CRM, FUNCTIONS, USERS = (f"/clients/acme/{place}" for place in ("trunks", "crm", "functions", "users"))
LINE = f"{TRUNKS}/acme-line"
DID = "+74951112233"
BY_NUMBER = f"{FUNCTIONS}/%2B74951112233"
ACCOUNT = CrmAccount("https://acme.amocrm.ru", client_id="integration", client_secret="its secret",
                     redirect_uri="https://pbx.example.org/amocrm/oauth", default_user=1)


async def change(site: Site, **changes: object) -> None:
    """As `apply` would: acme's own row."""
    known, generation = await site.store.directory.load()
    clients = tuple(replace(one, **changes) if one.id == ACME else one for one in known.clients)
    await site.store.directory.replace(known, replace(known, clients=clients), generation, "apply by root")
    await site.users.load()


@asynccontextmanager
async def connected(tmp_path: Path, **changes: object) -> AsyncIterator[tuple[Site, httpx.AsyncClient]]:
    async with office(tmp_path) as (site, browser):
        await change(site, crm=replace(ACCOUNT, **changes))  # type: ignore[arg-type]
        site.health[ACME] = health()
        yield site, browser


@asynccontextmanager
async def operator(tmp_path: Path) -> AsyncIterator[tuple[Site, httpx.AsyncClient]]:
    async with open_site(tmp_path) as site, site.browser() as browser:
        await sign_in(browser, PASSWORD)
        yield site, browser


def health(state: str = "connected", **changes: object) -> CrmHealth:
    status = Status(ACME, "OAuth", state, NOW, NOW + timedelta(days=80))
    good = CrmHealth(status, 75.0, "", 1200, SyncState.COMPLETE, "")
    return replace(good, **changes)  # type: ignore[arg-type]


def crm_of(known: Directory) -> CrmAccount:
    crm = known.client[ACME].crm
    assert crm is not None
    return crm


# -- trunks


async def test_a_trunk_is_added_changed_and_removed(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        answer = await send(browser, f"{TRUNKS}/new", name="spare", host="sip.operator.test", port="5070",
                            register="on", user="7495", password="its password",
                            networks="198.51.100.0/24, 203.0.113.0/24")
        assert answer.headers["location"] == f"{TRUNKS}/spare?notice=saved"
        trunk = (await directory(site)).trunk[ACME, "spare"]
        assert (trunk.host, trunk.port, trunk.register, trunk.user, trunk.password) == (
            "sip.operator.test", 5070, True, "7495", "its password")
        assert len(trunk.networks) == 2
        page = (await browser.get(f"{TRUNKS}/spare")).text
        assert "its password" not in page
        await send(browser, f"{TRUNKS}/spare", transport="tls", prefixes="+7495")
        trunk = (await directory(site)).trunk[ACME, "spare"]
        assert (trunk.transport, trunk.password, trunk.prefixes) == ("TLS", "its password", ("+7495",))
        assert "Remove: Trunk spare" in (await browser.get(f"{TRUNKS}/spare/remove")).text
        await send(browser, f"{TRUNKS}/spare/remove")
        assert (ACME, "spare") not in (await directory(site)).trunk


async def test_what_is_wrong_with_a_trunk_stands_beside_its_field(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        before = await site.store.directory.generation()
        answer = await send(browser, f"{TRUNKS}/new", name=HOSTILE, host="a b", register="on", port="99999")
        assert answer.status_code == 422
        assert answer.text.count('class="complaint"') == 3
        assert "<script>alert" not in answer.text
        answer = await send(browser, f"{TRUNKS}/new", name="spare", host="sip.test", register="on")
        assert "Trunk &#39;spare&#39; cannot register without credentials" in answer.text
        assert await site.store.directory.generation() == before


async def test_the_list_says_which_trunks_are_up_and_why_not(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        site.control.trunks = [TrunkState(ACME, "acme-line", False, "no answer to OPTIONS"),
                               TrunkState(BETA, "beta-line", True, "registered for 60 s")]
        page = (await browser.get(TRUNKS)).text
        assert "no answer to OPTIONS" in page
        assert "registered for" not in page
        await send(browser, f"{LINE}/remove")
        assert "There is no trunk yet." in (await browser.get(TRUNKS)).text


def trunk_test(*servers: TriedServer, **more: object) -> TrunkTest:
    return TrunkTest(NOW, servers, 0, None, **more)  # type: ignore[arg-type]


async def test_a_trunk_is_tested_and_the_page_says_what_was_found(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        site.control.tests[ACME, "acme-line"] = trunk_test(TriedServer("UDP 192.0.2.1:5060", "200 OK", 12))
        answer = await browser.post(f"{LINE}/test", data=fields((await browser.get(LINE)).text))
        assert answer.headers["location"] == f"{LINE}#test"
        page = (await browser.get(LINE)).text
        assert "The trunk works." in page
        assert "UDP 192.0.2.1:5060" in page
        assert "after 12 ms" in page
        assert site.control.tested == [(ACME, "acme-line")]


@pytest.mark.parametrize(("test", "words"), [
    (trunk_test(TriedServer("UDP 192.0.2.1:5060", fault=TrunkFault.SILENT)), ["no answer", "As a rule a firewall"]),
    (trunk_test(TriedServer("UDP 192.0.2.1:5060", "403 <script>", 9, TrunkFault.UNKNOWN_TO_THEM)),
     ["403 &lt;script&gt;", "Ask them to allow our address"]),
    (trunk_test(TriedServer("TLS 192.0.2.1:5061", fault=TrunkFault.BAD_TLS), tls_trouble="its certificate names <b>"),
     ["its certificate names &lt;b&gt;", "authority"]),
    (trunk_test(fault=TrunkFault.NO_ADDRESS), ["leads nowhere"]),
    (replace(trunk_test(TriedServer("UDP 192.0.2.1:5060", "200 OK", 5)), more_servers=3, registration=LastRegister(
        False, "credentials refused", "401 Unauthorized", 55, TrunkFault.WRONG_PASSWORD)),
     ["401 Unauthorized", "Next REGISTER in 55 s", "3 more servers", "Enter both again"]),
])
async def test_each_fault_is_said_with_what_to_do(tmp_path: Path, test: TrunkTest, words: Sequence[str]) -> None:
    async with office(tmp_path) as (site, browser):
        site.control.tests[ACME, "acme-line"] = test
        site.control.tested = [(ACME, "acme-line")]
        page = (await browser.get(LINE)).text
        assert "The trunk does not work." in page
        for one in words:
            assert one in page
        russian = (await browser.get(LINE, headers={"Accept-Language": "ru"})).text
        assert "Транк не работает." in russian


async def test_a_test_waits_for_the_one_under_way(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        token = fields((await browser.get(LINE)).text)
        assert (await browser.post(f"{LINE}/test", data=token)).status_code == 404       # not at work yet
        site.control.test_refused = BeingTested()
        answer = await browser.post(f"{LINE}/test", data=token)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")


async def test_files_of_the_server_are_the_operators_alone(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser), site.browser() as of_operator:
        await sign_in(of_operator, PASSWORD)
        assert "ca_file" in (await of_operator.get(LINE)).text
        page = fields((await browser.get(LINE)).text)
        assert "ca_file" not in page
        answer = await browser.post(LINE, data={**page, "transport": "tls", "ca_file": "/etc/passwd"})
        assert answer.status_code == 303
        assert (await directory(site)).trunk[ACME, "acme-line"].ca_file == ""


# -- amoCRM


async def test_an_account_is_entered_and_its_secrets_stay(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        page = (await browser.get(CRM)).text
        assert "This office has no CRM yet." in page
        assert "https://pbx.example.org/amocrm/oauth" in fields(page)["redirect_uri"]
        answer = await send(browser, CRM, base_url="https://acme.amocrm.ru/", client_id="integration")
        assert answer.status_code == 422
        assert "There is no way into this account" in answer.text or "has an id and a secret key" in answer.text
        await send(browser, CRM, base_url="https://acme.amocrm.ru/", client_id="integration", client_secret="a secret")
        crm = crm_of(await directory(site))
        assert (crm.base_url, crm.client_secret, crm.patience) == ("https://acme.amocrm.ru", "a secret", 1.5)
        page = (await browser.get(CRM)).text
        assert "a secret" not in page
        await send(browser, CRM, patience="0.8", default_user="7")
        crm = crm_of(await directory(site))
        assert (crm.client_secret, crm.patience, crm.default_user) == ("a secret", 0.8, 7)
        await send(browser, f"{CRM}/remove")
        assert (await directory(site)).client[ACME].crm is None


async def test_one_way_in_is_left_for_the_other(tmp_path: Path) -> None:
    async with connected(tmp_path, token="a token") as (site, browser):
        page = (await browser.get(CRM)).text
        assert "/amocrm/connect/acme" not in page
        await send(browser, CRM, forget_token="on")
        crm = crm_of(await directory(site))
        assert (crm.token, crm.client_secret) == ("", "its secret")
        assert "forget_token" not in (await browser.get(CRM)).text
        answer = await send(browser, CRM, client_id="")
        assert answer.status_code == 422
        await send(browser, CRM, client_id="", access="another token")
        crm = crm_of(await directory(site))
        assert (crm.token, crm.client_id, crm.client_secret) == ("another token", "", "")


@pytest.mark.parametrize("url", ["https://evil.example", "http://127.0.0.1:9999", "https://amocrm.ru.evil.example",
                                 "https://[", "", f"https://{HOSTILE}"])
async def test_an_office_sends_no_requests_of_ours_elsewhere(tmp_path: Path, url: str) -> None:
    async with office(tmp_path) as (site, browser), site.browser() as of_operator:
        answer = await send(browser, CRM, base_url=url, access="a token")
        assert answer.status_code == 422
        assert "<script>alert" not in answer.text
        assert (await directory(site)).client[ACME].crm is None
        await sign_in(of_operator, PASSWORD)
        await send(of_operator, CRM, base_url="http://127.0.0.1:9999", access="a token")
        assert (await send(browser, CRM, patience="1")).status_code == 303       # what the operator has set may stay
        assert crm_of(await directory(site)).base_url == "http://127.0.0.1:9999"


@pytest.mark.parametrize(("found", "words"), [
    (health(), ["connected", "amoCRM answered last 1:15 ago", "1200 numbers are known", "All cards have been read"]),
    (health("not connected", answered_ago=None), ["not connected yet", "Press “Connect”", "has answered no request"]),
    (health("refused"), ["amoCRM lets us in no more"]),
    (health(failure="GET /api/v4/account: 503 <b>"), ["The last request failed:", "503 &lt;b&gt;"]),
    (health(code_trouble="the code is used up <b>"), ["The last code did not connect", "used up &lt;b&gt;"]),
    (health(status=replace(health().status, problem="it ends on 2026-03-05", remedy="make another")),
     ["it ends on 2026-03-05", "The way in ends soon"]),
    (health(sync=None), ["Nothing is read ahead."]),
])
async def test_the_health_says_what_is_wrong_and_what_to_do(tmp_path: Path, found: CrmHealth, words: Sequence[str]
                                                           ) -> None:
    async with connected(tmp_path) as (site, browser):
        site.health[ACME] = found
        page = (await browser.get(CRM)).text
        for one in words:
            assert one in page
        assert "/amocrm/connect/acme" in page
        assert "Nothing waits for the CRM" in page
        assert "smartswitch crm" not in page


async def test_the_widget_is_downloaded_for_this_server(tmp_path: Path) -> None:
    async with connected(tmp_path) as (_, browser):
        assert "/clients/acme/crm/widget.zip" in (await browser.get(CRM)).text
        answer = await browser.get(f"{CRM}/widget.zip")
        assert answer.headers["content-disposition"] == 'attachment; filename="widget.zip"'
        with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
            assert "const SERVER = 'https://pbx.example.org';" in packed.read("script.js").decode()


class Codes(NoConnections):
    """Notes what is pasted; `refuses` it, or the account gets connected."""

    def __init__(self) -> None:
        self.pasted: list[tuple[ClientId, str, str]] = []
        self.refuses = ""
        self.site: Site | None = None

    async def code_pasted(self, client: ClientId, code: str, host: str, seconds: float) -> None:
        if self.refuses:
            raise LookupError(self.refuses)
        self.pasted.append((client, code, host))


@pytest.mark.parametrize(("pasted", "code", "host"), [
    (" def50200abc \n", "def50200abc", ""),
    ("https://pbx.example.org/amocrm/oauth?code=def502&referer=acme.amocrm.ru&state=x#y", "def502", "acme.amocrm.ru"),
    ("?", "", ""),
    ("?" + "code=x&" * 30, "", ""),
])
async def test_a_code_is_pasted_by_itself_or_in_its_address(tmp_path: Path, pasted: str, code: str, host: str) -> None:
    codes = Codes()
    async with open_site(tmp_path, codes) as site, site.browser() as browser:
        await sign_in(browser, OF_OFFICE[ACME], ACME)
        await change(site, crm=ACCOUNT)
        site.health[ACME] = health("not connected")
        token = fields((await browser.get(CRM)).text)["token"]
        answer = await browser.post(f"{CRM}/code", data={"token": token, "code": pasted})
        assert answer.headers["location"] == CRM
        assert codes.pasted == [(ACME, code, host)]
        site.health[ACME] = health()
        answer = await browser.post(f"{CRM}/code", data={"token": token, "code": pasted})
        assert answer.headers["location"] == f"{CRM}?notice=crm-connected"
        codes.refuses = "this is no code"
        answer = await browser.post(f"{CRM}/code", data={"token": token, "code": HOSTILE})
        assert answer.status_code == 422
        assert answer.text.count("Copy it again: whole, within 20 minutes") == 2        # at the field, and above
        assert fields(answer.text)["code"] == HOSTILE


# -- functions


async def test_functions_are_switched_and_everything_else_stays(tmp_path: Path) -> None:
    async with connected(tmp_path, widget="its_widget", patience=0.7) as (site, browser):
        page = (await browser.get(FUNCTIONS)).text
        assert "A call from outside first rings the user who is responsible" in page       # as the widget says it
        assert "apply by root" in page
        russian = (await browser.get(FUNCTIONS, headers={"Accept-Language": "ru"})).text
        assert "Внешний звонок сначала приходит ответственному" in russian
        answer = await send(browser, FUNCTIONS, forward_to_responsible="OFF", task_on_missed="on",
                            rules__incoming_missed="contact", rules__call_back_minutes="30", not_told="+79161234567")
        assert answer.headers["location"] == f"{FUNCTIONS}?notice=saved"
        crm = crm_of(await directory(site))
        functions = crm.functions
        assert (functions.forward_to_responsible, functions.set_caller_name, functions.task_on_missed) == (
            False, True, True)
        assert (functions.rules.incoming_missed.value, functions.rules.call_back_minutes) == ("contact", 30)
        assert functions.not_told == ("+79161234567",)
        assert (crm.widget, crm.patience, crm.client_secret) == ("its_widget", 0.7, "its secret")
        await send(browser, CRM, patience="0.9")
        assert crm_of(await directory(site)).functions == functions


async def test_a_deal_is_made_with_or_without_a_pipeline(tmp_path: Path) -> None:
    async with connected(tmp_path) as (site, browser):
        await send(browser, FUNCTIONS, makes_deal="on")
        assert crm_of(await directory(site)).functions.rules.deal is not None
        assert 'name="makes_deal" checked' in (await browser.get(FUNCTIONS)).text
        answer = await send(browser, FUNCTIONS, rules__deal__stage="5")
        assert answer.status_code == 422
        assert 'name="makes_deal" checked' in answer.text
        await send(browser, FUNCTIONS, rules__deal__pipeline="4", rules__deal__stage="5")
        deal = crm_of(await directory(site)).functions.rules.deal
        assert deal is not None
        assert (deal.pipeline, deal.stage, deal.name) == (4, 5, "{number}")
        await send(browser, FUNCTIONS, makes_deal="OFF")
        assert crm_of(await directory(site)).functions.rules.deal is None


async def test_what_is_wrong_with_rules_stands_beside_them(tmp_path: Path) -> None:
    async with connected(tmp_path) as (site, browser):
        answer = await send(browser, FUNCTIONS, rules__contact_name=f"{{who}} {HOSTILE}", rules__fill_in_minutes="0",
                            rules__outgoing_answered="unsorted")
        assert answer.status_code == 422
        assert answer.text.count('class="complaint"') == 3
        assert "<script>alert" not in answer.text
        assert crm_of(await directory(site)) == ACCOUNT


async def test_a_number_has_rules_of_its_own_as_far_as_they_differ(tmp_path: Path) -> None:
    async with connected(tmp_path) as (site, browser):
        await send(browser, FUNCTIONS, rules__tag="from a call", rules__incoming_missed="nothing")
        page = fields((await browser.get(BY_NUMBER)).text)
        assert (page["tag"], page["incoming_missed"], page["call_back_minutes"]) == ("from a call", "nothing", "15")
        assert "outgoing_answered" not in page
        await send(browser, BY_NUMBER, incoming_missed="unsorted", makes_deal="on", call_back_minutes="5")
        ((number, rules),) = crm_of(await directory(site)).functions.rules_of_did
        assert number == DID
        assert (rules.incoming_missed.value, rules.tag, rules.call_back_minutes) == ("unsorted", "from a call", 5)
        assert rules.deal is not None
        await send(browser, FUNCTIONS, rules__tag="later")
        ((_, rules),) = crm_of(await directory(site)).functions.rules_of_did
        assert rules.tag == "later"
        assert fields((await browser.get(BY_NUMBER)).text)["incoming_missed"] == "unsorted"
        await send(browser, BY_NUMBER, as_for_all="on")
        assert crm_of(await directory(site)).functions.rules_of_did == ()


async def test_a_numbers_faults_stand_beside_its_fields(tmp_path: Path) -> None:
    async with connected(tmp_path) as (_, browser):
        answer = await send(browser, BY_NUMBER, fill_in_text="{who}", call_back_minutes="0")
        assert answer.status_code == 422
        assert answer.text.count('class="complaint"') == 2
        assert (await browser.get(f"{FUNCTIONS}/%2B74950000000")).status_code == 404


async def test_without_a_crm_there_are_no_functions_and_no_users(tmp_path: Path) -> None:
    async with office(tmp_path) as (_, browser):
        for page in (FUNCTIONS, USERS):
            assert 'href="/clients/acme/crm"' in (await browser.get(page)).text
        assert (await browser.get(BY_NUMBER)).status_code == 404
        token = fields((await browser.get("/clients/acme/settings")).text)
        for path, status in ((FUNCTIONS, 404), (USERS, 409), (f"{USERS}/refresh", 409), (BY_NUMBER, 404)):
            assert (await browser.post(path, data=token)).status_code == status


# -- users


async def know_users(site: Site, *users: CrmUser) -> None:
    await site.store.crm_users.save_users(ACME, ACCOUNT.base_url, users, NOW)
    await site.users.load()


async def test_extensions_are_given_to_users_and_taken_from_them(tmp_path: Path) -> None:
    async with connected(tmp_path) as (site, browser):
        await know_users(site, CrmUser(1, "Анна"), CrmUser(2, HOSTILE), CrmUser(3, "Gone", is_active=False))
        page = (await browser.get(USERS)).text
        assert "Анна" in page
        assert "<script>alert" not in page
        answer = await send(browser, USERS, **{"user-1": "101", "user-2": "102"})
        assert answer.headers["location"] == f"{USERS}?notice=saved"
        extension = (await directory(site)).extension
        assert (extension[ACME, "101"].crm_user, extension[ACME, "102"].crm_user) == (1, 2)
        await site.users.load()
        await send(browser, USERS, **{"user-1": "102", "user-2": ""})
        extension = (await directory(site)).extension
        assert (extension[ACME, "101"].crm_user, extension[ACME, "102"].crm_user) == (None, 1)
        assert extension[BETA, "101"].crm_user is None


async def test_who_has_which_is_unambiguous(tmp_path: Path) -> None:
    async with connected(tmp_path) as (site, browser):
        await know_users(site, CrmUser(1, "Anna"), CrmUser(2, "Boris"))
        answer = await send(browser, USERS, **{"user-1": "999", "user-2": ""})
        assert answer.status_code == 422
        assert "There is no extension 999." in answer.text
        answer = await send(browser, USERS, **{"user-1": "101", "user-2": "101"})
        for who in ("Anna", "Boris"):
            assert answer.text.count(f"{who} has extension 101, too.") == 2             # at the field, and above it
        assert (await directory(site)).extension[ACME, "101"].crm_user is None


async def test_a_map_of_the_widget_is_shown_and_said_where_to_change(tmp_path: Path) -> None:
    async with connected(tmp_path, widget="its_widget", users_from=UsersFrom.WIDGET) as (site, browser):
        await know_users(site, CrmUser(1, "Anna"))
        page = (await browser.get(USERS)).text
        assert "is said in the widget" in page
        assert "user-1" not in page
        token = fields((await browser.get(USERS)).text)
        assert (await browser.post(USERS, data={**token, "user-1": "101"})).status_code == 409


async def test_faults_of_users_are_said_by_name(tmp_path: Path) -> None:
    async with connected(tmp_path) as (site, browser):
        await know_users(site, CrmUser(2, "Boris <b>", is_active=False), CrmUser(1, "Anna"))
        await send(browser, USERS, **{"user-2": "102"})
        await site.users.load()
        page = (await browser.get(USERS)).text
        assert "Boris &lt;b&gt; is switched off in the CRM, but extension 102 is still theirs" in page
        russian = (await browser.get(USERS, headers={"Accept-Language": "ru"})).text
        assert "is still theirs" not in russian


async def test_many_users_are_paged_and_searched(tmp_path: Path) -> None:
    async with connected(tmp_path) as (site, browser):
        await know_users(site, *(CrmUser(n, f"User {n:04}") for n in range(1, 251)))
        first = (await browser.get(USERS)).text
        assert first.count('id="user-') == ROWS
        assert "User 0250" in (await browser.get(USERS, params={"page": "5"})).text
        found = (await browser.get(USERS, params={"q": "user 0123"})).text
        assert found.count('id="user-') == 1
        assert "Nobody has that" in (await browser.get(USERS, params={"q": HOSTILE})).text


async def test_the_crm_is_asked_for_its_users(tmp_path: Path) -> None:
    async with connected(tmp_path) as (_, browser):
        token = fields((await browser.get(USERS)).text)["token"]
        answer = await browser.post(f"{USERS}/refresh", data={"token": token})
        assert answer.headers["location"] == USERS


# -- first steps


async def test_an_office_is_led_from_nothing_to_its_first_calls(tmp_path: Path) -> None:
    async with operator(tmp_path) as (site, browser):
        answer = await send(browser, "/clients", id="gamma", name="Gamma", password="a password of gamma")
        assert answer.headers["location"] == "/clients/gamma?notice=client-added"
        await site.users.load()

        async def following() -> str:
            page = (await browser.get("/clients/gamma")).text
            return page.split('aria-current="step"', 1)[1].split("<b>", 1)[1].split("</b>", 1)[0]

        assert await following() == "Extensions"
        await send(browser, "/clients/gamma/extensions/new", number="101")
        assert await following() == "Phones"
        gamma = ClientId("gamma")
        site.control.phones = [RegisteredPhone(gamma, "101", "sip:101@192.0.2.9", "Phone", 60)]
        assert await following() == "Trunk"
        await send(browser, "/clients/gamma/trunks/new", name="line", host="192.0.2.1")
        assert await following() == "Trunk"
        site.control.trunks = [TrunkState(gamma, "line", True, "answers OPTIONS")]
        assert await following() == "Outside numbers"
        await send(browser, "/clients/gamma/numbers/new", number="+74957654321", destination="101")
        assert await following() == "Test call"
        await site.store.calls.finish(record(client=gamma))
        assert await following() == "amoCRM"
        assert "1 of 1 up" in (await browser.get("/clients/gamma")).text     # it works without
        await send(browser, "/clients/gamma/crm", base_url="https://gamma.amocrm.ru", access="a token")
        site.health[gamma] = health()
        assert await following() == "Widget"
        known, generation = await site.store.directory.load()
        clients = tuple(replace(one, crm=replace(one.crm, account=7)) if one.id == gamma and one.crm else one
                        for one in known.clients)
        await site.store.directory.replace(known, replace(known, clients=clients), generation)
        await site.users.load()
        assert await following() == "Users of the CRM"
        await send(browser, "/clients/gamma/extensions/101", crm_user="5")
        await site.users.load()
        page = (await browser.get("/clients/gamma")).text
        assert "First steps" not in page
        assert "1 of 1 up" in page


async def test_an_office_sees_its_own_first_steps_alone(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        site.control.phones = [RegisteredPhone(BETA, "101", "sip:101@192.0.2.9", "Phone", 60)]
        page = (await browser.get("/clients/acme")).text
        assert "Enter the extension&#39;s login and password in a phone" in page or "Enter the extension's" in page
        assert "/clients/acme/remove" not in page
        assert (await browser.get("/clients/beta")).status_code == 404


# -- clients


async def test_the_operator_sees_how_each_client_is(tmp_path: Path) -> None:
    async with operator(tmp_path) as (site, browser):
        site.control.trunks = [TrunkState(ACME, "acme-line", True, ""), TrunkState(BETA, "beta-line", False, "")]
        site.control.phones = [RegisteredPhone(ACME, "101", "sip:101@192.0.2.9", "Phone", 60)]
        site.health[BETA] = health("refused")
        page = (await browser.get("/clients")).text
        assert "1 of 1 up" in page
        assert "0 of 1 up" in page
        assert "refused" in page
        found = (await browser.get("/clients", params={"q": "beta"})).text
        assert 'href="/clients/beta"' in found
        assert 'href="/clients/acme"' not in found
        assert "No client has that" in (await browser.get("/clients", params={"q": HOSTILE})).text


async def test_a_client_is_not_added_twice_nor_with_a_strange_name(tmp_path: Path) -> None:
    async with operator(tmp_path) as (site, browser):
        answer = await send(browser, "/clients", id="acme", name="x", password="long enough a password")
        assert answer.status_code == 422
        assert "is there already" in answer.text
        answer = await send(browser, "/clients", id=HOSTILE, name="x", password="short", login="acme")
        assert answer.text.count('class="complaint"') == 2
        assert "<script>alert" not in answer.text
        answer = await send(browser, "/clients", id="gamma", login="acme")
        assert "The login acme is taken." in answer.text or "is taken" in answer.text
        assert [one.id for one in (await directory(site)).clients] == [ACME, BETA]


async def test_a_client_goes_by_its_written_name_with_all_that_is_its_own(tmp_path: Path) -> None:
    async with operator(tmp_path) as (site, browser):
        page = (await browser.get("/clients/acme/remove")).text
        assert "2 extensions, with the passwords of their phones" in page
        answer = await send(browser, "/clients/acme/remove", name="beta")
        assert answer.status_code == 422
        assert ACME in (await directory(site)).client
        stale = fields(page) | {"name": "acme"}
        await change(site, name="Acme & Sons")
        assert (await browser.post("/clients/acme/remove", data=stale)).status_code == 409
        answer = await send(browser, "/clients/acme/remove", name="acme")
        assert answer.headers["location"] == "/clients?notice=client-removed"
        left = await directory(site)
        assert [one.id for one in left.clients] == [BETA]
        assert {one.client for one in (*left.extensions, *left.trunks, *left.numbers)} == {BETA}


async def test_clients_are_the_operators_alone(tmp_path: Path) -> None:
    async with office(tmp_path) as (site, browser):
        token = fields((await browser.get("/clients/acme/settings")).text)
        assert (await browser.get("/clients")).status_code == 403
        assert (await browser.post("/clients", data={**token, "id": "gamma"})).status_code == 403
        assert (await browser.get("/clients/acme/remove")).status_code == 403
        assert (await browser.post("/clients/acme/remove", data={**token, "name": "acme"})).status_code == 403
        assert (await directory(site)).clients == OFFICES.clients


# -- who may


@pytest.mark.parametrize("path", [
    "", "/trunks", "/trunks/new", "/trunks/beta-line", "/trunks/beta-line/remove", "/crm", "/crm/remove",
    "/crm/widget.zip", "/functions", "/functions/%2B74959998877", "/users",
])
async def test_another_office_is_not_there(tmp_path: Path, path: str) -> None:
    async with office(tmp_path) as (_, browser):
        answer = await browser.get(f"/clients/beta{path}")
        assert answer.status_code == 404
        assert "Beta" not in answer.text


async def test_nothing_is_done_in_another_office_nor_without_the_forms_token(tmp_path: Path) -> None:
    async with connected(tmp_path) as (site, browser):
        generation = await site.store.directory.generation()
        sent = fields((await browser.get(LINE)).text)
        site.control.tests = {(BETA, "beta-line"): trunk_test(), (ACME, "beta-line"): trunk_test()}
        for path in ("trunks/new", "trunks/beta-line", "trunks/beta-line/remove", "trunks/beta-line/test", "crm",
                     "crm/remove", "crm/code", "functions", "functions/%2B74959998877", "users", "users/refresh"):
            assert (await browser.post(f"/clients/beta/{path}", data=sent)).status_code == 404
            assert (await browser.post(f"/clients/acme/{path}", data={**sent, "token": "x"})).status_code == 403
        assert site.control.tested == []
        assert await site.store.directory.generation() == generation


NASTY = (HOSTILE, "", " ", "0", "-1", "1" * 400, "9" * 30, "on", "\x00", "a\nb", "{", "{number}", "{0}", "%s",
         "я" * 300, "https://[", "NaN", "1e9", "١٢", "../..", "'; drop table clients; --", "contact", "+7", "[0]")


@pytest.mark.parametrize("path", [
    "/clients", f"{TRUNKS}/new", LINE, CRM, f"{CRM}/code", FUNCTIONS, BY_NUMBER, USERS, "/clients/beta/remove"])
async def test_whatever_a_form_says_is_saved_or_complained_of(tmp_path: Path, path: str) -> None:
    random = Random(path)
    async with operator(tmp_path) as (site, browser):
        await change(site, crm=ACCOUNT)
        await know_users(site, CrmUser(1, "Anna"), CrmUser(2, "Boris"))
        for _ in range(40):
            shown = fields((await browser.get(path.removesuffix("/code"))).text)
            sent = {name: random.choice(NASTY) if name not in ("token", "seen") and random.random() < 0.4 else text
                    for name, text in shown.items()}
            sent |= {random.choice(NASTY): "x", "user-1": random.choice(NASTY), "code": random.choice(NASTY)}
            answer = await browser.post(path, data=sent)
            assert answer.status_code in (303, 404, 409, 422), (answer.status_code, sent)
            assert "<script>alert" not in answer.text
            if path == LINE and answer.status_code == 303:
                await browser.post(path, data=shown)
