"""Ring the steps of a plan until somebody answers; the losers are cancelled."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from b2bua.calls.call import CallInProgress
from b2bua.calls.outcomes import AnsweredBy, RingResult, Unanswered, best_of, nobody_answered, unanswered
from b2bua.directory import Extension
from b2bua.media.plane import MediaSession, SdpRefused, Side
from b2bua.routing.dialplan import DialTrunk, Plan, Step
from b2bua.sip.effects import Answered, DialogRequest, Effect, EndCause, Ended, OfferReceived, Provisional, Rejected
from b2bua.ua.leg import IncomingLeg, Leg, OutgoingLeg

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard


@dataclass(frozen=True, slots=True)
class Branch:
    """One phone or trunk that is being called."""

    leg: OutgoingLeg
    extension: Extension | None            # None: the outside


async def ring(
    pbx: Switchboard, plan: Plan, call: CallInProgress, caller: IncomingLeg, offer: bytes, media: MediaSession
) -> RingResult:
    """Each step in turn; the best failure of all when nobody answered."""
    failures: list[Unanswered] = []
    for step in plan.steps:
        call.note(step.why)
        match await _Round(pbx, step, call, caller, media).run(offer):
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

    def __init__(
        self, pbx: Switchboard, step: Step, call: CallInProgress, caller: IncomingLeg, media: MediaSession
    ) -> None:
        self._pbx = pbx
        self._step = step
        self._call = call
        self._caller = caller
        self._media = media
        self._branches: dict[Leg, Branch] = {}
        self._open: set[Leg] = set()
        self._alone = False
        self._failures: list[Unanswered] = []

    async def run(self, offer: bytes) -> RingResult:
        winner: OutgoingLeg | None = None
        try:
            async with asyncio.timeout(self._step.seconds):
                async for branch in self._pbx.dialler.dial(self._step, self._call, self._caller, offer):
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
            leg, event = await self._caller.inbox.get()
            if leg is self._caller:
                _not_now(leg, event)
            elif (branch := self._branches.get(leg)) is not None:
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
        if sdp and self._alone and self._caller.offer:
            try:
                self._caller.early_media(self._media.answer(sdp, Side.CALLEE))
            except SdpRefused as refused:
                self._call.note(f"early media of {branch.leg.name} left out: {refused}")
        if status == 180:
            self._caller.ring()
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


def _not_now(caller: Leg, event: Effect) -> None:
    """The caller wants to change something before anybody answered: not yet (RFC 3261 §14.2, RFC 3311 §5.2)."""
    match event:
        case OfferReceived(request=request):
            caller.refuse_offer(request, 491)
        case DialogRequest(request=request):
            caller.respond(request, 480)

