"""Call pickup: a phone takes a call that rings at a colleague's, by a code or by INVITE with Replaces (RFC 3891 §3)."""

from __future__ import annotations

from dataclasses import dataclass

from b2bua.calls.board import Board, Line
from b2bua.cdr import EndReason
from b2bua.directory import Client, Directory, Extension
from b2bua.routing.plan import NoRoute
from b2bua.sip.reasons import COMPLETED_ELSEWHERE
from b2bua.ua.leg import IncomingLeg, Wish


@dataclass(frozen=True, slots=True)
class PicksUp(Wish):
    """The phone of `extension` wants the call that rings: it is as if it had rung too, and has answered."""

    leg: IncomingLeg
    extension: Extension
    too_late_status: int                   # when another has answered before

    def refuse(self, status: int) -> None:
        self.leg.reject(status)

    def too_late(self) -> None:
        self.leg.reject(self.too_late_status, COMPLETED_ELSEWHERE)


def wanted(directory: Directory, extension: Extension, dialled: str) -> str | None:
    """Whose call a phone wants that dials that: an extension's or group's; of any colleague's ("").

    None: it is no pickup code, but a number.
    """
    client = directory.client.get(extension.client)
    if client is None or _rings(directory, extension, dialled):
        return None
    if client.group_pickup_code and dialled == client.group_pickup_code:
        return ""
    number = dialled.removeprefix(client.pickup_code)
    # Longer ones are an operator's own service codes, as **21*NUMBER#.
    is_code = bool(client.pickup_code) and number not in ("", dialled)
    return number if is_code and (number.isdigit() or _rings(directory, extension, number)) else None


def find_ringing(board: Board, directory: Directory, picker: Extension, number: str) -> Line | NoRoute:
    """The call that has rung longest of those that this extension may have by dialling the code with `number`."""
    if number:
        group = directory.group.get((picker.client, number))
        if group is None and (picker.client, number) not in directory.extension:
            why = f"{picker.number} wants to pick up at {number}, which is neither an extension nor a group"
            return NoRoute(404, EndReason.NOTHING_TO_RING, why)
        where, numbers = number, (number,) if group is None else group.members
    else:
        where, numbers = "a group of its own", _colleagues(directory, picker)
    line = board.ringing(picker.client, numbers)
    if line is None:
        why = f"{picker.number} wants to pick up a call at {where}, and none rings there"
        return NoRoute(480, EndReason.NOTHING_TO_RING, why)
    return line


def may_replace_ringing(line: Line, client: Client | None, picker: Extension) -> bool:
    """Only colleagues, and where their client lets them pick up what rings at one of them."""
    return line.rings and line.key[0] == picker.client and client is not None and bool(client.pickup_code)


def _colleagues(directory: Directory, picker: Extension) -> tuple[str, ...]:
    """All who share a group with it."""
    groups = (group.members for group in directory.groups if group.client == picker.client)
    return tuple(dict.fromkeys(one for members in groups if picker.number in members for one in members))


def _rings(directory: Directory, extension: Extension, number: str) -> bool:
    key = extension.client, number
    return key in directory.extension or key in directory.group
