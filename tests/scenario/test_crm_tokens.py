"""The tokens of an account over days: renewed once by many, lost, refused, moved, and given anew by a person."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from urllib.parse import parse_qsl, urlsplit

import pytest

from b2bua.cdr import ClientId
from b2bua.crm.amocrm.access import LongLivedToken, TokenSource
from b2bua.crm.amocrm.codes import CodeExchange, CodeRefused
from b2bua.crm.amocrm.connection import LEASE_SECONDS
from b2bua.crm.amocrm.connections import PER_MINUTE, Connections
from b2bua.crm.amocrm.kept import KeptTokens, RefreshCounts
from b2bua.crm.amocrm.oauth import Integration
from b2bua.crm.port import CrmError, CrmUnauthorized, CrmUnavailable
from b2bua.directory import Client, CrmAccount, Directory
from b2bua.sealing import Sealer
from b2bua.store.tokens import Connection, ConnectionState, TokenPair
from tests.support.memory_tokens import DAY, Fate, MemoryTokens, SingleUseEndpoint, TokenDatabase
from tests.support.virtual_loop import VirtualLoop

ACME = ClientId("acme")
BASE = "https://acme.amocrm.ru"
ACCOUNT = CrmAccount(BASE, client_id="integration", client_secret="secret", redirect_uri="https://pbx.test/amocrm/oauth")
INTEGRATION = Integration(ACME, BASE, "integration", "secret", "https://pbx.test/amocrm/oauth")
DIRECTORY = Directory((Client(ACME, "Acme", ACCOUNT),))

week = pytest.mark.patience(30 * DAY)


@dataclass
class Crm:
    """A database, an account that has let us in, and processes that use both."""

    database: TokenDatabase
    endpoint: SingleUseEndpoint
    requests: int = 0
    offset: float = 0.0

    def clock(self) -> datetime:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return loop.wall() + timedelta(seconds=self.offset)

    @property
    def row(self) -> Connection:
        return self.database.rows[ACME]

    def let_in(self) -> None:
        now = self.clock()
        pair = TokenPair("access-1", "refresh-1", now, now + timedelta(days=1), now + timedelta(days=90))
        self.database.rows[ACME] = Connection(ACME, "integration", BASE, BASE, 101, "api-a.amocrm.ru", pair, now)

    @asynccontextmanager
    async def process(self, name: str = "process") -> AsyncIterator[Connections]:
        sealer = Sealer(["a key of the tests, which is long enough"])
        async with Connections(MemoryTokens(self.database), self.endpoint.of(name), sealer, self.clock,
                               Random(7)) as connections:
            await connections.use(DIRECTORY)
            yield connections

    async def ask(self, source: TokenSource) -> None:
        """As AmoApi does. Raises CrmError."""
        access = await source.current()
        for _ in range(2):
            self.requests += 1
            await asyncio.sleep(0.05)
            if self.endpoint.accepts(access.token, access.base_url):
                return
            access = await source.refused(access)
        raise CrmUnauthorized("refused again")

    def fates(self, *fates: Fate) -> None:
        left = list(fates)
        self.endpoint.fate = lambda: left.pop(0) if left else Fate.ANSWERED


@pytest.fixture
def crm() -> AbstractAsyncContextManager[Crm]:
    @asynccontextmanager
    async def made() -> AsyncIterator[Crm]:
        one = Crm(TokenDatabase(), SingleUseEndpoint())
        one.let_in()
        yield one
    return made()


def spent(crm: Crm) -> list[str]:
    return [one.token for one in crm.endpoint.spent]


@week
async def test_tokens_are_renewed_after_four_fifths_of_their_life_by_one_of_all(crm: Crm) -> None:
    async with crm.process("a") as a, crm.process("b") as b:
        await asyncio.sleep(1.7 * DAY)
        assert spent(crm) == ["refresh-1", "refresh-2"]
        for one in (a, b):
            await crm.ask(one.source(ACME))
        assert (a.counts.renewed + b.counts.renewed, a.counts.taken_over + b.counts.taken_over) == (2, 2)
        assert a.alarms() == []
    assert crm.requests == 2


async def test_many_requests_that_are_refused_at_once_cause_one_refresh(crm: Crm) -> None:
    async with crm.process("a") as a, crm.process("b") as b:
        crm.endpoint.access = "revoked by somebody"
        await asyncio.gather(*(crm.ask(one.source(ACME)) for one in (a, b) for _ in range(20)))
    assert spent(crm) == ["refresh-1"]


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
@week
async def test_a_jump_of_the_clock_costs_nothing(crm: Crm, jump: float) -> None:
    async with crm.process() as one:
        await asyncio.sleep(3600)
        crm.offset = jump
        for _ in range(20):
            await asyncio.sleep(3600)
            await crm.ask(one.source(ACME))
    assert len(crm.endpoint.spent) == 1
    assert crm.requests == 20


async def test_a_lost_answer_is_tried_once_more_and_the_tokens_live(crm: Crm) -> None:
    crm.fates(Fate.LOST_BEFORE)
    async with crm.process() as one:
        crm.endpoint.access = "revoked by somebody"
        with pytest.raises(CrmUnavailable):
            await crm.ask(one.source(ACME))
        await asyncio.sleep(3)
        await crm.ask(one.source(ACME))
        assert one.alarms() == []
    assert spent(crm) == ["refresh-1", "refresh-1"]


@week
async def test_with_the_new_pair_lost_a_person_is_called_and_nothing_storms(crm: Crm) -> None:
    crm.fates(Fate.LOST_AFTER)
    async with crm.process() as one:
        source = one.source(ACME)
        crm.endpoint.access = "revoked by somebody"
        for _ in range(24 * 60):
            with pytest.raises(CrmError):
                await crm.ask(source)
            await asyncio.sleep(60)
        assert crm.requests == 1
        assert 20 < len(crm.endpoint.spent) < 45           # a day of probes
        (alarm,) = one.alarms()
        assert "refused" in alarm
        assert "after an answer to a refresh was lost" in alarm
        assert "smartswitch crm link --client acme" in alarm
        assert crm.row.tokens is not None
        assert crm.row.tokens.refresh == "refresh-1"       # kept, whatever it is worth
        crm.endpoint.codes.add("code")
        one.code_arrived("code", "acme.amocrm.ru", "", "integration")
        await asyncio.sleep(5)
        await crm.ask(source)
        assert one.alarms() == []


async def test_while_answers_are_lost_the_old_access_token_still_serves(crm: Crm) -> None:
    crm.endpoint.fate = lambda: Fate.LOST_BEFORE
    async with crm.process() as one:
        await asyncio.sleep(0.85 * DAY)
        assert crm.row.state is ConnectionState.UNCERTAIN
        (alarm,) = one.alarms()
        assert "uncertain" in alarm
        await crm.ask(one.source(ACME))
        crm.endpoint.fate = lambda: Fate.ANSWERED
        await asyncio.sleep(0.1 * DAY)
        assert crm.row.state is ConnectionState.CONNECTED
        assert one.alarms() == []


async def test_amocrm_out_of_reach_spends_nothing_and_alarms_nobody(crm: Crm) -> None:
    crm.endpoint.fate = lambda: Fate.NOT_REACHED
    async with crm.process() as one:
        await asyncio.sleep(0.95 * DAY)
        assert one.alarms() == []
        assert crm.row.sent == 0
        crm.endpoint.fate = lambda: Fate.ANSWERED
        await asyncio.sleep(400)
        assert crm.row.generation == 2


async def test_an_account_that_has_moved_is_found_and_stays_found(crm: Crm) -> None:
    async with crm.process() as one:
        crm.endpoint.host = "https://acme2.amocrm.ru"
        await crm.ask(one.source(ACME))
        assert crm.row.base_url == "https://acme2.amocrm.ru"
        assert one.counts.moved == 1
    async with crm.process() as another:
        assert (await another.source(ACME).current()).base_url == "https://acme2.amocrm.ru"
        await another.use(Directory((Client(ACME, "Acme", replace(ACCOUNT, base_url="https://acme3.amocrm.ru")),)))
        assert (await another.source(ACME).current()).base_url == "https://acme3.amocrm.ru"     # as a person says


async def test_who_dies_while_refreshing_is_waited_for_and_then_replaced(crm: Crm) -> None:
    crm.endpoint.access = "revoked by somebody"
    rows = MemoryTokens(crm.database)
    assert await rows.lease(crm.row, "dead/1/x")
    async with crm.process() as one:
        began = asyncio.get_running_loop().time()
        while True:
            try:
                await crm.ask(one.source(ACME))
                break
            except CrmUnavailable:
                await asyncio.sleep(1)
        assert LEASE_SECONDS <= asyncio.get_running_loop().time() - began < LEASE_SECONDS + 30
    assert spent(crm) == ["refresh-1"]
    assert (crm.row.lease, crm.row.sent) == ("", 0)


async def test_new_tokens_that_nobody_takes_serve_from_memory_until_they_are_stored(crm: Crm) -> None:
    def everything_fails() -> None:
        crm.database.is_away = crm.database.disk_is_full = True

    crm.endpoint.on_pair = everything_fails
    async with crm.process() as one:
        crm.endpoint.access = "revoked by somebody"
        await crm.ask(one.source(ACME))
        assert crm.row.generation == 1
        assert one.counts.unstored == 1
        await asyncio.sleep(0.9 * DAY)                     # they are not spent before they are stored
        assert spent(crm) == ["refresh-1"]
        crm.database.is_away = crm.database.disk_is_full = False
        await asyncio.sleep(5)
        assert crm.row.generation >= 2
        await crm.ask(one.source(ACME))


async def test_tokens_that_were_spilled_are_stored_by_the_next_process(crm: Crm) -> None:
    crm.endpoint.on_pair = lambda: setattr(crm.database, "is_away", True)
    async with crm.process() as one:
        crm.endpoint.access = "revoked by somebody"
        await crm.ask(one.source(ACME))
    crm.database.is_away = False
    assert crm.row.generation == 1
    async with crm.process() as another:
        await asyncio.sleep(1)
        assert crm.row.generation == 2
        await crm.ask(another.source(ACME))
    assert crm.database.files == {}
    assert spent(crm) == ["refresh-1"]


async def test_a_database_from_a_backup_gets_the_newer_tokens_back(crm: Crm) -> None:
    backup = crm.row
    async with crm.process() as one:
        crm.endpoint.access = "revoked by somebody"
        await crm.ask(one.source(ACME))
        crm.database.rows[ACME] = backup
        await asyncio.sleep(10)
        assert crm.row.generation == 2
        await crm.ask(one.source(ACME))


async def test_tokens_that_are_refused_as_soon_as_they_come_are_not_renewed_over_and_over(crm: Crm) -> None:
    async with crm.process() as one:
        crm.endpoint.accepts = lambda access, host: False  # type: ignore[method-assign]
        for _ in range(3600):
            with pytest.raises(CrmUnauthorized):
                await crm.ask(one.source(ACME))
            await asyncio.sleep(1)
        assert len(crm.endpoint.spent) <= 7
        assert crm.requests < 80
        (alarm,) = one.alarms()
        assert "only just given" in alarm


async def test_a_refused_long_lived_token_is_tried_rarely() -> None:
    source, requests = LongLivedToken(f"{BASE}/", "token"), 0
    for _ in range(12 * 60):
        try:
            access = await source.current()
            requests += 1
            await source.refused(access)
        except CrmUnauthorized:
            await asyncio.sleep(60)
    assert access.base_url == BASE
    assert 12 * 4 <= requests <= 12 * 4 + 10


# -- codes and disconnections


async def connect(crm: Crm, code: str, base_url: str = BASE) -> Connection:
    counts = RefreshCounts()
    kept = KeptTokens(ACME, MemoryTokens(crm.database), counts)
    codes = CodeExchange(INTEGRATION, kept, crm.endpoint.of("command line"), crm.clock, counts)
    return await codes.connect(code, base_url)


async def test_the_first_code_connects_and_a_second_one_renews(crm: Crm) -> None:
    crm.database.rows.clear()
    crm.endpoint.codes = {"one", "two"}
    async with crm.process() as daemon:
        with pytest.raises(CrmUnauthorized, match="not connected yet"):
            await crm.ask(daemon.source(ACME))
        for code in ("one", "two"):
            new = await connect(crm, code)
            assert crm.row == new
            await asyncio.sleep(3)                         # the daemon notices
            await crm.ask(daemon.source(ACME))
    assert crm.row.generation == 2


async def test_a_code_that_is_refused_leaves_the_tokens_alone(crm: Crm) -> None:
    before = crm.row
    with pytest.raises(CodeRefused, match="does not take the code"):
        await connect(crm, "foreign")
    assert crm.row == before


async def test_a_code_of_another_account_is_refused(crm: Crm) -> None:
    before = crm.row
    crm.endpoint.codes, crm.endpoint.account = {"code"}, 202
    with pytest.raises(CodeRefused, match="account 202"):
        await connect(crm, "code")
    assert crm.row == before


async def test_the_install_hook_comes_twice_with_a_foreign_code_and_from_anywhere(crm: Crm) -> None:
    crm.endpoint.codes = {"good"}
    async with crm.process() as one:
        for host, client_id in (("acme.amocrm.ru", ""), ("acme.amocrm.ru", "integration")):
            for code in ("foreign", "good", "good"):
                assert one.code_arrived(code, host, "", client_id) == ACME
        for host, state, client_id in (("evil.org", "", "integration"), ("other.amocrm.ru", "", ""), ("", "", ""),
                                       ("acme.amocrm.ru", "forged", ""), ("acme.amocrm.ru", "", "other")):
            with pytest.raises(LookupError):
                one.code_arrived("third", host, state, client_id)
        for no_code in ("", "a b", "я", "x" * 5000):
            with pytest.raises(LookupError, match="no code"):
                one.code_arrived(no_code, "acme.amocrm.ru", "", "")
        await asyncio.sleep(10)
    assert sorted(spent(crm)) == ["code foreign", "code good"]
    assert crm.row.generation == 2


async def test_codes_that_come_in_floods_are_turned_away(crm: Crm) -> None:
    async with crm.process() as one:
        refused = 0
        for number in range(200):
            try:
                one.code_arrived(f"code-{number}", "acme.amocrm.ru", "", "")
            except LookupError:
                refused += 1
        assert refused == 194
        await asyncio.sleep(61)
        one.code_arrived("code-200", "acme.amocrm.ru", "", "")
        await asyncio.sleep(5)
    assert len(crm.endpoint.spent) == 7


async def test_a_link_of_ours_connects_an_account_that_has_moved_before_it_is_known(crm: Crm) -> None:
    crm.endpoint.host, crm.endpoint.codes = "https://acme2.amocrm.ru", {"code"}
    async with crm.process() as one:
        state = dict(parse_qsl(urlsplit(one.link(ACME)).query))["state"]
        assert one.code_arrived("code", "acme2.amocrm.ru", state, "") == ACME
        await asyncio.sleep(3)
        await crm.ask(one.source(ACME))
    assert crm.row.base_url == "https://acme2.amocrm.ru"


async def test_a_code_waits_for_the_database(crm: Crm) -> None:
    crm.endpoint.codes = {"code"}
    async with crm.process() as one:
        crm.database.is_away = True
        one.code_arrived("code", "acme.amocrm.ru", "", "")
        await asyncio.sleep(60)
        assert spent(crm) == []
        crm.database.is_away = False
        await asyncio.sleep(15)
    assert crm.row.generation == 2


def signature(of: str, secret: str = INTEGRATION.client_secret) -> str:
    return hmac.new(secret.encode(), of.encode(), hashlib.sha256).hexdigest()


@week
async def test_who_switches_the_integration_off_is_believed_by_the_signature(crm: Crm) -> None:
    async with crm.process() as one:
        for forged in ("", "я", signature("integration|101", "other"), signature("integration|102")):
            with pytest.raises(LookupError):
                one.switched_off("integration", "101", forged)
        with pytest.raises(LookupError):
            one.switched_off("integration", "102", signature("integration|102"))       # not this account
        crm.endpoint.is_revoked = True
        assert one.switched_off("integration", "101", signature("integration|101")) == ACME
        await asyncio.sleep(1)
        with pytest.raises(CrmUnauthorized, match="switched off"):
            await crm.ask(one.source(ACME))
        await asyncio.sleep(DAY)
        assert crm.row.state is ConnectionState.DISCONNECTED
        assert crm.row.tokens is not None
        assert len(crm.endpoint.spent) < 45
        assert crm.requests == 0
        crm.endpoint.codes = {"code"}
        one.code_arrived("code", "acme.amocrm.ru", "", "")
        await asyncio.sleep(5)
        await crm.ask(one.source(ACME))


async def test_an_old_disconnection_that_comes_again_lasts_a_minute(crm: Crm) -> None:
    async with crm.process() as one:
        one.switched_off("integration", "101", signature("integration|101"))
        await asyncio.sleep(1)
        assert one.alarms()
        await asyncio.sleep(90)
        await crm.ask(one.source(ACME))
        assert one.alarms() == []


# -- what a page shows, and does


async def test_a_pasted_code_connects_while_the_page_waits(crm: Crm) -> None:
    crm.endpoint.codes = {"code"}
    async with crm.process() as one:
        began = asyncio.get_running_loop().time()
        await one.code_pasted(ACME, "code", "", 8.0)
        assert asyncio.get_running_loop().time() - began < 8
        assert one.code_trouble(ACME) == ""
        assert crm.row.generation == 2
        await one.code_pasted(ACME, "code", "acme.amocrm.ru", 8.0)     # twice pressed
    assert spent(crm) == ["code code"]


async def test_why_a_pasted_code_did_not_connect_is_kept_until_one_does(crm: Crm) -> None:
    crm.endpoint.codes = {"good"}
    async with crm.process() as one:
        await one.code_pasted(ACME, "used-up", "", 8.0)
        assert one.code_trouble(ACME).startswith("amoCRM does not take the code")
        for client, code, host in ((ClientId("beta"), "x", ""), (ACME, "", ""), (ACME, "a b", ""),
                                   (ACME, "x", "evil.org")):
            with pytest.raises(LookupError):
                await one.code_pasted(client, code, host, 8.0)
        await one.code_pasted(ACME, "good", "", 8.0)
        assert one.code_trouble(ACME) == ""


async def test_a_page_does_not_wait_for_the_database_for_ever(crm: Crm) -> None:
    crm.endpoint.codes = {"code"}
    async with crm.process() as one:
        crm.database.is_away = True
        began = asyncio.get_running_loop().time()
        await one.code_pasted(ACME, "code", "", 8.0)
        assert asyncio.get_running_loop().time() - began == pytest.approx(8.0)
        crm.database.is_away = False
        await asyncio.sleep(15)
        assert crm.row.generation == 2


async def test_how_one_client_is_entered_is_told_alone(crm: Crm) -> None:
    async with crm.process() as one:
        status = one.status(ACME)
        assert status is not None
        assert crm.row.tokens is not None
        assert (status.state, status.is_connected, status.until) == ("connected", True, crm.row.tokens.refresh_until)
        assert one.status(ClientId("beta")) is None


async def test_a_code_that_amocrm_has_not_judged_may_be_pasted_again(crm: Crm) -> None:
    """It lives for twenty minutes, and there may be no other."""
    crm.endpoint.codes = {"code"}
    crm.fates(Fate.NOT_REACHED, Fate.NOT_REACHED)
    async with crm.process() as one:
        await one.code_pasted(ACME, "code", "", 8.0)
        assert "does not take the code" in one.code_trouble(ACME)
        await one.code_pasted(ACME, "code", "", 8.0)
        assert one.code_trouble(ACME) == ""
        assert crm.row.generation == 2


async def test_a_code_that_was_refused_for_a_wrong_secret_may_be_pasted_again_with_the_right_one(crm: Crm) -> None:
    async with crm.process() as one:
        await one.code_pasted(ACME, "code", "", 8.0)
        await one.code_pasted(ACME, "code", "", 8.0)                   # nobody asks amoCRM twice for the same
        assert spent(crm) == ["code code"]
        crm.endpoint.codes = {"code"}
        await one.use(Directory((Client(ACME, "Acme", replace(ACCOUNT, client_secret="the right secret")),)))
        await one.code_pasted(ACME, "code", "", 8.0)
        assert one.code_trouble(ACME) == ""
        assert crm.row.generation == 2


async def test_an_account_whose_pages_are_elsewhere_is_looked_for_at_no_token_s_cost(crm: Crm) -> None:
    """The old address may still serve requests, or there may be none: the widget must work at the new one."""
    new = "https://acme2.amocrm.ru"
    async with crm.process() as one:
        for _ in range(5):
            one.seen_elsewhere(ACME)
        await asyncio.sleep(1)
        assert (one.has_page_at(BASE), one.has_page_at(new)) == (True, False)          # a false alarm
        assert one.moved_to(ACME) == one.moved_to(ClientId("nobody")) == ""
        assert crm.endpoint.lookups == 1
        crm.endpoint.host = new
        await asyncio.sleep(60)
        one.seen_elsewhere(ACME)
        one.seen_elsewhere(ClientId("nobody"))
        await asyncio.sleep(1)
        assert one.has_page_at(new)
        (account,) = one.widget_accounts("integration")
        assert account.origins == {BASE, new}
        assert one.moved_to(ACME) == new
        await crm.ask(one.source(ACME))
    assert (spent(crm), crm.endpoint.lookups, crm.row.base_url) == ([], 2, new)


async def test_codes_that_strangers_make_up_keep_no_person_s_out_and_raise_no_alarm(crm: Crm) -> None:
    crm.endpoint.codes = {"good"}
    async with crm.process() as one:
        for number in range(PER_MINUTE):
            one.code_arrived(f"made-up-{number}", "acme.amocrm.ru", "", "")
        with pytest.raises(LookupError, match="too many"):
            one.code_arrived("made-up", "acme.amocrm.ru", "", "")
        await asyncio.sleep(5)
        assert one.code_trouble(ACME) == ""                            # as it is connected
        await one.code_pasted(ACME, "good", "", 8.0)
        assert crm.row.generation == 2
        assert len(spent(crm)) == PER_MINUTE + 1
