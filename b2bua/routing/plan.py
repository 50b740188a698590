"""What a call shall do, as a value: steps, each with the sentence that explains it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from b2bua.cdr import EndReason
from b2bua.directory import Cause, Extension, Trunk


@dataclass(frozen=True, slots=True)
class RingExtensions:
    """Ring all phones of these extensions together for so many seconds."""

    extensions: tuple[Extension, ...]
    seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class Diverted:
    """A call that was to reach this number of ours goes on to the outside. No cause: a phone has asked for that."""

    number: str
    cause: Cause | None


@dataclass(frozen=True, slots=True)
class DialTrunk:
    """Call `number`, in the spelling of that trunk, through it."""

    trunk: Trunk
    number: str
    caller_id: str                         # E.164 with + where that is known
    seconds: float
    why: str
    diverted: Diverted | None = None
    outside: str = ""                      # the number as limits read it, in no trunk's spelling
    by: Extension | None = None            # whose wish it is; None: a number's or a group's

    def after(self, cause: Cause) -> DialTrunk:
        """The same, when that has sent the call on to it."""
        return replace(self, diverted=replace(self.diverted, cause=cause)) if self.diverted is not None else self


@dataclass(frozen=True, slots=True)
class Announce:
    """Nobody rings: the caller hears this sound, and the call is over."""

    sound: str
    why: str


Step = RingExtensions | DialTrunk | Announce


@dataclass(frozen=True, slots=True)
class GoesOn:
    """When nobody took the call where `after` is the last step: to a later step, or (None) nowhere; and why."""

    after: int
    cause: Cause
    to: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps tried one after another until somebody answers, and what was passed over on the way.

    Several destinations may stand in it. From the last step of each (`ends`) a call goes on as `goes_on` says, or ends.
    """

    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    ends: tuple[int, ...] = ()
    goes_on: tuple[GoesOn, ...] = ()
    rounds: tuple[tuple[str, str], ...] = ()   # groups that ring by round, and with whom each begins in this call

    def onward(self, after: int, cause: Cause) -> GoesOn | None:
        return next((one for one in self.goes_on if one.after == after and one.cause is cause), None)

    def last_way(self, index: int) -> int:
        """The last step that dials the same number outside as this one, trunk after trunk."""
        here, last = self.steps[index], index
        for step in self.steps[index + 1:]:
            if last in self.ends or not (isinstance(here, DialTrunk) and isinstance(step, DialTrunk)):
                break
            if step.outside != here.outside:
                break
            last += 1
        return last

    @property
    def outside(self) -> bool:
        """Whether what was dialled is outside; a call to an extension may end up there as well."""
        return not self.ends and any(isinstance(step, DialTrunk) for step in self.steps)


@dataclass(frozen=True, slots=True)
class NoRoute:
    """Nowhere to go: the status for the caller, and why."""

    status: int
    reason: EndReason
    why: str
