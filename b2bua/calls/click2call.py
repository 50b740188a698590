"""click2call: the phone of who clicked rings first; once it is picked up, whom they clicked is called and joined.

The media is anchored here, so that it needs no re-INVITE where RFC 3725 §4 has some. The phone is offered G.711
(own_offer), and hears our ring tone as soon as it is picked up. Its answer is the offer to the other side, by whose
early media or answer the two hear each other through the relay. Only when the phone would send by a codec that the
other side has not taken, it is offered what that side has.

    phone                         switch                              trunk
      |<-- INVITE, offer of G.711 --|                                   |
      |--- 200, answer ------------>|                                   |
      |<======== ring tone =========|--- INVITE, offer: that answer --->|
      |<=== early media ============|<-- 183, answer -------------------|
      |<======= talk ===============|<-- 200, answer -------------------|
      |<-- re-INVITE, that answer --|   if the phone would send something else
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from b2bua.calls.announcement import hear, played
from b2bua.calls.bridge import End, Talk, cross
from b2bua.calls.call import CallEnd, CallInProgress
from b2bua.calls.clicks import Click
from b2bua.calls.connect import in_the_books, left
from b2bua.calls.invitation import Invitation, Shown, shown
from b2bua.calls.outcomes import Announced, AnsweredBy, RingResult, Unanswered
from b2bua.calls.pickup import PicksUp
from b2bua.calls.ring import ring
from b2bua.calls.round import Branch, Round
from b2bua.calls.transfer import converse
from b2bua.cdr import Disposition, EndedBy, EndReason
from b2bua.control import ClickStage
from b2bua.media.plane import MediaSession, SdpRefused, Side
from b2bua.routing.plan import NoRoute, Plan, RingExtensions
from b2bua.sdp.negotiation import NotAcceptable, speaks
from b2bua.sdp.session import SdpError
from b2bua.sip.effects import Effect
from b2bua.sip.reasons import q850
from b2bua.ua.leg import HeaderFields, Inbox, IncomingLeg, Leg, LegEnded, OutgoingLeg, Wish, while_up

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard

RING_TONE: Final = "ringback"


async def click2call(pbx: Switchboard, click: Click, inbox: Inbox, plan: Plan | NoRoute) -> None:
    """The plan says who is called; it is made by the click, and refused by it before anybody's phone rings."""
    call = click.call
    async with in_the_books(pbx, call, inbox):
        if isinstance(plan, NoRoute):
            _refused(call, plan)
            return
        async with pbx.media.open(call.id) as media:
            try:
                match await _ring_who_clicked(pbx, click, inbox, media):
                    case Unanswered() as unanswered:
                        call.over(unanswered.disposition, _end_of(unanswered, EndedBy.CALLER))
                    case AnsweredBy(leg=OutgoingLeg() as phone, sdp=sdp):
                        await _call_them(pbx, click, phone, sdp, media, plan)
            except SdpRefused as refused:
                call.note(str(refused))
                call.over(Disposition.FAILED, CallEnd(EndedBy.SWITCH, EndReason.NO_COMMON_CODEC, refused.status))
            finally:
                call.hung_up()


async def _ring_who_clicked(pbx: Switchboard, click: Click, inbox: Inbox, media: MediaSession) -> RingResult:
    """All phones of that extension, wherever its calls are forwarded. Raises SdpRefused."""
    call, extension = click.call, click.extension
    if pbx.board.is_engaged((extension.client, extension.number)):
        call.note(f"{extension.number} is in a call already")
        return Unanswered(Disposition.BUSY, EndReason.ENGAGED, 486)
    step = RingExtensions((extension,), extension.ring_seconds, f"{extension.number} has clicked {call.dialled}")
    call.note(step.why)
    invitation = Invitation(call, inbox, media.own_offer(Side.CALLER), _shown(pbx, click), withheld=False,
                            alert=pbx.answer_after(call))
    result = await Round(pbx, invitation, _Nobody(), step.seconds).run(pbx.dialler.phones(step, invitation))
    if isinstance(result, Unanswered):
        unregistered = result.reason is EndReason.NOTHING_TO_RING
        why = "no phone of it is registered" if unregistered else f"{result.disposition.value} ({result.status})"
        call.note(f"{extension.number} has not picked up: {why}")
    return result


async def _call_them(
    pbx: Switchboard, click: Click, phone: OutgoingLeg, sdp: bytes, media: MediaSession, plan: Plan
) -> None:
    """Who clicked has picked up, and waits until somebody answers or nobody does. Raises SdpRefused."""
    call, extension = click.call, click.extension
    try:
        async with phone, while_up(phone) as set_up:
            phone.inbox.check()            # hung up in the moment in which it was picked up
            call.placed()
            click.becomes(ClickStage.RINGING_THEM)
            pbx.picks_up(call, phone, extension, _shown(pbx, click))
            for note in plan.notes:
                call.note(note)
            media.answer(sdp, Side.CALLER)
            waits = _Waits(phone, sdp, call, media)
            offer = media.offer(sdp, Side.CALLER)
            invitation = Invitation(call, phone.inbox, offer, shown(call, extension), extension.hide_caller_id)
            match await ring(pbx, plan, invitation, waits):
                case Unanswered() as unanswered:
                    call.over(unanswered.disposition, _end_of(unanswered, unanswered.by))
                    call.hung_up()
                    click.over(pbx.now())  # the page need not wait for the tone's end
                    await _hears(waits, _tone_of(unanswered.disposition))
                case Announced(sound=sound, instead_of=unanswered):
                    call.disposition = unanswered.disposition
                    why = await _hears(waits, sound)
                    reason = EndReason.FAULT if why else EndReason.ANNOUNCED
                    call.over(unanswered.disposition, CallEnd(EndedBy.SWITCH, reason, 200))
                case AnsweredBy(leg=callee, extension=colleague, sdp=theirs):
                    async with callee, while_up(callee) as answering:
                        waits.joined_by(callee, theirs)
                        call.answered(colleague)
                        click.becomes(ClickStage.TALKING)
                        pbx.answered(call, media, phone, callee)
                        media.music_on_hold(pbx.music_on_hold(call))
                        set_up.release()
                        answering.release()
                        waits.agree(callee, theirs)
                        one = End(phone, Side.CALLER, extension, waits.sdp)
                        other = End(callee, Side.CALLEE, colleague, theirs)
                        await converse(pbx, Talk(call, media, phone.inbox, one, other))
    except LegEnded as ended:
        left(call, ended, by_caller=ended.leg is phone)
        ended.__traceback__ = None         # as in to_its_end


class _Nobody:
    """Who waits while the phones of who clicked ring (round.Waiting)."""

    def ring(self) -> None:
        """Whoever is called does not ring yet."""

    def early_media(self, branch: Branch, sdp: bytes) -> None:
        """There is nobody to hear it."""

    def suits(self, wish: PicksUp) -> bool:
        """The call is for who clicked, and for no colleague."""
        return False

    def hear(self, leg: Leg, event: Effect | Wish) -> None:
        leg.put_off(event)

    def goodbye(self) -> HeaderFields:
        return ()


class _Waits:
    """Who clicked, with the phone picked up, while those they call ring (round.Waiting)."""

    def __init__(self, phone: OutgoingLeg, sdp: bytes, call: CallInProgress, media: MediaSession) -> None:
        self.phone = phone
        self.media = media
        self.sdp = sdp                     # how the phone has described itself last
        self._offered = sdp                # the same, as whoever is called knows it
        self.note = call.note
        self._heard: Leg | None = None     # whose early media the phone hears
        self._ring_tone = False
        self.ring()

    def ring(self) -> None:
        """Our ring tone from the first moment on, as silence would be taken for a fault."""
        heard = self._heard is not None and self._heard.end is None
        if not heard and not self._ring_tone:
            self._ring_tone = True
            self.media.play(RING_TONE, Side.CALLER, repeat=True)

    def early_media(self, branch: Branch, sdp: bytes) -> None:
        try:
            self.media.answer(sdp, Side.CALLEE)
        except SdpRefused as refused:
            self.note(f"early media of {branch.leg.name} left out: {refused}")
            return
        self._heard = branch.leg
        self._stop()

    def suits(self, wish: PicksUp) -> bool:
        try:
            cross(self.sdp, wish.leg.offer, self.media)
        except SdpRefused as refused:
            self.note(f"{wish.extension.number} cannot pick up: {refused}")
            return False
        return True

    def hear(self, leg: Leg, event: Effect | Wish) -> None:
        self.sdp = hear(self.phone, self.media, leg, event) or self.sdp

    def goodbye(self) -> HeaderFields:
        return self.phone.end.headers if self.phone.end is not None else ()

    def joined_by(self, callee: OutgoingLeg | IncomingLeg, sdp: bytes) -> None:
        """The two hear each other from now on. Raises SdpRefused."""
        if isinstance(callee, IncomingLeg):
            answer, _ = cross(self.sdp, sdp, self.media)
            callee.answer(answer)
        else:
            self.media.answer(sdp, Side.CALLEE)
        self._stop()

    def agree(self, callee: Leg, sdp: bytes) -> None:
        """What one has not yet been told of the other; the bridge takes the answer."""
        if self.sdp != self._offered:      # put on hold, or moved, while it rang
            callee.reoffer(self.media.offer(self.sdp, Side.CALLER))
            return
        with suppress(SdpRefused, SdpError, NotAcceptable):        # they have agreed all the same
            if not speaks(sdp, self.sdp):
                self.phone.reoffer(self.media.offer(sdp, Side.CALLEE))

    def _stop(self) -> None:
        self._ring_tone = False
        self.media.stop(Side.CALLER)


async def _hears(waits: _Waits, sound: str) -> str | None:
    """What becomes of it, in place of the ring tone: None, or why it was not played to its end."""
    why = await played(waits.phone, waits.media, sound)
    if why is not None:
        waits.note(f"{sound} was not played to its end: {why}")
    return why


def _tone_of(disposition: Disposition) -> str:
    match disposition:
        case Disposition.BUSY | Disposition.DECLINED | Disposition.NO_ANSWER:
            return "busy"
        case Disposition.UNREACHABLE:
            return "unavailable"
        case _:
            return "congestion"


def _shown(pbx: Switchboard, click: Click) -> Shown:
    """On the phone of who clicked: whom they call."""
    call = click.call
    colleague = pbx.directory.extension.get((call.client, click.dialled))
    if colleague is not None:
        return Shown(colleague.number, colleague.name)
    group = pbx.directory.group.get((call.client, click.dialled))
    name = group.name if group is not None else shown(call, None).name
    return Shown(call.dialled, name or call.dialled)


def _refused(call: CallInProgress, plan: NoRoute) -> None:
    """Before anybody's phone has rung."""
    disposition = Disposition.UNREACHABLE if plan.reason is EndReason.NOTHING_TO_RING else Disposition.REFUSED
    call.note(plan.why)
    call.over(disposition, CallEnd(EndedBy.SWITCH, plan.reason, plan.status))


def _end_of(unanswered: Unanswered, by: EndedBy) -> CallEnd:
    return CallEnd(by, unanswered.reason, unanswered.status, q850(unanswered.reasons))
