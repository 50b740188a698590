"""How many calls there may be: the server's, each client's, trunk's and extension's limit, and who counts for which."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from b2bua.cdr import CallId, ClientId
from b2bua.directory import Client, Extension, Trunk


@dataclass(slots=True)
class _Place:
    """What one call counts for: its client, the extension that makes it, and a line of a trunk; a second line, when it
    goes on outside."""

    client: ClientId
    line: str | None
    extension: str | None = None
    second_line: str | None = None


class Capacity:
    """Of the calls that live now. A limit that is reached is a sentence for the call's explanation."""

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls        # of the whole server
        self._places: dict[CallId, _Place] = {}
        self._taken: Counter[object] = Counter()     # by client, (client, trunk), (client, None, extension)

    def __len__(self) -> int:
        return len(self._places)

    def calls_of(self, client: ClientId) -> int:
        return self._taken[client]

    def reached(self, client: Client, trunk: Trunk | None, extension: Extension | None = None) -> str | None:
        """Why one more call of this client, by that trunk or made by that extension, is one too many."""
        if len(self._places) >= self._max_calls:
            return f"the server carries {self._max_calls} calls already (sip.max_calls)"
        if self._taken[client.id] >= client.max_calls:
            return f"{client.id} has {client.max_calls} calls already (max_calls)"
        if extension is not None and self._taken[client.id, None, extension.number] >= extension.max_calls:
            return f"{extension.number} of {client.id} has made {extension.max_calls} calls already (max_calls)"
        return self._full(trunk) if trunk is not None else None

    def enter(self, call: CallId, client: ClientId, trunk: str | None, extension: str | None = None) -> None:
        self._places[call] = _Place(client, trunk, extension)
        self._count(client, +1)
        if extension is not None:
            self._count((client, None, extension), +1)
        self._count_line(client, trunk, +1)

    def leave(self, call: CallId) -> None:
        """It counts no more; nothing, when it has left before."""
        place = self._places.pop(call, None)
        if place is not None:
            self._count(place.client, -1)
            if place.extension is not None:
                self._count((place.client, None, place.extension), -1)
            self._count_line(place.client, place.line, -1)
            self._count_line(place.client, place.second_line, -1)

    def take_line(self, call: CallId, trunk: Trunk, *, urgent: bool = False) -> str | None:
        """From now on the call that goes out counts for this trunk, and for no other; or why the trunk is full.
        `urgent`: the operator may say that, we do not."""
        place = self._places[call]
        self._count_line(place.client, place.line, -1)
        full = None if urgent else self._full(trunk)
        place.line = None if full is not None else trunk.name
        self._count_line(place.client, place.line, +1)
        return full

    def take_second_line(self, call: CallId, trunk: Trunk, *, urgent: bool = False) -> str | None:
        """A call that came by a trunk, or is up, goes outside, and keeps the line that it has."""
        self.leave_second_line(call)
        full = None if urgent else self._full(trunk)
        if full is None:
            self._places[call].second_line = trunk.name
            self._count_line(trunk.client, trunk.name, +1)
        return full

    def leave_second_line(self, call: CallId) -> None:
        """Nothing came of that."""
        place = self._places.get(call)
        if place is not None:
            self._count_line(place.client, place.second_line, -1)
            place.second_line = None

    def _full(self, trunk: Trunk) -> str | None:
        if self._taken[trunk.client, trunk.name] < trunk.max_calls:
            return None
        return f"{trunk.name} carries {trunk.max_calls} calls already (max_calls)"

    def _count_line(self, client: ClientId, trunk: str | None, change: int) -> None:
        if trunk is not None:
            self._count((client, trunk), change)

    def _count(self, key: object, change: int) -> None:
        self._taken[key] += change
        if not self._taken[key]:
            del self._taken[key]
