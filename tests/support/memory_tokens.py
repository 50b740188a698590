"""Token rows in memory, by the rules of store/tokens.py, and an endpoint whose refresh tokens are good for once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from random import Random

from b2bua.cdr import ClientId
from b2bua.crm.amocrm.oauth import Answer, Granted, Integration, Lost, NotNow, Refused
from b2bua.store.engine import StoreUnavailable
from b2bua.store.tokens import Connection, ConnectionState, Mark

DAY = 86_400.0


@dataclass
class TokenDatabase:
    """What processes share: the rows, and the spill files of their machine."""

    rows: dict[ClientId, Connection] = field(default_factory=dict)
    files: dict[ClientId, Connection] = field(default_factory=dict)
    is_away: bool = False
    disk_is_full: bool = False
    answers_lost: float = 0.0          # probability that a write is done, and not told
    random: Random = field(default_factory=lambda: Random(1))


@dataclass
class MemoryTokens:
    """One process's view; every method waits, so that it can die there."""

    shared: TokenDatabase

    async def marks(self) -> dict[ClientId, Mark]:
        await self._question()
        return {client: (one.generation, one.state.value, one.base_url) for client, one in self.shared.rows.items()}

    async def get(self, client: ClientId) -> Connection | None:
        await self._question()
        return self.shared.rows.get(client)

    async def lease(self, seen: Connection, lease: str) -> bool:
        await self._question()
        row = self._row(seen)
        if row is None or (row.lease, row.sent) != (seen.lease, seen.sent):
            return False
        self.shared.rows[seen.client] = replace(row, lease=lease, sent=row.sent + 1)
        await self._answer()
        return True

    async def release(self, held: Connection, lease: str, *, unsent: bool) -> None:
        await self._question()
        row = self.shared.rows[held.client]
        if row.lease == lease:
            self.shared.rows[held.client] = replace(row, lease="", sent=row.sent - unsent)
        await self._answer()

    async def keep(self, new: Connection) -> bool:
        await self._question()
        row = self.shared.rows.get(new.client)
        if row is not None and row.generation >= new.generation:
            return False
        self.shared.rows[new.client] = new
        await self._answer()
        return True

    async def moved(self, held: Connection, base_url: str) -> bool:
        await self._question()
        row = self._row(held)
        if row is not None:
            self.shared.rows[held.client] = replace(row, base_url=base_url)
        await self._answer()
        return row is not None

    async def mark(self, one: Connection, state: ConnectionState, since: datetime, problem: str) -> bool:
        await self._question()
        row = self._row(one)
        if row is not None:
            self.shared.rows[one.client] = replace(row, state=state, since=since, problem=problem)
        await self._answer()
        return row is not None

    async def spill(self, new: Connection) -> bool:
        await asyncio.sleep(0.01)
        if self.shared.disk_is_full:
            raise OSError("no space left")
        self.shared.files[new.client] = new
        return True

    async def spilled(self, client: ClientId) -> Connection | None:
        await asyncio.sleep(0)
        return self.shared.files.get(client)

    async def forget_spilled(self, client: ClientId) -> None:
        await asyncio.sleep(0)
        self.shared.files.pop(client, None)

    def _row(self, one: Connection) -> Connection | None:
        row = self.shared.rows.get(one.client)
        return row if row is not None and row.generation == one.generation else None

    async def _question(self) -> None:
        await asyncio.sleep(0.005)
        if self.shared.is_away:
            raise StoreUnavailable("away")

    async def _answer(self) -> None:
        """What is done may be done without the asker's hearing of it."""
        await asyncio.sleep(0.005)
        if self.shared.is_away or self.shared.random.random() < self.shared.answers_lost:
            raise StoreUnavailable("away in the midst")


class Fate(Enum):
    """What becomes of a request to the token endpoint."""

    ANSWERED = "answered"
    NOT_REACHED = "not reached"
    LOST_BEFORE = "lost on the way there"
    LOST_AFTER = "carried out, and the answer lost"
    SLOW = "answered late"


@dataclass
class Spent:
    token: str
    by: str
    at: float
    is_known: bool = False             # whether who sent it learnt what became of it
    is_over: bool = False
    granted: str = ""                  # the refresh token that came of it


@dataclass
class SingleUseEndpoint:
    """amoCRM: one account at `host`, one pair alive at a time; each refresh and each code makes another."""

    host: str = "https://acme.amocrm.ru"
    fate: Callable[[], Fate] = lambda: Fate.ANSWERED
    account: int = 101
    access: str = "access-1"
    refresh_token: str = "refresh-1"
    codes: set[str] = field(default_factory=set)
    spent: list[Spent] = field(default_factory=list)
    seconds: float = DAY
    lookups: int = 0
    is_revoked: bool = False
    on_pair: Callable[[], object] | None = None        # happens once, when the next pair is made
    _pairs: int = 1

    def of(self, process: str) -> EndpointOf:
        return EndpointOf(self, process)

    def pair(self) -> Granted:
        self._pairs += 1
        if self.on_pair is not None:
            self.on_pair()
            self.on_pair = None
        self.access, self.refresh_token = f"access-{self._pairs}", f"refresh-{self._pairs}"
        return Granted(self.access, self.refresh_token, self.seconds, self.account, "api-a.amocrm.ru")

    def accepts(self, access: str, host: str) -> bool:
        return access == self.access and host == self.host and not self.is_revoked


@dataclass
class EndpointOf:
    """The way of one process to it."""

    endpoint: SingleUseEndpoint
    process: str

    async def exchange(self, base_url: str, integration: Integration, code: str) -> Answer:
        def carried_out() -> Answer:
            if base_url != self.endpoint.host or code not in self.endpoint.codes:
                return Refused("400 Authorization code has expired or was used")
            self.endpoint.codes.discard(code)
            self.endpoint.is_revoked = False
            return self.endpoint.pair()
        return await self._asked(f"code {code}", carried_out)

    async def refresh(self, base_url: str, integration: Integration, token: str) -> Answer:
        def carried_out() -> Answer:
            if base_url != self.endpoint.host:
                return Refused("404")
            if token != self.endpoint.refresh_token or self.endpoint.is_revoked:
                return Refused("401 Token has been revoked")
            return self.endpoint.pair()
        return await self._asked(token, carried_out)

    async def whereabouts(self, api_domain: str, token: str, known: str) -> str | None:
        self.endpoint.lookups += 1
        await asyncio.sleep(0.1)
        return self.endpoint.host if token == self.endpoint.refresh_token and not self.endpoint.is_revoked else None

    async def _asked(self, what: str, carried_out: Callable[[], Answer]) -> Answer:
        spent = Spent(what, self.process, asyncio.get_running_loop().time())
        self.endpoint.spent.append(spent)
        fate = self.endpoint.fate()
        try:
            await asyncio.sleep(9.0 if fate is Fate.SLOW else 0.1)
            if fate is Fate.NOT_REACHED:
                spent.is_known = True
                return NotNow("ConnectError")
            if fate is Fate.LOST_BEFORE:
                await asyncio.sleep(5.0)
                return Lost("ReadTimeout")
            answer = carried_out()
            if isinstance(answer, Granted):
                spent.granted = answer.refresh
            await asyncio.sleep(0.1)
            if fate is Fate.LOST_AFTER:
                return Lost("502")
            spent.is_known = True
            return answer
        finally:
            spent.is_over = True
