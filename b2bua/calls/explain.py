"""What would happen to a call now, and why: planned as a real one, told instead of placed; it takes nobody's turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2bua import numbers
from b2bua.cdr import ClientId, Direction, EndReason
from b2bua.control import Explanation, PlannedStep
from b2bua.directory import Number
from b2bua.routing.plan import Announce, DialTrunk, NoRoute, Plan, RingExtensions, Step

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard

WITHHELD = ("", "anonymous")


async def explain(pbx: Switchboard, client: ClientId, caller: str, dialled: str) -> Explanation:
    """`caller` is one of the client's extensions, or an outside number; "" or "anonymous" withholds it.

    The CRM is asked as for a real call, with the same patience. Raises LookupError: there is no such client.
    """
    directory = pbx.directory
    if client not in directory.client:
        raise LookupError(client)
    country = directory.client[client].country
    full = pbx.capacity.reached(directory.client[client], None)
    notes = [f"now it would be refused: {full}"] if full is not None else []
    extension = directory.extension.get((client, caller))
    if extension is not None:
        plan = pbx.plan_for(extension, dialled, rehearsal=True)
        outside = isinstance(plan, Plan) and plan.outside
        direction = Direction.OUTBOUND if outside else Direction.INTERNAL
        return _told(direction, notes, plan)
    did = _number(pbx, client, dialled, country)
    if did is None:
        why = f"{numbers.normalise(dialled, country)} is no number of {client}"
        return _told(Direction.INBOUND, notes, NoRoute(404, EndReason.NOTHING_TO_RING, why))
    number = "" if caller in WITHHELD else numbers.normalise(caller, country)
    contact, said = await pbx.who_is(client, directory.client[client].crm, number)
    plan = pbx.plan_for_did(directory, did, contact, rehearsal=True)
    return _told(Direction.INBOUND, [*notes, said] if said else notes, plan)


def _number(pbx: Switchboard, client: ClientId, dialled: str, country: str) -> Number | None:
    """In any spelling, by whichever trunk it comes."""
    known = pbx.directory.did
    return known.get((client, dialled)) or known.get((client, numbers.normalise(dialled, country)))


def _told(direction: Direction, notes: list[str], plan: Plan | NoRoute) -> Explanation:
    if isinstance(plan, NoRoute):
        return Explanation(direction, tuple(notes), (), plan.status, plan.why)
    steps = tuple(
        PlannedStep(step.why, _does(step), tuple(onward.why for onward in plan.goes_on if onward.after == index))
        for index, step in enumerate(plan.steps)
    )
    return Explanation(direction, (*notes, *plan.notes), steps)


def _does(step: Step) -> str:
    match step:
        case RingExtensions(extensions=extensions, seconds=seconds):
            together = " together" if len(extensions) > 1 else ""
            return f"rings {', '.join(one.number for one in extensions)}{together} for {seconds:g} s"
        case Announce(sound=sound):
            return f"answers and plays {sound}"
        case DialTrunk(trunk=trunk, number=number, caller_id=caller_id):
            return f"calls {number} through {trunk.name}, showing {caller_id}"
