"""Ring the steps of a plan until somebody answers; a trunk that fails is followed by the next way out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from b2bua.calls.board import Board
from b2bua.calls.bridge import cross
from b2bua.calls.call import CallInProgress
from b2bua.calls.invitation import Invitation
from b2bua.calls.outcomes import Announced, AnsweredBy, Elsewhere, Moved, RingResult, Unanswered, best_of, cause_of
from b2bua.calls.pickup import PicksUp
from b2bua.calls.round import Branch, Round, Waiting
from b2bua.calls.way_out import may_not_go, through
from b2bua.directory import Cause
from b2bua.media.plane import MediaSession, SdpRefused, Side
from b2bua.routing.plan import Announce, DialTrunk, NoRoute, Plan, RingExtensions
from b2bua.sip.effects import Effect
from b2bua.ua.leg import HeaderFields, IncomingLeg, Leg, Wish

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard

MAX_MOVES: Final = 5                       # times that phones may send one call on


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and waits."""

    leg: IncomingLeg
    call: CallInProgress
    media: MediaSession
    board: Board

    def ring(self) -> None:
        self.leg.ring()
        self.board.proceeds(self.leg)

    def suits(self, wish: PicksUp) -> bool:
        if not self.leg.offer:
            return True
        try:
            cross(self.leg.offer, wish.leg.offer, self.media)
        except SdpRefused as refused:
            self.call.note(f"{wish.extension.number} cannot pick up: {refused}")
            return False
        return True

    def early_media(self, branch: Branch, sdp: bytes) -> None:
        if not self.leg.offer:
            return
        try:
            self.leg.early_media(self.media.answer(sdp, Side.CALLEE))
        except SdpRefused as refused:
            self.call.note(f"early media of {branch.leg.name} left out: {refused}")

    def hear(self, leg: Leg, event: Effect | Wish) -> None:
        """The caller wants something before anybody answered."""
        if leg is self.leg:
            leg.put_off(event)

    def goodbye(self) -> HeaderFields:
        return self.leg.end.headers if self.leg.end is not None else ()


async def ring(pbx: Switchboard, plan: Plan, invitation: Invitation, waiting: Waiting) -> RingResult | Announced:
    """Each step in turn; the best failure of the last destination when nobody answered."""
    call = invitation.call
    failures: list[Unanswered] = []
    before: list[Unanswered] = []          # of the destination from which the call has come here
    next_ = 0
    came_by: Cause | None = None
    passed: set[str] = set()               # numbers outside that the limits have let through
    for index, step in enumerate(plan.steps):
        if index < next_:
            continue
        call.note(step.why)
        match step:
            case Announce(sound=sound):
                pbx.tolls.nothing_came_of(call.id, passed)
                return Announced(sound, best_of(failures or before))
            case RingExtensions():
                result = await Round(pbx, invitation, waiting, step.seconds).run(pbx.dialler.phones(step, invitation))
            case DialTrunk():
                last = index in plan.ends or step is plan.steps[-1]
                way = step.after(came_by) if came_by is not None else step
                refused = may_not_go(pbx, call, way, passed)
                result = refused or await through(pbx, way, invitation, waiting, passed, last=last)
        if isinstance(result, AnsweredBy):
            return replace(result, way=step) if isinstance(step, DialTrunk) else result
        if result.moved is not None and (moved := _moved(pbx, call, result.moved)) is not None:
            there = await ring(pbx, moved, invitation, waiting)
            if not isinstance(there, Unanswered):
                return there
            result = there
        failures.append(result)
        call.note(f"{result.disposition.value} ({result.status})")
        at = index
        if isinstance(step, DialTrunk) and result.elsewhere is Elsewhere.NO:
            at = plan.last_way(index)
            next_ = at + 1
        if at in plan.ends:
            onward = plan.onward(at, cause_of(failures))
            if onward is not None:
                call.note(onward.why)
            if onward is None or onward.to is None:
                break
            next_, came_by = onward.to, onward.cause
            before, failures = failures, []
    pbx.tolls.nothing_came_of(call.id, passed)
    return best_of(failures)


def _moved(pbx: Switchboard, call: CallInProgress, moved: Moved) -> Plan | None:
    """Where a phone sends the call, if it may."""
    if call.moves == MAX_MOVES:
        call.note(f"{moved.by.number} sends the call on, and it has been sent on {MAX_MOVES} times already")
        return None
    plan = pbx.plan_moved(moved.by, moved.target)
    if isinstance(plan, NoRoute):
        call.note(plan.why)
        return None
    call.moves += 1
    for note in plan.notes:
        call.note(note)
    return plan
