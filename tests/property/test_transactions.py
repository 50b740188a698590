"""Each transaction machine, and all of them in the table, under whatever happens at whatever time."""

from __future__ import annotations

from collections import Counter
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.sip.client_transactions import ClientState
from b2bua.sip.effects import Address, Flow, Transmit, Transport
from b2bua.sip.message import Request, Response
from b2bua.sip.server_transactions import ServerState
from b2bua.sip.timers import Deadline, Deadlines, Timer, Timers
from b2bua.sip.transaction_table import (
    CancelReceived,
    ClientTimedOut,
    ClientTransaction,
    ClientTransportFailed,
    RequestReceived,
    ResponseReceived,
    ServerTransaction,
    TransactionTable,
)
from tests.support.transactions import TCP, UDP, answer, make_request

STATUSES = st.sampled_from([100, 180, 183, 200, 202, 302, 408, 486, 503, 603])
PAUSES = st.sampled_from([0.0, 0.001, 0.4, 0.5, 1.0, 3.5, 4.0, 5.0, 31.9, 32.0]) | st.floats(0.0, 40.0)
FLOWS = st.sampled_from([UDP, TCP])
METHODS = st.sampled_from(["INVITE", "OPTIONS", "BYE"])

MOST_SENDINGS = 11      # of one message without anybody's asking: at 0, 0.5, 1.5, 3.5 s and then every 4 s until 32 s


class Stack:
    """A table with its clock. It notes what is sent and told, and that nothing is by transactions that are over."""

    def __init__(self) -> None:
        branches = count()
        self.deadlines = Deadlines()
        self.table = TransactionTable(Timers(), self.deadlines, branch=lambda: f"-{next(branches)}")
        self.now = 0.0
        self.sent: Counter[int] = Counter()
        self.messages: list[Request | Response] = []        # keeps their ids unique
        self.told: list[object] = []

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (at := self.deadlines.next) is not None and at <= until:
            self.now = max(self.now, at)
            for deadline in self.deadlines.due(self.now):
                self.fire(deadline)
        self.now = until

    def fire(self, deadline: Deadline) -> None:
        owner = deadline.owner
        assert isinstance(owner, ClientTransaction | ServerTransaction)
        assert owner.state not in (ClientState.TERMINATED, ServerState.TERMINATED), "a deadline outlived its owner"
        self.note(self.table.handle(owner, deadline.timer, self.now))

    def note(self, effects: list[object]) -> None:
        for effect in effects:
            if isinstance(effect, Transmit):
                self.messages.append(effect.message)
                self.sent[id(effect.message)] += 1
            else:
                self.told.append(effect)

    def assert_empty(self) -> None:
        table = self.table
        assert [table._clients, table._servers, table._merging, table._exposed] == [{}, {}, {}, {}]
        assert len(self.deadlines) == 0
        assert self.deadlines.next is None


@settings(max_examples=150, deadline=None)
@given(METHODS, FLOWS, st.lists(st.tuples(PAUSES, STATUSES | st.sampled_from(["cancel", "fail"])), max_size=8))
def test_a_client_transaction_ends_once_and_then_is_silent(
    method: str, flow: Flow, script: list[tuple[float, int | str]]
) -> None:
    stack = Stack()
    request = make_request(method, via=stack.table.new_via(flow))
    transaction, effects = stack.table.send_request(request, flow, 0.0)
    stack.note([*effects])
    for pause, action in script:
        stack.wait(pause)
        over = transaction.state is ClientState.TERMINATED
        sent, told = stack.sent.total(), len(stack.told)
        match action:
            case "cancel":
                stack.note([*stack.table.cancel(transaction, stack.now)])
            case "fail":
                stack.note([*stack.table.transport_failed(transaction, stack.now)])
            case int(status):
                stack.note([*stack.table.receive(answer(request, status), flow, stack.now)])
        if over:
            assert stack.sent.total() == sent
            assert all(type(event).__name__ == "StrayResponse" for event in stack.told[told:])
    stack.note([*stack.table.cancel(transaction, stack.now)])   # a core hangs up what it does not want any more
    stack.note([*stack.table.receive(answer(request, 180), flow, stack.now)])
    stack.wait(100.0)
    assert transaction.state is ClientState.TERMINATED
    stack.assert_empty()
    check_what_was_told(stack, method)
    by_us = [m for m in stack.messages if isinstance(m, Request) and m.method != "ACK"]
    assert all(stack.sent[id(message)] <= (MOST_SENDINGS if flow is UDP else 1) for message in by_us)


def check_what_was_told(stack: Stack, method: str) -> None:
    """One outcome: refusals and failures once; only a 2xx to an INVITE may come again."""
    finals = [event for event in stack.told if isinstance(event, ResponseReceived) and event.response.status >= 200]
    gone = [event for event in stack.told if isinstance(event, ClientTimedOut | ClientTransportFailed)]
    classes = {event.response.status // 100 for event in finals}
    assert len(gone) + len(classes) == 1
    assert len(finals) <= 1 or (method == "INVITE" and classes == {2})


@settings(max_examples=150, deadline=None)
@given(
    METHODS,
    FLOWS,
    st.lists(st.tuples(PAUSES, STATUSES | st.sampled_from(["again", "ACK", "CANCEL", "fail"])), max_size=8),
)
def test_a_server_transaction_ends_and_sends_no_more_than_it_is_asked_for(
    method: str, flow: Flow, script: list[tuple[float, int | str]]
) -> None:
    stack = Stack()
    table = stack.table
    request = make_request(method)
    [received] = table.receive(request, flow, 0.0)
    assert isinstance(received, RequestReceived)
    transaction = received.transaction
    asked: Counter[int] = Counter()             # how often each message was sent in answer to something
    for pause, action in [*script, (0.0, 486)]:
        stack.wait(pause)
        over = transaction.state is ServerState.TERMINATED
        match action:
            case "again" | "ACK" | "CANCEL" if not over:
                name = method if action == "again" else str(action)
                effects = [*table.receive(make_request(name), flow, stack.now)]
                assert not any(isinstance(effect, RequestReceived) for effect in effects)
            case "fail":
                effects = [*table.transport_failed(flow, stack.now)]
            case int(status):
                effects = [*table.respond(transaction, request.response(status, to_tag="us"), stack.now)]
                assert not (over and effects)
            case _:
                continue
        asked.update(id(effect.message) for effect in effects if isinstance(effect, Transmit))
        stack.note(effects)
    stack.wait(100.0)
    assert transaction.state is ServerState.TERMINATED
    stack.assert_empty()
    assert sum(isinstance(event, CancelReceived) for event in stack.told) <= 1
    assert all(stack.sent[message] - asked[message] < MOST_SENDINGS for message in stack.sent)
    if method != "INVITE":
        statuses = {message.status for message in stack.messages if isinstance(message, Response)}
        assert not statuses & {180, 183, 408}


PEERS = [
    UDP,
    TCP,
    UDP._replace(remote=Address("198.51.100.8", 5060)),
    TCP._replace(connection=8, transport=Transport.TLS),
]
ACTIONS = st.one_of(
    st.tuples(st.just("request"), METHODS | st.sampled_from(["ACK", "CANCEL"]), st.integers(0, 3), st.integers(1, 2)),
    st.tuples(st.just("send"), METHODS),
    st.tuples(st.just("respond"), st.integers(0, 9), STATUSES),
    st.tuples(st.just("answer"), st.integers(0, 9), STATUSES),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("abandon"), st.integers(0, 9)),
    st.tuples(st.just("fail")),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(PAUSES, st.sampled_from(PEERS), ACTIONS), max_size=25))
def test_when_all_deadlines_have_passed_the_table_is_empty(script: list[tuple[float, Flow, tuple]]) -> None:
    stack = Stack()
    table = stack.table
    served: list[ServerTransaction] = []
    requests: list[Request] = []
    ours: list[tuple[ClientTransaction, Request, Flow]] = []
    for pause, flow, action in script:
        stack.wait(pause)
        match action:
            case "request", method, branch, cseq:
                via = f"SIP/2.0/{flow.transport.value} 198.51.100.7:40000;branch=z9hG4bK-{branch};rport"
                for effect in table.receive(make_request(method, via=via, cseq=cseq), flow, stack.now):
                    if isinstance(effect, RequestReceived):
                        served.append(effect.transaction)
                        requests.append(effect.request)
            case "send", method:
                request = make_request(method, via=table.new_via(flow))
                ours.append((table.send_request(request, flow, stack.now)[0], request, flow))
            case "respond", index, status if index < len(served):
                table.respond(served[index], requests[index].response(status, to_tag="us"), stack.now)
            case "answer", index, status if index < len(ours):
                _, request, by = ours[index]
                table.receive(answer(request, status), by, stack.now)
            case "cancel", index if index < len(ours):
                table.cancel(ours[index][0], stack.now)
            case "abandon", index if index < len(served):
                table.abandon(served[index])
            case ("fail",):
                table.transport_failed(flow, stack.now)
    for transaction, request in zip(served, requests, strict=True):
        table.respond(transaction, request.response(500, to_tag="us"), stack.now)
    for _, request, flow in ours:
        table.receive(answer(request, 500), flow, stack.now)
    stack.wait(100.0)
    stack.assert_empty()


@settings(max_examples=150, deadline=None)
@given(st.lists(
    st.tuples(st.sampled_from(["arm", "disarm", "wait"]), st.floats(0.0, 200.0), st.integers(0, 20)), max_size=60
))
def test_deadlines_agree_with_a_sorted_list(script: list[tuple[str, float, int]]) -> None:
    deadlines = Deadlines()
    armed: list[Deadline] = []
    now = 0.0
    for action, seconds, index in script:
        match action:
            case "arm":
                armed.append(deadlines.arm(now + seconds, object(), Timer.A))
            case "disarm" if index < len(armed):
                deadlines.disarm(armed.pop(index))
            case "wait":
                now += seconds / 4
                expected = sorted(deadline.at for deadline in armed if deadline.at <= now)
                assert [deadline.at for deadline in deadlines.due(now)] == expected
                armed = [deadline for deadline in armed if deadline.at > now]
        assert len(deadlines) == len(armed)
        earliest = min((deadline.at for deadline in armed), default=None)
        assert (deadlines.next is None) == (earliest is None)
        assert earliest is None or deadlines.next <= earliest
