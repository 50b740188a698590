"""Reads ahead who has which number, so that no call waits for the CRM: all cards once, then what has changed.

One worker a client, two requests a second at most, behind the calls and the writes. A first pass over 100,000 contacts
takes seventeen minutes, as many companies and deals likewise; nothing is kept for the next start. What the CRM tells by
webhooks is a hint: the card is read.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from random import Random

import structlog

from b2bua.cdr import ClientId
from b2bua.crm.health import SyncState
from b2bua.crm.memory import Memory
from b2bua.crm.people import CARDS_OF_A_PAGE, Hint, Holder, People
from b2bua.crm.port import CrmError, CrmRejected, CrmUnauthorized, CrmUnavailable, EntityKind
from b2bua.directory import CrmAccount, Directory

PACE = 0.5                             # seconds between two requests for one client
NIGHTLY_PACE = 1.0                     # between those of the nightly pass over everything
STEP_SECONDS = 40.0                    # for one request, its turn behind calls and writes included
AT_ONCE = 2                            # requests for all clients together: each page costs the loop a millisecond
NIGHT_HOUR = 0                         # UTC: three in the morning in Moscow
NIGHTLY_WITHIN = timedelta(hours=1)    # so that not all clients begin at once
MOST_PAGES_OF_CHANGES = 100            # more have changed than can be followed: everything is read again
BEHIND_REST = 600.0                    # seconds before that
CARDS_AT_ONCE = 20                     # taken into the memory before calls have their turn: some 0.5 ms
READ_SINGLY = 10                       # cards; when more are said to have changed, the pages of changes cost less
MOST_HINTS = 1_000                     # cards of one client; beyond, they wait for the nightly pass
MOST_UNSETTLED = 1_000                 # numbers of one client; beyond, they are settled behind their first call
FIRST_REST, LONGEST_REST = 15.0, 900.0 # seconds after a failure; doubled while it lasts
UNAUTHORIZED_REST = 900.0              # a person has to act

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class SyncCounts:
    pages: int = 0
    cards: int = 0
    passes: int = 0                    # over everything
    cut: int = 0                       # of these, at the limit of cards
    fell_behind: int = 0               # too many changes to follow
    hints: int = 0
    hints_dropped: int = 0
    settled: int = 0                   # numbers of several cards for which the CRM was asked who counts
    failures: int = 0


@dataclass(slots=True)
class _Pass:
    """Under way: what is left of it. A failed request is repeated, nothing else."""

    began: float
    pace: float = PACE
    kinds: deque[EntityKind] = field(default_factory=lambda: deque(EntityKind))
    page: int = 1
    newest: int = 0                    # of the kind being read, by the CRM's clock
    cut: bool = False

    def next_kind(self) -> None:
        self.kinds.popleft()
        self.page, self.newest = 1, 0


_Job = Callable[["_Worker", People, float], Awaitable[float | None]]


@dataclass(slots=True)
class _Worker:
    client: ClientId
    account: CrmAccount
    jobs: deque[_Job]
    task: asyncio.Task[None] | None = None
    everything: _Pass | None = None
    changes: _Pass | None = None
    known_until: dict[EntityKind, int] = field(default_factory=dict)   # every change before it was read
    everything_due: float = -inf
    changes_due: float = inf
    read: tuple[float, float] | None = None      # when a pass over everything began, and when it ended
    is_partial: bool = False
    is_ill: bool = False
    failures: int = 0
    hints: dict[tuple[EntityKind, int], bool] = field(default_factory=dict)    # -> whether it is said to be gone
    unsettled: dict[str, None] = field(default_factory=dict)
    told: bool | None = None           # whether the CRM tells us its changes; None: not asked yet
    wake: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Sync:
    """`use` the directory, then `run`. `address_of`: where the CRM may tell a client's changes, None when it cannot."""

    memory: Memory
    people_of: Callable[[ClientId], People | None]
    is_resting: Callable[[ClientId], bool]
    address_of: Callable[[ClientId], str | None]
    clock: Callable[[], datetime]
    random: Random
    counts: SyncCounts = field(default_factory=SyncCounts)
    _wanted: dict[ClientId, CrmAccount] = field(default_factory=dict)
    _workers: dict[ClientId, _Worker] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _at_once: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def use(self, directory: Directory) -> None:
        """From now on these clients are read ahead: whose functions need it, and who wants it."""
        self._wanted = {
            client.id: client.crm
            for client in directory.clients
            if client.crm is not None and client.crm.sync and client.crm.functions.wants_to_know_callers
        }
        self._changed.set()

    def changed(self, client: ClientId, hints: Sequence[Hint]) -> None:
        """The CRM says that these cards have changed, or somebody says so in its name. Costs nothing now."""
        worker = self._workers.get(client)
        if worker is None:
            return
        for hint in hints:
            self.counts.hints += 1
            key = hint.kind, hint.card
            if key not in worker.hints and len(worker.hints) >= MOST_HINTS:
                self.counts.hints_dropped += 1
                continue
            worker.hints[key] = hint.is_gone
        worker.wake.set()

    def reconnected(self, client: ClientId) -> None:
        """A person has let us into its CRM again: who could not be read begins anew."""
        worker = self._workers.get(client)
        if worker is not None and worker.is_ill:
            self._end(worker)
            self._changed.set()

    def takes_hints(self, client: ClientId) -> bool:
        worker = self._workers.get(client)
        return worker is not None and worker.account.webhooks

    def states(self) -> Counter[str]:
        return Counter(self._state_of(worker).value for worker in self._workers.values())

    def state_of(self, client: ClientId) -> SyncState | None:
        """None: it is not read ahead."""
        worker = self._workers.get(client)
        return self._state_of(worker) if worker is not None else None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                for client, worker in tuple(self._workers.items()):
                    wanted = self._wanted.get(client)
                    if wanted is None or wanted.base_url != worker.account.base_url:
                        self._end(worker)
                for client, account in self._wanted.items():
                    if client in self._workers:
                        self._workers[client].account = account
                        self._workers[client].wake.set()
                    else:
                        self._begin(client, account, tasks)
                await self._changed.wait()

    def _begin(self, client: ClientId, account: CrmAccount, tasks: asyncio.TaskGroup) -> None:
        jobs: tuple[_Job, ...] = (
            self._be_told, self._read_hints, self._read_changes, self._read_everything, self._settle,
        )
        worker = self._workers[client] = _Worker(client, account, deque(jobs))
        worker.task = tasks.create_task(self._work(worker), name=f"CRM sync of {client}")

    def _end(self, worker: _Worker) -> None:
        """Another account, or none that should be read: what was known of it is worth nothing without its changes."""
        del self._workers[worker.client]
        self.memory.drop(worker.client)
        if worker.task is not None:
            worker.task.cancel()

    async def _work(self, worker: _Worker) -> None:
        while True:
            pause = await self._attempt(worker)
            if pause is not None:
                await asyncio.sleep(pause)
                continue
            due = min(worker.everything_due, worker.changes_due) - _now()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due)):
                    await worker.wake.wait()
            worker.wake.clear()

    async def _attempt(self, worker: _Worker) -> float | None:
        """The boundary of one request. Returns how long to rest; None: until something is due, or told."""
        people = self.people_of(worker.client)
        if people is None or self.is_resting(worker.client):
            return FIRST_REST
        try:
            async with self._at_once, asyncio.timeout(STEP_SECONDS):
                pause = await self._step(worker, people)
        except CrmUnauthorized as error:
            return self._failed(worker, error, UNAUTHORIZED_REST)
        except CrmUnavailable as error:
            return self._failed(worker, error, error.retry_after or 0.0)
        except (CrmError, TimeoutError) as error:
            return self._failed(worker, error, 0.0)
        except Exception as fault:         # of an adapter: the calls go on, and tomorrow it may be well
            log.exception("CRM sync fault", client=worker.client)
            return self._failed(worker, fault, LONGEST_REST)
        if pause is not None:
            worker.is_ill, worker.failures = False, 0
        return pause

    def _failed(self, worker: _Worker, error: Exception, least: float) -> float:
        self.counts.failures += 1
        rest = max(least, min(FIRST_REST * 2.0 ** min(worker.failures, 30), LONGEST_REST))
        worker.failures += 1
        if not worker.is_ill:
            why = f"{type(error).__name__}: {error}"
            log.warning("CRM cannot be read ahead, calls ask it", client=worker.client, why=why, seconds=round(rest))
        worker.is_ill = True
        return rest

    async def _step(self, worker: _Worker, people: People) -> float | None:
        """One request of whichever job has something to do; they take turns."""
        for _ in range(len(worker.jobs)):
            job = worker.jobs[0]
            worker.jobs.rotate(-1)
            if (pause := await job(worker, people, _now())) is not None:
                return pause
        return None

    # -- the jobs: one request each. They return how long to rest after it; None: there is nothing to do

    async def _read_everything(self, worker: _Worker, people: People, now: float) -> float | None:
        if worker.everything is None and now >= worker.everything_due:
            is_first = worker.everything_due == -inf
            worker.everything, worker.everything_due = _Pass(now, PACE if is_first else NIGHTLY_PACE), inf
            if worker.told and not is_first:
                worker.told = None                         # amoCRM may have switched it off
            self.memory.begin(worker.client, now)
        under_way = worker.everything
        if under_way is None:
            return None
        kind = under_way.kinds[0]
        try:
            page = await people.page(kind, under_way.page)
        except CrmRejected as error:
            if kind is EntityKind.CONTACT:
                raise
            log.info("the CRM does not show these cards", client=worker.client, kind=kind.value, why=str(error))
            self._kind_is_read(worker, under_way)
            return under_way.pace
        await self._take(worker, page.holders, now, is_news=False)
        if under_way.page == 1:
            worker.known_until.setdefault(kind, max((holder.updated_at for holder in page.holders), default=0))
        is_last = under_way.page * CARDS_OF_A_PAGE >= worker.account.sync_cards
        under_way.cut |= page.more and is_last
        under_way.page += 1
        if is_last or not page.more:
            self._kind_is_read(worker, under_way)
        return under_way.pace

    def _kind_is_read(self, worker: _Worker, under_way: _Pass) -> None:
        under_way.next_kind()
        if under_way.kinds:
            return
        now = _now()
        self.counts.passes += 1
        worker.everything, worker.everything_due = None, now + self._until_night()
        worker.changes_due = now                           # what changed meanwhile may have been missed
        worker.is_partial = under_way.cut
        worker.read = None if under_way.cut else (under_way.began, now)
        numbers, seconds = self.memory.numbers_of(worker.client), round(now - under_way.began)
        if under_way.cut:
            self.counts.cut += 1
            log.warning("CRM read ahead in part", client=worker.client, numbers=numbers, seconds=seconds,
                        limit=worker.account.sync_cards, remedy="raise sync_cards, or let calls ask for the others")
        else:
            log.info("CRM read ahead", client=worker.client, numbers=numbers, seconds=seconds)

    async def _read_changes(self, worker: _Worker, people: People, now: float) -> float | None:
        """Those that changed last come first, so that the first one known ends it."""
        if worker.changes is None and now >= worker.changes_due:
            worker.changes = _Pass(now, kinds=deque(worker.known_until))
            worker.changes_due = inf
        under_way = worker.changes
        if under_way is None:
            return None
        if not under_way.kinds:
            self._changes_are_read(worker, under_way)
            return None
        kind = under_way.kinds[0]
        page = await people.page(kind, under_way.page)
        known_until = worker.known_until[kind]
        changed = [holder for holder in page.holders if holder.updated_at >= known_until]
        await self._take(worker, changed, now, is_news=True)
        newest = max((holder.updated_at for holder in changed), default=0)
        under_way.newest = max(under_way.newest, newest)
        if page.more and newest > known_until and len(changed) == len(page.holders):
            under_way.page += 1
            if under_way.page > MOST_PAGES_OF_CHANGES:
                self._falls_behind(worker)
        else:
            worker.known_until[kind] = max(known_until, under_way.newest)
            under_way.next_kind()
            if not under_way.kinds:
                self._changes_are_read(worker, under_way)
        return under_way.pace

    def _changes_are_read(self, worker: _Worker, under_way: _Pass) -> None:
        worker.changes, worker.changes_due = None, _now() + worker.account.sync_minutes * 60
        self.memory.caught_up(worker.client, under_way.began)
        if worker.read is not None and under_way.began >= worker.read[1]:
            self.memory.complete(worker.client, worker.read[0])
            worker.read, worker.is_partial = None, not self.memory.is_whole(worker.client)

    def _falls_behind(self, worker: _Worker) -> None:
        self.counts.fell_behind += 1
        log.info("too many changes in the CRM, everything is read again", client=worker.client)
        self.memory.fell_behind(worker.client)
        worker.changes, worker.changes_due = None, inf
        worker.everything, worker.everything_due, worker.read = None, _now() + BEHIND_REST, None
        worker.known_until.clear()

    async def _read_hints(self, worker: _Worker, people: People, now: float) -> float | None:
        if len(worker.hints) > READ_SINGLY and worker.known_until:
            worker.hints = {key: True for key, is_gone in worker.hints.items() if is_gone}
            worker.changes_due = min(worker.changes_due, now)
        if not worker.hints:
            return None
        kind, card = next(iter(worker.hints))
        is_gone = worker.hints[kind, card]
        holder = await people.read(kind, card)
        if worker.hints.get((kind, card)) is is_gone:      # nothing else was said of it meanwhile
            del worker.hints[kind, card]
        if holder is None:
            self.memory.gone(worker.client, kind, card, now)
        else:
            self._unsettled(worker, self.memory.hold(worker.client, holder, now))
        return PACE

    async def _settle(self, worker: _Worker, people: People, now: float) -> float | None:
        if not worker.unsettled or worker.everything is not None or worker.read is not None:
            return None
        phone = next(iter(worker.unsettled))
        contact = await people.find(phone)
        worker.unsettled.pop(phone, None)
        self.memory.answer(worker.client, phone, contact, now)
        self.counts.settled += 1
        return PACE

    async def _be_told(self, worker: _Worker, people: People, now: float) -> float | None:
        address = self.address_of(worker.client)
        wanted = worker.account.webhooks and address is not None
        if address is None or worker.told is wanted or (worker.told is None and not wanted):
            return None
        try:
            await people.subscribe(address, on=wanted)
        except CrmRejected as error:
            log.warning("the CRM does not tell its changes, they are looked for", client=worker.client, why=str(error),
                        minutes=worker.account.sync_minutes, remedy="amoCRM's tariff may have no webhooks")
        worker.told = wanted
        return PACE

    # -- small things

    async def _take(self, worker: _Worker, holders: Sequence[Holder], at: float, *, is_news: bool) -> None:
        self.counts.pages += 1
        self.counts.cards += len(holders)
        for index, holder in enumerate(holders):
            if index % CARDS_AT_ONCE == 0:
                await asyncio.sleep(0)                     # the calls' turn
            self._unsettled(worker, self.memory.hold(worker.client, holder, at, is_news=is_news))

    @staticmethod
    def _unsettled(worker: _Worker, phones: Sequence[str]) -> None:
        for phone in phones:
            if len(worker.unsettled) < MOST_UNSETTLED:
                worker.unsettled[phone] = None

    def _state_of(self, worker: _Worker) -> SyncState:
        if worker.is_ill:
            return SyncState.ILL
        if self.memory.is_whole(worker.client):
            return SyncState.COMPLETE
        return SyncState.PARTIAL if worker.is_partial else SyncState.READING

    def _until_night(self) -> float:
        now = self.clock()
        night = now.replace(hour=NIGHT_HOUR, minute=0, second=0, microsecond=0) + timedelta(days=1)
        return (night - now + self.random.random() * NIGHTLY_WITHIN).total_seconds()


def _now() -> float:
    return asyncio.get_running_loop().time()
