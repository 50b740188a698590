"""Where a call goes that nobody took: by cause, from numbers, extensions and groups."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from b2bua.calls.ring import MAX_MOVES
from b2bua.cdr import Direction, Disposition, EndReason
from b2bua.directory import Hours, Strategy
from tests.support.office import DID, Office, open_office
from tests.support.phone import Answers, Rejects, Rings

IVAN = "+79161234567"
MOBILE = "+79160000001"


@pytest.fixture
def office():
    return open_office()


async def sends(office: Office, **ways: str) -> None:
    """The number's calls go to 102, and from there where it says."""
    office.change(numbers=(replace(office.books.directory.numbers[0], **ways),))  # type: ignore[arg-type]
    await office.pbx.settings_changed()


async def test_a_call_that_is_not_answered_goes_on_after_its_time(office: Office) -> None:
    await sends(office, on_no_answer="103")
    boris, vera = await office.phone("102", Rings()), await office.phone("103", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    call.hang_up()
    record = await office.record()
    assert boris.calls[0].ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    assert boris.calls[0].rang_at is not None
    assert vera.calls[0].rang_at is not None
    assert vera.calls[0].rang_at - boris.calls[0].rang_at == pytest.approx(20, abs=0.2)
    assert record.extension == "103"
    assert "102 was not answered: on to 103" in record.why
    await office.all_quiet()


@pytest.mark.parametrize("status", [486, 600, 603])
async def test_a_busy_phone_sends_the_call_on_at_once(office: Office, status: int) -> None:
    await sends(office, on_busy="103", on_no_answer="101")
    await office.phone("102", Rejects(status))
    anna, vera = await office.phone("101"), await office.phone("103", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    assert call.answered_at is not None
    call.hang_up()
    record = await office.record()
    assert (len(anna.calls), len(vera.calls), record.extension) == (0, 1, "103")
    assert "102 is busy: on to 103" in record.why
    await office.all_quiet()


async def test_without_a_phone_the_call_begins_where_it_goes_on(office: Office) -> None:
    await sends(office, on_unregistered="600")
    await office.phone("103", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    call.hang_up()
    record = await office.record()
    assert record.extension == "103"
    assert f"{DID} goes to 102; no phone of 102 is registered: on to 600" in record.why
    await office.all_quiet()


async def test_a_phone_that_takes_nothing_counts_as_unregistered(office: Office) -> None:
    await sends(office, on_unregistered="103", on_busy="101")
    await office.phone("102", Rejects(404))
    await office.phone("103", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    call.hang_up()
    record = await office.record()
    assert record.extension == "103"
    assert "102 cannot be reached: on to 103" in record.why
    await office.all_quiet()


async def test_a_cause_without_a_way_ends_the_call_as_ever(office: Office) -> None:
    await sends(office, on_no_answer="103")
    await office.phone("102", Rejects(486))
    vera = await office.phone("103")
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (call.status, record.disposition, vera.calls) == (486, Disposition.BUSY, [])
    await office.all_quiet()


async def test_the_caller_hears_what_the_last_destination_said(office: Office) -> None:
    await sends(office, on_busy="103")
    await office.phone("102", Rejects(486))
    await office.phone("103", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (call.status, record.disposition, record.reason) == (
        480, Disposition.NO_ANSWER, EndReason.NOBODY_ANSWERED)
    assert record.rang == ("103",)
    await office.all_quiet()


async def test_a_colleagues_call_goes_on_as_the_extension_says(office: Office) -> None:
    extensions = tuple(replace(one, ring_seconds=5, on_no_answer="600") if one.number == "102" else one
                       for one in office.books.directory.extensions)
    office.change(extensions=extensions)
    await office.pbx.settings_changed()
    anna, boris = await office.phone("101"), await office.phone("102", Rings())
    vera = await office.phone("103", Answers(after=1.0))
    call = anna.call("102")
    await call.answered.wait()
    assert call.rang_at is not None
    assert vera.calls[0].rang_at is not None
    assert vera.calls[0].rang_at - call.rang_at == pytest.approx(5, abs=0.2)
    assert len(boris.calls) == 2           # once alone, once in the group
    call.hang_up()
    assert (await office.record()).extension == "103"
    await office.all_quiet()


async def test_the_caller_gives_up_where_the_call_has_gone_on_to(office: Office) -> None:
    await sends(office, on_busy="103")
    await office.phone("102", Rejects(486))
    vera = await office.phone("103", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.rang.wait()
    call.hang_up()
    assert (await office.record()).disposition is Disposition.ABANDONED
    assert vera.calls[0].ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    await office.all_quiet()


async def test_a_call_from_outside_goes_on_outside_and_counts_for_both_lines(office: Office) -> None:
    await sends(office, on_busy=MOBILE)
    await office.phone("102", Rejects(486))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    onward = office.trunk.calls[1]
    assert (onward.session.invite.uri.user, onward.caller) == (MOBILE, DID)
    trunk = replace(office.books.directory.trunks[0], max_calls=2)
    office.change(trunks=(trunk,))
    await office.pbx.settings_changed()
    second = office.trunk.call(DID, as_=IVAN)
    await second.over.wait()
    assert second.status == 503            # the line carries two already
    await office.record()
    onward.hang_up()
    await call.over.wait()
    record = await office.record(2)
    assert (record.direction, record.trunk, record.disposition) == (
        Direction.INBOUND, "operator", Disposition.ANSWERED)
    assert (record.caller, record.dialled, record.extension) == (IVAN, DID, None)
    assert f"102 is busy: on to {MOBILE}" in record.why
    third = office.trunk.call(DID, as_=IVAN)
    await third.rang.wait()                # and now none
    third.hang_up()
    await office.record(3)
    await office.all_quiet()


async def test_who_forwards_all_calls_is_not_rung(office: Office) -> None:
    office.change(extensions=tuple(replace(one, forward_always="103") if one.number == "102" else one
                                   for one in office.books.directory.extensions))
    await office.pbx.settings_changed()
    boris, vera = await office.phone("102"), await office.phone("103", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    call.hang_up()
    record = await office.record()
    assert (len(boris.calls), len(vera.calls), record.extension) == (0, 1, "103")
    assert f"{DID} goes to 102; 102 forwards all calls: on to 103" in record.why
    await office.all_quiet()


async def test_a_full_line_does_not_take_a_call_that_goes_on(office: Office) -> None:
    await sends(office, on_unregistered=MOBILE)
    office.change(trunks=(replace(office.books.directory.trunks[0], max_calls=1),))
    await office.pbx.settings_changed()
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (record.reason, len(office.trunk.calls)) == (EndReason.LIMIT_REACHED, 1)
    assert "operator carries 1 calls already (max_calls)" in record.why
    await office.all_quiet()


async def test_a_colleagues_call_that_goes_on_outside_stays_an_internal_one(office: Office) -> None:
    office.change(extensions=tuple(replace(one, on_unregistered=MOBILE) if one.number == "102" else one
                                   for one in office.books.directory.extensions))
    await office.pbx.settings_changed()
    anna = await office.phone("101")
    call = anna.call("102")
    await call.answered.wait()
    assert office.trunk.calls[0].session.invite.uri.user == MOBILE
    call.hang_up()
    record = await office.record()
    assert (record.direction, record.dialled, record.trunk) == (Direction.INTERNAL, "102", "operator")
    assert office.books.writes == []
    await office.all_quiet()


async def allow_outside(office: Office) -> None:
    clients = tuple(replace(one, forward_outside=True) for one in office.books.directory.clients)
    office.change(clients=clients)
    await office.pbx.settings_changed()


@pytest.mark.parametrize("status", [301, 302])
async def test_a_phone_sends_a_call_on_to_a_colleague(office: Office, status: int) -> None:
    await office.phone("102", Rejects(status, contact="<sip:103@10.0.0.1>"))
    await office.phone("103", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    call.hang_up()
    record = await office.record()
    assert (record.extension, record.rang) == ("103", ("103",))
    assert "102 sends the call on to 103" in record.why
    await office.all_quiet()


async def test_a_phone_sends_a_call_outside_only_where_that_is_allowed(office: Office) -> None:
    await office.phone("102", Rejects(302, contact=f"<sip:{MOBILE}@10.0.0.1>"))
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (call.status, len(office.trunk.calls)) == (480, 1)
    why = f"102 sends the call on to {MOBILE}: extensions may not send calls outside (forward_outside)"
    assert why in record.why
    office.change(clients=tuple(replace(one, caller_id=DID) for one in office.books.directory.clients))
    await allow_outside(office)
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    onward = office.trunk.calls[-1].session.invite
    assert onward.uri.user == MOBILE
    assert onward.headers.get("Diversion") == f"<sip:{DID}@10.0.1.1>;reason=deflection;counter=1"
    call.hang_up()
    assert (await office.record(2)).direction is Direction.INBOUND
    await office.all_quiet()


async def test_a_way_outside_that_led_nowhere_gives_its_line_back(office: Office) -> None:
    group = replace(office.books.directory.groups[0], strategy=Strategy.IN_TURN, members=("102", "103"))
    office.change(trunks=(replace(office.books.directory.trunks[0], max_calls=2),), groups=(group,))
    await allow_outside(office)
    await sends(office, destination="600")
    office.trunk.does = Rejects(486)
    await office.phone("102", Rejects(302, contact=f"<sip:{MOBILE}@10.0.0.1>"))
    await office.phone("103", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()             # by 103, after the mobile was busy
    assert [one.session.invite.uri.user for one in office.trunk.calls[1:]] == [MOBILE]
    second = office.trunk.call(DID, as_="+79165550000")
    await second.answered.wait()
    for talk in (call, second):
        talk.hang_up()
    await office.record(2)
    await office.all_quiet()


async def test_phones_that_send_a_call_round_and_round_are_stopped(office: Office) -> None:
    boris = await office.phone("102", Rejects(302, contact="<sip:103@10.0.0.1>"))
    vera = await office.phone("103", Rejects(302, contact="<sip:102@10.0.0.1>"))
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (call.status, len(boris.calls) + len(vera.calls)) == (480, 1 + MAX_MOVES)
    assert f"103 sends the call on, and it has been sent on {MAX_MOVES} times already" in record.why
    await office.all_quiet()


async def test_a_group_whose_phones_send_calls_back_to_it_rings_no_more_than_a_few_times(office: Office) -> None:
    group = replace(office.books.directory.groups[0], strategy=Strategy.IN_TURN)
    office.change(groups=(group,))
    await office.pbx.settings_changed()
    back = Rejects(302, contact="<sip:600@10.0.0.1>")
    anna, boris, vera = await office.phone("101"), await office.phone("102", back), await office.phone("103", back)
    call = anna.call("600")
    await call.over.wait()
    assert len(boris.calls) + len(vera.calls) == 2 * (1 + MAX_MOVES)
    await office.record()
    await office.all_quiet()


@pytest.mark.parametrize("contact", ["", "*", "<sip:10.0.0.1>", "<tel:>", "<<<", "<sip:nobody@10.0.0.1>"])
async def test_a_senseless_redirection_is_a_refusal(office: Office, contact: str) -> None:
    await office.phone("102", Rejects(302, contact=contact))
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    assert call.status == 480
    await office.record()
    await office.all_quiet()


@pytest.mark.parametrize(
    ("ways", "does", "reason"),
    [
        ({"on_busy": MOBILE}, Rejects(486), "user-busy"),
        ({"on_no_answer": MOBILE, "on_busy": MOBILE}, Rings(), "no-answer"),
        ({"on_unregistered": MOBILE}, None, "unavailable"),
    ],
)
async def test_the_trunk_learns_whose_call_it_was(
    office: Office, ways: dict[str, str], does: Rejects | Rings | None, reason: str
) -> None:
    await sends(office, **ways)
    if does is not None:
        await office.phone("102", does)
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    diversion = office.trunk.calls[1].session.invite.headers.get("Diversion")
    assert diversion == f"<sip:{DID}@10.0.1.1>;reason={reason};counter=1"
    call.hang_up()
    await office.record()
    await office.all_quiet()


async def test_when_the_office_closes_calls_go_elsewhere(office: Office) -> None:
    office.crm.knows(IVAN, "Иван Петров", responsible=77)
    hours = Hours("UTC", ("mon 08:00-09:30",), "103")          # it is Monday, nine
    office.change(numbers=(replace(office.books.directory.numbers[0], hours=hours),))
    await office.pbx.settings_changed()
    anna, vera = await office.phone("101"), await office.phone("103")
    for _ in range(2):
        call = office.trunk.call(DID, as_=IVAN)
        await call.answered.wait()
        call.hang_up()
        await call.over.wait()
        await asyncio.sleep(1800)
    record = await office.record(2)
    assert (len(anna.calls), len(vera.calls)) == (1, 1)
    assert f"{DID} is closed, mon 09:30 in UTC" in record.why
    assert f"{DID} goes to 103" in record.why
    await office.all_quiet()
