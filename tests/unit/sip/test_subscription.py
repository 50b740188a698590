"""The notifier: which SUBSCRIBE is taken, which NOTIFY is due, and what is left in the end."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from b2bua.sip.effects import Address, Flow, Transport
from b2bua.sip.grammar import ParseError
from b2bua.sip.message import Request
from b2bua.sip.parser import parse
from b2bua.sip.subscription import (
    Notify,
    NotSubscribed,
    Subscribed,
    Subscription,
    SubscriptionPolicy,
    Subscriptions,
    Watcher,
)

SERVER = Address("10.0.0.1", 5060)
PHONE = Address("192.0.2.7", 5062)
FLOW = Flow(Transport.UDP, SERVER, PHONE)
ANNA = Watcher("acme", "101")
BORIS = ("acme", "102")
OURS = "<sip:102@10.0.0.1:5060>"


def machine(**limits: int) -> Subscriptions:
    return Subscriptions("dialog", "application/dialog-info+xml", lambda _: b"state", SubscriptionPolicy(**limits))


def subscribe_request(
    *, call_id: str = "c1", to_tag: str = "", cseq: int = 1, expires: int | None = 600, event: str = "dialog",
    contact: str = "<sip:101@192.0.2.7:5062>", more: str = "", tag: str = "a",
) -> Request:
    text = (
        "SUBSCRIBE sip:102@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bKx;rport\r\n"
        f"From: <sip:101@10.0.0.1>;tag={tag}\r\nTo: <sip:102@10.0.0.1>{';tag=' + to_tag if to_tag else ''}\r\n"
        f"Call-ID: {call_id}\r\nCSeq: {cseq} SUBSCRIBE\r\nEvent: {event}\r\n{more}"
    )
    if contact:
        text += f"Contact: {contact}\r\n"
    if expires is not None:
        text += f"Expires: {expires}\r\n"
    request = parse(f"{text}\r\n".encode())
    assert isinstance(request, Request)
    return request


def taken(
    subscriptions: Subscriptions, now: float = 0.0, *, tag: str = "s1", flow: Flow = FLOW, watcher: Watcher = ANNA,
    request: Request | None = None,
) -> Subscription:
    outcome = subscriptions.subscribe(request or subscribe_request(), flow, watcher, BORIS, tag, OURS, now)
    assert isinstance(outcome, Subscribed)
    return outcome.subscription


def only(notifies: list[Notify]) -> Notify:
    (notify,) = notifies
    return notify


def answer(subscriptions: Subscriptions, subscription: Subscription, status: int, now: float) -> None:
    subscriptions.answered(subscription, subscribe_request().response(status), now)


def state(notify: Notify) -> str:
    return dict(notify.headers)["Subscription-State"]


def left(subscriptions: Subscriptions) -> list[int]:
    """Of all that it keeps."""
    return [len(kept) for kept in (subscriptions._by_tag, subscriptions._by_peer, subscriptions._by_watched,
                                   subscriptions._by_connection, subscriptions._counts)]


def test_the_200_says_how_long_and_the_first_notify_follows() -> None:
    subscriptions = machine()
    outcome = subscriptions.subscribe(subscribe_request(), FLOW, ANNA, BORIS, "s1", OURS, 0.0)
    assert isinstance(outcome, Subscribed)
    assert outcome.headers == (("Contact", OURS), ("Expires", "600"))
    notify = only(subscriptions.due(0.0))
    assert (notify.headers, notify.body) == (
        (("Contact", OURS), ("Event", "dialog"), ("Subscription-State", "active;expires=600")), b"state")
    assert subscriptions.due(0.0) == []


def test_one_notify_at_a_time_and_the_newest_state_after_it() -> None:
    subscriptions = machine()
    one = taken(subscriptions)
    only(subscriptions.due(0.0))
    for moment in (1.0, 2.0, 3.0):
        subscriptions.changed(BORIS, moment)
        assert subscriptions.due(moment) == []
    answer(subscriptions, one, 200, 3.5)
    only(subscriptions.due(3.5))
    answer(subscriptions, one, 200, 3.6)
    assert subscriptions.due(100.0) == []
    assert one.version == 2


def test_a_second_change_waits_for_the_second_to_pass() -> None:
    subscriptions = machine()
    one = taken(subscriptions)
    only(subscriptions.due(0.0))
    answer(subscriptions, one, 200, 0.1)
    subscriptions.changed(BORIS, 0.2)
    assert subscriptions.due(0.2) == []
    assert subscriptions.next_timeout == 1.0
    only(subscriptions.due(1.0))


def test_a_refresh_moves_it_to_where_the_phone_is_now_and_is_told_at_once() -> None:
    subscriptions = machine()
    one = taken(subscriptions)
    only(subscriptions.due(0.0))
    answer(subscriptions, one, 200, 0.1)
    elsewhere = FLOW._replace(remote=Address("192.0.2.8", 6000))
    request = subscribe_request(to_tag="s1", cseq=2, contact="<sip:101@10.9.9.9:5062>")
    assert subscriptions.find(request) is one
    assert isinstance(subscriptions.resubscribe(one, request, elsewhere, 0.2), Subscribed)
    only(subscriptions.due(0.2))
    assert one.dialog.flow == elsewhere
    assert str(one.dialog.target) == "sip:101@10.9.9.9:5062"


def test_an_old_subscribe_is_refused() -> None:
    subscriptions = machine()
    one = taken(subscriptions, request=subscribe_request(cseq=5))
    outcome = subscriptions.resubscribe(one, subscribe_request(to_tag="s1", cseq=5), FLOW, 1.0)
    assert isinstance(outcome, NotSubscribed)
    assert outcome.status == 500


@pytest.mark.parametrize(("changes", "found"), [
    ({}, True), ({"call_id": "c2"}, False), ({"tag": "b"}, False), ({"to_tag": "s2"}, False)])
def test_a_dialog_is_known_by_all_of_its_names(changes: dict[str, str], found: bool) -> None:
    subscriptions = machine()
    taken(subscriptions)
    request = subscribe_request(**{"to_tag": "s1", **changes})  # type: ignore[arg-type]
    assert (subscriptions.find(request) is not None) is found


def test_notifies_take_the_route_of_the_subscribe() -> None:
    subscriptions = machine()
    one = taken(subscriptions, request=subscribe_request(more="Record-Route: <sip:10.0.5.5;lr>\r\n"))
    request = one.dialog.request("NOTIFY", "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKy")
    assert request.headers.get("Route") == "<sip:10.0.5.5;lr>"
    assert str(request.uri) == "sip:101@192.0.2.7:5062"
    assert (request.headers.get("To"), request.headers.get("From")) == (
        "<sip:101@10.0.0.1>;tag=a", "<sip:102@10.0.0.1>;tag=s1")


def test_what_lacks_a_contact_or_has_an_endless_id_is_no_subscribe() -> None:
    subscriptions = machine()
    for request in (subscribe_request(contact=""), subscribe_request(event=f"dialog;id={'7' * 65}")):
        with pytest.raises(ParseError):
            subscriptions.subscribe(request, FLOW, ANNA, BORIS, "s1", OURS, 0.0)
    assert left(subscriptions) == [0, 0, 0, 0, 0]


def test_the_same_first_subscribe_again_replaces_what_its_phone_never_heard_of() -> None:
    subscriptions = machine(per_phone=1)
    taken(subscriptions)
    second = taken(subscriptions, 40.0, tag="s2")
    assert list(subscriptions) == [second]


def test_at_the_end_everything_is_forgotten_whatever_is_under_way() -> None:
    subscriptions = machine()
    one = taken(subscriptions, flow=Flow(Transport.TCP, SERVER, PHONE, 3))
    only(subscriptions.due(0.0))           # never answered
    subscriptions.end([one], "noresource", 1.0)
    assert subscriptions.due(1.0) == []
    answer(subscriptions, one, 200, 2.0)
    assert state(only(subscriptions.due(2.0))) == "terminated;reason=noresource"
    assert left(subscriptions) == [0, 0, 0, 0, 0]
    answer(subscriptions, one, 481, 2.1)   # to the last NOTIFY: it changes nothing
    assert subscriptions.counters.failed == 0


def test_refreshes_do_not_pile_up() -> None:
    subscriptions = machine()
    one = taken(subscriptions, request=subscribe_request(expires=3600))
    for turn in range(2, 3000):
        now = turn * 1.1
        subscriptions.due(now)
        answer(subscriptions, one, 200, now)
        subscriptions.resubscribe(one, subscribe_request(to_tag="s1", cseq=turn, expires=3600), FLOW, now)
        subscriptions.changed(BORIS, now)
    assert subscriptions.waiting < 100


def test_thousands_of_them_cost_little_and_leave_nothing() -> None:
    subscriptions = machine(per_watcher=50_000, per_watched=50_000, per_client=50_000, per_phone=50_000)

    def come_and_go(now: float) -> None:
        for number in range(2000):
            taken(subscriptions, now, tag=f"s{number}", request=subscribe_request(
                call_id=f"c{number}", contact=f"<sip:101@192.0.2.7:{1025 + number}>"))
        assert (tracemalloc.get_traced_memory()[0] - before) / 2000 < 6000      # bytes for each
        for notify in subscriptions.due(now):
            answer(subscriptions, notify.subscription, 200, now)
        subscriptions.due(now + 601)
        assert left(subscriptions) == [0, 0, 0, 0, 0]
        assert subscriptions.waiting == 0

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        come_and_go(0.0)
        gc.collect()                   # what other tests have left comes and goes meanwhile
        once = tracemalloc.get_traced_memory()[0]
        come_and_go(1000.0)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < once + 100_000      # fifty bytes for each: none has stayed
    finally:
        tracemalloc.stop()
