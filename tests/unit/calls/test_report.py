from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from b2bua.calls.call import MAX_REASONS, CallEnd, CallInProgress
from b2bua.calls.report import report
from b2bua.cdr import CallId, Direction, Disposition, EndedBy, EndReason
from b2bua.crm.port import Contact, EntityKind
from b2bua.directory import CrmAccount
from tests.support.office import ACME, DID, directory

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
IVAN = "+79161234567"
ACCOUNT = CrmAccount("http://crm.test", "token", default_user=70)
ANNA, BORIS, _ = directory().extensions


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def a_call(direction: Direction = Direction.INBOUND, crm: CrmAccount | None = ACCOUNT) -> tuple[CallInProgress, Clock]:
    clock = Clock()
    caller, dialled = (IVAN, DID) if direction is Direction.INBOUND else ("101", IVAN)
    return CallInProgress(CallId("1"), ACME, direction, caller, dialled, "operator", clock, crm), clock


def hung_up(by: EndedBy = EndedBy.CALLER) -> CallEnd:
    return CallEnd(by, EndReason.HUNG_UP, 500)


def test_talk_time_counts_from_the_answer_and_the_note_from_the_invite() -> None:
    call, clock = a_call()
    clock.advance(4)
    call.ringing(ANNA)
    clock.advance(6)
    call.answered(ANNA)
    clock.advance(61.4)
    call.over(Disposition.FAILED, hung_up())
    record, (note,) = report(call)
    assert (record.disposition, record.status, record.talk_seconds) == (Disposition.ANSWERED, 200, 61)
    assert (record.rang_at, record.answered_at) == (START + timedelta(seconds=4), START + timedelta(seconds=10))
    assert (note.started_at, note.talk_seconds, note.user, note.phone, note.did) == (START, 61, 77, IVAN, DID)


def test_a_missed_call_that_rang_nobody_is_the_responsible_users_else_the_default_users() -> None:
    for contact, user in ((Contact(EntityKind.CONTACT, 1, "Иван", 78), 78), (None, 70)):
        call, _ = a_call()
        call.contact = contact
        call.over(Disposition.NO_ANSWER, CallEnd(EndedBy.SWITCH, EndReason.NOBODY_ANSWERED, 480))
        record, (note,) = report(call)
        assert record.crm_user is None
        assert (note.user, note.talk_seconds, note.disposition) == (user, 0, Disposition.NO_ANSWER)


def test_internal_calls_clients_without_a_crm_and_withheld_numbers_owe_the_crm_nothing() -> None:
    internal, _ = a_call(Direction.INTERNAL)
    without, _ = a_call(crm=None)
    withheld, _ = a_call()
    withheld.caller = ""
    for call in (internal, without, withheld):
        assert report(call)[1] == ()


def test_an_outgoing_call_is_the_employees_who_dialled() -> None:
    call, _ = a_call(Direction.OUTBOUND)
    call.extension = BORIS
    call.answered(None)
    call.over(Disposition.FAILED, hung_up(EndedBy.CALLEE))
    record, (note,) = report(call)
    assert (record.extension, note.user, note.phone, note.did) == ("102", 78, IVAN, "operator")


def test_the_first_word_on_the_end_stands() -> None:
    call, _ = a_call()
    call.over(Disposition.BUSY, CallEnd(EndedBy.CALLEE, EndReason.REJECTED, 486))
    call.over(Disposition.FAILED, CallEnd(EndedBy.SWITCH, EndReason.FAULT, 500))
    record = call.record()
    assert (record.disposition, record.ended_by, record.status) == (Disposition.BUSY, EndedBy.CALLEE, 486)


def test_a_call_whose_script_broke_is_a_fault_of_ours() -> None:
    record = a_call()[0].record()
    assert (record.disposition, record.reason) == (Disposition.FAILED, EndReason.FAULT)


def test_a_wall_clock_that_jumps_back_makes_no_negative_call() -> None:
    call, clock = a_call()
    call.answered(ANNA)
    clock.advance(-3600)
    assert call.record().talk_seconds == 0
    assert call.record().ended_at >= call.record().started_at


def test_the_explanation_of_one_call_has_an_end() -> None:
    call, _ = a_call()
    for number in range(10 * MAX_REASONS):
        call.note(str(number))
    assert len(call.record().why) == MAX_REASONS


def test_the_live_view_tells_the_state() -> None:
    call, _ = a_call()
    assert call.live().state == "routing"
    call.ringing(replace(ANNA))
    assert (call.live().state, call.live().extension) == ("ringing", "101")
    call.answered(ANNA)
    assert call.live().state == "talking"


def test_who_talked_last_owns_the_call_and_an_outside_target_leaves_it_to_who_talked_before() -> None:
    call, _ = a_call()
    call.answered(ANNA)
    call.handed_to(BORIS)
    call.handed_to(None)
    call.goes_through("another trunk")
    record, (note,) = report(call)
    assert (record.extension, record.trunk, note.user) == (BORIS.number, "operator", BORIS.crm_user)


def test_an_internal_call_that_is_joined_with_the_outside_is_an_outside_call_from_then_on() -> None:
    call, clock = a_call(Direction.INTERNAL, crm=None)
    call.answered(BORIS)
    clock.advance(30)
    call.went_outside(ANNA, IVAN, "operator", ACCOUNT)
    clock.advance(12)
    record, (note,) = report(call)
    assert (record.direction, record.caller, record.dialled) == (Direction.OUTBOUND, "101", IVAN)
    assert (record.talk_seconds, note.phone, note.user, note.did) == (12, IVAN, 77, "operator")
