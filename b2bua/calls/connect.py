"""What every kind of call does once it knows whom to ring: ring, answer, bridge; and how its end is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from b2bua.calls.announcement import announce
from b2bua.calls.bridge import End, MediaLost, Talk, join
from b2bua.calls.call import CallEnd, CallInProgress
from b2bua.calls.identity import hides
from b2bua.calls.invitation import Invitation, shown
from b2bua.calls.outcomes import Announced, AnsweredBy, Unanswered, ended_by
from b2bua.calls.ring import Caller, ring
from b2bua.calls.transfer import converse
from b2bua.cdr import Direction, Disposition, EndedBy, EndReason
from b2bua.media.plane import MediaError, MediaSession, SdpRefused, Side
from b2bua.routing.plan import NoRoute, Plan
from b2bua.sip.effects import EndCause
from b2bua.sip.reasons import fields, q850
from b2bua.ua.leg import HeaderFields, HungUp, Inbox, IncomingLeg, LegEnded, while_up

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard


async def connect(
    pbx: Switchboard,
    call: CallInProgress,
    caller: IncomingLeg,
    plan: Plan | NoRoute,
    media: MediaSession,
    set_up: while_up,
) -> None:
    """Ring the plan; when somebody answers, join the two, and stay until one of those who then talk leaves.

    `set_up` is the block that is left when the caller leaves: a talk can outlive the one who began it.
    """
    if isinstance(plan, NoRoute):
        refuse(caller, call, plan.status, plan.reason, plan.why)
        return
    for note in plan.notes:
        call.note(note)
    try:
        offer = media.offer(caller.offer, Side.CALLER) if caller.offer else b""
        phone = call.extension
        withheld = hides(caller.invite) or (phone is not None and phone.hide_caller_id)
        invitation = Invitation(call, caller.inbox, offer, shown(call, phone), withheld)
        match await ring(pbx, plan, invitation, Caller(caller, call, media, pbx.board)):
            case Unanswered() as unanswered:
                _nobody_talks(caller, call, unanswered)
            case Announced(sound=sound, instead_of=unanswered):
                if (why := media.cannot_play(sound, Side.CALLER)) is not None:
                    call.note(f"{sound} cannot be played: {why}")
                    _nobody_talks(caller, call, unanswered)
                    return
                set_up.release()
                await announce(pbx, call, caller, media, sound, unanswered.disposition)
            case AnsweredBy(leg=callee, extension=extension, sdp=sdp):
                async with callee, while_up(callee) as answering:
                    one = End(caller, Side.CALLER, phone, await join(caller, callee, sdp, media))
                    call.answered(extension)
                    pbx.answered(call, media, caller, callee)
                    media.music_on_hold(pbx.music_on_hold(call))
                    set_up.release()
                    answering.release()
                    await converse(pbx, Talk(call, media, caller.inbox, one, End(callee, Side.CALLEE, extension, sdp)))
    except SdpRefused as refused:
        refuse(caller, call, refused.status, EndReason.NO_COMMON_CODEC, str(refused))
    finally:
        call.hung_up()


def _nobody_talks(caller: IncomingLeg, call: CallInProgress, unanswered: Unanswered) -> None:
    status, reasons = unanswered.status, unanswered.reasons
    call.over(unanswered.disposition, CallEnd(unanswered.by, unanswered.reason, status, q850(reasons)))
    caller.reject(status, fields(reasons))


def refuse(
    caller: IncomingLeg, call: CallInProgress, status: int, reason: EndReason, why: str, headers: HeaderFields = ()
) -> None:
    """Our own no."""
    disposition = Disposition.UNREACHABLE if reason is EndReason.NOTHING_TO_RING else Disposition.REFUSED
    call.note(why)
    call.over(disposition, CallEnd(EndedBy.SWITCH, reason, status))
    caller.reject(status, headers)


@asynccontextmanager
async def to_its_end(pbx: Switchboard, call: CallInProgress, caller: IncomingLeg) -> AsyncIterator[None]:
    """Whatever ends the block is told in the record, both legs are hung up, and the record is kept."""
    async with in_the_books(pbx, call, caller.inbox):
        try:
            yield
        except LegEnded as ended:
            left(call, ended, by_caller=ended.leg is caller)
            caller.hang_up(ended.end.headers)
            ended.__traceback__ = None     # CPython 3.13: its frames and contextlib's would hold each other
        except MediaError:
            caller.reject(503)
            raise
        finally:
            caller.hang_up()


def left(call: CallInProgress, ended: LegEnded, *, by_caller: bool) -> None:
    """One of the two has gone before they talked."""
    by, reason = ended_by(ended.end, EndedBy.CALLER if by_caller else EndedBy.CALLEE)
    gave_up = by_caller and ended.end.cause in (EndCause.CANCELLED, EndCause.BYE)       # RFC 3261 §15
    disposition, status = (Disposition.ABANDONED, 487) if gave_up else (Disposition.FAILED, 500)
    if ended.end.reason and call.end is None:
        call.note(f"{by.value} said: {ended.end.reason}")
    call.over(disposition, CallEnd(by, reason, status, q850(ended.end.reasons)))


@asynccontextmanager
async def in_the_books(pbx: Switchboard, call: CallInProgress, inbox: Inbox) -> AsyncIterator[None]:
    """The record is kept, whatever ends the block."""
    try:
        yield
    except MediaLost:
        call.over(Disposition.FAILED, CallEnd(EndedBy.SWITCH, EndReason.MEDIA_TIMEOUT, 500))
        call.note(f"hung up: {pbx.media.problem or 'no audio came for too long'}")
    except MediaError as error:
        call.over(Disposition.FAILED, CallEnd(EndedBy.SWITCH, EndReason.FAULT, 503))
        call.note(f"no media: {error}")
    except HungUp as hung_up:
        _hung_up(call, hung_up)
        hung_up.__traceback__ = None       # as in to_its_end
    finally:
        if pbx.hanging_up and call.end is None:
            call.over(Disposition.FAILED, CallEnd(EndedBy.SWITCH, EndReason.SHUTDOWN, 503))
        inbox.close()
        await pbx.finished(call)


def _hung_up(call: CallInProgress, hung_up: HungUp) -> None:
    """By the employee, in the page: as if their phone had done it."""
    inbound = call.direction is Direction.INBOUND
    by = EndedBy.CALLEE if inbound else EndedBy.CALLER
    if call.end is None:
        call.note(f"hung up {hung_up.where}")
    if call.answered_at is not None:
        call.over(Disposition.ANSWERED, CallEnd(by, EndReason.HUNG_UP, 200))
    elif inbound:
        call.over(Disposition.DECLINED, CallEnd(by, EndReason.REJECTED, hung_up.status))
    else:
        call.over(Disposition.ABANDONED, CallEnd(by, EndReason.CANCELLED, hung_up.status))
