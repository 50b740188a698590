"""What an administrator does in the widget's window: tests the connection, saves, and looks at what is saved."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import structlog
from starlette.responses import Response

from b2bua.cdr import ClientId
from b2bua.control import Control
from b2bua.crm.switches import Switches
from b2bua.crm.user_keeper import UserKeeper
from b2bua.crm.users import FaultKind, ListedUser, UserMap
from b2bua.directory import Client, CrmAccount, UsersFrom
from b2bua.metrics import WebCounters
from b2bua.store.directory import DirectoryChanged
from b2bua.store.engine import StoreUnavailable
from b2bua.store.widget_settings import WidgetSettingsRows
from web.lockout import Lockout
from web.passwords import Passwords
from web.problems import RETRY_SECONDS, Problem
from web.widget import schemas
from web.widget.answers import answer
from web.widget.auth import WidgetAccounts
from web.widget.door import Visit
from web.widget.problems import FROM_THE_FILE, OTHER_CRM, TRUNK_DOWN

MOST_NOTES = 10
NAMED_AT_ONCE = 20                     # extensions that there are
CROWD_FAILURES = 50                    # wrong passwords of all users of an account, or address, that cost nothing
REFRESH_SECONDS = 5.0                  # for the CRM to tell of users whom we do not know

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WidgetSettings:
    control: Control
    accounts: WidgetAccounts
    users: UserKeeper
    rows: WidgetSettingsRows
    passwords: Passwords
    counters: WebCounters
    clock: Callable[[], datetime]
    lockout: Lockout                   # of each user of an account, as the token proves them
    crowds: Lockout                    # of an account, and of an address: tokens may be made by who knows the secret

    async def check(self, visit: Visit) -> Response:
        asked = await visit.body(schemas.Check)
        return self._connected(await self._client(visit, asked.login, asked.password), visit)

    async def save(self, visit: Visit) -> Response:
        asked = await visit.body(schemas.Settings)
        client = await self._client(visit, asked.login, asked.password or "", to_change=True)
        pairs = {int(user): extension.strip() for user, extension in asked.extensions.items()}
        await self._demand(visit, client, pairs)
        crm = _crm_of(client)
        try:
            changed = await self.rows.save(
                client.id, crm.base_url, visit.visitor.account, asked.functions.set_in, pairs, self.clock(),
                who=f"the widget, user {visit.visitor.user}")
        except DirectoryChanged:
            raise visit.problem("unavailable", retry_after=RETRY_SECONDS) from None
        if changed:
            log.info("settings saved in the widget", client=client.id, user=visit.visitor.user, users=len(pairs))
            await self.control.settings_changed()
        return self._connected(self.users.directory.client.get(client.id, client), visit)

    async def show(self, visit: Visit) -> Response:
        if visit.visitor.is_admin is False:
            raise visit.problem("not_admin")
        client = self._connected_client(visit)
        if client is None:
            raise visit.problem("not_connected", why="")
        functions = _crm_of(client).functions
        switches = Switches(**{name: getattr(functions, name) for name in Switches.model_fields})
        return answer(schemas.Saved(client=client.name, login=client.login, functions=switches))

    # -- who may

    async def _client(self, visit: Visit, login: str, password: str, *, to_change: bool = False) -> Client:
        """Raises Problem."""
        if visit.visitor.is_admin is False:
            raise visit.problem("not_admin")
        if password:
            return await self._by_password(visit, login, password)
        client = self._connected_client(visit)
        if client is None or (login not in ("", client.login)) or (to_change and not visit.visitor.is_admin):
            raise visit.problem("password_needed")
        return client

    def _connected_client(self, visit: Visit) -> Client | None:
        client = self.users.directory.client.get(visit.visitor.client) if visit.visitor.client is not None else None
        return client if client is not None and client.crm is not None else None

    async def _by_password(self, visit: Visit, login: str, password: str) -> Client:
        account, now = f"account {visit.visitor.account}", asyncio.get_running_loop().time()
        guessers = [(self.lockout, f"{account} user {visit.visitor.user}"), (self.crowds, account),
                    (self.crowds, visit.address)]
        if wait := math.ceil(max(lockout.wait(one, now) for lockout, one in guessers)):
            self.counters.locked_out += 1
            raise visit.problem("too_many", retry_after=wait, seconds=wait)
        if self.lockout.is_slow(guessers[0][1]):       # who goes on guessing keeps no colleague out
            del guessers[1:]
        client = self.users.directory.client_by_login.get(login)
        for lockout, one in guessers:                  # until it is known to be right: parallel guesses count as well
            lockout.failed(one, client.id if client is not None else "", now)
        if not await self.passwords.is_right(client.password_hash if client is not None else "", password):
            self.counters.wrong_passwords += 1
            log.warning("wrong password in a widget", account=visit.visitor.account, address=visit.address)
            raise visit.problem("wrong_password")
        assert client is not None, "nobody's password is right"
        for lockout, one in guessers:
            lockout.succeeded(one, client.id)
        if client.id not in visit.visitor.may_be or client.crm is None:
            raise visit.problem("not_connected", why=OTHER_CRM[visit.lang].format(client=client.name))
        return client

    # -- whose extensions

    async def _demand(self, visit: Visit, client: Client, pairs: UserMap) -> None:
        """Raises Problem: this cannot be whose extension is whose."""
        faults = self.users.wrong_with(client.id, pairs)
        if any(fault.kind in _MAY_BE_NEW for fault in faults):
            with suppress(TimeoutError, LookupError, StoreUnavailable):
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self.users.refresh(client.id)
            faults = self.users.wrong_with(client.id, pairs)
        if faults:
            raise self._wrong(visit, client, pairs, {fault.kind for fault in faults})

    def _wrong(self, visit: Visit, client: Client, pairs: UserMap, kinds: set[FaultKind]) -> Problem:
        names = _names(self.users.listing(client.id).users)
        whose = defaultdict(list)
        for user, extension in sorted(pairs.items()):
            whose[extension].append(names.get(user, str(user)))
        there = sorted(one.number for one in self.users.directory.extensions if one.client == client.id)
        if FaultKind.NO_EXTENSION in kinds:
            extension = next(one for one in sorted(whose) if one not in there)
            more = ", …" if len(there) > NAMED_AT_ONCE else ""
            return visit.problem("unknown_extension", extension=extension, user=whose[extension][0],
                                 client=client.name, known=", ".join(there[:NAMED_AT_ONCE]) + more)
        if FaultKind.DOUBLE in kinds:
            extension = next(one for one in sorted(whose) if len(whose[one]) > 1)
            return visit.problem("double_extension", extension=extension, users=", ".join(whose[extension]))
        crm = _crm_of(client)
        gone = [names.get(user, str(user)) for user in sorted(pairs) if not crm.has_active(user)]
        return visit.problem("unknown_user", user=", ".join(gone[:NAMED_AT_ONCE]))

    # -- how it is

    def _connected(self, client: Client, visit: Visit) -> Response:
        extensions = sum(one.client == client.id for one in self.users.directory.extensions)
        notes = tuple(self._notes(client, visit.lang))[:MOST_NOTES]
        return answer(schemas.Connected(client=client.name, extensions=extensions, notes=notes,
                                        crm_connected=self.accounts.is_entered(client.id)))

    def _notes(self, client: Client, lang: str) -> Iterator[str]:
        for trunk in self.control.trunk_states():
            if trunk.client == client.id and not trunk.up:
                yield TRUNK_DOWN[lang].format(trunk=trunk.name, why=trunk.detail)
        if _crm_of(client).users_from is UsersFrom.FILE:
            yield FROM_THE_FILE[lang]
        with suppress(LookupError):
            for fault in self.users.listing(client.id).faults:
                yield f"{fault.problem}. {fault.remedy}"


def _names(users: Sequence[ListedUser]) -> dict[int, str]:
    """With the number, where two have the same name."""
    how_many = Counter(user.name for user in users)
    return {user.id: user.name if how_many[user.name] == 1 else f"{user.name} ({user.id})"
            for user in users if user.name}


_MAY_BE_NEW = (FaultKind.NO_USER, FaultKind.SWITCHED_OFF)      # since the CRM was asked last


def _crm_of(client: Client) -> CrmAccount:
    assert client.crm is not None, "whose widget asks has a CRM"
    return client.crm


def client_id(visit: Visit) -> ClientId:
    """Raises Problem: the account is not connected."""
    if visit.visitor.client is None:
        raise visit.problem("not_connected", why="")
    return visit.visitor.client
