"""amoCRM as the switch's CRM: one account, or the accounts of all clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import assert_never

import httpx

from b2bua.cdr import ClientId, Direction
from b2bua.crm.amocrm import calls, cards, contacts, deals, events, links, new_deals, tasks, users
from b2bua.crm.amocrm.access import Locked, LongLivedToken, TokenSource
from b2bua.crm.amocrm.api import AmoApi
from b2bua.crm.amocrm.connections import Connections
from b2bua.crm.amocrm.people import AmoPeople
from b2bua.crm.amocrm.writing import Desk
from b2bua.crm.functions import CrmFunctions
from b2bua.crm.health import Traffic
from b2bua.crm.port import (
    CallNote,
    Card,
    Contact,
    CrmWrite,
    Deal,
    Delivered,
    Made,
    OpenDeal,
    PopUp,
    Purpose,
    RecordingLink,
    TalkedTo,
    Task,
)
from b2bua.crm.users import CrmUser, UserMap
from b2bua.directory import CrmAccount, Directory


@dataclass(frozen=True, slots=True)
class AmoCrm:
    """The `Crm` of crm/port for one account."""

    account: CrmAccount
    country: str                       # how numbers without a country code are read
    link_of: Callable[[str], str]      # recording id -> the link that the card plays
    api: AmoApi
    tokens: TokenSource

    async def find_contact(self, phone: str) -> Contact | None:
        return await contacts.find(self.api, phone, self.country)

    async def open_deal(self, contact: Contact) -> OpenDeal | None:
        return await deals.only_open(self.api, contact)

    @property
    def people(self) -> AmoPeople:
        """The same account, read ahead."""
        return AmoPeople(self.api, self.country)

    async def deliver(self, write: CrmWrite, known: tuple[Made, ...] = (), *, repeated: bool = False) -> Delivered:
        if not is_switched_on(self.account.functions, write):
            return Delivered("switched off")
        desk = Desk(self.api, self.country, self.account.default_user, self.link_of)
        match write:
            case Card():
                return await cards.make(desk, write, known, repeated=repeated)
            case Deal():
                return await new_deals.make(desk, write, known, repeated=repeated)
            case CallNote():
                return await calls.write_call(desk, write, known, repeated=repeated)
            case RecordingLink():
                return await links.add(desk, write, known)
            case Task():
                return await tasks.make(desk, write, known, repeated=repeated)
            case TalkedTo():
                return await tasks.close(desk, write, known)
            case _:
                assert_never(write)

    async def pop_up(self, pop_up: PopUp) -> None:
        await events.show(self.api, pop_up)

    async def users(self) -> tuple[CrmUser, ...]:
        return await users.users(self.api)

    async def extensions(self, widget: str) -> UserMap:
        return await users.extensions(self.api, widget)


def is_switched_on(functions: CrmFunctions, write: CrmWrite) -> bool:
    """Whether the client still wants it: the switches may have changed since the call."""
    if write.phone in functions.not_told:
        return False
    match write:
        case Card():
            inbound = write.direction is Direction.INBOUND
            return functions.create_on_incoming if inbound else functions.create_on_outgoing
        case Deal():
            return functions.create_on_incoming or functions.create_on_outgoing
        case Task(purpose=Purpose.FILL_IN):
            return functions.task_on_new_contact
        case Task(purpose=Purpose.CALL_BACK) | TalkedTo():
            return functions.task_on_missed
        case _:
            return True


@asynccontextmanager
async def open_amocrm(
    account: CrmAccount, *, country: str = "RU", link_of: Callable[[str], str], tokens: TokenSource | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[AmoCrm]:
    """`tokens`: by default the account's long-lived one."""
    tokens = tokens or LongLivedToken(account.base_url, account.token)
    async with AmoApi(tokens, transport) as api:
        yield AmoCrm(account, country, link_of, api, tokens)


@dataclass(slots=True)
class AmoAccounts:
    """The open accounts of a directory's clients. Another address or way in opens the account anew; the old one
    stays open until the end, as a request may be under way there."""

    link_of: Callable[[str], str]
    connections: Connections | None = None       # of accounts that are entered by OAuth
    transport: httpx.AsyncBaseTransport | None = None
    _open: dict[ClientId, AmoCrm] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> AmoAccounts:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def use(self, directory: Directory) -> None:
        """From now on `crm_of` answers by this directory."""
        if self.connections is not None:
            await self.connections.use(directory)
        accounts: dict[ClientId, AmoCrm] = {}
        for client in directory.clients:
            if client.crm is not None:
                accounts[client.id] = await self._opened(client.id, client.crm, client.country)
        self._open = accounts

    def crm_of(self, client: ClientId) -> AmoCrm | None:
        return self._open.get(client)

    def traffic_of(self, client: ClientId) -> Traffic | None:
        crm = self._open.get(client)
        return crm.api.traffic if crm is not None else None

    def alarms(self) -> list[str]:
        """What a person must see to, each in one sentence."""
        refused = [f"CRM of {client}: {crm.tokens.trouble}" for client, crm in self._open.items()
                   if isinstance(crm.tokens, LongLivedToken) and crm.tokens.trouble]
        return [*(self.connections.alarms() if self.connections is not None else []), *refused]

    def people_of(self, client: ClientId) -> AmoPeople | None:
        crm = self._open.get(client)
        return None if crm is None else crm.people

    async def _opened(self, client: ClientId, account: CrmAccount, country: str) -> AmoCrm:
        known = self._open.get(client)
        if known and _way_in(known.account) == _way_in(account):
            return replace(known, account=account, country=country)        # its gate knows the rate so far
        tokens = None
        if self.connections is not None and not account.token:
            tokens = self.connections.source(client) if account.client_secret else Locked()
        return await self._stack.enter_async_context(
            open_amocrm(account, country=country, link_of=self.link_of, tokens=tokens, transport=self.transport))


def _way_in(account: CrmAccount) -> tuple[str, ...]:
    return account.base_url, account.token, account.client_id, account.client_secret, account.redirect_uri
