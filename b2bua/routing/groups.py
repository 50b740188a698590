"""Whose turn it is in a group: pure, over the little that is remembered from one call to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from b2bua.cdr import ClientId
from b2bua.directory import Extension, Group, Strategy

Key = tuple[ClientId, str]                 # of a group, or of an extension


@dataclass(frozen=True, slots=True)
class Turns:
    """What has been; empty, as after a start, it gives the members in their order."""

    begun: Mapping[Key, str] = field(default_factory=dict)          # group -> with whom its last call began
    idle_since: Mapping[Key, float] = field(default_factory=dict)   # extension -> end of its last call; inf: talks now


def in_order(group: Group, rings: Mapping[str, Extension], turns: Turns) -> tuple[str, ...]:
    """The members for whom somebody can be rung, as the group's strategy would have them. `rings`: who, for each."""
    match group.strategy:
        case Strategy.ROUND:
            # By all members, not by those who are there: else the round would begin anew whenever one goes.
            place = {member: place for place, member in enumerate(group.members)}
            first = place.get(turns.begun.get((group.client, group.number), ""), -1) + 1
            return tuple(sorted(rings, key=lambda member: (place[member] - first) % len(place)))
        case Strategy.LONGEST_IDLE:
            return tuple(sorted(rings, key=lambda member: turns.idle_since.get(_key(rings[member]), -inf)))
        case Strategy.TOGETHER | Strategy.IN_TURN:
            return tuple(rings)


def _key(extension: Extension) -> Key:
    return extension.client, extension.number
