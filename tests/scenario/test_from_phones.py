"""Calls that employees make: to colleagues, and out through the trunk."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from b2bua.cdr import Direction, Disposition, EndedBy, EndReason
from b2bua.sip.effects import Address, Transport
from tests.support.office import DID, OPERATOR, SERVER, Office, open_office
from tests.support.phone import Answers, Phone, Rejects, Rings

OUTSIDE = "+79265554433"


@pytest.fixture
def office():
    return open_office()


async def test_a_call_out_is_challenged_placed_with_the_offices_number_and_reported(office: Office) -> None:
    anna = await office.phone("101")
    call = anna.call("89265554433")
    await call.answered.wait()
    await asyncio.sleep(12)
    call.hang_up()
    record = await office.record()
    outside = office.trunk.calls[0]
    assert call.ladder() == ["INVITE", "401", "ACK", "INVITE", "100", "180", "200", "ACK", "BYE", "200"]
    assert outside.caller == DID
    assert outside.session.invite.uri.user == OUTSIDE
    assert (record.direction, record.trunk) == (Direction.OUTBOUND, "operator")
    assert (record.caller, record.dialled) == ("101", OUTSIDE)
    assert (record.disposition, record.extension, record.talk_seconds) == (Disposition.ANSWERED, "101", 12)
    assert [(write.phone, write.user) for write in office.books.writes] == [(OUTSIDE, 77)]
    assert office.crm.asked == []
    await office.all_quiet()


async def test_an_internal_call_is_none_of_the_crms_business(office: Office) -> None:
    anna, boris = await office.phone("101"), await office.phone("102", Answers(after=1.0))
    call = anna.call("102")
    await call.answered.wait()
    await asyncio.sleep(5)
    boris.calls[0].hang_up()
    record = await office.record()
    assert boris.calls[0].shown == "Employee 101"
    assert (record.direction, record.extension, record.ended_by) == (Direction.INTERNAL, "102", EndedBy.CALLEE)
    assert office.books.writes == []
    assert office.crm.asked == []
    assert office.crm.pop_ups == []
    await office.all_quiet()


async def test_a_group_rings_together_and_one_answers(office: Office) -> None:
    anna = await office.phone("101")
    boris = await office.phone("102", Rings())
    await office.phone("103", Answers(after=2.0))
    call = anna.call("600")
    await call.answered.wait()
    call.hang_up()
    record = await office.record()
    assert record.extension == "103"
    assert record.rang == ("102", "103")
    assert boris.calls[0].ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    await office.all_quiet()


async def test_a_decline_speaks_for_one_person_only(office: Office) -> None:
    anna = await office.phone("101")
    await office.phone("102", Rejects(603))
    await office.phone("103", Answers(after=2.0))
    call = anna.call("600")
    await call.answered.wait()
    call.hang_up()
    assert (await office.record()).extension == "103"


@pytest.mark.parametrize(("dialled", "status"), [("999", 404), ("102", 480), ("abc", 404)])
async def test_what_cannot_be_reached_is_told_at_once(office: Office, dialled: str, status: int) -> None:
    anna = await office.phone("101")
    office.change(trunks=())
    await office.pbx.settings_changed()
    call = anna.call(dialled)
    await call.over.wait()
    assert call.status == status
    assert (await office.record()).disposition in (Disposition.UNREACHABLE, Disposition.REFUSED)


async def test_an_outside_number_that_is_busy(office: Office) -> None:
    office.trunk.does = Rejects(486)
    anna = await office.phone("101")
    call = anna.call(OUTSIDE)
    await call.over.wait()
    assert call.status == 486
    record = await office.record()
    assert (record.disposition, record.ended_by) == (Disposition.BUSY, EndedBy.CALLEE)


async def test_the_caller_hangs_up_before_the_outside_answers(office: Office) -> None:
    office.trunk.does = Rings()
    anna = await office.phone("101")
    call = anna.call(OUTSIDE)
    await call.rang.wait()
    call.hang_up()
    record = await office.record()
    assert record.disposition is Disposition.ABANDONED
    assert office.trunk.calls[0].ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    await office.all_quiet()


async def test_a_wrong_password_is_refused_slower_each_time_and_then_not_at_all(office: Office) -> None:
    thief = Phone("101", SERVER, password="guess", seed=5).on(office.network, Address("10.9.9.9", 5060))
    statuses = []
    loop = asyncio.get_running_loop()
    delays = []
    for _ in range(4):
        began = loop.time()
        response = await thief.register()
        statuses.append(response.status)
        delays.append(loop.time() - began)
    assert set(statuses) <= {401, 408}
    assert delays == sorted(delays)
    assert delays[-1] > delays[0]
    thief.close()


async def test_a_strangers_options_get_no_answer(office: Office) -> None:
    stranger = Phone("x", SERVER, seed=6).on(office.network, Address("10.9.9.8", 5060))
    response, _ = await stranger._ask("OPTIONS", (), "scan")
    assert response.status == 408
    assert not any(carried.target.host == "10.9.9.8" for carried in office.network.log)
    stranger.close()


async def test_the_clients_call_limit_holds(office: Office) -> None:
    client = replace(office.books.directory.clients[0], max_calls=1)
    office.change(clients=(client,))
    await office.pbx.settings_changed()
    await office.phone("102", Answers(after=1.0))
    first = office.trunk.call(DID, as_="+79161234567")
    await first.answered.wait()
    second = office.trunk.call(DID, as_="+79167654321")
    await second.over.wait()
    assert second.status == 503
    first.hang_up()
    await office.record(2)
    refused = [record for record in office.books.records if record.reason is EndReason.LIMIT_REACHED]
    assert "max_calls" in refused[0].why[-1]
    await office.all_quiet()


async def test_a_drain_lets_calls_end_and_refuses_new_ones(office: Office) -> None:
    await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_="+79161234567")
    await call.answered.wait()
    draining = asyncio.get_running_loop().create_task(office.pbx.drain(60))
    await asyncio.sleep(1)
    refused = office.trunk.call(DID, as_="+79167654321")
    await refused.over.wait()
    assert refused.status == 503
    await asyncio.sleep(10)
    call.hang_up()
    await draining
    assert (await office.record(2)).reason is EndReason.HUNG_UP
    turned_away = office.books.records[0]  # somebody has called the office: that must not get lost
    assert (turned_away.caller, turned_away.disposition, turned_away.reason) == (
        "+79167654321", Disposition.REFUSED, EndReason.SHUTDOWN)


async def test_what_is_still_up_after_the_drain_is_hung_up_and_recorded_so(office: Office) -> None:
    boris = await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_="+79161234567")
    await call.answered.wait()
    await office.pbx.drain(5)
    record = await office.record()
    assert (record.reason, record.ended_by) == (EndReason.SHUTDOWN, EndedBy.SWITCH)
    assert record.disposition is Disposition.ANSWERED
    await asyncio.sleep(1)
    assert call.over.is_set()
    assert boris.calls[0].over.is_set()


@pytest.mark.parametrize("speaks_tcp", [True, False])
async def test_a_large_invite_goes_to_the_trunk_by_tcp_and_by_udp_where_there_is_none(
    office: Office, speaks_tcp: bool
) -> None:
    office.agent.transports[Transport.TCP] = office.network.attach(SERVER, office.agent, Transport.TCP)
    if speaks_tcp:
        office.network.attach(OPERATOR, office.trunk, Transport.TCP)
    anna = await office.phone("101")
    padding = b"".join(b"a=x-padding:%d\r\n" % number for number in range(60))
    anna.sdp = lambda direction, small=anna.sdp: small(direction) + padding  # type: ignore[method-assign]
    call = anna.call(OUTSIDE)
    await call.answered.wait()
    invites = [sent for sent in office.network.log if sent.target == OPERATOR and sent.data.startswith(b"INVITE")]
    assert b"SIP/2.0/TCP" in invites[0].data
    assert len({sent.data for sent in invites}) == (1 if speaks_tcp else 2)
    call.hang_up()
    assert (await office.record()).disposition is Disposition.ANSWERED
