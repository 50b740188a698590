"""Ring the steps of a plan until somebody answers; the losers are cancelled."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from b2bua.calls.call import CallInProgress
from b2bua.calls.invitation import Invitation
from b2bua.calls.outcomes import AnsweredBy, RingResult, Unanswered, best_of, nobody_answered, unanswered
from b2bua.directory import Extension
from b2bua.media.plane import MediaSession, SdpRefused, Side
from b2bua.routing.dialplan import DialTrunk, Plan, Step
from b2bua.sip.effects import Answered, DialogRequest, Effect, EndCause, Ended, OfferReceived, Provisional, Rejected
from b2bua.ua.leg import IncomingLeg, Leg, OutgoingLeg, Wish

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

    def hear(self, leg: Leg, event: Effect | Wish) -> None:
        """What happens on the other legs of the call."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and waits."""

    leg: IncomingLeg
    call: CallInProgress
    media: MediaSession

    def ring(self) -> None:
        self.leg.ring()

    def early_media(self, branch: Branch, sdp: bytes) -> None:
        if not self.leg.offer:
            return
        try:
            self.leg.early_media(self.media.answer(sdp, Side.CALLEE))
        except SdpRefused as refused:
            self.call.note(f"early media of {branch.leg.name} left out: {refused}")

    def hear(self, leg: Leg, event: Effect | Wish) -> None:
        """The caller wants to change something before anybody answered: not yet (RFC 3261 §14.2, RFC 3311 §5.2)."""
        match event:
            case OfferReceived(request=request) if leg is self.leg:
                leg.refuse_offer(request, 491)
            case DialogRequest(request=request) if leg is self.leg:
                leg.respond(request, 480)


async def ring(pbx: Switchboard, plan: Plan, invitation: Invitation, waiting: Waiting) -> RingResult:
    """Each step in turn; the best failure of all when nobody answered."""
    call = invitation.call
    failures: list[Unanswered] = []
    for step in plan.steps:
        call.note(step.why)
        match await _Round(pbx, step, invitation, waiting).run():
            case AnsweredBy() as winner:
                return winner
            case Unanswered() as failure:
                failures.append(failure)
                call.note(f"{failure.disposition.value} ({failure.status})")
                if isinstance(step, DialTrunk) and not _another_trunk_may_help(failure):
                    break
    return best_of(failures)


def _another_trunk_may_help(failure: Unanswered) -> bool:
    return 500 <= failure.status < 600 or failure.status == 408


class _Round:
    """One step: its branches ring together, the first 2xx wins."""

    def __init__(self, pbx: Switchboard, step: Step, invitation: Invitation, waiting: Waiting) -> None:
        self._pbx = pbx
        self._step = step
        self._invitation = invitation
        self._call = invitation.call
        self._waiting = waiting
        self._branches: dict[Leg, Branch] = {}
        self._open: set[Leg] = set()
        self._alone = False
        self._failures: list[Unanswered] = []

    async def run(self) -> RingResult:
        winner: OutgoingLeg | None = None
        try:
            async with asyncio.timeout(self._step.seconds):
                async for branch in self._pbx.dialler.dial(self._step, self._invitation):
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
            for leg in self._branches:
                if leg is not winner:
                    leg.hang_up()

    async def _first_answer(self) -> RingResult:
        while self._open:
            leg, event = await self._invitation.inbox.get()
            branch = self._branches.get(leg)
            if branch is None:
                self._waiting.hear(leg, event)
            else:
                match event:
                    case Provisional(response=response):
                        self._progress(branch, response.status, response.body)
                    case Answered(response=response):
                        return AnsweredBy(branch.leg, branch.extension, response.body)
                    case Rejected(response=response):
                        self._rejected(branch, response.status)
                    case Ended(cause=cause):
                        self._rejected(branch, 408 if cause is EndCause.TIMED_OUT else 503)
        return best_of(self._failures)

    def _progress(self, branch: Branch, status: int, sdp: bytes) -> None:
        if sdp and self._alone:
            self._waiting.early_media(branch, sdp)
        if status == 180:
            self._waiting.ring()
            self._call.ringing(branch.extension)
            if branch.extension is not None:
                self._pbx.phone_rings(self._call, branch.extension)

    def _rejected(self, branch: Branch, status: int) -> None:
        self._open.discard(branch.leg)
        self._failures.append(unanswered(status))
        self._call.note(f"{branch.leg.name} answered {status}")
        if status >= 600:
            # Deviation from RFC 3261 §16.7: our branches are several people. A 6xx speaks for one of them:
            # their other phones stop ringing, a colleague's goes on.
            for other in self._branches.values():
                if other.extension is branch.extension:
                    self._open.discard(other.leg)
                    other.leg.hang_up()

