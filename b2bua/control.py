"""What the web may ask of, and watch on, a running switchboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from b2bua.cdr import CallId, CallRecord, ClientId, Direction
from b2bua.crm.port import Contact
from b2bua.sip.throttle import Ban


@dataclass(frozen=True, slots=True)
class Heard:
    """How the audio of one side has arrived here in the last few seconds."""

    lost: float                         # percent of its packets
    jitter_ms: float
    verdict: str                        # "good", "fair", "poor"

    @classmethod
    def of(cls, lost: float, jitter_ms: float) -> Heard:
        """G.711 without concealment is heard to stutter from some 1 % on (ITU-T G.113); phones' buffers hold 40 to 60
        ms of jitter."""
        good, fair = lost <= 1 and jitter_ms <= 30, lost <= 4 and jitter_ms <= 60
        return cls(lost, jitter_ms, "good" if good else "fair" if fair else "poor")


@dataclass(frozen=True, slots=True)
class Quality:
    """Of both sides. None: nothing has come of it."""

    caller: Heard | None
    callee: Heard | None


@dataclass(frozen=True, slots=True)
class FailedTransfer:
    target: str
    status: int                         # of SIP: 486 busy, 480 nobody answered, ...


@dataclass(frozen=True, slots=True)
class LiveCall:
    id: CallId
    client: ClientId
    direction: Direction
    caller: str
    dialled: str
    contact: str | None
    extension: str | None
    state: str                          # "routing", "ringing", "talking"
    started_at: datetime
    answered_at: datetime | None
    rings: tuple[str, ...] = ()         # extensions whose phones ring now: also while it is being transferred
    on_hold: bool = False
    failed_transfer: FailedTransfer | None = None      # the last one, until another is tried
    quality: Quality | None = None      # None: nobody talks, or the relay was not asked (Control.glance does)
    card: Contact | None = None         # the outside party's in the CRM


@dataclass(frozen=True, slots=True)
class TrunkState:
    client: ClientId
    name: str
    up: bool
    detail: str                         # "registered for 3540 s", "no answer to OPTIONS", ...


class TrunkFault(Enum):
    """What a test of a trunk finds wrong."""

    NO_ADDRESS = "no_address"           # its name leads nowhere
    NOT_SPOKEN = "not_spoken"           # we have no listener for its transport
    SILENT = "silent"                   # no answer to OPTIONS
    UNREACHABLE = "unreachable"         # the network says that nobody is there
    BAD_TLS = "bad_tls"
    UNKNOWN_TO_THEM = "unknown_to_them"             # 403 or 404, of a trunk that does not register
    PASSWORD_WANTED = "password_wanted"             # 401 or 407, and we have none  # noqa: S105
    IN_TROUBLE = "in_trouble"           # 5xx
    WRONG_PASSWORD = "wrong_password"   # at the registrar; the following too  # noqa: S105
    ACCOUNT_REFUSED = "account_refused"
    REGISTRAR_SILENT = "registrar_silent"
    REGISTRATION_FAILED = "registration_failed"
    NOT_REGISTERED_YET = "not_registered_yet"


@dataclass(frozen=True, slots=True)
class TriedServer:
    """One address of a trunk, asked by OPTIONS."""

    address: str                        # "UDP 192.0.2.1:5060"
    answer: str = ""                    # "200 OK"; "": none came
    milliseconds: int | None = None     # until then
    fault: TrunkFault | None = None


@dataclass(frozen=True, slots=True)
class LastRegister:
    """How our registration at a trunk stands, without another REGISTER."""

    is_registered: bool
    detail: str                         # "registered for 3540 s", "credentials refused"
    answer: str = ""                    # the last answer to REGISTER; "": none yet
    again_in: int | None = None         # seconds until the next REGISTER; None: one is under way
    fault: TrunkFault | None = None


@dataclass(frozen=True, slots=True)
class TrunkTest:
    at: datetime
    servers: tuple[TriedServer, ...]    # in the order in which calls would try them
    more_servers: int                   # that were not asked
    registration: LastRegister | None   # None: this trunk does not register
    fault: TrunkFault | None = None     # of the whole: there is no server to be asked
    tls_trouble: str = ""

    @property
    def faults(self) -> Sequence[TrunkFault]:
        """Each once, those that explain others first. Where we are registered nothing is wrong: some registrars
        answer no OPTIONS."""
        if self.registration is not None and self.registration.is_registered:
            return []
        found = [self.fault, *(server.fault for server in self.servers)]
        found += [self.registration.fault] if self.registration is not None else []
        return list(dict.fromkeys(fault for fault in found if fault is not None))

    @property
    def works(self) -> bool:
        """A call can be expected to get through: one server is enough."""
        if self.registration is not None:
            return self.registration.is_registered
        return any(server.answer and server.fault is None for server in self.servers)


class BeingTested(Exception):
    """One of this client's trunks is, or was a moment ago."""


@dataclass(frozen=True, slots=True)
class RegisteredPhone:
    client: ClientId
    extension: str
    contact: str
    user_agent: str
    expires_in: int                     # seconds
    reachability: str = "not asked yet"     # "reachable", "lagged", "unreachable": its answers to OPTIONS


class Presence(Enum):
    """What an extension's phones are doing."""

    FREE = "free"
    RINGING = "ringing"
    TALKING = "talking"                 # or dialling
    UNREACHABLE = "unreachable"         # registered, and none answers OPTIONS
    UNREGISTERED = "unregistered"


@dataclass(frozen=True, slots=True)
class Device:
    """One registered phone of an extension."""

    contact: str
    user_agent: str
    reachability: str                   # as of RegisteredPhone


@dataclass(frozen=True, slots=True)
class ExtensionState:
    client: ClientId
    number: str
    name: str
    presence: Presence
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class Glance:
    """What goes on now, at one client's or everywhere: of each kind the first few, and how many there are."""

    calls: tuple[LiveCall, ...] = ()
    extensions: tuple[ExtensionState, ...] = ()      # of too many those first that are in a call
    trunks: tuple[TrunkState, ...] = ()              # those first that are down
    all_calls: int = 0
    all_extensions: int = 0
    all_trunks: int = 0


class Transfer(Enum):
    """What becomes of the wish to send a call on to somebody else."""

    ACCEPTED = "accepted"               # whether anybody answers there will be seen
    NO_CALL = "no such call"
    NOT_TALKING = "nobody talks yet"
    NO_EMPLOYEE = "nobody of the office talks"
    UNDER_WAY = "it is being transferred already"
    NO_TARGET = "it cannot go there"


@dataclass(frozen=True, slots=True)
class TransferOutcome:
    transfer: Transfer
    why: str = ""                       # of NO_TARGET, in one sentence


@dataclass(frozen=True, slots=True)
class AtWork:
    """One client in numbers."""

    calls: int = 0
    phones: int = 0                     # that are registered, or have a fixed address
    trunks: int = 0
    trunks_up: int = 0


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A call from an address of no trunk and no phone, the last one from there."""

    at: datetime
    source: str
    dialled: str
    why: str                            # which trunk it came nearest to, and why it is not that one's
    done: str                           # "challenge", "refuse", "silence"


SHORTEST_BEGINNING = 4                  # letters of a call's id by which it may be asked for
MOST_NAMED = 20                         # calls that begin so


@dataclass(frozen=True, slots=True)
class TracedCall:
    """A call that is up, or has just ended, and what was said in it until now."""

    record: CallRecord                  # of one that is up: as if it ended now
    is_over: bool
    messages: list[Any] | None          # as b2bua.calls.ladder reads them; None: they are not noted


@dataclass(frozen=True, slots=True)
class PlannedStep:
    why: str
    does: str                           # "rings 101, 103 together for 30 s"
    onward: tuple[str, ...]             # where the call goes from here when nobody takes it, a sentence for each cause


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would happen to a call now. No steps: it would be refused with `status`, as `refusal` says."""

    direction: Direction
    notes: tuple[str, ...]              # what was found and decided beforehand
    steps: tuple[PlannedStep, ...]
    status: int | None = None
    refusal: str = ""
    crm: str = ""                       # what the CRM is told of such a call; "": the client has none


class ClickStage(Enum):
    """How far a clicked call has come (docs/widget-api.md)."""

    RINGING_YOU = "ringing_you"
    RINGING_THEM = "ringing_them"
    TALKING = "talking"
    ENDED = "ended"


class ClickOutcome(Enum):
    """What became of a clicked call (docs/widget-api.md): `YOU` is who clicked, `THEY` who was called."""

    TALKED = "talked"
    YOU_UNREGISTERED = "you_unregistered"
    YOU_BUSY = "you_busy"
    YOU_TALKING = "you_talking"
    YOU_DECLINED = "you_declined"
    YOU_NO_ANSWER = "you_no_answer"
    THEY_BUSY = "they_busy"
    THEY_DECLINED = "they_declined"
    THEY_NO_ANSWER = "they_no_answer"
    WRONG_NUMBER = "wrong_number"
    NO_TRUNK = "no_trunk"
    NOT_ALLOWED = "not_allowed"
    LIMIT_REACHED = "limit_reached"
    CANCELLED = "cancelled"             # before who clicked had picked up: nobody was called
    GIVEN_UP = "given_up"               # after that, before anybody had answered
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ClickedCall:
    """A call that somebody has clicked, as it is now."""

    id: CallId
    client: ClientId
    extension: str
    number: str                         # E.164 with + where that is known
    stage: ClickStage
    outcome: ClickOutcome | None        # None until it has ended
    why: str                            # of the outcome, in one sentence
    contact: str | None                 # the name that the CRM gave
    talk_seconds: int | None            # None: nobody has talked yet
    version: int                        # grows with each change, `talk_seconds` aside
    card: Contact | None = None         # of who is called, in the CRM


class AlreadyCalling(Exception):
    """A call that this extension has clicked is under way."""


class Unavailable(Exception):
    """No click is taken now; later one may be."""


class Draining(Unavailable):
    """The switch is stopping."""


class TooManyClicks(Unavailable):
    """This client's were too many within the minute."""


class Control(Protocol):
    def live_calls(self) -> Sequence[LiveCall]: ...

    def live_call(self, call: CallId) -> LiveCall | None: ...

    def glance(self, client: ClientId | None, most: int) -> Glance:
        """Of that client; None: of all. `most`: of each kind. How the audio is comes with a later one, as the relay is
        asked by this one."""
        ...

    def trunk_states(self) -> Sequence[TrunkState]: ...

    async def test_trunk(self, client: ClientId, name: str) -> TrunkTest:
        """Asks its servers now, without touching its calls or its registration. Raises BeingTested, LookupError."""
        ...

    def trunk_test(self, client: ClientId, name: str) -> TrunkTest | None:
        """The last one of this trunk as it is set up now."""
        ...

    def registered_phones(self) -> Sequence[RegisteredPhone]: ...

    def calls_beginning_with(self, beginning: str) -> Sequence[CallId]:
        """The ids of calls that are up, or have just ended."""
        ...

    def trace(self, call: CallId) -> TracedCall | None:
        """None: it is neither up nor has it just ended."""
        ...

    def at_work(self, client: ClientId) -> AtWork:
        """Costs as much as that client has, however many others there are."""
        ...

    def turned_away(self) -> Sequence[TurnedAway]:
        """Calls from unknown addresses, the latest first; a few."""
        ...

    def alarms(self) -> Sequence[str]:
        """What somebody should look at: limits met within the hour, CRM accounts that let us in no more, and what is
        wrong with their users."""
        ...

    def bans(self) -> Sequence[Ban]: ...

    def lift_ban(self, subject: str) -> int:
        """Forgive an address or an account; how many bans that lifted."""
        ...

    async def explain(self, client: ClientId, caller: str, dialled: str) -> Explanation:
        """What would happen to such a call now. Raises LookupError: there is no such client."""
        ...

    def click2call(self, client: ClientId, extension: str, number: str, key: str) -> ClickedCall:
        """Ring that extension, and call the number once it has picked up. The same key within ten minutes is the same
        click. Raises AlreadyCalling, Unavailable, LookupError (no such extension), ValueError (nothing that can be
        dialled)."""
        ...

    def clicked(self, client: ClientId, call: CallId) -> ClickedCall | None:
        """None: no call that this client has clicked, or one that ended more than a minute ago."""
        ...

    async def click_changed(self, client: ClientId, call: CallId, after_version: int) -> ClickedCall:
        """As soon as its version is another one; it may never be. Raises LookupError where `clicked` gives None."""
        ...

    def hang_up(self, client: ClientId, call: CallId, by: str = "") -> bool:
        """Any call of that client, whatever its state. False: it has none of that id. `by`: whose login it was that did
        so on the live page; "": it was in the CRM's page."""
        ...

    def transfer(self, client: ClientId, call: CallId, target: str, by: str) -> TransferOutcome:
        """To an extension, a group or a number outside, by the rules of the employee who talks, as if their phone had
        sent a REFER: when nobody answers there, the two go on. `target` as people write it; `by`: as in hang_up."""
        ...

    def ready(self) -> Sequence[str]:
        """Why the switch should not get calls now; empty when it should."""
        ...

    async def settings_changed(self) -> None:
        """The store has a new directory: load it and swap the snapshot; calls keep theirs."""
        ...
