"""Forwarding where the call did not ask for that extension alone: groups, and who is responsible for the caller."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from b2bua.calls.diversion import MAX_TIMES
from b2bua.cdr import Direction, Disposition, EndReason
from b2bua.directory import Strategy
from tests.support.office import DID, Office, open_office
from tests.support.phone import Answers, Rejects, Rings

IVAN = "+79161234567"
MOBILE = "+79160000001"


@pytest.fixture
def office():
    return open_office()


async def forwards(office: Office, number: str, **ways: str) -> None:
    old = office.books.directory
    office.change(
        clients=tuple(replace(one, forward_outside=True) for one in old.clients),
        extensions=tuple(replace(one, **ways) if one.number == number else one  # type: ignore[arg-type]
                         for one in old.extensions),
    )
    await office.pbx.settings_changed()


@pytest.mark.parametrize("does", [Rejects(486), Rejects(603), Rings(), Rejects(503)])
async def test_after_the_mobile_of_who_is_responsible_the_destination_rings(
    office: Office, does: Rejects | Rings
) -> None:
    office.crm.knows(IVAN, "Иван Петров", responsible=77)
    await forwards(office, "101", forward_always=MOBILE)
    office.trunk.does = does
    anna, boris = await office.phone("101"), await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    (onward,) = office.trunk.calls[1:]
    assert onward.session.invite.uri.user == MOBILE
    assert onward.session.invite.headers.get("Diversion") == f"<sip:{DID}@10.0.1.1>;reason=unconditional;counter=1"
    if isinstance(does, Rings):
        assert onward.rang_at is not None
        assert boris.calls[0].rang_at is not None
        assert boris.calls[0].rang_at - onward.rang_at == pytest.approx(20, abs=0.2)   # responsible_ring_seconds
    call.hang_up()
    record = await office.record()
    assert (anna.calls, len(boris.calls), record.extension) == ([], 1, "102")
    assert f"101 is responsible for Иван Петров; 101 forwards all calls: on to {MOBILE}" in record.why
    await office.all_quiet()


async def test_who_is_responsible_and_not_there_is_reached_where_their_calls_go(office: Office) -> None:
    office.crm.knows(IVAN, "Иван Петров", responsible=77)
    await forwards(office, "101", on_unregistered="103", on_no_answer="600")
    boris, vera = await office.phone("102", Answers(after=1.0)), await office.phone("103", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    call.hang_up()
    record = await office.record()
    assert (len(boris.calls), len(vera.calls), record.extension) == (1, 1, "102")
    assert "101 is responsible for Иван Петров; no phone of 101 is registered: on to 103" in record.why
    await office.all_quiet()


async def test_the_mobile_of_who_is_responsible_answers(office: Office) -> None:
    office.crm.knows(IVAN, "Иван Петров", responsible=77)
    await forwards(office, "101", forward_always=MOBILE)
    boris = await office.phone("102")
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    call.hang_up()
    record = await office.record()
    assert (boris.calls, record.direction, record.disposition) == ([], Direction.INBOUND, Disposition.ANSWERED)
    await office.all_quiet()


@pytest.mark.parametrize("strategy", [Strategy.TOGETHER, Strategy.IN_TURN])
async def test_a_member_that_forwards_its_calls_to_another_has_that_one_rung_once(
    office: Office, strategy: Strategy
) -> None:
    office.change(groups=(replace(office.books.directory.groups[0], strategy=strategy),))
    await forwards(office, "102", forward_always="103")
    anna, boris = await office.phone("101"), await office.phone("102")
    vera = await office.phone("103", Rejects(486))
    call = anna.call("600")
    await call.over.wait()
    record = await office.record()
    assert (call.status, len(boris.calls), len(vera.calls)) == (486, 0, 1)
    assert any("102 forwards all calls: 103 rings in its place" in why for why in record.why)
    await office.all_quiet()


async def test_a_member_whose_calls_go_outside_is_left_out(office: Office) -> None:
    await forwards(office, "102", forward_always=MOBILE)
    anna, boris, vera = await office.phone("101"), await office.phone("102"), await office.phone("103", Answers())
    call = anna.call("600")
    await call.answered.wait()
    call.hang_up()
    await office.record()
    assert (len(boris.calls), len(vera.calls), office.trunk.calls) == (0, 1, [])
    await office.all_quiet()


async def test_a_number_leads_outside_and_comes_back_to_the_office_when_nobody_answers(office: Office) -> None:
    number = replace(office.books.directory.numbers[0], destination=MOBILE, on_no_answer="102", on_busy="103")
    office.change(numbers=(number,))
    await office.pbx.settings_changed()
    office.trunk.does = Rings()
    boris = await office.phone("102", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    (onward,) = office.trunk.calls[1:]
    assert onward.ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    call.hang_up()
    record = await office.record()
    assert (len(boris.calls), record.extension, record.dialled) == (1, "102", DID)
    assert f"{MOBILE} was not answered: on to 102" in record.why
    await office.all_quiet()


async def test_a_number_leads_outside_and_is_busy_there(office: Office) -> None:
    number = replace(office.books.directory.numbers[0], destination=MOBILE, on_no_answer="102", on_busy="103")
    office.change(numbers=(number,))
    await office.pbx.settings_changed()
    office.trunk.does = Rejects(486)
    boris, vera = await office.phone("102"), await office.phone("103", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    call.hang_up()
    record = await office.record()
    assert (boris.calls, len(vera.calls), record.extension) == ([], 1, "103")
    await office.all_quiet()


# -- what other exchanges say of it


async def test_a_call_that_was_sent_on_too_often_goes_no_further(office: Office) -> None:
    boris = await office.phone("102")
    entries = [("Diversion", ", ".join(f"<sip:+7495000000{n}@op>" for n in range(MAX_TIMES)))]
    call = office.trunk.call(DID, as_=IVAN, headers=entries)
    await call.over.wait()
    record = await office.record()
    assert (call.status, boris.calls, record.disposition, record.reason) == (
        480, [], Disposition.REFUSED, EndReason.NOT_ALLOWED)
    assert f"it was sent on {MAX_TIMES} times before it came here, and goes no further" in record.why
    await office.all_quiet()


@pytest.mark.parametrize("header", [
    ("Diversion", f"<tel:{MOBILE}>;reason=unconditional"),
    ("Diversion", "<sip:89160000001@op>;reason=no-answer;counter=2"),
    ("History-Info", f"<sip:9160000001@op>;index=1, <sip:{DID}@op;cause=408>;index=1.1;mp=1"),
])
async def test_a_call_is_not_sent_back_to_where_it_came_from(office: Office, header: tuple[str, str]) -> None:
    await forwards(office, "102", on_busy=MOBILE)
    boris = await office.phone("102", Rejects(486))
    call = office.trunk.call(DID, as_=IVAN, headers=[header])
    await call.over.wait()
    record = await office.record()
    assert (call.status, len(boris.calls), len(office.trunk.calls)) == (480, 1, 1)
    assert f"{MOBILE} has sent the call here: back there it would go in a circle" in record.why
    await office.all_quiet()


async def test_a_phones_302_sends_no_call_back_either_but_a_person_may(office: Office) -> None:
    await forwards(office, "101")
    await office.phone("102", Rejects(302, contact=f"<sip:{MOBILE}@10.0.0.1>"))
    header = ("Diversion", f"<sip:{MOBILE}@op>")
    call = office.trunk.call(DID, as_=IVAN, headers=[header])
    await call.over.wait()
    await office.record()
    assert (call.status, len(office.trunk.calls)) == (480, 1)
    office.change(numbers=(replace(office.books.directory.numbers[0], destination="103"),))
    await office.pbx.settings_changed()
    vera = await office.phone("103", Answers(after=1.0))
    call = office.trunk.call(DID, as_=IVAN, headers=[header])
    await call.answered.wait()
    vera.calls[0].refer(f"<sip:{MOBILE}@10.0.0.1>")
    await asyncio.sleep(1)
    await office.trunk.calls[2].answered.wait()
    assert office.trunk.calls[2].session.invite.uri.user == MOBILE
    call.hang_up()
    await office.record(2)
    await office.all_quiet()


async def test_how_often_a_call_was_sent_on_is_told_onward(office: Office) -> None:
    await forwards(office, "102", forward_always=MOBILE)
    office.change(trunks=(replace(office.books.directory.trunks[0], profile="account-ppi", user="account"),))
    await office.pbx.settings_changed()
    header = ("Diversion", "<sip:+74950000000@op>;counter=2, <sip:+74950000001@op>")
    call = office.trunk.call(DID, as_=IVAN, headers=[header])
    await call.answered.wait()
    headers = office.trunk.calls[1].session.invite.headers
    assert headers.get_all("Diversion") == [f"<sip:{DID}@10.0.1.1>;reason=unconditional;counter=3"]
    assert headers.get_all("History-Info") == [
        f"<sip:{DID}@10.0.1.1>;index=1", f"<sip:{MOBILE}@10.0.1.1;cause=302>;index=1.1;mp=1"]
    call.hang_up()
    await office.record()
    await office.all_quiet()
