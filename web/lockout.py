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
    def __init__(self, limit: int = MOST_ADDRESSES, free: int | None = None) -> None:
        """`free`: failures that cost nothing, where FREE_FAILURES are too few."""
        self._limit = limit
        self._free = FREE_FAILURES if free is None else free
        self._failures: dict[str, dict[str, _Failures]] = {}      # address, account

    def __len__(self) -> int:
        return len(self._failures)

    def wait(self, address: str, now: float) -> float:
        """Seconds until this address may try again; 0 when it may."""
        failures = self._failures.get(address, {}).values()
        count = sum(one.count for one in failures)
        if count <= self._free:
            return 0.0
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(count - self._free - 1, 20))
        return max(0.0, max(one.last for one in failures) + wait - now)

    def is_slow(self, address: str) -> bool:
        """Whether further failures cost a wait."""
        return sum(one.count for one in self._failures.get(address, {}).values()) > self._free

    def failed(self, address: str, account: str, now: float) -> None:
        """`account`: whose password was tried; "" when there is no such account, or strangers could make this grow."""
        failures = self._failures.pop(address, {})
        if all(now - one.last > FORGIVEN_AFTER for one in failures.values()):
            failures = {}
        tried = failures.setdefault(account, _Failures(0, now))
        tried.count += 1
        tried.last = now
        self._failures[address] = failures             # at the end: the order is that of the last failure
        while len(self._failures) > self._limit:
            del self._failures[next(iter(self._failures))]

    def succeeded(self, address: str, account: str) -> None:
        """Forgives what failed with this account, and no more: one's own password buys no guesses at another's."""
        failures = self._failures.get(address, {})
        failures.pop(account, None)
        if not failures:
            self._failures.pop(address, None)
