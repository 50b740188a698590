"""The web on a store of its own and a switchboard that does what the test says."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from argon2 import PasswordHasher
from starlette.applications import Starlette

from b2bua.cdr import CallId, ClientId, Direction
from b2bua.config import WebSettings
from b2bua.control import Explanation, LiveCall, PlannedStep, RegisteredPhone, TrunkState, TurnedAway
from b2bua.crm.lookup import LookupCounts
from b2bua.crm.outbox import OutboxCounts
from b2bua.keys import Keys
from b2bua.links import RecordingLinks
from b2bua.metrics import Figures, Metrics
from b2bua.net.streams import StreamCounters
from b2bua.net.udp import UdpCounters
from b2bua.sip.stack import Counters as CoreCounters
from b2bua.sip.throttle import Ban
from b2bua.sip.transaction_table import Counters as TransactionCounters
from b2bua.store.migrate import migrate
from b2bua.store.outbox import Backlog
from b2bua.store.store import Store, open_store
from b2bua.ua.agent import AgentCounters
from b2bua.ua.registrar import RegistrarCounters
from b2bua.ua.trunk_table import TrunkCounters
from web.app import create_app

PASSWORD = "correct horse battery"
KEYS = Keys(link=b"link" * 8, session=b"session" * 4, operator_password=PASSWORD,
            operator_hash=PasswordHasher(time_cost=1, memory_cost=64).hash(PASSWORD), control_token="control-token")
LINKS = RecordingLinks(KEYS.link, "https://pbx.example.org")
ACME = ClientId("acme")
MP3 = bytes(range(256)) * 40           # what is in it is the player's business


@dataclass(slots=True)
class FakeControl:
    """control.Control, filled in by the test."""

    calls: list[LiveCall] = field(default_factory=list)
    trunks: list[TrunkState] = field(default_factory=list)
    phones: list[RegisteredPhone] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    banned: list[Ban] = field(default_factory=list)
    strangers: list[TurnedAway] = field(default_factory=list)
    alarming: list[str] = field(default_factory=list)

    def live_calls(self) -> list[LiveCall]:
        return self.calls

    def trunk_states(self) -> list[TrunkState]:
        return self.trunks

    def registered_phones(self) -> list[RegisteredPhone]:
        return self.phones

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
        """Nothing here depends on them."""


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
        trunks_up=0, trunks_down=0, trunks=TrunkCounters(), lookup=LookupCounts(), outbox=OutboxCounts(),
        backlog=Backlog(), media=None, journal_waiting=0, journal_stored=0, journal_spilled=0, journal_lost=0,
        recordings_waiting=0, left_behind={}, errands_dropped=0, errands_failed=0, log_lines_dropped=0)
    return replace(nothing, **changes)


@dataclass(frozen=True, slots=True)
class Site:
    app: Starlette
    control: FakeControl
    store: Store
    recordings: Path

    @asynccontextmanager
    async def browser(
        self, *, address: str = "203.0.113.5", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.app, client=(address, 40000))
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


@asynccontextmanager
async def open_site(directory: Path, **settings: Any) -> AsyncIterator[Site]:
    url = f"sqlite+aiosqlite:///{directory / 'web.db'}"
    await migrate(url)
    control, recordings = FakeControl(), directory / "recordings"
    recordings.mkdir()
    async with open_store(url) as store:
        app = create_app(control, store, settings=WebSettings(**settings), keys=KEYS, links=LINKS,
                         recordings=recordings, metrics=Metrics(figures))
        yield Site(app, control, store, recordings)


async def sign_in(browser: httpx.AsyncClient, password: str = PASSWORD) -> httpx.Response:
    form = await browser.get("/sign-in")
    return await browser.post("/sign-in", data={"token": form_token(form.text), "password": password})


def form_token(html: str) -> str:
    return html.split('name="token" value="', 1)[1].split('"', 1)[0]
