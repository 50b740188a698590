"""RFC 3261 figures 5 and 6, and RFC 6026 figure 5, as tables: every state by every input."""

from __future__ import annotations

from itertools import product

import pytest

from b2bua.sip.client_transactions import (
    ClientState,
    InviteClientTransaction,
    NonInviteClientTransaction,
    ResponseReceived,
)
from b2bua.sip.effects import Flow, Transmit
from b2bua.sip.message import Request
from b2bua.sip.timers import Deadlines, Timer, Timers
from tests.support.transactions import TCP, UDP, answer, make_request, names, play

CALLING, TRYING, PROCEEDING, COMPLETED, ACCEPTED, TERMINATED = ClientState
OVER = TERMINATED

RESPONSES = {"1xx": 180, "2xx": 200, "3xx": 302, "4xx": 486, "5xx": 503, "6xx": 603}
TIMERS = {timer.name: timer for timer in Timer}
INPUTS = [*RESPONSES, *TIMERS, "transport error"]

FAILURES = ("3xx", "4xx", "5xx", "6xx")
Table = dict[tuple[ClientState, str], tuple[ClientState, str, str]]

# (state, input): (next state, what is sent and told, timers that run then). What is not here changes nothing.
INVITE_UDP: Table = {
    (CALLING, "1xx"): (PROCEEDING, "got 180", ""),
    (CALLING, "2xx"): (ACCEPTED, "got 200", "M"),
    **{(CALLING, failure): (COMPLETED, f"ACK, got {RESPONSES[failure]}", "D") for failure in FAILURES},
    (CALLING, "A"): (CALLING, "INVITE", "A B"),
    (CALLING, "B"): (OVER, "timed out", ""),
    (CALLING, "transport error"): (OVER, "failed", ""),
    (PROCEEDING, "1xx"): (PROCEEDING, "got 180", ""),
    (PROCEEDING, "2xx"): (ACCEPTED, "got 200", "M"),
    **{(PROCEEDING, failure): (COMPLETED, f"ACK, got {RESPONSES[failure]}", "D") for failure in FAILURES},
    (PROCEEDING, "CANCELLED"): (OVER, "timed out", ""),
    **{(COMPLETED, failure): (COMPLETED, "ACK", "D") for failure in FAILURES},
    (COMPLETED, "D"): (OVER, "", ""),
    (ACCEPTED, "2xx"): (ACCEPTED, "got 200", "M"),
    (ACCEPTED, "M"): (OVER, "", ""),
}
INVITE_TCP: Table = {
    **INVITE_UDP,
    **{(state, failure): (OVER, f"ACK, got {RESPONSES[failure]}", "")
       for state, failure in product((CALLING, PROCEEDING), FAILURES)},
}
FINALS = ("2xx", *FAILURES)
OTHER_UDP: Table = {
    (TRYING, "1xx"): (PROCEEDING, "got 180", "E F"),
    **{(state, final): (COMPLETED, f"got {RESPONSES[final]}", "K")
       for state, final in product((TRYING, PROCEEDING), FINALS)},
    (TRYING, "E"): (TRYING, "OPTIONS", "E F"),
    (TRYING, "F"): (OVER, "timed out", ""),
    (TRYING, "transport error"): (OVER, "failed", ""),
    (PROCEEDING, "1xx"): (PROCEEDING, "got 180", "E F"),
    (PROCEEDING, "E"): (PROCEEDING, "OPTIONS", "E F"),
    (PROCEEDING, "F"): (OVER, "timed out", ""),
    (PROCEEDING, "transport error"): (OVER, "failed", ""),
    (COMPLETED, "K"): (OVER, "", ""),
}
OTHER_TCP: Table = {
    **OTHER_UDP,
    (TRYING, "1xx"): (PROCEEDING, "got 180", "F"),
    (PROCEEDING, "1xx"): (PROCEEDING, "got 180", "F"),
    **{(state, final): (OVER, f"got {RESPONSES[final]}", "")
       for state, final in product((TRYING, PROCEEDING), FINALS)},
}
RUNNING = {
    "INVITE": {CALLING: "A B", PROCEEDING: "", COMPLETED: "D", ACCEPTED: "M", OVER: ""},
    "OPTIONS": {TRYING: "E F", PROCEEDING: "E F", COMPLETED: "K", OVER: ""},
}
WAY_THERE = {
    CALLING: (), TRYING: (), PROCEEDING: (100,), COMPLETED: (100, 486), ACCEPTED: (100, 200), OVER: (100, 486),
}


def cases(method: str, flow: Flow, states: tuple[ClientState, ...], table: Table) -> list[object]:
    """Every state by every input. No retransmission timer is ever armed over a stream, so none is an input there."""
    rows = []
    for state, word in product(states, INPUTS):
        if flow is TCP and word in ("A", "E"):
            continue
        running = RUNNING[method][state]
        expected = table.get((state, word), (state, "", running if flow is UDP else running.lstrip("AE ")))
        rows.append(pytest.param(method, flow, state, word, expected, id=f"{flow.transport.name}-{state.name}-{word}"))
    return rows


@pytest.mark.parametrize(("method", "flow", "state", "word", "expected"), [
    *cases("INVITE", UDP, (CALLING, PROCEEDING, COMPLETED, ACCEPTED, OVER), INVITE_UDP),
    *cases("INVITE", TCP, (CALLING, PROCEEDING, ACCEPTED, OVER), INVITE_TCP),
    *cases("OPTIONS", UDP, (TRYING, PROCEEDING, COMPLETED, OVER), OTHER_UDP),
    *cases("OPTIONS", TCP, (TRYING, PROCEEDING, OVER), OTHER_TCP),
])
def test_each_state_does_with_each_input_what_the_rfc_draws(
    method: str, flow: Flow, state: ClientState, word: str, expected: tuple[ClientState, str, str]
) -> None:
    deadlines = Deadlines()
    request = make_request(method)
    transaction = started(request, flow, deadlines)
    for status in WAY_THERE[state]:
        transaction.receive(answer(request, status), now=1.0)
    if state is OVER and flow is UDP:
        transaction.expire(Timer.D if method == "INVITE" else Timer.K, now=40.0)
    assert transaction.state is state
    next_state, done, running = expected
    if word in TIMERS:
        effects = transaction.expire(TIMERS[word], now=50.0)
    elif word in RESPONSES:
        effects = transaction.receive(answer(request, RESPONSES[word]), now=50.0)
    else:
        effects = transaction.transport_failed()
    assert transaction.state is next_state
    assert ", ".join(names(effects)) == done
    if word not in TIMERS:              # there the deadline itself stays armed, as it is not by its time that it fired
        assert sorted(deadline.timer.name for deadline in deadlines.due(1e6)) == running.split()


def started(request: Request, flow: Flow, deadlines: Deadlines) -> InviteClientTransaction | NonInviteClientTransaction:
    kind = InviteClientTransaction if request.method == "INVITE" else NonInviteClientTransaction
    transaction = kind("key", request, flow, Timers(), deadlines)
    transaction.start(now=0.0)
    return transaction


def schedule(method: str, flow: Flow) -> list[tuple[float, str]]:
    deadlines = Deadlines()
    transaction = InviteClientTransaction if method == "INVITE" else NonInviteClientTransaction
    running = transaction("key", make_request(method), flow, Timers(), deadlines)
    return play(deadlines, lambda owner, timer, now: owner.expire(timer, now), running.start(0.0))


def test_an_unanswered_udp_invite_is_resent_and_given_up_after_64_t1() -> None:
    log = schedule("INVITE", UDP)
    assert log == [*((at, "INVITE") for at in (0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5)), (32.0, "timed out")]


def test_an_unanswered_udp_request_is_resent_at_growing_intervals_up_to_t2() -> None:
    log = schedule("OPTIONS", UDP)
    times = (0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5)
    assert log == [*((at, "OPTIONS") for at in times), (32.0, "timed out")]


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_nothing_is_resent_over_a_stream(method: str) -> None:
    assert schedule(method, TCP) == [(0.0, method), (32.0, "timed out")]


def test_a_request_with_a_provisional_response_is_resent_every_t2() -> None:
    deadlines = Deadlines()
    request = make_request("OPTIONS")
    transaction = started(request, UDP, deadlines)
    transaction.receive(answer(request, 100), now=0.2)
    log = play(deadlines, lambda owner, timer, now: owner.expire(timer, now), [])
    times = (0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5)
    assert log == [*((at, "OPTIONS") for at in times), (32.0, "timed out")]


def test_timers_scale_with_t1_t2_and_t4() -> None:
    deadlines = Deadlines()
    transaction = NonInviteClientTransaction("key", make_request("BYE"), UDP, Timers(0.02, 0.08, 0.1), deadlines)
    log = play(deadlines, lambda owner, timer, now: owner.expire(timer, now), transaction.start(0.0))
    assert [at for at, _ in log] == pytest.approx([0, 0.02, 0.06, *(0.14 + 0.08 * n for n in range(15)), 1.28])


def test_completed_and_accepted_last_as_long_as_the_rfc_says() -> None:
    lasted = {}
    for method, status in (("INVITE", 200), ("INVITE", 486), ("BYE", 200)):
        deadlines = Deadlines()
        request = make_request(method)
        transaction = started(request, UDP, deadlines)
        transaction.receive(answer(request, status), now=1.0)
        lasted[method, status] = [deadline.at - 1.0 for deadline in deadlines.due(1e6)]
    assert lasted == {("INVITE", 200): [32.0], ("INVITE", 486): [32.0], ("BYE", 200): [5.0]}


ROUTED = [("Route", "<sip:p1.example.com;lr>"), ("Route", "<sip:p2.example.com;lr>"), ("Require", "100rel")]


def test_the_ack_of_a_rejection_is_made_of_the_invite_and_the_to_of_its_response() -> None:
    invite = make_request(more=ROUTED, body=b"v=0", cseq=77)
    deadlines = Deadlines()
    transaction = started(invite, UDP, deadlines)
    effects = transaction.receive(answer(invite, 486, "bob"), now=1.0)
    assert isinstance(effects[0], Transmit)
    ack = effects[0].message
    assert isinstance(ack, Request)
    assert (ack.method, ack.uri, ack.body) == ("ACK", invite.uri, b"")
    assert dict(ack.headers) | {"Route": None} == {
        "Via": invite.headers.get("Via"), "Route": None, "Max-Forwards": "70", "From": invite.headers.get("From"),
        "To": "<sip:101@192.0.2.1>;tag=bob", "Call-ID": "call-1", "CSeq": "77 ACK",
    }
    assert ack.headers.get_all("Route") == [route for name, route in ROUTED if name == "Route"]
    assert transaction.receive(answer(invite, 486, "bob"), now=2.0) == [Transmit(ack, UDP)]


def test_an_invite_is_let_go_with_its_final_response_and_another_request_is_not() -> None:
    invite, options = make_request(), make_request("OPTIONS")
    calling, asking = started(invite, UDP, Deadlines()), started(options, UDP, Deadlines())
    calling.receive(answer(invite, 200), now=1.0)
    asking.receive(answer(options, 200), now=1.0)
    assert not hasattr(calling, "request")
    assert asking.request is options


def calling(invite: Request, deadlines: Deadlines) -> InviteClientTransaction:
    transaction = started(invite, UDP, deadlines)
    assert isinstance(transaction, InviteClientTransaction)
    return transaction


def test_a_cancel_waits_for_a_provisional_response_and_is_sent_once() -> None:
    invite = make_request(more=ROUTED)
    transaction = calling(invite, Deadlines())
    transaction.withdraw([("Reason", 'SIP;cause=200;text="Call completed elsewhere"')])
    assert transaction.take_cancel(now=0.1) is None
    assert names(transaction.receive(answer(invite, 180), now=0.2)) == ["got 180"]
    cancel = transaction.take_cancel(now=0.2)
    assert cancel is not None
    assert (cancel.method, cancel.uri, cancel.body) == ("CANCEL", invite.uri, b"")
    assert dict(cancel.headers) | {"Route": None} == {
        "Via": invite.headers.get("Via"), "Route": None, "Max-Forwards": "70", "From": invite.headers.get("From"),
        "To": "<sip:101@192.0.2.1>", "Call-ID": "call-1", "CSeq": "1 CANCEL",
        "Reason": 'SIP;cause=200;text="Call completed elsewhere"',
    }
    transaction.withdraw([])
    assert transaction.take_cancel(now=0.3) is None


@pytest.mark.parametrize("status", [200, 486])
def test_no_cancel_is_sent_after_a_final_response(status: int) -> None:
    invite = make_request()
    transaction = calling(invite, Deadlines())
    transaction.withdraw([])
    assert ResponseReceived(transaction, final := answer(invite, status)) in transaction.receive(final, now=0.2)
    assert transaction.take_cancel(now=0.2) is None
    transaction.withdraw([])
    assert transaction.take_cancel(now=0.3) is None


def test_a_cancelled_invite_is_given_up_64_t1_after_its_cancel_however_much_it_rings_on() -> None:
    invite = make_request()
    deadlines = Deadlines()
    transaction = calling(invite, deadlines)
    transaction.receive(answer(invite, 180), now=1.0)
    transaction.withdraw([])
    assert transaction.take_cancel(now=10.0) is not None
    transaction.receive(answer(invite, 180), now=30.0)
    log = play(deadlines, lambda owner, timer, now: owner.expire(timer, now), [], now=30.0)
    assert log == [(42.0, "timed out")]
