"""The widget's API on a real socket, with a real store and real accounts, and a switchboard that does as it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from argon2 import PasswordHasher

from b2bua.cdr import ClientId
from b2bua.config import WebSettings
from b2bua.crm.amocrm.connections import Connections
from b2bua.crm.amocrm.oauth import TokenEndpoint
from b2bua.crm.open_deals import OpenDeals
from b2bua.crm.port import Contact, CrmUnavailable, EntityKind, OpenDeal
from b2bua.crm.user_keeper import UserKeeper
from b2bua.crm.users import CrmUser
from b2bua.directory import Client, CrmAccount, Directory, Extension, UsersFrom
from b2bua.links import RecordingLinks
from b2bua.metrics import Metrics
from b2bua.sandbox.account import Account
from b2bua.sandbox.disposable import TokenKind, mint
from b2bua.sandbox.entities import User
from b2bua.sandbox.seed import SeedIntegration
from b2bua.sealing import Sealer
from b2bua.store.migrate import migrate
from b2bua.store.store import Store, open_store
from tests.support.web_site import HOOKS, KEYS, FakeControl, FakeListener, NoConnections, figures, set_up_of
from web.amocrm_webhooks import AmoWebhooks
from web.app import create_app
from web.server import bind_web, serve_web

ACME, BETA, NEW = ClientId("acme"), ClientId("beta"), ClientId("new")
ANNA, BEN, CARL = 77, 78, 79           # users of each account; Carl has no extension
PUBLIC_URL = "https://pbx.example.org"
PASSWORD = "a password of acme"
HASHED = {client: PasswordHasher(time_cost=1, memory_cost=64).hash(PASSWORD)       # of each its own salt, as it is
          for client in (ACME, BETA, NEW)}
FUNCTIONS = {"forward_to_responsible": True, "set_caller_name": True, "create_on_incoming": False,
             "create_on_outgoing": False, "task_on_new_contact": False, "task_on_missed": True}


def integration_of(client: ClientId) -> SeedIntegration:
    return SeedIntegration(client_id=f"integration-{client}", client_secret=f"{client}-secret".ljust(64, "s"),
                           redirect_uri=f"{PUBLIC_URL}/amocrm/oauth")


def account_of(client: ClientId) -> Account:
    account = Account({ACME: 101, BETA: 102, NEW: 103}[client], client, client.title(), 0)
    account.users = {ANNA: User(ANNA, "Anna Archer", "", is_admin=True, is_active=True),
                     BEN: User(BEN, "Ben Kim", "", is_admin=False, is_active=True)}
    return account


def directory(origins: Mapping[ClientId, str] = {}, url: str = PUBLIC_URL) -> Directory:
    """Acme and Beta are connected, each with 101 for Anna and 102 for Ben; New is not."""
    clients, extensions = [], []
    for id_ in (ACME, BETA, NEW):
        ours = integration_of(id_)
        crm = CrmAccount(origins.get(id_, f"https://{id_}.amocrm.test"), client_id=ours.client_id,
                         client_secret=ours.client_secret, redirect_uri=f"{url}/amocrm/oauth", sync=False,
                         widget="smart",
                         users_from=UsersFrom.WIDGET, account=account_of(id_).id if id_ != NEW else None)
        clients.append(Client(id_, id_.title(), crm, login=id_, password_hash=HASHED[id_]))
        extensions += [Extension(id_, number, f"{id_}-{number}", {}, crm_user=user)
                       for number, user in (("101", ANNA), ("102", BEN), ("103", None))]
    return Directory(tuple(clients), tuple(extensions))


class Deals:
    """Each contact has one open deal, of the same id; nothing else has any."""

    async def open_deal(self, contact: Contact) -> OpenDeal | None:
        if contact.kind is EntityKind.CONTACT:
            return OpenDeal(contact.id, f"Deal of {contact.name}")
        raise CrmUnavailable("no answer")


@dataclass(slots=True)
class WidgetSite:
    control: FakeControl
    store: Store
    users: UserKeeper
    http: httpx.AsyncClient
    port: int
    origins: Mapping[ClientId, str] = field(default_factory=dict)

    def token(self, client: ClientId = ACME, user: int = ANNA, kind: TokenKind = TokenKind.RIGHT,
              age: float = 0.0) -> str:
        return mint(account_of(client), integration_of(client), user, time.time() - age, kind)

    async def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None, lang: str = "en",
                  headers: Mapping[str, str] | None = None, **query: str) -> httpx.Response:
        sent = {"X-Auth-Token": self.token() if token is None else token, **(headers or {})}
        content = {} if body is None else {"content": body} if isinstance(body, bytes) else {"json": body}
        if isinstance(body, bytes):
            sent.setdefault("Content-Type", "application/json")
        return await self.http.request(method, f"/widget/v1/{path}", params={"lang": lang, **query}, headers=sent,
                                       **content)

    async def click(self, phone: str = "+7 (495) 123-45-67", **more: Any) -> httpx.Response:
        token = more.pop("token", None)
        return await self.ask("POST", "calls", {"phone": phone, "request": str(uuid4()), **more}, token=token)

    async def save(self, *, token: str | None = None, **changes: Any) -> httpx.Response:
        body = {"widget_version": "0.1.0", "login": "acme", "functions": FUNCTIONS,
                "extensions": {"77": "101", "78": "102"}, **changes}
        return await self.ask("POST", "settings", body, token=token)


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code, of an answer that is a problem in every respect."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    said = answer.json()
    assert said["title"]
    assert said["status"] == answer.status_code
    return answer.status_code, said["code"]


@asynccontextmanager
async def open_widget_site(directory_: Path, origins: Mapping[ClientId, str] = {}, port: int = 0,
                           public_url: str = PUBLIC_URL) -> AsyncIterator[WidgetSite]:
    url = f"sqlite+aiosqlite:///{directory_ / 'widget.db'}"
    sealer = Sealer(["a key of the tests, which is long enough"])
    await migrate(url)
    async with AsyncExitStack() as parts:
        store = await parts.enter_async_context(open_store(url, sealer=sealer))
        await store.directory.replace(Directory(), directory(origins, public_url), 0)
        for id_, account in ((id_, account_of(id_)) for id_ in (ACME, BETA)):
            known = [CrmUser(user.id, user.name, True) for user in account.users.values()]
            at = origins.get(id_, f"https://{id_}.amocrm.test")
            await store.crm_users.save_users(id_, at, [*known, CrmUser(CARL, "Carl Doe")], datetime.now(UTC))
        endpoint = await parts.enter_async_context(TokenEndpoint())
        connections = await parts.enter_async_context(
            Connections(store.tokens, endpoint, sealer, lambda: datetime.now(UTC)))
        users = UserKeeper(store.directory, store.crm_users, lambda client: None, lambda: datetime.now(UTC))

        async def reload() -> None:
            now, _ = await users.load()
            await connections.use(now)

        await reload()
        control = FakeControl(reload=reload)
        deals = await parts.enter_async_context(OpenDeals(lambda client: Deals()))
        settings = WebSettings(port=port, public_url=public_url)
        app = create_app(control, store, settings=settings, keys=KEYS, links=RecordingLinks(KEYS.link, public_url),
                         recordings=directory_, metrics=Metrics(figures), connections=NoConnections(),
                         webhooks=AmoWebhooks(HOOKS, FakeListener()), users=users, deals=deals,
                         widget_accounts=connections, set_up=set_up_of(store, public_url),
                         crm_health=lambda client: None)
        sock = bind_web(settings)
        here = sock.getsockname()[1]
        http = await parts.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{here}", trust_env=False, timeout=40))
        tasks = await parts.enter_async_context(asyncio.TaskGroup())
        serving = tasks.create_task(serve_web(app, sock))
        parts.callback(serving.cancel)
        yield WidgetSite(control, store, users, http, here, origins)
