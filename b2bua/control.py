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


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A call from an address of no trunk and no phone, the last one from there."""

    at: datetime
    source: str
    dialled: str
    why: str                            # which trunk it came nearest to, and why it is not that one's
    done: str                           # "challenge", "refuse", "silence"


@dataclass(frozen=True, slots=True)
class PlannedStep:
    why: str
    does: str                           # "rings 101, 103 together for 30 s"
    onward: tuple[str, ...]             # where the call goes from here when nobody takes it, a sentence for each cause


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would happen to a call now. No steps: it would be refused with `status`, as `refusal` says."""

    direction: Direction
    notes: tuple[str, ...]              # what was found and decided beforehand
    steps: tuple[PlannedStep, ...]
    status: int | None = None
    refusal: str = ""


class Control(Protocol):
    def live_calls(self) -> Sequence[LiveCall]: ...

    def trunk_states(self) -> Sequence[TrunkState]: ...

    def registered_phones(self) -> Sequence[RegisteredPhone]: ...

    def turned_away(self) -> Sequence[TurnedAway]:
        """Calls from unknown addresses, the latest first; a few."""
        ...

    def alarms(self) -> Sequence[str]:
        """What somebody should look at: limits that calls have met within the hour."""
        ...

    def bans(self) -> Sequence[Ban]: ...

    def lift_ban(self, subject: str) -> int:
        """Forgive an address or an account; how many bans that lifted."""
        ...

    async def explain(self, client: ClientId, caller: str, dialled: str) -> Explanation:
        """What would happen to such a call now. Raises LookupError: there is no such client."""
        ...

    def ready(self) -> Sequence[str]:
        """Why the switch should not get calls now; empty when it should."""
        ...

    async def settings_changed(self) -> None:
        """The store has a new directory: load it and swap the snapshot; calls keep theirs."""
        ...
