"""The real relay plays: what an end hears is the sound, whole, in order, and of one stream; counted, not timed."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from b2bua.media.plane import MediaSession, Side
from b2bua.media.relay.link import RelaySettings
from b2bua.media.relay.plane import EmbeddedPlane, embedded_plane
from b2bua.media.sounds import built_in
from tests.support.rtp import RtpEnd, audio_address
from tests.support.tone import PCMA, PCMU, Samples, decode, is_tone, tone, write_wav

RELAY = "127.0.0.45"
SETTINGS = RelaySettings(RELAY, RELAY, first_port=30600, last_port=30799, spare=2)
CALLER, CALLEE = Side.CALLER, Side.CALLEE


@dataclass(frozen=True)
class Packet:
    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes

    @classmethod
    def of(cls, data: bytes) -> Packet:
        first, kind, sequence, timestamp, ssrc = struct.unpack_from(">BBHII", data)
        assert first == 0x80
        return cls(bool(kind & 0x80), kind & 0x7F, sequence, timestamp, ssrc, data[12:])


async def hear(end: RtpEnd, count: int) -> list[Packet]:
    return [Packet.of(await end.receive()) for _ in range(count)]


def is_one_stream(packets: list[Packet], payload_type: int = PCMA) -> None:
    first = packets[0]
    assert [packet.marker for packet in packets] == [True] + [False] * (len(packets) - 1)
    for index, packet in enumerate(packets):
        assert packet.payload_type == payload_type
        assert len(packet.payload) == 160
        assert packet.sequence == (first.sequence + index) & 0xFFFF
        assert packet.timestamp == (first.timestamp + 160 * index) & 0xFFFFFFFF
        assert packet.ssrc == first.ssrc


def sound_of(packets: list[Packet], payload_type: int = PCMA) -> Samples:
    return decode(b"".join(packet.payload for packet in packets), payload_type)


async def caught_up(plane: EmbeddedPlane) -> None:
    """The relay has taken all that was sent to it before: it answers in order, one packet of commands in a round."""
    for _ in range(3):
        async with plane.open("another call"):
            pass


@asynccontextmanager
async def talk(plane: EmbeddedPlane, caller: RtpEnd, callee: RtpEnd,
               codecs: str = "8 101") -> AsyncIterator[tuple[MediaSession, tuple[str, int], tuple[str, int]]]:
    async with plane.open("call") as media:
        for_callee = audio_address(media.offer(caller.describe(codecs), CALLER))
        for_caller = audio_address(media.answer(callee.describe(codecs), CALLEE))
        await caught_up(plane)
        caller.send(for_caller)
        await callee.receive()
        yield media, for_caller, for_callee


@pytest.mark.parametrize(("codecs", "payload_type"), [("8 0", PCMA), ("0 8", PCMU)])
async def test_a_sound_file_is_heard_whole_once_and_its_end_is_told(
    tmp_path: Path, codecs: str, payload_type: int
) -> None:
    write_wav(tmp_path / "closed.wav", tone(600, 0.8))
    with RtpEnd("127.0.0.46") as caller:
        async with embedded_plane(replace(SETTINGS, sounds=tmp_path)) as plane, plane.open("call") as media:
            media.offer(caller.describe(codecs), CALLER)
            ours = audio_address(media.own_answer(CALLER))
            assert media.cannot_play("closed", CALLER) is None
            async with asyncio.timeout(10):
                assert await media.play("closed", CALLER) is None
            packets = await hear(caller, 40)
            assert caller.waiting() == 0
            caller.send(ours)                           # the same port that it knows is where it comes from
    is_one_stream(packets, payload_type)
    assert is_tone(sound_of(packets, payload_type), 600)


async def test_the_rtp_comes_from_the_port_that_the_caller_knows_and_goes_where_it_sends_from() -> None:
    with RtpEnd("127.0.0.46") as caller:
        async with embedded_plane(SETTINGS) as plane, plane.open("call") as media:
            media.offer(caller.describe(host="192.0.2.99"), CALLER)         # behind NAT, by what it says
            ours = audio_address(media.own_answer(CALLER))
            await caught_up(plane)
            for _ in range(2):
                caller.send(ours)
            await caught_up(plane)
            media.play("busy", CALLER)
            data, source = await caller.receive_from()
    assert source == ours
    assert Packet.of(data).payload_type == PCMA


async def test_a_loop_goes_on_without_a_seam_until_it_is_stopped() -> None:
    with RtpEnd("127.0.0.46") as caller, RtpEnd("127.0.0.47") as callee:
        async with embedded_plane(SETTINGS) as plane, talk(plane, caller, callee) as (media, for_caller, for_callee):
            ended = media.play("silence", CALLEE, repeat=True)              # a second
            packets = await hear(callee, 120)
            assert not ended.done()
            media.stop(CALLEE)
            assert await ended == "it was stopped"
            await caught_up(plane)
            callee.send(for_callee)                     # the two hear each other again
            while Packet.of(await caller.receive()).ssrc != 7:
                pass
            callee.waiting()
            sent = caller.send(for_caller)
            assert await callee.receive() == sent
    is_one_stream(packets)
    assert np.abs(sound_of(packets)).max() <= 8


async def test_while_a_sound_is_played_the_two_do_not_hear_each_other_and_both_are_counted() -> None:
    with RtpEnd("127.0.0.46") as caller, RtpEnd("127.0.0.47", ssrc=8) as callee:
        async with embedded_plane(SETTINGS) as plane, talk(plane, caller, callee) as (media, for_caller, for_callee):
            media.play("ringback", CALLER, repeat=True)
            first = (await hear(caller, 1))[0]
            for _ in range(20):
                callee.send(for_callee)
                caller.send(for_caller)
            packets = await hear(caller, 30)
            await caught_up(plane)
            assert callee.waiting() == 0
            report = await media.close()
    assert {packet.ssrc for packet in packets} == {first.ssrc}
    assert first.ssrc not in (7, 8)
    assert (report.caller.packets, report.callee.packets) == (21, 20)


async def test_a_relay_that_plays_to_many_loses_no_packet_of_those_who_talk() -> None:
    with RtpEnd("127.0.0.46") as caller, RtpEnd("127.0.0.47") as callee, RtpEnd("127.0.0.48") as listener:
        async with embedded_plane(SETTINGS) as plane, talk(plane, caller, callee) as (_, for_caller, _for_callee), \
                plane.open("1") as one, plane.open("2") as two, plane.open("3") as three:
            for media in (one, two, three):
                media.offer(listener.describe(), CALLER)
                media.own_answer(CALLER)
                media.play("music", CALLER, repeat=True)
            for _ in range(100):
                sent = caller.send(for_caller)
                assert await callee.receive() == sent
                await listener.receive()


async def test_a_side_that_takes_up_another_codec_hears_on_in_that() -> None:
    with RtpEnd("127.0.0.46") as caller:
        async with embedded_plane(SETTINGS) as plane, plane.open("call") as media:
            media.offer(caller.describe("8"), CALLER)
            media.own_answer(CALLER)
            media.play("music", CALLER, repeat=True)
            before = await hear(caller, 5)
            media.offer(caller.describe("0"), CALLER)
            media.own_answer(CALLER)
            packets = before + await hear(caller, 50)
    first_mu = next(index for index, packet in enumerate(packets) if packet.payload_type == PCMU)
    assert {packet.payload_type for packet in packets[first_mu:]} == {PCMU}
    assert len({packet.ssrc for packet in packets}) == 1
    music = built_in()["music"]
    for index, packet in enumerate(packets):
        words = music.mu_law if index >= first_mu else music.a_law
        assert packet.payload == words[160 * index : 160 * (index + 1)]


@pytest.mark.parametrize("hold", ["a=inactive\r\n", "c=IN IP4 0.0.0.0\r\n"])
async def test_music_on_hold_begins_at_once_where_the_holder_sends_nothing(hold: str) -> None:
    with RtpEnd("127.0.0.46") as caller, RtpEnd("127.0.0.47", ssrc=8) as callee:
        async with embedded_plane(SETTINGS) as plane, talk(plane, caller, callee) as (media, for_caller, for_callee):
            media.music_on_hold("music")
            held = media.offer(callee.describe(extra=hold), CALLEE)
            assert held.endswith(b"a=sendonly\r\n")
            media.answer(caller.describe(extra="a=recvonly\r\n"), CALLER)
            packets = await hear(caller, 50)
            callee.send(for_callee)                     # it sends all the same: who hears two at once?
            packets += await hear(caller, 20)
            media.offer(callee.describe(), CALLEE)
            media.answer(caller.describe(), CALLER)
            await caught_up(plane)
            callee.send(for_callee)
            while Packet.of(await caller.receive()).ssrc != 8:
                pass
            sent = caller.send(for_caller)
            assert await callee.receive() == sent
    is_one_stream(packets)
    assert b"".join(packet.payload for packet in packets) == built_in()["music"].a_law[: 70 * 160]


async def test_music_yields_to_that_of_the_phone_that_holds() -> None:
    with RtpEnd("127.0.0.46") as caller, RtpEnd("127.0.0.47", ssrc=8) as callee:
        async with embedded_plane(SETTINGS) as plane, talk(plane, caller, callee) as (media, _, for_callee):
            media.music_on_hold("music")
            callee.send(for_callee)
            media.offer(callee.describe(extra="a=sendonly\r\n"), CALLEE)
            media.answer(caller.describe(extra="a=recvonly\r\n"), CALLER)
            for _ in range(75):                          # its own, for a second and a half
                callee.send(for_callee)
                await asyncio.sleep(0.02)
            assert {packet.ssrc for packet in await hear(caller, 76)} == {8}
            ours = await hear(caller, 25)                # it has ended: the server's begins
    is_one_stream(ours)
    assert ours[0].ssrc != 8


async def test_who_comes_to_a_relay_that_died_hears_sounds_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("b2bua.media.relay.plane.OPEN_PATIENCE", 10.0)      # until it has been started again
    with RtpEnd("127.0.0.46") as caller:
        async with embedded_plane(SETTINGS) as plane:
            async with plane.open("call") as media:
                media.offer(caller.describe(), CALLER)
                media.own_answer(CALLER)
                ended = media.play("music", CALLER)
                await hear(caller, 3)
                assert plane.pid is not None
                os.kill(plane.pid, signal.SIGKILL)
                async with asyncio.timeout(5):
                    assert await ended == "the media relay is gone"
            caller.waiting()
            async with plane.open("another") as media:
                media.offer(caller.describe(), CALLER)
                media.own_answer(CALLER)
                media.play("busy", CALLER)
                is_one_stream(await hear(caller, 10))


async def test_files_that_change_are_taken_while_what_is_played_sounds_on(tmp_path: Path) -> None:
    write_wav(tmp_path / "news.wav", tone(500, 4.0))
    with RtpEnd("127.0.0.46") as first, RtpEnd("127.0.0.47") as second:
        async with embedded_plane(replace(SETTINGS, sounds=tmp_path)) as plane, \
                plane.open("1") as old, plane.open("2") as new:
            for media, end in ((old, first), (new, second)):
                media.offer(end.describe(), CALLER)
                media.own_answer(CALLER)
            assert new.cannot_play("more", CALLER) == "there is no sound 'more'"
            old.play("news", CALLER)
            await hear(first, 5)
            write_wav(tmp_path / "news.wav", tone(900, 1.0))
            write_wav(tmp_path / "more.wav", tone(700, 1.0))
            await plane.look_at_sounds()
            new.play("news", CALLER)
            heard = [sound_of(await hear(end, 25)) for end in (first, second)]
            new.play("more", CALLER)
            await hear(second, 30)
            more = sound_of(await hear(second, 15))
            (tmp_path / "more.wav").unlink()
            await plane.look_at_sounds()
            assert new.cannot_play("more", CALLER) == "there is no sound 'more'"
    assert is_tone(heard[0], 500)
    assert is_tone(heard[1], 900)
    assert is_tone(more, 700)
