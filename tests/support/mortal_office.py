"""Processes of ours that die at any moment, beside what outlives them: the stores, the phones and trunks, and amoCRM.

A process is everything that the daemon runs for its calls and its CRMs. What it asks of a store or of amoCRM passes a
step at which it may die. From then on it says nothing to anybody: its tasks are cancelled, and whatever they do to
clean up is heard nowhere.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import httpx

from b2bua.calls.dial import StepDialler
from b2bua.calls.errands import Errands
from b2bua.calls.left_behind import Undertaker
from b2bua.calls.recordings import Recordings
from b2bua.calls.standing import StandingCalls
from b2bua.calls.switchboard import Switchboard
from b2bua.cdr import CallId, CallRecord, ClientId
from b2bua.crm.amocrm.adapter import AmoAccounts
from b2bua.crm.amocrm.connections import Connections
from b2bua.crm.amocrm.oauth import TokenEndpoint
from b2bua.crm.lookup import Lookup
from b2bua.crm.outbox import Outbox, RecordingState
from b2bua.crm.port import CrmWrite
from b2bua.crm.sync import Sync
from b2bua.crm_side import CrmAccounts
from b2bua.directory import Directory
from b2bua.net.resolver import DnsResolver
from b2bua.recording.recorder import Finished, Outcome
from b2bua.sandbox import InProcessSandbox
from b2bua.sealing import Sealer
from b2bua.sip.admission import Admission, Verdict
from b2bua.sip.auth import DigestPolicy, DigestServer
from b2bua.sip.core import CoreConfig, UserAgentCore
from b2bua.sip.effects import Address, Flow, TlsPeer, Transport
from b2bua.sip.message import Request
from b2bua.store.standing import LeftBehind, StandingCall
from b2bua.ua.agent import UserAgent
from b2bua.ua.registrar import Registrar
from b2bua.ua.trunk_table import TrunkTable
from tests.support.amo_post import link_of
from tests.support.anchored import AnchoredPlane
from tests.support.memory_outbox import MemoryOutbox
from tests.support.memory_tokens import MemoryTokens, TokenDatabase
from tests.support.network import Endpoint, Network, Sink
from tests.support.office import REALM, SERVER, FakeDns
from tests.support.virtual_loop import VirtualLoop

STORE_SECONDS = 0.003                  # a question to a store, there and back the same
CARRIED_OUT_WITHIN = 25.0              # what amoCRM was sent by who died then is carried out so soon, or never
LAST_DELIVERIES = 5.0                  # of a process that is stopped, and not killed
_SEALER = Sealer(["a key of the tests, which is long enough"])


# -- what outlives a process


@dataclass(frozen=True)
class Booked:
    record: CallRecord
    writes: tuple[CrmWrite, ...]
    at: float                          # of the loop's clock


@dataclass
class MemoryBooks:
    """Finished calls with their writes, calls that are up, recordings; by the rules of the store."""

    outbox: MemoryOutbox
    booked: dict[CallId, Booked] = field(default_factory=dict)
    standing: dict[CallId, LeftBehind | StandingCall] = field(default_factory=dict)
    recordings: dict[str, RecordingState] = field(default_factory=dict)
    last_beat: datetime | None = None

    async def finish(self, record: CallRecord, writes: Sequence[CrmWrite]) -> None:
        """Both, once: a call is in the books only once."""
        if record.id not in self.booked:
            self.booked[record.id] = Booked(record, tuple(writes), asyncio.get_running_loop().time())
            for write in writes:
                self.outbox.add(write)

    async def spilled_before_is_back(self) -> None:
        """Nothing was: the memory is never away."""

    async def save(self, standing: Sequence[StandingCall], now: datetime) -> None:
        self.standing.update({call.record.id: call for call in standing})
        self.last_beat = now

    async def tidy(self) -> int:
        for call in [call for call in self.standing if call in self.booked]:
            del self.standing[call]
        return len(self.standing)

    async def claim(self) -> None:
        for call, one in self.standing.items():
            if isinstance(one, StandingCall):
                assert self.last_beat is not None
                self.standing[call] = LeftBehind(one, self.last_beat)

    async def left_behind(self) -> Sequence[LeftBehind]:
        await self.tidy()
        return [one for one in self.standing.values() if isinstance(one, LeftBehind)]

    # recordings

    async def begin(self, recording: str, call: CallId, client: ClientId, started_at: datetime) -> None:
        self.recordings.setdefault(recording, RecordingState.PENDING)

    async def finished(self, recording: str, path: str, seconds: float, size: int) -> None:
        self.recordings[recording] = RecordingState.READY

    async def failed(self, recording: str, problem: str) -> None:
        self.recordings[recording] = RecordingState.NEVER

    async def unfinished(self) -> Sequence[str]:
        return [one for one, state in self.recordings.items() if state is RecordingState.PENDING]

    async def state(self, recording: str) -> RecordingState:
        return self.recordings.get(recording, RecordingState.PENDING)


@dataclass
class Archive:
    """Makes the MP3 some seconds after the call."""

    seconds: float = 4.0

    async def finish(self, recording: str) -> Outcome:
        await asyncio.sleep(self.seconds)
        return Finished(Path(f"/{recording}.mp3"), 60.0, 1)

    async def recover(self, live: Collection[str], unfinished: Collection[str]) -> Mapping[str, Outcome]:
        return {one: await self.finish(one) for one in unfinished if one not in live}


@dataclass(frozen=True)
class Sent:
    """A request, as it left us."""

    at: float
    host: str
    method: str
    path: str
    query: str


@dataclass
class World:
    """`directory` is what the next process loads, and what this one has after `settings_changed`."""

    network: Network
    sandbox: InProcessSandbox
    directory: Directory
    tasks: asyncio.TaskGroup
    tokens: TokenDatabase = field(default_factory=TokenDatabase)
    outbox: MemoryOutbox = field(init=False)
    books: MemoryBooks = field(init=False)
    sent: deque[Sent] = field(default_factory=deque)
    processes: list[Process] = field(default_factory=list)
    up: asyncio.Event = field(default_factory=asyncio.Event)       # set while a process takes calls

    def __post_init__(self) -> None:
        self.outbox = MemoryOutbox(wall)
        self.books = MemoryBooks(self.outbox)

    @property
    def process(self) -> Process:
        return self.processes[-1]

    def start(self) -> Process:
        process = Process(self, len(self.processes) + 1)
        self.processes.append(process)
        process.root = self.tasks.create_task(process.run(), name=f"process {process.number}")
        return process

    # the books of a process: where the directory comes from

    async def load(self) -> tuple[Directory, int]:
        return self.directory, len(self.processes)

    def alarms(self) -> Sequence[str]:
        return ()


def wall() -> datetime:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.wall()


# -- a life


@dataclass
class Life:
    began: float
    steps_left: int | None = None      # until death; None: for ever
    posts_left: int | None = None      # so many more are sent, and with the last of them it dies
    drains_at: float | None = None     # phones are turned away from then on
    stops_at: float | None = None      # and trunks; what is turned away so is in no books
    ended: float | None = None
    on_end: list[Callable[[], object]] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return self.ended is not None

    def end(self) -> None:
        if self.ended is None:
            self.ended = asyncio.get_running_loop().time()
            for act in self.on_end:
                act()

    def posts(self) -> None:
        if self.posts_left is not None:
            self.posts_left -= 1
            if self.posts_left <= 0:
                asyncio.get_running_loop().call_soon(self.end)

    def step(self) -> None:
        """Here it may die; who is dead comes no further."""
        if self.steps_left is not None and not self.is_over:
            self.steps_left -= 1
            if self.steps_left < 0:
                self.end()
        if self.is_over:
            raise asyncio.CancelledError


class Mortal:
    """A store as one process has it: what it does for a dead one is nothing."""

    def __init__(self, store: object, life: Life) -> None:
        self._store, self._life = store, life

    def __getattr__(self, name: str) -> Callable[..., Coroutine[object, object, Any]]:
        method = getattr(self._store, name)

        async def asked(*arguments: object, **named: object) -> object:
            self._life.step()
            await asyncio.sleep(STORE_SECONDS)
            self._life.step()
            answer = await method(*arguments, **named)
            self._life.step()
            return answer
        return asked


class Wire(httpx.AsyncBaseTransport):
    """To amoCRM. A request that has left is amoCRM's own affair: it may be carried out for who has died meanwhile. Who
    gives up alive closes the connection, and amoCRM drops what it has not begun."""

    def __init__(self, world: World, life: Life) -> None:
        self._world, self._life = world, life

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._life.step()
        loop, url = asyncio.get_running_loop(), request.url
        self._world.sent.append(Sent(loop.time(), url.host, request.method, url.path, url.query.decode()))
        answering = self._world.tasks.create_task(self._answer(request))
        if request.method == "POST" and url.path.startswith("/api/v4/"):
            self._life.posts()
        try:
            answer = await asyncio.shield(answering)
        except asyncio.CancelledError:
            if self._life.is_over:
                loop.call_later(CARRIED_OUT_WITHIN, answering.cancel)
            else:
                answering.cancel()
            raise
        self._life.step()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _answer(self, request: httpx.Request) -> httpx.Response | Exception:
        try:
            return await self._world.sandbox.transport.handle_async_request(request)
        except (httpx.HTTPError, OSError) as error:        # acted out: for who has asked
            return error


class Mouth:
    """The network of one process; after its end the address is nobody's."""

    def __init__(self, endpoint: Endpoint, life: Life) -> None:
        self._endpoint, self._life = endpoint, life
        self.kind: Transport = endpoint.kind
        self.local: Address = endpoint.local

    def send(self, data: bytes, flow: Flow) -> None:
        if not self._life.is_over:
            self._endpoint.send(data, flow)

    def flow_for(self, remote: Address, peer: TlsPeer | None = None) -> Flow:
        return self._endpoint.flow_for(remote, peer)

    def trouble(self, peer: TlsPeer) -> str:
        return ""

    def close(self) -> None:
        self._endpoint.close()


class Ears:
    """What is heard by who is alive."""

    def __init__(self, agent: UserAgent, life: Life) -> None:
        self._agent, self._life = agent, life

    def on_message(self, data: bytes, flow: Flow) -> None:
        if not self._life.is_over:
            self._agent.on_message(data, flow)

    def on_failure(self, flow: Flow) -> None:
        if not self._life.is_over:
            self._agent.on_failure(flow)


@dataclass
class Process:
    world: World
    number: int
    root: asyncio.Task[None] | None = None
    life: Life = field(init=False)
    pbx: Switchboard | None = None
    outbox: Outbox | None = None
    connections: Connections | None = None
    _delivering: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.life = Life(asyncio.get_running_loop().time())
        self.life.on_end += [self.world.up.clear, self._cancel]

    def _cancel(self) -> None:
        if self.root is not None:
            self.root.cancel()

    def dies(self) -> None:
        """Now, in whatever it does."""
        self.life.end()

    async def stops(self, patience: float) -> None:
        """As by SIGTERM."""
        if self.life.is_over or self.pbx is None or self.outbox is None or self._delivering is None:
            self.dies()                # it had not begun yet
            return
        self.world.up.clear()
        self.life.drains_at = asyncio.get_running_loop().time()
        await self.pbx.drain(patience)
        self.life.stops_at = asyncio.get_running_loop().time()
        self.outbox.stop()
        await asyncio.wait([self._delivering], timeout=LAST_DELIVERIES)
        self.dies()

    async def run(self) -> None:
        try:
            async with self._running():
                self.world.up.set()
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not self.life.is_over:
                raise

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        """As app.running puts it together, on the stores of the world."""
        world, life, seed = self.world, self.life, random.Random(self.number)
        async with AsyncExitStack() as parts:
            books, rows = Mortal(world.books, life), Mortal(world.outbox, life)
            wire = Wire(world, life)
            await books.claim()
            endpoint = await parts.enter_async_context(TokenEndpoint(wire))
            tokens = cast(MemoryTokens, Mortal(MemoryTokens(world.tokens), life))
            connections = await parts.enter_async_context(Connections(tokens, endpoint, _SEALER, wall, seed))
            accounts = await parts.enter_async_context(AmoAccounts(link_of, connections, wire))
            await accounts.use(world.directory)
            lookup = await parts.enter_async_context(Lookup(accounts.crm_of))
            sync = Sync(lookup.memory, accounts.people_of, lookup.is_resting, lambda client: None, wall, seed)
            sync.use(world.directory)
            errands = await parts.enter_async_context(Errands())
            outbox = Outbox(cast(MemoryOutbox, rows), accounts.crm_of, wall, books.state, lookup.forget, random=seed)
            recordings = Recordings(
                Path("/"), Archive(), cast(MemoryBooks, books), errands, outbox.recording_finished)
            standing = StandingCalls(cast(MemoryBooks, books), wall)
            registrar = Registrar(world.directory, DigestServer(DigestPolicy(realm=REALM), b"k" * 32))
            door: list[Switchboard] = []

            def admit(request: Request, flow: Flow) -> Verdict:
                return door[0].door.admit(request, flow) if door else Admission.IGNORE

            agent = UserAgent(UserAgentCore(CoreConfig(), seed, admit))
            parts.callback(agent.close)
            resolver = DnsResolver(FakeDns(), seed)
            trunks = TrunkTable(agent, resolver, seed)
            trunks.use(world.directory)
            calls = await parts.enter_async_context(asyncio.TaskGroup())
            pbx = Switchboard(
                agent,
                directory=world.directory,
                registrar=registrar,
                trunks=trunks,
                dialler=StepDialler(agent, registrar, trunks, resolver),
                media=AnchoredPlane(),
                lookup=lookup,
                crm=CrmAccounts(accounts, sync),
                journal=cast(MemoryBooks, books),
                books=world,
                recordings=recordings,
                standing=standing,
                errands=errands,
                calls=calls,
                clock=wall,
                delivered=outbox.wake,
            )
            door.append(pbx)
            mouth = Mouth(world.network.attach(SERVER, cast(Sink, Ears(agent, life))), life)
            life.on_end.append(mouth.close)
            agent.serve(pbx.door, [mouth])
            undertaker = Undertaker(
                cast(MemoryBooks, books), cast(MemoryBooks, books), agent, recordings, outbox.wake)
            background = await parts.enter_async_context(asyncio.TaskGroup())
            for work in (trunks.run(), sync.run(), undertaker.run(), standing.run()):
                background.create_task(work)
            self._delivering = background.create_task(outbox.run())
            self.pbx, self.outbox, self.connections = pbx, outbox, connections
            yield
