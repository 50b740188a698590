"""Matching, CANCEL, merged and stray messages, limits, and where responses go."""

from __future__ import annotations

import gc
from itertools import count

import pytest

from b2bua.sip.client_transactions import ClientState
from b2bua.sip.effects import Address, Flow, TlsPeer, Transmit, Transport
from b2bua.sip.message import Request, Response
from b2bua.sip.server_transactions import InviteServerTransaction, ServerState
from b2bua.sip.timers import Deadlines, Timers
from b2bua.sip.transaction_table import (
    CancelReceived,
    ClientTransaction,
    ClientTransportFailed,
    RequestReceived,
    ResponseReceived,
    ServerTransaction,
    StrayResponse,
    TransactionLimits,
    TransactionTable,
)
from tests.support.transactions import HERE, TCP, THERE, UDP, answer, make_request, names, play

OLD_VIA = "SIP/2.0/UDP 198.51.100.7:40000"                  # without the magic cookie: RFC 2543


def new_table(**limits: int) -> TransactionTable:
    branches = count(1)
    return TransactionTable(
        Timers(), Deadlines(), branch=lambda: f"ours{next(branches)}", limits=TransactionLimits(**limits)
    )


def served(table: TransactionTable, request: Request, flow: Flow = UDP, now: float = 0.0) -> ServerTransaction:
    match table.receive(request, flow, now):
        case [RequestReceived(transaction, received, came_by)]:
            assert (received, came_by) == (request, flow)
            return transaction
        case effects:
            raise AssertionError(effects)


def served_invite(table: TransactionTable, invite: Request, flow: Flow = UDP) -> InviteServerTransaction:
    transaction = served(table, invite, flow)
    assert isinstance(transaction, InviteServerTransaction)
    return transaction


def sent(table: TransactionTable, method: str = "INVITE", flow: Flow = UDP, now: float = 0.0) -> ClientTransaction:
    transaction, effects = table.send_request(make_request(method, via=table.new_via(flow)), flow, now)
    assert names(effects) == [method]
    return transaction


def response_of(effects: list[object]) -> Response:
    assert isinstance(effects[0], Transmit)
    assert isinstance(effects[0].message, Response)
    return effects[0].message


def run_out(table: TransactionTable) -> list[tuple[float, str]]:
    return play(table._deadlines, table.handle, [])


def is_empty(table: TransactionTable) -> bool:
    return not (table._clients or table._servers or table._merging or table._exposed or len(table._deadlines))


# -- matching of requests (RFC 3261 §17.2.3) ---------------------------------------------------------------------------


@pytest.mark.parametrize("via", ["SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK-1;rport", OLD_VIA])
def test_a_repeated_request_finds_its_transaction_and_gets_its_last_response_again(via: str) -> None:
    table = new_table()
    transaction = served(table, make_request(via=via))
    ringing = transaction.request.response(180, to_tag="us")
    table.respond(transaction, ringing, now=0.1)
    assert table.receive(make_request(via=via), UDP, now=0.5) == [Transmit(ringing, UDP)]
    assert table.live_servers == 1
    assert table.counters.retransmissions_absorbed == 1


@pytest.mark.parametrize("via", ["SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK-1;rport", OLD_VIA])
def test_the_ack_to_a_refusal_finds_its_invite_and_goes_no_further(via: str) -> None:
    table = new_table()
    transaction = served(table, make_request(via=via))
    table.respond(transaction, transaction.request.response(486, to_tag="us"), now=0.1)
    assert table.receive(make_request("ACK", via=via, to_tag="us"), UDP, now=0.2) == []
    assert transaction.state is ServerState.CONFIRMED


def test_over_a_stream_nothing_is_left_after_the_ack_to_a_refusal() -> None:
    table = new_table()
    transaction = served(table, make_request(), TCP)
    table.respond(transaction, transaction.request.response(486, to_tag="us"), now=0.1)
    assert table.receive(make_request("ACK", to_tag="us"), TCP, now=0.2) == []
    assert is_empty(table)


def test_the_ack_to_a_2xx_goes_to_the_core() -> None:
    table = new_table()
    transaction = served(table, make_request())
    table.respond(transaction, transaction.request.response(200, to_tag="us"), now=0.1)
    ack = make_request("ACK", via="SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK-ack", to_tag="us")
    assert names(table.receive(ack, UDP, now=0.2)) == ["got ACK"]
    by_the_old_rules = make_request("ACK", to_tag="us")         # same branch: some phones do so
    assert names(table.receive(by_the_old_rules, UDP, now=0.3)) == ["got ACK"]


def test_an_ack_to_nothing_goes_to_the_core_and_leaves_nothing_behind() -> None:
    table = new_table()
    assert names(table.receive(make_request("ACK"), UDP, now=0.0)) == ["got ACK"]
    assert is_empty(table)


def test_by_the_old_rules_an_ack_with_another_to_tag_is_not_for_this_refusal() -> None:
    table = new_table()
    transaction = served(table, make_request(via=OLD_VIA))
    table.respond(transaction, transaction.request.response(486, to_tag="us"), now=0.1)
    assert names(table.receive(make_request("ACK", via=OLD_VIA, to_tag="else"), UDP, now=0.2)) == ["got ACK"]
    assert transaction.state is ServerState.COMPLETED


@pytest.mark.parametrize("other", [
    {"via": "SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK-2", "call_id": "call-2"},
    {"via": "SIP/2.0/UDP 198.51.100.7:40001;branch=z9hG4bK-1", "call_id": "call-2"},    # sent-by counts as well
    {"via": "SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK-1", "call_id": "call-2"},
    {"method": "OPTIONS"},
])
def test_another_branch_sent_by_or_method_is_another_transaction(other: dict[str, str]) -> None:
    table = new_table()
    served(table, make_request())
    served(table, make_request(**other))
    assert table.live_servers == 2


@pytest.mark.parametrize("via", [OLD_VIA, f"{OLD_VIA};branch=1", f"{OLD_VIA};branch=z9hG4bK"])
@pytest.mark.parametrize("other", [
    {"call_id": "call-2"}, {"from_tag": "carol"}, {"cseq": 2}, {"uri": "sip:102@192.0.2.1", "cseq": 2},
    {"method": "OPTIONS"},
])
def test_by_the_old_rules_all_that_a_repetition_shares_counts(via: str, other: dict[str, str]) -> None:
    """The bare cookie is no branch, but some phones send it."""
    table = new_table()
    served(table, make_request(via=via))
    served(table, make_request(**{"via": via, **other}))
    assert table.live_servers == 2


@pytest.mark.parametrize("via", [f"{OLD_VIA};branch=z9hG4bK{'x' * 5000}\udcff", f"{OLD_VIA};branch={'x' * 5000}"])
def test_the_long_names_of_a_stranger_work_and_are_not_kept(via: str) -> None:
    table = new_table()
    for _ in range(2):
        table.receive(make_request(via=via, from_tag="t" * 5000), UDP, now=0.0)
    assert table.live_servers == table.counters.retransmissions_absorbed == 1
    assert max(map(len, [*table._servers, *table._merging])) < 300


# -- new requests ------------------------------------------------------------------------------------------------------


def test_a_new_invite_is_left_to_the_core_which_asks_for_the_100() -> None:
    table = new_table()
    transaction = served(table, make_request())
    assert names(table.trying(transaction, now=0.0)) == ["100"]
    assert names(table.receive(make_request(), UDP, now=0.5)) == ["100"]
    assert names(table.trying(served(table, make_request("OPTIONS")), now=0.0)) == []


def test_a_request_that_the_core_forgets_gets_100_once_and_leaves_nothing_behind() -> None:
    table = new_table()
    served(table, make_request("OPTIONS"))
    assert run_out(table) == [(3.5, "100")]
    assert is_empty(table)


def test_an_abandoned_request_gets_silence_and_leaves_nothing_behind() -> None:
    table = new_table()
    transaction = served(table, make_request("OPTIONS"), TCP)
    table.abandon(transaction)
    assert is_empty(table)
    assert table.respond(transaction, transaction.request.response(200), now=0.1) == []


def test_a_merged_request_gets_482() -> None:
    table = new_table()
    served(table, make_request())
    other_way = "SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK-other-way;rport"
    for _ in range(2):
        assert names(table.receive(make_request(via=other_way), UDP, now=0.1)) == ["482"]
    assert (table.counters.merged, table.live_servers) == (2, 1)


def test_a_request_within_a_dialog_is_never_taken_for_merged() -> None:
    table = new_table()
    served(table, make_request(to_tag="us"))
    served(table, make_request(to_tag="us", via="SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK-other-way"))
    assert table.counters.merged == 0


def test_what_was_merged_once_is_new_when_the_first_is_forgotten() -> None:
    table = new_table()
    transaction = served(table, make_request("OPTIONS"))
    table.respond(transaction, transaction.request.response(200), now=0.0)
    run_out(table)
    served(table, make_request("OPTIONS", via="SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK-2"))


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "BYE"])
def test_a_request_without_hops_left_gets_483_and_leaves_nothing_behind(method: str) -> None:
    table = new_table()
    first = table.receive(make_request(method, max_forwards="0"), UDP, now=0.0)
    again = table.receive(make_request(method, max_forwards="0"), UDP, now=0.5)
    assert names(first) == names(again) == ["483"]
    assert response_of([*first]).to_tag == response_of([*again]).to_tag is not None
    assert is_empty(table)
    assert table.counters.too_many_hops == 2


def test_an_ack_is_never_answered_whatever_its_hops() -> None:
    assert names(new_table().receive(make_request("ACK", max_forwards="0"), UDP, now=0.0)) == ["got ACK"]


def test_nonsense_in_max_forwards_gets_400() -> None:
    assert names(new_table().receive(make_request(max_forwards="many"), UDP, now=0.0)) == ["400"]


def test_above_the_limit_requests_get_503_with_retry_after_and_those_begun_go_on() -> None:
    table = new_table(servers=1)
    served(table, make_request())
    effects = table.receive(make_request(via=f"{OLD_VIA};branch=z9hG4bK-2;rport", call_id="2"), UDP, now=0.1)
    assert names(effects) == ["503"]
    assert response_of([*effects]).headers.get("Retry-After") == "5"
    assert names(table.receive(make_request("ACK", call_id="3"), UDP, now=0.1)) == []
    assert names(table.receive(make_request("CANCEL"), UDP, now=0.2)) == ["200", "got CANCEL"]
    assert (table.live_servers, table.counters.overload) == (1, 1)


def test_above_the_limit_our_own_requests_fail_at_once() -> None:
    table = new_table(clients=1)
    sent(table)
    transaction, effects = table.send_request(make_request(via=table.new_via(UDP)), UDP, now=0.0)
    assert effects == [ClientTransportFailed(transaction)]
    assert transaction.state is ClientState.TERMINATED
    assert (table.live_clients, table.counters.overload) == (1, 1)


# -- where responses go (RFC 3261 §18.2, RFC 3581) ---------------------------------------------------------------------


@pytest.mark.parametrize(("via", "stamped", "goes_to"), [
    ("SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK1",
     "SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK1", THERE),
    ("SIP/2.0/UDP 198.51.100.7:5070;branch=z9hG4bK1",
     "SIP/2.0/UDP 198.51.100.7:5070;branch=z9hG4bK1", Address(THERE.host, 5070)),
    ("SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1",
     "SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1", Address(THERE.host, 5060)),
    ("SIP/2.0/UDP 10.0.0.3:5080;branch=z9hG4bK1",
     "SIP/2.0/UDP 10.0.0.3:5080;branch=z9hG4bK1;received=198.51.100.7", Address(THERE.host, 5080)),
    ("SIP/2.0/UDP pc.example.com;branch=z9hG4bK1",
     "SIP/2.0/UDP pc.example.com;branch=z9hG4bK1;received=198.51.100.7", Address(THERE.host, 5060)),
    ("SIP/2.0/UDP 10.0.0.3:5080;branch=z9hG4bK1;rport",
     "SIP/2.0/UDP 10.0.0.3:5080;branch=z9hG4bK1;rport=40000;received=198.51.100.7", THERE),
    ("SIP/2.0/UDP 10.0.0.3:5080;rport=1;received=203.0.113.9;branch=z9hG4bK1",       # lies
     "SIP/2.0/UDP 10.0.0.3:5080;rport=40000;received=198.51.100.7;branch=z9hG4bK1", THERE),
    ("SIP/2.0/UDP 198.51.100.7:5070;maddr=203.0.113.9;branch=z9hG4bK1",
     "SIP/2.0/UDP 198.51.100.7:5070;maddr=203.0.113.9;branch=z9hG4bK1", Address(THERE.host, 5070)),
])
def test_responses_over_udp_go_where_via_and_the_source_say(via: str, stamped: str, goes_to: Address) -> None:
    table = new_table()
    transaction = served(table, make_request("OPTIONS", via=f"{via}, SIP/2.0/UDP 203.0.113.1;branch=z9hG4bK0"))
    effects = table.respond(transaction, transaction.request.response(200, to_tag="us"), now=0.0)
    assert isinstance(effects[0], Transmit)
    assert effects[0].flow == Flow(Transport.UDP, HERE, goes_to)
    assert effects[0].message.headers.get_all("Via") == [stamped, "SIP/2.0/UDP 203.0.113.1;branch=z9hG4bK0"]


def test_refusals_and_answers_to_cancel_go_there_too() -> None:
    table = new_table()
    for method, options in (("OPTIONS", {"max_forwards": "0"}), ("CANCEL", {})):
        request = make_request(method, via="SIP/2.0/UDP 10.0.0.3:5080;branch=z9hG4bK1", **options)
        effect = table.receive(request, UDP, now=0.0)[0]
        assert isinstance(effect, Transmit)
        assert effect.flow.remote == Address(THERE.host, 5080)


def test_responses_over_a_stream_go_back_on_it() -> None:
    table = new_table()
    transaction = served(table, make_request("OPTIONS", via="SIP/2.0/TCP 10.0.0.3:5080;branch=z9hG4bK1"), TCP)
    response = transaction.request.response(200, to_tag="us")
    assert table.respond(transaction, response, now=0.0) == [Transmit(response, TCP)]
    assert is_empty(table)


def test_a_repeated_request_is_answered_where_the_first_was() -> None:
    """RFC 3261 §18.2.2: by the Via of the request that made the transaction."""
    table = new_table()
    transaction = served(table, make_request("OPTIONS"))
    table.respond(transaction, transaction.request.response(200, to_tag="us"), now=0.0)
    elsewhere = UDP._replace(remote=Address("203.0.113.66", 666))
    effect = table.receive(make_request("OPTIONS"), elsewhere, now=0.5)[0]
    assert isinstance(effect, Transmit)
    assert effect.flow == UDP


@pytest.mark.parametrize(("local", "value"), [
    (Address("192.0.2.1", 5060), "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKours1;rport"),
    (Address("2001:db8::1", 5062), "SIP/2.0/UDP [2001:db8::1]:5062;branch=z9hG4bKours1;rport"),
])
def test_our_via_has_a_branch_of_its_own_and_asks_for_rport(local: Address, value: str) -> None:
    assert new_table().new_via(Flow(Transport.UDP, local, THERE)) == value


# -- CANCEL, as a server (RFC 3261 §9.2) -------------------------------------------------------------------------------


def test_a_cancel_gets_200_with_the_tag_of_the_invite_and_the_core_is_told_once() -> None:
    table = new_table()
    invite = served_invite(table, make_request())
    table.respond(invite, invite.request.response(180, to_tag="us"), now=0.1)
    effects = table.receive(make_request("CANCEL"), UDP, now=1.0)
    assert names(effects) == ["200", "got CANCEL"]
    assert response_of([*effects]).to_tag == "us"
    assert isinstance(effects[1], CancelReceived)
    assert effects[1].transaction is invite
    assert names(table.receive(make_request("CANCEL"), UDP, now=1.1)) == ["200"]
    assert names(table.respond(invite, invite.request.response(487, to_tag="us"), now=1.2)) == ["487"]
    assert names(table.receive(make_request("CANCEL"), UDP, now=1.5)) == ["200"]


def test_a_cancel_is_answered_with_the_tag_that_the_core_has_chosen_before_it_said_anything() -> None:
    table = new_table()
    invite = served_invite(table, make_request())
    invite.to_tag = "chosen"
    assert response_of([*table.receive(make_request("CANCEL"), UDP, now=0.1)]).to_tag == "chosen"


def test_without_a_tag_yet_the_one_of_the_200_is_there_for_the_487() -> None:
    table = new_table()
    invite = served_invite(table, make_request())
    response = response_of([*table.receive(make_request("CANCEL"), UDP, now=0.1)])
    assert response.to_tag == invite.to_tag is not None


@pytest.mark.parametrize("status", [200, 486])
def test_a_cancel_after_the_final_response_changes_nothing(status: int) -> None:
    table = new_table()
    invite = served_invite(table, make_request())
    table.respond(invite, invite.request.response(status, to_tag="us"), now=0.1)
    state = invite.state
    assert names(table.receive(make_request("CANCEL"), UDP, now=0.2)) == ["200"]
    assert invite.state is state


def test_by_the_old_rules_a_cancel_finds_its_invite_as_well() -> None:
    table = new_table()
    served(table, make_request(via=OLD_VIA))
    assert names(table.receive(make_request("CANCEL", via=OLD_VIA), UDP, now=0.1)) == ["200", "got CANCEL"]


def test_a_cancel_of_nothing_or_of_another_request_gets_481_and_leaves_nothing_behind() -> None:
    table = new_table()
    assert names(table.receive(make_request("CANCEL"), UDP, now=0.0)) == ["481"]
    assert is_empty(table)
    served(table, make_request("OPTIONS"))
    assert names(table.receive(make_request("CANCEL"), UDP, now=0.1)) == ["481"]
    assert table.live_servers == 1


# -- as a client (RFC 3261 §17.1.3, §9.1) ------------------------------------------------------------------------------


def test_a_response_finds_its_transaction_by_branch_and_method() -> None:
    table = new_table()
    transaction = sent(table)
    ok = answer(transaction.request, 200)
    assert table.receive(ok, UDP, now=0.1) == [ResponseReceived(transaction, ok)]
    assert table.receive(ok, UDP, now=0.2) == [ResponseReceived(transaction, ok)]       # owes another ACK
    elsewhere = answer(make_request(via=table.new_via(UDP)), 200)
    assert table.receive(elsewhere, UDP, now=0.3) == [StrayResponse(elsewhere, UDP)]
    other_method = answer(make_request("BYE", via=ok.headers.get("Via") or ""), 200)
    assert names(table.receive(other_method, UDP, now=0.4)) == ["stray"]
    assert table.counters.strays == 2


@pytest.mark.parametrize("vias", [["{0}", "SIP/2.0/UDP 203.0.113.1"], ["{0}, SIP/2.0/UDP 203.0.113.1"], ["{0}"] * 100])
def test_a_response_with_more_than_our_via_was_meant_for_somebody_else(vias: list[str]) -> None:
    """RFC 3261 §8.1.3.3."""
    table = new_table()
    transaction = sent(table)
    ours = str(transaction.request.via)
    ok = answer(transaction.request, 200)
    ok.headers.remove("Via")
    for via in vias:
        ok.headers.add("Via", via.format(ours))
    assert ok.via.branch == transaction.request.via.branch
    assert names(table.receive(ok, UDP, now=0.1)) == ["stray"]


@pytest.mark.parametrize(("method", "status"), [("BYE", 200), ("INVITE", 486)])
def test_over_a_stream_nothing_is_left_after_a_final_response(method: str, status: int) -> None:
    table = new_table()
    table.receive(answer(sent(table, method, TCP).request, status), TCP, now=0.1)
    assert is_empty(table)


def test_a_cancel_goes_out_with_the_first_provisional_response_and_its_outcome_stays_inside() -> None:
    table = new_table()
    invite = sent(table)
    request = invite.request
    assert table.cancel(invite, now=0.1) == []
    effects = table.receive(answer(request, 100), UDP, now=0.2)
    assert names(effects) == ["got 100", "CANCEL"]
    assert isinstance(effects[1], Transmit)
    cancel = effects[1].message
    assert isinstance(cancel, Request)
    assert cancel.via.branch == request.via.branch
    assert table.receive(answer(cancel, 200), UDP, now=0.3) == []
    assert names(table.receive(answer(request, 487), UDP, now=0.4)) == ["ACK", "got 487"]
    run_out(table)
    assert is_empty(table)


def test_a_cancel_goes_out_at_once_while_it_rings_and_only_once() -> None:
    table = new_table()
    invite = sent(table)
    table.receive(answer(invite.request, 180), UDP, now=0.1)
    effects = table.cancel(invite, now=1.0, headers=[("Reason", "SIP;cause=200")])
    assert names(effects) == ["CANCEL"]
    assert isinstance(effects[0], Transmit)
    assert effects[0].message.headers.get("Reason") == "SIP;cause=200"
    assert table.cancel(invite, now=1.1) == []


def test_a_lost_cancel_is_resent_and_an_invite_that_never_ends_is_given_up() -> None:
    table = new_table()
    invite = sent(table)
    table.receive(answer(invite.request, 180), UDP, now=0.0)
    table.cancel(invite, now=0.0)
    log = run_out(table)
    assert [name for _, name in log].count("CANCEL") == 10
    assert [(at, name) for at, name in log if name != "CANCEL"] == [(32.0, "timed out")]
    assert is_empty(table)


def test_only_an_invite_is_ever_cancelled() -> None:
    table = new_table()
    assert table.cancel(sent(table, "OPTIONS"), now=0.1) == []


def test_a_2xx_that_crosses_the_cancel_is_delivered() -> None:
    table = new_table()
    invite = sent(table)
    request = invite.request
    table.cancel(invite, now=0.1)
    assert names(table.receive(answer(request, 200), UDP, now=0.2)) == ["got 200"]


# -- transport failures (RFC 3261 §17.1.4, §18.2.2) --------------------------------------------------------------------


def test_an_unreachable_address_fails_what_waits_for_it_and_nothing_else() -> None:
    table = new_table()
    elsewhere = UDP._replace(remote=Address("203.0.113.5", 5060))
    waiting, ringing, other = sent(table), sent(table), sent(table, flow=elsewhere)
    table.receive(answer(ringing.request, 180), UDP, now=0.1)
    assert list(table._exposed[UDP.remote]) == [waiting]
    assert table.transport_failed(UDP, now=0.2) == [ClientTransportFailed(waiting)]
    assert table.transport_failed(UDP, now=0.3) == []
    assert table.live_clients == 2
    assert list(table._exposed) == [elsewhere.remote]
    assert table.transport_failed(other, now=0.4) == [ClientTransportFailed(other)]


def test_a_lost_connection_fails_its_requests_also_those_that_were_sent_before_it_was_there() -> None:
    table = new_table()
    before, by_it = sent(table, flow=TCP._replace(connection=0)), sent(table, flow=TCP)
    by_another = sent(table, flow=TCP._replace(connection=8))
    assert table.transport_failed(TCP, now=0.1) == [ClientTransportFailed(before), ClientTransportFailed(by_it)]
    assert table.live_clients == 1
    assert by_another.state.name == "CALLING"


def test_what_fails_to_reach_one_tls_peer_fails_no_request_to_another_at_its_address() -> None:
    table = new_table()
    tls = Flow(Transport.TLS, HERE, THERE, peer=TlsPeer(("one.test",)))
    one, other = sent(table, flow=tls), sent(table, flow=tls._replace(peer=TlsPeer(("other.test",))))
    assert table.transport_failed(tls, now=0.1) == [ClientTransportFailed(one)]
    assert other.state.name == "CALLING"


def test_a_connection_lost_before_the_response_is_replaced_by_one_to_the_address_in_via() -> None:
    table = new_table()
    invite = served(table, make_request(via="SIP/2.0/TCP 10.0.0.3:5080;branch=z9hG4bK1"), TCP)
    assert table.transport_failed(TCP, now=0.1) == []
    effects = table.respond(invite, invite.request.response(180, to_tag="us"), now=0.2)
    assert isinstance(effects[0], Transmit)
    anew = effects[0].flow
    assert anew == Flow(Transport.TCP, HERE, Address(THERE.host, 5080), connection=0)
    assert table.transport_failed(anew, now=0.3) == []
    assert is_empty(table)


def test_a_browser_cannot_be_connected_to() -> None:
    table = new_table()
    ws = TCP._replace(transport=Transport.WS)
    served(table, make_request(via="SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK1"), ws)
    table.transport_failed(ws, now=0.1)
    assert is_empty(table)


def test_the_failure_of_a_cancel_stays_inside() -> None:
    table = new_table()
    invite = sent(table)
    table.receive(answer(invite.request, 180), UDP, now=0.1)
    table.cancel(invite, now=0.2)
    assert table.transport_failed(UDP, now=0.3) == []


# -- book-keeping ------------------------------------------------------------------------------------------------------


def test_the_counters_tell_what_happened() -> None:
    table = new_table()
    invite = served(table, make_request())
    table.trying(invite, now=0.0)
    table.receive(make_request(), UDP, now=0.5)
    ok = invite.request.response(200, to_tag="us")
    table.respond(invite, ok, now=0.6)
    table.respond(invite, ok, now=1.1)
    table.receive(make_request("JUMP"), UDP, now=2.0)
    table.receive(answer(sent(table, "BYE").request, 200), UDP, now=2.0)
    sent(table, "OPTIONS", now=2.0)
    run_out(table)
    counters = table.counters
    assert {method: number for method, number in counters.requests_received.items() if number} == {
        "INVITE": 2, "other": 1}
    assert {method: number for method, number in counters.requests_sent.items() if number} == {"BYE": 1, "OPTIONS": 1}
    assert counters.responses_sent == [0, 1, 1, 0, 0, 0, 0]
    assert counters.responses_received == [0, 0, 1, 0, 0, 0, 0]
    assert counters.retransmissions_absorbed == 1
    assert counters.retransmissions_sent == 1 + 1 + 10         # the 100, the 200, the OPTIONS
    assert counters.timeouts == 1


def test_each_kind_of_time_out_is_counted() -> None:
    table = new_table()
    unanswered, cancelled, refused = sent(table), sent(table), served(table, make_request())
    sent(table, "OPTIONS")
    table.receive(answer(cancelled.request, 180), UDP, now=0.0)
    table.cancel(cancelled, now=0.0)
    table.respond(refused, refused.request.response(486, to_tag="us"), now=0.0)
    assert unanswered.state is ClientState.CALLING
    run_out(table)
    assert table.counters.timeouts == 5             # timers B, CANCELLED, H, and F twice: OPTIONS and CANCEL


def test_repeated_responses_are_counted_as_absorbed() -> None:
    table = new_table()
    bye, invite = sent(table, "BYE"), sent(table)
    final, refusal = answer(bye.request, 200), answer(invite.request, 486)
    for _ in range(2):
        table.receive(final, UDP, now=0.1)
        table.receive(refusal, UDP, now=0.1)
    assert table.counters.retransmissions_absorbed == 2
    assert table.counters.retransmissions_sent == 1     # the ACK


def test_transactions_leave_no_work_to_the_garbage_collector() -> None:
    table = new_table()
    gc.collect()
    gc.disable()
    try:
        for status in (200, 486):
            invite = make_request(via=table.new_via(UDP))
            table.send_request(invite, UDP, now=0.0)
            table.receive(answer(invite, status), UDP, now=0.0)
            transaction = served(table, make_request(call_id=str(status), via=f"{OLD_VIA};branch=z9hG4bK{status}"))
            table.respond(transaction, transaction.request.response(status, to_tag="us"), now=0.0)
        table.send_request(make_request("BYE", via=table.new_via(UDP)), UDP, now=0.0)
        del invite, transaction
        run_out(table)
        assert is_empty(table)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_late_word_of_the_core_does_not_touch_the_namesake_of_a_transaction_that_is_over() -> None:
    table = new_table()
    first = served(table, make_request("OPTIONS"), TCP)
    response = first.request.response(200)
    table.respond(first, response, now=0.0)
    second = served(table, make_request("OPTIONS"), TCP)
    assert table.respond(first, response, now=0.1) == []
    assert table.live_servers == 1
    assert table.respond(second, response, now=0.2) == [Transmit(response, TCP)]


def test_nothing_is_left_of_a_whole_call() -> None:
    table = new_table()
    invite = served(table, make_request())
    table.trying(invite, now=0.0)
    table.respond(invite, invite.request.response(200, to_tag="us"), now=1.0)
    table.receive(make_request("ACK", via=f"{OLD_VIA};branch=z9hG4bK-2", to_tag="us"), UDP, now=1.1)
    bye = served(table, make_request("BYE", via=f"{OLD_VIA};branch=z9hG4bK-3", to_tag="us", cseq=2), now=9.0)
    table.respond(bye, bye.request.response(200), now=9.0)
    assert table.next_timeout is not None
    run_out(table)
    assert is_empty(table)
    assert table.next_timeout is None
