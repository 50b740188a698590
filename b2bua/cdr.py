"""What a finished call is: one record, one value for each question somebody will ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import NewType

CallId = NewType("CallId", str)
ClientId = NewType("ClientId", str)


class Direction(Enum):
    INBOUND = "inbound"
    OUTBOUND = "outbound"
    INTERNAL = "internal"


class Disposition(Enum):
    """How the call as a whole came out."""

    ANSWERED = "answered"
    NO_ANSWER = "no answer"
    BUSY = "busy"
    DECLINED = "declined"
    ABANDONED = "abandoned"          # the caller hung up before anybody answered
    UNREACHABLE = "unreachable"      # nothing to ring, or no phone could be reached
    REFUSED = "refused"              # by us: a limit, an unknown number, no permission
    FAILED = "failed"                # by a fault: ours, or the network's


# Nobody of ours took it, though somebody should have: of an incoming call, that it was missed.
UNTAKEN = frozenset({Disposition.NO_ANSWER, Disposition.BUSY, Disposition.DECLINED, Disposition.ABANDONED,
                     Disposition.UNREACHABLE})


class EndedBy(Enum):
    CALLER = "caller"
    CALLEE = "callee"
    SWITCH = "switch"


class EndReason(Enum):
    """Why it ended, told apart as an administrator would."""

    HUNG_UP = "hung up"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    NOBODY_ANSWERED = "nobody answered"
    NOTHING_TO_RING = "nothing to ring"
    ENGAGED = "already in a call"      # who clicked: their phone was not even rung
    NOT_ALLOWED = "not allowed"
    LIMIT_REACHED = "limit reached"
    NO_COMMON_CODEC = "no common codec"
    NO_ACK = "no ACK"
    NO_RESPONSE = "no response"
    DIALOG_GONE = "dialog gone"
    SESSION_EXPIRED = "session expired"
    MEDIA_TIMEOUT = "media timeout"
    TRANSPORT_FAILED = "transport failed"
    PROTOCOL_ERROR = "protocol error"
    ANNOUNCED = "announced"          # the caller heard an announcement to its end, and we hung up
    TRANSFERRED = "transferred"      # its two parties went on in another call
    SHUTDOWN = "shutdown"
    RESTARTED = "restarted"            # the switch died while the call was up; its next start closed the call
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A finished call. Times are aware UTC; numbers are E.164 with `+` where that is known, else as they came."""

    id: CallId
    client: ClientId
    direction: Direction
    caller: str                        # number or extension; "" when withheld
    dialled: str                       # as it was dialled, normalised
    trunk: str | None                  # name of the outside trunk, None for internal calls
    started_at: datetime               # INVITE received
    rang_at: datetime | None           # first 180 from a phone
    answered_at: datetime | None
    ended_at: datetime
    disposition: Disposition
    ended_by: EndedBy
    reason: EndReason
    status: int                        # the SIP status that the caller got (200 when answered)
    extension: str | None              # who talked, or whose phone it was (outbound: the caller's extension)
    rang: tuple[str, ...]              # extensions that rang
    crm_user: int | None               # the CRM's user of `extension`, as of the time of the call
    contact: str | None                # the name that the CRM gave
    recording: str | None              # id of the recording, None when nothing was recorded
    why: tuple[str, ...]               # the decisions taken, in order, one sentence each
    # Of the telephone network (Q.850): as the one who ended the call gave it, else what `status` stands for.
    cause: int | None = None
    why_after: tuple[float, ...] = ()  # seconds from the INVITE to each of `why`; (): not known

    @property
    def talk_seconds(self) -> int:
        """Talk time in whole seconds, without the ringing; 0 when nobody answered."""
        return 0 if self.answered_at is None else max(0, round((self.ended_at - self.answered_at).total_seconds()))
