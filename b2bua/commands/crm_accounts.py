"""The command line's hand on the CRM's connections: how they are, and codes for them, with the daemon or without."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from rich.table import Table
from rich.text import Text

from b2bua.cdr import ClientId
from b2bua.commands.call_lists import plain_table, shown
from b2bua.config import Settings
from b2bua.crm.amocrm.codes import CodeExchange, CodeRefused
from b2bua.crm.amocrm.connections import consent_link, integration_of
from b2bua.crm.amocrm.kept import KeptTokens, RefreshCounts
from b2bua.crm.amocrm.oauth import Integration, TokenEndpoint, is_trusted, url_of
from b2bua.crm.amocrm.status import status_of
from b2bua.crm.health import Status
from b2bua.crm.port import NotConnected
from b2bua.directory import CrmAccount
from b2bua.keys import open_sealer
from b2bua.sealing import Sealer
from b2bua.store.migrate import migrate
from b2bua.store.store import Store, open_store
from b2bua.upkeep import utc_now


async def statuses(settings: Settings, client: str | None) -> list[Status]:
    """As the database has them. Raises NotConnected when there is no such client with a CRM."""
    async with _opened(settings) as (store, _):
        accounts = await _accounts(store)
        if client is not None and client not in accounts:
            raise NotConnected(_no_account(client))
        return [status_of(one, account, await store.tokens.get(one), utc_now())
                for one, account in accounts.items() if client in (None, one)]


async def link(settings: Settings, client: str) -> str:
    """Raises NotConnected."""
    async with _opened(settings) as (store, sealer):
        return consent_link(await _integration(store, client), sealer, utc_now())


async def connect(settings: Settings, client: str, code: str, host: str | None) -> Status:
    """Exchanges a code that a person has pasted. `host`: of the account, when it is not where the settings have it.
    Raises NotConnected."""
    async with _opened(settings) as (store, _), TokenEndpoint() as endpoint:
        integration = await _integration(store, client)
        if host is not None and not is_trusted(host, integration.base_url):
            raise NotConnected(f"{host} is no address of amoCRM's: give the one of the account, NAME.amocrm.ru")
        counts = RefreshCounts()
        kept = KeptTokens(integration.client, store.tokens, counts)
        codes = CodeExchange(integration, kept, endpoint, utc_now, counts)
        try:
            new = await codes.connect(code, url_of(host or urlsplit(integration.base_url).netloc, integration.base_url))
        except CodeRefused as error:
            raise NotConnected(f"{client} is not connected: {error}. A code is good for 20 minutes, and once: make "
                               f"another one with smartswitch crm link --client {client}") from error
        if not kept.is_stored:
            raise NotConnected("the account has let us in, but the database does not take the tokens: they are in "
                               f"{settings.token_spill}, and a daemon there stores them when it can")
        return status_of(new.client, (await _accounts(store))[new.client], new, utc_now())


def status_table(found: Sequence[Status]) -> Table | Text:
    if not found:
        return Text("No client has a CRM.")
    table = plain_table("CRM", "client", "by", "state", "since", "until", "what to do")
    for one in found:
        instants = [f"{at:%Y-%m-%d %H:%M} UTC" if at is not None else "" for at in (one.since, one.until)]
        todo = f"{one.problem}: {one.remedy}" if one.problem and one.remedy else one.remedy or one.problem or "nothing"
        table.add_row(*(shown(text) for text in (one.client, one.way, one.state, *instants, todo)))
    return table


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Store, Sealer]]:
    sealer = open_sealer(settings)
    await migrate(settings.database_url)
    async with open_store(settings.database_url, token_spill=settings.token_spill, sealer=sealer) as store:
        yield store, sealer


async def _accounts(store: Store) -> dict[ClientId, CrmAccount]:
    directory, _ = await store.directory.load()
    return {client.id: client.crm for client in directory.clients if client.crm is not None}


async def _integration(store: Store, client: str) -> Integration:
    account = (await _accounts(store)).get(ClientId(client))
    if account is None:
        raise NotConnected(_no_account(client))
    integration = integration_of(ClientId(client), account)
    if integration is None:
        raise NotConnected(f"{client} enters its CRM by a long-lived token" if account.token else
                           f"the secrets of {client} are sealed with a key that is not here: add it to "
                           "database.secret_keys, or apply the file again")
    return integration


def _no_account(client: str) -> str:
    return f"there is no client {client} with a CRM: apply a file that has [client.crm]"
