"""The embedded media plane with its real process: what one side sends, the other hears, and nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from b2bua.control import Heard
from b2bua.media.plane import MediaError, MediaSession, SdpRefused, Side
from b2bua.media.relay.link import RelaySettings
from b2bua.media.relay.plane import EmbeddedPlane, embedded_plane
from tests.support.rtp import RtpEnd, audio_address, capture, captures

RELAY = "127.0.0.40"
SETTINGS = RelaySettings(RELAY, RELAY, first_port=30000, last_port=30199, spare=2)


@asynccontextmanager
async def joined(plane: EmbeddedPlane, caller: RtpEnd, callee: RtpEnd,
                 extra: str = "") -> AsyncIterator[tuple[MediaSession, tuple[str, int], tuple[str, int]]]:
    """A session, and where the caller and the callee send to."""
    async with plane.open("call") as media:
        to_callee = media.offer(caller.describe(extra=extra), Side.CALLER)
        to_caller = media.answer(callee.describe(extra=extra), Side.CALLEE)
        await caught_up(plane)
        yield media, audio_address(to_caller), audio_address(to_callee)


async def caught_up(plane: EmbeddedPlane) -> None:
    """The relay has taken all that was sent to it before: it answers in order, one packet of commands in a round."""
    for _ in range(3):
        async with plane.open("another call"):
            pass


async def heard(sender: RtpEnd, to: tuple[str, int], receiver: RtpEnd) -> bool:
    packet = sender.send(to)
    return await receiver.receive() == packet


async def test_what_one_side_sends_the_other_hears() -> None:
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(SETTINGS) as plane, joined(plane, caller, callee) as (media, for_caller, for_callee):
            for _ in range(20):
                assert await heard(caller, for_caller, callee)
                assert await heard(callee, for_callee, caller)
            report = await media.close()
    assert (report.caller.packets, report.callee.packets) == (20, 20)
    assert (report.caller.octets, report.caller.lost, report.caller.foreign) == (3200, 0, 0)
    assert report.caller.codec == "PCMA/8000"
    assert not report.recorded


async def test_how_the_audio_arrives_is_told_when_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("b2bua.media.relay.plane.LOOK_EVERY", 0.0)
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(SETTINGS) as plane, joined(plane, caller, callee) as (media, for_caller, _):
            plane.look()
            for _ in range(10):
                assert await heard(caller, for_caller, callee)
            while media.quality is None:                        # it tells within its next ticks
                plane.look()
                await caught_up(plane)
            here = media.quality.caller
            assert here is not None
            assert (here, media.quality.callee) == (Heard.of(0.0, here.jitter_ms), None)


async def test_each_side_sees_one_address_of_ours() -> None:
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(SETTINGS) as plane, joined(plane, caller, callee) as (_, for_caller, for_callee):
            caller.send(for_caller)
            _, source = await callee.receive_from()
            assert source == for_callee
            assert for_caller[1] % 2 == for_callee[1] % 2 == 0


@pytest.mark.parametrize("recording", [each["file"] for each in captures() if each["kind"] == "rtp"])
async def test_what_real_phones_sent_passes_byte_by_byte(recording: str) -> None:
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(SETTINGS) as plane, plane.open("call") as media:
            media.offer(caller.describe("0 8 101"), Side.CALLER)
            for_caller = audio_address(media.answer(callee.describe("0 8 101"), Side.CALLEE))
            await caught_up(plane)
            packets = [packet for _, packet in capture(recording)]
            for packet in packets:
                caller.send(for_caller, packet)
                assert await callee.receive() == packet
            report = await media.close()
    assert report.caller.packets == len(packets)
    assert report.caller.lost == 0
    assert report.caller.codec in ("PCMA/8000", "PCMU/8000")


async def test_rtcp_passes_one_port_above() -> None:
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(SETTINGS) as plane, joined(plane, caller, callee) as (_, for_caller, _for_callee):
            for _, packet in capture("pjsua-rtcp-26421.pcap"):
                caller.rtcp.sendto(packet, (for_caller[0], for_caller[1] + 1))
                assert await callee.receive_control() == packet


async def test_early_media_is_heard_once_the_callee_described_itself() -> None:
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(SETTINGS) as plane, plane.open("call") as media:
            for_callee = audio_address(media.offer(caller.describe(), Side.CALLER))
            callee.send(for_callee)                             # before its 183: nobody knows that it is the callee
            await caught_up(plane)
            media.answer(callee.describe(), Side.CALLEE)
            await caught_up(plane)
            assert await heard(callee, for_callee, caller)
            assert caller.waiting() == 0


async def test_another_branch_takes_the_early_medias_place() -> None:
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as first, RtpEnd("127.0.0.43", ssrc=9) as second:
        async with embedded_plane(SETTINGS) as plane, joined(plane, caller, first) as (media, for_caller, for_callee):
            assert await heard(first, for_callee, caller)
            assert audio_address(media.answer(second.describe(), Side.CALLEE)) == for_caller
            await caught_up(plane)
            assert await heard(second, for_callee, caller)
            first.send(for_callee)
            assert await heard(caller, for_caller, second)
            report = await media.close()
    assert report.callee.foreign == 1


async def test_a_phone_that_sends_from_another_address_than_it_says_is_heard() -> None:
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(SETTINGS) as plane, plane.open("call") as media:
            for_callee = audio_address(media.offer(caller.describe(), Side.CALLER))
            for_caller = audio_address(media.answer(callee.describe(host="127.0.0.99"), Side.CALLEE))
            await caught_up(plane)
            callee.send(for_callee)                             # on probation
            assert await heard(callee, for_callee, caller)
            assert await heard(caller, for_caller, callee)      # and gets its answer where it is, not where it says


async def test_a_strangers_stream_is_not_heard_and_does_not_get_the_audio() -> None:
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee, RtpEnd("127.0.0.66", ssrc=666) as stranger:
        async with embedded_plane(SETTINGS) as plane, joined(plane, caller, callee) as (media, for_caller, for_callee):
            assert await heard(caller, for_caller, callee)
            assert await heard(callee, for_callee, caller)
            for _ in range(50):
                stranger.send(for_caller)
                stranger.send(for_callee)
                assert await heard(caller, for_caller, callee)
                assert await heard(callee, for_callee, caller)
            report = await media.close()
            assert (caller.waiting(), callee.waiting(), stranger.waiting()) == (0, 0, 0)
    assert (report.caller.foreign, report.callee.foreign) == (50, 50)


async def test_what_is_no_rtp_goes_nowhere() -> None:
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(SETTINGS) as plane, joined(plane, caller, callee) as (_, for_caller, _for_callee):
            assert await heard(caller, for_caller, callee)
            for scrap in (b"", b"\r\n\r\n", b"\x00\x01\x00\x00" + bytes(16), b"\x80\x08\x00", bytes(5000)):
                caller.send(for_caller, scrap)
            assert await heard(caller, for_caller, callee)
            assert callee.waiting() == 0


async def test_a_flood_is_held_back_and_other_calls_do_not_notice() -> None:
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee, RtpEnd("127.0.0.66") as stranger:
        async with embedded_plane(SETTINGS) as plane, joined(plane, caller, callee) as (_, for_caller, _a), \
                joined(plane, stranger, stranger) as (flooded, victim, _b):
            sent = unheard = 0
            while unheard < 5:                  # bursts in a row of which nothing comes through
                for _ in range(500):
                    stranger.send(victim)
                sent += 500
                assert await heard(caller, for_caller, callee)
                unheard = 0 if stranger.waiting() else unheard + 1
            report = await flooded.close()
    assert report.caller.packets < sent


async def test_hold_and_resume_keep_the_addresses() -> None:
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(SETTINGS) as plane, joined(plane, caller, callee) as (media, for_caller, for_callee):
            held = media.offer(callee.describe(extra="a=sendonly\r\n"), Side.CALLEE)
            assert audio_address(held) == for_caller
            assert held.endswith(b"a=sendonly\r\n")
            media.answer(caller.describe(extra="a=recvonly\r\n"), Side.CALLER)
            await caught_up(plane)
            assert await heard(callee, for_callee, caller)      # music on hold
            media.offer(callee.describe(), Side.CALLEE)
            media.answer(caller.describe(), Side.CALLER)
            assert await heard(caller, for_caller, callee)


async def test_an_offer_of_the_callee_is_answered_by_the_caller() -> None:
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(SETTINGS) as plane, plane.open("call") as media:      # an INVITE without an offer
            for_caller = audio_address(media.offer(callee.describe(), Side.CALLEE))
            for_callee = audio_address(media.answer(caller.describe(), Side.CALLER))
            await caught_up(plane)
            assert await heard(caller, for_caller, callee)
            assert await heard(callee, for_callee, caller)


async def test_silence_is_told_only_after_somebody_looks() -> None:
    settings = replace(SETTINGS, rtp_timeout=0.2)
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(settings) as plane, joined(plane, caller, callee) as (media, _, _for_callee):
            assert not media.lost.done()
            async with asyncio.timeout(5):
                await media.lost
            assert plane.counts.timeouts == 1


async def test_on_hold_silence_may_last_longer() -> None:
    settings = replace(SETTINGS, rtp_timeout=0.2, hold_timeout=60)
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee, RtpEnd("127.0.0.43") as other:
        async with embedded_plane(settings) as plane, \
                joined(plane, caller, callee, "a=inactive\r\n") as (held, _, _a), \
                joined(plane, other, other) as (silent, _b, _c):
            lost = held.lost
            async with asyncio.timeout(5):
                await silent.lost
            assert not lost.done()


async def test_a_dead_relay_ends_its_calls_and_another_serves_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("b2bua.media.relay.plane.OPEN_PATIENCE", 10.0)      # until it has been started again
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(SETTINGS) as plane:
            async with joined(plane, caller, callee) as (media, _, _for_callee):
                before = plane.pid
                assert before is not None
                os.kill(before, signal.SIGKILL)
                async with asyncio.timeout(5):
                    await media.lost
                assert (await media.close()).caller.packets == 0
            async with joined(plane, caller, callee) as (_, for_caller, _for_callee):
                assert plane.pid != before
                assert await heard(caller, for_caller, callee)
            assert plane.counts.restarts == 1


async def test_a_stopped_relay_holds_up_no_call_that_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("b2bua.media.relay.anchored.CLOSE_PATIENCE", 0.1)
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(SETTINGS) as plane:
            async with plane.open("warm-up"):
                pass
            assert plane.pid is not None
            os.kill(plane.pid, signal.SIGSTOP)
            try:
                async with asyncio.timeout(2), plane.open("call") as media:
                    media.offer(caller.describe(), Side.CALLER)
                    media.answer(callee.describe(), Side.CALLEE)
                    assert (await media.close()).caller.packets == 0
            finally:
                os.kill(plane.pid, signal.SIGCONT)


async def test_ports_come_back_and_none_left_is_an_error() -> None:
    settings = replace(SETTINGS, first_port=30300, last_port=30307, spare=0)        # two sessions
    async with embedded_plane(settings) as plane:
        for _ in range(5):
            async with plane.open("1"), plane.open("2"):
                with pytest.raises(MediaError, match="in use"):
                    async with plane.open("3"):
                        pass
        assert plane.counts.refused == 5
        assert plane.counts.sessions == 0


async def test_ports_that_others_hold_are_passed_over() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((RELAY, 30401))
        async with embedded_plane(replace(SETTINGS, first_port=30400, last_port=30405, spare=0)) as plane, \
                plane.open("call") as media:
            with RtpEnd("127.0.0.41") as phone:
                assert audio_address(media.offer(phone.describe(), Side.CALLER))[1] in (30402, 30404)


@pytest.mark.parametrize(("settings", "sentence"), [
    (replace(SETTINGS, bind="203.0.113.1"), "203.0.113.1"),
    (replace(SETTINGS, first_port=30501, last_port=30501), "30501"),
    (replace(SETTINGS, recordings=Path("/proc/nowhere")), "/proc/nowhere"),
])
async def test_what_hinders_the_start_is_one_sentence(settings: RelaySettings, sentence: str) -> None:
    with pytest.raises(MediaError, match=sentence) as failure:
        async with embedded_plane(settings):
            pass
    assert "\n" not in str(failure.value)


async def test_descriptions_that_cannot_be_served_are_refused_with_a_status() -> None:
    with RtpEnd("127.0.0.41") as phone:
        async with embedded_plane(SETTINGS) as plane, plane.open("call") as media:
            for body, status in ((b"nonsense", 400), (phone.describe().replace(b"RTP/AVP", b"RTP/SAVP"), 488)):
                with pytest.raises(SdpRefused) as refused:
                    media.offer(body, Side.CALLER)
                assert refused.value.status == status
            with pytest.raises(SdpRefused):
                media.answer(phone.describe(), Side.CALLEE)


async def test_media_described_as_our_own_port_does_not_go_round_for_ever() -> None:
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(SETTINGS) as plane, plane.open("call") as media:
            for_callee = audio_address(media.offer(caller.describe(), Side.CALLER))
            evil = callee.describe(host=RELAY).replace(str(callee.port).encode(), str(for_callee[1]).encode())
            for_caller = audio_address(media.answer(evil, Side.CALLEE))
            await caught_up(plane)
            caller.send(for_caller)
            report = await media.close()
    assert report.callee.packets == 0


async def test_padding_and_extensions_pass_untouched() -> None:
    with RtpEnd("127.0.0.41") as caller, RtpEnd("127.0.0.42") as callee:
        async with embedded_plane(SETTINGS) as plane, joined(plane, caller, callee) as (_, for_caller, _for_callee):
            head = struct.pack(">BBHII", 0xB1, 8, 1, 160, 7) + bytes(4) + b"\xbe\xde\x00\x01abcd"
            packet = head + b"x" * 20 + b"\x01"
            caller.send(for_caller, packet)
            assert await callee.receive() == packet
