"""The CRM's side of the daemon, put together: how accounts are entered, who calls, who is who, what is owed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from b2bua.cdr import ClientId
from b2bua.crm.alarms import crm_alarms
from b2bua.crm.amocrm.adapter import AmoAccounts
from b2bua.crm.amocrm.connections import Connections
from b2bua.crm.amocrm.oauth import TokenEndpoint
from b2bua.crm.health import CrmHealth, health_of
from b2bua.crm.lookup import Lookup
from b2bua.crm.open_deals import OpenDeals
from b2bua.crm.outbox import Outbox, RecordingState
from b2bua.crm.port import Crm
from b2bua.crm.sync import Sync
from b2bua.crm.user_keeper import UserKeeper
from b2bua.directory import Directory
from b2bua.links import WebhookLinks
from b2bua.metrics import BacklogWatch
from b2bua.sealing import Sealer
from b2bua.store.store import Store


@dataclass(frozen=True, slots=True)
class CrmAccounts:
    """The clients' CRMs for the calls; whoever reads them ahead hears of another directory as well."""

    accounts: AmoAccounts
    sync: Sync

    async def use(self, directory: Directory) -> None:
        await self.accounts.use(directory)
        self.sync.use(directory)

    def crm_of(self, client: ClientId) -> Crm | None:
        return self.accounts.crm_of(client)

    def alarms(self) -> Sequence[str]:
        return self.accounts.alarms()


@dataclass(frozen=True, slots=True)
class CrmSide:
    connections: Connections
    accounts: AmoAccounts
    users: UserKeeper
    lookup: Lookup
    deals: OpenDeals
    sync: Sync
    outbox: Outbox
    backlog: BacklogWatch
    clock: Callable[[], datetime]

    @property
    def of_calls(self) -> CrmAccounts:
        return CrmAccounts(self.accounts, self.sync)

    def reconnected(self, client: ClientId) -> None:
        for part in (self.outbox, self.users, self.sync):
            part.reconnected(client)

    def alarms(self) -> Sequence[str]:
        return crm_alarms(self.outbox.ill, self.backlog.backlog.oldest_of, self.clock())

    def health(self, client: ClientId, now: float) -> CrmHealth | None:
        """`now`: of the loop's clock. None: the client has no CRM."""
        status = self.connections.status(client)
        return None if status is None else health_of(
            status, self.accounts.traffic_of(client), now, numbers=self.lookup.memory.numbers_of(client),
            sync=self.sync.state_of(client), code_trouble=self.connections.code_trouble(client))


@asynccontextmanager
async def open_crm_side(
    store: Store, sealer: Sealer, *, hooks: WebhookLinks, link_of: Callable[[str], str],
    recording: Callable[[str], Awaitable[RecordingState]], clock: Callable[[], datetime],
) -> AsyncIterator[tuple[CrmSide, Directory, int]]:
    """With the directory that the CRMs and their users were taken from, and its generation. `link_of`: what a note
    says of a recording; `recording`: how far it is."""
    async with AsyncExitStack() as parts:
        endpoint = await parts.enter_async_context(TokenEndpoint())
        connections = await parts.enter_async_context(Connections(store.tokens, endpoint, sealer, clock))
        accounts = await parts.enter_async_context(AmoAccounts(link_of, connections))
        users = UserKeeper(store.directory, store.crm_users, accounts.crm_of, clock)
        directory, generation = await users.load()
        await accounts.use(directory)
        lookup = await parts.enter_async_context(Lookup(accounts.crm_of))
        deals = await parts.enter_async_context(OpenDeals(accounts.crm_of))
        sync = Sync(lookup.memory, accounts.people_of, lookup.is_resting, hooks.url, clock, random.SystemRandom())
        sync.use(directory)
        outbox = Outbox(store.outbox, accounts.crm_of, clock, recording=recording, card_made=lookup.forget)
        side = CrmSide(connections, accounts, users, lookup, deals, sync, outbox, BacklogWatch(store.outbox.backlog),
                       clock)
        connections.connected = side.reconnected
        yield side, directory, generation
