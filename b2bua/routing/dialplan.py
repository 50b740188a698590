"""Who should ring: pure decisions over a directory, each with the sentence that explains it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from b2bua import numbers
from b2bua.cdr import ClientId, EndReason
from b2bua.crm.port import Contact
from b2bua.directory import Client, Directory, Extension, Number, Trunk
from b2bua.numbers import NumberFormat
from b2bua.routing.groups import Turns
from b2bua.routing.hours import judge
from b2bua.routing.inside import Inside, Reachable, diverted
from b2bua.routing.plan import DialTrunk, NoRoute, Plan, Step
from b2bua.routing.trunk_choice import TrunkChoice

RING_SECONDS = 30                          # an extension that a failed transfer comes back to
TRUNK_SECONDS = 120                        # an outgoing call: the network gives up earlier


def find_did(directory: Directory, client: ClientId, trunk: str, dialled: str, country: str) -> Number | None:
    """The DID that was dialled, in whatever spelling the trunk uses."""
    by_number = directory.did
    number = by_number.get((client, dialled)) or by_number.get((client, numbers.normalise(dialled, country)))
    return number if number is not None and number.trunk in (None, trunk) else None


def why_no_did(directory: Directory, trunk: Trunk, spellings: Sequence[str]) -> str:
    """Of a call by this trunk to none of its client's numbers, in any of these spellings."""
    for dialled in spellings:
        shown = numbers.normalise(dialled, trunk.country)
        number = directory.did.get((trunk.client, dialled)) or directory.did.get((trunk.client, shown))
        if number is not None:
            return f"{number.number} belongs to trunk {number.trunk}; the call came by {trunk.name}"
    return f"{numbers.normalise(spellings[0], trunk.country)} is no number of {trunk.client}"


def plan_inbound(
    directory: Directory,
    client: ClientId,
    did: Number,
    contact: Contact | None,
    reachable: Reachable,
    choice: TrunkChoice,
    now: datetime,
    turns: Turns = Turns(),
) -> Plan | NoRoute:
    """A call from outside to one of the client's numbers: the responsible person first (F5), then its destination.

    Outside of the number's hours nobody but who is there for that.
    """
    first = Plan(())
    notes: list[str] = []
    account = directory.client[client].crm
    destination: str | None = None
    if did.hours is not None:
        hours = judge(did.hours, now)
        notes.append(f"{did.number} is {hours.why}" if not hours.open else hours.why)
        destination = None if hours.open else did.hours.otherwise

    def outside(number: str) -> Plan | NoRoute:
        return _plan_outside(directory, client, number, directory.client[client].country, choice, "", did.number)

    if destination is None and contact is not None and account is not None and account.functions.forward_to_responsible:
        whose = _responsible(directory, client, contact)
        if isinstance(whose, Extension):
            seconds = account.responsible_ring_seconds
            own = Inside(directory, client, reachable, outside, turns, whose.number, seconds, number=did.number)
            first = own.alone(f"{whose.number} is responsible for {contact.name}")
            notes += first.notes
        else:
            notes.append(whose)
    target, ways = (did.destination, did.overflow) if destination is None else (destination, {})
    inside = Inside(directory, client, reachable, outside, turns, target, did.ring_seconds, ways, did.number)
    plan = inside.plan(f"{did.number} goes to", first.steps)
    if isinstance(plan, NoRoute):
        notes.append(plan.why)
        if not first.steps:
            return NoRoute(plan.status, plan.reason, "; ".join(notes))
        return replace(first, notes=tuple(notes), ends=(len(first.steps) - 1,))
    return replace(plan, notes=(*notes, *plan.notes), rounds=(*first.rounds, *plan.rounds))


def plan_from_extension(
    directory: Directory,
    caller: Extension,
    dialled: str,
    country: str,
    reachable: Reachable,
    choice: TrunkChoice,
    turns: Turns = Turns(),
    verb: str = "dialled",
) -> Plan | NoRoute:
    """A phone dials: another extension, a group, or the world through the client's trunks."""
    def outside(number: str) -> Plan | NoRoute:
        return plan_outside(directory, caller, number, country, choice)

    here = (caller.client, dialled)
    if here in directory.extension or here in directory.group:
        callee = directory.extension.get(here)
        known = (callee.caller_id if callee is not None else "") or directory.client[caller.client].caller_id
        inside = Inside(directory, caller.client, reachable, outside, turns, dialled, number=known)
        return inside.plan(f"{caller.number} {verb}")
    if not diallable(dialled):
        return NoRoute(404, EndReason.NOT_ALLOWED, f"{dialled} is neither an extension, a group nor an outside number")
    return outside(dialled)


def plan_moved(
    directory: Directory,
    by: Extension,
    target: str,
    country: str,
    reachable: Reachable,
    choice: TrunkChoice,
    turns: Turns = Turns(),
) -> Plan | NoRoute:
    """A phone answers that the call shall go elsewhere (RFC 3261 §8.1.3.4): as if its extension dialled, if it may."""
    verb = "sends the call on to"
    plan = plan_from_extension(directory, by, target, country, reachable, choice, turns, verb)
    if isinstance(plan, NoRoute) or not plan.outside:
        return plan
    client = directory.client[by.client]
    if not client.forward_outside:
        why = f"{by.number} {verb} {target}: extensions may not send calls outside (forward_outside)"
        return NoRoute(403, EndReason.NOT_ALLOWED, why)
    return replace(plan, steps=diverted(plan.steps, by.caller_id or client.caller_id, None))


def plan_outside(
    directory: Directory, caller: Extension, dialled: str, country: str, choice: TrunkChoice
) -> Plan | NoRoute:
    """To the world, through one trunk of the client after another."""
    plan = _plan_outside(directory, caller.client, dialled, country, choice, caller.caller_id, caller.number)
    return plan if isinstance(plan, NoRoute) else replace(plan, steps=tuple(_by(caller, plan.steps)))


def _by(who: Extension, steps: Iterable[Step]) -> Iterator[Step]:
    return (replace(step, by=who) if isinstance(step, DialTrunk) else step for step in steps)


def _plan_outside(
    directory: Directory,
    whose: ClientId,
    dialled: str,
    country: str,
    choice: TrunkChoice,
    caller_id: str,
    last_resort: str,
) -> Plan | NoRoute:
    client = directory.client[whose]
    trunks = tuple(directory.trunks_of(whose))
    if not trunks:
        return NoRoute(404, EndReason.NOTHING_TO_RING, f"{dialled} is an outside number, and the client has no trunk")
    ordered = choice.order(trunks, numbers.normalise(dialled, country))
    if not ordered.trunks:
        why = f"no trunk may be used for {dialled}: {'; '.join(ordered.notes)}"
        return NoRoute(404, EndReason.NOT_ALLOWED, why)
    ways = (_through(trunk, dialled, client, caller_id, last_resort) for trunk in ordered.trunks)
    return Plan(tuple(ways), ordered.notes)


def _through(trunk: Trunk, dialled: str, client: Client, caller_id: str, last_resort: str) -> DialTrunk:
    style = trunk.rules.number_format
    number = numbers.normalise(dialled, trunk.country)
    spelt = dialled if style is NumberFormat.DIALLED else numbers.written(number, style, trunk.country)
    # The employee's own, else the line's, else the firm's, else our account there; inside numbers are better than none.
    shown = caller_id or trunk.caller_id or client.caller_id or trunk.user or last_resort
    why, read = f"{spelt} through {trunk.name}", numbers.international(dialled, trunk.country)
    return DialTrunk(trunk, spelt, shown, TRUNK_SECONDS, why, outside=read)


def _responsible(directory: Directory, client: ClientId, contact: Contact) -> Extension | str:
    if contact.responsible is None:
        return f"{contact.name} has no responsible user"
    account = directory.client[client].crm
    if account is not None and not account.has_active(contact.responsible):
        return f"user {contact.responsible}, responsible for {contact.name}, is not active in the CRM"
    extension = directory.by_crm_user.get((client, contact.responsible))
    return extension or f"user {contact.responsible}, responsible for {contact.name}, has no extension"


def diallable(dialled: str) -> bool:
    """Whether it could be an outside number, as people press it."""
    digits = dialled.removeprefix("+")
    return digits.isascii() and 2 <= len(digits) <= 24 and all(c in "0123456789*#" for c in digits)
