"""Calls from addresses of no trunk and no registered phone: challenged, refused or left alone, and explained."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from b2bua.calls.switchboard import Limits
from b2bua.sip.effects import Address
from b2bua.ua.strangers import TOLD_WINDOW, UnknownCalls
from tests.support.office import DID, SERVER, Office, open_office
from tests.support.phone import Phone

STRANGER = Address("10.0.9.9", 5060)


@pytest.fixture
def policy() -> UnknownCalls:
    return UnknownCalls.CHALLENGE


@pytest.fixture
def office(policy: UnknownCalls) -> AbstractAsyncContextManager[Office]:
    return open_office(limits=Limits(unknown_calls=policy))


@pytest.mark.parametrize(("policy", "statuses", "counted"), [
    (UnknownCalls.CHALLENGE, [401], "unauthenticated"),
    (UnknownCalls.REFUSE, [403], "unknown_source"),
    (UnknownCalls.SILENCE, [], "unknown_source"),
])
async def test_a_call_from_nowhere_known_is_treated_as_set_and_explained(
    office: Office, policy: UnknownCalls, statuses: list[int], counted: str
) -> None:
    stranger = Phone("x", SERVER, seed=5).on(office.network, STRANGER)
    with capture_logs() as logs:
        for _ in range(3):
            call = stranger.call(DID, as_="+79161234567")
            await call.over.wait()
            assert call.status in (*statuses, None)
    answers = [sent for sent in office.network.log if sent.target == STRANGER]
    asked = [sent for sent in office.network.log if sent.source == STRANGER]
    assert {int(sent.data.split()[1]) for sent in answers} == set(statuses)
    assert sum(len(sent.data) for sent in answers) <= sum(len(sent.data) for sent in asked)
    assert office.pbx.counters.refused[counted] >= 3
    assert office.agent.core.session_count == office.agent.leg_count == 0
    told, *again = [line for line in logs if line["event"] == "call from an unknown address"]
    assert told["why"] == f"number {DID} belongs to acme, whose operator (acme) has 10.0.1.0/24; " \
                          "the call came from 10.0.9.9"
    assert told["done"] == policy.value
    [shown] = office.pbx.turned_away()
    assert (shown.source, shown.dialled, shown.why, shown.done) == (
        "10.0.9.9", DID, told["why"], policy.value)
    assert len(again) <= (asyncio.get_running_loop().time() // TOLD_WINDOW)
    stranger.close()


@pytest.mark.parametrize("policy", UnknownCalls)
async def test_registered_phones_and_trunks_call_whatever_the_setting(office: Office) -> None:
    anna = await office.phone("101")
    await office.phone("102")
    call = anna.call("102")
    await call.answered.wait()
    call.hang_up()
    inbound = office.trunk.call(DID, as_="+79161234567")
    await inbound.answered.wait()
    inbound.hang_up()
    await office.record(2)


async def test_a_number_of_another_trunk_is_said_so(office: Office) -> None:
    books = office.books.directory
    office.change(trunks=(*books.trunks, replace(books.trunks[0], name="spare", host="10.0.8.1", networks=())),
                  numbers=(replace(books.numbers[0], trunk="spare"),))
    await office.pbx.settings_changed()
    call = office.trunk.call(DID, as_="+79161234567")
    await call.over.wait()
    record = await office.record()
    assert (call.status, record.why) == (404, (f"{DID} belongs to trunk spare; the call came by operator",))
