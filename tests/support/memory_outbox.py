"""An outbox store in memory, by the rules that crm/outbox writes down, whose rows can be looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from b2bua.cdr import ClientId
from b2bua.crm.port import CrmWrite
from b2bua.crm.writes import OutboxRow, key_of, lane_of, to_json


class State(Enum):
    PENDING = "pending"
    DONE = "done"
    ASIDE = "set aside"


@dataclass
class StoredRow:
    id: int
    client: ClientId
    lane: str
    key: str
    payload: str
    due_at: datetime
    created_at: datetime
    attempts: int = 0
    state: State = State.PENDING
    said: str = ""                     # outcome or last error


class MemoryOutbox:
    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.rows: list[StoredRow] = []
        self.questions = 0             # how often anything was asked

    def add(self, write: CrmWrite) -> StoredRow:
        return self.add_payload(write.client, lane_of(write), key_of(write), to_json(write))

    def add_payload(self, client: ClientId, lane: str, key: str, payload: str) -> StoredRow:
        row = StoredRow(len(self.rows) + 1, client, lane, key, payload, self.clock(), self.clock())
        self.rows.append(row)
        return row

    async def agenda(self) -> Mapping[ClientId, datetime]:
        self.questions += 1
        agenda: dict[ClientId, datetime] = {}
        for row in self._heads():
            agenda[row.client] = min(row.due_at, agenda.get(row.client, row.due_at))
        return agenda

    async def claim(self, client: ClientId, now: datetime, until: datetime, limit: int) -> Sequence[OutboxRow]:
        self.questions += 1
        due = [row for row in self._heads() if row.client == client and row.due_at <= now][:limit]
        for row in due:
            row.attempts, row.due_at = row.attempts + 1, until
        return [OutboxRow(row.id, row.client, row.payload, row.attempts, row.created_at) for row in due]

    async def done(self, row: int, outcome: str) -> None:
        self._row(row).state, self._row(row).said = State.DONE, outcome

    async def retry(self, row: int, at: datetime, error: str) -> None:
        self._row(row).due_at, self._row(row).said = at, error

    async def release(self, row: int, at: datetime) -> None:
        self._row(row).due_at, self._row(row).attempts = at, max(0, self._row(row).attempts - 1)

    async def set_aside(self, row: int, error: str) -> None:
        self._row(row).state, self._row(row).said = State.ASIDE, error

    def _row(self, row: int) -> StoredRow:
        return self.rows[row - 1]

    def _heads(self) -> list[StoredRow]:
        heads: dict[tuple[ClientId, str], StoredRow] = {}
        for row in self.rows:
            if row.state is State.PENDING:
                heads.setdefault((row.client, row.lane), row)
        return list(heads.values())
