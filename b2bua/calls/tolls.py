"""Who goes outside is held against the limits; a limit that is met is an alarm, once in an hour and not once a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from b2bua import numbers
from b2bua.calls.allowance import MINUTE, WINDOW, Allowance, Limit, Refusal
from b2bua.calls.call import CallInProgress
from b2bua.calls.outcomes import Unanswered
from b2bua.cdr import CallId, Disposition, EndReason
from b2bua.directory import Client
from b2bua.routing.plan import DialTrunk

MAX_ALARMS: Final = 1000                   # at once; what is beyond is counted all the same

log = structlog.get_logger(__name__)

_REMEDIES: Final = {
    Limit.CALLS: "if these calls are the office's own, raise the limit in its file and apply it",
    Limit.EXTENSION_PER_HOUR: "look at the calls of this extension; if it did not make them itself, change its "
                              "password, else raise its outgoing_per_hour",
    Limit.CLIENT_PER_HOUR: "look at the client's outgoing calls; change the passwords of extensions that did not make "
                           "theirs, or raise outgoing_per_hour",
    Limit.PREFIX_CALLS: "look who calls there; if the office wants these calls, raise max_calls of this limit",
    Limit.PREFIX_PER_HOUR: "look who calls there; if the office wants these calls, raise per_hour of this limit",
    Limit.PREFIX_REFUSED: "look who calls there: a phone whose password was guessed tries such numbers first",
}


class Alarms:
    """Limits that were met within the hour, each by its sentence."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.met: Counter[str] = Counter({limit.value: 0 for limit in Limit})
        self._now = now
        self._until: dict[str, float] = {}

    def met_by_a_call(self, refusal: Refusal) -> None:
        self.met[refusal.limit.value] += 1
        now = self._now()
        if self._until.get(refusal.why, now) > now:
            return
        self._until = {why: until for why, until in self._until.items() if until > now}
        if len(self._until) < MAX_ALARMS:
            self._until[refusal.why] = now + WINDOW * MINUTE
            log.error("limit reached", why=refusal.why, remedy=_REMEDIES[refusal.limit])

    def in_force(self) -> Sequence[str]:
        now = self._now()
        return [why for why, until in self._until.items() if until > now]


class Tolls:
    """Asked once for each number outside that a call tries, whoever wants that: who dials, transfers or forwards."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.alarms = Alarms(now)
        self.allowance = Allowance()
        self._now = now

    def ask(self, call: CallInProgress, client: Client | None, step: DialTrunk) -> Unanswered | None:
        """None: it may go out. Emergency calls always may, and count for nothing."""
        if client is None or is_emergency(step):
            return None
        refusal = self.allowance.spend(call.id, client, step.by, step.outside, self._now())
        if refusal is None:
            return None
        self.alarms.met_by_a_call(refusal)
        call.note(refusal.why)
        return Unanswered(Disposition.REFUSED, EndReason.LIMIT_REACHED, refusal.status)

    def why_not(self, client: Client, step: DialTrunk) -> str | None:
        """What `ask` would say now; nothing counts, and nobody is alarmed."""
        if is_emergency(step):
            return None
        refusal = self.allowance.refusal(client, step.by, step.outside, self._now())
        return None if refusal is None else refusal.why

    def full(self, why: str) -> str:
        """A limit of calls at once was met."""
        self.alarms.met_by_a_call(Refusal(Limit.CALLS, why))
        return why

    def nothing_came_of(self, call: CallId, tried: set[str]) -> None:
        for number in tried:
            self.allowance.give_back(call, number)


def is_emergency(step: DialTrunk) -> bool:
    return numbers.is_emergency(step.outside, step.trunk.country)
