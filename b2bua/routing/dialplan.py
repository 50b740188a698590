"""Who should ring: pure decisions over a directory, each with the sentence that explains it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from b2bua import numbers
from b2bua.cdr import ClientId, EndReason
from b2bua.crm.port import Contact
from b2bua.directory import ANNOUNCEMENT, Cause, Client, Directory, Extension, Group, Number, Strategy, Trunk
from b2bua.numbers import NumberFormat
from b2bua.routing.groups import Turns, in_order
from b2bua.routing.hours import judge
from b2bua.routing.overflow import all_from
from b2bua.routing.trunk_choice import TrunkChoice

RING_SECONDS = 30                          # an extension that a failed transfer comes back to
TRUNK_SECONDS = 120                        # an outgoing call: the network gives up earlier

Reachable = Callable[[Extension], bool]    # has a phone registered, or a fixed address
Outside = Callable[[str], "Plan | NoRoute"]   # the ways to a number that a call goes on to


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

    if destination is None and contact is not None and account is not None and account.forward_to_responsible:
        whose = _responsible(directory, client, contact)
        if isinstance(whose, Extension):
            seconds = account.responsible_ring_seconds
            own = _Inside(directory, client, reachable, outside, turns, whose.number, seconds, number=did.number)
            first = own.alone(f"{whose.number} is responsible for {contact.name}")
            notes += first.notes
        else:
            notes.append(whose)
    target, ways = (did.destination, did.overflow) if destination is None else (destination, {})
    inside = _Inside(directory, client, reachable, outside, turns, target, did.ring_seconds, ways, did.number)
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
        inside = _Inside(directory, caller.client, reachable, outside, turns, dialled, number=known)
        return inside.plan(f"{caller.number} {verb}")
    if not _diallable(dialled):
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
    return replace(plan, steps=_diverted(plan.steps, by.caller_id or client.caller_id, None))


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
    extension = directory.by_crm_user.get((client, contact.responsible))
    return extension or f"user {contact.responsible}, responsible for {contact.name}, has no extension"


class _Inside:
    """Extensions and groups: who rings at a destination, and where a call goes on from there, perhaps to the outside or
    to an announcement.

    `seconds` and `ways` are of the number that leads to `first`; they stand before its own. `number` is what the
    outside knows it by.
    """

    def __init__(
        self,
        directory: Directory,
        client: ClientId,
        reachable: Reachable,
        outside: Outside,
        turns: Turns,
        first: str,
        seconds: float | None = None,
        ways: Mapping[Cause, str] = MappingProxyType({}),
        number: str = "",
    ) -> None:
        self._directory = directory
        self._client = client
        self._reachable = reachable
        self._outside = outside
        self._turns = turns
        self._first = first
        self._seconds = seconds
        self._own_ways = ways
        self._number = number

    def alone(self, why: str) -> Plan:
        """Only where the call begins, for `seconds`, as others follow; without steps, when nobody rings there."""
        begin, told = self._there(self._first)
        sent = "; ".join((why, *told))
        if begin is None:
            return Plan((), (sent,))
        if _is_announcement(begin):        # it would take the call from those who follow
            return Plan((), (f"{sent}, which is not played as others may answer",))
        steps = self._ring(begin, sent)
        if self._seconds is not None and not self._in_turn(begin):
            steps = _for_seconds(steps, self._seconds)
        return Plan(tuple(steps), (sent,) if _is_outside(begin) else (), rounds=tuple(self._rounds((begin,))))

    def plan(self, why: str, before: Sequence[Step] = ()) -> Plan | NoRoute:
        """`before`: who rings first of all, and is not rung alone once more."""
        begin, told = self._there(self._first)
        if begin is None:
            known = bool(self._members(self._first)) or _is_outside(self._first)
            if Cause.ALWAYS in self._ways(self._first) or _is_outside(self._first):
                told = [f"{why} {self._first}", *told]
            else:
                fault = "where no phone is registered" if known else "which does not exist"
                told[0] = f"{why} {self._first}, {fault}"
            return NoRoute(480 if known else 404, EndReason.NOTHING_TO_RING, "; ".join(told))
        ways: dict[str, dict[Cause, str]] = {}
        endings: list[tuple[str, Cause, str | None, str]] = []
        waiting = [begin]
        while waiting:
            target = waiting.pop()
            if target in ways:
                continue
            ways[target] = {}
            for cause, way in self._ways(target).items():
                onward, on_the_way = self._there(way)
                said = "; ".join((f"{target} {_SAID[cause]}: on to {way}", *on_the_way))
                endings.append((target, cause, onward, said))
                if onward is not None:
                    ways[target][cause] = onward
                    waiting.append(onward)
        steps: list[Step] = list(before)
        begins, ends = dict[str, int](), dict[str, int]()
        sent = f"{why} {'; '.join((self._first, *told))}"
        for target in all_from(ways, begin):
            ring = self._ring(target, sent if target == begin else f"ringing {target}")
            if target == begin:
                rung = set(map(_who, before))
                ring = [step for step in ring if _who(step) not in rung]
            begins[target] = len(steps) if target != begin else 0
            steps += ring
            ends[target] = len(steps) - 1
        goes_on = tuple(
            # Forward only: a plan ends, whatever the directory says.
            GoesOn(ends[target], cause, begins[to] if to is not None and begins[to] > ends[target] else None, said)
            for target, cause, to, said in endings
        )
        notes = (sent,) if _is_outside(begin) else ()      # its steps only say which trunk
        return Plan(tuple(steps), notes, tuple(ends.values()), goes_on, tuple(self._rounds(ends)))

    def _there(self, target: str) -> tuple[str | None, list[str]]:
        """Where a call for it rings: there, or where it goes on to with no phone registered; and what to say."""
        told: list[str] = []
        been: list[str] = []
        onward: str | None = target
        while onward is not None and onward not in been:
            if _is_announcement(onward):
                return onward, told
            ways, here = self._ways(onward), onward
            found, why = self._found(here, ways)
            if found:
                return here, told
            been.append(here)
            onward = ways.get(Cause.ALWAYS) or ways.get(Cause.UNREGISTERED)
            told.append(f"{why}: on to {onward}" if onward is not None else why)
        return None, told

    def _found(self, here: str, ways: Mapping[Cause, str]) -> tuple[bool, str]:
        """Whether a call for it rings there; else why not."""
        if _is_outside(here):
            out = self._outside(here)
            return isinstance(out, Plan), out.why if isinstance(out, NoRoute) else ""
        if Cause.ALWAYS in ways:
            return False, f"{here} forwards all calls"
        rings, told = self._ringable(here)
        return bool(rings), "; ".join((*told, f"no phone of {here} is registered"))

    def _members(self, target: str) -> list[Extension]:
        group = self._directory.group.get((self._client, target))
        members = group.members if group is not None else (target,)
        known = self._directory.extension
        return [known[self._client, member] for member in members if (self._client, member) in known]

    def _ringable(self, target: str) -> tuple[dict[str, Extension], list[str]]:
        """Who can be rung there, each once, by whose place it is; and what to say of members who are elsewhere."""
        rings: dict[str, Extension] = {}
        told: list[str] = []
        for member in self._members(target):
            here = member if member.number == target else self._stand_in(member, target, told)
            if here is not None and here not in rings.values() and self._reachable(here):
                rings[member.number] = here
        return rings, told

    def _stand_in(self, member: Extension, group: str, told: list[str]) -> Extension | None:
        """Who rings in a group for this member of it: to whom it forwards all its calls, from one to the next."""
        here, been = member, {member.number, group}        # who forwards to the group means the others as well
        while (onward := here.forward_always) is not None and onward not in been:
            been.add(onward)
            known = self._directory.extension.get((self._client, onward))
            if known is None:
                why = f"{member.number} forwards all calls to {onward}"
                told.append(f"{why}: left out, as a group rings extensions only")
                return None
            here = known
        if here is not member:
            told.append(f"{member.number} forwards all calls: {here.number} rings in its place")
        return here

    def _in_turn(self, target: str) -> Group | None:
        """The group of that number, if its members ring one after another."""
        group = self._directory.group.get((self._client, target))
        return group if group is not None and group.strategy is not Strategy.TOGETHER else None

    def _ways(self, target: str) -> Mapping[Cause, str]:
        if _is_announcement(target):
            return {}                      # it takes every call
        here = (self._client, target)
        entry = self._directory.group.get(here) or self._directory.extension.get(here)
        own = entry.overflow if entry is not None else {}
        return {**own, **self._own_ways} if target == self._first else own

    def _ring(self, target: str, why: str) -> Sequence[Step]:
        if _is_announcement(target):
            return [Announce(target.removeprefix(ANNOUNCEMENT), why)]
        if _is_outside(target):
            ways = self._outside(target)
            always = _is_outside(self._first) or Cause.ALWAYS in self._ways(self._first)
            cause = Cause.ALWAYS if always else Cause.UNREGISTERED
            steps = _diverted(ways.steps, self._number, cause) if isinstance(ways, Plan) else ()
            goes_on = target == self._first and self._own_ways
            return _for_seconds(steps, self._seconds) if goes_on and self._seconds is not None else steps
        here = (self._client, target)
        rings, told = self._ringable(target)
        if (in_turn := self._in_turn(target)) is not None:
            members = [rings[member] for member in in_order(in_turn, rings, self._turns)]
            return _one_by_one(in_turn, members, why, told)
        own = (self._directory.group.get(here) or self._directory.extension[here]).ring_seconds
        seconds = self._seconds if target == self._first and self._seconds is not None else own
        return [RingExtensions(tuple(rings.values()), seconds, "; ".join((why, *told)))]

    def _rounds(self, targets: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Of those groups that ring by round, the member with whom each begins."""
        for target in targets:
            group = self._in_turn(target)
            if group is not None and group.strategy is Strategy.ROUND:
                yield target, in_order(group, self._ringable(target)[0], self._turns)[0]


_SAID = {
    Cause.ALWAYS: "forwards all calls",
    Cause.NO_ANSWER: "was not answered",
    Cause.BUSY: "is busy",
    Cause.UNREGISTERED: "cannot be reached",
}
_ORDERS = {
    Strategy.IN_TURN: "its members in turn",
    Strategy.ROUND: "its members by round",
    Strategy.LONGEST_IDLE: "its members, who has been without a call longest first",
}


def _one_by_one(group: Group, members: Sequence[Extension], why: str, told: Sequence[str]) -> list[RingExtensions]:
    first, *others = members
    begins = "; ".join((f"{why}, {_ORDERS[group.strategy]}: {first.number}", *told))
    steps = [RingExtensions((first,), group.member_seconds, begins)]
    steps += [RingExtensions((one,), group.member_seconds, f"{group.number}: {one.number} is next") for one in others]
    return steps


def _who(step: Step) -> str | tuple[str, ...]:
    """Whom it calls: for a number outside the same, whatever the trunk."""
    match step:
        case RingExtensions(extensions=extensions):
            return tuple(one.number for one in extensions)
        case DialTrunk(outside=outside):
            return outside
        case Announce(sound=sound):
            return f"{ANNOUNCEMENT}{sound}"


def _for_seconds(steps: Sequence[Step], seconds: float) -> list[Step]:
    return [step if isinstance(step, Announce) else replace(step, seconds=seconds) for step in steps]


def _diverted(steps: Sequence[Step], number: str, cause: Cause | None) -> tuple[Step, ...]:
    """From a number that the outside does not know nothing is told to be diverted."""
    diverted = Diverted(number, cause) if number else None
    return tuple(replace(step, diverted=diverted) if isinstance(step, DialTrunk) else step for step in steps)


def _is_outside(target: str) -> bool:
    return target.startswith("+")


def _is_announcement(target: str) -> bool:
    return target.startswith(ANNOUNCEMENT)


def _diallable(dialled: str) -> bool:
    digits = dialled.removeprefix("+")
    return digits.isascii() and 2 <= len(digits) <= 24 and all(c in "0123456789*#" for c in digits)
