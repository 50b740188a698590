"""How somebody comes into a talk in the place of another: by offer and answer with the one who remains.

The newcomer makes an offer, who remains answers it (a re-INVITE, RFC 3725 §4.1), and the newcomer gets that answer. So
no codec is left that only one of them has.

    who comes                         its offer is in                     it gets the answer in
    the target of a blind transfer    the 200 to our INVITE without SDP   the ACK
    the same, by a trunk              the 200 that answers `introduction` a re-INVITE, if there is something to say
    a party of another call           the 200 to our re-INVITE without    the ACK
    a phone with INVITE, Replaces     the INVITE                          the 200
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from b2bua.calls.bridge import End, SentOn, Talk
from b2bua.calls.pickup import PicksUp
from b2bua.calls.referral import Referral
from b2bua.calls.round import Branch
from b2bua.directory import Extension
from b2bua.media.plane import SdpRefused
from b2bua.sdp.negotiation import speaks
from b2bua.sip.effects import DialogRequest, DialogResponse, Effect, Ended, OfferAnswered, OfferReceived, OfferRefused
from b2bua.ua.leg import HeaderFields, IncomingLeg, Leg, LegEnded, Wish, while_up

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard

TRANSFEROR_PATIENCE = 4.0                  # seconds for the transferor to hang up by itself, once it knows
OFFERS = 5                                 # times that one offer is made while others cross it (491)
OFFER_AGAIN = 0.5                          # seconds between two of them


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Who comes into a talk. No offer: it has to be asked for one."""

    leg: Leg
    extension: Extension | None
    offer: bytes
    agreed: bool = False                   # that was its answer to an introduction, and nobody waits for another


@dataclass(frozen=True, slots=True)
class Joins(Wish):
    """A newcomer wants the place of the one whose leg is `instead_of`; `referral`, when a REFER brought it here."""

    newcomer: Newcomer
    instead_of: Leg
    referral: Referral | None

    def refuse(self, status: int) -> None:
        _send_away(self.newcomer.leg, status)
        if self.referral is not None:
            self.referral.end(status)
            self.referral.leg.hang_up()

    def too_late(self) -> None:
        self.refuse(481)


class Meanwhile:
    """What happens elsewhere while a target rings (ring.Waiting): the two go on as they were."""

    def __init__(self, talk: Talk, leaving: End, referral: Referral | None) -> None:
        self._talk = talk
        self._leaving = leaving
        self._referral = referral
        self.offers_wait = False           # an offer of ours comes first

    def ring(self) -> None:
        if self._referral is not None:
            self._referral.progress(180)

    def early_media(self, branch: Branch, sdp: bytes) -> None:
        """It was asked for an offer, and a preview of that helps nobody."""

    def suits(self, wish: PicksUp) -> bool:
        """That is found out by asking who remains."""
        return True

    def hear(self, leg: Leg, event: Effect | Wish) -> None:
        referral = self._referral
        match event:
            case Joins():
                event.refuse(491)
            case SentOn():
                event.dropped()
            case DialogRequest(request=request) if request.method == "REFER":
                leg.respond(request, 491)  # one at a time
            case DialogResponse(request=request, response=response) if request.method == "NOTIFY":
                if referral is not None and leg is referral.leg:
                    referral.answered(response.status)
            case OfferReceived(request=request) if self.offers_wait:
                leg.refuse_offer(request, 491)
            case Ended() if leg is self._leaving.leg:
                self._talk.let_go_of(self._talk.other(self._leaving))
                self._talk.media.left(self._leaving.side)
            case _:
                self._talk.pass_on(leg, event)

    def goodbye(self) -> HeaderFields:
        end = self._talk.other(self._leaving).leg.end
        return end.headers if end is not None else ()


class Entry:
    """Offer and answer between a newcomer and who remains; only when that is done, the newcomer is one of the two."""

    def __init__(
        self, pbx: Switchboard, talk: Talk, leaving: End, newcomer: Newcomer, referral: Referral | None
    ) -> None:
        self._pbx = pbx
        self._talk = talk
        self._leaving = leaving
        self._remaining = talk.other(leaving)
        self._newcomer = newcomer
        self._referral = referral
        self._meanwhile = Meanwhile(talk, leaving, referral)
        self._is_offered = False           # who remains has not yet answered the newcomer's offer
        self._was_answered = False         # it has agreed to that

    async def run(self) -> int:
        """200, or why not. Raises LegEnded when who remains leaves."""
        status = 500
        try:
            status = await self._negotiate()
        except SdpRefused as refused:
            status = refused.status
            self._talk.call.note(f"the two have no codec in common: {refused}")
        except LegEnded as ended:
            if ended.leg is not self._newcomer.leg:
                raise
            status = 487
            if self._is_offered:
                self._was_answered = isinstance(await self._settled(self._remaining.leg), OfferAnswered)
        finally:
            if status != 200:
                _send_away(self._newcomer.leg, status)
        if status == 200:
            self._done()
        else:
            talk, newcomer = self._talk, self._newcomer
            talk.call.note(f"{newcomer.leg.name} could not be joined ({status})")
            self._stays_as_it_was()
        return status

    async def _negotiate(self) -> int:
        talk, newcomer, remaining = self._talk, self._newcomer, self._remaining
        while self._leaving.asked is not None:          # the transferor's last re-INVITE: hold, mostly
            talk.pass_on(*await self._next())
        self._meanwhile.offers_wait = True
        talk.let_go_of(remaining)
        offer = newcomer.offer
        if not offer:
            match await self._offer(newcomer.leg, b""):
                case OfferAnswered(response=response):
                    offer = response.body
                case OfferRefused(response=response):
                    return response.status
        onward = talk.media.offer(offer, self._leaving.side)
        self._is_offered = True
        outcome = await self._offer(remaining.leg, onward)
        self._is_offered = False
        match outcome:
            case OfferRefused(response=response):
                return response.status
            case OfferAnswered(response=response):
                remaining.sdp, self._was_answered = response.body, True
        answer = talk.media.answer(remaining.sdp, remaining.side)
        if not newcomer.agreed:
            newcomer.leg.conclude(answer)
        elif not speaks(remaining.sdp, offer):
            narrowed = await self._offer(newcomer.leg, talk.media.offer(remaining.sdp, remaining.side))
            if isinstance(narrowed, OfferAnswered):
                offer = narrowed.response.body
                talk.media.answer(offer, self._leaving.side)
        talk.replace(self._leaving, End(newcomer.leg, self._leaving.side, newcomer.extension, offer))
        return 200

    async def _offer(self, leg: Leg, sdp: bytes) -> OfferAnswered | OfferRefused:
        """A re-INVITE, repeated for a while when others cross it, as a session refresh of ours may."""
        for _ in range(OFFERS):
            leg.reoffer(sdp)
            outcome = await self._settled(leg, asked=not sdp)
            if isinstance(outcome, OfferAnswered) or outcome.response.status != 491:
                return outcome
            with suppress(TimeoutError):
                async with asyncio.timeout(OFFER_AGAIN):
                    while True:
                        await self._next()
        return outcome

    async def _settled(self, leg: Leg, *, asked: bool = False) -> OfferAnswered | OfferRefused:
        """What became of the offer to `leg`; `asked` for one, it answers by its own."""
        while True:
            other, event = await self._next()
            if other is leg and (isinstance(event, OfferRefused) or event.wants_answer == asked):
                return event

    async def _next(self) -> tuple[Leg, OfferAnswered | OfferRefused]:
        """The next outcome of an offer. What happens besides is heard as while it rang."""
        while True:
            leg, event = await self._talk.inbox.get()
            if isinstance(event, OfferAnswered | OfferRefused):
                return leg, event
            if isinstance(event, Ended) and leg in (self._newcomer.leg, self._remaining.leg) and leg.end is not None:
                raise LegEnded(leg, leg.end)
            self._meanwhile.hear(leg, event)

    def _done(self) -> None:
        talk, leaving, newcomer, referral = self._talk, self._leaving, self._newcomer, self._referral
        talk.call.handed_to(newcomer.extension)
        who = f"{talk.number_of(leaving)} has handed {talk.number_of(self._remaining)}"
        talk.call.note(f"{who} over to {newcomer.leg.name}")
        self._pbx.handed_over(talk, leaving.extension, newcomer.extension)
        if referral is not None:
            referral.end(200)
            self._pbx.see_off(see_off(referral.leg))
        if referral is None or referral.leg is not leaving.leg:
            leaving.leg.hang_up()                       # RFC 3891 §3: the dialog that was replaced is ended

    def _stays_as_it_was(self) -> None:
        """The relay has heard of the newcomer, and perhaps who remains has: both shall forget it."""
        leaving = self._leaving
        if leaving.leg.end is not None or not leaving.sdp:
            return
        with suppress(SdpRefused):
            again = self._talk.media.offer(leaving.sdp, leaving.side)
            if self._was_answered:
                self._remaining.leg.reoffer(again)


def introduction(talk: Talk, remaining: End) -> bytes:
    """What a trunk is offered on behalf of the one who remains; b"": it has to make the offer."""
    try:
        return talk.media.introduce(remaining.sdp, remaining.side)
    except SdpRefused:
        return b""


async def see_off(leg: Leg) -> None:
    """A phone that knows of its success hangs up; else we do."""
    async with leg:
        with suppress(TimeoutError, LegEnded):
            async with asyncio.timeout(TRANSFEROR_PATIENCE), while_up(leg):
                await asyncio.get_running_loop().create_future()


def _send_away(leg: Leg, status: int) -> None:
    if isinstance(leg, IncomingLeg):
        leg.reject(status)
    else:
        leg.hang_up()
