"""Who should ring: pure decisions over a directory, each with the sentence that explains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from b2bua import numbers
from b2bua.cdr import ClientId, EndReason
from b2bua.crm.port import Contact
from b2bua.directory import Client, Directory, Extension, Group, Number, Strategy, Trunk
from b2bua.numbers import NumberFormat
from b2bua.routing.groups import Turns, in_order
from b2bua.routing.trunk_choice import TrunkChoice

RING_SECONDS = 30                          # an internal call, or a group called from inside
TRUNK_SECONDS = 120                        # an outgoing call: the network gives up earlier

Reachable = Callable[[Extension], bool]    # has a phone registered, or a fixed address


@dataclass(frozen=True, slots=True)
class RingExtensions:
    """Ring all phones of these extensions together for so many seconds."""

    extensions: tuple[Extension, ...]
    seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class DialTrunk:
    """Call `number`, in the spelling of that trunk, through it."""

    trunk: Trunk
    number: str
    caller_id: str                         # E.164 with + where that is known
    seconds: float
    why: str


Step = RingExtensions | DialTrunk


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps tried one after another until somebody answers, and what was passed over on the way."""

    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    rounds: tuple[tuple[str, str], ...] = ()   # groups that ring by round, and with whom each begins in this call

    @property
    def outside(self) -> bool:
        return any(isinstance(step, DialTrunk) for step in self.steps)


@dataclass(frozen=True, slots=True)
class NoRoute:
    """Nowhere to go: the status for the caller, and why."""

    status: int
    reason: EndReason
    why: str


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
    turns: Turns = Turns(),
) -> Plan | NoRoute:
    """A call from outside to one of the client's numbers: the responsible person first (F5), then its destination."""
    steps: list[RingExtensions] = []
    notes: list[str] = []
    account = directory.client[client].crm
    if contact is not None and account is not None and account.forward_to_responsible:
        personal = _responsible(directory, client, contact, account.responsible_ring_seconds, reachable)
        if isinstance(personal, RingExtensions):
            steps.append(personal)
        else:
            notes.append(personal)
    why = f"{did.number} goes to"
    normal = _destination(directory, client, did.destination, did.ring_seconds, reachable, turns, why)
    if isinstance(normal, NoRoute):
        notes.append(normal.why)
        return Plan(tuple(steps), tuple(notes)) if steps else NoRoute(normal.status, normal.reason, "; ".join(notes))
    rung = [step.extensions for step in steps]             # whoever has just been rung alone is not rung again
    steps += [step for step in normal.steps if step.extensions not in rung]
    return Plan(tuple(steps), tuple(notes), normal.rounds)


def plan_from_extension(
    directory: Directory,
    caller: Extension,
    dialled: str,
    country: str,
    reachable: Reachable,
    choice: TrunkChoice,
    turns: Turns = Turns(),
) -> Plan | NoRoute:
    """A phone dials: another extension, a group, or the world through the client's trunks."""
    here = (caller.client, dialled)
    if here in directory.extension or here in directory.group:
        why = f"{caller.number} dialled"
        inside = _destination(directory, caller.client, dialled, RING_SECONDS, reachable, turns, why)
        return inside if isinstance(inside, NoRoute) else Plan(inside.steps, rounds=inside.rounds)
    if not _diallable(dialled):
        return NoRoute(404, EndReason.NOT_ALLOWED, f"{dialled} is neither an extension, a group nor an outside number")
    return plan_outside(directory, caller, dialled, country, choice)


def plan_outside(
    directory: Directory, caller: Extension, dialled: str, country: str, choice: TrunkChoice
) -> Plan | NoRoute:
    """To the world, through one trunk of the client after another."""
    client = directory.client[caller.client]
    trunks = tuple(directory.trunks_of(client.id))
    if not trunks:
        return NoRoute(404, EndReason.NOTHING_TO_RING, f"{dialled} is an outside number, and the client has no trunk")
    ordered = choice.order(trunks, numbers.normalise(dialled, country))
    if not ordered.trunks:
        why = f"no trunk may be used for {dialled}: {'; '.join(ordered.notes)}"
        return NoRoute(404, EndReason.NOT_ALLOWED, why)
    return Plan(tuple(_through(trunk, dialled, caller, client) for trunk in ordered.trunks), ordered.notes)


def _through(trunk: Trunk, dialled: str, caller: Extension, client: Client) -> DialTrunk:
    style = trunk.rules.number_format
    number = numbers.normalise(dialled, trunk.country)
    spelt = dialled if style is NumberFormat.DIALLED else numbers.written(number, style, trunk.country)
    # The employee's own, else the line's, else the firm's, else our account there; inside numbers are better than none.
    caller_id = caller.caller_id or trunk.caller_id or client.caller_id or trunk.user or caller.number
    return DialTrunk(trunk, spelt, caller_id, TRUNK_SECONDS, f"{spelt} through {trunk.name}")


def _responsible(
    directory: Directory, client: ClientId, contact: Contact, seconds: float, reachable: Reachable
) -> RingExtensions | str:
    if contact.responsible is None:
        return f"{contact.name} has no responsible user"
    extension = directory.by_crm_user.get((client, contact.responsible))
    if extension is None:
        return f"user {contact.responsible}, responsible for {contact.name}, has no extension"
    if not reachable(extension):
        return f"{extension.number}, responsible for {contact.name}, has no phone registered"
    return RingExtensions((extension,), seconds, f"{extension.number} is responsible for {contact.name}")


@dataclass(frozen=True, slots=True)
class _Inside:
    steps: tuple[RingExtensions, ...]
    rounds: tuple[tuple[str, str], ...] = ()


def _destination(
    directory: Directory, client: ClientId, target: str, seconds: float, reachable: Reachable, turns: Turns, why: str
) -> _Inside | NoRoute:
    group = directory.group.get((client, target))
    members = group.members if group is not None else (target,)
    known = [directory.extension[client, member] for member in members if (client, member) in directory.extension]
    ringable = tuple(extension for extension in known if reachable(extension))
    if ringable and group is not None and group.strategy is not Strategy.TOGETHER:
        return _one_by_one(group, in_order(group, ringable, turns), why)
    if ringable:
        return _Inside((RingExtensions(ringable, seconds, f"{why} {target}"),))
    if known:
        return NoRoute(480, EndReason.NOTHING_TO_RING, f"{why} {target}, where no phone is registered")
    return NoRoute(404, EndReason.NOTHING_TO_RING, f"{why} {target}, which does not exist")


_ORDERS = {
    Strategy.IN_TURN: "its members in turn",
    Strategy.ROUND: "its members by round",
    Strategy.LONGEST_IDLE: "its members, who has been without a call longest first",
}


def _one_by_one(group: Group, members: tuple[Extension, ...], why: str) -> _Inside:
    first, *others = members
    begins = f"{why} {group.number}, {_ORDERS[group.strategy]}: {first.number}"
    steps = [RingExtensions((first,), group.member_seconds, begins)]
    steps += [RingExtensions((one,), group.member_seconds, f"{group.number}: {one.number} is next") for one in others]
    rounds = ((group.number, first.number),) if group.strategy is Strategy.ROUND else ()
    return _Inside(tuple(steps), rounds)


def _diallable(dialled: str) -> bool:
    digits = dialled.removeprefix("+")
    return digits.isascii() and 2 <= len(digits) <= 24 and all(c in "0123456789*#" for c in digits)
