"""Call transfer, ended here: no other party ever sees a REFER (RFC 3515, RFC 3891, RFC 5589).

Who is wanted is decided here, as if the transferor had dialled or hung up; how a newcomer is joined is `entry`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from b2bua.calls.bridge import End, Pressed, Referred, SentOn, Talk, bridge, media_lost
from b2bua.calls.call import CallEnd, CallInProgress
from b2bua.calls.entry import Entry, Joins, Meanwhile, Newcomer, introduction, see_off
from b2bua.calls.invitation import Invitation, shown
from b2bua.calls.outcomes import Announced, AnsweredBy, Unanswered, ended_by
from b2bua.calls.referral import Order, Referral
from b2bua.calls.ring import ring
from b2bua.cdr import Direction, Disposition, EndedBy, EndReason
from b2bua.control import FailedTransfer
from b2bua.directory import Extension
from b2bua.media.plane import Side
from b2bua.routing.dialplan import RING_SECONDS
from b2bua.routing.plan import NoRoute, Plan, RingExtensions
from b2bua.sip.fields import Replaces
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Request
from b2bua.sip.reasons import q850
from b2bua.ua.leg import Inbox, IncomingLeg, Leg, LegEnded, while_up

if TYPE_CHECKING:
    from b2bua.calls.switchboard import Switchboard


@dataclass(frozen=True, slots=True)
class Named:
    """The dialog that Replaces names: our leg of it, its call, and the talk, once somebody has answered."""

    leg: Leg
    call: CallInProgress
    talk: Talk | None


async def converse(pbx: Switchboard, talk: Talk) -> None:
    """Until one of the two leaves. A transfer changes who the two are, and the call goes on."""
    talk.media.lost.add_done_callback(partial(media_lost, talk.inbox))
    talk.media.listen(partial(_pressed, talk))
    try:
        with pbx.talking(talk):
            while True:
                wish = await bridge(talk)
                talk.changing = True
                match wish:
                    case Referred(by=by, request=request):
                        await _obey(pbx, talk, by, request)
                    case SentOn():
                        await _send_on(pbx, talk, wish)
                    case Joins():
                        await _let_in(pbx, talk, wish)
                    case _:                # it wanted to pick up what has been answered
                        wish.too_late()
                talk.changing = False
                for end in (talk.caller, talk.callee):  # a transfer that failed may have nobody to go back to
                    if end.leg.end is not None:
                        raise LegEnded(end.leg, end.leg.end)
    except LegEnded as ended:
        who = EndedBy.CALLER if ended.leg is talk.caller.leg else EndedBy.CALLEE
        by_whom, reason = ended_by(ended.end, who)
        if ended.end.reason and talk.call.end is None:
            talk.call.note(f"{by_whom.value} said: {ended.end.reason}")
        talk.call.over(Disposition.ANSWERED, CallEnd(by_whom, reason, 200, q850(ended.end.reasons)))
        talk.hang_up(ended.end.headers)
    finally:
        talk.media.listen(None)
        talk.hang_up()


# -- REFER

async def _obey(pbx: Switchboard, talk: Talk, by: End, request: Request) -> None:
    """Only our own phones may transfer, as what they ask for is done in their name."""
    if by.extension is None:
        by.leg.respond(request, 403)
        talk.call.note(f"{by.leg.name} may not transfer: only extensions may")
        return
    try:
        order = Order.of(request)
    except ParseError as error:
        by.leg.respond(request, 400)
        talk.call.note(f"{by.extension.number} wants a transfer that makes no sense: {error.reason}")
        return
    by.referrals += 1
    referral = Referral(by.leg, request, order, first=by.referrals == 1)
    referral.accept()
    try:
        await _transfer(pbx, talk, by, by.extension, order, referral)
    except LegEnded:
        referral.end(487)                  # who should have been transferred has hung up
        raise


async def _transfer(
    pbx: Switchboard, talk: Talk, by: End, transferor: Extension, order: Order, referral: Referral
) -> None:
    """A refusal from here on is told by NOTIFY: 404 or 481 to the REFER itself would end the call (RFC 5057 §5.1)."""
    if order.replaces is None:
        await _blind(pbx, talk, by, transferor, order, referral)
        return
    match _consultation(pbx, talk, transferor, order.replaces):
        case int() as status:
            talk.call.note(f"{transferor.number} may not join these two calls: {status}")
            referral.end(status)
        case (IncomingLeg() as ringing, call):
            # RFC 3891 §3: a dialog that only rings is replaced by nobody but its caller. The call is made anew instead.
            call.note(f"{transferor.number} transfers before anybody answers")
            ringing.withdraw()
            await _blind(pbx, talk, by, transferor, Order(call.dialled, None, order.referred_by), referral)
        case (Talk() as second, End() as leaving):
            await _attended(pbx, talk, by, second, leaving, referral)


def _consultation(
    pbx: Switchboard, talk: Talk, transferor: Extension, replaces: Replaces
) -> int | tuple[IncomingLeg, CallInProgress] | tuple[Talk, End]:
    """The transferor's second call, as ringing or as talking; or the status that says why not."""
    named = pbx.takeovers.dialog_named(replaces)
    if isinstance(named, int):
        return named
    if named.talk is talk:
        return 481
    if named.talk is None:
        call = named.call
        own = call.direction is not Direction.INBOUND and _same(call.extension, transferor)
        return (named.leg, call) if isinstance(named.leg, IncomingLeg) and own else 481
    end = named.talk.end_of(named.leg)
    if end is None or named.talk.other(end).leg.end is not None:
        return 481
    if not _same(end.extension, transferor):
        return 403
    return 491 if named.talk.changing else (named.talk, end)


async def _blind(
    pbx: Switchboard, talk: Talk, by: End, transferor: Extension, order: Order, referral: Referral | None
) -> None:
    """Ring whom the transferor names, as if it had dialled, while the two are as they were."""
    call, remaining = talk.call, talk.other(by)
    call.failed_transfer = None
    call.note(f"{transferor.number} transfers {talk.number_of(remaining)} to {order.dialled or 'nobody'}")
    plan = pbx.plan_for(transferor, order.dialled)
    if isinstance(plan, NoRoute):
        call.note(plan.why)
        call.failed_transfer = FailedTransfer(order.dialled, plan.status)
        if referral is not None:
            referral.end(plan.status)
        return
    status = await _ring(pbx, talk, by, transferor, plan, order, referral)
    if status == 200:
        return
    call.failed_transfer = FailedTransfer(order.dialled, status)
    if referral is not None:
        referral.end(status)
    if by.leg.end is None:
        call.note(f"the transfer failed ({status}): {transferor.number} goes on")
        return
    why = f"the transfer failed ({status}), and {transferor.number} has hung up: it is called back"
    back = Plan((RingExtensions((transferor,), RING_SECONDS, why),))
    if await _ring(pbx, talk, by, transferor, back, order, referral) != 200:
        raise LegEnded(by.leg, by.leg.end)


async def _ring(
    pbx: Switchboard, talk: Talk, by: End, transferor: Extension, plan: Plan, order: Order,
    referral: Referral | None,
) -> int:
    """200: somebody answered and is in the talk instead of `by`. Else why not."""
    call, remaining = talk.call, talk.other(by)
    for note in plan.notes:
        call.note(note)
    who = shown(call, remaining.extension)
    outside_offer = introduction(talk, remaining)
    invitation = Invitation(call, talk.inbox, b"", who, transferor.hide_caller_id, order.referred_by, outside_offer)
    async with while_up(remaining.leg):
        match await ring(pbx, plan, invitation, Meanwhile(talk, by, referral)):
            case Unanswered(status=status):
                pass
            case Announced(sound=sound, instead_of=Unanswered(status=status)):
                call.note(f"nobody is transferred to an announcement ({sound})")
            case AnsweredBy(leg=leg, extension=extension, sdp=sdp, wants_answer=wants_answer, way=outside):
                newcomer = Newcomer(leg, extension, sdp, agreed=not wants_answer)
                status = await Entry(pbx, talk, by, newcomer, referral).run()
                if status == 200 and outside is not None:
                    _goes_outside(pbx, call, remaining.extension, outside.number, leg.name)
    if status != 200:
        pbx.capacity.leave_second_line(call.id)
    return status


def _goes_outside(
    pbx: Switchboard, call: CallInProgress, who: Extension | None, number: str, trunk: str
) -> None:
    """A call between colleagues that ends up outside is the CRM's business from now on."""
    if call.direction is Direction.INTERNAL and who is not None:
        client = pbx.directory.client.get(call.client)
        call.went_outside(who, number, trunk, client.crm if client is not None else None)


async def _attended(
    pbx: Switchboard, talk: Talk, by: End, second: Talk, leaving: End, referral: Referral
) -> None:
    """Join the two whom the transferor talks to. The outside call goes on, with its recording; this one when both are.

    The other call ends here and now, as phones hang up both as soon as the REFER is accepted.
    """
    remaining, third = talk.other(by), second.other(leaving)
    if remaining.leg.end is not None:
        raise LegEnded(remaining.leg, remaining.leg.end)
    names = f"{talk.number_of(remaining)} and {second.number_of(third)}"
    for each in (talk, second):
        each.call.note(f"{talk.number_of(by)} joins {names}")
    if talk.call.direction is Direction.INTERNAL and second.call.direction is not Direction.INTERNAL:
        referral.leg = by.leg.move(second.inbox) if by.leg.end is None else by.leg
        newcomer = _moved(talk, remaining, by, second.inbox)
        second.inbox.put(newcomer.leg, Joins(newcomer, leaving.leg, referral))
    else:
        newcomer = _moved(second, third, leaving, talk.inbox)
        referral.end(await Entry(pbx, talk, by, newcomer, referral).run())


def _moved(talk: Talk, end: End, transferor: End, inbox: Inbox) -> Newcomer:
    """Take one of the two out of a talk, which ends by that."""
    talk.let_go_of(end)
    talk.call.hung_up()
    who = EndedBy.CALLER if transferor.side is Side.CALLER else EndedBy.CALLEE
    talk.call.over(Disposition.ANSWERED, CallEnd(who, EndReason.TRANSFERRED, 200))
    return Newcomer(end.leg.move(inbox), end.extension, b"")


# -- without a REFER

async def _send_on(pbx: Switchboard, talk: Talk, wish: SentOn) -> None:
    """As by a REFER of that end's phone, which hears of its success by BYE, and of its failure not at all."""
    end = wish.end
    if end.extension is None or talk.end_of(end.leg) is not end:
        wish.dropped()
        return
    talk.call.note(f"{wish.by} lets {end.extension.number} transfer it, on the live page")
    await _blind(pbx, talk, end, end.extension, Order(wish.dialled), None)


# -- who comes by itself

async def _let_in(pbx: Switchboard, talk: Talk, joins: Joins) -> None:
    leaving = talk.end_of(joins.instead_of)
    if leaving is None:
        joins.refuse(481)
        return
    status = 487
    try:
        status = await Entry(pbx, talk, leaving, joins.newcomer, joins.referral).run()
    finally:
        if joins.referral is not None and status != 200:        # the transferor's other call has ended already
            joins.referral.end(status)
            pbx.see_off(see_off(joins.referral.leg))


def may_replace(named: Named | int, extension: Extension, replaces: Replaces) -> int | tuple[Talk, Leg]:
    """Whether a phone's INVITE may take that dialog over (RFC 3891 §3): the talk that it comes into, or why not."""
    if isinstance(named, int):
        return named
    if named.talk is None or (end := named.talk.end_of(named.leg)) is None:
        return 481                         # an early dialog that it did not begin itself is never replaced
    if not _same(end.extension, extension):
        return 403
    if replaces.early_only:
        return 486
    return 491 if named.talk.changing else (named.talk, named.leg)


def _same(one: Extension | None, other: Extension) -> bool:
    """The directory may have been loaded anew since."""
    return one is not None and (one.client, one.number) == (other.client, other.number)


def _pressed(talk: Talk, side: Side, digit: str, seconds: float) -> None:
    end = talk.caller if side is Side.CALLER else talk.callee
    talk.inbox.put(end.leg, Pressed(digit, seconds))
