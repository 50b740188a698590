"""One client's connection by OAuth: its tokens, renewed by exactly one of all processes, stored before they are used.

```
               80 % of its life, or 401           answer lost twice
   connected ──────────────────────▶ refresh ──────────────────────▶ uncertain ──┐ the old access token still serves
       ▲                            │  │  ▲                                      │
       │ new pair: stored, then used│  │  └── now and then, ever more rarely ◀───┤
       ├────────────────────────────┘  │ refused, here and where it has moved to  │
       └─ a new code ◀── a person ◀── refused ◀──────────── the old one is refused ┘
```

A refresh token is good for one refresh, so that a second one by another process, or after a lost answer, would meet a
dead token. Therefore: whoever refreshes holds the connection's lease (store/tokens.py). A lease has no time of day, as
clocks jump: it is taken from its holder by who has watched it for LEASE_SECONDS, by a clock that only goes forward; its
holder sends nothing any more after half of that. New tokens that the database does not take are spilled to a file
and serve meanwhile: the old ones are dead by then. Nothing here ever deletes a token.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import assert_never

import structlog

from b2bua.crm.amocrm.access import Access
from b2bua.crm.amocrm.codes import LOST_AGAIN, CodeExchange, Endpoint, pair_of
from b2bua.crm.amocrm.kept import KeptTokens, RefreshCounts, Rows
from b2bua.crm.amocrm.oauth import EXCHANGE_SECONDS, Answer, Granted, Integration, Lost, NotNow, Refused
from b2bua.crm.port import CrmUnauthorized, CrmUnavailable
from b2bua.store.engine import StoreUnavailable
from b2bua.store.tokens import Connection, ConnectionState, TokenPair

RENEWED_AFTER = 0.8                    # of an access token's life
LEASE_SECONDS = 120.0                  # a refresh with its second try at another address takes 40 at most
LEASE_LOOK = 1.0                       # seconds between two looks at somebody else's lease
FIRST_PROBE, LONGEST_PROBE = 60.0, 3_600.0     # seconds between tries when a person is needed; doubled
FIRST_RETRY, LONGEST_RETRY = 5.0, 300.0        # when the CRM is not reached; doubled
JITTER = 0.25                          # of these, so that processes do not come together
STORE_REST = 2.0                       # the database does not answer
YOUNG = 600.0                          # seconds; tokens of this age that are refused are not renewed: it would not help
FIRST_REST, LONGEST_REST = 15.0, 900.0         # seconds without requests, when young tokens are refused; doubled
LOOKED_AT_EVERY = 300.0                # seconds at most between two looks at our own tokens
PATIENCE = 20.0                        # seconds that a refused request waits for other tokens
SOUGHT_EVERY = 60.0                    # seconds at least between two questions where an account has moved

_TOO_YOUNG = "amoCRM refuses tokens that it has only just given: is their user active, and the integration switched on?"

log = structlog.get_logger(__name__)


class OAuthConnection:
    """A `TokenSource`, kept fresh by `run`."""

    def __init__(
        self, integration: Integration, rows: Rows, endpoint: Endpoint, clock: Callable[[], datetime], random: Random,
        counts: RefreshCounts,
    ) -> None:
        self.integration = integration
        self._rows = rows
        self._endpoint = endpoint
        self._clock = clock
        self._random = random
        self._counts = counts
        self.kept = KeptTokens(integration.client, rows, counts)
        self.codes = CodeExchange(integration, self.kept, endpoint, clock, counts)
        self._refused = ""                             # the access token that the CRM refused last
        self._switched_off = False                     # a disconnect hook is to be written down
        self._is_sought = False                        # a page of the account is somewhere else
        self._sought_at = float("-inf")
        self._last_pace = _Pace(0)
        self._watched: tuple[str, int, float] = ("", 0, 0.0)   # somebody's lease, its try, and since when we see it
        self._wake = asyncio.Event()
        self._turn: asyncio.Future[None] | None = None         # what refused requests wait for
        self._stopping = False

    # -- TokenSource

    async def current(self) -> Access:
        if self._is_refused():
            await self._next_turn()
        one = self._usable()
        assert one.tokens is not None, "it is usable"
        return Access(self.base_url(one), one.tokens.access)

    async def refused(self, access: Access) -> Access:
        """The database is asked first: another process may have renewed them."""
        one, now = self.saved, asyncio.get_running_loop().time()
        if one is not None and one.tokens is not None and one.tokens.access == access.token != self._refused:
            if self.kept.came_at is not None and now - self.kept.came_at < YOUNG:
                self._pace.rest_from_requests(now)
                raise CrmUnauthorized(_TOO_YOUNG)
            self._refused = access.token
        return await self.current()

    @property
    def trouble(self) -> str:
        """What no state of the connection tells; "" when nothing."""
        return _TOO_YOUNG if asyncio.get_running_loop().time() < self._pace.rests_until else ""

    def _usable(self) -> Connection:
        """Raises CrmUnauthorized or CrmUnavailable."""
        one, client, now = self.saved, self.integration.client, asyncio.get_running_loop().time()
        if one is None or one.client_id != self.integration.client_id:
            raise CrmUnauthorized(f"{client} is not connected yet: smartswitch crm link --client {client}")
        if one.tokens is None or one.state in (ConnectionState.REFUSED, ConnectionState.DISCONNECTED):
            raise CrmUnauthorized(one.problem or one.state.value)
        if now < self._pace.rests_until:
            raise CrmUnauthorized(_TOO_YOUNG)
        if self._is_refused():
            raise CrmUnavailable("the tokens are refused, and cannot be renewed just now",
                                 max(STORE_REST, self._pace.not_before - now))
        return one

    def _is_refused(self) -> bool:
        """Then no request goes out before there are other tokens."""
        one = self.saved
        return one is not None and one.tokens is not None and one.tokens.access == self._refused

    async def _next_turn(self) -> None:
        if self._turn is None:
            self._turn = asyncio.get_running_loop().create_future()
        self.wake()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.shield(self._turn)

    # -- what others tell

    @property
    def saved(self) -> Connection | None:
        return self.kept.newest

    def base_url(self, one: Connection) -> str:
        """Where the account is: as amoCRM said last, unless the settings have been changed since."""
        return one.base_url if one.applied_url == self.integration.base_url else self.integration.base_url

    def wake(self) -> None:
        """There may be something new in the database."""
        self._wake.set()

    def switched_off(self) -> None:
        """The account's administrator has switched the integration off."""
        self._switched_off = True
        self.wake()

    def seen_elsewhere(self) -> None:
        """A page of the account has shown a token of ours at another address: amoCRM is asked where it is."""
        now = asyncio.get_running_loop().time()
        if now - self._sought_at >= SOUGHT_EVERY:
            self._sought_at, self._is_sought = now, True
            self.wake()

    def stop(self) -> None:
        """`run` returns when a refresh under way is done."""
        self._stopping = True
        self.wake()

    # -- keeping fresh

    async def load(self) -> None:
        """What there is; `run` sees to the rest. Not to have it yet is no reason to wait."""
        try:
            await self.kept.look()
        except StoreUnavailable as error:
            log.warning("CRM tokens wait for the database", client=self.integration.client, why=str(error))

    async def run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            pause = await self._step()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _step(self) -> float:
        """Returns the seconds until the next one."""
        try:
            pause = await self._look()
        except StoreUnavailable as error:
            log.warning("CRM tokens wait for the database", client=self.integration.client, why=str(error))
            pause = STORE_REST
        except Exception:              # the boundary of one client's tokens
            log.exception("CRM tokens: a fault", client=self.integration.client)
            pause = LONGEST_RETRY
        if pause is None:
            return LEASE_LOOK
        if self._turn is not None:
            self._turn.set_result(None)
            self._turn = None
        return pause

    async def _look(self) -> float | None:
        """Seconds until there is something to do; None while another process renews the tokens."""
        if self._switched_off and self.saved is not None:
            self._pace.rest(FIRST_PROBE)
            await self._mark(self.saved, ConnectionState.DISCONNECTED, "the integration was switched off in amoCRM")
        self._switched_off = False
        if not await self.kept.look():
            return STORE_REST
        saved = self.saved
        if saved is None or saved.tokens is None or saved.client_id != self.integration.client_id:
            return LOOKED_AT_EVERY
        if self._is_sought:
            self._is_sought = False
            await self._seek(saved, saved.tokens)
        now = asyncio.get_running_loop().time()
        wait = max(self._due_in(saved, now), self._pace.not_before - now)
        return min(wait, LOOKED_AT_EVERY) if wait > 0 else await self._renew(saved, now)

    async def _seek(self, saved: Connection, tokens: TokenPair) -> None:
        """While requests go through at the old address, no refused one tells that the account has moved."""
        base_url = self.base_url(saved)
        if saved.api_domain is None:
            return
        moved = await self._endpoint.whereabouts(saved.api_domain, tokens.refresh, base_url)
        if moved is not None and moved != base_url:
            log.warning("the account has moved", client=saved.client, to=moved, since=base_url)
            self._counts.moved += 1
            await self._rows.moved(saved, moved)
            await self.kept.look()

    def _due_in(self, saved: Connection, now: float) -> float:
        """Seconds until this pair is to be renewed. Clocks may have jumped: whichever is the first to say so counts."""
        assert saved.tokens is not None, "seen before"
        if saved.state is not ConnectionState.CONNECTED or self._is_refused():
            return 0.0
        life = (saved.tokens.access_until - saved.tokens.obtained_at).total_seconds() * RENEWED_AFTER
        by_the_wall = life - (self._clock() - saved.tokens.obtained_at).total_seconds()
        if self.kept.came_at is None:
            return by_the_wall
        by_the_loop = self.kept.came_at + life - now
        return max(min(by_the_wall, by_the_loop), self.kept.came_at + min(YOUNG, life) - now)

    async def _renew(self, saved: Connection, now: float) -> float | None:
        """Takes the lease and refreshes, unless somebody else does."""
        if saved.lease and self._watched[:2] != (saved.lease, saved.sent):
            self._watched = (saved.lease, saved.sent, now)
        if saved.lease and now - self._watched[2] < LEASE_SECONDS:
            return None
        lease = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(6)}"
        if not await self._rows.lease(saved, lease):
            return None
        held = replace(saved, lease=lease, sent=saved.sent + 1)
        if asyncio.get_running_loop().time() - now > LEASE_SECONDS / 2:
            await self._rows.release(held, lease, unsent=True)         # we have slept: it may be another's meanwhile
            return None
        await self._spend(held)
        return 0.0

    async def _spend(self, held: Connection) -> None:
        assert held.tokens is not None, "what is leased has tokens"
        base_url = self.base_url(held)
        answer = await self._endpoint.refresh(base_url, self.integration, held.tokens.refresh)
        if isinstance(answer, Refused) and held.api_domain is not None:
            moved = await self._endpoint.whereabouts(held.api_domain, held.tokens.refresh, base_url)
            if moved is not None and moved != base_url:
                log.warning("the account has moved", client=held.client, to=moved, since=base_url)
                self._counts.moved += 1
                await self._rows.moved(held, moved)
                answer = await self._endpoint.refresh(moved, self.integration, held.tokens.refresh)
                held = replace(held, base_url=moved, applied_url=self.integration.base_url)
        await self._conclude(held, answer)

    async def _conclude(self, held: Connection, answer: Answer) -> None:
        match answer:
            case Granted():
                self._counts.renewed += 1
                await self.kept.store(self._renewed(held, answer))
                log.info("CRM tokens renewed", client=held.client, generation=held.generation + 1)
            case NotNow(why, seconds):
                self._counts.not_now += 1
                self._pace.rest(max(seconds, self._back_off(FIRST_RETRY, LONGEST_RETRY)))
                log.warning("CRM tokens not renewed: amoCRM is not reached", client=held.client, why=why)
                await self._rows.release(held, held.lease, unsent=True)
            case Lost(why):
                await self._lost(held, why)
            case Refused(why):
                self._counts.refused += 1
                self._pace.rest(self._back_off(FIRST_PROBE, LONGEST_PROBE))
                lost = ", after an answer to a refresh was lost" if held.sent > 1 else ""
                state = ConnectionState.DISCONNECTED if held.state is ConnectionState.DISCONNECTED else (
                    ConnectionState.REFUSED)
                await self._mark(held, state, f"amoCRM refuses to renew the tokens{lost}: {why}")
                await self._rows.release(held, held.lease, unsent=True)        # this try has spent nothing
            case _:
                assert_never(answer)

    async def _lost(self, held: Connection, why: str) -> None:
        """The pair may be dead. One more try soon; then a person is called, and tries are rare."""
        self._counts.lost += 1
        assert held.tokens is not None, "what is leased has tokens"
        log.warning("the answer to a refresh of CRM tokens was lost", client=held.client, tries=held.sent, why=why)
        if held.sent < 2:
            self._pace.rest(LOST_AGAIN)
        else:
            self._pace.rest(self._back_off(FIRST_PROBE, LONGEST_PROBE))
            ended = held.tokens.access == self._refused or self._clock() >= held.tokens.access_until
            if held.state in (ConnectionState.CONNECTED, ConnectionState.UNCERTAIN):
                state = ConnectionState.REFUSED if ended else ConnectionState.UNCERTAIN
                await self._mark(held, state, f"answers to the refresh of its tokens were lost: {why}")
        await self._rows.release(held, held.lease, unsent=False)

    async def _mark(self, one: Connection, state: ConnectionState, problem: str) -> None:
        since = one.since if one.state is state else self._clock()
        if await self._rows.mark(one, state, since, problem) and one.state is not state:
            log.error("a person must see to the CRM", client=one.client, state=state.value, why=problem,
                      remedy=f"smartswitch crm status --client {one.client}")

    def _renewed(self, held: Connection, granted: Granted) -> Connection:
        now = self._clock()
        return replace(
            held, applied_url=self.integration.base_url, base_url=self.base_url(held), tokens=pair_of(granted, now),
            account=granted.account or held.account, api_domain=granted.api_domain or held.api_domain,
            generation=held.generation + 1, sent=0, lease="", state=ConnectionState.CONNECTED, problem="",
            since=held.since if held.state is ConnectionState.CONNECTED else now)

    @property
    def _pace(self) -> _Pace:
        """Of the newest tokens: others begin anew."""
        generation = self.saved.generation if self.saved is not None else 0
        if self._last_pace.generation != generation:
            self._last_pace = _Pace(generation)
        return self._last_pace

    def _back_off(self, first: float, longest: float) -> float:
        return min(first * 2.0 ** min(self._pace.failures, 20), longest) * (1 + self._random.uniform(-JITTER, JITTER))


@dataclass(slots=True)
class _Pace:
    """How often tokens of one generation are tried. Times by the loop's clock."""

    generation: int
    failures: int = 0                  # in a row, of refreshes
    not_before: float = 0.0            # no refresh
    rests_until: float = 0.0           # no request
    next_rest: float = FIRST_REST

    def rest(self, seconds: float) -> None:
        self.failures += 1
        self.not_before = asyncio.get_running_loop().time() + seconds

    def rest_from_requests(self, now: float) -> None:
        self.rests_until, self.next_rest = now + self.next_rest, min(2 * self.next_rest, LONGEST_REST)


assert EXCHANGE_SECONDS * 3 < LEASE_SECONDS / 2
