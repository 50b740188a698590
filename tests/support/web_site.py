"""The web on a store of its own and a switchboard that does what the test says."""

from __future__ import annotations

import asyncio
import html
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from argon2 import PasswordHasher

from b2bua.apply.office import Offices
from b2bua.cdr import CallId, ClientId, Direction
from b2bua.config import WebSettings
from b2bua.control import (
    AlreadyCalling,
    AtWork,
    ClickedCall,
    ClickOutcome,
    ClickStage,
    Explanation,
    ExtensionState,
    Glance,
    LiveCall,
    PlannedStep,
    RegisteredPhone,
    TracedCall,
    Transfer,
    TransferOutcome,
    TrunkState,
    TrunkTest,
    TurnedAway,
)
from b2bua.crm.health import CrmHealth
from b2bua.crm.lookup import LookupCounts
from b2bua.crm.open_deals import OpenDeals
from b2bua.crm.outbox import OutboxCounts
from b2bua.crm.people import Hint
from b2bua.crm.sync import SyncCounts
from b2bua.crm.user_keeper import TellsUsers, UserKeeper
from b2bua.crm.widget_account import WidgetAccount
from b2bua.directory import OPERATOR_LOGIN, Client, Directory, Extension, Group, Number, Trunk
from b2bua.handouts import PhoneServer
from b2bua.keys import Keys
from b2bua.links import RecordingLinks, WebhookLinks
from b2bua.metrics import Figures, Metrics
from b2bua.net.streams import StreamCounters
from b2bua.net.udp import UdpCounters
from b2bua.sealing import Sealer
from b2bua.sip.stack import Counters as CoreCounters
from b2bua.sip.subscription import SubscriptionCounters
from b2bua.sip.throttle import Ban
from b2bua.sip.transaction_table import Counters as TransactionCounters
from b2bua.store.migrate import migrate
from b2bua.store.outbox import Backlog
from b2bua.store.store import Store, open_store
from b2bua.ua.agent import AgentCounters
from b2bua.ua.registrar import RegistrarCounters
from b2bua.ua.trunk_table import TrunkCounters
from web.amocrm_hooks import CrmConnections
from web.amocrm_webhooks import AmoWebhooks
from web.app import create_app
from web.server import Website
from web.setup.things import SetUp

PASSWORD = "correct horse battery"
KEYS = Keys(link=b"link" * 8, session=b"session" * 4, operator_password=PASSWORD,
            operator_hash=PasswordHasher(time_cost=1, memory_cost=64).hash(PASSWORD), control_token="control-token")
REALM = "smartswitch"
SERVERS = (PhoneServer("tcp", "sip.example.org", 5060), PhoneServer("udp", "sip.example.org", 5060))
HOOKS = WebhookLinks(KEYS.link, "https://pbx.example.org")
LINKS = RecordingLinks(KEYS.link, "https://pbx.example.org")
ACME, BETA = ClientId("acme"), ClientId("beta")
OF_OFFICE = {ACME: "a password of acme", BETA: "a password of beta"}      # of their administrators


def office(client: ClientId, name: str, phone: str) -> Directory:
    hashed = PasswordHasher(time_cost=1, memory_cost=64).hash(OF_OFFICE[client])
    return Directory(
        (Client(client, name, login=client, password_hash=hashed),),
        tuple(Extension(client, number, f"{client}-{number}", {"MD5": "0" * 32}, f"{who} of {name}")
              for number, who in (("101", "Anna"), ("102", "Boris"))),
        (Trunk(client, f"{client}-line", "192.0.2.1", user=f"{client}-user", password=f"{client}-secret"),),
        (Group(client, "600", ("101", "102"), f"Sales of {name}"),),
        (Number(client, phone, "600"),),
    )


_OF_ACME, _OF_BETA = office(ACME, "Acme", "+74951112233"), office(BETA, "Beta Ltd", "+74959998877")
OFFICES = Directory(*(getattr(_OF_ACME, part) + getattr(_OF_BETA, part)
                      for part in ("clients", "extensions", "trunks", "groups", "numbers")))
MP3 = bytes(range(256)) * 40           # what is in it is the player's business


@dataclass(slots=True)
class FakeControl:
    """control.Control, filled in by the test."""

    calls: list[LiveCall] = field(default_factory=list)
    extensions: list[ExtensionState] = field(default_factory=list)
    trunks: list[TrunkState] = field(default_factory=list)
    tests: dict[tuple[ClientId, str], TrunkTest] = field(default_factory=dict)
    tested: list[tuple[ClientId, str]] = field(default_factory=list)
    test_refused: Exception | None = None
    phones: list[RegisteredPhone] = field(default_factory=list)
    traced: dict[CallId, TracedCall] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    banned: list[Ban] = field(default_factory=list)
    strangers: list[TurnedAway] = field(default_factory=list)
    alarming: list[str] = field(default_factory=list)
    clicks: dict[CallId, ClickedCall] = field(default_factory=dict)
    asked: list[tuple[ClientId, str, str]] = field(default_factory=list)       # what was clicked
    hung_up: list[CallId] = field(default_factory=list)
    acted: list[tuple[str, ...]] = field(default_factory=list)                # on the live page: call, target, by whom
    transfer_says: TransferOutcome = field(default_factory=lambda: TransferOutcome(Transfer.ACCEPTED))
    refuses: Exception | None = None   # the next clicks
    reload: Callable[[], Awaitable[None]] | None = None
    reloaded: asyncio.Event = field(default_factory=asyncio.Event)
    watched: asyncio.Event = field(default_factory=asyncio.Event)             # somebody waits for a click to change
    _keys: dict[tuple[ClientId, str], CallId] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def live_calls(self) -> list[LiveCall]:
        return self.calls

    def live_call(self, call: CallId) -> LiveCall | None:
        return next((live for live in self.calls if live.id == call), None)

    def glance(self, client: ClientId | None, most: int) -> Glance:
        calls, extensions, trunks = ([one for one in kind if client in (None, one.client)]
                                     for kind in (self.calls, self.extensions, self.trunks))
        return Glance(tuple(calls[:most]), tuple(extensions[:most]), tuple(trunks[:most]),
                      len(calls), len(extensions), len(trunks))

    def trunk_states(self) -> list[TrunkState]:
        return self.trunks

    async def test_trunk(self, client: ClientId, name: str) -> TrunkTest:
        if self.test_refused is not None:
            raise self.test_refused
        if (client, name) not in self.tests:
            raise LookupError(name)
        self.tested.append((client, name))
        return self.tests[client, name]

    def trunk_test(self, client: ClientId, name: str) -> TrunkTest | None:
        return self.tests.get((client, name)) if (client, name) in self.tested else None

    def calls_beginning_with(self, beginning: str) -> list[CallId]:
        return sorted(call for call in self.traced if call.startswith(beginning))

    def trace(self, call: CallId) -> TracedCall | None:
        return self.traced.get(call)

    def registered_phones(self) -> list[RegisteredPhone]:
        return self.phones

    def at_work(self, client: ClientId) -> AtWork:
        up = [trunk.up for trunk in self.trunks if trunk.client == client]
        return AtWork(sum(one.client == client for one in self.calls),
                      sum(one.client == client for one in self.phones), len(up), sum(up))

    def turned_away(self) -> list[TurnedAway]:
        return self.strangers

    def alarms(self) -> list[str]:
        return self.alarming

    def bans(self) -> list[Ban]:
        return self.banned

    def lift_ban(self, subject: str) -> int:
        kept = [ban for ban in self.banned if subject not in (ban.address, ban.account)]
        lifted, self.banned = len(self.banned) - len(kept), kept
        return lifted

    async def explain(self, client: ClientId, caller: str, dialled: str) -> Explanation:
        if client != ACME:
            raise LookupError(client)
        step = PlannedStep(f"{dialled} goes to 102", "rings 102 for 20 s", ("102 is busy: on to 103",))
        return Explanation(Direction.INBOUND, (f"the CRM gave no contact for {caller}",), (step,))

    def ready(self) -> list[str]:
        return self.reasons

    async def settings_changed(self) -> None:
        if self.reload is not None:
            await self.reload()
        self.reloaded.set()

    def click2call(self, client: ClientId, extension: str, number: str, key: str) -> ClickedCall:
        if (again := self._keys.get((client, key))) is not None:
            return self.clicks[again]
        if self.refuses is not None:
            raise self.refuses
        under_way = (one for one in self.clicks.values() if (one.client, one.extension) == (client, extension))
        if any(one.stage is not ClickStage.ENDED for one in under_way):
            raise AlreadyCalling
        self.asked.append((client, extension, number))
        id_ = self._keys[client, key] = CallId(f"c-{len(self.clicks) + 1}")
        self.clicks[id_] = ClickedCall(id_, client, extension, number, ClickStage.RINGING_YOU, None, "", None, None, 1)
        return self.clicks[id_]

    def clicked(self, client: ClientId, call: CallId) -> ClickedCall | None:
        one = self.clicks.get(call)
        return one if one is not None and one.client == client else None

    async def click_changed(self, client: ClientId, call: CallId, after_version: int) -> ClickedCall:
        if self.clicked(client, call) is None:
            raise LookupError(call)
        async with self._changed:
            self.watched.set()
            await self._changed.wait_for(lambda: self.clicks[call].version != after_version)
        return self.clicks[call]

    def transfer(self, client: ClientId, call: CallId, target: str, by: str) -> TransferOutcome:
        assert any(live.id == call and live.client == client for live in self.calls)
        self.acted.append((call, target, by))
        return self.transfer_says

    def hang_up(self, client: ClientId, call: CallId, by: str = "") -> bool:
        if (one := self.clicked(client, call)) is None:
            self.acted.append((call, by))
            return any(live.id == call and live.client == client for live in self.calls)
        self.hung_up.append(call)
        outcome = ClickOutcome.TALKED if one.stage is ClickStage.TALKING else ClickOutcome.CANCELLED
        self.clicks[call] = replace(one, stage=ClickStage.ENDED, outcome=outcome, version=one.version + 1)
        return True

    async def click_becomes(self, call: CallId, **changes: Any) -> None:
        async with self._changed:
            one = self.clicks[call]
            self.clicks[call] = replace(one, **changes, version=one.version + 1)
            self._changed.notify_all()


class NoConnections:
    """amocrm_hooks.CrmConnections where no client enters its CRM by OAuth."""

    def link(self, client: ClientId) -> str:
        raise LookupError(client)

    def code_arrived(self, code: str, host: str, state: str, client_id: str) -> ClientId:
        raise LookupError(host)

    async def code_pasted(self, client: ClientId, code: str, host: str, seconds: float) -> None:
        raise LookupError(client)

    def switched_off(self, client_id: str, account: str, signature: str) -> ClientId:
        raise LookupError(client_id)

    def moved_to(self, client: ClientId) -> str:
        return ""


class NoWidgets:
    """widget_auth.WidgetAccounts where no client has an integration."""

    def widget_accounts(self, integration: str) -> Sequence[WidgetAccount]:
        return ()

    def has_page_at(self, origin: str) -> bool:
        return False

    def seen_elsewhere(self, client: ClientId) -> None:
        raise LookupError(client)

    def is_entered(self, client: ClientId) -> bool:
        return False


@dataclass(slots=True)
class FakeListener:
    """Hears which cards are said to have changed."""

    heard: list[tuple[ClientId, Hint]] = field(default_factory=list)
    clients: set[ClientId] = field(default_factory=lambda: {ACME})

    def takes_hints(self, client: ClientId) -> bool:
        return client in self.clients

    def changed(self, client: ClientId, hints: Sequence[Hint]) -> None:
        self.heard += [(client, hint) for hint in hints]


def live_call(call: str = "live-1", **changes: Any) -> LiveCall:
    now = datetime.now(UTC)
    known = LiveCall(CallId(call), ACME, Direction.INBOUND, "+79161234567", "+74951112233", "Иван Петров", "101",
                     "talking", now - timedelta(seconds=75), now - timedelta(seconds=65))
    return replace(known, **changes)


def figures(**changes: Any) -> Figures:
    nothing = Figures(
        live_calls={}, limits_met={}, alarms=0,
        calls=SimpleNamespace(finished=Counter(), refused=Counter(), faults=0), agent=AgentCounters(),
        core=CoreCounters(), transactions=TransactionCounters(), live_sessions=0, live_transactions=0,
        transports=[("udp", UdpCounters()), ("tcp", StreamCounters())], registrar=RegistrarCounters(),
        certificates={"/etc/pbx.pem": 1.8e9}, phones={}, bans={},
        live_subscriptions=0, subscriptions=SubscriptionCounters(),
        trunks_up=0, trunks_down=0, trunks=TrunkCounters(), lookup=LookupCounts(),
        numbers_known=0, sync=SyncCounts(), sync_states={}, outbox=OutboxCounts(),
        backlog=Backlog(), media=None, journal_waiting=0, journal_stored=0, journal_spilled=0, journal_lost=0,
        recordings_waiting=0, left_behind={}, errands_dropped=0, errands_failed=0, traces_dropped=0,
        log_lines_dropped=0)
    return replace(nothing, **changes)


@dataclass(frozen=True, slots=True)
class Site:
    served: Website
    control: FakeControl
    store: Store
    recordings: Path
    listener: FakeListener
    users: UserKeeper
    health: dict[ClientId, CrmHealth]

    @asynccontextmanager
    async def browser(
        self, *, address: str = "203.0.113.5", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.served.app, client=(address, 40000))
        async with httpx.AsyncClient(transport=transport, base_url="https://pbx.example.org",
                                     headers={"Accept": "text/html", **(headers or {})}) as client:
            yield client

    async def recorded(self, recording: str, data: bytes = MP3) -> str:
        """A finished recording; the path of its link."""
        file = self.recordings / recording[:2] / f"{recording}.mp3"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        await self.store.recordings.begin(recording, CallId("c-1"), ACME, datetime(2026, 3, 2, 12, 0, tzinfo=UTC))
        await self.store.recordings.finished(recording, str(file.relative_to(self.recordings)), 60.0, len(data))
        return LINKS.path(recording)


def set_up_of(store: Store, public_url: str) -> SetUp:
    return SetUp(Offices(store.directory, REALM, lambda: ("busy", "music")), REALM, SERVERS, public_url)


@asynccontextmanager
async def open_site(
    directory: Path, connections: CrmConnections | None = None, *,
    crm_of: Callable[[ClientId], TellsUsers | None] = lambda client: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC), **settings: Any
) -> AsyncIterator[Site]:
    url = f"sqlite+aiosqlite:///{directory / 'web.db'}"
    await migrate(url)
    control, recordings, listener = FakeControl(), directory / "recordings", FakeListener()
    health: dict[ClientId, CrmHealth] = {}
    recordings.mkdir()
    async with open_store(url, sealer=Sealer(["a key of the tests, which is long enough"])) as store:
        await store.directory.replace(Directory(), OFFICES, 0)
        users = UserKeeper(store.directory, store.crm_users, crm_of, clock)
        await users.load()
        served = create_app(control, store, settings=WebSettings(**settings), keys=KEYS, links=LINKS,
                            recordings=recordings, metrics=Metrics(figures), connections=connections or NoConnections(),
                            webhooks=AmoWebhooks(HOOKS, listener), users=users, deals=OpenDeals(lambda client: None),
                            widget_accounts=NoWidgets(), set_up=set_up_of(store, LINKS.public_url),
                            crm_health=health.get)
        yield Site(served, control, store, recordings, listener, users, health)


async def sign_in(browser: httpx.AsyncClient, password: str = PASSWORD, login: str = OPERATOR_LOGIN) -> httpx.Response:
    form = await browser.get("/sign-in")
    data = {"token": form_token(form.text), "login": login, "password": password}
    return await browser.post("/sign-in", data=data)


def form_token(page: str) -> str:
    return page.split('name="token" value="', 1)[1].split('"', 1)[0]


def fields(page: str) -> dict[str, str]:
    """What the page's form would send, were its button pressed."""
    form = page.split("<main", 1)[1]
    sent = {}
    for tag in re.findall(r"<input [^>]*>", form):
        said = dict(re.findall(r'([\w-]+)(?:="([^"]*)")?', tag.removeprefix("<input")))
        if "name" in said and (said.get("type") != "checkbox" or "checked" in said):
            sent[said["name"]] = html.unescape(said.get("value", "on" if said.get("type") == "checkbox" else ""))
    for name, text in re.findall(r'<textarea [^>]*name="([^"]+)"[^>]*>(.*?)</textarea>', form, re.DOTALL):
        sent[name] = html.unescape(text)
    for name, options in re.findall(r'<select [^>]*name="([^"]+)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', options)
        sent[name] = chosen[1] if chosen else ""
    return sent
