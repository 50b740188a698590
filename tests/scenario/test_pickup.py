"""Taking a call that rings at a colleague's phone: by code, by group, by INVITE with Replaces; and every race in it."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace

import pytest

from b2bua.cdr import CallRecord, ClientId, Direction, Disposition, EndReason
from b2bua.crm.port import CallNote
from b2bua.directory import Client, Extension, Group
from b2bua.sip.auth import ha1
from tests.scenario.test_memory import alive
from tests.support.anchored import AnchoredPlane
from tests.support.office import DID, PASSWORD, REALM, Office, faultless_office
from tests.support.phone import Answers, Phone, PhoneCall, Rings
from tests.support.watcher import watching_phone

IVAN = "+79161234567"
ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'


@pytest.fixture
def office():
    return faultless_office()


async def ringing(office: Office, number: str = "102", **more: object) -> tuple[PhoneCall, Phone, Phone]:
    """Ivan calls, 102 rings, and 103 is at its desk."""
    boris, vera = await office.phone(number, Rings()), await office.phone("103", Rings())
    ivan = office.trunk.call(DID, as_=IVAN)
    await ivan.rang.wait()
    return ivan, boris, vera


async def talk_and_end(*calls: PhoneCall) -> None:
    for call in calls:
        await call.answered.wait()
    await asyncio.sleep(10)
    calls[0].hang_up()
    await asyncio.sleep(1)


def cancelled_with(phone: Phone) -> str:
    """The Reason of the CANCEL that ended its ringing."""
    ended = phone.calls[0].ended
    assert ended is not None
    assert ended.message is not None
    return ended.message.headers.get("Reason") or ""


async def test_who_dials_the_code_has_the_call_and_the_other_phone_no_missed_call(office: Office) -> None:
    ivan, boris, vera = await ringing(office)
    mine = vera.call("**102")
    await talk_and_end(ivan, mine)
    record = await office.record()
    assert mine.ladder() == ["INVITE", "401", "ACK", "INVITE", "100", "200", "ACK", "BYE", "200"]
    assert boris.calls[0].ladder() == ["INVITE", "100", "180", "CANCEL", "200", "487", "ACK"]
    assert cancelled_with(boris) == ELSEWHERE
    assert (record.direction, record.disposition, record.caller) == (Direction.INBOUND, Disposition.ANSWERED, IVAN)
    assert (record.extension, record.rang, record.crm_user) == ("103", ("102",), 79)
    assert "103 picks up the call that rings at 102" in record.why
    (note,) = office.books.writes
    assert isinstance(note, CallNote)
    assert [pop_up.users for pop_up in office.crm.pop_ups] == [(78,), (79,)]
    await office.all_quiet()


async def test_the_two_hear_each_other_by_an_answer_to_each_offer(office: Office) -> None:
    ivan, _, vera = await ringing(office)
    vera.codecs = {0: "PCMU/8000", 9: "G722/8000"}
    mine = vera.call("**102")
    await mine.answered.wait()
    await ivan.answered.wait()
    assert b"10.0.2.103" in ivan.sdp
    assert b"10.0.1.1" in mine.sdp
    await ivan.agree("sendonly")           # and a re-INVITE passes afterwards
    assert mine.direction == "sendonly"
    await talk_and_end(ivan, mine)
    await office.all_quiet()


async def test_a_caller_that_makes_no_offer_gets_the_pickers() -> None:
    async with faultless_office(media=AnchoredPlane()) as office:
        boris, vera = await office.phone("102", Rings()), await office.phone("103", Rings())
        sdp = office.trunk.sdp
        office.trunk.sdp = lambda _: b""   # type: ignore[method-assign]
        ivan = office.trunk.call(DID, as_=IVAN)
        office.trunk.sdp = sdp             # type: ignore[method-assign]
        await boris.was_called()
        await ivan.rang.wait()
        mine = vera.call("**102")
        await talk_and_end(ivan, mine)
        assert b"m=audio" in ivan.sdp
        assert b"m=audio" in mine.sdp
        assert (await office.record()).extension == "103"
        await office.all_quiet()


async def test_a_phone_without_a_common_codec_is_refused_and_it_rings_on() -> None:
    async with faultless_office(media=AnchoredPlane()) as office:
        ivan, boris, vera = await ringing(office)
        vera.codecs = {18: "G729/8000"}
        mine = vera.call("**102")
        await mine.over.wait()
        assert mine.status == 488
        boris.calls[0].answer()
        await talk_and_end(ivan, boris.calls[0])
        assert (await office.record()).extension == "102"
        await office.all_quiet()


async def test_anchored_each_side_gets_the_codecs_of_both() -> None:
    async with faultless_office(media=AnchoredPlane()) as office:
        ivan, _, vera = await ringing(office)
        vera.codecs = {0: "PCMU/8000", 9: "G722/8000"}
        mine = vera.call("**102")
        await mine.answered.wait()
        await ivan.answered.wait()
        for call in (ivan, mine):
            assert b"RTP/AVP 0 101\r\n" in call.sdp
        await talk_and_end(ivan, mine)
        await office.all_quiet()


async def test_the_group_code_takes_what_has_rung_longest_at_a_colleague(office: Office) -> None:
    boris, vera, anna = (await office.phone("102", Rings()), await office.phone("103", Rings()),
                         await office.phone("101", Rings()))
    ivan = office.trunk.call(DID, as_=IVAN)
    await ivan.rang.wait()
    await asyncio.sleep(2)
    later = anna.call("102")
    await later.rang.wait()
    mine = vera.call("*8")
    await talk_and_end(ivan, mine)
    assert not later.answered.is_set()
    assert [call.over.is_set() for call in boris.calls] == [True, False]
    later.hang_up()
    await office.record(2)
    await office.all_quiet()


async def test_the_group_code_is_for_colleagues_of_a_group_alone(office: Office) -> None:
    await ringing(office)
    anna = await office.phone("101", Rings())          # of no group
    mine = anna.call("*8")
    await mine.over.wait()
    assert mine.status == 480
    record = await office.record()
    assert record.why[-1] == "101 wants to pick up a call at a group of its own, and none rings there"
    assert (record.direction, record.disposition) == (Direction.INTERNAL, Disposition.UNREACHABLE)


async def test_the_code_with_a_group_takes_what_rings_at_a_member(office: Office) -> None:
    numbers = (replace(office.books.directory.numbers[0], destination="600"),)
    office.change(numbers=numbers)
    await office.pbx.settings_changed()
    boris, vera, anna = (await office.phone("102", Rings()), await office.phone("103", Rings()),
                         await office.phone("101", Rings()))
    ivan = office.trunk.call(DID, as_=IVAN)
    await ivan.rang.wait()
    mine = anna.call("**600")
    await talk_and_end(ivan, mine)
    record = await office.record()
    assert (record.extension, record.rang) == ("101", ("102", "103"))
    assert [cancelled_with(phone) for phone in (boris, vera)] == [ELSEWHERE, ELSEWHERE]
    await office.all_quiet()


@pytest.mark.parametrize(("answers", "reason"), [(True, ELSEWHERE), (False, "")])
async def test_a_colleague_who_rang_too_has_no_missed_call_but_if_nobody_answered(
    office: Office, answers: bool, reason: str
) -> None:
    office.change(numbers=(replace(office.books.directory.numbers[0], destination="600"),))
    await office.pbx.settings_changed()
    boris, _ = await office.phone("102", Rings()), await office.phone("103", Answers(3.0) if answers else Rings())
    ivan = office.trunk.call(DID, as_=IVAN)
    await asyncio.sleep(10)
    ivan.hang_up()
    await office.record()
    assert cancelled_with(boris) == reason
    await office.all_quiet()


async def test_where_nothing_rings_there_is_nothing_to_pick_up(office: Office) -> None:
    vera = await office.phone("103", Rings())
    for code, status in (("**102", 480), ("**999", 404), ("*8", 480)):
        mine = vera.call(code)
        await mine.over.wait()
        assert mine.status == status
    record = await office.record(3)
    assert record.reason is EndReason.NOTHING_TO_RING
    await office.all_quiet()


async def test_codes_are_the_clients_own_and_may_be_none(office: Office) -> None:
    async def say(**codes: str) -> None:
        office.change(clients=(replace(office.books.directory.clients[0], **codes),))
        await office.pbx.settings_changed()

    await say(pickup_code="*77", group_pickup_code="")
    ivan, _, vera = await ringing(office)
    office.trunk.does = Answers(0.5, hangs_up_after=1)
    assert office.pbx.directory.clients[0].group_pickup_code == ""
    other = vera.call("*8")                # now a number as any other, for the operator to judge
    await other.answered.wait()
    await other.over.wait()
    mine = vera.call("*77102")
    await talk_and_end(ivan, mine)
    await office.all_quiet()


async def test_an_internal_call_is_picked_up_and_stays_one_call(office: Office) -> None:
    boris, vera, anna = (await office.phone("102", Rings()), await office.phone("103", Rings()),
                         await office.phone("101", Rings()))
    call = anna.call("102")
    await call.rang.wait()
    mine = vera.call("**102")
    await talk_and_end(call, mine)
    record = await office.record()
    assert (record.direction, record.caller, record.dialled) == (Direction.INTERNAL, "101", "102")
    assert record.why[-1] == "103 picks up the call that rings at 102"
    assert cancelled_with(boris) == ELSEWHERE
    await office.all_quiet()


async def test_a_call_to_the_outside_cannot_be_picked_up(office: Office) -> None:
    office.trunk.does = Rings()
    anna, vera = await office.phone("101", Rings()), await office.phone("103", Rings())
    call = anna.call("+79265554433")
    await call.rang.wait()
    mine = vera.call("**101")
    await mine.over.wait()
    assert mine.status == 480
    call.hang_up()
    await office.record(2)
    await office.all_quiet()


async def test_nobody_of_another_client_picks_up(office: Office) -> None:
    other = ClientId("other")
    directory = office.books.directory
    spy = Extension(other, "201", "201", {"MD5": ha1("MD5", "201", REALM, PASSWORD)})
    office.change(clients=(*directory.clients, Client(other, "Other")), extensions=(*directory.extensions, spy),
                  groups=(*directory.groups, Group(other, "600", ("201",))))
    await office.pbx.settings_changed()
    ivan, boris, _ = await ringing(office)
    stranger = await watching_phone(office, "201")
    lamp = stranger.lamp("102")
    assert (await lamp.subscribe()).status == 404
    session = next(line.session for line in office.pbx.board.lines((ClientId("acme"), "102")))
    dialog = session.current_dialog()
    assert dialog is not None
    names = f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}"
    for code, headers, status in (("**102", (), 404), ("*8", (), 480), ("102", (("Replaces", names),), 403)):
        mine = stranger.call(code, headers=headers)
        await mine.over.wait()
        assert mine.status == status
    boris.calls[0].answer()
    await talk_and_end(ivan, boris.calls[0])
    await office.all_quiet()


@pytest.mark.parametrize("swapped", [False, True])
async def test_replaces_takes_the_early_dialog_that_a_lamp_shows(office: Office, swapped: bool) -> None:
    ivan, boris, _ = await ringing(office)
    anna = await watching_phone(office, "101")
    lamp = anna.lamp("102")
    assert (await lamp.subscribe()).status == 200
    await asyncio.sleep(1)
    assert lamp.lit == ["early"]
    told = lamp.told[-1][0]
    replaces = f"{told.call_id};to-tag={told.remote_tag};from-tag={told.local_tag}" if swapped else told.replaces
    mine = anna.call("102", headers=(("Replaces", replaces), ("Require", "replaces")))
    await talk_and_end(ivan, mine)
    record = await office.record()
    assert (record.extension, record.rang) == ("101", ("102",))
    assert cancelled_with(boris) == ELSEWHERE
    await lamp.subscribe(0)
    await office.all_quiet()


async def test_replaces_is_refused_where_pickup_is_off_and_once_it_is_answered(office: Office) -> None:
    ivan, boris, vera = await ringing(office)
    session = next(line.session for line in office.pbx.board.lines((ClientId("acme"), "102")))
    dialog = session.current_dialog()
    assert dialog is not None
    names = (("Replaces", f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}"),)
    office.change(clients=(replace(office.books.directory.clients[0], pickup_code=""),))
    await office.pbx.settings_changed()
    mine = vera.call("102", headers=names)
    await mine.over.wait()
    assert mine.status == 403
    boris.calls[0].answer()
    await ivan.answered.wait()
    late = vera.call("102", headers=names)
    await late.over.wait()
    assert late.status in (403, 481)
    await talk_and_end(ivan)
    await office.record()
    await office.all_quiet()


async def races(office: Office, first: float, second: float) -> tuple[CallRecord, PhoneCall, Phone]:
    """102 picks its own phone up after `first`, 103 dials the code after `second`."""
    ivan, boris, vera = await ringing(office)
    began = asyncio.get_running_loop().time()
    mine: list[PhoneCall] = []
    loop = asyncio.get_running_loop()
    loop.call_at(began + 1 + first, boris.calls[0].answer)
    loop.call_at(began + 1 + second, lambda: mine.append(vera.call("**102")))
    await asyncio.sleep(5)
    ivan.hang_up()
    await asyncio.sleep(2)
    records = [record for record in office.books.records if record.direction is Direction.INBOUND]
    assert len(records) == 1               # who came too late to find it ringing has a record of that beside it
    return records[0], mine[0], boris


@pytest.mark.parametrize("lead", [step / 200 for step in range(-24, 25, 2)])
async def test_picked_up_while_another_answers_the_first_one_has_it(office: Office, lead: float) -> None:
    record, mine, boris = await races(office, 0.2, 0.2 + lead)
    theirs = boris.calls[0]
    assert record.disposition is Disposition.ANSWERED
    assert record.extension in ("102", "103")
    if record.extension == "103":
        assert mine.status == 200
        assert theirs.over.is_set()
    else:
        assert theirs.status == 200
        assert mine.status == 480
    await office.all_quiet()


async def test_two_pick_up_at_once_and_one_has_it(office: Office) -> None:
    ivan, _, vera = await ringing(office)
    anna = await office.phone("101", Rings())
    both = [vera.call("**102"), anna.call("**102")]
    await ivan.answered.wait()
    await asyncio.sleep(2)
    assert sorted(call.status or 0 for call in both) == [200, 480]
    ivan.hang_up()
    await office.record()
    await office.all_quiet()


@pytest.mark.parametrize("lead", [step / 200 for step in range(-12, 21, 2)])
async def test_the_caller_gives_up_at_that_moment(office: Office, lead: float) -> None:
    ivan, _, vera = await ringing(office)
    mine: list[PhoneCall] = []
    loop = asyncio.get_running_loop()
    loop.call_later(1.0, lambda: mine.append(vera.call("**102")))
    loop.call_later(1.0 + lead, ivan.hang_up)
    await asyncio.sleep(10)
    records = office.books.records
    assert mine[0].over.is_set()
    calls = [record for record in records if record.direction is Direction.INBOUND]
    assert len(calls) == 1
    assert calls[0].disposition in (Disposition.ABANDONED, Disposition.ANSWERED)
    await office.all_quiet()


@pytest.mark.parametrize("after", [0.0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1])
async def test_the_picker_gives_up_at_that_moment(office: Office, after: float) -> None:
    ivan, boris, vera = await ringing(office)
    mine = vera.call("**102")
    await asyncio.sleep(after)
    mine.hang_up()
    await asyncio.sleep(2)
    if not ivan.over.is_set():             # it rings on, as nobody had it
        boris.calls[0].answer()
        await ivan.answered.wait()
        ivan.hang_up()
    await office.record()
    await office.all_quiet()


async def test_the_target_of_a_blind_transfer_is_picked_up(office: Office) -> None:
    boris, vera = await office.phone("102", Answers(1.0)), await office.phone("103", Rings())
    anna = await office.phone("101", Rings())
    ivan = office.trunk.call(DID, as_=IVAN)
    await ivan.answered.wait()
    await asyncio.sleep(1)
    boris.calls[0].refer("<sip:103@10.0.0.1>")
    await vera.was_called()
    await asyncio.sleep(1)
    mine = anna.call("**103")
    await mine.answered.wait()
    await asyncio.sleep(5)                 # the transferor has 4 s to hang up by itself
    assert boris.calls[0].over.is_set()
    assert cancelled_with(vera) == ELSEWHERE
    ivan.hang_up()
    record = await office.record()
    assert record.extension == "101"
    assert "101 picks up the call that rings at 103" in record.why
    await office.all_quiet()


async def test_nobody_is_transferred_to_a_code(office: Office) -> None:
    boris = await office.phone("102", Answers(1.0))
    ivan = office.trunk.call(DID, as_=IVAN)
    await ivan.answered.wait()
    await asyncio.sleep(1)
    boris.calls[0].refer("<sip:**103@10.0.0.1>")
    await asyncio.sleep(3)
    assert boris.calls[0].notified[-1][0] == "404 Not Found"
    assert len(office.trunk.calls) == 1
    ivan.hang_up()
    assert "**103 is a pickup code, and no number" in (await office.record()).why
    await office.all_quiet()


async def test_a_call_that_has_gone_on_to_the_outside_is_not_picked_up(office: Office) -> None:
    office.change(extensions=tuple(
        replace(one, on_no_answer="+79265554433", ring_seconds=5) if one.number == "102" else one
        for one in office.books.directory.extensions), numbers=(replace(office.books.directory.numbers[0],
        ring_seconds=5),))
    await office.pbx.settings_changed()
    ivan, _, vera = await ringing(office)
    await asyncio.sleep(8)
    mine = vera.call("**102")
    await mine.over.wait()
    assert mine.status == 480
    ivan.hang_up()
    await office.record(2)
    await office.all_quiet()


async def test_calls_that_were_picked_up_leave_nothing_behind() -> None:
    gc.collect()
    gc.disable()
    try:
        async with faultless_office(media=AnchoredPlane()) as office:
            boris, vera = await office.phone("102", Rings()), await office.phone("103", Rings())
            watcher = await watching_phone(office, "101")
            lamp = watcher.lamp("102")
            counts = []
            for number in range(4):
                await lamp.subscribe(3600)
                ivan = office.trunk.call(DID, as_=IVAN)
                await ivan.rang.wait()
                mine = vera.call("**102")
                late = vera.call("**102")
                await mine.answered.wait()
                await late.over.wait()
                await asyncio.sleep(3)
                ivan.hang_up()
                await asyncio.sleep(100)
                assert len([one for one in office.books.records if one.extension == "103" and one.caller == IVAN]
                           ) == number + 1
                del ivan, mine, late
                for phone in (boris, vera, office.trunk):
                    phone.forget()
                lamp.notifies.clear()
                lamp.told.clear()
                counts.append(alive("b2bua.calls", "b2bua.ua.leg"))
            for count in counts:
                del count["_Window"]       # of a nonce, which is known for its time
            assert counts[1] == counts[2] == counts[3]
    finally:
        gc.enable()
