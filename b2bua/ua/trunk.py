"""A trunk at work: registered or pinged by a task of its own, up or down, its names resolved ahead of the calls."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Final, Protocol

from b2bua.control import TrunkState, TrunkTest
from b2bua.directory import Trunk
from b2bua.net.resolver import Resolver, Target
from b2bua.sip.auth import DigestClient
from b2bua.sip.effects import Address, Flow, TlsPeer, Transport
from b2bua.sip.fields import NameAddr
from b2bua.sip.headers import Headers
from b2bua.sip.message import Response
from b2bua.sip.registration import (
    Account,
    Failed,
    Registered,
    Registration,
    RegistrationEffect,
    SendRegister,
    Unregistered,
)
from b2bua.sip.uri import Uri

PING_EVERY: Final = 30.0                # seconds between two OPTIONS; ±10 %
PING_WHEN_DOWN: Final = 10.0            # after one that got no answer
RESOLVE_EVERY: Final = 60.0             # the resolver's cache knows the TTL; this is only how often it is asked
SETTLED: Final = 300.0                  # a registration is left alone for so long, however the name's addresses change
ADDRESS_KEPT: Final = 3600.0            # a name that shows other addresses each time keeps those that it showed lately
FAULT_PAUSE: Final = 30.0
SERVER_DOUBT: Final = 300.0             # the same for one server of a trunk that has others
DOUBT: Final = 30.0                     # a trunk that gave a call no answer is tried after the others for so long
MAX_PINGED: Final = 4                   # addresses of one trunk

log = logging.getLogger(__name__)


class Sources(Protocol):
    def learn(self, line: TrunkLine, hosts: frozenset[str]) -> None:
        """These are all the addresses that the trunk's calls may come from now, beside its networks."""
        ...


class Requester(Protocol):
    """What a trunk needs of the user agent."""

    async def request(
        self,
        method: str,
        uri: Uri,
        *,
        from_: NameAddr,
        to: NameAddr,
        destination: Sequence[Target],
        headers: Sequence[tuple[str, str]] = (),
        call_id: str | None = None,
        cseq: int | None = None,
        peer: TlsPeer | None = None,
    ) -> Response:
        """The final response; a 408 or 503 of its own making when none came."""
        ...

    def flow_to(self, transport: Transport, remote: Address, peer: TlsPeer | None = None) -> Flow | None: ...

    def trouble(self, peer: TlsPeer) -> str:
        """Why no TLS connection leads there; empty when nothing is known against it."""
        ...

    def now(self) -> float: ...


class TrunkLine:
    """One trunk at work. `up` says whether calls can be expected to get through; calls may be tried all the same."""

    def __init__(
        self, trunk: Trunk, requester: Requester, resolver: Resolver, random: Random, sources: Sources
    ) -> None:
        self.trunk = trunk
        self.digest = DigestClient(trunk.user, trunk.password, random)
        # The user part of our Contact there: the operator sends our calls to it, so it must not be guessable.
        self.token = f"t{random.getrandbits(96):024x}"
        self.targets: list[Target] = []             # where calls go out, the best first
        self.routes: tuple[str, ...] = ()           # Route values of calls that go out: the registrar's Service-Route
        self._edge: list[Target] = []               # where the first of these leads
        self._registrar: Target | None = None       # which server answered our last REGISTER, and when
        self._registered_at = 0.0
        self._silent: frozenset[Target] = frozenset()       # servers that did not answer the last ping
        self._failed: dict[Target, float] = {}      # servers that failed a call, and until when that counts
        self._doubted_until = 0.0
        self._up = False
        self._detail = "not tried yet"
        self._until: float | None = None            # of the registration
        self.registering: Registration | None = None
        self.last_answer: Response | None = None    # to REGISTER
        self.tested: TrunkTest | None = None        # the last one that somebody has asked for
        self._sources = sources
        self._requester = requester
        self._resolver = resolver
        self._random = random
        self._seen: dict[str, float] = {}
        self._resolve_at = 0.0
        self._nowhere = ""                          # why there are no targets
        self._stop = asyncio.Event()

    @property
    def transport(self) -> Transport:
        return Transport(self.trunk.transport)

    @property
    def domain(self) -> str:
        return self.trunk.domain or self.trunk.host

    @property
    def aor(self) -> Uri:
        """Who we are there: calls go out from this address unless they show a number."""
        return Uri.sip(self.trunk.user, self.domain)

    @property
    def peer(self) -> TlsPeer | None:
        """Who must be at the far end, where the transport can tell (RFC 5922 §7.1)."""
        if self.transport is not Transport.TLS:
            return None
        trunk = self.trunk
        names = dict.fromkeys((trunk.host.strip("[]"), self.domain))
        return TlsPeer(tuple(names), trunk.ca_file, trunk.certificate, trunk.certificate_key)

    @property
    def up(self) -> bool:
        return self._up and (self._until is None or self._requester.now() < self._until)

    @property
    def promising(self) -> bool:
        """Up, and no call lately went without an answer: a server that answers OPTIONS may yet place no call."""
        return self.up and self._requester.now() >= self._doubted_until

    def ways_out(self) -> list[Flow]:
        """For a call, the best first. A Service-Route is the way that the registrar wants (RFC 3608 §6.1)."""
        now = self._requester.now()
        targets = sorted(self._edge or self.targets, key=lambda target: self._failed.get(target, now) > now)
        ways = (self._requester.flow_to(*target, self.peer) for target in targets)
        return [way for way in ways if way is not None]

    def failed(self, target: Target) -> None:
        """It gave a call no answer, or a 503 (RFC 3263 §4.3): for a while calls try others first."""
        now = self._requester.now()
        self._failed = {other: until for other, until in self._failed.items() if until > now}
        self._failed[target] = now + SERVER_DOUBT

    def doubt(self) -> None:
        """None of its servers took a call."""
        self._doubted_until = self._requester.now() + DOUBT

    def state(self, now: float) -> TrunkState:
        left = f" for {self._until - now:.0f} s" if self._until is not None and self._until > now else ""
        doubt = "a call failed there lately; " if now < self._doubted_until else ""
        trouble = self._requester.trouble(self.peer) if self.peer is not None and not self.up else ""
        detail = f"{self._detail}; {trouble}" if trouble else self._detail + left
        return TrunkState(self.trunk.client, self.trunk.name, self.up, doubt + detail)

    def stop(self) -> None:
        """Unregister and end."""
        self._stop.set()

    async def run(self) -> None:
        """Until `stop`. A fault of ours is this trunk's alone: logged, and tried again."""
        while not self._stop.is_set():
            try:
                await (self._keep_registered() if self.trunk.register else self._keep_pinging())
            except Exception:
                log.exception("trunk fault", extra={"client": self.trunk.client, "trunk": self.trunk.name})
                self._set(up=False, detail="fault, see the log")
                await self._stopped_within(FAULT_PAUSE)

    # -- registered

    async def _keep_registered(self) -> None:
        await self._resolve()
        registrar = Uri.sip("", self.domain)
        machine = Registration(Account(registrar, self.aor), self._contact(), self.digest, self._random)
        self.registering = machine
        await self._perform(machine.start(self._requester.now()), machine)
        while not await self._stopped_within(min(self._left_of(machine), RESOLVE_EVERY)):
            await self._resolve()
            machine.contact = self._contact()
            now = self._requester.now()
            await self._perform(machine.refresh(now) if self._moved(now) else machine.handle_timeout(now), machine)
        await self._perform(machine.stop(self._requester.now()), machine)

    def _left_of(self, machine: Registration) -> float:
        return (machine.next_timeout or 0.0) - self._requester.now()

    def _moved(self, now: float) -> bool:
        """Whether the name no longer leads to where we are registered: calls to us would get lost there."""
        known = self._registrar in self.targets if self.targets else True
        return not known and now - self._registered_at >= SETTLED

    async def _perform(self, effects: list[RegistrationEffect], machine: Registration) -> None:
        left = deque(effects)
        while left:
            match left.popleft():
                case SendRegister() as register:
                    self.last_answer = await self._send_register(register)
                    left += machine.response(self.last_answer, self._requester.now())
                case Registered(until, routes):
                    await self._follow(routes)
                    self._set(up=True, detail="registered", until=until)
                case Failed(reason, _, still_registered) if still_registered:
                    self._set(up=True, detail=f"{reason}, still registered", until=machine.registered_until)
                case Failed(reason):
                    await self._follow(())
                    self._set(up=False, detail=reason)
                case Unregistered():
                    self._set(up=False, detail="unregistered")

    async def _send_register(self, register: SendRegister) -> Response:
        aor = NameAddr(self.aor)
        targets = self.targets
        if register.uri.host.lower() != self.domain.lower():        # redirected
            targets = await self._resolver.resolve(register.uri.host, register.uri.port, self.transport)
        response = Response(503, self._nowhere, Headers())
        for target in targets:
            response = await self._requester.request(
                "REGISTER", register.uri, from_=aor, to=aor, destination=(target,), headers=register.headers,
                call_id=register.call_id, cseq=register.cseq, peer=self.peer,
            )   # fmt: skip
            if response.status not in (408, 503):
                self._prefer(target)
                self._registrar, self._registered_at = target, self._requester.now()
                break
        return response

    async def _follow(self, routes: tuple[str, ...]) -> None:
        """From now on calls go by these (RFC 3608 §6.1), to the first of them."""
        edge: list[Target] = []
        if routes:
            first = NameAddr.parse(routes[0]).uri
            wanted = first.transport or self.trunk.transport
            transport = Transport(wanted) if wanted in Transport.__members__ else self.transport
            found = await self._resolver.resolve(first.host, first.port, transport)
            edge = [target for target in found if self._requester.flow_to(*target, self.peer) is not None]
        self.routes, self._edge = routes, edge

    def _contact(self) -> Uri:
        params = {} if self.transport is Transport.UDP else {"transport": self.transport.value.lower()}
        flow = self._requester.flow_to(*self.targets[0], self.peer) if self.targets else None
        local = flow.local if flow is not None else Address("0.0.0.0", self.transport.default_port)  # noqa: S104
        return Uri.sip(self.token, local.host, local.port, params)

    # -- known by address

    async def _keep_pinging(self) -> None:
        pause = 0.0
        while not await self._stopped_within(pause):
            await self._resolve()
            answered = await self._ping_all()
            if not self.targets:
                self._set(up=False, detail=self._nowhere)
            else:
                self._silent = frozenset(self.targets) - answered
                self.targets.sort(key=lambda target: target in self._silent)
                self._set(up=bool(answered), detail="answers OPTIONS" if answered else "no answer to OPTIONS")
            pause = (PING_EVERY if answered else PING_WHEN_DOWN) * self._random.uniform(0.9, 1.1)

    async def _ping_all(self) -> set[Target]:
        """No TaskGroup, the way of the house: one that fails leaves its task, in CPython before 3.11.5, with a
        cancellation that nobody asked for, and each time-out of that task broken from then on."""
        targets = self.targets[:MAX_PINGED]
        alive = await asyncio.gather(*map(self._ping, targets), return_exceptions=True)
        for fault in alive:
            if isinstance(fault, BaseException):
                raise fault
        return {target for target, answered in zip(targets, alive, strict=True) if answered}

    async def _ping(self, target: Target) -> bool:
        uri = Uri.sip("", self.domain)
        response = await self._requester.request(
            "OPTIONS", uri, from_=NameAddr(self.aor), to=NameAddr(uri), destination=(target,), peer=self.peer
        )
        return response.status not in (408, 503)    # any other answer, a refusal too, comes from somebody alive

    # -- both

    async def _resolve(self) -> None:
        """Names are looked up here and kept, so that no call waits for the DNS."""
        now = self._requester.now()
        if now < self._resolve_at and self.targets:
            return
        found = await self._resolver.resolve(self.trunk.host, self.trunk.port, self.transport)
        spoken = [target for target in found if self._requester.flow_to(*target) is not None]
        self._nowhere = f"{self.trunk.transport} is not spoken here" if found else f"no address for {self.trunk.host}"
        self._resolve_at = now + RESOLVE_EVERY
        self._seen |= {address.host: now for _, address in found}
        self._seen = {host: at for host, at in self._seen.items() if now - at < ADDRESS_KEPT}
        self._sources.learn(self, frozenset(self._seen))
        if spoken and self.trunk.register:          # calls go where we are registered, as long as that is there
            order = {target: place for place, target in enumerate(self.targets)}
            self.targets = sorted(spoken, key=lambda target: order.get(target, len(order)))
        elif spoken:                                # else in the order that the DNS says, drawn anew each time
            self.targets = sorted(spoken, key=lambda target: target in self._silent)

    def _prefer(self, good: Target) -> None:
        self.targets.sort(key=lambda target: target != good)

    def _set(self, *, up: bool, detail: str, until: float | None = None) -> None:
        if up != self.up:
            log.info(
                "trunk %s", "up" if up else "down",
                extra={"client": self.trunk.client, "trunk": self.trunk.name, "detail": detail},
            )   # fmt: skip
        self._up, self._detail, self._until = up, detail, until

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stop.wait()
        except TimeoutError:
            return self._stop.is_set()
        return True
