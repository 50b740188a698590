"""Two legs up: what one side asks in its dialog is asked of the other side in the other dialog."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from b2bua.media.plane import MediaSession, SdpRefused, Side
from b2bua.sip.effects import (
    AnswerConfirmed,
    Confirmed,
    DialogRequest,
    DialogResponse,
    Effect,
    EndCause,
    OfferAnswered,
    OfferReceived,
    OfferRefused,
    Party,
)
from b2bua.sip.message import Request
from b2bua.ua.leg import IncomingLeg, Leg, LegEnd, LegEnded, OutgoingLeg

MAX_PASSED_ON = 8                          # requests of one side that wait for the other side's response
PASSED_ON = frozenset({"INFO", "MESSAGE"})


class MediaLost(Exception):
    """No RTP for too long, or the relay is gone."""


async def join(caller: IncomingLeg, callee: OutgoingLeg, sdp: bytes, media: MediaSession) -> None:
    """The callee answered: complete offer and answer on both legs (RFC 3261 §13.2.1). Raises SdpRefused.

    When the INVITE made an offer, `sdp` answers it. When it made none, `sdp` is the callee's offer, and the
    caller's ACK brings the answer.
    """
    if caller.offer:
        caller.answer(media.answer(sdp, Side.CALLEE))
        return
    caller.answer(media.offer(sdp, Side.CALLEE))
    while True:
        leg, event = await caller.inbox.get()
        if leg is caller and isinstance(event, Confirmed):
            callee.ack(media.answer(event.body, Side.CALLER))
            return


async def bridge(caller: IncomingLeg, callee: OutgoingLeg, media: MediaSession) -> None:
    """Run until cancelled (see while_up: a leg ended). Raises MediaLost, and LegEnded when we cannot go on with one."""
    one, other = _End(caller, Side.CALLER), _End(callee, Side.CALLEE)
    media.lost.add_done_callback(lambda _: caller.inbox.fail(MediaLost()))
    while True:
        leg, event = await caller.inbox.get()
        if leg is caller:
            _pass_on(one, other, event, media)
        elif leg is callee:
            _pass_on(other, one, event, media)


@dataclass(slots=True)
class _End:
    """One side of the bridge, and what it waits for from the other."""

    leg: Leg
    side: Side
    asked: Request | None = None           # its re-INVITE or UPDATE, not yet answered
    passed_on: deque[Request] = field(default_factory=deque)


def _pass_on(here: _End, there: _End, event: Effect, media: MediaSession) -> None:
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
        case DialogRequest(request=request) if request.method in PASSED_ON and len(here.passed_on) < MAX_PASSED_ON:
            here.passed_on.append(request)
            there.leg.request(request)
        case DialogRequest(request=request):
            here.leg.respond(request, 501)
        case DialogResponse(response=response) if there.passed_on:
            there.leg.respond(there.passed_on.popleft(), response.status)


def _offer(here: _End, there: _End, request: Request, offer: bytes, media: MediaSession) -> None:
    """A re-INVITE or UPDATE: hold, another codec, another address. Without SDP we are asked for an offer."""
    try:
        onward = media.offer(offer, here.side) if offer else b""
    except SdpRefused as refused:
        here.leg.refuse_offer(request, refused.status)
        return
    here.asked = request
    there.leg.reoffer(onward)


def _offer_answered(here: _End, there: _End, sdp: bytes, is_offer: bool, media: MediaSession) -> None:
    request, there.asked = there.asked, None
    if request is None:
        return
    try:
        onward = media.offer(sdp, here.side) if is_offer else media.answer(sdp, here.side)
    except SdpRefused as refused:
        there.leg.refuse_offer(request, refused.status)
        return
    there.leg.accept_offer(request, onward)


def _late_answer(here: _End, there: _End, sdp: bytes, media: MediaSession) -> None:
    """The ACK of an offerless re-INVITE answers the offer of the other side's 2xx (RFC 3261 §14.2)."""
    try:
        there.leg.ack(media.answer(sdp, here.side))
    except SdpRefused as refused:
        raise LegEnded(there.leg, LegEnd(Party.LOCAL, EndCause.PROTOCOL_ERROR, str(refused))) from refused
