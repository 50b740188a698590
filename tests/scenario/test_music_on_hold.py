"""Who is put on hold hears the server's music: however the phone spells hold, whoever holds, and through transfers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from b2bua.media.relay import wire
from tests.support.anchored import AnchoredPlane
from tests.support.office import DID, Office, faultless_office, open_office
from tests.support.phone import Answers, PhoneCall, Rejects

IVAN = "+79161234567"
CALLER, CALLEE = 0, 1
SPELLINGS = {
    "sendonly": ("sendonly", ""), "inactive": ("inactive", ""), "0.0.0.0": ("sendrecv", "0.0.0.0"),  # noqa: S104
    "inactive at 0.0.0.0": ("inactive", "0.0.0.0"),  # noqa: S104
}


@pytest.fixture
def media() -> AnchoredPlane:
    return AnchoredPlane()


@pytest.fixture
def office(media: AnchoredPlane):
    return faultless_office(media)


async def with_music(office: Office, sound: str = "music") -> None:
    office.change(clients=tuple(replace(one, music_on_hold=sound) for one in office.books.directory.clients))
    await office.pbx.settings_changed()


async def talk(office: Office) -> tuple[PhoneCall, PhoneCall]:
    """The outside, and 102."""
    boris = await office.phone("102", Answers(after=1.0))
    outside = office.trunk.call(DID, as_=IVAN)
    await outside.answered.wait()
    await asyncio.sleep(1)
    return outside, boris.calls[0]


async def holds(call: PhoneCall, spelling: str, method: str = "INVITE") -> None:
    direction, host = SPELLINGS[spelling]
    sdp = call.phone.sdp(direction)
    if host:
        sdp = sdp.replace(f"c=IN IP4 {call.phone.transport.local.host}".encode(), f"c=IN IP4 {host}".encode())
    call.holds = True
    call.agreed.clear()
    ask = call.session.update if method == "UPDATE" else call.session.reoffer
    call.phone.do(ask(sdp, call.phone.now()))
    await call.agreed.wait()
    await asyncio.sleep(1)


async def resumes(call: PhoneCall) -> None:
    call.holds = False
    await call.agree("sendrecv")
    await asyncio.sleep(1)


def heard(media: AnchoredPlane) -> dict[int, tuple[str, bool]]:
    """By side: which sound, and whether it yields to what the other side sends."""
    return {side: (play.sound, play.yields) for side, play in media.heard().items() if play.repeat}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("holder", [CALLER, CALLEE])
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
async def test_the_held_side_hears_music_until_the_other_resumes(
    office: Office, media: AnchoredPlane, spelling: str, holder: int, method: str
) -> None:
    await with_music(office)
    ends = await talk(office)
    mine, other = ends[holder], ends[1 - holder]
    await holds(mine, spelling, method)
    assert heard(media) == {1 - holder: ("music", spelling == "sendonly")}
    assert other.direction == "sendonly"                # whatever the holder said: it shall listen
    inactive = spelling.startswith("inactive")
    assert mine.direction == ("inactive" if inactive else "recvonly")
    await resumes(mine)
    assert heard(media) == {}
    assert (mine.direction, other.direction) == ("sendrecv", "sendrecv")
    ends[0].hang_up()
    await office.record()
    await office.all_quiet()


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_without_the_setting_hold_passes_as_it_was_said(
    office: Office, media: AnchoredPlane, spelling: str
) -> None:
    outside, boris = await talk(office)
    await holds(boris, spelling)
    assert heard(media) == {}
    assert outside.direction == ("inactive" if spelling.startswith("inactive") else "sendonly")


async def test_who_waits_may_hear_silence_of_ours(office: Office, media: AnchoredPlane) -> None:
    await with_music(office, "silence")
    _, boris = await talk(office)
    await holds(boris, "inactive")
    assert heard(media) == {CALLER: ("silence", False)}


@pytest.mark.parametrize("first", SPELLINGS)
@pytest.mark.parametrize("second", SPELLINGS)
async def test_when_both_hold_nobody_hears_anything_and_each_resumes_alone(
    office: Office, media: AnchoredPlane, first: str, second: str
) -> None:
    await with_music(office)
    outside, boris = await talk(office)
    await holds(boris, first)
    await holds(outside, second)
    assert heard(media) == {}
    await resumes(boris)
    assert set(heard(media)) == {CALLEE}                # the outside holds still
    await resumes(outside)
    assert heard(media) == {}
    assert (outside.direction, boris.direction) == ("sendrecv", "sendrecv")


async def test_the_held_side_may_refresh_its_description_and_hears_on(office: Office, media: AnchoredPlane) -> None:
    await with_music(office)
    outside, boris = await talk(office)
    await holds(boris, "inactive")
    await outside.agree("recvonly")
    assert (outside.direction, set(heard(media))) == ("sendonly", {CALLER})
    outside.phone.codecs = {0: "PCMU/8000"}
    await outside.agree("recvonly")
    assert [one for one in media.told if isinstance(one, wire.Tune)][-1] == wire.Tune(1, CALLER, 0, True, True)
    await resumes(boris)
    assert heard(media) == {}


async def test_a_hold_that_is_refused_is_none(office: Office, media: AnchoredPlane) -> None:
    await with_music(office)
    _, boris = await talk(office)
    office.trunk.refuses_offers = 488
    boris.offer("inactive")
    await asyncio.sleep(2)
    assert heard(media) == {}
    office.trunk.refuses_offers = 0
    await holds(boris, "sendonly")
    office.trunk.refuses_offers = 488                   # and a resume that is refused is none either
    boris.offer("sendrecv")
    await asyncio.sleep(2)
    assert set(heard(media)) == {CALLER}


async def test_who_speaks_no_codec_of_ours_hears_nothing(office: Office, media: AnchoredPlane) -> None:
    await with_music(office)
    office.trunk.codecs = {18: "G729/8000", 8: "PCMA/8000"}
    boris = await office.phone("102", Answers(after=1.0))
    boris.codecs = {18: "G729/8000"}
    outside = office.trunk.call(DID, as_=IVAN)
    await outside.answered.wait()
    await asyncio.sleep(1)
    await holds(boris.calls[0], "sendonly")
    assert heard(media) == {}
    assert not outside.over.is_set()


async def test_a_sound_that_is_gone_is_heard_by_nobody(office: Office, media: AnchoredPlane) -> None:
    await with_music(office, "gone")
    outside, boris = await talk(office)
    await holds(boris, "sendonly")
    assert heard(media) == {}
    await resumes(boris)
    assert (outside.direction, outside.over.is_set()) == ("sendrecv", False)


async def test_without_a_media_plane_hold_passes_as_it_was_said() -> None:
    async with open_office() as office:
        await with_music(office)
        outside, boris = await talk(office)
        await holds(boris, "inactive")
        assert outside.direction == "inactive"


@pytest.mark.parametrize("by", [CALLER, CALLEE])
async def test_the_music_ends_with_the_call(office: Office, media: AnchoredPlane, by: int) -> None:
    await with_music(office)
    ends = await talk(office)
    await holds(ends[1], "sendonly")
    ends[by].hang_up()
    await office.record()
    assert heard(media) == {}
    await office.all_quiet()


@pytest.mark.parametrize("on_hold", [True, False])
async def test_who_is_transferred_hears_music_while_it_rings_and_then_who_answers(
    office: Office, media: AnchoredPlane, on_hold: bool
) -> None:
    await with_music(office)
    outside, boris = await talk(office)
    vera = await office.phone("103", Answers(after=5.0))
    if on_hold:
        await holds(boris, "inactive")
    boris.refer("<sip:103@10.0.0.1>")
    await (await vera.was_called()).rang.wait()
    boris.hang_up()                                      # as many phones do at once
    await asyncio.sleep(1)
    assert set(heard(media)) == {CALLER}
    await vera.calls[0].answered.wait()
    await asyncio.sleep(1)
    assert heard(media) == {}
    assert outside.direction == "sendrecv"
    outside.hang_up()
    assert (await office.record()).extension == "103"
    await office.all_quiet()


async def test_a_transfer_that_fails_leaves_the_music_to_who_holds(office: Office, media: AnchoredPlane) -> None:
    await with_music(office)
    _, boris = await talk(office)
    await office.phone("103", Rejects(486))
    await holds(boris, "sendonly")
    boris.refer("<sip:103@10.0.0.1>")
    await asyncio.sleep(2)
    assert boris.notified[-1][0].startswith("486")
    assert set(heard(media)) == {CALLER}
    await resumes(boris)
    assert heard(media) == {}


async def test_who_is_called_back_ends_the_music(office: Office, media: AnchoredPlane) -> None:
    await with_music(office)
    outside, boris = await talk(office)
    vera = await office.phone("103", Answers(after=60.0))
    boris.refer("<sip:103@10.0.0.1>")
    await (await vera.was_called()).rang.wait()
    boris.hang_up()
    await asyncio.sleep(1)
    assert set(heard(media)) == {CALLER}
    vera.calls[0].reject(486)
    await asyncio.sleep(5)
    again = boris.phone.calls[-1]
    assert again is not boris
    assert again.answered.is_set()
    assert heard(media) == {}
    outside.hang_up()
    await office.record()
    await office.all_quiet()


async def test_an_attended_transfer_ends_the_music_of_both_calls(office: Office, media: AnchoredPlane) -> None:
    await with_music(office)
    outside, boris = await talk(office)
    vera = await office.phone("103", Answers(after=1.0))
    await holds(boris, "sendonly")
    second = boris.phone.call("103")
    await second.answered.wait()
    await asyncio.sleep(1)
    assert (set(media.heard(1)), set(media.heard(2))) == ({CALLER}, set())
    boris.refer_to(second)
    await asyncio.sleep(3)
    assert (media.heard(1), media.heard(2)) == ({}, {})
    assert (outside.direction, vera.calls[0].direction) == ("sendrecv", "sendrecv")
    outside.hang_up()
    await office.record(2)
    await office.all_quiet()
