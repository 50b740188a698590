"""All clients' connections by OAuth: kept fresh, told of codes and disconnections, and what each one's state means."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import datetime
from enum import Enum
from random import Random
from types import TracebackType
from typing import Protocol
from urllib.parse import urlencode, urlsplit

import structlog

from b2bua.cdr import ClientId
from b2bua.crm.amocrm.access import claims_of
from b2bua.crm.amocrm.codes import CodeRefused, Endpoint
from b2bua.crm.amocrm.connection import OAuthConnection
from b2bua.crm.amocrm.kept import RefreshCounts, Rows
from b2bua.crm.amocrm.oauth import Integration, consent_url, is_trusted, url_of
from b2bua.crm.amocrm.rows import integer
from b2bua.crm.amocrm.status import status_of
from b2bua.crm.health import Status
from b2bua.crm.widget_account import WidgetAccount, origin_of
from b2bua.directory import CrmAccount, Directory
from b2bua.sealing import Sealer, SecretsLocked
from b2bua.store.engine import StoreUnavailable
from b2bua.store.tokens import Connection, ConnectionState, Mark

WATCH_SECONDS = 2.0                    # between two looks for what other processes have stored
SAID_EVERY = 3_600.0                   # seconds between two lines in the log about what a person must do
LAST_REFRESH = 5.0                     # seconds for a refresh under way when we end
STATE_SECONDS = 3_600                  # how long a link may wait for its click
AT_ONCE = 10                           # codes being exchanged, of all clients; further ones are turned away
PER_MINUTE = 6                         # codes for one client that come without a link of ours
MOST_CODES = 1_000                     # remembered, so that none is tried twice
CODE_RETRY, CODE_TRIES = 10.0, 60      # while the database is away; a code lives for 20 minutes
LONGEST_CODE = 4_096
_CODE = re.compile(r"[\x21-\x7e]+")
_STATE = "link of consent"             # what a state is sealed for
_NO_OAUTH = "{} is no client that enters its CRM by OAuth"

log = structlog.get_logger(__name__)


class WatchedRows(Rows, Protocol):
    async def marks(self) -> Mapping[ClientId, Mark]: ...


class _By(Enum):
    """Who brings a code."""

    LINK = "a browser that followed our link"
    PERSON = "who may change the client"
    ANYBODY = "the install hook, or a stranger"


class NotOurs(LookupError):
    """One sentence: why a code or a disconnection is not for any of our clients."""


class Connections:
    """An async context manager."""

    def __init__(
        self, rows: WatchedRows, endpoint: Endpoint, sealer: Sealer, clock: Callable[[], datetime],
        random: Random | None = None,
    ) -> None:
        self.counts = RefreshCounts()
        self._rows = rows
        self._endpoint = endpoint
        self._sealer = sealer
        self._clock = clock
        self._random = random or Random()  # noqa: S311 - it spreads tries
        self._open: dict[ClientId, OAuthConnection] = {}
        self._accounts: dict[ClientId, CrmAccount] = {}
        self._at_origin: defaultdict[str, list[ClientId]] = defaultdict(list)      # whose pages are there, as applied
        self._of_token: dict[ClientId, int | None] = {}        # account id that a long-lived token tells
        self._codes: OrderedDict[bytes, None] = OrderedDict()
        self._hurry: defaultdict[tuple[ClientId, _By], deque[float]] = defaultdict(lambda: deque(maxlen=PER_MINUTE))
        self.connected: Callable[[ClientId], None] = lambda _: None    # told of whoever is connected from now on
        self._is_connected: dict[ClientId, bool] = {}
        self._code_trouble: dict[ClientId, str] = {}
        self._exchanges = 0
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Connections:
        await self._tasks.__aenter__()
        self._watching = self._tasks.create_task(self._watch(), name="watch CRM tokens")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A refresh under way may end: its answer is worth more than our haste."""
        if self._watching is not None:
            self._watching.cancel()
        for one in self._open.values():
            one.stop()
        if self._running:
            await asyncio.wait(self._running, timeout=LAST_REFRESH)
        for task in self._running:
            task.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    async def use(self, directory: Directory) -> None:
        """From now on these clients' accounts are kept."""
        self._accounts = {client.id: client.crm for client in directory.clients if client.crm is not None}
        self._of_token = {client: integer(claims_of(account.token), "account_id")
                          for client, account in self._accounts.items() if account.token}
        self._at_origin = defaultdict(list)
        for client, account in self._accounts.items():
            self._at_origin[origin_of(account.base_url)].append(client)
        wanted = {client: integration for client, account in self._accounts.items()
                  if (integration := integration_of(client, account)) is not None}
        for client in [client for client, one in self._open.items() if wanted.get(client) != one.integration]:
            self._open.pop(client).stop()
            del self._is_connected[client]
            self._code_trouble.pop(client, None)
        for client, integration in wanted.items():
            if client not in self._open:
                self._open[client] = await self._opened(integration)

    async def _opened(self, integration: Integration) -> OAuthConnection:
        one = OAuthConnection(integration, self._rows, self._endpoint, self._clock, self._random, self.counts)
        await one.load()
        self._is_connected[integration.client] = _works(one)
        self._start(one.run(), f"CRM tokens of {integration.client}")
        return one

    def source(self, client: ClientId) -> OAuthConnection:
        """Of a client that is used, and enters by OAuth."""
        return self._open[client]

    def _start(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        task = self._tasks.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _watch(self) -> None:
        said_at = float("-inf")
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self._wake_those_with_news()
                self._tell_who_works_again()
                if (now := asyncio.get_running_loop().time()) - said_at >= SAID_EVERY:
                    said_at = now
                    for alarm in self.alarms():
                        log.error("a person must see to the CRM", why=alarm)
            except StoreUnavailable as error:
                log.debug("CRM tokens not watched", why=str(error))
            except Exception:          # the boundary of what only watches
                log.exception("CRM tokens not watched")

    async def _wake_those_with_news(self) -> None:
        marks = await self._rows.marks()
        for client, one in self._open.items():
            if client in marks and marks[client] != _mark(one.saved):
                one.wake()

    def _tell_who_works_again(self) -> None:
        """Whoever let us in did it here, or in another process."""
        for client, one in self._open.items():
            did, does = self._is_connected[client], _works(one)
            self._is_connected[client] = does
            if does and not did:
                self.connected(client)

    # -- what comes from amoCRM

    def link(self, client: ClientId) -> str:
        """Where a person allows our integration into the account; good for STATE_SECONDS. Raises NotOurs."""
        one = self._open.get(client)
        if one is None:
            raise NotOurs(_NO_OAUTH.format(client))
        return consent_link(one.integration, self._sealer, self._clock())

    def code_arrived(self, code: str, host: str, state: str, client_id: str) -> ClientId:
        """A code is for this client, and is exchanged behind it; whoever brings it is not believed before that.
        `host`: of the account, as the redirect says; `state` and `client_id` may be "". Raises NotOurs."""
        one = self._by_state(state) if state else self._by_account(host, client_id)
        if not host and not state:
            raise NotOurs("the account is at no address of amoCRM")
        self._exchanging(one, code, host, _By.LINK if state else _By.ANYBODY)
        return one.integration.client

    async def code_pasted(self, client: ClientId, code: str, host: str, seconds: float) -> None:
        """A person who may change this client has brought a code; returns when it was exchanged, after `seconds` at
        most. `code_trouble` says what came of it. Raises NotOurs."""
        one = self._open.get(client)
        if one is None:
            raise NotOurs(_NO_OAUTH.format(client))
        if (task := self._exchanging(one, code, host, _By.PERSON)) is not None:
            await asyncio.wait([task], timeout=seconds)

    def code_trouble(self, client: ClientId) -> str:
        """Why the last code did not connect the account; "" when it did, or there was none."""
        return self._code_trouble.get(client, "")

    def _exchanging(self, one: OAuthConnection, code: str, host: str, by: _By) -> asyncio.Task[None] | None:
        """None: this code is known already. `host` may be ""."""
        if not 0 < len(code) <= LONGEST_CODE or _CODE.fullmatch(code) is None:
            raise NotOurs("this is no code")
        known = one.base_url(one.saved) if one.saved is not None else one.integration.base_url
        host = host or urlsplit(known).netloc
        if not is_trusted(host, known) and not is_trusted(host, one.integration.base_url):
            raise NotOurs("the account is at no address of amoCRM")
        is_new = one.saved is None or one.saved.account is None
        if is_new and host != urlsplit(one.integration.base_url).netloc:
            raise NotOurs(f"the account is not the one at {one.integration.base_url}")
        # With another secret a code that was refused is another one.
        digest = hashlib.sha256(f"{one.integration.client_id} {one.integration.client_secret} {code}".encode()).digest()
        if digest in self._codes:
            return None
        if self._exchanges >= AT_ONCE or not self._is_unhurried(one, by):
            raise NotOurs("too many codes come at once")
        self._codes[digest] = None
        while len(self._codes) > MOST_CODES:
            self._codes.popitem(last=False)
        self._exchanges += 1
        exchange = self._exchange(one, code, url_of(host, known), digest, by)
        return self._start(exchange, f"CRM code for {one.integration.client}")

    def _is_unhurried(self, one: OAuthConnection, by: _By) -> bool:
        """Codes that anybody can make up must not bring us over amoCRM's limits, nor keep a person's out."""
        if by is _By.LINK:
            return True
        times, now = self._hurry[one.integration.client, by], asyncio.get_running_loop().time()
        if len(times) == PER_MINUTE and now - times[0] < 60.0:
            return False
        times.append(now)
        return True

    def _by_state(self, state: str) -> OAuthConnection:
        client = client_of(state, self._sealer, self._clock())
        one = self._open.get(client) if client is not None else None
        if one is None:
            raise NotOurs("the link was not made here, or too long ago")
        return one

    def _by_account(self, host: str, client_id: str) -> OAuthConnection:
        """The install hook says no state, and not always whose integration it is."""
        found = [one for one in self._open.values()
                 if (one.integration.client_id == client_id if client_id else
                     host in (urlsplit(one.integration.base_url).netloc,
                              urlsplit(one.base_url(one.saved)).netloc if one.saved is not None else ""))]
        if len(found) > 1:
            found = [one for one in found if urlsplit(one.integration.base_url).netloc == host]
        if len(found) != 1:
            raise NotOurs("no client has this integration" if not found else "several clients have this integration")
        return found[0]

    async def _exchange(self, one: OAuthConnection, code: str, base_url: str, digest: bytes, by: _By) -> None:
        client = one.integration.client
        try:
            for _ in range(CODE_TRIES):
                try:
                    await one.codes.connect(code, base_url)
                    self._code_trouble.pop(client, None)
                    one.wake()
                    self._is_connected[client] = False     # another code is news for who was refused
                    self._tell_who_works_again()
                    return
                except StoreUnavailable as error:
                    log.warning("CRM code waits for the database", client=client, why=str(error))
                    await asyncio.sleep(CODE_RETRY)
        except CodeRefused as error:
            if by is not _By.ANYBODY or not _works(one):       # to whoever waits for nothing it would be a false alarm
                self._code_trouble[client] = str(error)
            if error.may_be_good:
                self._codes.pop(digest, None)
            log.error("CRM not connected", client=client, why=str(error),
                      remedy=f"smartswitch crm link --client {client}, or paste a code: smartswitch crm connect")
        except Exception:              # the boundary of a code that somebody brought
            log.exception("CRM code: a fault", client=client)
        finally:
            self._exchanges -= 1

    def switched_off(self, client_id: str, account: str, signature: str) -> ClientId:
        """The disconnect hook; the signature is the integration's own. Raises NotOurs."""
        for one in self._open.values():
            integration = one.integration
            good = hmac.digest(integration.client_secret.encode(), f"{client_id}|{account}".encode(), "sha256").hex()
            is_known = one.saved is None or one.saved.account is None or str(one.saved.account) == account
            if hmac.compare_digest(good.encode(), signature.encode()) and integration.client_id == client_id and (
                    is_known):
                one.switched_off()
                return integration.client
        raise NotOurs("the signature is of none of our integrations")

    # -- what the pages of an account bring

    def widget_accounts(self, integration: str) -> list[WidgetAccount]:
        """Of the clients with this integration, that it may be asked by its widget."""
        return [self._widget_account(client, account) for client, account in self._accounts.items()
                if account.client_id == integration and account.client_secret]

    def has_page_at(self, origin: str) -> bool:
        """Whether it is that of an account which is connected."""
        applied = self._at_origin.get(origin, ())
        moved = [client for client, one in self._open.items() if one.saved is not None and one.saved.base_url == origin]
        return any(one.account is not None and origin in one.origins
                   for client in (*applied, *moved) if (one := self._widget_account(client, self._accounts[client])))

    def moved_to(self, client: ClientId) -> str:
        """Where the account is, if it is not where the directory has it; else ""."""
        one = self._open.get(client)
        now = one.base_url(one.saved) if one is not None and one.saved is not None else ""
        return now if client in self._accounts and now != self._accounts[client].base_url else ""

    def seen_elsewhere(self, client: ClientId) -> None:
        if (one := self._open.get(client)) is not None:
            one.seen_elsewhere()

    def is_entered(self, client: ClientId) -> bool:
        """Whether we hold the means to enter the account, and they work."""
        status = self.status(client)
        return status is not None and status.is_connected

    def _widget_account(self, client: ClientId, account: CrmAccount) -> WidgetAccount:
        one = self._open.get(client)
        saved = one.saved if one is not None and one.saved is not None and (
            one.saved.client_id == account.client_id) else None
        known = saved.account if saved is not None else self._of_token.get(client)
        urls = (account.base_url, one.base_url(saved) if one is not None and saved is not None else account.base_url)
        return WidgetAccount(client, account.client_secret, origin_of(account.redirect_uri),
                             frozenset(map(origin_of, urls)), known or account.account)

    # -- what people see

    def statuses(self) -> list[Status]:
        return list(itertools.starmap(self._status, self._accounts.items()))

    def status(self, client: ClientId) -> Status | None:
        """None: this client has no CRM."""
        return self._status(client, self._accounts[client]) if client in self._accounts else None

    def _status(self, client: ClientId, account: CrmAccount) -> Status:
        one = self._open.get(client)
        saved, trouble = (one.saved, one.trouble) if one is not None else (None, "")
        return status_of(client, account, saved, self._clock(), trouble)

    def alarms(self) -> list[str]:
        return [status.alarm for status in self.statuses() if status.alarm]

    def states(self) -> Mapping[str, int]:
        return Counter(status.state for status in self.statuses())

    def ends(self) -> Mapping[str, float]:
        """For each client: when its way in ends if nothing is done, in seconds since 1970."""
        return {str(status.client): status.until.timestamp() for status in self.statuses() if status.until is not None}


def integration_of(client: ClientId, account: CrmAccount) -> Integration | None:
    """None: a long-lived token is its way in, or its secrets are locked."""
    if account.token or not account.client_secret:
        return None
    return Integration(client, account.base_url, account.client_id, account.client_secret, account.redirect_uri)


def consent_link(integration: Integration, sealer: Sealer, now: datetime) -> str:
    state = sealer.seal(json.dumps([integration.client, int(now.timestamp()) + STATE_SECONDS]), _STATE)
    query = {"client_id": integration.client_id, "state": state, "mode": "popup"}
    return f"{consent_url(integration.base_url)}?{urlencode(query)}"


def client_of(state: str, sealer: Sealer, now: datetime) -> ClientId | None:
    """Whose link it was; None when it was none of ours, or is too old."""
    with suppress(SecretsLocked, ValueError, TypeError, RecursionError):
        if not sealer.has_sealed(state):
            return None
        client, until = json.loads(sealer.open(state, _STATE))
        return ClientId(client) if now.timestamp() < until else None
    return None


def _works(one: OAuthConnection) -> bool:
    return one.saved is not None and one.saved.tokens is not None and one.saved.state is ConnectionState.CONNECTED


def _mark(saved: Connection | None) -> Mark | None:
    return None if saved is None else (saved.generation, saved.state.value, saved.base_url)
