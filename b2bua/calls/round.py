"""Branches that ring together: the first 2xx wins, the losers are cancelled, the best failure is what is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from b2bua.calls.board import NOBODY
from b2bua.calls.invitation import Invitation
from b2bua.calls.outcomes import (
    AnsweredBy,
    Elsewhere,
    Moved,
    RingResult,
    Unanswered,
    best_of,
    no_response,
    nobody_answered,
    not_carried,
    unanswered,
)
from b2bua.calls.pickup import PicksUp
from b2bua.calls.redirection import contacts_of
from b2bua.directory import Extension
from b2bua.sip.effects import Answered, Effect, Ended, Provisional, Rejected
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Response
from b2bua.sip.offer_answer import sdp_of
from b2bua.sip.reasons import COMPLETED_ELSEWHERE, in_words, reasons_of
from b2bua.ua.leg import HeaderFields, Leg, OutgoingLeg, Wish

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard


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


class Round:
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
