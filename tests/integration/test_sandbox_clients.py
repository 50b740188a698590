"""Foreign amoCRM clients agree with the stand-in: PyPI amocrm-api-wrapper and amocrm-api, as unpatched as can be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
import requests

from b2bua.sandbox import (
    Sandbox,
    SandboxSeed,
    SeedAccount,
    SeedContact,
    SeedIntegration,
    SeedPipeline,
    SeedUser,
    SeedWidget,
    running_sandbox,
)
from b2bua.sandbox.entities import EntityType, Fate

CODE = SeedIntegration(code="once")
SEED = SandboxSeed((
    SeedAccount(
        users=(SeedUser(77, "Анна", is_admin=True), SeedUser(78, "Борис")),
        contacts=tuple(SeedContact(f"Контакт {number}", (f"+7495{number:07d}",)) for number in range(260)),
        integrations=(CODE,),
        pipelines=(SeedPipeline(1_000, "Продажи", ((1_001, "Первичный контакт"), (1_002, "Переговоры"))),),
        widgets=(SeedWidget(settings={"extensions": {"77": "101"}}),),
    ),
))


@pytest.fixture
def sandbox() -> AbstractAsyncContextManager[Sandbox]:
    @asynccontextmanager
    async def running() -> AsyncIterator[Sandbox]:
        async with running_sandbox(SEED) as sandbox:
            sandbox.state.switches.per_second = sandbox.state.switches.account_per_second = None
            yield sandbox
            assert not sandbox.state.journal.warnings      # what strangers send is known here

    return running()


class BodyAnywhere(httpx.Client):
    """amocrm-api-wrapper 1.0.1 gives GET and DELETE a `json`, which httpx does not know."""

    def get(self, url: str, *, json: None, timeout: float) -> httpx.Response:      # type: ignore[override]
        return self.request("GET", url, timeout=timeout)

    def delete(self, url: str, *, json: Any, timeout: float) -> httpx.Response:    # type: ignore[override]
        return self.request("DELETE", url, json=json, timeout=timeout)


def wrapper_of(sandbox: Sandbox, kept: list[tuple[str, str]]) -> Any:
    """amocrm-api-wrapper's client, with a fresh pair of tokens; the pairs that it gets later are `kept`."""
    from amocrm_api import AmoOAuthClient

    class Client(AmoOAuthClient):                          # type: ignore[misc]
        def _init_session(self, params: dict[str, str] | None = None) -> httpx.Client:
            if hasattr(self, "_session"):
                self._session.close()                      # it forgets to, when the tokens change
            return BodyAnywhere(headers={**self._auth_headers(), **(params or {})})

    pair = sandbox.state.tokens.exchange({
        "client_id": CODE.client_id, "client_secret": CODE.client_secret, "redirect_uri": CODE.redirect_uri,
        "grant_type": "authorization_code", "code": "once",
    }, sandbox.state.clock.now())
    return Client(
        pair["access_token"], pair["refresh_token"], sandbox.base_url, CODE.client_id, CODE.client_secret,
        CODE.redirect_uri, token_store=lambda *tokens: kept.append(tokens),
    )


async def test_amocrm_api_wrapper(sandbox: Sandbox) -> None:
    from amocrm_api.errors import AmoException

    kept: list[tuple[str, str]] = []

    def use() -> None:
        client = wrapper_of(sandbox, kept)
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


async def test_work_with_amocrm_api_wrapper(sandbox: Sandbox) -> None:
    def use() -> None:
        client = wrapper_of(sandbox, [])
        contact = client.get_contacts(query="0000007")["_embedded"]["contacts"][0]["id"]
        (pipeline,) = client.get_pipelines()["_embedded"]["pipelines"]
        assert [stage["type"] for stage in client.get_pipeline_statuses(pipeline["id"])["_embedded"]["statuses"]] == [
            1, 0, 0, 0, 0,
        ]
        lead = client.create_leads([{"name": "Л", "status_id": 1_002}])["_embedded"]["leads"][0]["id"]
        client.link_leads_entity(lead, [{"to_entity_id": contact, "to_entity_type": "contacts"}])
        links = client.get_leads_links(lead)["_embedded"]["links"]
        assert [link["to_entity_id"] for link in links] == [contact]
        assert client.get_lead(lead)["status_id"] == 1_002
        client.update_leads([{"id": lead, "price": 7}])
        client.unlink_leads_entity(lead, [{"to_entity_id": contact, "to_entity_type": "contacts"}])
        task = client.add_tasks([
            {"text": "Т", "complete_till": 5, "entity_id": contact, "entity_type": "contacts"}
        ])["_embedded"]["tasks"][0]["id"]
        client.execution_task(task, True, "Готово")
        assert client.get_task(task)["result"] == {"text": "Готово"}
        assert list(client.iter_tasks(filters={"is_completed": 0})) == []
        note = client.create_entity_note("contacts", [{"note_type": "common", "params": {"text": "П"}}], contact)
        number = note["_embedded"]["notes"][0]["id"]
        client.update_entity_note("contacts", contact, number, {"note_type": "common", "params": {"text": "Н"}})
        assert client.get_entity_note("contacts", number, contact)["params"] == {"text": "Н"}
        client.subscribe_webhook("https://pbx.example.org/h", ["add_lead"])
        assert len(client.get_webhooks()["_embedded"]["webhooks"]) == 1
        client.unsubscribe_webhook("https://pbx.example.org/h")
        assert client.get_webhooks() == {}
        assert client.get_widget("smartswitch")["settings"] == {"extensions": {"77": "101"}}
        assert client.get_users()["_total_items"] == 2
        assert [field["code"] for field in client.get_contacts_custom_fields()["_embedded"]["custom_fields"]] == [
            "PHONE", "EMAIL",
        ]
        client.close()

    await asyncio.to_thread(use)
    (lead,) = sandbox.state.leads()
    assert (lead.price, lead.links(EntityType.CONTACTS)) == (7, [])
    assert [(task.text, task.is_completed) for task in sandbox.state.tasks()] == [("Т", True)]


async def test_unsorted_with_amocrm_api_wrapper(sandbox: Sandbox) -> None:
    from amocrm_api.errors import AmoException

    metadata = {
        "phone": "+79990001122", "from": "+79990001122", "called_at": 5, "duration": 0, "link": "", "uniq": "u",
        "service_code": "smartswitch", "call_responsible": 77, "is_call_event_needed": True,
    }

    def use() -> None:
        client = wrapper_of(sandbox, [])

        def add(uniq: str) -> str:
            made = client.create_unsorted_by_sip(
                "trunk", "Smartswitch", {**metadata, "uniq": uniq}, {"name": "К"}, {"name": "С"}, {"name": "Ф"},
            )
            uid: str = made["_embedded"]["unsorted"][0]["uid"]
            return uid

        first, second = add("a"), add("b")
        with pytest.raises(AmoException):
            add("a")
        waiting = client.get_unsorted_leads(filter_by_category=["sip"])["_embedded"]["unsorted"]
        assert [row["uid"] for row in waiting] == [first, second]
        assert client.get_unsorted_by_uid(first)["metadata"]["uniq"] == "a"
        assert client.accept_unsorted(first, 77, 1_002)["uid"] == first
        assert client.decline_unsorted(second, 77)["uid"] == second
        assert client.get_unsorted_leads() == {}
        events = client.get_events(filter_by_type="incoming_call")["_embedded"]["events"]
        assert len(events) == 1                            # the declined call went with its lead
        client.close()

    await asyncio.to_thread(use)
    assert [one.fate for one in sandbox.state.unsorted()] == [Fate.ACCEPTED, Fate.DECLINED]
    assert [(lead.name, lead.status_id) for lead in sandbox.state.leads()] == [("С", 1_002)]


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
    warnings = {warning.rpartition(": ")[2] for warning in sandbox.state.journal.warnings}
    assert warnings == {f"null in '{name}'" for name in ("uniq", "link", "call_result", "call_status")}
    sandbox.state.journal.clear()                          # it sends them as nulls, as the vendor's own does


async def test_work_with_amocrm_api(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from amocrm.v2 import interaction
    from amocrm.v2.entity import contact, events, lead, note, pipeline, task
    from amocrm.v2.exceptions import ValidationError
    from amocrm.v2.filters import SingleFilter
    from amocrm.v2.links import LinksInteraction

    def url(_: Any, path: str) -> str:
        return f"{sandbox.base_url}/api/v4/{path}"

    monkeypatch.setattr(interaction.BaseInteraction, "_get_url", url)

    def use() -> None:
        with requests.Session() as session:
            ours = {"token_manager": StaticTokens(), "session": session}
            (row,) = pipeline.PipelinesInteraction(**ours).get_all()
            stages = pipeline.StatusesInteraction(row["id"], **ours)
            assert [stage["name"] for stage in stages.get_all(query="Переговоры")] == ["Переговоры"]
            leads = lead.LeadsInteraction(**ours)
            made = leads.create({"name": "Сделка", "price": 5, "pipeline_id": row["id"]})
            leads.update(made["id"], {"status_id": 142})
            people = contact.ContactsInteraction(**ours)
            person = next(iter(people.get_all(query="4950000007")))
            links = LinksInteraction(**ours)
            links.link(lead.Lead(data=made), contact.Contact(data=person), main=True)
            assert leads.get(made["id"], include=["contacts"])["_embedded"]["contacts"][0]["id"] == person["id"]
            tasks = task.TasksInteraction(**ours)
            given = {"text": "Перезвонить", "complete_till": 5, "entity_type": "contacts", "entity_id": person["id"]}
            kept = tasks.create(given)
            tasks.update(kept["id"], {"is_completed": True, "result": {"text": "Да"}})
            with pytest.raises(ValidationError):
                tasks.create({**given, "entity_type": "contact"})
            done = tasks.get_all(filters=[SingleFilter("is_completed")(1)])
            assert [found["result"]["text"] for found in done] == ["Да"]
            notes = note.NotesInteraction(**ours, path=f"contacts/{person['id']}/notes", field="notes")
            with pytest.raises(ValidationError):
                notes.create({"note_type": "call_in", "params": {"link": None}})
            call = {"uniq": "n-1", "duration": 5, "source": "test", "phone": "+74950000007"}
            notes.create({"note_type": "call_in", "params": call})
            fresh = next(iter(events.EventsInteraction(**ours)._all("events", limit=100)))["events"]
            assert [event["type"] for event in fresh] == ["incoming_call"]

    await asyncio.to_thread(use)
    assert [(one.is_completed, one.result) for one in sandbox.state.tasks()] == [(True, "Да")]
    assert [one.status_id for one in sandbox.state.leads()] == [142]


@pytest.mark.filterwarnings("ignore:datetime.datetime.utc:DeprecationWarning")      # by the client, from Python 3.12 on
async def test_amocrm_api_refreshes_once_and_keeps_the_pair(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from amocrm.v2 import tokens

    class Requests:
        """Its own is hard-wired to https://*.amocrm.ru."""

        exceptions = requests.exceptions

        @staticmethod
        def post(url: str, json: dict[str, str]) -> requests.Response:
            return requests.post(url.replace("https://acme.amocrm.ru", sandbox.base_url), json=json, timeout=10)

    monkeypatch.setattr(tokens, "requests", Requests)

    def use() -> None:
        manager, storage = tokens.TokenManager(), tokens.MemoryTokensStorage()
        manager(CODE.client_id, CODE.client_secret, "acme", CODE.redirect_uri, storage)
        sandbox.state.clock.advance(-2 * 86_400)           # it asks the computer's clock whether a token has expired
        manager.init("once")
        first = storage.get_access_token(), storage.get_refresh_token()
        sandbox.state.clock.advance(2 * 86_400)
        second = manager.get_access_token()
        assert second == manager.get_access_token() != first[0]
        with pytest.raises(Exception, match="revoked"):
            manager.init("once")
        storage.save_tokens(*first)
        with pytest.raises(EnvironmentError, match="Token has been revoked"):
            manager.get_access_token()

    await asyncio.to_thread(use)
    statuses = [entry.status for entry in sandbox.state.journal.of("POST", "/oauth2/access_token")]
    assert statuses == [200, 200, 400, 401]
