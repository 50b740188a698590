"""Two legs up: what one side asks in its dialog is asked of the other side in the other dialog."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from b2bua.calls.call import CallInProgress
from b2bua.calls.in_dialog import PASSED_ON, Onward, digit_in, refusal
from b2bua.directory import Extension
from b2bua.media.plane import MediaSession, SdpRefused, Side
from b2bua.sip.effects import (
    AnswerConfirmed,
    Confirmed,
    DialogRequest,
    DialogResponse,
    Effect,
    EndCause,
    Ended,
    OfferAnswered,
    OfferReceived,
    OfferRefused,
    Party,
)
from b2bua.sip.message import Request
from b2bua.ua.leg import HeaderFields, Inbox, IncomingLeg, Leg, LegEnd, LegEnded, OutgoingLeg, Wish


class MediaLost(Exception):
    """No RTP for too long, or the relay is gone."""


def media_lost(inbox: Inbox, _: asyncio.Future[None]) -> None:
    """Of a media session's `lost`: whoever waits for the call's events is told."""
    inbox.fail(MediaLost())


@dataclass(eq=False, slots=True)
class End:
    """One of the two who talk, and what it waits for from the other."""

    leg: Leg
    side: Side
    extension: Extension | None            # whose phone it is; None: the outside
    sdp: bytes = b""                       # how it has described itself last
    asked: Request | None = None           # its re-INVITE or UPDATE, not yet answered
    referrals: int = 0                     # REFERs of it that we have accepted
    onward: Onward = field(init=False)     # what the other asks of it

    def __post_init__(self) -> None:
        self.onward = Onward(self.leg)


@dataclass(eq=False, slots=True)
class Talk:
    """Two who are joined, and what they share. A transfer puts somebody else in the place of one."""

    call: CallInProgress
    media: MediaSession
    inbox: Inbox
    caller: End
    callee: End
    changing: bool = False                 # a transfer is under way

    def end_of(self, leg: Leg) -> End | None:
        return next((end for end in (self.caller, self.callee) if end.leg is leg), None)

    def other(self, end: End) -> End:
        return self.callee if end is self.caller else self.caller

    def replace(self, leaving: End, newcomer: End) -> None:
        leaving.onward.give_up(480)        # what the other has asked of it while it was leaving
        if leaving is self.caller:
            self.caller = newcomer
        else:
            self.callee = newcomer

    def number_of(self, end: End) -> str:
        """Who that is, in the words of the record."""
        return end.extension.number if end.extension is not None else self.call.outside_party or "anonymous"

    def hang_up(self, headers: HeaderFields = ()) -> None:
        self.caller.leg.hang_up(headers)
        self.callee.leg.hang_up(headers)

    def pass_on(self, leg: Leg, event: Effect | Wish) -> None:
        end = self.end_of(leg)
        if end is None:                    # who comes, or has left: nobody to ask
            leg.put_off(event)
        elif isinstance(event, Pressed):
            if self.other(end).leg.end is None:
                self.other(end).onward.press(event.digit, event.seconds)
        elif not isinstance(event, Wish):
            _pass_on(end, self.other(end), event, self.media)

    def let_go_of(self, end: End) -> None:
        """It waits for answers that will not come any more: the other's leg leaves, or it leaves itself."""
        if end.asked is not None:
            request, end.asked = end.asked, None
            end.leg.refuse_offer(request, 491)
        self.other(end).onward.give_up(480)


@dataclass(frozen=True, slots=True)
class Pressed(Wish):
    """A digit in the audio of one of the two, of which the other hears by INFO only."""

    digit: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Referred(Wish):
    """One of the two sends a REFER."""

    by: End
    request: Request


@dataclass(frozen=True, slots=True)
class SentOn(Wish):
    """Somebody at the live page transfers the call, in the name of whose phone `end` is."""

    talk: Talk
    end: End
    dialled: str
    by: str                                # their login

    def dropped(self) -> None:
        self.talk.call.note(f"{self.by} wanted it transferred to {self.dialled}: others have come into the call first")

    def too_late(self) -> None:
        self.talk.changing = False


async def join(caller: IncomingLeg, callee: OutgoingLeg | IncomingLeg, sdp: bytes, media: MediaSession) -> bytes:
    """The callee answered: complete offer and answer on both legs (RFC 3261 §13.2.1). Raises SdpRefused.

    When the INVITE made an offer, `sdp` answers it. When it made none, `sdp` is the callee's offer, and the
    caller's ACK brings the answer. What comes back is how the caller describes itself. Two offers, of a caller and of
    who picks its call up, answer each other.
    """
    if caller.offer and isinstance(callee, IncomingLeg):
        to_callee, to_caller = cross(caller.offer, sdp, media)
        callee.answer(to_callee)
        caller.answer(to_caller)
        return caller.offer
    if caller.offer:
        caller.answer(media.answer(sdp, Side.CALLEE))
        return caller.offer
    caller.answer(media.offer(sdp, Side.CALLEE))
    while True:
        leg, event = await caller.inbox.get()
        if leg is caller and isinstance(event, Confirmed):
            callee.conclude(media.answer(event.body, Side.CALLER))
            return event.body
        leg.put_off(event)


def cross(caller: bytes, callee: bytes, media: MediaSession) -> tuple[bytes, bytes]:
    """Of two offers, the answer to the callee's and the one to the caller's: each has the codecs of both. Raises
    SdpRefused."""
    media.offer(callee, Side.CALLEE)
    to_caller = media.answer(callee, Side.CALLEE)
    return media.answer(caller, Side.CALLER), to_caller


async def bridge(talk: Talk) -> Wish:
    """Until somebody wishes that others talk. Raises MediaLost, and LegEnded when one of the two leaves."""
    while True:
        leg, event = await talk.inbox.get()
        end = talk.end_of(leg)
        match event:
            case Pressed():
                talk.pass_on(leg, event)
            case Wish():
                return event
            case DialogRequest(request=request) if end is not None and request.method == "REFER":
                return Referred(end, request)
            case Ended() if end is not None and leg.end is not None:
                raise LegEnded(leg, leg.end)
            case _:
                talk.pass_on(leg, event)


def _pass_on(here: End, there: End, event: Effect, media: MediaSession) -> None:
    """`event` happened at `here`."""
    match event:
        case OfferReceived(request=request, offer=offer):
            _offer(here, there, request, offer, media)
        case OfferAnswered(response=response, wants_answer=wants_answer):
            _offer_answered(here, there, response.body, wants_answer, media)
        case OfferRefused(response=response) if there.asked is not None:
            request, there.asked = there.asked, None
            there.leg.refuse_offer(request, response.status)
        case AnswerConfirmed(body=body) if body:
            _late_answer(here, there, body, media)
        case DialogRequest(request=request) if there.leg.end is not None:
            here.leg.respond(request, 480)
        case DialogRequest(request=request):
            _ask(here, there, request, media)
        case DialogResponse(request=asked, response=response) if asked.method in PASSED_ON:
            here.onward.answered(response)


def _ask(here: End, there: End, request: Request, media: MediaSession) -> None:
    if (refused := refusal(request)) is not None:
        here.leg.respond(request, *refused)
        return
    pressed = digit_in(request)
    if pressed is not None and media.dial(*pressed, here.side):
        here.leg.respond(request, 200)
        return
    there.onward.pass_on(here.leg, request)


def _offer(here: End, there: End, request: Request, offer: bytes, media: MediaSession) -> None:
    """A re-INVITE or UPDATE: hold, another codec, another address. Without SDP we are asked for an offer."""
    if there.leg.end is not None:           # who takes its place is being rung: later (RFC 3261 §14.2)
        here.leg.refuse_offer(request, 491)
        return
    try:
        onward = media.offer(offer, here.side) if offer else b""
    except SdpRefused as refused:
        here.leg.refuse_offer(request, refused.status)
        return
    here.asked = request
    here.sdp = offer or here.sdp
    there.leg.reoffer(onward)


def _offer_answered(here: End, there: End, sdp: bytes, is_offer: bool, media: MediaSession) -> None:
    request, there.asked = there.asked, None
    here.sdp = sdp
    if request is None:                     # the offer was ours, after a transfer that came to nothing
        with suppress(SdpRefused):
            media.answer(sdp, here.side)
        return
    if is_offer and there.leg.end is not None:      # who asked for it has left: its last word has to do
        media.offer(sdp, here.side)
        _late_answer(there, here, there.sdp, media)
        return
    try:
        onward = media.offer(sdp, here.side) if is_offer else media.answer(sdp, here.side)
    except SdpRefused as refused:
        there.leg.refuse_offer(request, refused.status)
        return
    there.leg.accept_offer(request, onward)


def _late_answer(here: End, there: End, sdp: bytes, media: MediaSession) -> None:
    """The ACK of an offerless re-INVITE answers the offer of the other side's 2xx (RFC 3261 §14.2)."""
    here.sdp = sdp
    try:
        there.leg.ack(media.answer(sdp, here.side))
    except SdpRefused as refused:
        raise LegEnded(there.leg, LegEnd(Party.LOCAL, EndCause.PROTOCOL_ERROR, str(refused))) from refused
