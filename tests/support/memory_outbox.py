"""An outbox store in memory, by the rules that crm/outbox writes down, whose rows can be looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from b2bua.cdr import ClientId
from b2bua.crm.port import CrmWrite, Delivered, Made, MadeKind
from b2bua.crm.writes import OutboxRow, key_of, keys_behind_card, lane_of, ledger_of, to_json


class State(Enum):
    PENDING = "pending"
    DONE = "done"
    ASIDE = "set aside"
    DROPPED = "dropped"


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
        self.made: dict[tuple[ClientId, str, MadeKind, str], Made] = {}        # the newest last
        self.questions = 0             # how often anything was asked

    def add(self, write: CrmWrite) -> StoredRow:
        for row in self.rows:
            if (row.client, row.key) == (write.client, key_of(write)):
                return row
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
        return [
            OutboxRow(row.id, row.client, row.payload, row.attempts, row.created_at, self.known(row.client, row.lane))
            for row in due
        ]

    def known(self, client: ClientId, lane: str) -> tuple[Made, ...]:
        newest_first = [made for key, made in reversed(self.made.items()) if key[:2] == (client, ledger_of(lane))]
        return tuple(sorted(newest_first, key=lambda made: not made.is_open))

    async def done(self, row: int, delivered: Delivered, now: datetime) -> None:
        ended = self._row(row)
        if ended.state is not State.PENDING:
            return
        ended.state, ended.said = State.DONE, delivered.outcome
        number = ended.client, ledger_of(ended.lane)
        for made in delivered.closed:
            if (key := (*number, made.kind, made.id)) in self.made:
                self.made[key] = replace(self.made[key], is_open=False)
        for made in delivered.made:
            self.made.pop((*number, made.kind, made.id), None)
            self.made[*number, made.kind, made.id] = made
        for write in delivered.then:
            self.add(write)

    async def retry(self, row: int, at: datetime, error: str) -> None:
        if self._row(row).state is State.PENDING:
            self._row(row).due_at, self._row(row).said = at, error

    async def release(self, row: int, at: datetime) -> None:
        if self._row(row).state is State.PENDING:
            self._row(row).due_at, self._row(row).attempts = at, max(0, self._row(row).attempts - 1)

    async def hasten(self, row: int, at: datetime) -> None:
        if self._row(row).state is State.PENDING and self._row(row).attempts == 0:
            self._row(row).due_at = at

    async def hasten_client(self, client: ClientId, at: datetime, after: datetime) -> None:
        for row in self.rows:
            if row.client == client and row.state is State.PENDING and row.due_at > after:
                row.due_at = at

    async def set_aside(self, row: int, error: str, now: datetime) -> None:
        ended = self._row(row)
        if ended.state is not State.PENDING:
            return
        ended.state, ended.said = State.ASIDE, error
        for other in self._behind_card(ended):
            if other.state is State.PENDING and (other.attempts == 0 or other.due_at <= now):
                other.state, other.said = State.ASIDE, _waits_for(row)

    def resend(self, row: int, now: datetime) -> None:
        """A person's word, as is `drop`."""
        again = self._row(row)
        if again.state is State.ASIDE:
            again.state, again.due_at, again.created_at, again.attempts = State.PENDING, now, now, 1
            self._bring_back(again, now)

    def drop(self, row: int, now: datetime) -> None:
        if self._row(row).state is State.ASIDE:
            self._row(row).state = State.DROPPED
            self._bring_back(self._row(row), now)

    def _bring_back(self, card: StoredRow, now: datetime) -> None:
        for other in self._behind_card(card):
            if other.state is State.ASIDE and other.said == _waits_for(card.id):
                other.state, other.due_at, other.created_at = State.PENDING, now, now

    def _behind_card(self, card: StoredRow) -> list[StoredRow]:
        keys = keys_behind_card(card.key)
        return [row for row in self.rows if row.client == card.client and row.key in keys]

    def _row(self, row: int) -> StoredRow:
        return self.rows[row - 1]

    def _heads(self) -> list[StoredRow]:
        heads: dict[tuple[ClientId, str], StoredRow] = {}
        for row in self.rows:
            if row.state is State.PENDING:
                heads.setdefault((row.client, row.lane), row)
        return list(heads.values())


def _waits_for(card: int) -> str:
    return f"waits for its card, row {card}"
