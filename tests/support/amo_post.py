"""An outbox and the amoCRM account that it writes to, all in one process and on the loop's own time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import httpx

from b2bua.cdr import CallId, ClientId, Direction, Disposition
from b2bua.crm.amocrm.access import LongLivedToken
from b2bua.crm.amocrm.adapter import AmoCrm
from b2bua.crm.amocrm.api import AmoApi
from b2bua.crm.functions import CardKind, CrmFunctions
from b2bua.crm.outbox import Outbox, RecordingState
from b2bua.crm.port import CallNote, Card, CrmWrite, Deal, Purpose, TalkedTo, Task
from b2bua.directory import CrmAccount
from b2bua.sandbox.account import Account
from b2bua.sandbox.entities import Entity, EntityType, Note
from b2bua.sandbox.entities import Task as AmoTask
from b2bua.sandbox.in_process import in_process_sandbox
from b2bua.sandbox.seed import SandboxSeed, SeedAccount, SeedCompany, SeedContact, SeedLead, SeedUser
from b2bua.sandbox.switches import QueryDigits
from tests.support.memory_outbox import MemoryOutbox, State

EPOCH = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ACME = ClientId("acme")
ALL_ON = CrmFunctions(create_on_incoming=True, create_on_outgoing=True, task_on_new_contact=True, task_on_missed=True)
IVAN, FIRM, NEW = "+74951234567", "+74957654321", "+79160000001"
BOSS = 78
SEED = SandboxSeed((
    SeedAccount(
        users=(SeedUser(77, "Анна", is_admin=True), SeedUser(BOSS, "Борис"), SeedUser(79, "Вера", is_active=False)),
        contacts=(SeedContact("Иван Петров", ("8 (495) 123-45-67",), 77, 9001),),
        companies=(SeedCompany("Вектор", ("+7 495 765-43-21",), BOSS, 9501),),
        leads=(SeedLead("Кресла", contact=9001, id=7001),),
    ),
))


def wall() -> datetime:
    return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


def link_of(recording: str) -> str:
    return f"https://pbx.example.org/r/{recording}.mp3"


# -- what a call may owe, with everything filled in


def card(call: str = "c1", phone: str = NEW, **changes: object) -> Card:
    made = Card(CallId(call), ACME, Direction.INBOUND, phone, EPOCH, CardKind.CONTACT, 77, f"Клиент {phone}", "звонок",
                "+74951112233")
    return replace(made, **changes)    # type: ignore[arg-type]


def deal(call: str = "c1", phone: str = NEW, **changes: object) -> Deal:
    made = Deal(CallId(call), ACME, phone, EPOCH, 77, f"Сделка {phone}", 1_000, 1_002, "звонок")
    return replace(made, **changes)    # type: ignore[arg-type]


def note(call: str = "c1", phone: str = NEW, **changes: object) -> CallNote:
    made = CallNote(CallId(call), ACME, Direction.INBOUND, phone, EPOCH, 61, Disposition.ANSWERED, 77, None,
                    "+74951112233", None)
    return replace(made, **changes)    # type: ignore[arg-type]


def missed(call: str = "c1", phone: str = NEW) -> CallNote:
    return note(call, phone, disposition=Disposition.NO_ANSWER, talk_seconds=0)


def fill_in(call: str = "c1", phone: str = NEW, **changes: object) -> Task:
    made = Task(CallId(call), ACME, phone, EPOCH, Purpose.FILL_IN, 77, f"Заполнить {phone}",
                EPOCH + timedelta(minutes=15))
    return replace(made, **changes)    # type: ignore[arg-type]


def call_back(call: str = "c1", phone: str = IVAN, **changes: object) -> Task:
    made = Task(CallId(call), ACME, phone, EPOCH, Purpose.CALL_BACK, None, f"Перезвонить {phone}",
                EPOCH + timedelta(minutes=15))
    return replace(made, **changes)    # type: ignore[arg-type]


def talked_to(call: str = "c2", phone: str = IVAN) -> TalkedTo:
    return TalkedTo(CallId(call), ACME, phone, EPOCH)


def finds_late(account: Account, seconds: float) -> None:
    """From now on its search, and its choice of a card, know a new card only so long after it was made."""
    made_at: dict[int, float] = {}
    clock = asyncio.get_running_loop().time

    class Late(Account):
        __slots__ = ()

        def add(self, entity: Entity) -> Entity:
            made_at[entity.id] = clock()
            return Account.add(self, entity)

        def search(self, kind: EntityType, query: str, rule: QueryDigits = QueryDigits.ANYWHERE) -> list[Entity]:
            found = Account.search(self, kind, query, rule)
            return [entity for entity in found if not query or self._is_known(entity)]

        def by_phone(self, kind: EntityType, phone: str) -> Entity | None:
            entity = Account.by_phone(self, kind, phone)
            return entity if entity is not None and self._is_known(entity) else None

        def _is_known(self, entity: Entity) -> bool:
            return clock() - made_at.get(entity.id, -seconds) >= seconds

    account.__class__ = Late


class AmoPost:
    def __init__(self, seed: SandboxSeed = SEED, functions: CrmFunctions = ALL_ON) -> None:
        self.sandbox = in_process_sandbox(seed, lambda: wall().timestamp())
        self.state, self.amo = self.sandbox.state, self.sandbox.state.account()
        self.store = MemoryOutbox(wall)
        self.account = CrmAccount(self.sandbox.base_url, "sandbox-token", functions=functions, default_user=BOSS)
        self.recordings: dict[str, RecordingState] = {}
        self.new_cards: list[str] = []
        self.transport: httpx.AsyncBaseTransport = self.sandbox.transport
        self._crm: AmoCrm | None = None

    def asked(self) -> list[str]:
        return [f"{entry.method} {entry.path}" for entry in self.state.journal]

    @property
    def contacts(self) -> list[Entity]:
        return list(self.amo.entities[EntityType.CONTACTS].values())

    @property
    def leads(self) -> list[Entity]:
        return list(self.amo.entities[EntityType.LEADS].values())

    @property
    def notes(self) -> list[Note]:
        return list(self.amo.notes.values())

    @property
    def tasks(self) -> list[AmoTask]:
        return list(self.amo.tasks.values())

    @property
    def known(self) -> set[str]:
        return {f"{made.kind.value} {made.id}{' open' if made.is_open else ''}" for made in self.store.made.values()}

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AmoPost]:
        tokens = LongLivedToken(self.sandbox.base_url, "sandbox-token")
        async with AmoApi(tokens, self.transport) as api:
            self._crm = AmoCrm(self.account, "RU", link_of, api, tokens)
            yield self

    def outbox(self, seed: int = 1) -> Outbox:
        return Outbox(self.store, self.crm_of, wall, self._recording, self._card_made, random=Random(seed))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Outbox]:
        async with self.connected(), asyncio.TaskGroup() as tasks:
            outbox = self.outbox()
            tasks.create_task(outbox.run())
            yield outbox
            outbox.stop()

    async def deliver(self, *writes: CrmWrite) -> list[str]:
        """Until nothing is pending; what became of each."""
        rows = [self.store.add(write) for write in writes]
        async with self.running():
            await self.settled()
        return [row.said for row in rows]

    async def settled(self) -> None:
        """Nothing is pending; virtual time makes it cheap to look every second."""
        while any(row.state is State.PENDING for row in self.store.rows):      # noqa: ASYNC110
            await asyncio.sleep(1)

    def _card_made(self, client: ClientId, phone: str) -> None:
        self.new_cards.append(phone)

    def crm_of(self, client: ClientId) -> AmoCrm | None:
        return self._crm if client == ACME else None

    async def _recording(self, recording: str) -> RecordingState:
        return self.recordings.get(recording, RecordingState.READY)
