"""Nobody answers, but the server: the caller hears an announcement, and the call is over.

It is answered with 200, as many trunks cut early media, or play something of their own when a failure follows. In the
books it is a call that nobody answered all the same: no person has talked.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from b2bua.calls.bridge import media_lost
from b2bua.calls.call import CallEnd, CallInProgress
from b2bua.calls.outcomes import ended_by
from b2bua.cdr import Disposition, EndedBy, EndReason
from b2bua.media.plane import MediaSession, SdpRefused, Side
from b2bua.sip.effects import AnswerConfirmed, Confirmed, Effect, EndCause, OfferReceived, Party
from b2bua.ua.leg import IncomingLeg, Leg, LegEnd, LegEnded, Wish, while_up

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard

MAX_SECONDS = 600.0                        # of one announcement, whatever the media plane says


async def announce(
    pbx: Switchboard,
    call: CallInProgress,
    caller: IncomingLeg,
    media: MediaSession,
    sound: str,
    disposition: Disposition,
) -> None:
    """Answer, play, hang up. Raises SdpRefused when it cannot even be answered, and MediaLost."""
    answer = media.own_answer(Side.CALLER) if caller.offer else media.own_offer(Side.CALLER)
    try:
        async with while_up(caller):
            caller.answer(answer)
            pbx.announcing(call, caller)
            await _confirmed(caller, media)
            media.lost.add_done_callback(partial(media_lost, caller.inbox))
            why = await played(caller, media, sound)
        if why is not None:
            call.note(f"{sound} was not played to its end: {why}")
        call.over(disposition, CallEnd(EndedBy.SWITCH, EndReason.FAULT if why else EndReason.ANNOUNCED, 200))
    except LegEnded as ended:
        by, reason = ended_by(ended.end, EndedBy.CALLER)
        call.note(f"the caller did not hear {sound} to its end: {reason.value}")
        call.over(disposition, CallEnd(by, reason, 200))


async def _confirmed(caller: IncomingLeg, media: MediaSession) -> None:
    """Who has sent ACK listens. That of an INVITE without an offer brings the answer to ours."""
    while True:
        leg, event = await caller.inbox.get()
        if leg is caller and isinstance(event, Confirmed):
            if not caller.offer:
                _take_answer(caller, media, event.body)
            return
        leg.put_off(event)


async def played(caller: Leg, media: MediaSession, sound: str) -> str | None:
    """None, or why it was not played to its end. What the caller wants meanwhile is heard."""
    end = media.play(sound, Side.CALLER)
    told = partial(_ended, caller)
    end.add_done_callback(told)
    try:
        async with asyncio.timeout(MAX_SECONDS):
            while not end.done():
                leg, event = await caller.inbox.get()
                hear(caller, media, leg, event)
            return end.result()
    except TimeoutError:
        return f"it took more than {MAX_SECONDS:.0f} s"
    finally:
        end.remove_done_callback(told)     # nobody reads the inbox any more by then, and it would keep the leg
        media.stop(Side.CALLER)


class _Played(Wish):
    """The sound has come to its end: whoever waits for events shall look."""


def _ended(caller: Leg, _: asyncio.Future[str | None]) -> None:
    caller.inbox.put(caller, _Played())


def hear(caller: Leg, media: MediaSession, leg: Leg, event: Effect | Wish) -> bytes:
    """A re-INVITE or UPDATE is answered by us alone: hold, resume, another codec, another address. How the caller
    describes itself from now on; b"" for no change."""
    match event:
        case OfferReceived(request=request, offer=offer) if leg is caller:
            try:
                if offer:
                    media.offer(offer, Side.CALLER)
                answer = media.own_answer(Side.CALLER) if offer else media.own_offer(Side.CALLER)
            except SdpRefused as refused:
                caller.refuse_offer(request, refused.status)
            else:
                caller.accept_offer(request, answer)
                return offer
        case AnswerConfirmed(body=body) if body:
            _take_answer(caller, media, body)
            return body
        case _:
            leg.put_off(event)
    return b""


def _take_answer(caller: Leg, media: MediaSession, body: bytes) -> None:
    try:
        media.answer(body, Side.CALLER)
    except SdpRefused as refused:
        raise LegEnded(caller, LegEnd(Party.LOCAL, EndCause.PROTOCOL_ERROR, str(refused))) from refused
