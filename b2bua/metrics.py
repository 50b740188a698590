"""What is measured: the parts' own counters, read when somebody scrapes, as the Prometheus text exposition."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from b2bua.cdr import Direction
from b2bua.crm.health import SyncState
from b2bua.crm.lookup import LookupCounts
from b2bua.crm.outbox import OutboxCounts
from b2bua.crm.sync import SyncCounts
from b2bua.crm.users import FaultKind
from b2bua.net.streams import StreamCounters
from b2bua.net.udp import UdpCounters
from b2bua.sip.bindings import Reachability
from b2bua.sip.stack import Counters as CoreCounters
from b2bua.sip.subscription import SubscriptionCounters
from b2bua.sip.throttle import Banned
from b2bua.sip.transaction_table import Counters as TransactionCounters
from b2bua.store.engine import StoreUnavailable
from b2bua.store.outbox import Backlog
from b2bua.ua.agent import AgentCounters
from b2bua.ua.registrar import RegistrarCounters
from b2bua.ua.trunk_table import TrunkCounters

BACKLOG_EVERY = 15.0                   # seconds between two looks at what the database owes the CRMs
PREFIX = "smartswitch_"
CLASSES = range(1, 7)                  # of SIP responses

_log = structlog.get_logger(__name__)


class CallFigures(Protocol):
    """The switchboard's."""

    @property
    def finished(self) -> Mapping[tuple[Direction, str], int]: ...

    @property
    def refused(self) -> Mapping[str, int]: ...

    @property
    def faults(self) -> int: ...


class MediaFigures(Protocol):
    """The embedded relay's."""

    @property
    def sessions(self) -> int: ...

    @property
    def capacity(self) -> int: ...

    @property
    def opened(self) -> int: ...

    @property
    def refused(self) -> int: ...

    @property
    def restarts(self) -> int: ...

    @property
    def timeouts(self) -> int: ...

    @property
    def recordings_stopped(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The parts' own counters, as they stand; nothing is copied before it is scraped."""

    live_calls: Mapping[str, int]      # by state
    limits_met: Mapping[str, int]      # by limit
    alarms: int                        # in force
    calls: CallFigures
    agent: AgentCounters
    core: CoreCounters
    transactions: TransactionCounters
    live_sessions: int
    live_transactions: int
    transports: Sequence[tuple[str, UdpCounters | StreamCounters]]
    registrar: RegistrarCounters
    certificates: Mapping[str, float]  # file -> when its certificate ends, in seconds since 1970
    phones: Mapping[Reachability, int]
    live_subscriptions: int
    subscriptions: SubscriptionCounters
    bans: Mapping[str, int]            # in force, by whom they silence
    trunks_up: int
    trunks_down: int
    trunks: TrunkCounters
    lookup: LookupCounts
    numbers_known: int
    sync: SyncCounts
    sync_states: Mapping[str, int]     # clients, by how far their CRMs are read ahead
    outbox: OutboxCounts
    backlog: Backlog
    connections: Mapping[str, int] = field(default_factory=dict)       # CRM accounts by state
    connection_ends: Mapping[str, float] = field(default_factory=dict) # client -> seconds since 1970
    token_events: Mapping[str, int] = field(default_factory=dict)
    user_faults: Mapping[str, int] = field(default_factory=dict)       # by kind
    media: MediaFigures | None
    journal_waiting: int
    journal_stored: int
    journal_spilled: int
    journal_lost: int
    recordings_waiting: int
    left_behind: Mapping[str, int]
    errands_dropped: int
    errands_failed: int
    traces_dropped: int
    log_lines_dropped: int


@dataclass(slots=True)
class WebCounters:
    """What the web itself has to tell; it counts here."""

    recordings_served: int = 0
    recordings_refused: int = 0        # no such link, withdrawn, not finished
    signed_in: int = 0
    wrong_passwords: int = 0
    locked_out: int = 0
    wrong_tokens: int = 0              # of the command line
    listeners_refused: int = 0
    widget_requests: int = 0
    widget_refused: int = 0            # tokens, passwords, and whatever else was a problem of who asked
    widget_limited: int = 0            # too many of one address, client or user
    widget_clicks: int = 0             # calls that were placed
    trunks_tested: int = 0             # by the button of a page
    hooks_refused: int = 0             # what came as amoCRM's and was not, or came too often
    connections_refused: int = 0
    slow_connections_closed: int = 0
    failed_handshakes: int = 0         # of TLS: given up, out of time, or no TLS at all
    faults: int = 0


class Metrics:
    """One registry of its own: two systems in one process (tests) do not meet."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, read: Callable[[], Figures]) -> None:
        self.web = WebCounters()
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(read, self.web))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class BacklogWatch:
    """Asks the database now and then, so that a scrape does not."""

    def __init__(self, ask: Callable[[], Awaitable[Backlog]], every: float = BACKLOG_EVERY) -> None:
        self.backlog = Backlog()
        self._ask = ask
        self._every = every

    async def run(self) -> None:
        while True:
            try:
                self.backlog = await self._ask()
            except StoreUnavailable as error:
                _log.warning("outbox backlog unknown", error=str(error))
            await asyncio.sleep(self._every)


class _Collector(Collector):
    def __init__(self, read: Callable[[], Figures], web: WebCounters) -> None:
        self._read = read
        self._web = web

    def collect(self) -> Iterable[Metric]:
        figures = self._read()
        yield from _of_calls(figures)
        yield from _of_sip(figures)
        yield from _of_phones_and_trunks(figures)
        yield from _of_the_crm(figures)
        yield from _of_media(figures.media)
        yield from _of_the_house(figures)
        yield _events("web_events", "What visitors of the web server did.", self._web)

    def describe(self) -> Iterable[Metric]:
        """Nothing: else the registry would collect once when it is made, before there is anything to read."""
        return ()


def _of_calls(figures: Figures) -> Iterator[Metric]:
    finished = _counter("calls_finished", "Calls that are over.", "direction", "disposition")
    for (direction, disposition), count in figures.calls.finished.items():
        finished.add_metric((direction.value, disposition), count)
    yield finished
    yield _counters("calls_refused", "Calls turned away before they were calls.", "reason", figures.calls.refused)
    yield _total("call_faults", "Calls that broke by a fault of ours.", figures.calls.faults)
    yield _counters("limits_met", "Calls, or ways outside, that met a limit of calls.", "limit", figures.limits_met)
    yield _gauge("alarms", "Limits met within the hour, CRMs and their users to see to.", figures.alarms)
    yield _gauges("live_calls", "Calls in progress.", "state",
                  {"routing": 0, "ringing": 0, "talking": 0, **figures.live_calls})


def _of_sip(figures: Figures) -> Iterator[Metric]:
    seen, core, agent = figures.transactions, figures.core, figures.agent
    requests = _counter("sip_requests", "SIP requests, repetitions not among them.", "way", "method")
    responses = _counter("sip_responses", "SIP responses, repetitions not among them.", "way", "class")
    for way, by_method, by_class in (("in", seen.requests_received, seen.responses_received),
                                     ("out", seen.requests_sent, seen.responses_sent)):
        for method, count in by_method.items():
            requests.add_metric((way, method), count)
        for status in CLASSES:
            responses.add_metric((way, f"{status}xx"), by_class[status])
    yield requests
    yield responses
    yield _counters("sip_retransmissions", "Messages repeated, by us or to us.", "way",
                    {"in": seen.retransmissions_absorbed, "out": seen.retransmissions_sent})
    yield _total("sip_timeouts", "Requests of ours that got no final answer.", seen.timeouts)
    yield _counters("sip_unexpected", "Messages that the protocol core could not use.", "kind", {
        "stray": core.strays, "merged": seen.merged, "too_many_hops": seen.too_many_hops,
        "overload": seen.overload + core.overloaded, "malformed_field": core.malformed,
        "too_many_branches": core.too_many_branches, "not_admitted": core.refused,
        "withheld": core.withheld})
    yield _counters("sip_messages_unusable", "Messages that could not be read or sent, or broke us.", "kind", {
        "malformed_answered": agent.answered_400, "malformed_ignored": agent.malformed - agent.answered_400,
        "unsendable": agent.unsendable, "fault": agent.faults})
    yield _counters("transport_events", "What the SIP sockets saw.", ("transport", "event"),
                    _by_transport(figures.transports))
    yield _gauges("certificate_expiry_timestamp_seconds", "When the certificates that we show end.", "file",
                  figures.certificates)
    yield _gauge("sip_sessions", "INVITE sessions alive, two a call.", figures.live_sessions)
    yield _gauge("sip_transactions", "SIP transactions alive, those that linger among them.", figures.live_transactions)


def _by_transport(transports: Sequence[tuple[str, UdpCounters | StreamCounters]]) -> Mapping[tuple[str, str], int]:
    events: Counter[tuple[str, str]] = Counter()
    for transport, counters in transports:
        for event, count in asdict(counters).items():
            events[transport, event] += count
    return events


def _of_phones_and_trunks(figures: Figures) -> Iterator[Metric]:
    yield _events("registrations", "Answers to REGISTER and to other digests of phones.", figures.registrar)
    yield _gauge("registered_phones", "Contact bindings of phones.", sum(figures.phones.values()))
    yield _gauges("phones_reachable", "Contact bindings of phones by what their answers to OPTIONS say.", "state",
                  {state.name.lower(): figures.phones.get(state, 0) for state in Reachability})
    seen = figures.subscriptions
    yield _gauge("subscriptions", "Subscriptions of phones to what colleagues' phones do.", figures.live_subscriptions)
    yield _counters("subscription_events", "What became of them, and NOTIFYs.", "event", {
        "subscribed": seen.subscribed, "refreshed": seen.refreshed, "ended": seen.ended, "notified": seen.notified,
        "notify_failed": seen.failed})
    yield _counters("subscriptions_refused", "SUBSCRIBEs refused.", "status", seen.refused)
    yield _gauges("bans", "Bans in force, a thousand at most.", "who",
                  {**{who.value: 0 for who in Banned}, **figures.bans})
    yield _gauges("trunks", "Trunks by state.", "state", {"up": figures.trunks_up, "down": figures.trunks_down})
    yield _events("trunk_matches", "Requests held against the trunks' addresses.", figures.trunks)


def _of_the_crm(figures: Figures) -> Iterator[Metric]:
    yield _events("crm_lookups", "What became of the question who calls.", figures.lookup)
    yield _gauge("crm_cache_numbers", "Numbers in memory, of all clients.", figures.numbers_known)
    yield _events("crm_sync", "What reading the CRMs ahead has cost and found.", figures.sync)
    yield _gauges("crm_sync_clients", "Clients whose CRM is read ahead, by how far.", "state",
                  {**{state.value: 0 for state in SyncState}, **figures.sync_states})
    yield _events("outbox_writes", "What became of the writes to the CRM.", figures.outbox)
    backlog = figures.backlog
    yield _gauges("outbox_depth", "Writes to the CRM that are not delivered.", "state",
                  {"pending": backlog.pending, "aside": backlog.aside})
    lag = (datetime.now(UTC) - backlog.oldest).total_seconds() if backlog.oldest else 0.0
    yield _gauges("crm_user_faults", "What is wrong with the users of CRMs and their extensions.", "kind",
                  {**{kind.value: 0 for kind in FaultKind}, **figures.user_faults})
    yield _gauge("outbox_lag_seconds", "Age of the oldest write that waits.", max(0.0, lag))
    yield _gauges("crm_connections", "CRM accounts by the state of their way in.", "state", {
        "connected": 0, **figures.connections})
    yield _gauges("crm_connection_end_timestamp_seconds", "When a way in ends if nothing is done.", "client",
                  figures.connection_ends)
    yield _counters("crm_token_events", "What became of tokens of OAuth.", "event", figures.token_events)


def _of_media(media: MediaFigures | None) -> Iterator[Metric]:
    """All are there without a relay too, so that an alert on them is never on nothing."""
    yield _gauge("media_sessions", "Calls whose media we relay.", media.sessions if media else 0)
    yield _gauge("media_capacity", "Calls that the port range allows.", media.capacity if media else 0)
    yield _counters("media_events", "What happened at the media relay.", "event", {
        "opened": media.opened if media else 0, "refused": media.refused if media else 0,
        "restart": media.restarts if media else 0, "timeout": media.timeouts if media else 0,
        "recording_stopped": media.recordings_stopped if media else 0})


def _of_the_house(figures: Figures) -> Iterator[Metric]:
    yield _gauge("journal_waiting", "Finished calls that are not yet in the database.", figures.journal_waiting)
    yield _counters("journal_calls", "Finished calls by where they were kept.", "kept", {
        "stored": figures.journal_stored, "spilled": figures.journal_spilled, "lost": figures.journal_lost})
    yield _counters("left_behind", "Calls that were up when the process before this one died.", "event",
                    figures.left_behind)
    yield _gauge("recordings_waiting", "Recordings that wait to become MP3.", figures.recordings_waiting)
    yield _counters("errands", "Work beside the calls that was not done.", "outcome",
                    {"dropped": figures.errands_dropped, "failed": figures.errands_failed})
    yield _total("call_traces_dropped", "Calls whose ladder found no room on its way to the database.",
                 figures.traces_dropped)
    yield _total("log_lines_dropped", "Log lines that found no room.", figures.log_lines_dropped)


def _events(
    name: str, meaning: str, counters: RegistrarCounters | TrunkCounters | LookupCounts | OutboxCounts | SyncCounts
    | WebCounters
) -> Metric:
    """A counter for each field of the part's own."""
    return _counters(name, meaning, "event", asdict(counters))


def _counter(name: str, meaning: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, meaning, labels=labels)


def _counters(
    name: str, meaning: str, label: str | tuple[str, ...], counts: Mapping[str, int] | Mapping[tuple[str, str], int]
) -> Metric:
    family = _counter(name, meaning, *((label,) if isinstance(label, str) else label))
    for values, count in counts.items():
        family.add_metric((values,) if isinstance(values, str) else values, count)
    return family


def _total(name: str, meaning: str, count: int) -> Metric:
    return CounterMetricFamily(PREFIX + name, meaning, value=count)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, meaning, value=value)


def _gauges(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, meaning, labels=(label,))
    for labelled, value in values.items():
        family.add_metric((labelled,), value)
    return family
