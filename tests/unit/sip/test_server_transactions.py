"""RFC 3261 figures 7 and 8, RFC 6026 figure 7 and the rules of RFC 4320, as tables: every state by every input."""

from __future__ import annotations

from itertools import product

import pytest

from b2bua.sip.effects import Address, Flow, Transmit, Transport
from b2bua.sip.message import Request, Response
from b2bua.sip.server_transactions import InviteServerTransaction, NonInviteServerTransaction, ServerState
from b2bua.sip.timers import Deadlines, Timer, Timers
from tests.support.transactions import HERE, TCP, THERE, UDP, make_request, names, play

TRYING, PROCEEDING, COMPLETED, CONFIRMED, ACCEPTED, TERMINATED = ServerState
OVER = TERMINATED

ANSWERS = {"1xx": 180, "2xx": 200, "3xx": 302, "4xx": 486, "408": 408, "5xx": 503, "6xx": 603}
TIMERS = {timer.name: timer for timer in Timer}
INPUTS = [*ANSWERS, *TIMERS, "again", "ACK", "transport error"]
REFUSALS = ("3xx", "4xx", "408", "5xx", "6xx")

# (state, input): (next state, what is sent and told, timers that run then). What is not here changes nothing,
# but for a transport error, which ends all.
Table = dict[tuple[ServerState, str], tuple[ServerState, str, str]]
INVITE_UDP: Table = {
    (PROCEEDING, "again"): (PROCEEDING, "183", ""),
    (PROCEEDING, "1xx"): (PROCEEDING, "180", ""),
    (PROCEEDING, "2xx"): (ACCEPTED, "200", "L"),
    **{(PROCEEDING, refusal): (COMPLETED, f"{ANSWERS[refusal]}", "G H") for refusal in REFUSALS},
    (COMPLETED, "again"): (COMPLETED, "487", "G H"),
    (COMPLETED, "G"): (COMPLETED, "487", "G H"),
    (COMPLETED, "H"): (OVER, "", ""),
    (COMPLETED, "ACK"): (CONFIRMED, "", "I"),
    (CONFIRMED, "I"): (OVER, "", ""),
    (ACCEPTED, "2xx"): (ACCEPTED, "200", "L"),
    (ACCEPTED, "ACK"): (ACCEPTED, "got ACK", "L"),
    (ACCEPTED, "L"): (OVER, "", ""),
}
INVITE_TCP: Table = {
    **INVITE_UDP,
    **{(PROCEEDING, refusal): (COMPLETED, f"{ANSWERS[refusal]}", "H") for refusal in REFUSALS},
    (COMPLETED, "again"): (COMPLETED, "487", "H"),
    (COMPLETED, "ACK"): (OVER, "", ""),
}
FINALS = ("2xx", "3xx", "4xx", "5xx", "6xx")            # but not 408 (RFC 4320 §4.2)
OTHER_UDP: Table = {
    **{(state, final): (COMPLETED, f"{ANSWERS[final]}", "J") for state, final in product((TRYING, PROCEEDING), FINALS)},
    (TRYING, "TRYING"): (PROCEEDING, "100", "EXPIRY"),
    (PROCEEDING, "again"): (PROCEEDING, "100", "EXPIRY"),
    (PROCEEDING, "EXPIRY"): (OVER, "", ""),
    (COMPLETED, "again"): (COMPLETED, "200", "J"),
    (COMPLETED, "J"): (OVER, "", ""),
}
OTHER_TCP: Table = {
    **OTHER_UDP,
    **{(state, final): (OVER, f"{ANSWERS[final]}", "") for state, final in product((TRYING, PROCEEDING), FINALS)},
}
RUNNING = {
    "INVITE": {PROCEEDING: "", COMPLETED: "G H", CONFIRMED: "I", ACCEPTED: "L", OVER: ""},
    "OPTIONS": {TRYING: "TRYING", PROCEEDING: "EXPIRY", COMPLETED: "J", OVER: ""},
}
Transaction = InviteServerTransaction | NonInviteServerTransaction


def cases(method: str, flow: Flow, states: tuple[ServerState, ...], table: Table) -> list[object]:
    """Every state by every input. Timer G is never armed over a stream, so it is no input there."""
    rows = []
    for state, word in product(states, INPUTS):
        if (flow is TCP and word == "G") or (method != "INVITE" and word == "ACK"):
            continue
        running = RUNNING[method][state]
        unchanged = (OVER, "", "") if word == "transport error" else (state, "", running)
        expected = table.get((state, word), unchanged if flow is UDP else (*unchanged[:2], unchanged[2].lstrip("G ")))
        rows.append(pytest.param(method, flow, state, word, expected, id=f"{flow.transport.name}-{state.name}-{word}"))
    return rows


@pytest.mark.parametrize(("method", "flow", "state", "word", "expected"), [
    *cases("INVITE", UDP, (PROCEEDING, COMPLETED, CONFIRMED, ACCEPTED, OVER), INVITE_UDP),
    *cases("INVITE", TCP, (PROCEEDING, COMPLETED, ACCEPTED, OVER), INVITE_TCP),
    *cases("OPTIONS", UDP, (TRYING, PROCEEDING, COMPLETED, OVER), OTHER_UDP),
    *cases("OPTIONS", TCP, (TRYING, PROCEEDING, OVER), OTHER_TCP),
])
def test_each_state_does_with_each_input_what_the_rfc_draws(
    method: str, flow: Flow, state: ServerState, word: str, expected: tuple[ServerState, str, str]
) -> None:
    deadlines = Deadlines()
    request = make_request(method)
    transaction = started(request, flow, deadlines)
    bring(transaction, request, state)
    assert transaction.state is state
    effects = put(transaction, request, word)
    next_state, done, running = expected
    assert transaction.state is next_state
    assert ", ".join(names(effects)) == done
    if word not in TIMERS:              # there the deadline itself stays armed, as it is not by its time that it fired
        assert sorted(deadline.timer.name for deadline in deadlines.due(1e6)) == running.split()


def started(request: Request, flow: Flow, deadlines: Deadlines) -> Transaction:
    kind = InviteServerTransaction if request.method == "INVITE" else NonInviteServerTransaction
    transaction = kind("key", request, flow, Timers(), deadlines)
    transaction.start(now=0.0)
    return transaction


def bring(transaction: Transaction, request: Request, state: ServerState) -> None:
    """By the way that the figure draws."""
    def answer(status: int) -> None:
        transaction.respond(request.response(status, to_tag="us"), now=1.0)

    if isinstance(transaction, NonInviteServerTransaction):
        if state is PROCEEDING:
            transaction.expire(Timer.TRYING, now=3.5)
        elif state in (COMPLETED, OVER):
            answer(200)
            if transaction.flow is UDP and state is OVER:
                transaction.expire(Timer.J, now=33.0)
        return
    answer(183)
    if state is ACCEPTED:
        answer(200)
    elif state in (COMPLETED, CONFIRMED, OVER):
        answer(487)
        if state is not COMPLETED:
            transaction.acknowledge(make_request("ACK"), transaction.flow, now=2.0)
        if state is OVER and transaction.flow is UDP:
            transaction.expire(Timer.I, now=7.0)


def put(transaction: Transaction, request: Request, word: str) -> list[object]:
    if word in TIMERS:
        return [*transaction.expire(TIMERS[word], now=50.0)]
    if word in ANSWERS:
        return [*transaction.respond(request.response(ANSWERS[word], to_tag="us"), now=50.0)]
    if word == "again":
        return [*transaction.receive(now=50.0)]
    if word == "ACK":
        assert isinstance(transaction, InviteServerTransaction)
        return [*transaction.acknowledge(make_request("ACK"), transaction.flow, now=50.0)]
    transaction.transport_failed()
    return []


def test_a_refusal_over_udp_is_repeated_until_timer_h() -> None:
    deadlines = Deadlines()
    invite = make_request()
    transaction = started(invite, UDP, deadlines)
    effects = transaction.respond(invite.response(486, to_tag="us"), now=0.0)
    log = play(deadlines, lambda owner, timer, now: owner.expire(timer, now), effects)
    times = (0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5)
    assert log == [(at, "486") for at in times]
    assert transaction.state is OVER


def test_the_ack_ends_the_repetitions_and_its_own_are_absorbed_for_t4() -> None:
    deadlines = Deadlines()
    invite = make_request()
    transaction = started(invite, UDP, deadlines)
    assert isinstance(transaction, InviteServerTransaction)
    transaction.respond(invite.response(486, to_tag="us"), now=0.0)
    for at in (0.7, 0.8):
        assert transaction.acknowledge(make_request("ACK"), UDP, now=at) == []
    assert transaction.state is CONFIRMED
    assert transaction.last_response is None
    assert [(deadline.at, deadline.timer) for deadline in deadlines.due(1e6)] == [(5.7, Timer.I)]


@pytest.mark.parametrize("flow", [UDP, TCP])
def test_an_answered_invite_lingers_for_64_t1_on_any_transport(flow: Flow) -> None:
    deadlines = Deadlines()
    invite = make_request()
    transaction = started(invite, flow, deadlines)
    transaction.respond(invite.response(200, to_tag="us"), now=1.0)
    assert [(deadline.at, deadline.timer) for deadline in deadlines.due(1e6)] == [(33.0, Timer.L)]


def test_an_answered_request_lingers_for_64_t1_over_udp() -> None:
    deadlines = Deadlines()
    options = make_request("OPTIONS")
    transaction = started(options, UDP, deadlines)
    transaction.respond(options.response(200, to_tag="us"), now=1.0)
    assert [(deadline.at, deadline.timer) for deadline in deadlines.due(1e6)] == [(33.0, Timer.J)]


def test_an_invite_that_comes_again_before_any_response_gets_the_100() -> None:
    invite = make_request(more=[("Timestamp", "54")])
    transaction = started(invite, UDP, Deadlines())
    effects = transaction.receive(now=0.5)
    assert names(effects) == ["100"]
    assert isinstance(effects[0], Transmit)
    assert effects[0].message.headers.get("Timestamp") == "54"
    assert transaction.receive(now=1.5) == effects


def test_trying_is_said_once_and_not_after_more_has_been_said() -> None:
    invite = make_request()
    transaction = started(invite, UDP, Deadlines())
    assert isinstance(transaction, InviteServerTransaction)
    assert names(transaction.trying(now=0.0)) == ["100"]
    assert transaction.trying(now=0.0) == []


def test_a_slow_answer_to_a_request_is_preceded_by_100_and_not_sent_to_a_client_that_gave_up() -> None:
    """RFC 4320 §4.1: when timer E has reached T2, thus after 0.5 + 1 + 2 s."""
    deadlines = Deadlines()
    options = make_request("OPTIONS")
    transaction = started(options, TCP, deadlines)
    log = play(deadlines, lambda owner, timer, now: owner.expire(timer, now), [])
    assert log == [(3.5, "100")]
    assert transaction.state is OVER
    assert transaction.respond(options.response(200), now=33.0) == []


def test_the_patience_with_a_slow_request_ends_with_that_of_its_client() -> None:
    deadlines = Deadlines()
    transaction = started(make_request("OPTIONS"), UDP, deadlines)
    transaction.expire(Timer.TRYING, now=3.5)
    assert 32.0 in [deadline.at for deadline in deadlines.due(1e6)]


def test_no_request_but_invite_gets_a_provisional_response_of_the_core() -> None:
    """RFC 4320 §4.1."""
    options = make_request("OPTIONS")
    transaction = started(options, UDP, Deadlines())
    assert transaction.respond(options.response(100), now=0.1) == []
    assert transaction.respond(options.response(183), now=0.1) == []
    assert transaction.state is TRYING


def test_the_tag_of_the_core_is_learnt_from_its_first_response_with_one() -> None:
    invite = make_request()
    transaction = started(invite, UDP, Deadlines())
    transaction.respond(invite.response(100), now=0.0)
    assert transaction.to_tag is None
    transaction.respond(invite.response(180, to_tag="us"), now=0.1)
    transaction.respond(invite.response(200, to_tag="another"), now=0.2)
    assert transaction.to_tag == "us"
    at_once = started(invite, UDP, Deadlines())
    at_once.respond(invite.response(200, to_tag="us"), now=0.0)
    assert (at_once.to_tag, at_once.last_response) == ("us", None)


@pytest.mark.parametrize(("method", "status"), [("INVITE", 200), ("INVITE", 486), ("OPTIONS", 200)])
def test_a_request_is_let_go_with_its_final_response(method: str, status: int) -> None:
    request = make_request(method)
    transaction = started(request, UDP, Deadlines())
    assert transaction.request is request
    transaction.respond(request.response(status), now=0.1)
    assert not hasattr(transaction, "request")


def test_a_lost_connection_is_replaced_once_by_the_address_in_via() -> None:
    invite = make_request()
    transaction = started(invite, TCP, Deadlines())
    transaction.fallback = Flow(Transport.TCP, HERE, Address(THERE.host, 5060))
    fallback = transaction.fallback
    transaction.transport_failed()
    response = invite.response(200, to_tag="us")
    assert transaction.respond(response, now=1.0) == [Transmit(response, fallback)]
    transaction.transport_failed()
    assert transaction.state is OVER


def test_repetitions_send_the_very_same_message() -> None:
    options = make_request("OPTIONS")
    transaction = started(options, UDP, Deadlines())
    first = transaction.respond(options.response(200, to_tag="us"), now=0.1)
    assert transaction.receive(now=0.6) == first
    assert isinstance(first[0], Transmit)
    assert isinstance(first[0].message, Response)
