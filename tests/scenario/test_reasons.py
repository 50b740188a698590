"""Why one side ended it is told the other side, and the record (RFC 3326, RFC 6432)."""

from __future__ import annotations

import asyncio

import pytest

from b2bua.cdr import CallRecord, Disposition, EndedBy
from tests.support.office import DID, Office, faultless_office
from tests.support.phone import Answers, Phone, PhoneCall, Rejects, Rings

IVAN, MARIA = "+79161234567", "+79265554433"
CLEARING = 'Q.850;cause=31;text="Leitung <b>weg</b>"'
ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'


@pytest.fixture
def office():
    return faultless_office()


async def talking(office: Office) -> tuple[PhoneCall, PhoneCall]:
    boris = await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    await asyncio.sleep(5)
    return call, boris.calls[0]


@pytest.mark.parametrize("by", EndedBy)
async def test_the_reason_of_a_bye_is_that_of_the_other(office: Office, by: EndedBy) -> None:
    caller, callee = await talking(office)
    if by is EndedBy.SWITCH:
        await office.pbx.drain(0)
        await callee.over.wait()
        assert (caller.why, callee.why, (await office.record()).cause) == ("", "", None)
        return
    leaving, other = (caller, callee) if by is EndedBy.CALLER else (callee, caller)
    leaving.hang_up(("Reason", f"{CLEARING}, X.int;reasoncode=0x0"))
    await other.over.wait()
    assert other.why == CLEARING
    record = await office.record()
    assert (record.ended_by, record.cause) == (by, 31)
    assert f'{by.value} said: Q.850 31, normal, unspecified ("Leitung <b>weg</b>")' in record.why
    await office.all_quiet()


async def test_without_a_reason_none_is_told(office: Office) -> None:
    caller, callee = await talking(office)
    caller.hang_up()
    await callee.over.wait()
    assert callee.why == ""
    assert (await office.record()).cause is None


@pytest.mark.parametrize(("reason", "cause"), [(ELSEWHERE, 16), (CLEARING, 31), ("", 16)])
async def test_the_reason_of_a_cancel_is_that_of_ours(office: Office, reason: str, cause: int) -> None:
    boris = await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.rang.wait()
    call.hang_up(*([("Reason", reason)] if reason else []))
    record = await office.record()
    assert boris.calls[0].why == reason
    assert (record.disposition, record.status, record.cause) == (Disposition.ABANDONED, 487, cause)
    await office.all_quiet()


async def test_a_200_that_crosses_the_cancel_is_hung_up_for_the_same_reason(office: Office) -> None:
    boris = await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.rang.wait()
    boris.calls[0].answer()
    call.hang_up(("Reason", CLEARING))
    await boris.calls[0].over.wait()
    assert boris.calls[0].why == CLEARING
    await office.record()
    await office.all_quiet()


async def test_the_losers_of_a_fork_learn_that_somebody_has_answered(office: Office) -> None:
    one, other = await office.phone("102", Rings()), await office.phone("102", Answers(after=2), host="10.0.3.1")
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    await one.calls[0].over.wait()
    assert one.calls[0].why == ELSEWHERE
    call.hang_up()
    await other.calls[0].over.wait()
    assert other.calls[0].why == ""
    await office.record()


async def test_whom_nobody_wants_any_more_learns_no_reason(office: Office) -> None:
    boris = await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    assert (call.status, call.why, boris.calls[0].why) == (480, "", "")
    assert (await office.record()).cause == 18


async def refused(office: Office, number: str = MARIA) -> tuple[Phone, CallRecord]:
    anna = await office.phone("101")
    call = anna.call(number)
    await call.over.wait()
    return anna, await office.record()


@pytest.mark.parametrize(("status", "reason", "told", "cause"), [
    (486, "Q.850;cause=17", 486, 17),
    (486, "", 486, 17),
    (404, 'Q.850;cause=1;text="no such number"', 404, 1),
    (404, "", 404, 1),
    (480, "Q.850;cause=20", 480, 20),
    (503, "Q.850;cause=34", 500, 34),
    (503, "", 500, 41),
    (603, "SIP;cause=603", 603, 21),
    (499, "nonsense", 499, None),
])
async def test_the_reason_of_a_refusal_is_that_of_ours(
    office: Office, status: int, reason: str, told: int, cause: int | None
) -> None:
    office.trunk.does = Rejects(status, headers=(("Reason", reason),) if reason else ())
    anna, record = await refused(office)
    assert (anna.calls[0].status, anna.calls[0].why) == (told, reason if ";" in reason else "")
    assert (record.status, record.cause) == (told, cause)
    if reason == "Q.850;cause=34":
        assert "operator answered 503: Q.850 34, no circuit available" in record.why
    await office.all_quiet()


async def test_our_own_refusal_has_the_cause_of_its_status(office: Office) -> None:
    anna, record = await refused(office, "nobody")
    assert (record.status, record.cause, anna.calls[0].why) == (404, 1, "")


async def test_whom_a_transferor_rings_learns_why_the_other_has_left(office: Office) -> None:
    caller, callee = await talking(office)
    carol = await office.phone("103", Rings())
    callee.refer("<sip:103@10.0.0.1>")
    target = await carol.was_called()
    await asyncio.sleep(1)
    caller.hang_up(("Reason", CLEARING))
    await target.over.wait()
    await callee.over.wait()
    assert (target.why, callee.why) == (CLEARING, CLEARING)
    assert (await office.record()).cause == 31
    await office.all_quiet()
