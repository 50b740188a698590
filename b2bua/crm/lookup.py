"""Who calls: asked of the CRM while a phone waits, so with patience, a memory, and an end to asking when it is ill."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import structlog

from b2bua.cdr import ClientId
from b2bua.crm.memory import Memory, Remembered
from b2bua.crm.port import Contact, Crm, CrmError
from b2bua.numbers import is_anonymous, is_short

PATIENCE = 1.5                         # seconds that a phone waits
HIT_FRESH = 300.0                      # an answer of this age is given without asking
MISS_FRESH = 60.0                      # shorter: somebody may be typing the contact in just now
STALE = 3_600.0                        # up to this age it is given at once, and asked for behind the caller's back
LAST_RESORT = 86_400.0                 # up to this age it is better than no answer
LONGEST_ASK = 20.0                     # how long a question goes on for the memory, when its caller is long gone
QUESTIONS_AT_ONCE = 100                # per client
FAILURES_TO_OPEN = 5                   # the breaker: so many failures in a row ...
REST = 30.0                            # ... and nothing is asked for so long; then one question tries it

log = structlog.get_logger(__name__)

_Key = tuple[ClientId, str]


@dataclass(slots=True)
class LookupCounts:
    """What became of the questions, for the metrics."""

    not_a_caller: int = 0              # internal, short, withheld, or a client without a CRM
    remembered: int = 0
    stale: int = 0
    asked: int = 0                     # questions to the CRM
    shared: int = 0                    # waited for somebody else's question
    late: int = 0                      # the patience ran out
    failed: int = 0
    rested: int = 0                    # not asked: breaker open, or too many questions at once


@dataclass(slots=True)
class _Health:
    """One client's circuit breaker."""

    failures: int = 0
    rests_until: float = 0.0
    questions: int = 0

    def may_ask(self, now: float) -> bool:
        if now < self.rests_until or self.questions >= QUESTIONS_AT_ONCE:
            return False
        if self.failures >= FAILURES_TO_OPEN:
            self.rests_until = now + LONGEST_ASK           # this one question tries it; the others wait for its end
        return True

    def succeeded(self) -> None:
        self.failures, self.rests_until = 0, 0.0

    def failed(self, now: float) -> bool:
        """True when this failure opens the breaker."""
        self.failures += 1
        if self.failures >= FAILURES_TO_OPEN:
            self.rests_until = now + REST
        return self.failures == FAILURES_TO_OPEN


@dataclass(slots=True)
class Lookup:
    """An async context manager: questions that outlive their callers end with it."""

    crm_of: Callable[[ClientId], Crm | None]
    counts: LookupCounts = field(default_factory=LookupCounts)
    memory: Memory = field(default_factory=Memory)
    _questions: dict[_Key, asyncio.Task[Remembered | None]] = field(default_factory=dict)
    _health: dict[ClientId, _Health] = field(default_factory=dict)
    _tasks: asyncio.TaskGroup | None = None

    async def __aenter__(self) -> Lookup:
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks, self._tasks = self._tasks, None
        for question in self._questions.values():
            question.cancel()
        if tasks is not None:          # its own children never fail, so that the block's error passes unwrapped
            await tasks.__aexit__(None, None, None)

    async def find_contact(self, client: ClientId, phone: str, patience: float = PATIENCE) -> Contact | None:
        """The best that is known within the patience. Never raises."""
        crm = self.crm_of(client)
        if crm is None or is_anonymous(phone) or is_short(phone):
            self.counts.not_a_caller += 1
            return None
        now = asyncio.get_running_loop().time()
        known = self.memory.get(client, phone)
        if known is not None and now - known.at > LAST_RESORT:
            known = None
        if known is not None and _is_fresh(known, now):
            self.counts.remembered += 1
            return known.contact
        question = self._question((client, phone), crm, now)
        if known is not None and known.is_sure and now - known.at <= STALE:
            self.counts.stale += 1
            return known.contact
        answer = None if question is None else await self._wait(question, patience)
        best = answer or known
        return best.contact if best is not None else None

    def remembered(self, client: ClientId, phone: str) -> Contact | None:
        """What is known of the number already: nobody is asked, and nobody waits."""
        known = self.memory.get(client, phone)
        if known is None or asyncio.get_running_loop().time() - known.at > LAST_RESORT:
            return None
        return known.contact

    def forget(self, client: ClientId, phone: str) -> None:
        """The CRM changed what it knows of this number."""
        self.memory.forget(client, phone, asyncio.get_running_loop().time())

    def is_resting(self, client: ClientId) -> bool:
        """Whether the CRM is ill, and left in peace."""
        health = self._health.get(client)
        return health is not None and asyncio.get_running_loop().time() < health.rests_until

    async def _wait(self, question: asyncio.Task[Remembered | None], patience: float) -> Remembered | None:
        done, _ = await asyncio.wait({question}, timeout=patience)
        if not done:
            self.counts.late += 1
            return None
        return None if question.cancelled() else question.result()

    def _question(self, key: _Key, crm: Crm, now: float) -> asyncio.Task[Remembered | None] | None:
        """The question in flight for this number, or a new one, or None when the CRM is left in peace."""
        if (question := self._questions.get(key)) is not None:
            self.counts.shared += 1
            return question
        health = self._health.setdefault(key[0], _Health())
        if self._tasks is None or not health.may_ask(now):
            self.counts.rested += 1
            return None
        self.counts.asked += 1
        health.questions += 1
        question = self._questions[key] = self._tasks.create_task(self._ask(key, crm, health))
        question.add_done_callback(lambda _: self._answered(key, health))
        return question

    def _answered(self, key: _Key, health: _Health) -> None:
        del self._questions[key]       # also when it was cancelled before its first step
        health.questions -= 1

    async def _ask(self, key: _Key, crm: Crm, health: _Health) -> Remembered | None:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        try:
            async with asyncio.timeout(LONGEST_ASK):
                contact = await crm.find_contact(key[1])
        except (CrmError, TimeoutError) as error:
            self._failed(key, health, f"{type(error).__name__}: {error}", loop.time())
            return None
        except Exception:              # a CRM adapter's fault is no reason for a phone not to ring
            log.exception("lookup fault", client=key[0])
            self._failed(key, health, "fault", loop.time())
            return None
        health.succeeded()
        self.memory.answer(*key, contact, asked_at)
        return Remembered(contact, asked_at, asked_at, is_sure=True)

    def _failed(self, key: _Key, health: _Health, why: str, now: float) -> None:
        self.counts.failed += 1
        if health.failed(now):
            log.warning("CRM is not asked for a while", client=key[0], why=why, seconds=REST)
        else:
            log.info("lookup failed", client=key[0], why=why)


def _is_fresh(known: Remembered, now: float) -> bool:
    if known.contact is None:
        return now - known.at <= MISS_FRESH
    return known.is_settled and now - known.at <= HIT_FRESH and now - known.read_at <= STALE
