"""An account by OAuth against the stand-in: hooks, links and pasted codes, many processes on one database, moving."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from b2bua.__main__ import cli
from b2bua.app import System, running
from b2bua.cdr import ClientId
from b2bua.config import (
    DatabaseSettings,
    Listener,
    LogSettings,
    MediaSettings,
    ServerSettings,
    Settings,
    SipSettings,
    WebSettings,
)
from b2bua.crm.amocrm import connection
from b2bua.crm.amocrm.adapter import AmoAccounts
from b2bua.crm.amocrm.connections import Connections
from b2bua.crm.amocrm.oauth import TokenEndpoint
from b2bua.crm.port import Contact, CrmUnauthorized, EntityKind
from b2bua.directory import Client, CrmAccount, Directory
from b2bua.sandbox import Sandbox, SandboxSeed, SeedAccount, SeedContact, SeedUser, in_process_sandbox, running_sandbox
from b2bua.sandbox.faults import Act, Fault
from b2bua.sandbox.installation import install, switch_off
from b2bua.sandbox.seed import API_HOST, DOMAIN, SeedIntegration
from b2bua.sealing import Sealer, is_sealed
from b2bua.store.engine import StoreUnavailable, open_database
from b2bua.store.store import Store, open_store
from b2bua.store.tokens import Connection, ConnectionState
from tests.support.records import note, record

ACME = ClientId("acme")
IVAN = "+74951234567"
FOUND = Contact(EntityKind.CONTACT, 9001, "Иван Петров", 77)
SEALER = Sealer(["a key of the tests, which is long enough"])
TOKENS = "/oauth2/access_token"
DAY = 86_400.0
BLOCK = os.getpid() % 250 + 2
HERE = f"127.{BLOCK}.51.1"


def seed(redirect_uri: str = "https://pbx.example.org/amocrm/oauth", **more: str) -> SandboxSeed:
    return SandboxSeed((SeedAccount(
        users=(SeedUser(77, "Анна", is_admin=True),), contacts=(SeedContact("Иван Петров", (IVAN,), 77, 9001),),
        integrations=(SeedIntegration(redirect_uri=redirect_uri, **more),)),))


def account(base_url: str, redirect_uri: str = "https://pbx.example.org/amocrm/oauth") -> CrmAccount:
    integration = SeedIntegration()
    return CrmAccount(base_url, client_id=integration.client_id, client_secret=integration.client_secret,
                      redirect_uri=redirect_uri)


@dataclass(frozen=True, slots=True)
class Process:
    """What one daemon has of it."""

    store: Store
    connections: Connections
    accounts: AmoAccounts

    async def row(self) -> Connection:
        row = await self.store.tokens.get(ACME)
        assert row is not None
        return row

    async def find(self) -> Contact | None:
        crm = self.accounts.crm_of(ACME)
        assert crm is not None
        return await crm.find_contact(IVAN)


@asynccontextmanager
async def process(url: str, base_url: str, spill: Path | None = None, *, clock: Callable[[], datetime] | None = None,
                  transport: httpx.AsyncBaseTransport | None = None) -> AsyncIterator[Process]:
    directory = Directory((Client(ACME, "Acme", account(base_url)),))
    async with (
        open_store(url, token_spill=spill, sealer=SEALER) as store, TokenEndpoint(transport) as endpoint,
        Connections(store.tokens, endpoint, SEALER, clock or (lambda: datetime.now(UTC))) as connections,
        AmoAccounts(lambda recording: recording, connections) as accounts,
    ):
        await accounts.use(directory)
        yield Process(store, connections, accounts)


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    """The test's own patience ends it."""
    while not await what():  # noqa: ASYNC110 - as a person looks
        await asyncio.sleep(0.02)


def refreshes(sandbox: Sandbox) -> list[int | None]:
    """How each refresh was answered."""
    return [entry.status for entry in sandbox.state.journal if entry.path == TOKENS and b"refresh_token" in entry.body]


def code_of(sandbox: Sandbox) -> str:
    state = sandbox.state
    return state.tokens.issue_code(state.grant(state.account(), "sandbox-integration", None), state.clock.now())


@asynccontextmanager
async def office(
    url: str, spill: Path | None = None, processes: int = 1
) -> AsyncIterator[tuple[Sandbox, list[Process]]]:
    """A stand-in, and processes that it has let in."""
    async with running_sandbox(seed()) as sandbox, AsyncExitStack() as stack:
        sandbox.state.switches.per_second = None
        first = await stack.enter_async_context(process(url, sandbox.base_url, spill))
        first.connections.code_arrived(code_of(sandbox), sandbox.base_url.partition("//")[2], "", "")

        async def connected() -> bool:
            return await first.store.tokens.get(ACME) is not None

        await until(connected)
        others = [await stack.enter_async_context(process(url, sandbox.base_url, spill))
                  for _ in range(processes - 1)]
        yield sandbox, [first, *others]


async def test_of_several_processes_on_one_database_one_renews(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "YOUNG", 0.0)          # the stand-in's clock jumps, ours does not
    async with office(database_url, processes=3) as (sandbox, processes):
        for hour in range(1, 4):
            sandbox.state.clock.advance(DAY)               # the access token has ended
            found = await asyncio.gather(*(one.find() for one in processes for _ in range(4)))
            assert found == [FOUND] * 12
            assert refreshes(sandbox) == [200] * hour
        assert (await processes[0].row()).generation == 4
    async with open_database(database_url) as database, database.reading() as reader:
        stored = (await reader.execute(text("SELECT access_token, refresh_token FROM crm_connections"))).one()
    assert all(map(is_sealed, stored))


@pytest.mark.parametrize("committed", [False, True])
async def test_a_lost_answer(database_url: str, committed: bool) -> None:
    async with office(database_url) as (sandbox, (one,)):
        sandbox.state.clock.advance(DAY)
        sandbox.state.faults.add(Fault(path=TOKENS, act=Act.RESET, committed=committed, times=1))
        with pytest.raises(Exception, match="cannot be renewed just now"):
            await one.find()

        async def settled() -> bool:
            saved = one.connections.source(ACME).saved
            return saved is not None and (saved.state is ConnectionState.REFUSED or saved.generation == 2)

        await until(settled)
        if not committed:
            assert await one.find() == FOUND
            return
        asked = len([*sandbox.state.journal])
        for _ in range(5):
            with pytest.raises(CrmUnauthorized):
                await one.find()
        assert len([*sandbox.state.journal]) == asked      # no request goes out
        assert one.accounts.alarms()
        row = await one.row()
        assert row.tokens is not None
        one.connections.code_arrived(code_of(sandbox), sandbox.base_url.partition("//")[2], "", "")

        async def connected() -> bool:
            return not one.accounts.alarms()

        await until(connected)
        assert await one.find() == FOUND


async def test_new_tokens_outlive_a_database_that_does_not_take_them(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(self: object, new: Connection) -> bool:
        raise StoreUnavailable("away")

    spill = tmp_path / "spill.tokens"
    async with office(database_url, spill) as (sandbox, (one,)):
        sandbox.state.clock.advance(DAY)
        with monkeypatch.context() as patched:
            patched.setattr("b2bua.store.tokens.TokenRows.keep", away)
            assert await one.find() == FOUND
            assert (await one.row()).generation == 1
            assert [file.name for file in spill.iterdir()] == ["acme.json"]

            async with process(database_url, sandbox.base_url, spill) as other:
                patched.undo()

                async def stored() -> bool:
                    return (await other.row()).generation == 2

                await until(stored)
                assert await other.find() == FOUND
        assert refreshes(sandbox) == [200]
        await until(lambda: asyncio.to_thread(lambda: not any(spill.iterdir())))


async def test_an_account_that_moved_is_found_by_the_api_domain(database_url: str) -> None:
    sandbox = in_process_sandbox(seed())
    state, base_url = sandbox.state, f"https://acme.{DOMAIN}"
    async with process(database_url, base_url, transport=sandbox.transport) as one:
        code = state.tokens.issue_code(state.grant(state.account(), "sandbox-integration", None), state.clock.now())
        one.connections.code_arrived(code, f"acme.{DOMAIN}", "", "")

        async def connected() -> bool:
            return await one.store.tokens.get(ACME) is not None

        await until(connected)
        assert (await one.row()).api_domain == API_HOST
        state.rename("acme", "acme2")
        source = one.connections.source(ACME)
        access = await source.current()
        moved = await source.refused(access)
        assert moved.base_url == f"https://acme2.{DOMAIN}"
        assert (await one.row()).base_url == f"https://acme2.{DOMAIN}"
        assert moved.token != access.token


# -- the whole system


def settings(home: Path) -> Settings:
    return Settings(
        server=ServerSettings(data_dir=home, drain_seconds=1),
        sip=SipSettings(listen=(Listener(transport="udp", host=HERE, port=0),)),
        media=MediaSettings(plane="none"), web=WebSettings(host=HERE, port=0),
        database=DatabaseSettings(secret_keys=(SecretStr("a key of the tests, which is long enough"),)),
        log=LogSettings(level="error"),
    )


async def hand_in(system: System, directory: Directory) -> None:
    old, generation = await system.store.directory.load()
    await system.store.directory.replace(old, directory, generation)
    await system.switchboard.settings_changed()


async def smartswitch(home: Path, *words: str) -> Result:
    environment = {"SMARTSWITCH_SERVER__DATA_DIR": str(home),
                   "SMARTSWITCH_DATABASE__SECRET_KEYS": '["a key of the tests, which is long enough"]'}
    with capture_logs():                       # the system, in this process, would log between the lines of the command
        return await asyncio.to_thread(CliRunner().invoke, cli, ["crm", *words], env=environment)


@asynccontextmanager
async def system_and_crm(home: Path) -> AsyncIterator[tuple[System, Sandbox]]:
    async with running(settings(home)) as system:
        web = f"http://{system.web.host}:{system.web.port}"
        made = seed(f"{web}/amocrm/oauth", disconnect_url=f"{web}/amocrm/disconnect")
        async with running_sandbox(made, HERE) as sandbox:
            crm = account(sandbox.base_url, f"{web}/amocrm/oauth")
            await hand_in(system, Directory((Client(ACME, "Acme", crm),)))
            yield system, sandbox


async def states(system: System, wanted: ConnectionState) -> None:
    async def reached() -> bool:
        row = await system.store.tokens.get(ACME)
        alarmed = bool(system.switchboard.alarms())         # what is stored is known here a moment later
        return row is not None and row.state is wanted and alarmed is (wanted is not ConnectionState.CONNECTED)

    await until(reached)


async def test_installed_switched_off_and_installed_again(tmp_path: Path) -> None:
    async with system_and_crm(tmp_path) as (system, sandbox):
        (alarm,) = system.switchboard.alarms()
        assert "not connected" in alarm
        assert await install(sandbox.state, "sandbox-integration") == 200
        await states(system, ConnectionState.CONNECTED)
        assert await system.switchboard._lookup.find_contact(ACME, IVAN, 5.0) == FOUND
        assert await switch_off(sandbox.state, "sandbox-integration", is_forged=True) == 403
        assert await install(sandbox.state, "sandbox-integration", code="foreign") == 200
        assert system.switchboard.alarms() == []
        assert await switch_off(sandbox.state, "sandbox-integration") == 200
        await states(system, ConnectionState.DISCONNECTED)
        (alarm,) = system.switchboard.alarms()
        assert "switched off" in alarm
        told = await smartswitch(tmp_path, "status")
        assert "disconnected" in told.stdout
        assert await install(sandbox.state, "sandbox-integration") == 200
        await states(system, ConnectionState.CONNECTED)


async def test_the_command_line_connects_by_a_link_or_a_pasted_code(tmp_path: Path) -> None:
    async with system_and_crm(tmp_path) as (system, sandbox):
        link = (await smartswitch(tmp_path, "link", "--client", "acme")).stdout.strip()
        assert link.startswith(f"{sandbox.base_url}/oauth?client_id=sandbox-integration&state=sealed")
        async with httpx.AsyncClient(follow_redirects=True, headers={"Accept": "text/html"}) as browser:
            page = await browser.get(f"{link}&decision=grant")
            assert "The code has arrived" in page.text
            denied = await browser.get(f"{link}&decision=deny")
            assert denied.status_code == 400
            assert "allow it" in denied.text
        await states(system, ConnectionState.CONNECTED)
        pasted = await smartswitch(tmp_path, "connect", "--client", "acme", "--code", code_of(sandbox))
        assert pasted.exit_code == 0, pasted.output
        assert "acme is connected" in pasted.stdout
        row = await system.store.tokens.get(ACME)
        assert row is not None
        assert row.generation == 2

        again = await smartswitch(tmp_path, "connect", "--client", "acme", "--code", "used")
        assert again.exit_code == 1
        assert "acme is not connected: amoCRM does not take the code" in again.stderr
        for words in (["connect", "--client", "nobody", "--code", "x"], ["link", "--client", "nobody"],
                      ["status", "--client", "nobody"]):
            done = await smartswitch(tmp_path, *words)
            assert done.exit_code == 1
            assert "there is no client nobody with a CRM" in done.stderr
        elsewhere = await smartswitch(tmp_path, "connect", "--client", "acme", "--code", "x", "--host", "evil.org")
        assert "no address of amoCRM" in elsewhere.stderr
        told = await smartswitch(tmp_path, "status", "--client", "acme", "--json")
        assert '"state": "connected"' in told.stdout
        assert "nothing" in (await smartswitch(tmp_path, "status")).stdout


@pytest.mark.parametrize("by_another_process", [False, True])
async def test_whoever_is_let_in_is_told_what_waited_and_asked_at_once(
    tmp_path: Path, by_another_process: bool
) -> None:
    async with system_and_crm(tmp_path) as (system, sandbox):
        call = record(caller=IVAN, recording=None)
        await system.store.calls.finish(call, (note(call),))
        system.outbox.wake()

        async def is_ill() -> bool:
            return ACME in system.outbox.ill

        await until(is_ill)                # it would be tried again after 15 minutes
        if by_another_process:
            await smartswitch(tmp_path, "connect", "--client", "acme", "--code", code_of(sandbox))
        else:
            assert await install(sandbox.state, "sandbox-integration") == 200

        async def all_is_there() -> bool:
            known = system.switchboard.directory.client[ACME].crm
            return (bool(sandbox.state.calls()) and known is not None and known.active_users == {77}
                    and bool(sandbox.state.journal.of("GET", "/api/v4/companies")))

        await until(all_is_there)
        assert [entry.uniq for entry in sandbox.state.calls()] == [call.id]
        assert not system.outbox.ill
