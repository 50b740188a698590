"""amoCRM as the switch's CRM: one account, or the accounts of all clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType

from b2bua.cdr import ClientId
from b2bua.crm.amocrm import calls, contacts, events
from b2bua.crm.amocrm.api import AmoApi
from b2bua.crm.port import Contact, CrmWrite, PopUp
from b2bua.directory import CrmAccount, Directory


@dataclass(frozen=True, slots=True)
class AmoCrm:
    """The `Crm` of crm/port for one account."""

    account: CrmAccount
    country: str                       # how numbers without a country code are read
    link_of: Callable[[str], str]      # recording id -> the link that the card plays
    api: AmoApi

    async def find_contact(self, phone: str) -> Contact | None:
        return await contacts.find(self.api, phone, self.country)

    async def deliver(self, write: CrmWrite, *, repeated: bool = False) -> str:
        return await calls.write_call(
            self.api,
            write,
            link_of=self.link_of,
            default_user=self.account.default_user,
            country=self.country,
            repeated=repeated,
        )

    async def pop_up(self, pop_up: PopUp) -> None:
        await events.show(self.api, pop_up)


@asynccontextmanager
async def open_amocrm(
    account: CrmAccount, *, country: str = "RU", link_of: Callable[[str], str]
) -> AsyncIterator[AmoCrm]:
    async with AmoApi(account.base_url, account.token) as api:
        yield AmoCrm(account, country, link_of, api)


@dataclass(slots=True)
class AmoAccounts:
    """The open accounts of a directory's clients. Another address or token opens the account anew; the old one
    stays open until the end, as a request may be under way there."""

    link_of: Callable[[str], str]
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
        accounts: dict[ClientId, AmoCrm] = {}
        for client in directory.clients:
            if client.crm is not None:
                accounts[client.id] = await self._opened(client.id, client.crm, client.country)
        self._open = accounts

    def crm_of(self, client: ClientId) -> AmoCrm | None:
        return self._open.get(client)

    async def _opened(self, client: ClientId, account: CrmAccount, country: str) -> AmoCrm:
        known = self._open.get(client)
        if known and (known.account.base_url, known.account.token) == (account.base_url, account.token):
            return replace(known, account=account, country=country)        # its gate knows the rate so far
        return await self._stack.enter_async_context(open_amocrm(account, country=country, link_of=self.link_of))
