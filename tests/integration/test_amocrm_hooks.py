"""What comes to the hooks of amoCRM: answered at once, limited, and believed only as far as it proves itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from b2bua.cdr import ClientId
from tests.support.web_site import ACME, Site, open_site, sign_in
from web.allowances import MOST_REMEMBERED, Allowances
from web.amocrm_hooks import LONGEST_QUERY, PER_MINUTE

JSON = {"Accept": "application/json"}
CODE = "/amocrm/oauth"


@dataclass
class Remembers:
    """amocrm_hooks.CrmConnections."""

    codes: list[tuple[str, str, str, str]] = field(default_factory=list)
    off: list[tuple[str, str, str]] = field(default_factory=list)

    def link(self, client: ClientId) -> str:
        if client != ACME:
            raise LookupError(client)
        return "https://www.amocrm.ru/oauth?client_id=5b0c&state=sealed"

    def code_arrived(self, code: str, host: str, state: str, client_id: str) -> ClientId:
        if code == "foreign":
            raise LookupError("no client has this integration")
        self.codes.append((code, host, state, client_id))
        return ACME

    def switched_off(self, client_id: str, account: str, signature: str) -> ClientId:
        if signature != "good":
            raise LookupError("the signature is of none of our integrations")
        self.off.append((client_id, account, signature))
        return ACME

    def moved_to(self, client: ClientId) -> str:
        return ""


@dataclass
class Hooked:
    site: Site
    connections: Remembers


@pytest.fixture
def hooked(tmp_path: Path) -> AbstractAsyncContextManager[Hooked]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Hooked]:
        connections = Remembers()
        async with open_site(tmp_path, connections) as site:
            yield Hooked(site, connections)
    return opened()


async def test_a_code_is_taken_from_the_install_hook_and_from_a_browser(hooked: Hooked) -> None:
    async with hooked.site.browser(headers=JSON) as amocrm, hooked.site.browser() as person:
        said = {"code": "def502", "referer": "acme.amocrm.ru", "from_widget": "1", "client_id": "5b0c"}
        assert (await amocrm.get(CODE, params=said)).json() == {"accepted": True}
        shown = await person.get(CODE, params={"code": "def503", "referer": "https://Acme.amocrm.ru/", "state": "s:1"})
        assert "The code has arrived" in shown.text
        assert "def503" not in shown.text
        assert 'href="/clients/acme/crm"' in shown.text
        unasked = await person.get(CODE, params={"code": "def504", "referer": "acme.amocrm.ru"})
        assert "/clients/" not in unasked.text         # whose account that is, is nobody's business
    assert hooked.connections.codes == [
        ("def502", "acme.amocrm.ru", "", "5b0c"), ("def503", "acme.amocrm.ru", "s:1", ""),
        ("def504", "acme.amocrm.ru", "", "")]


@pytest.mark.parametrize(("query", "status", "remedy"), [
    ("", 400, "enter it as the integration's redirect address"),
    ("code=&referer=acme.amocrm.ru", 400, "enter it as the integration's redirect address"),
    ("error=access_denied&state=s", 400, "signed in as an administrator"),
    ("code=foreign", 403, "paste the code"),
    ("code=" + "x" * LONGEST_QUERY, 400, "Send at most"),
    ("&".join(f"a{number}=1" for number in range(50)), 400, "Send at most"),
    ("code=%ff", 400, "Send at most"),
])
async def test_what_is_no_code_of_ours_is_told_what_to_do(hooked: Hooked, query: str, status: int, remedy: str) -> None:
    async with hooked.site.browser(headers=JSON) as anybody:
        answer = await anybody.get(f"{CODE}?{query}")
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert remedy in answer.json()["remedy"]
        assert (await anybody.post(f"{CODE}?code=x")).status_code == 405
    assert hooked.connections.codes == []


async def test_a_look_whether_we_are_there_spends_no_code(hooked: Hooked) -> None:
    async with hooked.site.browser() as amocrm:
        for path in (f"{CODE}?code=x", "/amocrm/disconnect?signature=good"):
            assert (await amocrm.head(path)).status_code == 200
    assert (hooked.connections.codes, hooked.connections.off) == ([], [])


async def test_a_disconnection_counts_with_its_signature(hooked: Hooked) -> None:
    async with hooked.site.browser(headers=JSON) as amocrm:
        said = {"account_id": "101", "client_uuid": "5b0c"}
        forged = await amocrm.get("/amocrm/disconnect", params={**said, "signature": "forged"})
        assert forged.status_code == 403
        assert (await amocrm.get("/amocrm/disconnect", params=said)).status_code == 403
        assert (await amocrm.get("/amocrm/disconnect", params={**said, "signature": "good"})).status_code == 200
    assert hooked.connections.off == [("5b0c", "101", "good")]


async def test_who_comes_too_often_is_turned_away_for_a_while_and_others_are_not(hooked: Hooked) -> None:
    async with (hooked.site.browser(headers=JSON) as stranger,
                hooked.site.browser(headers=JSON, address="198.51.100.9") as amocrm):
        answers = [await stranger.get(CODE, params={"code": "foreign"}) for _ in range(PER_MINUTE + 10)]
        assert [answer.status_code for answer in answers[:PER_MINUTE]] == [403] * PER_MINUTE
        assert answers[-1].status_code == 429
        assert answers[-1].headers["retry-after"] == "60"
        assert (await amocrm.get(CODE, params={"code": "good"})).status_code == 200


async def test_the_operator_is_sent_to_the_page_of_consent(hooked: Hooked) -> None:
    async with hooked.site.browser() as operator:
        assert (await operator.get("/amocrm/connect/acme")).headers["location"] == "/sign-in?to=/amocrm/connect/acme"
        await sign_in(operator)
        answer = await operator.get("/amocrm/connect/acme")
        assert answer.status_code == 303
        assert answer.headers["location"] == "https://www.amocrm.ru/oauth?client_id=5b0c&state=sealed"
        assert (await operator.get("/amocrm/connect/other")).status_code == 404


async def test_allowances_refill_with_time_and_are_bounded() -> None:
    allowances, now = Allowances(PER_MINUTE), asyncio.get_running_loop().time()
    assert [allowances.spend("a", now) for _ in range(PER_MINUTE + 1)] == [True] * PER_MINUTE + [False]
    assert allowances.spend("a", now + 60 / PER_MINUTE + 0.01)
    assert not allowances.spend("a", now + 60 / PER_MINUTE + 0.02)
    assert allowances.spend("b", now)
    for number in range(MOST_REMEMBERED + 5):
        allowances.spend(str(number), now)
    assert len(allowances._buckets) == MOST_REMEMBERED
