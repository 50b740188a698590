"""What the web may ask of, and watch on, a running switchboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from b2bua.cdr import CallId, ClientId, Direction
from b2bua.sip.throttle import Ban


@dataclass(frozen=True, slots=True)
class LiveCall:
    id: CallId
    client: ClientId
    direction: Direction
    caller: str
    dialled: str
    contact: str | None
    extension: str | None
    state: str                          # "routing", "ringing", "talking"
    started_at: datetime
    answered_at: datetime | None


@dataclass(frozen=True, slots=True)
class TrunkState:
    client: ClientId
    name: str
    up: bool
    detail: str                         # "registered for 3540 s", "no answer to OPTIONS", ...


@dataclass(frozen=True, slots=True)
class RegisteredPhone:
    client: ClientId
    extension: str
    contact: str
    user_agent: str
    expires_in: int                     # seconds
    reachability: str = "not asked yet"     # "reachable", "lagged", "unreachable": its answers to OPTIONS


class Control(Protocol):
    def live_calls(self) -> Sequence[LiveCall]: ...

    def trunk_states(self) -> Sequence[TrunkState]: ...

    def registered_phones(self) -> Sequence[RegisteredPhone]: ...

    def alarms(self) -> Sequence[str]:
        """What somebody should look at: limits that calls have met within the hour."""
        ...

    def bans(self) -> Sequence[Ban]: ...

    def lift_ban(self, subject: str) -> int:
        """Forgive an address or an account; how many bans that lifted."""
        ...

    def ready(self) -> Sequence[str]:
        """Why the switch should not get calls now; empty when it should."""
        ...

    async def settings_changed(self) -> None:
        """The store has a new directory: load it and swap the snapshot; calls keep theirs."""
        ...
