"""Many calls at once, and scanners beside them."""

from __future__ import annotations

import asyncio

import pytest

from b2bua.cdr import Disposition
from b2bua.sip.effects import Address
from tests.support.office import DID, SERVER, Office, faultless_office
from tests.support.phone import Answers, Phone

MANY = 80                                  # below max_calls of a client


@pytest.fixture
def office():
    return faultless_office()


async def test_many_calls_at_once_each_have_their_own_end(office: Office) -> None:
    boris = await office.phone("102", Answers(after=1.0))
    calls = []
    for number in range(MANY):
        calls.append(office.trunk.call(DID, as_=f"+791612300{number:02}"))
        await asyncio.sleep(0.02)
    for call in calls:
        await call.answered.wait()
    assert len(office.pbx.live_calls()) == MANY
    for call in calls[::2]:
        call.hang_up()
    for call in boris.calls[1::2]:
        call.hang_up()
    await office.record(MANY)
    assert {record.disposition for record in office.books.records} == {Disposition.ANSWERED}
    assert len({record.caller for record in office.books.records}) == MANY
    assert {record.caller: record.ended_by.value for record in office.books.records} == {
        f"+791612300{number:02}": ("callee" if number % 2 else "caller") for number in range(MANY)}
    await office.all_quiet()


async def test_a_scanner_gets_silence_and_calls_go_on(office: Office) -> None:
    await office.phone("102", Answers(after=1.0))
    scanner = Phone("x", SERVER, password="guess", seed=6).on(office.network, Address("10.9.9.8", 5060))
    statuses = []
    for number in range(40):
        scanner.user = f"{number:03}"
        statuses.append((await scanner.register()).status)
    assert statuses[0] == 401
    assert statuses[-1] == 408
    banned = [ban for ban in office.pbx.bans() if "10.9.9.8" in str(ban)]
    assert banned
    call = office.trunk.call(DID, as_="+79161234567")
    await call.answered.wait()
    call.hang_up()
    assert (await office.record()).disposition is Disposition.ANSWERED
    scanner.close()
    await office.all_quiet()
