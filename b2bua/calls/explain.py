"""What would happen to a call now, and why: planned as a real one, told instead of placed; it takes nobody's turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from b2bua import numbers
from b2bua.calls.report import Outcome, Owed, owed, rules_of, why_untold
from b2bua.cdr import ClientId, Direction, EndReason
from b2bua.control import Explanation, PlannedStep
from b2bua.crm.functions import CardKind
from b2bua.crm.port import Purpose
from b2bua.directory import CrmAccount, Number
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
    account, country = directory.client[client].crm, directory.client[client].country
    full = pbx.capacity.reached(directory.client[client], None)
    notes = [f"now it would be refused: {full}"] if full is not None else []
    extension = directory.extension.get((client, caller))
    if extension is not None:
        plan = pbx.plan_for(extension, dialled, rehearsal=True)
        outside = isinstance(plan, Plan) and plan.outside
        direction = Direction.OUTBOUND if outside else Direction.INTERNAL
        explained = _told(direction, notes, plan)
        return replace(explained, crm=_crm(account, Outcome(direction, True), numbers.normalise(dialled, country), ""))
    did = _number(pbx, client, dialled, country)
    number = "" if caller in WITHHELD else numbers.normalise(caller, country)
    if did is None:
        why = f"{numbers.normalise(dialled, country)} is no number of {client}"
        explained = _told(Direction.INBOUND, notes, NoRoute(404, EndReason.NOTHING_TO_RING, why))
        return replace(explained, crm=_crm(account, Outcome(Direction.INBOUND, True), number, ""))
    contact, said = await pbx.who_is(client, account, number)
    plan = pbx.plan_for_did(directory, did, contact, rehearsal=True)
    rings = isinstance(plan, Plan) and any(isinstance(step, RingExtensions) for step in plan.steps)
    outcome = Outcome(Direction.INBOUND, True, is_for_people=did.is_for_people or rings)
    explained = _told(Direction.INBOUND, [*notes, said] if said else notes, plan)
    return replace(explained, crm=_crm(account, outcome, number, did.number))


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


def _crm(account: CrmAccount | None, outcome: Outcome, phone: str, did: str) -> str:
    """Both ways in which it may come out, as nobody knows yet."""
    if account is None:
        return ""
    if (why := why_untold(account.functions, outcome.direction, phone)) is not None:
        return f"the CRM is told nothing: {why}"
    rules = rules_of(account.functions, outcome.direction, did)
    answered, missed = (", ".join(_in_words(owed(account.functions, rules, replace(outcome, answered=answered))))
                        for answered in (True, False))
    return f"the CRM is told, if somebody talks: {answered}; if nobody does: {missed}"


def _in_words(due: Owed) -> Iterator[str]:
    if due.card is not CardKind.NOTHING:
        yield f"{'a contact' if due.card is CardKind.CONTACT else 'an unsorted lead'}, unless there is one"
    if due.deal is not None:
        yield "a deal of that contact"
    yield "the call"
    if due.task is Purpose.FILL_IN:
        yield "a task to fill in that contact"
    elif due.task is Purpose.CALL_BACK:
        yield "a task to call back who is known"
    if due.talked_to:
        yield "that the call-back task is done"
