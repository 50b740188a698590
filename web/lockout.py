"""How a guesser gets slower: after some wrong passwords each further one costs its address twice the wait."""

from __future__ import annotations

from dataclasses import dataclass

FREE_FAILURES = 4                      # a person mistypes
FIRST_WAIT, LONGEST_WAIT = 2.0, 900.0  # seconds
FORGIVEN_AFTER = 3600.0                # seconds since the last failure
MOST_ADDRESSES = 10_000                # remembered; those that failed longest ago go first


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


class Lockout:
    def __init__(self, limit: int = MOST_ADDRESSES) -> None:
        self._limit = limit
        self._failures: dict[str, _Failures] = {}

    def __len__(self) -> int:
        return len(self._failures)

    def wait(self, address: str, now: float) -> float:
        """Seconds until this address may try again; 0 when it may."""
        failures = self._failures.get(address)
        if failures is None or failures.count <= FREE_FAILURES:
            return 0.0
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures.count - FREE_FAILURES - 1, 20))
        return max(0.0, failures.last + wait - now)

    def failed(self, address: str, now: float) -> None:
        failures = self._failures.pop(address, None)
        if failures is None or now - failures.last > FORGIVEN_AFTER:
            failures = _Failures(0, now)
        failures.count += 1
        failures.last = now
        self._failures[address] = failures             # at the end: the order is that of the last failure
        while len(self._failures) > self._limit:
            del self._failures[next(iter(self._failures))]

    def succeeded(self, address: str) -> None:
        self._failures.pop(address, None)
