"""Limits against toll fraud: who may call outside how often, whichever way, and the alarm when one is met."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from b2bua.calls.switchboard import Limits
from b2bua.cdr import Disposition, EndedBy, EndReason
from b2bua.directory import PrefixLimit
from tests.support.office import DID, Office, open_office
from tests.support.phone import Answers, Rejects, Rings

IVAN = "+79161234567"
ABROAD = "+88213300012"


@pytest.fixture
def office():
    return open_office()


@pytest.fixture
def alarms() -> Iterator[list[object]]:
    with capture_logs() as logs:
        yield logs  # type: ignore[misc]


async def limits(office: Office, *, client: dict[str, object] | None = None, **extension: object) -> None:
    directory = office.books.directory
    office.change(clients=(replace(directory.clients[0], **(client or {})),),  # type: ignore[arg-type]
                  extensions=tuple(replace(one, **extension) for one in directory.extensions))  # type: ignore[arg-type]
    await office.pbx.settings_changed()


def raised(alarms: list[dict[str, object]]) -> list[dict[str, object]]:
    return [line for line in alarms if line["event"] == "limit reached"]


async def test_an_extension_has_so_many_outgoing_calls_in_an_hour(office: Office, alarms) -> None:
    await limits(office, outgoing_per_hour=2)
    office.trunk.does = Answers(after=1.0, hangs_up_after=1.0)
    anna, boris = await office.phone("101"), await office.phone("102")
    for count in range(1, 5):
        call = anna.call(IVAN)
        await call.over.wait()
        record = await office.record(count)
        if count > 2:
            why = "101 of acme has made 2 outgoing calls within the hour (outgoing_per_hour)"
            assert (call.status, record.disposition, record.ended_by, record.reason) == (
                503, Disposition.REFUSED, EndedBy.SWITCH, EndReason.LIMIT_REACHED)
            assert why in record.why
            assert office.pbx.alarms() == [why]
    assert len(office.trunk.calls) == 2
    assert [line["log_level"] for line in raised(alarms)] == ["error"]      # once an hour, not once a call
    assert "password" in str(raised(alarms)[0]["remedy"])
    assert office.pbx.tolls.alarms.met["extension_per_hour"] == 2
    other = boris.call(IVAN)
    await other.answered.wait()            # a colleague is not held up by that
    await office.record(5)
    await asyncio.sleep(3660)
    again = anna.call(IVAN)
    await again.answered.wait()
    await office.record(6)
    assert office.pbx.alarms() == []
    await office.all_quiet()


async def test_a_client_has_so_many_outgoing_calls_in_an_hour(office: Office) -> None:
    await limits(office, client={"outgoing_per_hour": 1})
    office.trunk.does = Rejects(486)
    anna, boris = await office.phone("101"), await office.phone("102")
    for phone, status in ((anna, 486), (boris, 503)):
        call = phone.call(IVAN)
        await call.over.wait()
        assert call.status == status
    assert "acme has made 1 outgoing calls within the hour (outgoing_per_hour)" in (await office.record(2)).why
    await office.all_quiet()


@pytest.mark.parametrize("dialled", [ABROAD, "81088213300012", "0088213300012"])
async def test_a_prefix_is_refused_however_it_is_dialled(office: Office, dialled: str) -> None:
    await limits(office, client={"limits": (PrefixLimit("+882", refused=True), PrefixLimit("+", per_hour=100))})
    anna = await office.phone("101")
    call = anna.call(dialled)
    await call.over.wait()
    record = await office.record()
    assert (call.status, record.reason, office.trunk.calls) == (403, EndReason.LIMIT_REACHED, [])
    assert "acme allows no calls to +882 (limit, refused)" in record.why
    await office.all_quiet()


async def test_a_prefix_has_so_many_calls_at_once(office: Office) -> None:
    await limits(office, client={"limits": (PrefixLimit("+882", max_calls=1),)})
    office.trunk.does = Answers(after=1.0)
    anna, boris = await office.phone("101"), await office.phone("102")
    first = anna.call(ABROAD)
    await first.answered.wait()
    second = boris.call(ABROAD)
    await second.over.wait()
    assert second.status == 503
    assert "acme has 1 calls to +882 already (limit, max_calls)" in (await office.record()).why
    first.hang_up()
    await office.record(2)
    third = boris.call(ABROAD)
    await third.answered.wait()
    third.hang_up()
    await office.record(3)
    await office.all_quiet()


async def test_a_call_that_an_operator_refuses_is_no_call_there_any_more(office: Office) -> None:
    await limits(office, client={"limits": (PrefixLimit("+882", max_calls=1),)})
    office.trunk.does = Rejects(486)
    anna = await office.phone("101")
    for count in (1, 2):
        call = anna.call(ABROAD)
        await call.over.wait()
        await office.record(count)
        assert call.status == 486
    await office.all_quiet()


async def test_an_extension_makes_so_many_calls_at_once(office: Office) -> None:
    await limits(office, max_calls=1)
    anna, _ = await office.phone("101"), await office.phone("102", Rings())
    first = anna.call("102")
    await first.rang.wait()
    second = anna.call(IVAN)
    await second.over.wait()
    assert second.status == 503
    assert "101 of acme has made 1 calls already (max_calls)" in (await office.record()).why
    incoming = office.trunk.call(DID, as_=IVAN)
    await incoming.rang.wait()             # who is called has made no call
    for call in (first, incoming):
        call.hang_up()
    await office.record(3)
    await office.all_quiet()


async def test_what_a_phone_sends_on_counts_for_its_extension(office: Office) -> None:
    await limits(office, client={"forward_outside": True}, outgoing_per_hour=1)
    await office.phone("102", Rejects(302, contact="<sip:+79160000001@10.0.0.1>"))
    office.trunk.does = Answers(after=1.0)
    for count, status in ((1, 200), (2, 503)):
        call = office.trunk.call(DID, as_=IVAN)
        await (call.answered if status == 200 else call.over).wait()
        call.hang_up()
        await office.record(count)
        assert call.status == status
    await office.all_quiet()


async def test_where_a_number_goes_on_outside_counts_for_the_client(office: Office) -> None:
    await limits(office, client={"outgoing_per_hour": 0})
    number = replace(office.books.directory.numbers[0], on_busy="+79160000001")
    office.change(numbers=(number,))
    await office.pbx.settings_changed()
    await office.phone("102", Rejects(486))
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (call.status, record.reason) == (503, EndReason.LIMIT_REACHED)
    assert office.trunk.calls == [call]
    await office.all_quiet()


async def test_whom_a_transfer_leads_outside_counts_for_who_transfers(office: Office) -> None:
    await limits(office, client={"limits": (PrefixLimit("+882", refused=True),)})
    anna, boris = await office.phone("101"), await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    boris.calls[0].refer(f"<sip:{ABROAD}@10.0.0.1>")
    await asyncio.sleep(2)
    call.hang_up()
    record = await office.record()
    assert "acme allows no calls to +882 (limit, refused)" in record.why
    assert "the transfer failed (403): 102 goes on" in record.why
    assert anna.calls == []
    await office.all_quiet()


async def test_a_second_trunk_for_the_same_call_is_no_second_call(office: Office) -> None:
    await limits(office, outgoing_per_hour=1)
    trunk = office.books.directory.trunks[0]
    office.change(trunks=(trunk, replace(trunk, name="other", priority=1)))
    await office.pbx.settings_changed()
    office.trunk.does = Rejects(500)
    anna = await office.phone("101")
    call = anna.call(IVAN)
    await call.over.wait()
    assert call.status == 500
    assert len(office.trunk.calls) == 2
    await office.record()
    await office.all_quiet()


async def test_calls_for_help_are_never_limited() -> None:
    async with open_office(limits=Limits(max_calls=1)) as office:
        everything = (PrefixLimit("1", refused=True), PrefixLimit("+", refused=True))
        await limits(office, client={"outgoing_per_hour": 0, "max_calls": 1, "limits": everything},
                     outgoing_per_hour=0, max_calls=1)
        trunks = tuple(replace(trunk, max_calls=1) for trunk in office.books.directory.trunks)
        office.change(trunks=trunks)
        await office.pbx.settings_changed()
        office.trunk.does = Answers(after=1.0)
        anna = await office.phone("101")
        calls = [anna.call("112") for _ in range(3)]
        for call in calls:
            await call.answered.wait()
        for call in calls:
            call.hang_up()
        assert (await office.record(3)).disposition is Disposition.ANSWERED
        assert office.pbx.alarms() == []
        await office.all_quiet()
