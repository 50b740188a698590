"""Calls that end at an announcement: wherever a destination can be named, and whatever the caller does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from b2bua.cdr import Disposition, EndedBy, EndReason
from b2bua.directory import Hours
from b2bua.media.relay import wire
from tests.support.anchored import SOUND, AnchoredPlane
from tests.support.office import DID, Office, faultless_office, open_office
from tests.support.phone import Rejects, Rings
from tests.support.rtp import audio_address

IVAN = "+79161234567"
BUSY = "announcement:busy"


@pytest.fixture
def media() -> AnchoredPlane:
    return AnchoredPlane()


@pytest.fixture
def office(media: AnchoredPlane):
    return faultless_office(media)


async def number(office: Office, **says: object) -> None:
    office.change(numbers=(replace(office.books.directory.numbers[0], **says),))  # type: ignore[arg-type]
    await office.pbx.settings_changed()


async def told(office: Office) -> list[str]:
    """Whom the CRM is told of, as what."""
    return [write.disposition.value for write in office.books.writes]  # type: ignore[union-attr]


async def test_a_number_may_lead_to_an_announcement(office: Office, media: AnchoredPlane) -> None:
    await number(office, destination="announcement:unavailable")
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    assert call.ladder() == ["INVITE", "100", "200", "ACK", "BYE", "200"]
    assert call.answered_at is not None
    assert call.ended_at is not None
    assert call.ended_at - call.answered_at == pytest.approx(SOUND, abs=0.2)
    assert call.direction == "sendrecv"
    record = await office.record()
    assert (record.disposition, record.reason, record.ended_by) == (
        Disposition.UNREACHABLE, EndReason.ANNOUNCED, EndedBy.SWITCH)
    assert (record.status, record.talk_seconds, record.answered_at, record.rang) == (200, 0, None, ())
    assert f"{DID} goes to announcement:unavailable" in record.why
    (play,) = [one for one in media.told if isinstance(one, wire.Play)]
    assert (play.side, play.sound, play.payload_type, play.mu_law, play.repeat, play.yields) == (
        0, "unavailable", 8, False, False, False)
    assert media.recorded() == []
    assert media.in_use == 0
    assert await told(office) == ["unreachable"]
    await office.all_quiet()


@pytest.mark.parametrize(
    ("cause", "does", "disposition"),
    [("on_no_answer", Rings(), Disposition.NO_ANSWER), ("on_busy", Rejects(486), Disposition.BUSY),
     ("on_busy", Rejects(603), Disposition.DECLINED), ("on_unregistered", Rejects(404), Disposition.UNREACHABLE)],
)
async def test_after_phones_have_rung_the_call_is_what_they_made_of_it(
    office: Office, cause: str, does: Rings | Rejects, disposition: Disposition
) -> None:
    await number(office, **{cause: BUSY})
    boris = await office.phone("102", does)
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    assert call.status == 200
    record = await office.record()
    assert (record.disposition, record.reason, record.rang) == (
        disposition, EndReason.ANNOUNCED, ("102",) if isinstance(does, Rings) else ())
    assert len(boris.calls) == 1
    assert await told(office) == [disposition.value]
    if isinstance(does, Rings):
        assert call.ladder()[:4] == ["INVITE", "100", "180", "200"]         # in the dialog in which it rang
    await office.all_quiet()


async def test_where_no_phone_is_registered(office: Office) -> None:
    await number(office, on_unregistered=BUSY)
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (call.status, record.disposition) == (200, Disposition.UNREACHABLE)
    assert f"{DID} goes to 102; no phone of 102 is registered: on to {BUSY}" in record.why


async def test_outside_of_the_hours(office: Office) -> None:
    await number(office, hours=Hours("Europe/Moscow", ("mon 00:00-00:01",), BUSY, ()))
    boris = await office.phone("102")
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    assert call.status == 200
    assert boris.calls == []
    assert (await office.record()).reason is EndReason.ANNOUNCED


async def test_an_extension_that_forwards_all_its_calls_and_colleagues_hear_it_too(office: Office) -> None:
    extensions = tuple(replace(one, forward_always=BUSY) if one.number == "102" else one
                       for one in office.books.directory.extensions)
    office.change(extensions=extensions)
    await office.pbx.settings_changed()
    anna, boris = await office.phone("101"), await office.phone("102")
    call = anna.call("102")
    await call.over.wait()
    record = await office.record()
    assert (call.status, record.reason, boris.calls) == (200, EndReason.ANNOUNCED, [])
    assert office.books.writes == []


async def test_the_caller_hangs_up_in_the_middle(office: Office, media: AnchoredPlane) -> None:
    await number(office, on_busy=BUSY)
    await office.phone("102", Rejects(486))
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    await asyncio.sleep(1)
    assert set(media.heard()) == {0}
    call.hang_up()
    record = await office.record()
    assert (record.disposition, record.reason, record.ended_by, record.status) == (
        Disposition.BUSY, EndReason.HUNG_UP, EndedBy.CALLER, 200)
    assert media.heard() == {}
    await office.all_quiet()


async def test_the_caller_cancels_before_it_begins(office: Office, media: AnchoredPlane) -> None:
    await number(office, on_no_answer=BUSY)
    await office.phone("102", Rings())
    call = office.trunk.call(DID, as_=IVAN)
    await call.rang.wait()
    call.hang_up()
    assert (await office.record()).disposition is Disposition.ABANDONED
    assert not any(isinstance(one, wire.Play) for one in media.told)
    await office.all_quiet()


@pytest.mark.parametrize(("hold", "answered"), [("sendonly", "recvonly"), ("inactive", "inactive")])
async def test_a_caller_that_holds_is_played_nothing_until_it_resumes(
    office: Office, media: AnchoredPlane, hold: str, answered: str
) -> None:
    await number(office, destination=BUSY)
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    await asyncio.sleep(1)
    await call.agree(hold)
    assert (call.direction, media.heard()) == (answered, {})
    await call.agree("sendrecv")
    assert (call.direction, set(media.heard())) == ("sendrecv", {0})
    office.trunk.codecs = {0: "PCMU/8000"}
    await call.agree("sendrecv")
    (tune,) = [one for one in media.told if isinstance(one, wire.Tune)][-1:]
    assert (tune.payload_type, tune.mu_law, tune.listens) == (0, True, True)
    await call.over.wait()
    assert call.status == 200
    assert (await office.record()).reason is EndReason.ANNOUNCED


async def test_a_call_without_an_offer_is_made_one_of_g711(office: Office, media: AnchoredPlane) -> None:
    await number(office, destination=BUSY)
    office.trunk.codecs = {0: "PCMU/8000"}
    call = office.trunk.call(DID, as_=IVAN, offer=False)
    await call.answered.wait()
    assert b"RTP/AVP 8 0 101\r\n" in call.sdp
    await call.over.wait()
    (play,) = [one for one in media.told if isinstance(one, wire.Play)]
    assert (play.payload_type, play.mu_law) == (0, True)
    assert (await office.record()).reason is EndReason.ANNOUNCED
    await office.all_quiet()


async def test_who_has_no_codec_of_ours_is_told_what_happened_instead(office: Office, media: AnchoredPlane) -> None:
    await number(office, on_busy=BUSY)
    await office.phone("102", Rejects(486))
    office.trunk.codecs = {18: "G729/8000"}
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (call.status, record.disposition, record.reason) == (486, Disposition.BUSY, EndReason.REJECTED)
    assert "busy cannot be played: neither PCMA nor PCMU is agreed upon" in record.why
    assert not any(isinstance(one, wire.Play) for one in media.told)


async def test_a_sound_that_is_gone_is_no_reason_to_answer(office: Office) -> None:
    await number(office, destination="announcement:gone")
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (call.status, record.disposition) == (480, Disposition.UNREACHABLE)
    assert "gone cannot be played: there is no sound 'gone'" in record.why


async def test_without_a_media_plane_there_is_no_announcement() -> None:
    async with open_office() as office:
        await number(office, destination=BUSY)
        call = office.trunk.call(DID, as_=IVAN)
        await call.over.wait()
        assert call.status == 480
        assert "busy cannot be played: media is not anchored here" in (await office.record()).why


async def test_the_relay_dies_in_the_middle(office: Office, media: AnchoredPlane) -> None:
    await number(office, destination=BUSY)
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    await asyncio.sleep(1)
    media.sessions[0].relay_is_gone()
    await call.over.wait()
    record = await office.record()
    assert (record.disposition, record.reason, record.ended_by) == (
        Disposition.UNREACHABLE, EndReason.FAULT, EndedBy.SWITCH)
    await office.all_quiet()


async def test_nobody_sends_rtp_for_too_long(office: Office, media: AnchoredPlane) -> None:
    await number(office, destination=BUSY)
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    await asyncio.sleep(1)
    media.sessions[0].hear(wire.Silent(1))
    await call.over.wait()
    assert (await office.record()).reason is EndReason.MEDIA_TIMEOUT


async def test_a_relay_that_never_ends_a_sound_keeps_no_caller(
    office: Office, media: AnchoredPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.anchored.SOUND", 1e6)
    await number(office, destination=BUSY)
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert record.reason is EndReason.FAULT
    assert "busy was not played to its end: it took more than 600 s" in record.why


async def test_the_switch_ends_in_the_middle(office: Office) -> None:
    await number(office, destination=BUSY)
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    await office.pbx.drain(0)
    await call.over.wait()
    assert (await office.record()).reason is EndReason.SHUTDOWN


async def test_a_transfer_to_an_announcement_fails_and_the_talk_goes_on(office: Office, media: AnchoredPlane) -> None:
    extensions = tuple(replace(one, forward_always=BUSY) if one.number == "103" else one
                       for one in office.books.directory.extensions)
    office.change(extensions=extensions)
    await office.pbx.settings_changed()
    boris = await office.phone("102")
    call = office.trunk.call(DID, as_=IVAN)
    await call.answered.wait()
    boris.calls[0].refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(2)
    assert boris.calls[0].notified[-1][0].startswith("480")
    assert not call.over.is_set()
    call.hang_up()
    record = await office.record()
    assert "nobody is transferred to an announcement (busy)" in record.why
    await office.all_quiet()


async def test_a_crash_leaves_a_goodbye_for_who_heard_an_announcement() -> None:
    async with _standing() as office:
        await number(office, destination=BUSY)
        call = office.trunk.call(DID, as_=IVAN)
        await call.answered.wait()
        await asyncio.sleep(3)
        (left,) = office.books.standing.values()
        assert len(left.call.farewells) == 1
        await call.over.wait()
        await asyncio.sleep(10)
        assert not office.books.standing


@asynccontextmanager
async def _standing() -> AsyncIterator[Office]:
    async with open_office(media=AnchoredPlane()) as office, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(office.standing.run())
        yield office
        running.cancel()


@pytest.mark.parametrize("codec", [{8: "PCMA/8000"}, {0: "PCMU/8000"}])
async def test_after_a_phones_early_media_the_announcement_speaks_as_that_was_agreed(
    office: Office, media: AnchoredPlane, codec: dict[int, str]
) -> None:
    await number(office, on_no_answer=BUSY)
    boris = await office.phone("102", Rings())
    boris.codecs = codec
    call = office.trunk.call(DID, as_=IVAN)
    ringing = await boris.was_called()
    boris.do(ringing.session.progress(183, boris.now(), body=boris.answer_to(ringing.sdp)))
    await asyncio.sleep(1)
    early = call.sdp
    assert early
    await call.over.wait()
    assert call.status == 200
    assert audio_address(call.sdp) == audio_address(early)
    (play,) = [one for one in media.told if isinstance(one, wire.Play)]
    assert [play.payload_type] == list(codec)
    assert (await office.record()).disposition is Disposition.NO_ANSWER
    await office.all_quiet()


async def test_of_many_phones_that_fail_the_best_word_is_in_the_books(office: Office) -> None:
    await number(office, destination="600", on_busy=BUSY)
    await office.phone("102", Rejects(486))
    await office.phone("103", Rejects(404))
    call = office.trunk.call(DID, as_=IVAN)
    await call.over.wait()
    record = await office.record()
    assert (record.disposition, record.reason) == (Disposition.BUSY, EndReason.ANNOUNCED)


@pytest.mark.parametrize("target", ["announcement:busy", "busy"])
async def test_nobody_dials_an_announcement_nor_is_sent_there_by_a_phone(office: Office, target: str) -> None:
    anna = await office.phone("101")
    await office.phone("102", Rejects(302, contact=f"<sip:{target.replace(':', '%3a')}@10.0.0.1>"))
    call = anna.call(target.replace(":", "%3a"))
    await call.over.wait()
    assert call.status == 404
    moved = anna.call("102")
    await moved.over.wait()
    assert moved.status == 480
