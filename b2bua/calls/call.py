"""A call in progress: what has been learned of it so far, and the record that it becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from b2bua.calls.diversion import History
from b2bua.cdr import CallId, CallRecord, ClientId, Direction, Disposition, EndedBy, EndReason
from b2bua.control import FailedTransfer, LiveCall
from b2bua.crm.port import Contact
from b2bua.directory import CrmAccount, Extension
from b2bua.sip.status import Q850

MAX_REASONS = 50                           # sentences kept in one call's explanation

log = structlog.get_logger(__name__)

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class CallEnd:
    """Who ended the call, why, what status the caller saw, and which cause of Q.850 the one who ended it gave."""

    by: EndedBy
    reason: EndReason
    status: int
    cause: int | None = None


@dataclass(slots=True)
class CallInProgress:
    """Filled in by the call's script; read by the dashboard while it lives, by `record` when it is over."""

    id: CallId
    client: ClientId
    direction: Direction
    caller: str
    dialled: str
    trunk: str | None
    clock: Clock = field(repr=False)
    crm: CrmAccount | None = None          # the client's CRM, when this call is the CRM's business
    extension: Extension | None = None     # who talks, or whose phone it is
    contact: Contact | None = None
    recording: str | None = None
    started_at: datetime = field(init=False)
    rang_at: datetime | None = None
    answered_at: datetime | None = None
    disposition: Disposition | None = None
    end: CallEnd | None = None
    ended_at: datetime | None = None
    rang: dict[str, Extension] = field(default_factory=dict)     # by number, in order, each once
    talked: dict[str, Extension] = field(default_factory=dict)   # with the other party, each once; the last talks last
    why: list[str] = field(default_factory=list)
    why_after: list[float] = field(default_factory=list)     # seconds from the start to each of them
    shown_to: set[int] = field(default_factory=set)          # CRM users that got the pop-up
    failed_transfer: FailedTransfer | None = None            # the last one
    moves: int = 0                         # times that phones have sent it on
    history: History = field(default_factory=History)        # by whom it was sent on before it came here
    is_placed: bool = True                 # not while the phone of who clicked has not been picked up
    is_for_people: bool = True             # not to a number that plays an announcement to whoever calls

    def __post_init__(self) -> None:
        self.started_at = self.clock()

    def note(self, sentence: str) -> None:
        """Remember, and log, why the call goes where it goes."""
        log.info(sentence, call=self.id)
        if len(self.why) < MAX_REASONS:
            self.why.append(sentence)
            self.why_after.append(round((self.clock() - self.started_at).total_seconds(), 3))

    def ringing(self, extension: Extension | None) -> None:
        """A phone really rings: this extension's, or (None) the outside one. To whom an answered call is sent on rings
        too late to be the call's ringing."""
        if self.answered_at is None:
            self.rang_at = self.rang_at or self.clock()
        if extension is not None:
            self.rang.setdefault(extension.number, extension)

    def placed(self) -> None:
        """Who clicked has picked up. From now on it is whom they call who rings."""
        self.is_placed = True
        self.rang_at = None
        self.rang.clear()

    def answered(self, extension: Extension | None) -> None:
        self.answered_at = self.clock()
        self.disposition = Disposition.ANSWERED
        self._talks(extension or self.extension)

    def goes_through(self, trunk: str) -> None:
        """It is tried there. A call that is up, or that came by a trunk, stays its own trunk's."""
        if self.answered_at is None and self.direction is not Direction.INBOUND:
            self.trunk = trunk

    def handed_to(self, extension: Extension | None) -> None:
        """Who talks from now on; whoever of the office talked last owns the call."""
        self._talks(extension)

    def _talks(self, extension: Extension | None) -> None:
        """None: the outside, and the call stays whose it was."""
        if extension is not None:
            self.extension = extension
            self.talked.pop(extension.number, None)
            self.talked[extension.number] = extension

    def went_outside(self, extension: Extension, number: str, trunk: str, crm: CrmAccount | None) -> None:
        """A call between colleagues, of which one is now joined with the outside: an outside call from here on."""
        self.direction = Direction.OUTBOUND
        self.caller, self.dialled, self.trunk, self.crm = extension.number, number, trunk, crm
        self.talked.clear()
        self._talks(extension)
        self.answered_at = self.clock()

    def over(self, disposition: Disposition, end: CallEnd) -> None:
        """The first word on how it ended stands; an answered call stays answered."""
        self.disposition = self.disposition or disposition
        self.end = self.end or end

    def hung_up(self) -> None:
        """The talk, or the ringing, is over now; what is cleared away after it costs nobody time."""
        self.ended_at = self.ended_at or self.clock()

    @property
    def outside_party(self) -> str:
        """The number of the one who is not of this office."""
        return self.caller if self.direction is Direction.INBOUND else self.dialled

    def live(self) -> LiveCall:
        talking, ringing = self.answered_at is not None, self.rang_at is not None
        return LiveCall(
            id=self.id,
            client=self.client,
            direction=self.direction,
            caller=self.caller,
            dialled=self.dialled,
            contact=self.contact.name if self.contact else None,
            extension=self.extension.number if self.extension else next(iter(self.rang), None),
            state="talking" if talking else "ringing" if ringing else "routing",
            started_at=self.started_at,
            answered_at=self.answered_at,
            failed_transfer=self.failed_transfer,
            card=self.contact,
        )

    def record(self) -> CallRecord:
        """What goes into the books. A call whose script broke ends as a fault of ours."""
        end = self.end or CallEnd(EndedBy.SWITCH, EndReason.FAULT, 500)
        unsaid = Q850.get(end.status) if self.answered_at is None else None
        return CallRecord(
            id=self.id,
            client=self.client,
            direction=self.direction,
            caller=self.caller,
            dialled=self.dialled,
            trunk=self.trunk,
            started_at=self.started_at,
            rang_at=self.rang_at,
            answered_at=self.answered_at,
            ended_at=max(self.ended_at or self.clock(), self.answered_at or self.started_at),
            disposition=self.disposition or Disposition.FAILED,
            ended_by=end.by,
            reason=end.reason,
            status=200 if self.answered_at else end.status,
            extension=self.extension.number if self.extension else None,
            rang=tuple(self.rang),
            crm_user=self.extension.crm_user if self.extension else None,
            contact=self.contact.name if self.contact else None,
            recording=self.recording,
            why=tuple(self.why),
            cause=unsaid if end.cause is None else end.cause,
            why_after=tuple(self.why_after),
        )
