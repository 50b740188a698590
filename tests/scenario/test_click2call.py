"""Numbers clicked in the CRM's page: whoever clicks is rung first, and every way in which that can come out."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from b2bua.calls import clicks
from b2bua.cdr import CallId, ClientId, Direction, Disposition, EndedBy, EndReason
from b2bua.control import AlreadyCalling, ClickedCall, ClickOutcome, ClickStage, Draining, TooManyClicks
from b2bua.crm.port import CallNote
from b2bua.directory import ANNOUNCEMENT, PrefixLimit
from b2bua.media.relay import wire
from b2bua.sip.effects import Answered, Effect
from b2bua.ua.leg import Inbox, Leg, Wish
from tests.support.anchored import AnchoredPlane
from tests.support.office import ACME, DID, OPERATOR, Office, faultless_office, open_office
from tests.support.phone import Answers, Behaviour, Dead, PhoneCall, Rejects, Rings

OUTSIDE = "+79265554433"
ON_THE_CARD = "8 (926) 555-44-33"
CALLER, CALLEE = 0, 1


@pytest.fixture
def media() -> AnchoredPlane:
    return AnchoredPlane()


@pytest.fixture
def office(media: AnchoredPlane):
    return faultless_office(media)


def click(office: Office, number: str = ON_THE_CARD, *, extension: str = "101", key: str = "1") -> ClickedCall:
    return office.pbx.click2call(ACME, extension, number, key)


def now(office: Office, clicked: ClickedCall) -> ClickedCall:
    found = office.pbx.clicked(ACME, clicked.id)
    assert found is not None
    return found


async def until(office: Office, clicked: ClickedCall, stage: ClickStage) -> ClickedCall:
    """As the page does it: from version to version."""
    while clicked.stage is not stage:
        clicked = await office.pbx.click_changed(ACME, clicked.id, clicked.version)
    return clicked


async def ended(office: Office, clicked: ClickedCall) -> ClickOutcome | None:
    return (await until(office, clicked, ClickStage.ENDED)).outcome


async def talk(office: Office, media: AnchoredPlane) -> tuple[ClickedCall, PhoneCall, PhoneCall]:
    """101 has clicked, and talks to the outside."""
    anna = await office.phone("101", Answers(after=2.0))
    clicked = await until(office, click(office), ClickStage.TALKING)
    await asyncio.sleep(1)
    return clicked, anna.calls[0], office.trunk.calls[0]


# -- the call that comes about

async def test_who_clicks_is_rung_and_then_whom_they_clicked(office: Office, media: AnchoredPlane) -> None:
    anna = await office.phone("101", Answers(after=2.0))
    began = asyncio.get_running_loop().time()
    clicked = click(office)
    assert (clicked.stage, clicked.number, clicked.outcome) == (ClickStage.RINGING_YOU, OUTSIDE, None)
    ringing = await anna.was_called()
    assert (ringing.caller, ringing.shown) == (OUTSIDE, OUTSIDE)
    assert office.trunk.calls == []
    await ringing.answered.wait()
    clicked = await until(office, clicked, ClickStage.RINGING_THEM)
    outside = await office.trunk.was_called()
    assert (outside.caller, outside.session.invite.uri.user) == (DID, OUTSIDE)
    await asyncio.sleep(1)
    assert {side: (play.sound, play.repeat) for side, play in media.heard().items()} == {CALLER: ("ringback", True)}
    await outside.answered.wait()
    clicked = await until(office, clicked, ClickStage.TALKING)
    assert media.heard() == {}
    await asyncio.sleep(12)
    assert now(office, clicked).talk_seconds == 12
    outside.hang_up()
    record = await office.record()
    assert ringing.ladder() == ["INVITE", "100", "180", "200", "ACK", "BYE", "200"]
    assert (record.direction, record.caller, record.dialled, record.trunk) == (
        Direction.OUTBOUND, "101", OUTSIDE, "operator")
    assert (record.disposition, record.ended_by, record.extension) == (
        Disposition.ANSWERED, EndedBy.CALLEE, "101")
    assert record.talk_seconds == 12
    assert record.answered_at is not None
    assert outside.answered_at is not None
    waited = (record.answered_at - record.started_at).total_seconds()
    assert waited == pytest.approx(outside.answered_at - began, abs=0.1)
    assert record.rang == ()
    (note,) = office.books.writes
    assert isinstance(note, CallNote)
    assert (note.direction, note.phone, note.user, note.talk_seconds) == (Direction.OUTBOUND, OUTSIDE, 77, 12)
    assert (now(office, clicked).stage, now(office, clicked).outcome) == (ClickStage.ENDED, ClickOutcome.TALKED)
    await office.all_quiet()


async def test_all_phones_of_who_clicked_ring_and_one_is_picked_up(office: Office) -> None:
    desk = await office.phone("101", Rings())
    await office.phone("101", Answers(after=1.0), host="10.0.3.1")
    clicked = await until(office, click(office), ClickStage.TALKING)
    assert desk.calls[0].ladder()[-4:] == ["CANCEL", "200", "487", "ACK"]
    assert office.pbx.hang_up(ACME, clicked.id)
    assert (await office.record()).disposition is Disposition.ANSWERED
    await office.all_quiet()


async def test_the_phone_shows_the_name_that_the_crm_gave(office: Office) -> None:
    office.crm.knows(OUTSIDE, "Ivan Petrov")
    office.change(clients=tuple(
        replace(client, crm=replace(client.crm, functions=replace(client.crm.functions, set_caller_name=True)))
        for client in office.books.directory.clients if client.crm is not None))
    await office.pbx.settings_changed()
    await office.pbx._lookup.find_contact(ACME, OUTSIDE)           # as when they called last
    asked = list(office.crm.asked)
    anna = await office.phone("101", Rings())
    clicked = click(office)
    assert (await anna.was_called()).shown == "Ivan Petrov"
    assert clicked.contact == "Ivan Petrov"
    assert office.crm.asked == asked       # no phone waits for it
    assert office.pbx.hang_up(ACME, clicked.id)
    await office.record()


async def test_early_media_takes_the_place_of_our_ring_tone(office: Office, media: AnchoredPlane) -> None:
    office.trunk.does = Rings()
    await office.phone("101", Answers(after=1.0))
    clicked = click(office)
    outside = await office.trunk.was_called()
    await asyncio.sleep(1)
    assert media.heard()[CALLER].sound == "ringback"
    office.trunk.do(outside.session.progress(183, office.trunk.now(), body=office.trunk.sdp("sendrecv")))
    await asyncio.sleep(1)
    assert media.heard() == {}
    assert media.hosts() == ("10.0.2.101", OPERATOR.host)
    outside.answer()
    await until(office, clicked, ClickStage.TALKING)
    assert office.pbx.hang_up(ACME, clicked.id)
    await office.record()
    await office.all_quiet()


async def test_a_phone_that_would_send_what_the_other_side_has_not_is_offered_what_it_has(
    office: Office, media: AnchoredPlane
) -> None:
    """The phone prefers PCMA, the operator takes PCMU alone."""
    anna = await office.phone("101", Answers(after=1.0))
    office.trunk.codecs = {0: "PCMU/8000"}
    clicked = await until(office, click(office), ClickStage.TALKING)
    await asyncio.sleep(1)
    phone = anna.calls[0]
    assert phone.ladder()[-4:] == ["INVITE", "100", "200", "ACK"]
    assert b"RTP/AVP 0" in phone.sdp
    assert b"PCMA" not in phone.sdp
    assert office.trunk.calls[0].ladder() == ["INVITE", "100", "180", "200", "ACK"]
    assert office.pbx.hang_up(ACME, clicked.id)
    await office.record()
    await office.all_quiet()


async def test_who_is_put_on_hold_while_it_rings_is_on_hold_once_it_is_answered(
    office: Office, media: AnchoredPlane
) -> None:
    office.trunk.does = Rings()
    anna = await office.phone("101", Answers(after=1.0))
    clicked = click(office)
    outside = await office.trunk.was_called()
    await anna.calls[0].agree("sendonly")
    outside.answer()
    await outside.offered("sendonly")
    await anna.calls[0].agree("sendrecv")
    await outside.offered("sendrecv")
    assert office.pbx.hang_up(ACME, clicked.id)
    assert await ended(office, clicked) is ClickOutcome.TALKED
    await office.record()
    await office.all_quiet()


async def test_hold_and_blind_transfer_afterwards(office: Office, media: AnchoredPlane) -> None:
    await office.phone("102", Answers(after=1.0))
    clicked, anna, outside = await talk(office, media)
    await anna.agree("sendonly")
    await outside.offered("sendonly")
    await anna.agree("sendrecv")
    anna.refer("<sip:102@10.0.0.1>")
    await anna.over.wait()
    await asyncio.sleep(3)
    assert not outside.over.is_set()
    outside.hang_up()
    record = await office.record()
    assert (record.extension, record.disposition) == ("102", Disposition.ANSWERED)
    assert now(office, clicked).outcome is ClickOutcome.TALKED
    await office.all_quiet()


async def test_attended_transfer_afterwards(office: Office, media: AnchoredPlane) -> None:
    await office.phone("102", Answers(after=1.0))
    _, anna, outside = await talk(office, media)
    await anna.agree("sendonly")
    second = anna.phone.call("102")
    await second.answered.wait()
    await asyncio.sleep(1)
    anna.refer_to(second)
    await anna.over.wait()
    await asyncio.sleep(2)
    assert not outside.over.is_set()
    outside.hang_up()
    assert (await office.record(2)).extension == "102"
    await office.all_quiet()


async def test_it_is_recorded_from_the_answer_of_the_other_side_on() -> None:
    media, begun = AnchoredPlane(), list[str]()

    class Recordings:
        def begin(self, call, session) -> None:     # type: ignore[no-untyped-def]
            begun.append(call.id)

        def finish(self, call) -> None:             # type: ignore[no-untyped-def]
            """Nothing to make."""

    async with faultless_office(media) as office:
        office.pbx._recordings = Recordings()       # type: ignore[assignment]
        await office.phone("101", Answers(after=1.0))
        clicked = await until(office, click(office), ClickStage.RINGING_THEM)
        assert begun == []
        await until(office, clicked, ClickStage.TALKING)
        await asyncio.sleep(0.1)
        assert begun == [clicked.id]
        assert office.pbx.hang_up(ACME, clicked.id)
        await office.record()


async def test_a_colleague_may_be_clicked_and_the_crm_hears_nothing_of_it(office: Office) -> None:
    anna, boris = await office.phone("101", Answers(after=1.0)), await office.phone("102", Answers(after=1.0))
    clicked = await until(office, click(office, "102"), ClickStage.TALKING)
    assert (anna.calls[0].shown, boris.calls[0].shown) == ("Employee 102", "Employee 101")
    await asyncio.sleep(3)
    boris.calls[0].hang_up()
    record = await office.record()
    assert (record.direction, record.disposition, record.dialled) == (Direction.INTERNAL, Disposition.ANSWERED, "102")
    assert record.rang == ("102",)
    assert await ended(office, clicked) is ClickOutcome.TALKED
    assert office.books.writes == []
    await office.all_quiet()


async def test_a_group_may_be_clicked_and_a_colleague_may_pick_it_up(office: Office) -> None:
    await office.phone("101", Answers(after=1.0))
    await office.phone("102", Rings())
    vera = await office.phone("103", Rings())
    clicked = await until(office, click(office, "600"), ClickStage.RINGING_THEM)
    await asyncio.sleep(1)
    picked = vera.call("**102")
    await until(office, clicked, ClickStage.TALKING)
    await picked.answered.wait()
    picked.hang_up()
    assert (await office.record()).extension == "103"
    await office.all_quiet()


async def test_the_ringing_phone_of_who_clicked_is_picked_up_by_nobody_else(office: Office) -> None:
    anna = await office.phone("101", Rings())
    boris = await office.phone("102")
    clicked = click(office)
    await anna.was_called()
    await asyncio.sleep(1)
    picking = boris.call("**101")
    await picking.over.wait()
    assert picking.status == 488
    assert now(office, clicked).stage is ClickStage.RINGING_YOU
    anna.calls[0].answer()
    await until(office, clicked, ClickStage.TALKING)
    assert office.pbx.hang_up(ACME, clicked.id)
    await office.record()
    await office.all_quiet()


@pytest.mark.parametrize("seconds", [None, 0, 3])
async def test_a_client_may_have_the_phone_answer_by_itself(office: Office, seconds: int | None) -> None:
    office.change(clients=(replace(office.books.directory.clients[0], click2call_answer_after=seconds),))
    await office.pbx.settings_changed()
    anna = await office.phone("101", Answers(after=1.0))
    clicked = click(office)
    invite = (await anna.was_called()).session.invite
    outside = (await office.trunk.was_called()).session.invite
    call_info = invite.headers.get("Call-Info") or ""
    alert = invite.headers.get("Alert-Info") or ""
    if seconds is None:
        assert call_info == alert == ""
    else:
        assert call_info.endswith(f">;answer-after={seconds}")
        assert alert.endswith(f";info=alert-autoanswer;delay={seconds}")
    assert outside.headers.get("Call-Info") is None
    assert outside.headers.get("Alert-Info") is None
    assert office.pbx.hang_up(ACME, clicked.id)
    await office.record()


# -- the employee's own phone

YOURS = [
    (Rejects(486), ClickOutcome.YOU_BUSY, Disposition.BUSY),
    (Rejects(603), ClickOutcome.YOU_DECLINED, Disposition.DECLINED),
    (Rejects(480), ClickOutcome.YOU_NO_ANSWER, Disposition.NO_ANSWER),
    (Rings(), ClickOutcome.YOU_NO_ANSWER, Disposition.NO_ANSWER),
    (Dead(), ClickOutcome.YOU_NO_ANSWER, Disposition.NO_ANSWER),
]


@pytest.mark.parametrize(("does", "outcome", "disposition"), YOURS)
async def test_nobody_is_called_when_who_clicked_does_not_pick_up(
    office: Office, does: Behaviour, outcome: ClickOutcome, disposition: Disposition
) -> None:
    anna = await office.phone("101")
    anna.does = does
    clicked = click(office)
    assert await ended(office, clicked) is outcome
    record = await office.record()
    assert (record.direction, record.disposition, record.ended_by) == (Direction.OUTBOUND, disposition, EndedBy.CALLER)
    assert (record.trunk, record.answered_at) == (None, None)
    assert office.trunk.calls == []
    assert office.books.writes == []       # no outside call has taken place
    assert "101" in now(office, clicked).why
    anna.does = Answers()
    await office.all_quiet()


async def test_an_extension_without_a_phone(office: Office) -> None:
    clicked = click(office)
    assert await ended(office, clicked) is ClickOutcome.YOU_UNREGISTERED
    record = await office.record()
    assert (record.disposition, record.reason, record.ended_by) == (
        Disposition.UNREACHABLE, EndReason.NOTHING_TO_RING, EndedBy.CALLER)
    assert now(office, clicked).why == "101 has not picked up: no phone of it is registered"
    assert office.books.writes == []
    await office.all_quiet()


async def test_who_is_in_a_call_already_is_not_rung(office: Office) -> None:
    anna = await office.phone("101", Answers(after=1.0))
    await office.phone("102", Answers(after=1.0))
    talking = anna.call("102")
    await talking.answered.wait()
    await asyncio.sleep(1)
    clicked = click(office)
    assert await ended(office, clicked) is ClickOutcome.YOU_TALKING
    assert len(anna.calls) == 1
    record = await office.record()
    assert (record.disposition, record.reason, record.ended_by) == (
        Disposition.BUSY, EndReason.ENGAGED, EndedBy.CALLER)
    assert now(office, clicked).why == "101 is in a call already"
    assert not talking.over.is_set()
    talking.hang_up()
    await office.record(2)
    clicked = click(office, key="2")
    await until(office, clicked, ClickStage.TALKING)
    assert office.pbx.hang_up(ACME, clicked.id)
    await office.record(3)
    await office.all_quiet()


async def test_a_phone_that_only_rings_for_somebody_else_does_not_keep_its_user_from_clicking(office: Office) -> None:
    anna = await office.phone("101", Rings())
    boris = await office.phone("102")
    boris.call("101")
    await anna.was_called()
    await asyncio.sleep(1)
    anna.does = Answers(after=1.0)
    clicked = await until(office, click(office), ClickStage.TALKING)
    assert office.pbx.hang_up(ACME, clicked.id)
    await office.record()


# -- whom they clicked

THEIRS: list[tuple[Behaviour, ClickOutcome, Disposition, str]] = [
    (Rejects(486), ClickOutcome.THEY_BUSY, Disposition.BUSY, "busy"),
    (Rejects(603), ClickOutcome.THEY_DECLINED, Disposition.DECLINED, "busy"),
    (Rejects(480), ClickOutcome.THEY_NO_ANSWER, Disposition.NO_ANSWER, "busy"),
    (Rings(), ClickOutcome.THEY_NO_ANSWER, Disposition.NO_ANSWER, "busy"),
    (Rejects(404), ClickOutcome.WRONG_NUMBER, Disposition.UNREACHABLE, "unavailable"),
    (Rejects(484), ClickOutcome.WRONG_NUMBER, Disposition.FAILED, "congestion"),
    (Rejects(403), ClickOutcome.FAILED, Disposition.FAILED, "congestion"),
    (Rejects(503), ClickOutcome.NO_TRUNK, Disposition.FAILED, "congestion"),
]


@pytest.mark.parametrize(("does", "outcome", "disposition", "tone"), THEIRS)
async def test_who_clicked_hears_why_nobody_is_reached(
    office: Office, media: AnchoredPlane, does: Behaviour, outcome: ClickOutcome, disposition: Disposition, tone: str
) -> None:
    office.trunk.does = does
    anna = await office.phone("101", Answers(after=1.0))
    clicked = click(office)
    assert await ended(office, clicked) is outcome
    told_at = asyncio.get_running_loop().time()
    await asyncio.sleep(0.5)
    assert (media.heard()[CALLER].sound, media.heard()[CALLER].repeat) == (tone, False)
    phone = anna.calls[0]
    await phone.over.wait()
    assert phone.ended_at is not None
    assert 4 < phone.ended_at - told_at < 11          # the page knows at once, the tone takes its time
    record = await office.record()
    assert (record.direction, record.disposition, record.talk_seconds) == (Direction.OUTBOUND, disposition, 0)
    assert record.trunk == "operator"
    (note,) = office.books.writes
    assert isinstance(note, CallNote)
    assert (note.user, note.disposition, note.direction) == (77, disposition, Direction.OUTBOUND)
    await office.all_quiet()


async def test_a_new_click_ends_the_tone_of_the_last_one(office: Office, media: AnchoredPlane) -> None:
    office.trunk.does = Rejects(486)
    anna = await office.phone("101", Answers(after=1.0))
    assert await ended(office, click(office)) is ClickOutcome.THEY_BUSY
    await asyncio.sleep(0.5)
    office.trunk.does = Answers(after=1.0)
    second = click(office, key="2")
    await until(office, second, ClickStage.TALKING)
    assert anna.calls[0].over.is_set()
    assert office.books.records[0].disposition is Disposition.BUSY
    assert office.pbx.hang_up(ACME, second.id)
    await office.record(2)
    await office.all_quiet()


async def test_an_operator_that_does_not_answer_at_all(office: Office) -> None:
    await office.phone("101", Answers(after=1.0))
    office.trunk.does = Dead()
    assert await ended(office, click(office)) is ClickOutcome.NO_TRUNK
    assert (await office.record()).reason is EndReason.NO_RESPONSE


async def test_no_trunk_at_all_rings_nobodys_phone(office: Office) -> None:
    office.change(trunks=())
    await office.pbx.settings_changed()
    anna = await office.phone("101")
    assert await ended(office, click(office)) is ClickOutcome.NO_TRUNK
    record = await office.record()
    assert (record.direction, record.disposition, record.ended_by) == (
        Direction.OUTBOUND, Disposition.UNREACHABLE, EndedBy.SWITCH)
    assert anna.calls == []
    assert office.books.writes == []


async def test_a_prefix_that_is_refused_and_one_that_has_met_its_limit(office: Office) -> None:
    limits = (PrefixLimit("+7926", refused=True), PrefixLimit("+7925", per_hour=0))
    office.change(clients=(replace(office.books.directory.clients[0], limits=limits),))
    await office.pbx.settings_changed()
    await office.phone("101", Answers(after=1.0))
    assert await ended(office, click(office)) is ClickOutcome.NOT_ALLOWED
    assert await ended(office, click(office, "+79251234567", key="2")) is ClickOutcome.LIMIT_REACHED
    await asyncio.sleep(20)
    assert office.trunk.calls == []
    assert {record.disposition for record in office.books.records} == {Disposition.REFUSED}


async def test_a_pickup_code_is_no_number(office: Office) -> None:
    anna = await office.phone("101")
    assert await ended(office, click(office, "**102")) is ClickOutcome.NOT_ALLOWED
    assert (await office.record()).reason is EndReason.NOT_ALLOWED
    assert anna.calls == []


async def test_the_extensions_limit_of_calls_holds_and_a_call_for_help_passes_it(office: Office) -> None:
    office.change(extensions=tuple(replace(one, max_calls=0) for one in office.books.directory.extensions))
    await office.pbx.settings_changed()
    await office.phone("101", Answers(after=1.0))
    assert await ended(office, click(office)) is ClickOutcome.LIMIT_REACHED
    clicked = await until(office, click(office, "112", key="2"), ClickStage.TALKING)
    assert office.pbx.hang_up(ACME, clicked.id)
    await office.record(2)


async def test_an_announcement_is_heard_to_its_end(office: Office, media: AnchoredPlane) -> None:
    office.change(extensions=tuple(
        replace(one, on_no_answer=f"{ANNOUNCEMENT}unavailable") if one.number == "102" else one
        for one in office.books.directory.extensions))
    await office.pbx.settings_changed()
    anna = await office.phone("101", Answers(after=1.0))
    await office.phone("102", Rings())
    clicked = click(office, "102")
    assert await ended(office, clicked) is ClickOutcome.THEY_NO_ANSWER
    assert [one.sound for one in media.told if isinstance(one, wire.Play)] == ["ringback", "unavailable"]
    assert anna.calls[0].over.is_set() or anna.calls[0].ended_at is None
    assert (await office.record()).reason is EndReason.ANNOUNCED
    await office.all_quiet()


async def test_without_media_of_ours_there_is_no_click2call() -> None:
    async with open_office() as office:
        anna = await office.phone("101")
        clicked = click(office)
        assert await ended(office, clicked) is ClickOutcome.FAILED
        assert now(office, clicked).why == "media is not anchored here"
        assert anna.calls == []
        await office.record()


# -- who hangs up, and when

async def test_hung_up_in_the_page_while_ones_own_phone_rings(office: Office) -> None:
    anna = await office.phone("101", Rings())
    clicked = click(office)
    await (await anna.was_called()).rang.wait()
    assert office.pbx.hang_up(ACME, clicked.id)
    assert await ended(office, clicked) is ClickOutcome.CANCELLED
    record = await office.record()
    assert (record.disposition, record.reason, record.ended_by) == (
        Disposition.ABANDONED, EndReason.CANCELLED, EndedBy.CALLER)
    assert anna.calls[0].ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    assert office.trunk.calls == []
    assert office.books.writes == []
    assert not office.pbx.hang_up(ACME, clicked.id)
    await office.all_quiet()


@pytest.mark.parametrize("by_phone", [False, True])
async def test_hung_up_before_the_other_side_answers(office: Office, by_phone: bool) -> None:
    office.trunk.does = Rings()
    anna = await office.phone("101", Answers(after=1.0))
    clicked = click(office)
    outside = await office.trunk.was_called()
    await asyncio.sleep(1)
    if by_phone:
        anna.calls[0].hang_up()
    else:
        assert office.pbx.hang_up(ACME, clicked.id)
    assert await ended(office, clicked) is ClickOutcome.GIVEN_UP
    record = await office.record()
    assert (record.disposition, record.ended_by) == (Disposition.ABANDONED, EndedBy.CALLER)
    assert record.reason is (EndReason.HUNG_UP if by_phone else EndReason.CANCELLED)
    assert outside.ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    assert anna.calls[0].ladder()[-2:] == ["BYE", "200"]
    (note,) = office.books.writes
    assert isinstance(note, CallNote)
    assert (note.disposition, note.user) == (Disposition.ABANDONED, 77)
    await office.all_quiet()


async def test_hung_up_in_the_moment_in_which_the_phone_is_picked_up(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 200 is there already when the wish comes: nobody outside is rung for a moment."""
    anna = await office.phone("101", Rings())
    clicked = click(office)
    ringing = await anna.was_called()
    await asyncio.sleep(1)
    put = Inbox.put

    def and_hang_up(inbox: Inbox, leg: Leg, event: Effect | Wish) -> None:
        put(inbox, leg, event)
        if isinstance(event, Answered):
            assert office.pbx.hang_up(ACME, clicked.id)

    monkeypatch.setattr(Inbox, "put", and_hang_up)
    ringing.answer()
    assert await ended(office, clicked) is ClickOutcome.CANCELLED
    await office.record()
    assert office.trunk.calls == []
    assert ringing.ladder()[-2:] == ["BYE", "200"]
    await office.all_quiet()


@pytest.mark.parametrize("answered", [False, True])
async def test_an_ordinary_call_may_be_hung_up_too(office: Office, answered: bool) -> None:
    await office.phone("102", Answers(after=1.0) if answered else Rings())
    call = office.trunk.call(DID, as_=OUTSIDE)
    await (call.answered if answered else call.rang).wait()
    await asyncio.sleep(1)
    (live,) = office.pbx.live_calls()
    assert not office.pbx.hang_up(ClientId("other"), live.id)
    assert not call.over.is_set()
    assert office.pbx.hang_up(ACME, live.id)
    record = await office.record()
    assert call.status == (200 if answered else 603)
    assert call.over.is_set()
    assert record.disposition is (Disposition.ANSWERED if answered else Disposition.DECLINED)
    assert record.ended_by is EndedBy.CALLEE
    await office.all_quiet()


async def test_what_a_phone_has_dialled_may_be_hung_up_while_it_rings(office: Office) -> None:
    office.trunk.does = Rings()
    anna = await office.phone("101")
    call = anna.call(OUTSIDE)
    await call.rang.wait()
    (live,) = office.pbx.live_calls()
    assert office.pbx.hang_up(ACME, live.id)
    record = await office.record()
    assert call.status == 487
    assert (record.disposition, record.reason) == (Disposition.ABANDONED, EndReason.CANCELLED)
    assert office.trunk.calls[0].ladder()[-4:] == ["CANCEL", "200", "487", "ACK"]
    await office.all_quiet()


# -- clicks

async def test_a_double_click_is_one_call(office: Office) -> None:
    anna = await office.phone("101", Answers(after=1.0))
    first = click(office)
    assert click(office) == first
    with pytest.raises(AlreadyCalling):
        click(office, key="2")
    await until(office, first, ClickStage.TALKING)
    assert click(office).id == first.id
    with pytest.raises(AlreadyCalling):
        click(office, "+79031112233", key="3")
    assert office.pbx.hang_up(ACME, first.id)
    await office.record()
    assert click(office).outcome is ClickOutcome.TALKED            # the same click, long answered
    assert len(anna.calls) == 1
    await asyncio.sleep(clicks.SAME_CLICK + 1)
    await anna.register()
    assert click(office).id != first.id
    await asyncio.sleep(1)
    assert len(anna.calls) == 2


async def test_an_ended_click_is_told_for_a_minute_and_to_its_client_alone(office: Office) -> None:
    clicked = click(office)
    await ended(office, clicked)
    assert office.pbx.clicked(ClientId("other"), clicked.id) is None
    assert office.pbx.clicked(ACME, CallId("another")) is None
    await asyncio.sleep(clicks.TOLD_AFTER_END + 1)
    assert office.pbx.clicked(ACME, clicked.id) is None
    with pytest.raises(LookupError):
        await office.pbx.click_changed(ACME, clicked.id, 0)


@pytest.mark.parametrize("number", ["", " ", "abc", "1", "sip:101@host", "9" * 65, "1" * 30])
async def test_what_cannot_be_dialled_is_no_call(office: Office, number: str) -> None:
    with pytest.raises(ValueError, match=r"number|dialled"):
        click(office, number)
    with pytest.raises(LookupError):
        click(office, extension="999")
    assert office.pbx.live_calls() == []


async def test_clicks_are_limited_by_the_minute_and_forgotten(office: Office) -> None:
    for turn in range(clicks.CLICKS_A_MINUTE):
        await ended(office, click(office, key=str(turn)))
        await asyncio.sleep(0)
    with pytest.raises(TooManyClicks):
        click(office, key="one more")
    await asyncio.sleep(clicks.MINUTE)
    click(office, key="one more")
    await asyncio.sleep(clicks.SAME_CLICK + 1)
    click(office, key="the last")
    assert len(office.pbx.clicks) == 1
    await asyncio.sleep(1)


async def test_beyond_the_limit_the_oldest_are_forgotten(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clicks, "MAX_REMEMBERED", 3)
    for turn in range(6):
        await ended(office, click(office, key=str(turn)))
        await asyncio.sleep(1)
        assert len(office.pbx.clicks) <= 4


async def test_no_clicks_while_the_switch_stops(office: Office) -> None:
    await office.phone("101", Answers(after=1.0))
    clicked = await until(office, click(office), ClickStage.TALKING)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(office.pbx.drain(5))
        await asyncio.sleep(1)
        with pytest.raises(Draining):
            click(office, extension="102", key="2")
    assert office.books.records[0].reason is EndReason.SHUTDOWN
    assert now(office, clicked).outcome is ClickOutcome.TALKED


@pytest.mark.parametrize("picked_up", [False, True])
async def test_the_switch_stops_while_it_rings(office: Office, picked_up: bool) -> None:
    office.trunk.does = Rings()
    anna = await office.phone("101", Answers(after=1.0) if picked_up else Rings())
    clicked = click(office)
    await asyncio.sleep(3)
    await office.pbx.drain(0)
    record = office.books.records[0]
    assert (record.disposition, record.reason) == (Disposition.FAILED, EndReason.SHUTDOWN)
    assert now(office, clicked).outcome is ClickOutcome.FAILED
    await asyncio.sleep(1)
    assert anna.calls[0].over.is_set()


async def test_a_script_that_breaks_is_told_as_failed(media: AnchoredPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_office(media=media) as office:
        def breaks(*_: object) -> None:
            raise RuntimeError("a fault")

        anna = await office.phone("101", Answers(after=1.0))
        monkeypatch.setattr(office.pbx, "picks_up", breaks)
        clicked = click(office)
        assert await ended(office, clicked) is ClickOutcome.FAILED
        await office.record()
        assert office.pbx.counters.faults == 1
        assert anna.calls[0].over.is_set()
        assert office.trunk.calls == []
        await office.all_quiet()


async def test_the_relay_dies_while_they_talk(office: Office, media: AnchoredPlane) -> None:
    clicked, anna, outside = await talk(office, media)
    media.dies()
    record = await office.record()
    assert record.reason is EndReason.MEDIA_TIMEOUT
    assert anna.over.is_set()
    assert outside.over.is_set()
    assert now(office, clicked).stage is ClickStage.ENDED


async def test_what_a_crash_leaves_behind(media: AnchoredPlane) -> None:
    """While the employee's phone rings it is nothing for the CRM; once they have picked up, its leg gets a BYE."""
    async with open_office(media=media) as office, asyncio.TaskGroup() as tasks:
        saving = tasks.create_task(office.standing.run())
        office.trunk.does = Rings()
        anna = await office.phone("101", Rings())
        clicked = click(office)
        await asyncio.sleep(3)
        (left,) = office.books.standing.values()
        assert (left.call.record.id, left.call.writes, left.call.farewells) == (clicked.id, (), ())
        anna.calls[0].answer()
        await asyncio.sleep(3)
        (left,) = office.books.standing.values()
        assert len(left.call.farewells) == 1
        assert [type(write) for write in left.call.writes] == [CallNote]
        saving.cancel()
        assert office.pbx.hang_up(ACME, clicked.id)
        await office.record()
