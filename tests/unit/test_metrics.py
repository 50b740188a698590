"""What is scraped: the parts' own counters, named and documented."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from b2bua.cdr import Direction
from b2bua.media.relay.plane import PlaneCounts
from b2bua.metrics import BacklogWatch, Figures, Metrics
from b2bua.net.udp import UdpCounters
from b2bua.sip.transaction_table import Counters as TransactionCounters
from b2bua.store.engine import StoreUnavailable
from b2bua.store.outbox import Backlog
from b2bua.ua.agent import AgentCounters
from tests.support.web_site import figures

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def scraped(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {(sample.name, frozenset(sample.labels.items())): sample.value
            for family in families for sample in family.samples}


def value(given: Figures, name: str, **labels: str) -> float:
    return scraped(Metrics(lambda: given))[f"smartswitch_{name}", frozenset(labels.items())]


def test_calls_are_counted_by_direction_and_disposition() -> None:
    calls = SimpleNamespace(finished=Counter({(Direction.INBOUND, "answered"): 3, (Direction.INTERNAL, "busy"): 1}),
                            refused=Counter({"draining": 2}), faults=1)
    given = figures(calls=calls, live_calls=Counter({"talking": 5}))
    assert value(given, "calls_finished_total", direction="inbound", disposition="answered") == 3
    assert value(given, "calls_finished_total", direction="internal", disposition="busy") == 1
    assert value(given, "calls_refused_total", reason="draining") == 2
    assert value(given, "call_faults_total") == 1
    assert value(given, "live_calls", state="talking") == 5
    assert value(given, "live_calls", state="ringing") == 0


def test_sip_traffic_is_counted_both_ways() -> None:
    seen = TransactionCounters()
    seen.requests_received["INVITE"] += 7
    seen.responses_sent[2] += 6
    seen.retransmissions_sent += 2
    given = figures(transactions=seen, agent=AgentCounters(malformed=9, answered_400=4))
    assert value(given, "sip_requests_total", way="in", method="INVITE") == 7
    assert value(given, "sip_responses_total", way="out", **{"class": "2xx"}) == 6
    assert value(given, "sip_retransmissions_total", way="out") == 2
    assert value(given, "sip_messages_unusable_total", kind="malformed_answered") == 4
    assert value(given, "sip_messages_unusable_total", kind="malformed_ignored") == 5


def test_several_sockets_of_one_kind_are_added_up() -> None:
    given = figures(transports=[("udp", UdpCounters(received=2)), ("udp", UdpCounters(received=3))])
    assert value(given, "transport_events_total", transport="udp", event="received") == 5


def test_a_media_relay_is_counted_where_there_is_one() -> None:
    given = figures(media=PlaneCounts(sessions=4, capacity=100, restarts=1))
    assert value(given, "media_sessions") == 4
    assert value(given, "media_events_total", event="restart") == 1
    assert value(figures(), "media_sessions") == 0


def test_the_age_of_the_oldest_write_is_told() -> None:
    given = figures(backlog=Backlog(pending=3, aside=1, oldest=datetime.now(UTC) - timedelta(minutes=10)))
    assert value(given, "outbox_depth", state="pending") == 3
    assert value(given, "outbox_depth", state="aside") == 1
    assert value(given, "outbox_lag_seconds") == pytest.approx(600, abs=5)
    assert value(figures(), "outbox_lag_seconds") == 0


def test_two_systems_in_one_process_do_not_meet() -> None:
    one, other = Metrics(figures), Metrics(figures)
    one.web.wrong_passwords += 1
    key = "smartswitch_web_events_total", frozenset({("event", "wrong_passwords")})
    assert (scraped(one)[key], scraped(other)[key]) == (1, 0)


def test_nothing_is_read_before_it_is_asked_for() -> None:
    def not_yet() -> Figures:
        raise AssertionError("read too early")

    Metrics(not_yet)


def test_every_metric_has_a_line_in_the_documentation_and_every_line_a_metric() -> None:
    families = text_string_to_metric_families(Metrics(figures).text().decode())
    there = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    documented = set(re.findall(r"^\| `([a-z_]+)` ", DOCUMENT.read_text("utf-8"), re.MULTILINE))
    assert documented == there


def test_every_label_is_documented() -> None:
    rows = re.finditer(r"^\| `([a-z_]+)` .*$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    lines = {row[1]: row[0] for row in rows}
    calls = SimpleNamespace(finished={(Direction.INBOUND, "answered"): 1}, refused={"draining": 1}, faults=0)
    for family in text_string_to_metric_families(Metrics(lambda: figures(calls=calls)).text().decode()):
        for sample in family.samples:
            assert all(f"`{label}`" in lines[sample.name] for label in sample.labels), sample


async def test_the_backlog_is_asked_for_beside_the_scrapes_and_survives_an_absent_database() -> None:
    answers = iter([Backlog(pending=1), StoreUnavailable("gone"), Backlog(pending=2)])
    asked_enough = asyncio.Event()

    async def ask() -> Backlog:
        answer = next(answers, None)
        if answer is None:
            asked_enough.set()
            return Backlog(pending=2)
        if isinstance(answer, StoreUnavailable):
            raise answer
        return answer

    watch = BacklogWatch(ask, every=0.001)
    assert watch.backlog == Backlog()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(watch.run())
        await asked_enough.wait()
        assert watch.backlog == Backlog(pending=2)
        running.cancel()
