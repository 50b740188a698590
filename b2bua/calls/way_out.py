"""Out by one trunk: its servers in turn, and where they send the call instead."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from b2bua.calls.call import CallInProgress
from b2bua.calls.invitation import Invitation
from b2bua.calls.outcomes import AnsweredBy, Elsewhere, RingResult, Unanswered, best_of, no_response, no_way
from b2bua.calls.redirection import MAX_REDIRECTIONS, first_place, place_of
from b2bua.calls.round import Round, Waiting
from b2bua.calls.tolls import is_emergency
from b2bua.cdr import Direction, EndReason
from b2bua.routing.plan import DialTrunk
from b2bua.sip.effects import Flow

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard

# How long an INVITE may go without any response, even a 100, while another way out is left. Sent again after 0.5, 1.5
# and 3.5 s it has been lost four times by then, or nobody is there; timer B would let the caller wait for 32 s.
SIGN_OF_LIFE: Final = 5.0
MAX_TARGETS: Final = 4                     # servers of one trunk that one call tries


async def through(
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
        round_ = Round(pbx, invitation, waiting, step.seconds, patience)
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
        refused = None if is_emergency(step) else may_not_go(pbx, call, place.way, passed)
        if refused is not None:
            failures.append(refused)
            continue
        tried += 1
        patience = None if last and not contacts else SIGN_OF_LIFE
        round_ = Round(pbx, invitation, waiting, step.seconds, patience)
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


def may_not_go(pbx: Switchboard, call: CallInProgress, way: DialTrunk, passed: set[str]) -> Unanswered | None:
    """What the limits say to it, once for each number."""
    refused = pbx.may_go_outside(call, way) if way.outside not in passed else None
    if refused is None:
        passed.add(way.outside)
    return refused
