"""Delivers what the CRM must learn, at least once and in order per number, however long the CRM is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from random import Random
from typing import Protocol, assert_never

import structlog

from b2bua.cdr import ClientId
from b2bua.crm.port import (
    CallNote,
    Crm,
    CrmNoCard,
    CrmRejected,
    CrmShut,
    CrmUnauthorized,
    CrmUnavailable,
    CrmWrite,
    Delivered,
    MadeKind,
    RecordingLink,
)
from b2bua.crm.writes import OutboxRow, UnreadableWrite, from_json
from b2bua.store.engine import StoreUnavailable

FIRST_RETRY, LONGEST_RETRY = 2.0, 900.0        # seconds, doubled each time
JITTER = 0.25                          # of the delay, so that what failed together does not come back together
GIVE_UP_AFTER = timedelta(hours=72)
LEAST_ATTEMPTS = 12                    # about an hour of them: the time may have passed while we were not running
UNAUTHORIZED_RETRY = 900.0             # a person has to act: rarely, and for longer
PERSON_GIVE_UP_AFTER = timedelta(days=30)
MOST_FAULTS = 10                       # attempts that a write gets which our own code stumbles over
LONGEST_REST = 60.0                    # of a client whose CRM is ill, unless the CRM asks for more
DELIVERY_SECONDS = 90.0                # one delivery, waiting at the account's gate included
LEASE = timedelta(seconds=DELIVERY_SECONDS + 30)
AT_ONCE = 2                            # rows of one client
SWEEP_SECONDS = 30.0                   # rows that other processes stored are found after this time
STORE_REST = 5.0                       # the database does not answer
RECORDING_CAP = timedelta(minutes=10)  # after this a call is told without its recording ...
LINK_CAP = timedelta(hours=72)         # ... whose link is added when it comes within this
RECORDING_RECHECK, LONGEST_RECHECK = 30.0, 3_600.0     # should nobody say that it is finished; rarer with its age
MOST_AWAITED = 10_000                  # recordings whose end wakes their row; beyond, the recheck finds them
LONGEST_ERROR = 500                    # characters kept

log = structlog.get_logger(__name__)


class RecordingState(Enum):
    READY = "ready"
    PENDING = "pending"
    NEVER = "never"                    # there is no such recording, and none will come


class OutboxStore(Protocol):
    """Rows are *pending* until `done` or `set_aside`. The head of a lane is its pending row with the lowest id;
    only heads are seen by `agenda` and `claim`. All times are aware UTC."""

    async def agenda(self) -> Mapping[ClientId, datetime]:
        """For each client with pending rows: when to look for heads that are due, or a little earlier."""
        ...

    async def claim(self, client: ClientId, now: datetime, until: datetime, limit: int) -> Sequence[OutboxRow]:
        """Heads of this client's lanes that are due at `now`, oldest first, with what is remembered of their numbers.
        Each is counted (attempts + 1) and made due at `until`, in one transaction: no other process sees it before
        then, and if we die it comes back."""
        ...

    async def done(self, row: int, delivered: Delivered, now: datetime) -> None:
        """Its outcome, what was made and closed, and what is owed from now on: all or nothing. Says nothing when
        another has ended the row meanwhile."""
        ...

    async def retry(self, row: int, at: datetime, error: str) -> None:
        """Due again at `at`; the error is kept for people to read."""
        ...

    async def release(self, row: int, at: datetime) -> None:
        """Due again at `at` as if this claim had not been: attempts - 1."""
        ...

    async def hasten(self, row: int, at: datetime) -> None:
        """Due at `at`, unless it was claimed and not released: it is on its way, or was tried."""
        ...

    async def hasten_client(self, client: ClientId, at: datetime, after: datetime) -> None:
        """What is pending for this client, and due later than `after`, is due at `at`."""
        ...

    async def set_aside(self, row: int, error: str, now: datetime) -> None:
        """Not pending any more: a person decides."""
        ...


@dataclass(slots=True)
class OutboxCounts:
    delivered: int = 0
    without_card: int = 0
    retried: int = 0
    set_aside: int = 0
    faults: int = 0


@dataclass(frozen=True, slots=True)
class Illness:
    """Why a client's writes wait."""

    why: str
    since: datetime
    needs_a_person: bool


@dataclass(frozen=True, slots=True)
class _Done:
    delivered: Delivered


@dataclass(frozen=True, slots=True)
class _NotYet:
    """Nothing was tried: its recording is not there."""

    at: datetime


@dataclass(frozen=True, slots=True)
class _Later:
    seconds: float
    why: str
    give_up_after: timedelta = GIVE_UP_AFTER


@dataclass(frozen=True, slots=True)
class _Never:
    why: str


_Result = _Done | _NotYet | _Later | _Never


@dataclass(slots=True)
class Outbox:
    """One worker per client with something due, so that no client waits for another's CRM."""

    store: OutboxStore
    crm_of: Callable[[ClientId], Crm | None]
    clock: Callable[[], datetime]
    recording: Callable[[str], Awaitable[RecordingState]]
    card_made: Callable[[ClientId, str], None] = lambda client, phone: None    # whoever had this number was nobody
    random: Random = field(default_factory=Random)
    counts: OutboxCounts = field(default_factory=OutboxCounts)
    ill: dict[ClientId, Illness] = field(default_factory=dict)
    _rests_until: dict[ClientId, datetime] = field(default_factory=dict)
    _failures: dict[ClientId, int] = field(default_factory=dict)
    _working: set[ClientId] = field(default_factory=set)
    _awaited: dict[str, int] = field(default_factory=dict)     # recording -> the row that waits for it
    _in_hand: set[int] = field(default_factory=set)            # rows that are being delivered
    _finished_in_hand: set[int] = field(default_factory=set)   # of these, whose recording came meanwhile
    _reconnected: set[ClientId] = field(default_factory=set)
    _finished: list[int] = field(default_factory=list)         # rows whose recording came
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: bool = False

    def wake(self) -> None:
        """There are new rows."""
        self._wake.set()

    def reconnected(self, client: ClientId) -> None:
        """A person has let us into its CRM again: what waits for that waits no longer."""
        self._reconnected.add(client)
        self._wake.set()

    def recording_finished(self, recording: str) -> None:
        row = self._awaited.pop(recording, None)
        if row is None:
            return
        if row in self._in_hand:       # it may have looked already: it is hastened when it is written down
            self._finished_in_hand.add(row)
        else:
            self._finished.append(row)
            self._wake.set()

    def stop(self) -> None:
        """`run` returns when the deliveries under way are done."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while not self._stopping:
                self._wake.clear()
                pause = await self._start_workers(tasks)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()

    async def _start_workers(self, tasks: asyncio.TaskGroup) -> float:
        """Returns the seconds until there is something to do."""
        try:
            while self._finished:
                await self.store.hasten(self._finished[-1], self.clock())
                self._finished.pop()
            while self._reconnected:
                await self._hasten(next(iter(self._reconnected)))
            agenda = await self.store.agenda()
        except StoreUnavailable as error:
            log.warning("outbox waits for the database", why=str(error))
            return STORE_REST
        except Exception:              # a fault of the store must not end the deliveries of tomorrow
            log.exception("outbox store fault")
            return STORE_REST
        now = self.clock()
        pause = SWEEP_SECONDS
        for client, due in agenda.items():
            due = max(due, self._rests_until.get(client, due))
            if client in self._working:
                continue               # its worker wakes us when it leaves
            if due <= now:
                self._working.add(client)
                tasks.create_task(self._work(client))
            else:
                pause = min(pause, (due - now).total_seconds())
        return pause

    async def _hasten(self, client: ClientId) -> None:
        """Rows under way are due before their lease ends, so that none of them is taken for one that waits."""
        now = self.clock()
        await self.store.hasten_client(client, now, now + LEASE)
        self._is_well(client)
        self._reconnected.discard(client)

    async def _work(self, client: ClientId) -> None:
        """Delivers what is due for this client, until nothing is, or its CRM is ill."""
        try:
            while not self._stopping and not self._is_resting(client):
                now = self.clock()
                rows = await self.store.claim(client, now, now + LEASE, AT_ONCE)
                if not rows:           # another process has them
                    self._rest(client, 1.0)
                    break
                async with asyncio.TaskGroup() as deliveries:
                    for row in rows:
                        deliveries.create_task(self._deliver(row))
        except StoreUnavailable as error:
            log.warning("outbox waits for the database", client=client, why=str(error))
            self._rest(client, STORE_REST)
        except Exception:              # the store's: deliveries have their own boundary
            log.exception("outbox store fault", client=client)
            self._rest(client, STORE_REST)
        finally:
            self._working.discard(client)
            self._wake.set()

    async def _deliver(self, row: OutboxRow) -> None:
        """One row's boundary: whatever happens to it is written down, and the others go on."""
        self._in_hand.add(row.id)
        try:
            await self._write_down(row, await self._attempt(row))
        except Exception as fault:     # our own, or the store's; should that be away, the row comes back by its lease
            log.exception("outbox delivery fault", client=row.client, row=row.id)
            self.counts.faults += 1
            why = f"fault: {type(fault).__name__}: {fault}"
            result = _Never(why) if row.attempts >= MOST_FAULTS else _Later(self._back_off(row), why)
            with suppress(Exception):  # the first fault is logged, and says more than this one
                await self._write_down(row, result)
        finally:
            self._in_hand.discard(row.id)
            if row.id in self._finished_in_hand:
                self._finished_in_hand.discard(row.id)
                self._finished.append(row.id)
                self._wake.set()

    async def _write_down(self, row: OutboxRow, result: _Result) -> None:
        match result:
            case _Done(delivered):
                await self.store.done(row.id, delivered, self.clock())
            case _NotYet(at):
                await self.store.release(row.id, at)
            case _Later(seconds, why, give_up_after):
                now = self.clock()
                if now - row.created_at > give_up_after and row.attempts >= LEAST_ATTEMPTS:
                    await self._set_aside(row, f"given up after {row.attempts} attempts: {why}")
                    return
                self.counts.retried += 1
                log.info("CRM write put off", client=row.client, row=row.id, seconds=round(seconds, 1), why=why)
                await self.store.retry(row.id, now + timedelta(seconds=seconds), why[:LONGEST_ERROR])
            case _Never(why):
                await self._set_aside(row, why)
            case _:
                assert_never(result)

    async def _attempt(self, row: OutboxRow) -> _Result:
        try:
            write = from_json(row.payload)
        except UnreadableWrite as error:
            return _Never(f"unreadable: {error}")
        crm = self.crm_of(row.client)
        if crm is None:
            self._is_well(row.client)
            return _Never("the client has no CRM any more")
        match write:
            case CallNote(recording=str(recording)):
                return await self._tell_with_recording(crm, row, write, recording)
            case RecordingLink(recording=str(recording)):
                return await self._add_recording(crm, row, write, recording)
            case _:
                return await self._tell(crm, row, write)

    async def _tell_with_recording(self, crm: Crm, row: OutboxRow, note: CallNote, recording: str) -> _Result:
        """The call waits some minutes for its recording; told without, it is owed the link."""
        match await self._recording(row, recording, RECORDING_CAP):
            case _NotYet() as later:
                return later
            case RecordingState.READY:
                return await self._tell(crm, row, note)
            case state:
                log.warning("call is told without its recording", client=row.client, call=note.call, state=state.value)
        told = await self._tell(crm, row, replace(note, recording=None))
        if state is RecordingState.PENDING and isinstance(told, _Done) and _has_note(told.delivered):
            link = RecordingLink(note.call, note.client, note.phone, note.started_at, recording)
            return _Done(replace(told.delivered, then=(*told.delivered.then, link)))
        return told

    async def _add_recording(self, crm: Crm, row: OutboxRow, link: RecordingLink, recording: str) -> _Result:
        match await self._recording(row, recording, LINK_CAP):
            case _NotYet() as later:
                return later
            case RecordingState.READY:
                return await self._tell(crm, row, link)
            case _:
                return _Done(Delivered("no recording came"))

    async def _recording(self, row: OutboxRow, recording: str, cap: timedelta) -> RecordingState | _NotYet:
        """Its state, or when to look again; PENDING: it has not come in time."""
        if len(self._awaited) < MOST_AWAITED:
            self._awaited[recording] = row.id              # before asking, so that its end cannot be missed
        state = await self.recording(recording)
        now, until = self.clock(), row.created_at + cap
        if state is RecordingState.PENDING and now < until:
            pause = max(RECORDING_RECHECK, min((now - row.created_at).total_seconds() / 10, LONGEST_RECHECK))
            return _NotYet(min(now + timedelta(seconds=pause), until))
        self._awaited.pop(recording, None)
        self._finished_in_hand.discard(row.id)                 # it has seen that
        return state

    async def _tell(self, crm: Crm, row: OutboxRow, write: CrmWrite) -> _Result:
        """What the CRM's answer means for this row, and for its client's other rows."""
        try:
            async with asyncio.timeout(DELIVERY_SECONDS):
                delivered = await crm.deliver(write, row.known, repeated=row.attempts > 1)
        except CrmNoCard:
            self._is_well(row.client)
            self.counts.without_card += 1
            delivered = Delivered("no card")
        except CrmRejected as error:
            self._is_well(row.client)
            return _Never(str(error))
        except CrmUnauthorized as error:
            log.error("a person must reconnect the CRM", client=row.client, why=str(error))
            self._is_ill(row.client, str(error), UNAUTHORIZED_RETRY, needs_a_person=True)
            return _Later(UNAUTHORIZED_RETRY, str(error), PERSON_GIVE_UP_AFTER)
        except (CrmUnavailable, TimeoutError) as error:
            why = f"{type(error).__name__}: {error}"
            asked = error.retry_after or 0.0 if isinstance(error, CrmUnavailable) else 0.0
            is_shut = isinstance(error, CrmShut)
            self._is_ill(row.client, str(error) if is_shut else why, asked, needs_a_person=is_shut)
            return _Later(max(self._back_off(row), asked), why, PERSON_GIVE_UP_AFTER if is_shut else GIVE_UP_AFTER)
        else:
            self._is_well(row.client)
            self.counts.delivered += 1
        if any(made.kind is MadeKind.CONTACT for made in delivered.made):
            self.card_made(write.client, write.phone)
        log.info("CRM write done", client=row.client, call=write.call, outcome=delivered.outcome, attempts=row.attempts)
        return _Done(delivered)

    def _back_off(self, row: OutboxRow) -> float:
        delay = min(FIRST_RETRY * 2.0 ** min(row.attempts - 1, 30), LONGEST_RETRY)
        return delay * (1 + self.random.uniform(-JITTER, JITTER))

    async def _set_aside(self, row: OutboxRow, why: str) -> None:
        self.counts.set_aside += 1
        log.error("CRM write set aside", client=row.client, row=row.id, why=why)
        await self.store.set_aside(row.id, why[:LONGEST_ERROR], self.clock())

    def _is_ill(self, client: ClientId, why: str, least: float, *, needs_a_person: bool) -> None:
        """Its other rows would meet the same: they rest, though less long than a row that failed often."""
        since = self.ill[client].since if client in self.ill else self.clock()
        self.ill[client] = Illness(why, since, needs_a_person)
        failures = self._failures[client] = self._failures.get(client, 0) + 1
        self._rest(client, max(least, min(FIRST_RETRY * 2.0 ** min(failures - 1, 30), LONGEST_REST)))

    def _is_well(self, client: ClientId) -> None:
        self._failures.pop(client, None)
        self._rests_until.pop(client, None)
        self.ill.pop(client, None)

    def _is_resting(self, client: ClientId) -> bool:
        return client in self._rests_until and self.clock() < self._rests_until[client]

    def _rest(self, client: ClientId, seconds: float) -> None:
        self._rests_until[client] = self.clock() + timedelta(seconds=seconds)


def _has_note(delivered: Delivered) -> bool:
    return any(made.kind is MadeKind.NOTE for made in delivered.made)
