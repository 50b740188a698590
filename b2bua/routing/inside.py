"""Extensions and groups: who rings at a destination, and where a call goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from b2bua.cdr import ClientId, EndReason
from b2bua.directory import ANNOUNCEMENT, Cause, Directory, Extension, Group, Strategy
from b2bua.routing.groups import Turns, in_order
from b2bua.routing.overflow import all_from
from b2bua.routing.plan import Announce, DialTrunk, Diverted, GoesOn, NoRoute, Plan, RingExtensions, Step

Reachable = Callable[[Extension], bool]    # has a phone registered, or a fixed address
Outside = Callable[[str], Plan | NoRoute]  # the ways to a number that a call goes on to


class Inside:
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
        return Plan(tuple(steps), (sent,) if is_outside(begin) else (), rounds=tuple(self._rounds((begin,))))

    def plan(self, why: str, before: Sequence[Step] = ()) -> Plan | NoRoute:
        """`before`: who rings first of all, and is not rung alone once more."""
        begin, told = self._there(self._first)
        if begin is None:
            known = bool(self._members(self._first)) or is_outside(self._first)
            if Cause.ALWAYS in self._ways(self._first) or is_outside(self._first):
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
                rung = set(map(who, before))
                ring = [step for step in ring if who(step) not in rung]
            begins[target] = len(steps) if target != begin else 0
            steps += ring
            ends[target] = len(steps) - 1
        goes_on = tuple(
            # Forward only: a plan ends, whatever the directory says.
            GoesOn(ends[target], cause, begins[to] if to is not None and begins[to] > ends[target] else None, said)
            for target, cause, to, said in endings
        )
        notes = (sent,) if is_outside(begin) else ()      # its steps only say which trunk
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
        if is_outside(here):
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
        if is_outside(target):
            ways = self._outside(target)
            always = is_outside(self._first) or Cause.ALWAYS in self._ways(self._first)
            cause = Cause.ALWAYS if always else Cause.UNREGISTERED
            steps = diverted(ways.steps, self._number, cause) if isinstance(ways, Plan) else ()
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


def who(step: Step) -> str | tuple[str, ...]:
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


def diverted(steps: Sequence[Step], number: str, cause: Cause | None) -> tuple[Step, ...]:
    """From a number that the outside does not know nothing is told to be diverted."""
    diverted = Diverted(number, cause) if number else None
    return tuple(replace(step, diverted=diverted) if isinstance(step, DialTrunk) else step for step in steps)


def is_outside(target: str) -> bool:
    return target.startswith("+")


def _is_announcement(target: str) -> bool:
    return target.startswith(ANNOUNCEMENT)
