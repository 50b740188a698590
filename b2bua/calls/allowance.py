"""What may still go outside, against toll fraud: calls in an hour, and what the office allows to each prefix. Pure.

A window of one hour slides by minutes: a call counts for at least an hour, and for less than a minute more.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from b2bua.cdr import CallId, ClientId
from b2bua.directory import Client, Directory, Extension, PrefixLimit

MINUTE: Final = 60.0                       # seconds; of one only the number of its calls is kept
WINDOW: Final = 60                         # minutes


class Limit(Enum):
    """Which limit a call has met; the value is a label of the metrics."""

    CALLS = "calls"                        # at once: the server's, a client's, a trunk's, an extension's
    EXTENSION_PER_HOUR = "extension_per_hour"
    CLIENT_PER_HOUR = "client_per_hour"
    PREFIX_CALLS = "prefix_calls"          # at once
    PREFIX_PER_HOUR = "prefix_per_hour"
    PREFIX_REFUSED = "prefix_refused"


@dataclass(frozen=True, slots=True)
class Refusal:
    """`why` is the same sentence for each call that meets this limit."""

    limit: Limit
    why: str

    @property
    def status(self) -> int:
        return 403 if self.limit is Limit.PREFIX_REFUSED else 503


class Window:
    """How often something happened within the hour. Its size is the hour's, however often that was."""

    __slots__ = ("_minutes", "_total")

    def __init__(self) -> None:
        self._minutes: deque[tuple[int, int]] = deque()      # (minute, times), the oldest first
        self._total = 0

    def count(self, now: float) -> int:
        oldest = int(now // MINUTE) - WINDOW
        while self._minutes and self._minutes[0][0] < oldest:
            self._total -= self._minutes.popleft()[1]
        return self._total

    def add(self, now: float) -> None:
        minute, times = int(now // MINUTE), 0
        if self._minutes and self._minutes[-1][0] == minute:
            times = self._minutes.pop()[1]
        self._minutes.append((minute, times + 1))
        self._total += 1


class Allowance:
    """Counts by what the directory names, and so grows with nothing else; a restart begins anew."""

    def __init__(self) -> None:
        self._windows: dict[Hashable, Window] = {}
        self._at_once: Counter[Hashable] = Counter()
        self._held: dict[CallId, list[tuple[str, Hashable]]] = {}

    def spend(
        self, call: CallId, client: Client, extension: Extension | None, number: str, now: float
    ) -> Refusal | None:
        """The call may go out to that number (E.164 with +, or short), and counts; or why not, and nothing counts."""
        if (refusal := self.refusal(client, extension, number, now)) is not None:
            return refusal
        prefix = limit_of(client, number)
        for key in _hourly(client.id, extension, prefix):
            self._windows.setdefault(key, Window()).add(now)
        if prefix is not None:
            self._at_once[client.id, prefix.prefix] += 1
            self._held.setdefault(call, []).append((number, (client.id, prefix.prefix)))
        return None

    def refusal(self, client: Client, extension: Extension | None, number: str, now: float) -> Refusal | None:
        """Why no call may go out there now."""
        return (
            self._beyond_prefix(client.id, limit_of(client, number), now)
            or self._beyond_hour(client.id, extension, now)
            or self._beyond_client(client, now)
        )

    def give_back(self, call: CallId, number: str) -> None:
        """Nothing came of it: it is no call to that prefix any more. That it was made in this hour stays."""
        held = self._held.get(call, [])
        entry = next((entry for entry in held if entry[0] == number), None)
        if entry is not None:
            held.remove(entry)
            self._release(entry[1])
            if not held:
                del self._held[call]

    def leave(self, call: CallId) -> None:
        """The call is over; nothing, when it has left before."""
        for _, key in self._held.pop(call, ()):
            self._release(key)

    def use(self, directory: Directory) -> None:
        """Forget what is counted for those who are not there any more."""
        known: set[Hashable] = set()
        for client in directory.clients:
            known |= {client.id, *((client.id, limit.prefix) for limit in client.limits)}
        known |= {(extension.client, None, extension.number) for extension in directory.extensions}
        self._windows = {key: window for key, window in self._windows.items() if key in known}

    def _beyond_prefix(self, client: ClientId, prefix: PrefixLimit | None, now: float) -> Refusal | None:
        if prefix is None:
            return None
        key, numbers = (client, prefix.prefix), f"to {prefix.prefix}"
        if prefix.refused:
            return Refusal(Limit.PREFIX_REFUSED, f"{client} allows no calls {numbers} (limit, refused)")
        if prefix.max_calls is not None and self._at_once[key] >= prefix.max_calls:
            return Refusal(Limit.PREFIX_CALLS, f"{client} has {prefix.max_calls} calls {numbers} already "
                                               "(limit, max_calls)")
        if prefix.per_hour is not None and self._counted(key, now) >= prefix.per_hour:
            return Refusal(Limit.PREFIX_PER_HOUR, f"{client} has made {prefix.per_hour} calls {numbers} within the "
                                                  "hour (limit, per_hour)")
        return None

    def _beyond_hour(self, client: ClientId, extension: Extension | None, now: float) -> Refusal | None:
        if extension is None or self._counted((client, None, extension.number), now) < extension.outgoing_per_hour:
            return None
        return Refusal(Limit.EXTENSION_PER_HOUR, f"{extension.number} of {client} has made "
                       f"{extension.outgoing_per_hour} outgoing calls within the hour (outgoing_per_hour)")

    def _beyond_client(self, client: Client, now: float) -> Refusal | None:
        if self._counted(client.id, now) < client.outgoing_per_hour:
            return None
        return Refusal(Limit.CLIENT_PER_HOUR, f"{client.id} has made {client.outgoing_per_hour} outgoing calls "
                                              "within the hour (outgoing_per_hour)")

    def _counted(self, key: Hashable, now: float) -> int:
        window = self._windows.get(key)
        return window.count(now) if window is not None else 0

    def _release(self, key: Hashable) -> None:
        self._at_once[key] -= 1
        if not self._at_once[key]:
            del self._at_once[key]


def limit_of(client: Client, number: str) -> PrefixLimit | None:
    """The longest prefix wins, also where it allows more than a shorter one."""
    found = (limit for limit in client.limits if number.startswith(limit.prefix))
    return max(found, key=lambda limit: len(limit.prefix), default=None)


def _hourly(client: ClientId, extension: Extension | None, prefix: PrefixLimit | None) -> list[Hashable]:
    keys: list[Hashable] = [client]
    if extension is not None:
        keys.append((client, None, extension.number))
    if prefix is not None:
        keys.append((client, prefix.prefix))
    return keys
