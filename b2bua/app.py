"""The composition root: builds every part from the settings, runs them together, drains them on SIGTERM."""

from __future__ import annotations

import asyncio
import random
import resource
import secrets
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from types import TracebackType
from urllib.parse import urlsplit

import structlog
import uvloop

from b2bua.apply.office import Offices
from b2bua.calls.dial import StepDialler
from b2bua.calls.errands import Errands
from b2bua.calls.ladder_keeper import LadderKeeper
from b2bua.calls.left_behind import Undertaker
from b2bua.calls.recordings import Recordings
from b2bua.calls.standing import StandingCalls
from b2bua.calls.switchboard import Limits, Switchboard
from b2bua.collector import look_at_everything, short_pauses
from b2bua.config import Listener, Settings, SipSettings, WebSettings
from b2bua.crm.outbox import Outbox
from b2bua.crm.user_keeper import UserKeeper
from b2bua.crm_side import open_crm_side
from b2bua.directory import Directory
from b2bua.handouts import servers_of
from b2bua.keys import Keys, KeysUnavailable, open_keys, open_sealer
from b2bua.links import RecordingLinks, WebhookLinks
from b2bua.logs import LogWriter, open_logs
from b2bua.media import sounds
from b2bua.media.none import PassThroughPlane
from b2bua.media.plane import MediaError, MediaPlane
from b2bua.media.relay.link import RelaySettings
from b2bua.media.relay.plane import EmbeddedPlane, embedded_plane
from b2bua.metrics import Figures, Metrics
from b2bua.net.certificates import ServerIdentity
from b2bua.net.resolver import DnsResolver, SystemDns
from b2bua.net.streams import StreamLimits
from b2bua.net.tcp import TcpTransport
from b2bua.net.tls import TlsTransport
from b2bua.net.transport import Judge, MessageTransport
from b2bua.net.udp import UdpTransport
from b2bua.net.udp_sockets import UdpSockets
from b2bua.recording.archive import Archive
from b2bua.sip.admission import Admission, Verdict
from b2bua.sip.auth import DigestPolicy, DigestServer
from b2bua.sip.bindings import BindingPolicy
from b2bua.sip.core import CoreConfig, UserAgentCore
from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.message import Request
from b2bua.sip.session_timer import SessionTimerPolicy
from b2bua.sip.timers import Timers
from b2bua.store.engine import StoreUnavailable
from b2bua.store.migrate import migrate
from b2bua.store.store import Store, open_store
from b2bua.ua.agent import UserAgent
from b2bua.ua.ladders import Ladders
from b2bua.ua.qualifier import Qualifier
from b2bua.ua.reception import Reception
from b2bua.ua.registrar import Registrar
from b2bua.ua.strangers import UnknownCalls
from b2bua.ua.trunk_table import TrunkTable
from b2bua.upkeep import (
    delete_old_recordings,
    follow_directory,
    forget_old_changes,
    forget_old_traces,
    keep_bindings,
    keep_certificates,
    keep_sounds,
    recording_state,
    save_bindings,
    saved_bindings,
    utc_now,
)
from web.amocrm_webhooks import AmoWebhooks
from web.app import create_app
from web.server import bind_web, serve_web
from web.setup.things import SetUp

LAST_DELIVERIES = 5.0                      # seconds for what is on its way to a CRM when we end
SPARE_SESSIONS = 1000                      # beside two for each call: challenged INVITEs, forks

BoundTransport = UdpTransport | TcpTransport | TlsTransport

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class System:
    """What is running, for whoever started it (the daemon, the demo, tests)."""

    settings: Settings
    switchboard: Switchboard
    agent: UserAgent
    store: Store
    outbox: Outbox
    users: UserKeeper
    keys: Keys
    sip: tuple[Address, ...]               # where the listeners really are, in the order of the settings
    web: Address


def run(settings: Settings) -> int:
    """The daemon: until SIGTERM or SIGINT, then drained. Returns the exit code."""
    with open_logs(settings.log) as logs, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(settings, logs))
        except Exception as error:
            cause = _innermost(error)
            if not isinstance(cause, OSError | MediaError | StoreUnavailable | KeysUnavailable):
                raise
            log.error("cannot run", why=str(cause), remedy="smartswitch check says everything that is in the way")
            return 1
    return 0


def _innermost(error: Exception) -> BaseException:
    """What really happened: groups tell only that tasks were stopped for it."""
    cause: BaseException = error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause


async def _serve(settings: Settings, logs: LogWriter) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, logs) as system:
        log.info("ready", sip=[f"{a.host}:{a.port}" for a in system.sip], web=f"{system.web.host}:{system.web.port}")
        with short_pauses():
            await stop.wait()
        log.info("draining", calls=len(system.switchboard.live_calls()), seconds=settings.server.drain_seconds)
        await system.switchboard.drain(settings.server.drain_seconds)
    log.info("stopped")


@asynccontextmanager
async def running(settings: Settings, logs: LogWriter | None = None) -> AsyncIterator[System]:
    """The whole system from settings; leaving the block ends calls, then closes everything in the reverse order."""
    keys = await asyncio.to_thread(open_keys, settings)
    sealer = await asyncio.to_thread(open_sealer, settings)
    await migrate(settings.database_url)
    async with AsyncExitStack() as parts:
        web_socket = bind_web(settings.web)
        parts.callback(web_socket.close)
        web = Address(*web_socket.getsockname()[:2])
        web_identity = await _web_identity(settings.web)
        links = RecordingLinks(keys.link, settings.web.public_url or settings.web.local_url(web.host, web.port))
        store = await parts.enter_async_context(
            open_store(settings.database_url, spill=settings.server.data_dir / "spill",
                       token_spill=settings.token_spill, sealer=sealer)
        )
        if (plain := await store.secrets.reseal(only_plain=True)).sealed:
            log.info("secrets sealed that an older version left plain", count=plain.sealed)
        await store.standing.claim()
        hooks = WebhookLinks(keys.link, settings.web.public_url)
        crm, directory, generation = await parts.enter_async_context(open_crm_side(
            store, sealer, hooks=hooks, link_of=links.for_notes(settings.web.link_days, utc_now),
            recording=recording_state(store), clock=utc_now))
        media = await parts.enter_async_context(_media_plane(settings))
        archive = await parts.enter_async_context(
            Archive(settings.recording_dir, bit_rate=settings.recording.bitrate, workers=settings.recording.workers)
        )
        errands = await parts.enter_async_context(Errands())
        recordings = Recordings(settings.recording_dir, archive, store.recordings, errands,
                                crm.outbox.recording_finished)

        standing = StandingCalls(store.standing, utc_now)

        registrar = _registrar(settings.sip, directory)
        door = _Door()
        core = UserAgentCore(_core(settings.sip), random.SystemRandom(), door.admit)
        ladders = Ladders() if settings.log.call_trace_days else None
        agent = UserAgent(core, traced=settings.log.sip_trace, ladders=ladders)
        kept_ladders = LadderKeeper(ladders, store.call_traces, agent.now) if ladders is not None else None
        parts.callback(agent.close)
        spoken = tuple(dict.fromkeys(Transport(one.transport.upper()) for one in settings.sip.listen))
        resolver = DnsResolver(SystemDns(settings.sip.dns_servers), random.SystemRandom(), transports=spoken)
        trunks = TrunkTable(agent, resolver, random.SystemRandom())
        trunks.use(directory)
        reception = Reception(core, registrar, trunks, agent.now)
        sockets = await parts.enter_async_context(_sockets(settings.sip.listen, agent, reception.judge))
        transports = sockets.transports
        calls = await parts.enter_async_context(asyncio.TaskGroup())
        switchboard = Switchboard(
            agent,
            directory=directory,
            registrar=registrar,
            trunks=trunks,
            dialler=StepDialler(agent, registrar, trunks, resolver),
            media=media,
            lookup=crm.lookup,
            crm=crm.of_calls,
            journal=store.calls,
            books=crm.users,
            recordings=recordings if settings.media.plane == "embedded" else None,
            standing=standing,
            errands=errands,
            calls=calls,
            clock=utc_now,
            delivered=crm.outbox.wake,
            ladders=kept_ladders,
            crm_alarms=crm.alarms,
            limits=Limits(settings.sip.max_calls, UnknownCalls(settings.sip.unknown_calls)),
        )
        door.switchboard = switchboard
        agent.serve(switchboard.door, sockets.speakers)
        registrar.restore(await saved_bindings(store), agent.now(), agent.flow_to)

        background = await parts.enter_async_context(_Background())
        background.start("trunks", trunks.run())
        delivering = background.start("outbox", crm.outbox.run())
        background.start("CRM sync", crm.sync.run())
        background.start("directory", follow_directory(store, generation, switchboard, crm.users.wake))
        background.start("CRM users", crm.users.run())
        background.start("bindings", keep_bindings(store, registrar, agent))
        undertaker = Undertaker(store.standing, store.calls, agent, recordings, crm.outbox.wake)
        background.start("calls left behind", undertaker.run())
        background.start("standing calls", standing.run())
        background.start("old recordings", delete_old_recordings(settings.recording.keep_days, store, archive))
        background.start("old changes", forget_old_changes(settings.database.keep_changes_days, store))
        background.start("old ladders", forget_old_traces(settings.log.call_trace_days, store))
        if kept_ladders is not None:
            background.start("ladders", kept_ladders.run())
        qualifier = Qualifier(registrar, agent, random.SystemRandom(), every=settings.sip.qualify_every)
        background.start("backlog", crm.backlog.run())
        background.start("qualify", qualifier.run())
        if isinstance(media, EmbeddedPlane):
            background.start("sounds", keep_sounds(media.look_at_sounds))
        identities = [*sockets.identities, *([web_identity] if web_identity is not None else [])]
        background.start("certificates", keep_certificates(identities))

        def figures() -> Figures:
            states = trunks.states(agent.now())
            return Figures(
                live_calls=Counter(call.state for call in switchboard.live_calls()),
                limits_met=switchboard.tolls.alarms.met,
                alarms=len(switchboard.alarms()),
                calls=switchboard.counters,
                agent=agent.counters,
                core=agent.core.counters,
                transactions=agent.core.transactions.counters,
                live_sessions=agent.core.session_count,
                live_transactions=agent.core.transaction_count,
                transports=[(one.kind.value, one.counters) for one in transports],
                registrar=registrar.counters,
                certificates={str(one.files.certificate): one.good_until.timestamp() for one in identities},
                phones=Counter(binding.reachability for _, binding in registrar.bound(agent.now())),
                live_subscriptions=len(switchboard.notifier.subscriptions),
                subscriptions=switchboard.notifier.subscriptions.counters,
                bans=Counter(ban.who.value for ban in switchboard.bans()),
                trunks_up=sum(state.up for state in states),
                trunks_down=sum(not state.up for state in states),
                trunks=trunks.counters,
                lookup=crm.lookup.counts,
                numbers_known=len(crm.lookup.memory),
                sync=crm.sync.counts,
                sync_states=crm.sync.states(),
                outbox=crm.outbox.counts,
                backlog=crm.backlog.backlog,
                connections=crm.connections.states(),
                connection_ends=crm.connections.ends(),
                token_events=asdict(crm.connections.counts),
                user_faults=Counter(fault.kind.value for faults in crm.users.faults().values() for fault in faults),
                media=media.counts if isinstance(media, EmbeddedPlane) else None,
                journal_waiting=store.calls.waiting,
                journal_spilled=store.calls.spilled,
                journal_stored=store.calls.stored,
                journal_lost=store.calls.lost,
                recordings_waiting=archive.waiting,
                left_behind=asdict(undertaker.counters),
                errands_dropped=errands.dropped,
                errands_failed=errands.failed,
                traces_dropped=kept_ladders.dropped if kept_ladders is not None else 0,
                log_lines_dropped=logs.dropped if logs is not None else 0,
            )

        site = create_app(
            switchboard,
            store,
            settings=settings.web,
            keys=keys,
            links=links,
            recordings=settings.recording_dir,
            metrics=Metrics(figures),
            connections=crm.connections,
            webhooks=AmoWebhooks(hooks, crm.sync),
            users=crm.users,
            deals=crm.deals,
            widget_accounts=crm.connections,
            set_up=SetUp(
                Offices(store.directory, settings.sip.realm, lambda: sounds.names(settings.media.sounds)),
                settings.sip.realm,
                servers_of(settings.sip.listen, sockets.locals, urlsplit(links.public_url).hostname or ""),
                links.public_url,
            ),
            crm_health=lambda client: crm.health(client, agent.now()),
        )
        background.start("web", serve_web(site, web_socket, web_identity))
        background.start("collector", look_at_everything(lambda: agent.core.transaction_count))
        try:
            yield System(
                settings, switchboard, agent, store, crm.outbox, crm.users, keys, tuple(sockets.locals), web
            )
        finally:
            await switchboard.drain(0)
            await trunks.stop()
            if kept_ladders is not None:
                await kept_ladders.finish()
            crm.outbox.stop()
            await asyncio.wait([delivering], timeout=LAST_DELIVERIES)
            await save_bindings(store, registrar.snapshot(agent.now()))


class _Door:
    """What the core asks before it keeps any state; the switchboard behind it is made after the core."""

    switchboard: Switchboard | None = None

    def admit(self, request: Request, flow: Flow) -> Verdict:
        return Admission.IGNORE if self.switchboard is None else self.switchboard.door.admit(request, flow)


class _Background:
    """Work that ends when the block is left; should one of them break, the block is cancelled and the error told."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> _Background:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(kind, error, trace)

    def start(self, name: str, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work, name=name)
        self._tasks.append(task)
        return task


# -- parts made of settings


@asynccontextmanager
async def _media_plane(settings: Settings) -> AsyncIterator[MediaPlane]:
    if settings.media.plane == "none":
        yield PassThroughPlane()
        return
    media = settings.media
    relay = RelaySettings(
        bind=media.host,
        advertised=media.advertise or _outward(media.host),
        first_port=media.port_min,
        last_port=media.port_max,
        recordings=settings.recording_dir,
        sounds=media.sounds,
        rtp_timeout=media.rtp_timeout,
        hold_timeout=media.hold_timeout,
    )
    async with embedded_plane(relay) as plane:
        yield plane


class _Sockets:
    """The listening sockets of the settings: streams of a kind are one transport, however many sockets it has."""

    def __init__(self, sink: UserAgent, tasks: asyncio.TaskGroup, judge: Judge) -> None:
        self.transports: list[BoundTransport] = []
        self.locals: list[Address] = []
        self._sink = sink
        self._tasks = tasks
        self._judge = judge
        self._tcp: TcpTransport | None = None
        self._tls: TlsTransport | None = None

    @property
    def speakers(self) -> list[MessageTransport]:
        """One of each kind."""
        datagrams = [one for one in self.transports if isinstance(one, UdpTransport)]
        streams: list[MessageTransport] = [one for one in self.transports if not isinstance(one, UdpTransport)]
        return [*streams, *([UdpSockets(datagrams)] if len(datagrams) > 1 else datagrams)]

    @property
    def identities(self) -> Sequence[ServerIdentity]:
        return () if self._tls is None else self._tls.identities

    async def open(self, listener: Listener) -> None:
        try:
            self.locals.append(await self._open(listener, Address(listener.host, listener.port)))
        except OSError as error:
            where = f"{listener.transport} {listener.host} port {listener.port}"
            raise OSError(f"cannot listen for SIP on {where}: {error.strerror or error}") from error

    async def _open(self, listener: Listener, local: Address) -> Address:
        files = listener.certificate_files
        if files is not None:
            identity = await asyncio.to_thread(ServerIdentity, files)
            if self._tls is None:
                self._tls = TlsTransport(self._sink, self._tasks, stream_limits(), self._judge)
                self.transports.append(self._tls)
            return await self._tls.listen(local, identity, advertise=listener.advertise)
        if listener.transport == "tcp":
            if self._tcp is None:
                self._tcp = TcpTransport(self._sink, self._tasks, stream_limits(), self._judge)
                self.transports.append(self._tcp)
            return await self._tcp.listen(local, advertise=listener.advertise)
        udp = UdpTransport.open(local, self._sink, advertise=listener.advertise, judge=self._judge)
        self.transports.append(udp)
        return udp.local


@asynccontextmanager
async def _sockets(listeners: Sequence[Listener], sink: UserAgent, judge: Judge) -> AsyncIterator[_Sockets]:
    """All listeners open, or none: the first fault closes what was opened."""
    async with asyncio.TaskGroup() as tasks:
        sockets = _Sockets(sink, tasks, judge)
        try:
            for listener in listeners:
                await sockets.open(listener)
            yield sockets
        finally:
            for transport in sockets.transports:
                transport.close()


async def _web_identity(web: WebSettings) -> ServerIdentity | None:
    """Raises UnusableCertificate."""
    files = web.certificate_files
    return None if files is None else await asyncio.to_thread(ServerIdentity, files)


def stream_limits() -> StreamLimits:
    """Strangers' connections never take the files that database, recordings and CRM need."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return StreamLimits()
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return StreamLimits(connections=min(StreamLimits().connections, most // 4))


def _core(sip: SipSettings) -> CoreConfig:
    return CoreConfig(
        timers=Timers(t1=sip.t1),
        user_agent=sip.user_agent,
        session_timer=SessionTimerPolicy(expires=sip.session_expires),
        max_sessions=2 * sip.max_calls + SPARE_SESSIONS,
    )


def _registrar(sip: SipSettings, directory: Directory) -> Registrar:
    policy = DigestPolicy(realm=sip.realm, algorithms=sip.algorithms, without_qop=sip.allow_without_qop)
    bindings = BindingPolicy(
        min_expires=sip.register_min, max_expires=sip.register_max, default_expires=sip.register_default
    )
    return Registrar(directory, DigestServer(policy, secrets.token_bytes(32)), policy=bindings, scanners=sip.scanners)


def _outward(host: str) -> str:
    """The address of ours that the world sees when `host` is "any": the one of the default route."""
    address = ip_address(host)
    if not address.is_unspecified:
        return host
    family, somewhere = (socket.AF_INET, "192.0.2.1") if address.version == 4 else (socket.AF_INET6, "2001:db8::1")
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((somewhere, 9))      # sends nothing; RFC 5737 and RFC 3849 addresses
        except OSError:
            return "127.0.0.1" if address.version == 4 else "::1"
        return str(probe.getsockname()[0])
