"""Every request that the stand-in got, and what it said, for tests and people to read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

LENGTH = 10_000                        # requests kept
LONGEST_BODY = 64 * 1024               # octets of each body kept


@dataclass(slots=True)
class JournalEntry:
    at: float                          # by the sandbox's clock
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    status: int = 0                    # 0: no answer was given
    answer: bytes = b""
    warnings: list[str] = field(default_factory=list)      # what a strict reader would not accept
    account: str | None = None         # subdomain, by the Host or the token
    client_id: str | None = None       # whose token it was

    def __str__(self) -> str:
        return f"{self.method} {self.path}{'?' if self.query else ''}{self.query} -> {self.status or 'no answer'}"


class Journal:
    """The last LENGTH requests; `dropped` says how many older ones there were."""

    def __init__(self) -> None:
        self._entries: deque[JournalEntry] = deque(maxlen=LENGTH)
        self.dropped = 0

    def add(self, entry: JournalEntry) -> None:
        if len(self._entries) == LENGTH:
            self.dropped += 1
        self._entries.append(entry)

    def clear(self) -> None:
        self._entries.clear()
        self.dropped = 0

    def __iter__(self) -> Iterator[JournalEntry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def of(
        self, method: str | None = None, path: str = "", account: str | None = None, status: int | None = None
    ) -> list[JournalEntry]:
        """Requests with this method whose path begins so, to this account, that were answered so. None: any."""
        return [
            entry for entry in self
            if method in (None, entry.method) and entry.path.startswith(path)
            and account in (None, entry.account) and status in (None, entry.status)
        ]

    @property
    def warnings(self) -> list[str]:
        return [f"{entry}: {warning}" for entry in self for warning in entry.warnings]
