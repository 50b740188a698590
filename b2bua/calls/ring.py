"""Ring the steps of a plan until somebody answers; the losers are cancelled, and a trunk that fails is followed by the
next way out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from b2bua.calls.board import NOBODY, Board
from b2bua.calls.bridge import cross
from b2bua.calls.call import CallInProgress
from b2bua.calls.invitation import Invitation
from b2bua.calls.outcomes import (
    Announced,
    AnsweredBy,
    Elsewhere,
    Moved,
    RingResult,
    Unanswered,
    best_of,
    cause_of,
    no_response,
    no_way,
    nobody_answered,
    not_carried,
    unanswered,
)
from b2bua.calls.pickup import PicksUp
from b2bua.calls.redirection import MAX_REDIRECTIONS, contacts_of, first_place, place_of
from b2bua.calls.tolls import is_emergency
from b2bua.cdr import Direction, EndReason
from b2bua.directory import Cause, Extension
from b2bua.media.plane import MediaSession, SdpRefused, Side
from b2bua.routing.dialplan import Announce, DialTrunk, NoRoute, Plan, RingExtensions
from b2bua.sip.effects import Answered, Effect, Ended, Flow, Provisional, Rejected
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Response
from b2bua.sip.offer_answer import sdp_of
from b2bua.sip.reasons import COMPLETED_ELSEWHERE, in_words, reasons_of
from b2bua.ua.leg import HeaderFields, IncomingLeg, Leg, OutgoingLeg, Wish

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard

# How long an INVITE may go without any response, even a 100, while another way out is left. Sent again after 0.5, 1.5
# and 3.5 s it has been lost four times by then, or nobody is there; timer B would let the caller wait for 32 s.
SIGN_OF_LIFE: Final = 5.0
MAX_TARGETS: Final = 4                     # servers of one trunk that one call tries
MAX_PREVIEWS: Final = 64                   # answers in 18x that are kept for a 2xx without one
MAX_MOVES: Final = 5                       # times that phones may send one call on


@dataclass(frozen=True, slots=True)
class Branch:
    """One phone or trunk that is being called."""

    leg: OutgoingLeg
    extension: Extension | None            # None: the outside


class Waiting(Protocol):
    """Whoever waits while it rings: a caller, or those who are in a transfer."""

    def ring(self) -> None: ...

    def early_media(self, branch: Branch, sdp: bytes) -> None: ...

    def suits(self, wish: PicksUp) -> bool:
        """Whether whoever picks up has a codec in common with who waits."""
        ...

    def hear(self, leg: Leg, event: Effect | Wish) -> None:
        """What happens on the other legs of the call."""
        ...

    def goodbye(self) -> HeaderFields:
        """Why whoever waits has left, as far as that was said: for who still rings then (RFC 3326)."""
        ...


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
                result = await _Round(pbx, invitation, waiting, step.seconds).run(pbx.dialler.phones(step, invitation))
            case DialTrunk():
                last = index in plan.ends or step is plan.steps[-1]
                way = step.after(came_by) if came_by is not None else step
                refused = _may_not_go(pbx, call, way, passed)
                result = refused or await _through(pbx, way, invitation, waiting, passed, last=last)
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


def _may_not_go(pbx: Switchboard, call: CallInProgress, way: DialTrunk, passed: set[str]) -> Unanswered | None:
    """What the limits say to it, once for each number."""
    refused = pbx.may_go_outside(call, way) if way.outside not in passed else None
    if refused is None:
        passed.add(way.outside)
    return refused


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


async def _through(
    pbx: Switchboard, step: DialTrunk, invitation: Invitation, waiting: Waiting, passed: set[str], *, last: bool
) -> RingResult:
    """Out by one trunk, while it has a line free; one that was taken for nothing is given back."""
    call, capacity = invitation.call, pbx.capacity
    goes_on = call.answered_at is not None or call.direction is not Direction.OUTBOUND     # and keeps the line it has
    take = capacity.take_second_line if goes_on else capacity.take_line
    full = take(call.id, step.trunk, urgent=is_emergency(step))
    if full is not None:
        call.note(pbx.tolls.full(full))
        return no_way(EndReason.LIMIT_REACHED)
    result = await _by_its_servers(pbx, step, invitation, waiting, passed, last=last)
    if goes_on and not isinstance(result, AnsweredBy):
        capacity.leave_second_line(call.id)
    return result


async def _by_its_servers(
    pbx: Switchboard, step: DialTrunk, invitation: Invitation, waiting: Waiting, passed: set[str], *, last: bool
) -> RingResult:
    """The trunk's servers in turn, while they give no answer or a 503 (RFC 3263 §4.3)."""
    call = invitation.call
    ways: list[Flow] = pbx.dialler.ways_out(step.trunk)[:MAX_TARGETS]
    if not ways:
        call.note(f"{step.trunk.name} is not reachable now: {pbx.dialler.problem_of(step.trunk)}")
        return no_way(EndReason.NOTHING_TO_RING)
    result: RingResult = no_response()
    for flow in ways:
        patience = None if last and flow is ways[-1] else SIGN_OF_LIFE
        round_ = _Round(pbx, invitation, waiting, step.seconds, patience)
        result = await round_.run(pbx.dialler.trunk(step, flow, invitation))
        if isinstance(result, Unanswered) and result.contacts:
            return await _redirected(pbx, step, flow, invitation, waiting, result, passed, last=last)
        if isinstance(result, AnsweredBy) or result.elsewhere is not Elsewhere.TARGET:
            return result
        pbx.dialler.failed(step.trunk, flow)
        if flow is not ways[-1]:
            call.note(f"{step.trunk.name} has another server than {flow.remote.host}")
    pbx.dialler.doubt(step.trunk)
    return result


async def _redirected(
    pbx: Switchboard, step: DialTrunk, flow: Flow, invitation: Invitation, waiting: Waiting, first: Unanswered,
    passed: set[str], *, last: bool,
) -> RingResult:
    """Where the trunk sends the call instead, place by place (RFC 3261 §8.1.3.4). A place that refuses is followed by
    the next, but not one that has rung, nor one that speaks for all (6xx)."""
    call, trunk = invitation.call, step.trunk
    servers = {way.remote.host for way in pbx.dialler.ways_out(trunk)}
    contacts, failures, seen, tried = [*first.contacts], list[Unanswered](), {first_place(step).key}, 0
    while contacts:
        place = place_of(contacts.pop(0), step, flow, servers)
        way = pbx.dialler.way_to(trunk, place, flow) if place is not None else None
        if place is None or way is None:
            call.note(f"{trunk.name} sends the call on to where no call can be made")
            continue
        call.note(f"{trunk.name} sends the call on to {place}")
        if place.key in seen:
            call.note("it has been there already")
            continue
        if tried == MAX_REDIRECTIONS:
            call.note(f"it has been sent on {MAX_REDIRECTIONS} times already")
            break
        seen.add(place.key)
        refused = None if is_emergency(step) else _may_not_go(pbx, call, place.way, passed)
        if refused is not None:
            failures.append(refused)
            continue
        tried += 1
        patience = None if last and not contacts else SIGN_OF_LIFE
        round_ = _Round(pbx, invitation, waiting, step.seconds, patience)
        result = await round_.run(pbx.dialler.trunk(step, way, invitation, place.uri))
        if isinstance(result, AnsweredBy):
            return result
        if result.contacts:
            contacts[:0] = result.contacts
            continue
        failures.append(result)
        if result.rang or result.status >= 600 or result.reason is EndReason.NOBODY_ANSWERED:
            break
    best = best_of(failures) if failures else first
    return best if best.elsewhere is Elsewhere.NO else replace(best, elsewhere=Elsewhere.TRUNK)


class _Round:
    """Branches that ring together; the first 2xx wins. `patience`: for the first sign of life from each."""

    def __init__(
        self, pbx: Switchboard, invitation: Invitation, waiting: Waiting, seconds: float, patience: float | None = None
    ) -> None:
        self._pbx = pbx
        self._call = invitation.call
        self._inbox = invitation.inbox
        self._shown = NOBODY if invitation.withheld else invitation.shown
        self._waiting = waiting
        self._seconds = seconds
        self._patience = patience
        self._rang = False
        self._branches: dict[Leg, Branch] = {}
        self._open: set[Leg] = set()
        self._previews: dict[tuple[Leg, str | None], bytes] = {}        # SDP of 18x, by leg and early dialog
        self._alone = False
        self._failures: list[Unanswered] = []

    async def run(self, branches: AsyncIterator[Branch]) -> RingResult:
        winner: Leg | None = None
        try:
            async with asyncio.timeout(self._seconds):
                async for branch in branches:
                    self._branches[branch.leg] = branch
                    self._open.add(branch.leg)
                self._alone = len(self._branches) == 1
                result = await self._first_answer()
        except TimeoutError:
            return nobody_answered()
        else:
            winner = result.leg if isinstance(result, AnsweredBy) else None
            return result
        finally:
            why = COMPLETED_ELSEWHERE if winner is not None else self._waiting.goodbye()
            for leg in self._branches:
                if leg is not winner:
                    leg.hang_up(why)

    async def _first_answer(self) -> RingResult:
        while self._open:
            heard = await self._next_event()
            if heard is None:
                continue
            leg, event = heard
            branch = self._branches.get(leg)
            if isinstance(event, PicksUp):
                if self._picked_up(event):
                    return AnsweredBy(event.leg, event.extension, event.leg.offer, wants_answer=True)
            elif branch is None:
                self._waiting.hear(leg, event)
            else:
                match event:
                    case Provisional(response=response):
                        self._progress(branch, response.status, sdp_of(response))
                    case Answered(sdp=sdp, wants_answer=wants_answer):
                        return AnsweredBy(branch.leg, branch.extension, sdp, wants_answer)
                    case Rejected(response=response):
                        self._rejected(branch, response)
                    case Ended(cause=cause):
                        self._failed(branch, not_carried(cause), cause.value)
                    case _:
                        leg.put_off(event)
        return self._best()

    async def _next_event(self) -> tuple[Leg, Effect | Wish] | None:
        """None when some branch was given up meanwhile, or has been heard of."""
        since = self._unheard_since() if self._patience is not None else None
        if self._patience is None or since is None:
            return await self._inbox.get()
        try:
            async with asyncio.timeout_at(since + self._patience):
                return await self._inbox.get()
        except TimeoutError:
            self._give_up_the_silent(since)
        return None

    def _unheard_since(self) -> float | None:
        waiting = [branch.leg.unheard_since for branch in self._branches.values() if branch.leg in self._open]
        return min((since for since in waiting if since is not None), default=None)

    def _give_up_the_silent(self, since: float) -> None:
        for branch in self._branches.values():
            if branch.leg in self._open and branch.leg.unheard_since == since:
                branch.leg.hang_up()
                self._failed(branch, no_response(), f"no response within {self._patience:g} s")

    def _picked_up(self, wish: PicksUp) -> bool:
        """Whether the call is that phone's now."""
        if wish.leg.end is not None:
            return False
        where = dict.fromkeys(one.extension.number for one in self._branches.values() if one.extension is not None)
        if not where:                      # it has gone on to the outside
            wish.too_late()
            return False
        if not self._waiting.suits(wish):
            wish.refuse(488)
            return False
        self._call.note(f"{wish.extension.number} picks up the call that rings at {', '.join(where)}")
        self._pbx.phone_rings(self._call, wish.extension)      # who talks shall see the card as well
        return True

    def _best(self) -> Unanswered:
        best = best_of(self._failures)
        best = replace(best, moved=next((one.moved for one in self._failures if one.moved is not None), None))
        # It has reached the callee: through another trunk their phone would only ring a second time.
        return replace(best, elsewhere=Elsewhere.NO, rang=True) if self._rang else best

    def _progress(self, branch: Branch, status: int, sdp: bytes) -> None:
        if sdp and self._alone:
            self._waiting.early_media(branch, sdp)
        if branch.extension is not None:
            self._pbx.board.rings(branch.leg, branch.extension, self._shown)
        if status == 180:
            self._rang = True
            self._waiting.ring()
            self._call.ringing(branch.extension)
            if branch.extension is not None:
                self._pbx.phone_rings(self._call, branch.extension)

    def _failed(self, branch: Branch, failure: Unanswered, why: str) -> None:
        self._open.discard(branch.leg)
        self._failures.append(failure)
        self._call.note(f"{branch.leg.name}: {why}")

    def _rejected(self, branch: Branch, response: Response) -> None:
        status = response.status
        self._open.discard(branch.leg)
        phone = branch.extension
        moved = _moved_to(phone, response) if phone is not None else None
        contacts = contacts_of(response) if phone is None else ()
        reasons = reasons_of(response)
        self._failures.append(replace(unanswered(status, reasons), moved=moved, contacts=contacts))
        self._call.note(f"{branch.leg.name} answered {status}" + (f": {in_words(reasons)}" if reasons else ""))
        if status >= 600:
            # Deviation from RFC 3261 §16.7: our branches are several people. A 6xx speaks for one of them:
            # their other phones stop ringing, a colleague's goes on.
            for other in self._branches.values():
                if other.extension is branch.extension:
                    self._open.discard(other.leg)
                    other.leg.hang_up()


def _moved_to(extension: Extension, response: Response) -> Moved | None:
    """The first Contact of a 3xx; of its URI only the user part counts, as of what is dialled."""
    if response.status not in (301, 302):
        return None
    try:
        contact = response.contact
    except ParseError:
        return None
    return Moved(extension, contact.uri.user) if contact is not None and contact.uri.user else None
