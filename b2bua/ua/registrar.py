"""The registrar: who a phone is (RFC 3261 §22) and where it is (§10.3)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from b2bua.cdr import ClientId
from b2bua.control import RegisteredPhone
from b2bua.directory import Directory, Extension
from b2bua.sip.auth import DigestServer, Verdict
from b2bua.sip.bindings import Binding, BindingPolicy, Bindings, Reachability, Refused, Registered
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.fields import NameAddr
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Request, Response
from b2bua.sip.throttle import Answer, AuthThrottle, Ban, Silence
from b2bua.sip.uri import Uri

HOSTS_KEPT: Final = 1.0         # seconds that the set of the phones' addresses is used before it is made anew
MAX_HELD: Final = 1000          # answers to wrong passwords that wait for their time; more wrong ones get none

ExtensionKey = tuple[ClientId, str]
FlowTo = Callable[[Transport, Address], Flow | None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Challenge:
    """Answer with this status and these headers, after so many seconds.

    Always 401: towards phones we are the user agent server that they call, not a proxy on the way (§22.2, §22.3).
    """

    headers: tuple[tuple[str, str], ...]
    delay: float = 0.0
    status: int = 401


@dataclass(frozen=True, slots=True)
class Reply:
    response: Response
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class StoredBinding:
    """A binding as it outlives the process; `payload` is JSON that only the registrar reads."""

    client: ClientId
    extension: str
    key: str
    expires_in: float
    payload: str


@dataclass(slots=True)
class RegistrarCounters:
    accepted: int = 0
    challenged: int = 0
    stale: int = 0
    wrong: int = 0
    silenced: int = 0
    banned: int = 0
    refused: int = 0            # authenticated, but against the registrar's rules
    changes: int = 0            # of the bindings, so that a store knows when to save


class Registrar:
    """Holds bindings of the directory's extensions only, so that strangers cannot make it grow."""

    def __init__(
        self,
        directory: Directory,
        digest: DigestServer,
        *,
        policy: BindingPolicy | None = None,
        throttle: AuthThrottle | None = None,
        scanners: Sequence[str] = (),
    ) -> None:
        """`scanners`: what User-Agent holds when nobody means well; in any case."""
        self.counters = RegistrarCounters()
        self._directory = directory
        self._accounts = _accounts(directory)
        self._scanners = tuple(name.lower() for name in scanners)
        self._digest = digest
        self._policy = policy or BindingPolicy()
        self._throttle = throttle or AuthThrottle()
        self._bindings: dict[ExtensionKey, Bindings] = {}
        self._by_connection: dict[tuple[Transport, int], set[ExtensionKey]] = {}
        self._held_until: list[float] = []
        self._hosts: set[str] = set()
        self._sources: set[Address] = set()
        self._hosts_until = 0.0
        self._fixed = _fixed_hosts(directory)

    def use(self, directory: Directory) -> None:
        """Another snapshot: extensions that are gone lose their bindings; a lower limit holds for new ones."""
        self._directory = directory
        self._fixed = _fixed_hosts(directory)
        self._accounts = _accounts(directory)
        kept = directory.extension
        self._bindings = {key: bindings for key, bindings in self._bindings.items() if key in kept}
        for key, bindings in self._bindings.items():
            bindings.max_contacts = kept[key].max_contacts

    # -- who is it

    def screen(
        self, request: Request, flow: Flow, now: float, *, from_trunk: bool = False
    ) -> Challenge | Silence | None:
        """Before anything is kept of a request: None when it answers a challenge that we sent to its source.

        Only then is that address proved and the password worth a look (`authenticate`); all others are challenged.
        """
        source = flow.remote.host
        if self._is_scanner(request):
            self.counters.silenced += 1
            if not from_trunk:
                self.suspect(request, flow, now)
            return Silence()
        credentials = self._digest.credentials(request)
        if self._throttle.silent(source, credentials.username if credentials else "", now):
            self.counters.silenced += 1
            return Silence()
        if credentials is None:
            if not from_trunk:
                self.suspect(request, flow, now)
            return self._challenge(source, now, counted=not from_trunk)
        if not self._digest.issued_to(source, credentials.nonce, now):
            self.counters.stale += 1
            return self._challenge(source, now, stale=True, counted=not from_trunk)
        return None

    def suspect(self, request: Request, flow: Flow, now: float) -> None:
        """What somebody asks for without a password; nothing is held against the address of a registered phone."""
        source = flow.remote.host
        if self.knows(source, now):
            return
        if self._is_scanner(request):
            self._throttle.scanned(source, request.headers.get("User-Agent") or "", now)
        elif name := self._tried(request):
            self._throttle.tried(source, name, now)
        self._tell_bans()

    def _tried(self, request: Request) -> str:
        """Whom it asks for. Phones of ours register without a password first, a whole office of them at once."""
        try:
            if request.to_tag is not None:     # of a dialog that is gone
                return ""
            if request.method != "REGISTER":
                return request.uri.user
            return "" if request.to.uri.user in self._accounts else request.to.uri.user
        except ParseError:
            return ""

    def _is_scanner(self, request: Request) -> bool:
        program = request.headers.get("User-Agent")
        return program is not None and any(name in program.lower() for name in self._scanners)

    def _tell_bans(self) -> None:
        for ban in self._throttle.fresh():
            self.counters.banned += 1
            log.warning("banned", extra={
                "who": ban.who.value, "source": ban.address, "login": ban.account, "why": ban.why,
                "remedy": f"smartswitch bans lift {ban.address or ban.account}, if it is one of yours",
            })

    def unwanted(self, source: str, now: float) -> None:
        """What came from there was ignored: too much of that is a flood."""
        if not self.knows(source, now):
            self._throttle.unwanted(source, now)
            self._tell_bans()

    def bans_host(self, source: str, now: float) -> bool:
        """Whether nothing from that address is heard, whatever it is."""
        return self._throttle.silent(source, "", now)

    def bans(self, now: float) -> list[Ban]:
        return self._throttle.bans(now)

    def lift_ban(self, subject: str, now: float) -> int:
        lifted = self._throttle.lift(subject, now)
        if lifted:
            log.warning("ban lifted", extra={"subject": subject[:64], "bans": lifted})
        return lifted

    def _challenge(self, source: str, now: float, *, stale: bool = False, counted: bool = True) -> Challenge:
        self.counters.challenged += not stale
        if counted:
            self._throttle.challenged(source, now)
            self._tell_bans()
        return Challenge(self._digest.challenges(source, now, stale=stale))

    def knows(self, host: str, now: float) -> bool:
        """Whether a phone is at this source address: a registered one, or one of a fixed address."""
        self._look_who_is_there(now)
        return host in self._hosts

    def hears(self, source: tuple[str, int], now: float) -> bool:
        """Whether a phone has registered from exactly there."""
        self._look_who_is_there(now)
        return source in self._sources

    def _look_who_is_there(self, now: float) -> None:
        if now >= self._hosts_until:
            self._sources = {binding.flow.remote for _, binding in self._live(now)}
            self._hosts = {source.host for source in self._sources} | self._fixed
            self._hosts_until = now + HOSTS_KEPT

    def authenticate(self, request: Request, flow: Flow, now: float) -> Extension | Challenge | Silence:
        source = flow.remote.host
        credentials = self._digest.credentials(request)
        login = credentials.username if credentials else ""
        if self._throttle.silent(source, login, now):
            self.counters.silenced += 1
            return Silence()
        if credentials is None:
            return self._challenge(source, now)
        extension = self._directory.by_login.get(login)
        known = extension.ha1 if extension else {}
        match self._digest.verify(credentials, request, known, source, now):
            case Verdict.ACCEPTED:
                assert extension is not None
                self._throttle.succeeded(source, login, now)
                return extension
            case Verdict.STALE:
                self.counters.stale += 1
                return self._challenge(source, now, stale=True)
            case Verdict.WRONG:
                return self._wrong(source, login, now)
            case unknown:
                assert_never(unknown)

    def _wrong(self, source: str, login: str, now: float) -> Challenge | Silence:
        self.counters.wrong += 1
        log.info("wrong password", extra={"source": source, "login": login[:64]})
        verdict = self._throttle.failed(source, login, now)
        self._tell_bans()
        match verdict:
            case Answer(delay) if self._may_hold(now + delay, now):
                return Challenge(self._digest.challenges(source, now), delay)
            case _:
                self.counters.silenced += 1
                return Silence()

    def _may_hold(self, until: float, now: float) -> bool:
        if len(self._held_until) >= MAX_HELD:
            self._held_until = [at for at in self._held_until if at > now]
        if len(self._held_until) >= MAX_HELD:
            return False
        self._held_until.append(until)
        return True

    # -- where is it

    def register(self, request: Request, flow: Flow, now: float, to_tag: str) -> Reply | Silence:
        """The answer to a REGISTER, after its delay; or none."""
        match self.authenticate(request, flow, now):
            case Silence() as silence:
                return silence
            case Challenge(headers, delay, status):
                return Reply(request.response(status, to_tag=to_tag, headers=headers), delay)
            case extension:
                return Reply(self._bind(extension, request, flow, now, to_tag))

    def _bind(self, extension: Extension, request: Request, flow: Flow, now: float, to_tag: str) -> Response:
        if not _is_own(extension, request):
            self.counters.refused += 1
            return request.response(403, "Not Your Extension", to_tag=to_tag)
        key = extension.client, extension.number
        bindings = self._bindings.get(key) or Bindings(extension.max_contacts)
        match bindings.register(request, flow, now, self._policy):
            case Refused(status, reason, headers):
                self.counters.refused += 1
                log.info(
                    "registration refused",
                    extra={"client": key[0], "extension": key[1], "status": status, "why": reason},
                )
                return request.response(status, reason, to_tag=to_tag, headers=headers)
            case Registered(contacts, removed, about_flow):
                self.counters.accepted += 1
                self._keep(key, bindings, contacts)
                self._hosts.add(flow.remote.host)      # it may call in this very second
                self._sources.add(flow.remote)
                if removed or any(binding.updated_at == now for binding in contacts):
                    self.counters.changes += 1
                answer = [("Contact", binding.contact(now)) for binding in contacts]
                answer += [_SUPPORTED, *about_flow]
                return request.response(200, to_tag=to_tag, headers=answer)

    def _keep(self, key: ExtensionKey, bindings: Bindings, contacts: Iterable[Binding]) -> None:
        contacts = list(contacts)
        if not contacts:
            self._bindings.pop(key, None)
            return
        self._bindings[key] = bindings
        for binding in contacts:
            if binding.flow.connection:
                connection = binding.flow.transport, binding.flow.connection
                self._by_connection.setdefault(connection, set()).add(key)

    def flow_gone(self, flow: Flow) -> None:
        """A stream connection ended; a datagram that bounced changes nothing, the phone may just be restarting."""
        for key in self._by_connection.pop((flow.transport, flow.connection), ()):
            bindings = self._bindings.get(key)
            if bindings is not None:
                bindings.drop_connection(flow)
                self.counters.changes += 1

    def lookup(self, key: ExtensionKey, now: float) -> list[Binding]:
        """Where to ring an extension, the best first."""
        bindings = self._bindings.get(key)
        return bindings.contacts(now) if bindings else []

    def to_ring(self, key: ExtensionKey, now: float) -> list[Binding]:
        """Where to ring an extension, the best first. Phones that do not answer OPTIONS are left out while another of
        the extension's does; where none does, all are rung, as some phones never answer OPTIONS. A phone with several
        flows rings by one of them (RFC 5626 §7)."""
        bindings = self.lookup(key, now)
        answering = [binding for binding in bindings if binding.reachability is not Reachability.UNREACHABLE]
        phones: dict[str, Binding] = {}
        for binding in answering or bindings:
            phones.setdefault(binding.instance if binding.reg_id else str(binding.uri), binding)
        return list(phones.values())

    def bound(self, now: float) -> list[tuple[ExtensionKey, Binding]]:
        return list(self._live(now))

    def mark(self, key: ExtensionKey, binding: Binding, reachability: Reachability) -> None:
        """What was found out about this binding; nothing when it was replaced meanwhile."""
        if (bindings := self._bindings.get(key)) is not None:
            bindings.mark(binding, reachability)

    def phones(self, now: float) -> list[RegisteredPhone]:
        return [
            RegisteredPhone(
                client, number, str(binding.uri), binding.user_agent, round(binding.expires_at - now),
                binding.reachability.value,
            )
            for (client, number), binding in self._live(now)
        ]   # fmt: skip

    def phones_of(self, extensions: Iterable[Extension], now: float) -> int:
        """How many calls to these would reach, as far as is known."""
        return sum(len(self.lookup((one.client, one.number), now)) + (one.address is not None) for one in extensions)

    def _live(self, now: float) -> Iterator[tuple[ExtensionKey, Binding]]:
        return ((key, binding) for key, bindings in self._bindings.items() for binding in bindings.contacts(now))

    # -- across restarts

    def snapshot(self, now: float) -> tuple[StoredBinding, ...]:
        """What is worth keeping: a phone behind a NAT cannot be reached by a new connection."""
        return tuple(
            StoredBinding(client, number, str(binding.uri), binding.expires_at - now, _payload(binding, now))
            for (client, number), binding in self._live(now)
            if not (binding.bound_to_flow and binding.flow.transport.reliable)
        )

    def restore(self, stored: Iterable[StoredBinding], now: float, flow_to: FlowTo) -> int:
        """How many came back; what does not fit the directory or cannot be read is left out."""
        restored = 0
        for one in stored:
            extension = self._directory.extension.get((one.client, one.extension))
            if extension is None or one.expires_in <= 0:
                continue
            binding = _restored(one, now, flow_to)
            if binding is None:
                log.warning("stored binding unreadable", extra={"client": one.client, "extension": one.extension})
                continue
            key = one.client, one.extension
            self._bindings.setdefault(key, Bindings(extension.max_contacts)).restore(binding)
            self._throttle.succeeded(binding.flow.remote.host, extension.login, now)    # as it did before the restart
            restored += 1
        return restored


_SUPPORTED: Final = ("Supported", "path, outbound")


def _accounts(directory: Directory) -> frozenset[str]:
    """What phones write into To when they register."""
    return frozenset(name for one in directory.extensions for name in (one.number, one.login, _user_of(one.login)))


def _user_of(login: str) -> str:
    return login.partition("@")[0]


def _is_own(extension: Extension, request: Request) -> bool:
    """A phone may register the extension that it logged in as, under its number or its login (§10.3 step 3)."""
    user = request.to.uri.user
    return user in (extension.number, extension.login, _user_of(extension.login))


def _payload(binding: Binding, now: float) -> str:
    flow = binding.flow
    return json.dumps(
        {
            "contact": binding.contact(binding.updated_at),
            "transport": flow.transport.value,
            "remote": list(binding.anew.remote if flow.connection else flow.remote),
            "behind_nat": binding.behind_nat,
            "call_id": binding.call_id,
            "cseq": binding.cseq,
            "user_agent": binding.user_agent,
            "age": now - binding.updated_at,
            "path": binding.path,
        }
    )


def _restored(stored: StoredBinding, now: float, flow_to: FlowTo) -> Binding | None:
    try:
        fields = json.loads(stored.payload)
        contact = NameAddr.parse(fields["contact"])
        transport = Transport(fields["transport"])
        host, port = fields["remote"] or (contact.uri.host, contact.uri.port or transport.default_port)
        flow = flow_to(transport, Address(str(host), int(port)))
        return None if flow is None else Binding(
            uri=Uri.parse(str(contact.uri)),
            flow=flow,
            behind_nat=bool(fields["behind_nat"]),
            expires_at=now + stored.expires_in,
            updated_at=now - float(fields["age"]),
            call_id=str(fields["call_id"]),
            cseq=int(fields["cseq"]),
            q=contact.q,
            user_agent=str(fields["user_agent"]),
            instance=contact.params.get("+sip.instance", "").strip('"'),
            reg_id=contact.params.get("reg-id", ""),
            path=tuple(str(NameAddr.parse(hop)) for hop in fields.get("path", ())),
        )
    except (ParseError, ValueError, KeyError, TypeError):
        return None


def _fixed_hosts(directory: Directory) -> set[str]:
    """Of the phones that never register; a name among them is no source address, and matches none."""
    hosts = set()
    for extension in directory.extensions:
        if extension.address is not None:
            try:
                hosts.add(Uri.parse(extension.address).host)
            except ParseError:
                log.warning("bad address", extra={"client": extension.client, "extension": extension.number})
    return hosts
