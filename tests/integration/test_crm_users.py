"""The whole system beside the stand-in amoCRM: whose extension is whose, from the widget to the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from b2bua.__main__ import cli
from b2bua.app import System, running
from b2bua.directory import Client, CrmAccount, Directory, Extension, UsersFrom
from b2bua.sandbox import Sandbox, SandboxSeed, SeedAccount, SeedIntegration, SeedUser, SeedWidget, running_sandbox
from tests.integration.test_app import ACME, hand_in, office, settings

USERS = (SeedUser(77, "Анна Иванова", is_admin=True), SeedUser(78, "Борис Кузнецов"), SeedUser(79, "Вера Попова"))


def directory(url: str, **changes: object) -> Directory:
    account = CrmAccount(url, "sandbox-token", widget="smartswitch", users_from=UsersFrom.WIDGET)
    extensions = tuple(Extension(ACME, number, number, {}) for number in ("101", "102", "103"))
    return replace(office(5060), clients=(Client(ACME, "Acme", replace(account, **changes)),),  # type: ignore[arg-type]
                   extensions=extensions)


@asynccontextmanager
async def connected(home: Path, integration: SeedIntegration = SeedIntegration()) -> AsyncIterator[
        tuple[System, Sandbox]]:
    widget = SeedWidget(settings={"extensions": {"77": "101", "78": " 102 ", "79": "103"}})
    seed = SandboxSeed((SeedAccount(users=USERS, widgets=(widget,), integrations=(integration,)),))
    async with running_sandbox(seed) as sandbox, running(settings(home)) as system:
        await hand_in(system, directory(sandbox.base_url))
        yield system, sandbox


def users(system: System) -> dict[str, int | None]:
    return {one.number: one.crm_user for one in system.switchboard.directory.extensions}


async def becomes(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not so():  # noqa: ASYNC110 - the daemon looks at its database once a second
            await asyncio.sleep(0.02)


async def smartswitch(system: System, home: Path, *words: str) -> Result:
    environment = {"SMARTSWITCH_SERVER__DATA_DIR": str(home), "SMARTSWITCH_WEB__HOST": system.web.host,
                   "SMARTSWITCH_WEB__PORT": str(system.web.port)}
    with capture_logs():               # the daemon is in this process, and would write into the command's output
        return await asyncio.to_thread(CliRunner().invoke, cli, ["crm", "users", *words], env=environment)


async def change_user(sandbox: Sandbox, **user: object) -> None:
    async with httpx.AsyncClient(base_url=sandbox.base_url) as amocrm:
        (await amocrm.post("/_fake/users", json=user)).raise_for_status()


async def test_the_widgets_map_reaches_the_calls_and_who_is_switched_off_leaves_them(tmp_path: Path) -> None:
    async with connected(tmp_path) as (system, sandbox):
        await becomes(lambda: users(system) == {"101": 77, "102": 78, "103": 79})
        assert system.switchboard.alarms() == []
        await change_user(sandbox, id=79, is_active=False)
        told = await smartswitch(system, tmp_path, "--client", "acme", "--refresh")
        assert told.exit_code == 0
        words = {tuple(line.split()) for line in told.stdout.splitlines()}
        assert ("77", "Анна", "Иванова", "yes", "101", "widget") in words
        assert ("79", "Вера", "Попова", "no") in words
        assert "Вера Попова is switched off in the CRM, but extension 103 is still theirs" in told.stdout
        await becomes(lambda: users(system) == {"101": 77, "102": 78, "103": None})
        assert system.switchboard.alarms() == [
            "acme: Вера Попова is switched off in the CRM, but extension 103 is still theirs"]
        crm = system.switchboard.directory.client[ACME].crm
        assert crm is not None
        assert crm.active_users == {77, 78}
    async with running(settings(tmp_path)) as system:          # amoCRM is away now, what it has told is not
        assert users(system) == {"101": 77, "102": 78, "103": None}


async def test_what_is_wrong_in_the_widget_is_told_by_name_and_the_rest_counts(tmp_path: Path) -> None:
    async with connected(tmp_path) as (system, sandbox):
        await becomes(lambda: users(system)["101"] == 77)
        sandbox.state.account().widgets["smartswitch"].settings["extensions"] = {"77": "103", "78": "102", "79": "102"}
        told = await smartswitch(system, tmp_path, "--client", "acme", "--refresh", "--json")
        (fault,) = json.loads(told.stdout)["faults"]
        assert (fault["kind"], fault["problem"]) == (
            "double", "Борис Кузнецов and Вера Попова both have extension 102")
        await becomes(lambda: users(system) == {"101": None, "102": None, "103": 77})


async def test_without_an_administrators_token_the_map_counts_and_that_is_said(tmp_path: Path) -> None:
    async with connected(tmp_path, SeedIntegration(user=78)) as (system, _):
        await becomes(lambda: users(system) == {"101": 77, "102": 78, "103": 79})
        told = await smartswitch(system, tmp_path, "--client", "acme", "--refresh")
        assert told.exit_code == 0
        assert "cannot be read, so that who is switched off is not known: 403" in told.stdout
        assert "Connect the account with the token of an administrator." in told.stdout
        assert "not read since the daemon has started" in told.stdout


async def test_by_the_file_alone_the_widget_is_not_asked(tmp_path: Path) -> None:
    async with connected(tmp_path) as (system, sandbox):
        await becomes(lambda: users(system)["101"] == 77)
        sandbox.state.journal.clear()
        await hand_in(system, directory(sandbox.base_url, users_from=UsersFrom.FILE))
        assert users(system) == {"101": None, "102": None, "103": None}
        await smartswitch(system, tmp_path, "--client", "acme", "--refresh")
        asked = {entry.path for entry in sandbox.state.journal}        # beside it, cards are read ahead
        assert "/api/v4/users" in asked
        assert not [path for path in asked if path.startswith("/api/v4/widgets")]


@pytest.mark.parametrize("client", ["nobody", "", "a/../b?c=d&client=acme"])
async def test_of_a_client_without_a_crm_that_is_said(tmp_path: Path, client: str) -> None:
    async with running(settings(tmp_path)) as system:
        await hand_in(system, office(5060))
        for words in ([], ["--refresh"]):
            told = await smartswitch(system, tmp_path, "--client", client, *words)
            assert told.exit_code == 1
            assert "There is no client" in told.stderr
            assert "[client.crm]" in told.stderr


async def test_only_who_has_the_token_of_this_machine_is_told(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as system:
        await hand_in(system, directory("http://127.0.0.1:9"))
        async with httpx.AsyncClient(base_url=f"http://{system.web.host}:{system.web.port}") as stranger:
            assert (await stranger.get("/api/crm/users?client=acme")).status_code == 401
            assert (await stranger.post("/api/crm/users/refresh?client=acme")).status_code == 401
