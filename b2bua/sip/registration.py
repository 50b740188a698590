"""Our own registration at an operator's registrar (RFC 3261 §10.2): kept up, and never given up.

            start                     2xx                        refresh_at
    IDLE ──────────> REGISTERING ────────────> REGISTERED ─────────────────────> REGISTERING
                      │   ^    │ anything else                                     (still valid until it expires)
      401, 407, 423,  │   │    v
      3xx: again      └───┘   WAITING ── retry_at ──> REGISTERING

    stop: UNREGISTERING ── any answer ──> IDLE (from REGISTERING once that is answered; at once when nothing is bound)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Final, assert_never

from b2bua.sip.auth import DigestClient, Unanswerable
from b2bua.sip.fields import NameAddr
from b2bua.sip.grammar import ParseError
from b2bua.sip.headers import Headers
from b2bua.sip.message import Request, Response
from b2bua.sip.uri import Uri

MAX_ROUND: Final = 6                    # challenges, redirections and longer intervals in a row, then it is a failure
MAX_EXPIRES: Final = 86_400             # the longest interval that a registrar may impose on us (423)
FIRST_RETRY: Final = 5.0                # seconds; doubles with each failure (as RFC 5626 §4.5, but sooner)
LONGEST_RETRY: Final = 300.0
REFUSED_RETRY: Final = 60.0             # the least wait after a refusal: operators ban who knocks too often
MAX_ROUTES: Final = 8                   # of a Service-Route: each is in every INVITE of ours
LONGEST_RETRY_AFTER: Final = 3600.0     # a Retry-After beyond that is not believed


class State(Enum):
    IDLE = "idle"
    REGISTERING = "registering"
    REGISTERED = "registered"
    WAITING = "waiting"
    UNREGISTERING = "unregistering"


@dataclass(frozen=True, slots=True)
class Account:
    """What is registered, and where."""

    registrar: Uri                      # Request-URI: the domain, without user
    aor: Uri
    expires: int = 3600


@dataclass(frozen=True, slots=True)
class SendRegister:
    """Owed: `response` with what came back, a 408 or 503 of our own making when nothing did."""

    uri: Uri
    headers: tuple[tuple[str, str], ...]
    call_id: str
    cseq: int
    expires: int


@dataclass(frozen=True, slots=True)
class Registered:
    until: float
    service_route: tuple[str, ...] = ()     # the way for our calls, as Route values (RFC 3608)


@dataclass(frozen=True, slots=True)
class Failed:
    reason: str
    retry_at: float
    still_registered: bool              # the last registration has not expired yet


@dataclass(frozen=True, slots=True)
class Unregistered:
    pass


RegistrationEffect = SendRegister | Registered | Failed | Unregistered


@dataclass(slots=True)
class Registration:
    """One binding of ours at one registrar. `contact` may change between two REGISTERs (our address did)."""

    account: Account
    contact: Uri
    digest: DigestClient
    random: Random = field(repr=False)
    state: State = State.IDLE
    registered_until: float = 0.0
    next_timeout: float | None = None
    _call_id: str = ""
    _cseq: int = 0
    _asked: int = 0                     # the interval that is asked for, after a 423 the registrar's
    _failures: int = 0
    _round: int = 0
    _stopping: bool = False             # as soon as the REGISTER under way is answered (§10.2: one at a time)
    _last: Request | None = None

    def start(self, now: float) -> list[RegistrationEffect]:
        if self.state is not State.IDLE:
            return []
        self._stopping = False
        self._call_id = f"{self.random.getrandbits(96):024x}"
        self._asked = self.account.expires
        return [self._begin()]

    def handle_timeout(self, now: float) -> list[RegistrationEffect]:
        if self.next_timeout is None or now < self.next_timeout:
            return []
        return [self._begin()]

    def refresh(self, now: float) -> list[RegistrationEffect]:
        """Before its time, as the registrar is somewhere else now."""
        return [self._begin()] if self.state is State.REGISTERED else self.handle_timeout(now)

    def stop(self, now: float) -> list[RegistrationEffect]:
        """Takes the binding away, if there may be one."""
        if self.state in (State.REGISTERING, State.UNREGISTERING):
            self._stopping = True
            return []
        if self.registered_until <= now:
            self._rest(State.IDLE)
            return [Unregistered()]
        return [self._withdraw()]

    def response(self, response: Response, now: float) -> list[RegistrationEffect]:
        """The final response to the last SendRegister; one that comes to nothing we asked is dropped."""
        match self.state:
            case State.REGISTERING if self._stopping:
                return [self._withdraw()]       # whatever it says, the registrar may hold a binding
            case State.REGISTERING:
                return self._registering(response, now)
            case State.UNREGISTERING:
                return self._unregistering(response)
            case State.IDLE | State.REGISTERED | State.WAITING:
                return []
            case _:
                assert_never(self.state)

    def _registering(self, response: Response, now: float) -> list[RegistrationEffect]:
        if response.status // 100 == 2:
            return [self._registered(response, now)]
        again = self._another_try(response)
        if isinstance(again, SendRegister):
            return [again]
        return [self._failed(response, again, now)]

    def _unregistering(self, response: Response) -> list[RegistrationEffect]:
        if response.status in (401, 407):
            again = self._another_try(response)
            if isinstance(again, SendRegister):
                return [again]
        self.registered_until = 0.0
        self._rest(State.IDLE)
        return [Unregistered()]

    def _another_try(self, response: Response) -> SendRegister | str:
        """The same round goes on, or why it does not."""
        assert self._last is not None
        self._round += 1
        if self._round > MAX_ROUND:
            return "the registrar asks in circles"
        if response.status in (401, 407):
            signed = self.digest.answer(response, self._last)
            if isinstance(signed, Unanswerable):
                return signed.reason
            return self._send(self._last.uri, self._expires, signed)
        if response.status == 423:
            return self._longer_interval(response)
        if response.status // 100 == 3:
            return self._redirected(response)
        return f"{response.status} {response.reason}"

    def _longer_interval(self, response: Response) -> SendRegister | str:
        text = response.headers.get("Min-Expires") or ""
        least = int(text[:11]) if text.isascii() and text.isdigit() else 0
        if not self._asked < least <= MAX_EXPIRES:
            return f"423 with Min-Expires {text or 'missing'}"
        self._asked = least
        assert self._last is not None
        return self._send(self._last.uri, least, self.digest.sign("REGISTER", str(self._last.uri)))

    def _redirected(self, response: Response) -> SendRegister | str:
        """RFC 3261 §8.1.3.4, for this round only: the next one asks the known registrar again."""
        try:
            contact = response.contact
        except ParseError:
            contact = None
        if contact is None or not contact.uri.is_sip:
            return f"{response.status} without a place to go"
        return self._send(Uri(contact.uri.scheme, "", contact.uri.host, contact.uri.port), self._expires)

    def _registered(self, response: Response, now: float) -> Registered:
        granted = self._granted(response)
        self.registered_until = now + granted
        self._failures = 0
        # In time for one failed try (timer F, 32 s) before the end, and not together with every other trunk.
        margin = max(granted * 0.1, min(40.0, granted * 0.5)) * self.random.uniform(1.0, 1.2)
        self._rest(State.REGISTERED, now + granted - margin)
        return Registered(self.registered_until, _service_route(response))

    def _granted(self, response: Response) -> float:
        """What the 200 says of our contact among others, else its Expires, else what we asked (RFC 3261 §10.2.4);
        never more than that, as a refresh too early does no harm."""
        try:
            ours = [contact for contact in response.contacts if contact.uri.user == self.contact.user]
            granted = ours[0].expires if ours and ours[0].expires is not None else response.expires
        except ParseError:
            granted = None                  # it said yes, however strangely
        return float(self._asked if granted is None else max(1, min(granted, self._asked)))

    def _failed(self, response: Response, reason: str, now: float) -> Failed:
        # No answer and a registrar in trouble leave our binding there as it was; a refusal says that there is none.
        refused = response.status not in (408, 423) and response.status // 100 != 5
        if refused:
            self.registered_until = 0.0
        longest = min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(self._failures, 16))
        least = self.random.uniform(1.0, 1.5) * REFUSED_RETRY if refused else 0.0
        wait = max(self.random.uniform(0.5, 1.0) * longest, least, _retry_after(response))
        self._failures += 1
        self._rest(State.WAITING, now + wait)
        return Failed(reason, now + wait, still_registered=self.registered_until > now)

    def _begin(self) -> SendRegister:
        self._rest(State.REGISTERING)
        self._round = 0
        return self._send_signed(self._asked)

    def _withdraw(self) -> SendRegister:
        self._rest(State.UNREGISTERING)
        self._round = 0
        self._stopping = False
        return self._send_signed(0)

    def _send_signed(self, expires: int) -> SendRegister:
        signed = self.digest.sign("REGISTER", str(self.account.registrar))
        return self._send(self.account.registrar, expires, signed)

    @property
    def _expires(self) -> int:
        return 0 if self.state is State.UNREGISTERING else self._asked

    def _send(self, uri: Uri, expires: int, signed: tuple[tuple[str, str], ...] = ()) -> SendRegister:
        self._cseq += 1
        headers = (("Contact", str(NameAddr(self.contact))), ("Expires", str(expires)), *signed)
        self._last = Request("REGISTER", uri, Headers(headers))
        return SendRegister(uri, headers, self._call_id, self._cseq, expires)

    def _rest(self, state: State, wake_at: float | None = None) -> None:
        self.state = state
        self.next_timeout = wake_at


def _service_route(response: Response) -> tuple[str, ...]:
    """RFC 3608 §5: loose routers all. One that we cannot follow spoils the rest."""
    try:
        values = response.headers.get_all("Service-Route")
        loose = [uri.is_sip and uri.is_loose_router for uri in (NameAddr.parse(value).uri for value in values)]
    except ParseError:
        return ()
    return tuple(values) if all(loose) and len(values) <= MAX_ROUTES else ()


def _retry_after(response: Response) -> float:
    """RFC 3261 §20.33: seconds, perhaps followed by a comment and parameters."""
    text = (response.headers.get("Retry-After") or "").split(";")[0].split("(")[0].strip()
    return min(float(text[:11]), LONGEST_RETRY_AFTER) if text.isascii() and text.isdigit() else 0.0
