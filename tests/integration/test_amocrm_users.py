"""amoCRM's users and its widget's settings, as the stand-in tells them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from b2bua.crm.amocrm.adapter import AmoCrm, open_amocrm
from b2bua.crm.port import CrmRejected
from b2bua.crm.users import LONGEST_NAME, MOST_USERS, CrmUser
from b2bua.directory import CrmAccount
from b2bua.sandbox import Sandbox, SandboxSeed, SeedAccount, SeedIntegration, SeedUser, SeedWidget, running_sandbox

ANNA, BORIS, VERA = (SeedUser(77, " Анна\u00a0Смирнова ", "anna@example.org", is_admin=True),
                     SeedUser(78, "Борис\nКузнецов"), SeedUser(79, "Вера", is_active=False))
EXTENSIONS: dict[str, object] = {"77": " 101", "78": "", "79": "103\u00a0"}


@asynccontextmanager
async def amocrm(account: SeedAccount) -> AsyncIterator[tuple[Sandbox, AmoCrm]]:
    async with running_sandbox(SandboxSeed((account,))) as sandbox:
        async with open_amocrm(CrmAccount(sandbox.base_url, "sandbox-token"), link_of=str) as crm:
            yield sandbox, crm
        assert not sandbox.state.journal.warnings


async def test_users_come_trimmed_and_with_whether_they_are_switched_off() -> None:
    async with amocrm(SeedAccount(users=(ANNA, BORIS, VERA))) as (_, crm):
        assert await crm.users() == (
            CrmUser(77, "Анна Смирнова", True, "anna@example.org"),
            CrmUser(78, "Борис Кузнецов", True, "user78@example.org"),
            CrmUser(79, "Вера", False, "user79@example.org"))


async def test_all_pages_are_read_and_no_more_users_than_are_kept() -> None:
    many = tuple(SeedUser(1000 + n, "N" * 300) for n in range(MOST_USERS + 300))
    async with amocrm(SeedAccount(users=(ANNA, *many[:600]))) as (sandbox, crm):
        found = await crm.users()
        assert [user.id for user in found] == [77, *range(1000, 1600)]
        assert len(found[-1].name) == LONGEST_NAME
        assert [entry.path for entry in sandbox.state.journal] == ["/api/v4/users"] * 3
    async with amocrm(SeedAccount(users=(ANNA, *many))) as (sandbox, crm):
        assert len(await crm.users()) == MOST_USERS
        assert len(list(sandbox.state.journal)) == MOST_USERS // 250


async def test_only_administrators_are_told_of_users() -> None:
    sellers = SeedIntegration(user=78)
    async with amocrm(SeedAccount(users=(ANNA, BORIS), integrations=(sellers,))) as (_, crm):
        with pytest.raises(CrmRejected, match="403"):
            await crm.users()


async def test_rows_that_make_no_sense_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with amocrm(SeedAccount(users=(ANNA,))) as (_, crm):
        async def pages(*_: object) -> AsyncIterator[dict[str, object]]:
            for row in ({"id": 1}, {"id": "2", "name": None, "rights": {"is_active": None}}, {"name": "X"},
                        {"id": True}, {"id": 2**64}, {"id": 3, "rights": []}, {"id": 1, "name": "later"}):
                yield row

        monkeypatch.setattr(type(crm.api), "pages", pages)
        assert await crm.users() == (CrmUser(1, "later"), CrmUser(2, ""), CrmUser(3, ""))


async def test_the_widgets_map_is_read_from_its_settings() -> None:
    widget = SeedWidget(settings={"pbx_url": "https://pbx.example.org", "extensions": EXTENSIONS})
    async with amocrm(SeedAccount(users=(ANNA, BORIS, VERA), widgets=(widget,))) as (sandbox, crm):
        assert await crm.extensions("smartswitch") == {77: "101", 79: "103"}
        assert [f"{entry.method} {entry.path}" for entry in sandbox.state.journal] == [
            "GET /api/v4/widgets/smartswitch"]


@pytest.mark.parametrize(("extensions", "expected"), [
    ('{"77": "101"}', {77: "101"}), ("", {}), ("{", {}), ("[" * 100_000, {}), ([], {}), (None, {}), ({}, {}), (5, {}),
    ({"77": 101, "78": {"a": "b"}}, {77: "101"}),
])
async def test_whatever_the_settings_hold(extensions: object, expected: dict[int, str]) -> None:
    async with amocrm(SeedAccount(widgets=(SeedWidget(settings={"extensions": extensions}),))) as (_, crm):
        assert await crm.extensions("smartswitch") == expected


async def test_a_widget_that_is_not_there_not_installed_or_another_integrations() -> None:
    widgets = (SeedWidget("off", is_active=False), SeedWidget("foreign", client_id="other"))
    async with amocrm(SeedAccount(widgets=widgets)) as (_, crm):
        for code, why in (("none", "404"), ("off", "not installed"), ("foreign", "its own integration")):
            with pytest.raises(CrmRejected, match=why):
                await crm.extensions(code)
