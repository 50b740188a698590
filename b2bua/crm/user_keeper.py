"""Keeps the CRM's users: asks each CRM for them at the start, every hour and on demand, and tells what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import structlog

from b2bua.cdr import ClientId
from b2bua.crm.port import CrmError, CrmRejected, CrmUnauthorized
from b2bua.crm.users import (
    MOST_USERS,
    CrmUser,
    Effective,
    FaultKind,
    KnownUsers,
    MapSource,
    UserFault,
    UserListing,
    UserMap,
    by_client,
    checked,
    joined,
    listed,
    of_client,
    tidied,
)
from b2bua.directory import CrmAccount, Directory, Extension, UsersFrom
from b2bua.store.engine import StoreUnavailable

EVERY = 3_600.0                        # seconds between two readings of a client's users
AGAIN = 300.0                          # after one that came to nothing, unless the CRM has refused it
SOON = 5.0                             # when the account is not open yet as it was applied
CLIENTS_AT_ONCE = 4
READING_SECONDS = 120.0                # for one client, all pages and waiting at its gate included
MOST_ALARMS = 1_000                    # of all clients; the rest is in the log, and in each client's list

log = structlog.get_logger(__name__)


class Base(Protocol):
    """The directory as the file has it, and its generation."""

    async def load(self) -> tuple[Directory, int]: ...


class Rows(Protocol):
    """What was told, beyond the process. A change raises the directory's generation."""

    async def load(self) -> Mapping[ClientId, KnownUsers]: ...

    async def save_users(self, client: ClientId, base_url: str, users: Sequence[CrmUser], at: datetime) -> bool: ...

    async def save_map(
        self, client: ClientId, base_url: str, pairs: UserMap, source: MapSource, at: datetime
    ) -> bool: ...


class TellsUsers(Protocol):
    """One client's CRM. Both may raise CrmError; CrmRejected: it does not let us know."""

    @property
    def account(self) -> CrmAccount: ...

    async def users(self) -> tuple[CrmUser, ...]: ...

    async def extensions(self, widget: str) -> UserMap: ...


@dataclass(slots=True)
class _Client:
    """What is known of one client beside the directory."""

    account: CrmAccount
    due: float = 0.0                   # when to ask again, by the loop's clock
    read_at: datetime | None = None
    unread: tuple[UserFault, ...] = ()
    told: frozenset[UserFault] = frozenset()       # what the log has said
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class UserKeeper:
    """The switchboard's books: the directory that it loads here is the file's, with the users as they are now."""

    def __init__(self, base: Base, rows: Rows, crm_of: Callable[[ClientId], TellsUsers | None],
                 clock: Callable[[], datetime]) -> None:
        self._base = base
        self._rows = rows
        self._crm_of = crm_of
        self._clock = clock
        self._directory = Directory()
        self._known: Mapping[ClientId, KnownUsers] = {}
        self._effective = Effective(Directory(), {})
        self._clients: dict[ClientId, _Client] = {}
        self._woken = asyncio.Event()
        self._loading = asyncio.Lock()

    async def load(self) -> tuple[Directory, int]:
        """Raises StoreUnavailable."""
        async with self._loading:
            # What comes between the two raises the generation, so that the next load is not far.
            directory, generation = await self._base.load()
            known, done = await self._rows.load(), []
            for client, own in by_client(directory):
                done.append(of_client(client, own, known))
                await asyncio.sleep(0)     # calls go on meanwhile: there may be hundreds of clients
            self._directory, self._known, self._effective = directory, known, joined(directory, done)
            self._clients = dict(self._clients_of(directory))
            for id_ in self._clients:
                self._tell(id_)
            return self._effective.directory, generation

    def _clients_of(self, directory: Directory) -> Iterator[tuple[ClientId, _Client]]:
        for client in directory.clients:
            if client.crm is not None:
                one = self._clients.get(client.id) or _Client(client.crm)
                if _source(one.account) != _source(client.crm):
                    one.due, one.unread = 0.0, ()
                one.account = client.crm
                yield client.id, one

    # -- reading

    def wake(self) -> None:
        """The directory has changed, and the CRMs are open as it says."""
        self._woken.set()

    def reconnected(self, client: ClientId) -> None:
        """A person has let us into its CRM again: it is asked at once."""
        if (one := self._clients.get(client)) is not None:
            one.due = 0.0
            self._woken.set()

    async def run(self) -> None:
        while True:
            self._woken.clear()
            for batch in _in_batches(self._due()):
                async with asyncio.TaskGroup() as readings:
                    for client in batch:
                        readings.create_task(self._read_anyhow(client))
            soonest = min((one.due for one in self._clients.values()), default=self._now() + EVERY)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(soonest):
                    await self._woken.wait()

    def _due(self) -> list[ClientId]:
        now = self._now()
        return [client for client, one in self._clients.items() if one.due <= now]

    async def _read_anyhow(self, client: ClientId) -> None:
        try:
            await self._read(client)
        except StoreUnavailable as error:
            log.warning("users not kept", client=client, why=str(error), remedy="they are read again in a few minutes")
        except Exception:              # the boundary of a reading: what one CRM tells must not end the others'
            log.exception("users not read", client=client, remedy="calls go by the users that were known before")

    async def refresh(self, client: ClientId) -> None:
        """Asks now; `listing` knows when this returns, calls within a second or two.

        Raises LookupError: there is no such client, or it has no CRM; StoreUnavailable.
        """
        if client not in self._clients:
            raise LookupError(client)
        await self._read(client)
        await self.load()

    async def _read(self, client: ClientId) -> None:
        one, crm = self._clients.get(client), self._crm_of(client)
        if one is None:
            return                     # gone meanwhile
        if crm is None or _source(crm.account) != _source(one.account):
            one.due = self._now() + SOON           # or these would be the users of the account before
            return
        async with one.reading:
            one.due = self._now() + AGAIN
            source, at = _source(one.account), self._clock()
            faults = [
                await self._told("users", self._read_users(client, crm, one.account, at)),
                await self._told("widget", self._read_map(client, crm, one.account, at)),
            ]
            if _source(one.account) != source:
                return                 # applied meanwhile: it is read again at once
            one.unread = tuple(fault for fault in faults if fault is not None)
            one.read_at = at if faults[0] is None else one.read_at
            if all(fault.kind is FaultKind.UNREAD for fault in one.unread):
                one.due = self._now() + EVERY
            self._tell(client)

    async def _read_users(self, client: ClientId, crm: TellsUsers, account: CrmAccount, at: datetime) -> None:
        await self._rows.save_users(client, account.base_url, await crm.users(), at)

    async def _read_map(self, client: ClientId, crm: TellsUsers, account: CrmAccount, at: datetime) -> None:
        if account.widget and account.users_from is UsersFrom.WIDGET:
            pairs = await crm.extensions(account.widget)
            await self._rows.save_map(client, account.base_url, pairs, MapSource.WIDGET, at)

    async def _told(self, what: str, reading: Awaitable[None]) -> UserFault | None:
        """Why it came to nothing."""
        try:
            async with asyncio.timeout(READING_SECONDS):
                await reading
        except CrmRejected as error:
            return UserFault(FaultKind.UNREAD, f"{_UNREAD[what]}: {error}", _REMEDIES[what])
        except CrmUnauthorized as error:
            return UserFault(FaultKind.UNREACHED, f"{_UNREAD[what]}: {error}", "Connect the account anew.")
        except (CrmError, TimeoutError) as error:
            why = str(error) or f"no answer within {READING_SECONDS:.0f} s"
            return UserFault(FaultKind.UNREACHED, f"{_UNREAD[what]}: {why}", "It is tried again in a few minutes.")
        return None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def directory(self) -> Directory:
        """That calls go by."""
        return self._effective.directory

    # -- changing

    def wrong_with(self, client: ClientId, pairs: UserMap) -> tuple[UserFault, ...]:
        """Why this map cannot be the client's. Raises LookupError: there is no such client, or it has no CRM."""
        if client not in self._clients:
            raise LookupError(client)
        return checked(self._extensions(self._directory, client), self._known.get(client, KnownUsers()), pairs)

    async def set_user_map(self, client: ClientId, given: Mapping[object, object]) -> tuple[UserFault, ...]:
        """What somebody saved in the widget, user -> extension: taken as a whole, or, with faults, not at all.

        Raises LookupError: there is no such client, or it has no CRM; StoreUnavailable.
        """
        pairs = tidied(given)
        faults = self.wrong_with(client, pairs)
        url, now = self._clients[client].account.base_url, self._clock()
        if not faults and await self._rows.save_map(client, url, pairs, MapSource.SETTINGS, now):
            await self.load()
        return faults

    # -- telling

    def listing(self, client: ClientId) -> UserListing:
        """Raises LookupError: there is no such client, or it has no CRM."""
        one, known = self._clients[client], self._known.get(client, KnownUsers())
        base, now = (self._extensions(directory, client) for directory in (self._directory, self._effective.directory))
        return UserListing(one.read_at, listed(base, now, one.account, known), self._faults(client))

    def faults(self) -> Mapping[ClientId, tuple[UserFault, ...]]:
        return {client: faults for client in self._clients if (faults := self._faults(client))}

    def alarms(self) -> Sequence[str]:
        """A CRM that does not answer is none of these: whoever asks it for something notices."""
        told = [f"{client}: {fault.problem}" for client, faults in self.faults().items() for fault in faults
                if fault.kind is not FaultKind.UNREACHED]
        return told[:MOST_ALARMS]

    def _faults(self, client: ClientId) -> tuple[UserFault, ...]:
        known = self._known.get(client)
        cut = (_TOO_MANY,) if known is not None and len(known.users) >= MOST_USERS else ()
        return (*self._clients[client].unread, *cut, *self._effective.faults.get(client, ()))

    def _tell(self, client: ClientId) -> None:
        """To the log, once for each fault until it is gone."""
        one, faults = self._clients[client], frozenset(self._faults(client))
        for fault in faults - one.told:
            log.warning("CRM users", client=client, problem=fault.problem, remedy=fault.remedy)
        for fault in one.told - faults:
            log.info("CRM users in order again", client=client, problem=fault.problem)
        one.told = faults

    def _extensions(self, directory: Directory, client: ClientId) -> Sequence[Extension]:
        return directory.extensions_of.get(client, ())


_UNREAD = {"users": "the CRM's users cannot be read, so that who is switched off is not known",
           "widget": "the widget's settings cannot be read, so that changes in them are not known"}
_REMEDIES = {"users": "Connect the account with the token of an administrator.",
             "widget": "Install the widget whose code is `widget`, by the integration whose token this is."}
_TOO_MANY = UserFault(
    FaultKind.UNREAD, f"the CRM has {MOST_USERS} users or more, so that who is switched off is not known",
    "Look to it that each extension's user is one who is there.")


def _source(account: CrmAccount) -> tuple[str, str, str, UsersFrom]:
    """Whose users they are, and who may ask; when it changes, they are asked for anew."""
    return account.base_url, account.token, account.widget, account.users_from


def _in_batches(clients: Sequence[ClientId]) -> Iterator[Sequence[ClientId]]:
    for start in range(0, len(clients), CLIENTS_AT_ONCE):
        yield clients[start:start + CLIENTS_AT_ONCE]
