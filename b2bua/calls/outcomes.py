"""How ringing can end, and what a final response or a leg's end means for the call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from b2bua.cdr import Disposition, EndedBy, EndReason
from b2bua.directory import Cause, Extension
from b2bua.routing.plan import DialTrunk
from b2bua.sip.effects import EndCause, Party
from b2bua.sip.fields import Reason
from b2bua.sip.uri import Uri
from b2bua.ua.leg import IncomingLeg, LegEnd, OutgoingLeg

NO_ANSWER = 480                            # Temporarily Unavailable (RFC 3261 §21.4.18)


@dataclass(frozen=True, slots=True)
class AnsweredBy:
    """The winner: its leg, whose phone it is (None: the outside, by `way`), and the SDP of its 2xx: its answer, or an
    offer that `wants_answer`."""

    leg: OutgoingLeg | IncomingLeg         # incoming: it has picked the call up, and `sdp` is its offer
    extension: Extension | None
    sdp: bytes
    wants_answer: bool
    way: DialTrunk | None = None


class Elsewhere(Enum):
    """Whether another way to the same number may help, when this one failed."""

    NO = "no"                              # that was the callee's word, or the network's about the number
    TRUNK = "another trunk"
    TARGET = "another server"              # of the same trunk (RFC 3263 §4.3), then another trunk


@dataclass(frozen=True, slots=True)
class Moved:
    """A phone of this extension says where the call shall go instead (RFC 3261 §8.1.3.4)."""

    by: Extension
    target: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nobody picked up; `status` is the best final response of the branches (RFC 3261 §16.7)."""

    disposition: Disposition
    reason: EndReason
    status: int
    elsewhere: Elsewhere = Elsewhere.NO
    moved: Moved | None = None
    reasons: tuple[Reason, ...] = ()       # as the response gave them
    contacts: tuple[Uri, ...] = ()         # where a trunk sends the call instead, the most wanted first
    rang: bool = False

    @property
    def by(self) -> EndedBy:
        """Whose word it was: the other side's, or only ours."""
        return EndedBy.CALLEE if self.reason in (EndReason.REJECTED, EndReason.NO_COMMON_CODEC) else EndedBy.SWITCH


RingResult = AnsweredBy | Unanswered


@dataclass(frozen=True, slots=True)
class Announced:
    """Nobody answers, and the caller shall hear this sound. `instead_of` is what the caller would be told else."""

    sound: str
    instead_of: Unanswered


_BY_STATUS = {
    404: (Disposition.UNREACHABLE, EndReason.REJECTED),
    408: (Disposition.UNREACHABLE, EndReason.NO_RESPONSE),
    480: (Disposition.NO_ANSWER, EndReason.REJECTED),
    486: (Disposition.BUSY, EndReason.REJECTED),
    488: (Disposition.FAILED, EndReason.NO_COMMON_CODEC),
    600: (Disposition.BUSY, EndReason.REJECTED),
    603: (Disposition.DECLINED, EndReason.REJECTED),
    606: (Disposition.FAILED, EndReason.NO_COMMON_CODEC),
}


def unanswered(status: int, reasons: tuple[Reason, ...] = ()) -> Unanswered:
    """What a final response other than 2xx means."""
    told = _for_the_caller(status)
    disposition, reason = _BY_STATUS.get(told, (Disposition.FAILED, EndReason.REJECTED))
    if 300 <= status < 400:                # it was sent on, to where nobody can be asked
        reason = EndReason.NOTHING_TO_RING
    return Unanswered(disposition, reason, told, _elsewhere(status), reasons=reasons)


def _elsewhere(status: int) -> Elsewhere:
    """503 speaks for one server. Other faults, credentials that are not taken, and redirections that lead nowhere speak
    for the trunk."""
    if status == 503:
        return Elsewhere.TARGET
    return Elsewhere.TRUNK if status in (401, 407, 408) or status // 100 in (3, 5) else Elsewhere.NO


def no_response() -> Unanswered:
    """As if a 408 had come (RFC 3261 §8.1.3.1), but nothing speaks for the trunk's other servers."""
    return Unanswered(Disposition.UNREACHABLE, EndReason.NO_RESPONSE, 408, Elsewhere.TARGET)


def not_carried(cause: EndCause) -> Unanswered:
    """The leg ended without a final response that could be used (RFC 3261 §8.1.3.1)."""
    match cause:
        case EndCause.TIMED_OUT:
            return no_response()
        case EndCause.TRANSPORT_FAILED:
            return Unanswered(Disposition.FAILED, EndReason.TRANSPORT_FAILED, 500, Elsewhere.TARGET)
        case _:
            return Unanswered(Disposition.FAILED, _REASONS[cause], 500, Elsewhere.TRUNK)


def no_way(reason: EndReason) -> Unanswered:
    """A trunk that leads nowhere now, or is full."""
    if reason is EndReason.LIMIT_REACHED:
        return Unanswered(Disposition.REFUSED, reason, 503, Elsewhere.TRUNK)
    return Unanswered(Disposition.UNREACHABLE, reason, NO_ANSWER, Elsewhere.TRUNK)


def nobody_answered() -> Unanswered:
    return Unanswered(Disposition.NO_ANSWER, EndReason.NOBODY_ANSWERED, NO_ANSWER)


def best_of(results: Iterable[Unanswered]) -> Unanswered:
    """RFC 3261 §16.7 step 6: 6xx before all, then the lowest class; a busy phone tells more than a silent one."""
    return min(results, key=_rank, default=Unanswered(Disposition.UNREACHABLE, EndReason.NOTHING_TO_RING, NO_ANSWER))


def cause_of(results: Iterable[Unanswered]) -> Cause:
    """Of one destination: who has rung in vain outweighs who is busy, and that whoever could not be reached."""
    found = {result.disposition for result in results}
    if Disposition.NO_ANSWER in found:
        return Cause.NO_ANSWER
    return Cause.BUSY if found & {Disposition.BUSY, Disposition.DECLINED} else Cause.UNREGISTERED


def _rank(result: Unanswered) -> tuple[int, int]:
    known = {486: 0, 480: 1, 408: 3}
    return (0 if result.status >= 600 else result.status // 100, known.get(result.status, 2))


def _for_the_caller(status: int) -> int:
    """RFC 3261 §16.7: a 503 stays here; challenges and redirections were for us, not for the caller, whose kind of body
    we did understand (415)."""
    if status in (401, 407, 503):
        return 500
    if status == 415:
        return 488
    return NO_ANSWER if 300 <= status < 400 else status


def ended_by(end: LegEnd, who: EndedBy) -> tuple[EndedBy, EndReason]:
    """A leg's end, as the call record says it."""
    reason = _REASONS[end.cause]
    return (who if end.by is Party.REMOTE else EndedBy.SWITCH), reason


_REASONS = {
    EndCause.BYE: EndReason.HUNG_UP,
    EndCause.CANCELLED: EndReason.CANCELLED,
    EndCause.REJECTED: EndReason.REJECTED,
    EndCause.TIMED_OUT: EndReason.NO_RESPONSE,
    EndCause.NO_ACK: EndReason.NO_ACK,
    EndCause.SESSION_EXPIRED: EndReason.SESSION_EXPIRED,
    EndCause.DIALOG_GONE: EndReason.DIALOG_GONE,
    EndCause.TRANSPORT_FAILED: EndReason.TRANSPORT_FAILED,
    EndCause.PROTOCOL_ERROR: EndReason.PROTOCOL_ERROR,
}
