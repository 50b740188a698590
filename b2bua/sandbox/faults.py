"""Failures that the stand-in acts out on demand, by path, method, account, count or probability."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from random import Random

MOST_FAULTS = 1_000
LONGEST_DELAY = 3_600.0
LARGEST_ANSWER = 256 * 1024 * 1024


class Act(Enum):
    """What becomes of the request after the delay."""

    NOTHING = "nothing"                # it is answered as always
    ANSWER = "answer"                  # with the fault's status and body
    REFUSE = "refuse"                  # no connection; on a socket, where there is one already, as RESET
    RESET = "reset"                    # the connection is reset
    CUT = "cut"                        # the answer's body stops in the middle
    SILENCE = "silence"                # headers, then nothing
    BOM = "bom"                        # the right answer, after a byte order mark


@dataclass(slots=True)
class Fault:
    """`committed`: the request is carried out first, so that only its answer is lost."""

    path: str = "*"                    # as a shell would match it
    method: str = "*"
    delay: float = 0.0
    act: Act = Act.NOTHING
    committed: bool = False
    status: int = 503
    body: str | None = None            # default: a problem of that status
    content_type: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    size: int = 0                      # octets to which the body is filled up with blanks
    skip: int = 0                      # so many matching requests pass first
    times: int | None = None           # None: until it is cleared
    every: int = 1                     # of those that are left, each second, third, ...
    probability: float = 1.0
    account: str | None = None         # requests to this subdomain only
    then: Callable[[], None] | None = None     # done after the request: what happens between two of them
    seen: int = 0

    def applies(self, method: str, path: str, account: str | None, random: Random) -> bool:
        """Counts what it looked at, so ask once for each request."""
        if not (fnmatchcase(path, self.path) and fnmatchcase(method, self.method)) or self.times == 0:
            return False
        if self.account not in (None, account):
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.seen - self.skip) % self.every:
            return False
        if self.probability < 1.0 and random.random() >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(slots=True)
class Faults:
    """The first that applies is acted out; the same seed and requests make the same failures."""

    random: Random = field(default_factory=lambda: Random(1))   # noqa: S311  (repeatable tests)
    _faults: list[Fault] = field(default_factory=list)

    def add(self, *faults: Fault) -> None:
        self._faults = (self._faults + list(faults))[-MOST_FAULTS:]

    def clear(self) -> None:
        self._faults.clear()

    def seed(self, number: int) -> None:
        self.random.seed(number)

    def next(self, method: str, path: str, account: str | None = None) -> Fault | None:
        for fault in self._faults:
            if fault.applies(method, path, account, self.random):
                return fault
        return None

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._faults))
