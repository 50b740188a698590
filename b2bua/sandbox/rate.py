"""How often the stand-in is asked: by integration and by account, in any sliding second."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

OFFENCE_WINDOW = 60.0
MOST_COUNTED = 10_000                  # integrations, addresses and accounts


@dataclass(slots=True)
class Rate:
    """Requests of the last second, and how often the limit was broken."""

    starts: dict[object, deque[float]] = field(default_factory=dict)
    offences: deque[float] = field(default_factory=deque)
    highest: int = 0                   # requests of one integration (or address) in any sliding second
    highest_of: dict[int, int] = field(default_factory=dict)       # of all integrations, by the account's id
    is_blocked: bool = False

    def count(self, integration: object, account: int, now: float) -> tuple[int, int]:
        """Both in the second that ends now, this request included."""
        by_integration, by_account = self._count(("integration", integration), now), self._count(account, now)
        self.highest = max(self.highest, by_integration)
        self.highest_of[account] = max(self.highest_of.get(account, 0), by_account)
        return by_integration, by_account

    def _count(self, who: object, now: float) -> int:
        if who not in self.starts and len(self.starts) >= MOST_COUNTED:
            self.starts.clear()
        recent = self.starts.setdefault(who, deque())
        while recent and recent[0] <= now - 1.0:
            recent.popleft()
        recent.append(now)
        return len(recent)

    def offend(self, now: float, block_after: int) -> None:
        self.offences.append(now)
        while self.offences[0] <= now - OFFENCE_WINDOW:
            self.offences.popleft()
        self.is_blocked = self.is_blocked or len(self.offences) >= block_after

    def block(self) -> None:
        self.is_blocked = True

    def unblock(self) -> None:
        self.is_blocked = False
        self.offences.clear()

    def forget(self) -> None:
        """A new measurement begins."""
        self.starts.clear()
        self.highest_of.clear()
        self.highest = 0
