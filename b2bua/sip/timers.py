"""The timers of RFC 3261 (its table 4) by their letters, and one structure for all deadlines of the stack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush

_SLOTS_PER_SECOND = 16          # a power of two, so that the start of a slot is exact as a float
_HORIZON = 64 * _SLOTS_PER_SECOND


class Timer(Enum):
    """What a transaction may wait for: the letters of RFC 3261 §17 and RFC 6026, and three that have none."""

    A = "INVITE retransmission"
    B = "INVITE time-out"
    D = "wait for repeated INVITE responses"
    E = "request retransmission"
    F = "request time-out"
    G = "INVITE response retransmission"
    H = "wait for the ACK"
    I = "wait for repeated ACKs"                        # noqa: E741 - the RFC's letter
    J = "wait for repeated requests"
    K = "wait for repeated responses"
    L = "wait for repeated INVITEs and ACKs"            # RFC 6026 §7.1
    M = "wait for 2xx of further branches"              # RFC 6026 §7.2
    CANCELLED = "final response to a cancelled INVITE"  # RFC 3261 §9.1
    TRYING = "100 to a slow request"                    # RFC 4320 §4.1
    EXPIRY = "the client has given the request up"      # RFC 4320 §4.2


@dataclass(frozen=True, slots=True)
class Timers:
    """T1, T2, T4 in seconds, and what RFC 3261 derives from them for unreliable transports."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0

    @property
    def timeout(self) -> float:
        """64*T1: timers B, F, H, J, L, M; and D, as we too stop repeating a final response then."""
        return 64 * self.t1

    b = d = f = h = j = l = m = timeout     # noqa: E741 - the RFC's letters

    @property
    def a(self) -> float:
        """T1, the first interval of timers A, E and G."""
        return self.t1

    e = g = a

    @property
    def i(self) -> float:
        """T4: timers I and K."""
        return self.t4

    k = i

    @property
    def trying(self) -> float:
        """When a client's timer E has grown to T2: a request unanswered until then gets a 100 (RFC 4320 §4.1)."""
        elapsed, interval = 0.0, self.t1
        while interval < self.t2:
            elapsed += interval
            interval *= 2
        return elapsed


class Deadline:
    """One armed timer; whoever armed it keeps it, to disarm it."""

    __slots__ = ("armed", "at", "owner", "slot", "timer")

    def __init__(self, at: float, owner: object, timer: Enum) -> None:
        self.at = at
        self.owner = owner
        self.timer = timer
        self.armed = True
        self.slot: dict[Deadline, None] | None = None       # None: among the near ones

    def __repr__(self) -> str:
        return f"Deadline({self.at:.3f}, {self.timer.name}{'' if self.armed else ', disarmed'})"


class Deadlines:
    """All deadlines of the stack; what one costs does not depend on how many there are.

    A timing wheel: far deadlines lie unsorted in slots of 1/16 s, from where disarming really removes them. When
    a slot's time comes, its deadlines move to a small heap that knows the exact order; there a disarmed one stays
    for less than a slot's time. What lies beyond the horizon waits in its last slot and is put further from there.
    """

    __slots__ = ("_armed", "_count", "_near", "_order", "_reached", "_slots")

    def __init__(self) -> None:
        self._slots: dict[int, dict[Deadline, None]] = {}
        self._order: list[int] = []                             # heap of the slots' indexes
        self._near: list[tuple[float, int, Deadline]] = []      # heap; the count keeps equal times in order
        self._reached = -1                                      # slots up to this one have moved to the heap
        self._count = 0
        self._armed = 0

    def __len__(self) -> int:
        return self._armed

    def arm(self, at: float, owner: object, timer: Enum) -> Deadline:
        deadline = Deadline(at, owner, timer)
        self._armed += 1
        self._place(deadline)
        return deadline

    def disarm(self, deadline: Deadline | None) -> None:
        """Nothing happens to one that has fired or was disarmed before."""
        if deadline is None or not deadline.armed:
            return
        deadline.armed = False
        deadline.owner = None
        self._armed -= 1
        if (slot := deadline.slot) is not None:
            del slot[deadline]
            if not slot:
                slot.clear()            # an emptied dict keeps its room otherwise

    @property
    def next(self) -> float | None:
        """When to look for due ones: never late, at times up to a slot's length early."""
        near = self._near
        while near and not near[0][2].armed:
            heappop(near)
        if near:
            return near[0][0]
        order = self._order
        while order and not self._slots[order[0]]:
            del self._slots[heappop(order)]
        return order[0] / _SLOTS_PER_SECOND if order else None

    def due(self, now: float) -> Iterator[Deadline]:
        """Take out what is due, the earliest first; what is disarmed on the way does not come."""
        self._advance(int(now * _SLOTS_PER_SECOND))
        near = self._near
        while near and near[0][0] <= now:
            deadline = heappop(near)[2]
            if deadline.armed:
                deadline.armed = False
                self._armed -= 1
                yield deadline

    def _place(self, deadline: Deadline) -> None:
        index = int(deadline.at * _SLOTS_PER_SECOND)
        reached = self._reached
        if index <= reached:
            self._count += 1
            deadline.slot = None
            heappush(self._near, (deadline.at, self._count, deadline))
            return
        if index > reached + _HORIZON:
            index = reached + _HORIZON
        slot = self._slots.get(index)
        if slot is None:
            slot = self._slots[index] = {}
            heappush(self._order, index)
        slot[deadline] = None
        deadline.slot = slot

    def _advance(self, reached: int) -> None:
        """Move the slots whose time has come to the heap."""
        if reached <= self._reached:
            return
        self._reached = reached
        order = self._order
        while order and order[0] <= reached:
            for deadline in self._slots.pop(heappop(order)):
                self._place(deadline)
