"""How a client's CRM is, for people: by which way it is entered and for how long, when it last answered, what is known
of its cards."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from b2bua.cdr import ClientId


class SyncState(Enum):
    """How far a client's CRM is read ahead."""

    READING = "reading"                # the first pass is not through
    COMPLETE = "complete"              # who is not known is nobody
    PARTIAL = "partial"                # there are more cards than may be read
    ILL = "ill"                        # the CRM does not let us read, or not now


@dataclass(frozen=True, slots=True)
class Status:
    """How one client's account is entered. `remedy` is "" when nobody has to do anything."""

    client: ClientId
    way: str                           # "OAuth", "long-lived token"
    state: str                         # "connected", "not connected", ...
    since: datetime | None = None
    until: datetime | None = None      # when it ends if nobody, and nothing, does anything
    problem: str = ""
    remedy: str = ""

    @property
    def is_connected(self) -> bool:
        return self.state == "connected"

    @property
    def alarm(self) -> str:
        problem = f" ({self.problem})" if self.problem else ""
        return f"CRM of {self.client}: {self.state}{problem}: {self.remedy}" if self.remedy else ""


@dataclass(slots=True)
class Traffic:
    """Of one account, since the process began; by the loop's clock."""

    answered_at: float | None = None
    failed_at: float | None = None
    failure: str = ""                  # of the last request that failed


@dataclass(frozen=True, slots=True)
class CrmHealth:
    status: Status
    answered_ago: float | None         # seconds; None: not since the process began
    failure: str                       # of the last request, when it has failed
    numbers: int                       # that are known ahead of calls
    sync: SyncState | None             # None: nothing is read ahead
    code_trouble: str                  # why the last code that somebody brought did not connect it


def health_of(status: Status, traffic: Traffic | None, now: float, *, numbers: int, sync: SyncState | None,
              code_trouble: str) -> CrmHealth:
    traffic = traffic or Traffic()
    answered, failed = traffic.answered_at, traffic.failed_at
    is_down = failed is not None and (answered is None or failed > answered)
    return CrmHealth(status, now - answered if answered is not None else None, traffic.failure if is_down else "",
                     numbers, sync, code_trouble)
