"""Foreign amoCRM clients agree with the stand-in: PyPI amocrm-api-wrapper and amocrm-api, as unpatched as can be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
import requests

from b2bua.sandbox import Sandbox, SandboxSeed, SeedAccount, SeedContact, SeedIntegration, SeedUser, running_sandbox

CODE = SeedIntegration(code="once")
SEED = SandboxSeed((
    SeedAccount(
        users=(SeedUser(77, "Анна", is_admin=True), SeedUser(78, "Борис")),
        contacts=tuple(SeedContact(f"Контакт {number}", (f"+7495{number:07d}",)) for number in range(260)),
        integrations=(CODE,),
    ),
))


@pytest.fixture
def sandbox() -> AbstractAsyncContextManager[Sandbox]:
    @asynccontextmanager
    async def running() -> AsyncIterator[Sandbox]:
        async with running_sandbox(SEED) as sandbox:
            sandbox.state.switches.per_second = None
            yield sandbox

    return running()


class BodyInGet(httpx.Client):
    """amocrm-api-wrapper 1.0.1 says `get(url, json=None)`, which httpx does not know."""

    def get(self, url: str, *, json: None, timeout: float) -> httpx.Response:      # type: ignore[override]
        return self.request("GET", url, timeout=timeout)


async def test_amocrm_api_wrapper(sandbox: Sandbox) -> None:
    from amocrm_api import AmoOAuthClient
    from amocrm_api.errors import AmoException

    class Client(AmoOAuthClient):                          # type: ignore[misc]
        def _init_session(self, params: dict[str, str] | None = None) -> httpx.Client:
            if hasattr(self, "_session"):
                self._session.close()                      # it forgets to, when the tokens change
            return BodyInGet(headers={**self._auth_headers(), **(params or {})})

    pair = sandbox.state.tokens.exchange({
        "client_id": CODE.client_id, "client_secret": CODE.client_secret, "redirect_uri": CODE.redirect_uri,
        "grant_type": "authorization_code", "code": "once",
    }, sandbox.state.clock.now())
    kept: list[tuple[str, str]] = []

    def use() -> None:
        client = Client(
            pair["access_token"], pair["refresh_token"], sandbox.base_url, CODE.client_id, CODE.client_secret,
            CODE.redirect_uri, token_store=lambda *tokens: kept.append(tokens),
        )
        assert client.get_contacts(query="0000007")["_embedded"]["contacts"][0]["name"] == "Контакт 7"
        assert client.get_contacts(query="nobody") == {}
        made = client.create_contacts([{"first_name": "Новый"}])
        assert made["_embedded"]["contacts"][0]["request_id"] == "0"
        call = {"direction": "inbound", "duration": 5, "source": "test", "phone": "84950000007", "uniq": "w-1"}
        assert client.create_calls([call])["_embedded"]["calls"][0]["entity_type"] == "contact"
        with pytest.raises(AmoException) as refusal:
            client.create_calls([{**call, "phone": "+79990000000"}])
        assert refusal.value.code == 400
        sandbox.state.clock.advance(86_401)                # the access token is dead: it refreshes by itself
        assert client.get_contacts(limit=1)["_embedded"]["contacts"]
        client.close()

    await asyncio.to_thread(use)
    assert len(kept) == 1
    assert [entry.uniq for entry in sandbox.state.calls()] == ["w-1"]
    assert not sandbox.state.journal.warnings


class StaticTokens:
    """What amocrm-api asks of a token manager."""

    subdomain = "acme"

    def get_access_token(self) -> str:
        return CODE.token


async def test_amocrm_api(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from amocrm.v2 import interaction
    from amocrm.v2.entity import call, contact, note, user
    from amocrm.v2.exceptions import ValidationError

    def url(_: Any, path: str) -> str:                     # the client's own is hard-wired to https://*.amocrm.ru
        return f"{sandbox.base_url}/api/v4/{path}"

    monkeypatch.setattr(interaction.BaseInteraction, "_get_url", url)

    def use() -> None:
        with requests.Session() as session:
            ours = {"token_manager": StaticTokens(), "session": session}
            contacts = contact.ContactsInteraction(**ours)
            assert len(list(contacts.get_all())) == 260    # over two pages
            found = list(contacts.get_all(query="4950000007", include=["leads"]))
            assert [row["name"] for row in found] == ["Контакт 7"]
            assert list(contacts.get_all(query="nobody")) == []
            made = contacts.create({"name": "Новый"})
            contacts.update(made["id"], {"name": "Другой"})
            assert contacts.get(made["id"])["name"] == "Другой"
            assert [row["id"] for row in user.UsersInteraction(**ours).get_all()] == [77, 78]
            calls = call.Call(**ours)
            written = calls.create("outbound", "+7 495 000-00-07", "test", 5, uniq="a-1", created_by=77)
            with pytest.raises(ValidationError):
                calls.create("inbound", "+79990000000", "test", 5)
            notes = note.NotesInteraction(**ours, path=f"contacts/{written['entity_id']}/notes", field="notes")
            assert [row["params"]["uniq"] for row in notes.get_all()] == ["a-1"]

    await asyncio.to_thread(use)
    (entry,) = sandbox.state.calls()
    assert (entry.direction, entry.user, entry.uniq) == ("outbound", 77, "a-1")
