"""Failures that the stand-in acts out on demand, by path, count or probability."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from random import Random

MOST_FAULTS = 1_000
LONGEST_DELAY = 3_600.0


class Act(Enum):
    """What becomes of the request after the delay."""

    NOTHING = "nothing"                # it is answered as always
    ANSWER = "answer"                  # with the fault's status and body
    RESET = "reset"                    # the connection is reset
    CUT = "cut"                        # the answer's body stops in the middle
    SILENCE = "silence"                # headers, then nothing


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
    skip: int = 0                      # so many matching requests pass first
    times: int | None = None           # None: until it is cleared
    probability: float = 1.0

    def applies(self, method: str, path: str, random: Random) -> bool:
        """Counts what it looked at, so ask once for each request."""
        if not (fnmatchcase(path, self.path) and fnmatchcase(method, self.method)) or self.times == 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.probability < 1.0 and random.random() >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(slots=True)
class Faults:
    """The first that applies is acted out."""

    random: Random = field(default_factory=lambda: Random(1))   # noqa: S311  (repeatable tests)
    _faults: list[Fault] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        if len(self._faults) >= MOST_FAULTS:
            self._faults.pop(0)
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    def next(self, method: str, path: str) -> Fault | None:
        for fault in self._faults:
            if fault.applies(method, path, self.random):
                return fault
        return None

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._faults))
