"""A code that a person's consent has made becomes a client's tokens, if it is of the right account."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from b2bua.crm.amocrm.kept import KeptTokens, RefreshCounts
from b2bua.crm.amocrm.oauth import Answer, Granted, Integration, Lost, NotNow
from b2bua.store.engine import StoreUnavailable
from b2bua.store.tokens import Connection, TokenPair

REFRESH_LIFE = timedelta(days=90)      # as amoCRM documents it; its answers do not tell
LOST_AGAIN = 2.0                       # seconds until the one more try after a lost answer
TRIES = 5                              # to store what a code gave, should others store at the same moment

log = structlog.get_logger(__name__)


class Endpoint(Protocol):
    """amoCRM's (oauth.TokenEndpoint)."""

    async def exchange(self, base_url: str, integration: Integration, code: str) -> Answer: ...

    async def refresh(self, base_url: str, integration: Integration, token: str) -> Answer: ...

    async def whereabouts(self, api_domain: str, token: str, known: str) -> str | None: ...


class CodeRefused(Exception):
    """One sentence: why a code did not connect the account."""

    def __init__(self, why: str, *, may_be_good: bool = False) -> None:
        """`may_be_good`: amoCRM has not judged it, so that it may be brought again while it lives."""
        super().__init__(why)
        self.may_be_good = may_be_good


class CodeExchange:
    """One client's, one code at a time: of several good ones the last counts."""

    def __init__(
        self, integration: Integration, kept: KeptTokens, endpoint: Endpoint, clock: Callable[[], datetime],
        counts: RefreshCounts,
    ) -> None:
        self._integration = integration
        self._kept = kept
        self._endpoint = endpoint
        self._clock = clock
        self._counts = counts
        self._lock = asyncio.Lock()

    async def connect(self, code: str, base_url: str) -> Connection:
        """Exchanges the code at that address. Raises CodeRefused, and StoreUnavailable before anything was spent."""
        async with self._lock:
            if not await self._kept.look():
                raise StoreUnavailable("the database does not take tokens")
            granted = await self._exchanged(code, base_url)
            known = self._kept.newest
            is_same = known is not None and (known.client_id, known.applied_url) == (
                self._integration.client_id, self._integration.base_url)
            if is_same and known is not None and None not in (known.account, granted.account) and (
                    known.account != granted.account):
                self._counts.codes_refused += 1
                raise CodeRefused(f"it is a code of account {granted.account}, and {known.client} is account "
                                  f"{known.account}: another account is applied with another base_url first")
            self._counts.codes += 1
            return await self._stored(granted, base_url)

    async def _exchanged(self, code: str, base_url: str) -> Granted:
        answer = await self._endpoint.exchange(base_url, self._integration, code)
        if isinstance(answer, Lost | NotNow):
            await asyncio.sleep(LOST_AGAIN)
            answer = await self._endpoint.exchange(base_url, self._integration, code)
        if isinstance(answer, Granted):
            return answer
        self._counts.codes_refused += 1
        raise CodeRefused(f"amoCRM does not take the code: {answer.why}", may_be_good=isinstance(answer, Lost | NotNow))

    async def _stored(self, granted: Granted, base_url: str) -> Connection:
        """The newest authorisation counts, whatever else was stored meanwhile."""
        one, now = self._integration, self._clock()
        new = Connection(one.client, one.client_id, one.base_url, base_url, granted.account, granted.api_domain,
                         pair_of(granted, now), now)
        for _ in range(TRIES):
            known = self._kept.newest
            new = replace(new, generation=known.generation + 1 if known is not None else 1)
            await self._kept.store(new)
            if self._kept.newest == new:
                break
        log.info("CRM connected", client=new.client, account=new.account, at=base_url)
        return new


def pair_of(granted: Granted, now: datetime) -> TokenPair:
    return TokenPair(granted.access, granted.refresh, now, now + timedelta(seconds=granted.seconds), now + REFRESH_LIFE)
