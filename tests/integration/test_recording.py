"""A call's audio from the packets to the MP3: what was said is on the disk, whatever dies."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from b2bua.media import raw
from b2bua.media.plane import MediaSession, Side
from b2bua.media.relay.link import RelaySettings
from b2bua.media.relay.plane import EmbeddedPlane, embedded_plane
from b2bua.recording import waveform
from b2bua.recording.archive import Archive, new_recording_id
from b2bua.recording.recorder import Failed, Finished, NotRecorded
from tests.support.mp3 import decode
from tests.support.rtp import RtpEnd, audio_address, capture, captures
from tests.support.tone import PCMA, RATE, Samples, dominant, encode, tone

RELAY = "127.0.0.45"
FRAME = 160
Addresses = tuple[tuple[str, int], tuple[str, int]]


@pytest.fixture
def settings(tmp_path: Path) -> RelaySettings:
    return RelaySettings(RELAY, RELAY, first_port=31000, last_port=31199, recordings=tmp_path, spare=1)


@pytest.fixture
def phones() -> Iterator[tuple[RtpEnd, RtpEnd]]:
    with RtpEnd("127.0.0.46") as caller, RtpEnd("127.0.0.47", ssrc=9) as callee:
        yield caller, callee


@asynccontextmanager
async def recorded(plane: EmbeddedPlane, phones: tuple[RtpEnd, RtpEnd],
                   recording: str) -> AsyncIterator[tuple[MediaSession, Addresses]]:
    """A call that is being recorded, and where the caller and the callee send to."""
    async with plane.open("call") as media:
        to_callee = media.offer(phones[0].describe("8 0 101"), Side.CALLER)
        to_caller = media.answer(phones[1].describe("8 0 101"), Side.CALLEE)
        media.record(recording)
        for _ in range(10):
            async with plane.open("another call"):          # the relay has taken all that was said before
                pass
        yield media, (audio_address(to_caller), audio_address(to_callee))


async def talk(phones: tuple[RtpEnd, RtpEnd], addresses: Addresses, packets: int) -> None:
    for _ in range(packets):
        for side in (0, 1):
            phones[side].send(addresses[side])
            await phones[1 - side].receive()


def records(path: Path) -> list[raw.Packet]:
    with path.open("rb") as file:
        return [record for record in raw.read(file) if isinstance(record, raw.Packet)]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def files(directory: Path, pattern: str) -> list[Path]:
    return [*directory.glob(pattern)]


def raw_path(settings: RelaySettings, recording: str) -> Path:
    assert settings.recordings is not None
    return settings.recordings / "raw" / f"{recording}.raw"


async def test_every_packet_of_both_sides_is_on_the_disk_when_the_session_is_closed(
    settings: RelaySettings, phones: tuple[RtpEnd, RtpEnd]
) -> None:
    recording = new_recording_id()
    async with embedded_plane(settings) as plane, recorded(plane, phones, recording) as (media, addresses):
        await talk(phones, addresses, 100)
        assert (await media.close()).recorded
        packets = records(raw_path(settings, recording))
    assert [packet.side for packet in packets].count(0) == 100
    assert [packet.side for packet in packets].count(1) == 100
    assert [packet.arrived for packet in packets] == sorted(packet.arrived for packet in packets)


async def test_a_codec_that_changes_is_noted_where_it_changes(
    settings: RelaySettings, phones: tuple[RtpEnd, RtpEnd]
) -> None:
    recording = new_recording_id()
    async with embedded_plane(settings) as plane, recorded(plane, phones, recording) as (media, addresses):
        await talk(phones, addresses, 1)
        media.offer(phones[1].describe("0"), Side.CALLEE)
        media.answer(phones[0].describe("0"), Side.CALLER)
        await media.close()
        with raw_path(settings, recording).open("rb") as file:
            notes = [record for record in raw.read(file) if isinstance(record, raw.CodecsKnown)]
    assert 8 in notes[0].codecs[0]
    assert notes[-1].codecs == ({0: "PCMU/8000"}, {0: "PCMU/8000"})


async def test_a_call_that_is_not_recorded_leaves_nothing(
    settings: RelaySettings, phones: tuple[RtpEnd, RtpEnd], tmp_path: Path
) -> None:
    async with embedded_plane(settings) as plane, plane.open("call") as media:
        media.offer(phones[0].describe(), Side.CALLER)
        media.answer(phones[1].describe(), Side.CALLEE)
        assert not (await media.close()).recorded
    assert not files(tmp_path, "raw/*")


async def test_without_a_directory_the_call_goes_on_unrecorded(
    settings: RelaySettings, phones: tuple[RtpEnd, RtpEnd]
) -> None:
    async with embedded_plane(replace(settings, recordings=None)) as plane, \
            recorded(plane, phones, new_recording_id()) as (media, addresses):
        await talk(phones, addresses, 3)
        await media.close()
        assert plane.counts.recordings_stopped == 1


async def test_a_full_disk_stops_the_recording_and_not_the_call(
    settings: RelaySettings, phones: tuple[RtpEnd, RtpEnd]
) -> None:
    recording = new_recording_id()
    raw_path(settings, recording).parent.mkdir()
    raw_path(settings, recording).symlink_to("/dev/full")
    async with embedded_plane(settings) as plane, recorded(plane, phones, recording) as (media, addresses):
        await talk(phones, addresses, 20)
        report = await media.close()
        assert plane.counts.recordings_stopped == 1
    assert report.caller.packets == 20


async def test_a_killed_writer_is_replaced_and_the_recording_goes_on(
    settings: RelaySettings, phones: tuple[RtpEnd, RtpEnd]
) -> None:
    recording = new_recording_id()
    async with embedded_plane(settings) as plane, recorded(plane, phones, recording) as (media, addresses):
        await talk(phones, addresses, 10)
        async with asyncio.timeout(10):         # what the dead one had not written may be gone: let it write
            while _size(raw_path(settings, recording)) < 20 * 160:  # noqa: ASYNC110 - another process writes
                await asyncio.sleep(0.05)
        [writer] = psutil.Process(plane.pid).children()
        writer.kill()
        await talk(phones, addresses, 10)
        assert (await media.close()).recorded
        assert plane.counts.recordings_stopped == 0
        packets = records(raw_path(settings, recording))
    assert len(packets) >= 20                   # those of the batch that was on its way to the dead one may be gone


async def test_what_a_killed_relay_left_is_finished_at_the_next_start(
    settings: RelaySettings, phones: tuple[RtpEnd, RtpEnd], tmp_path: Path
) -> None:
    recording = new_recording_id()
    async with embedded_plane(settings) as plane:
        async with recorded(plane, phones, recording) as (media, addresses):
            assert plane.pid is not None
            for _ in range(40):                 # a second and more, so that batches have gone out
                await talk(phones, addresses, 1)
                await asyncio.sleep(0.02)
            [writer] = psutil.Process(plane.pid).children()
            os.kill(plane.pid, signal.SIGKILL)
            await media.lost
            assert (await media.close()).recorded
        await asyncio.to_thread(psutil.wait_procs, [writer], 5)     # it writes what it has, and ends
        left = len(records(raw_path(settings, recording)))
        async with Archive(tmp_path) as archive:
            outcomes = await archive.recover()
    assert isinstance(outcomes[recording], Finished)
    assert left >= 20


async def test_live_recordings_are_not_touched_by_the_recovery(tmp_path: Path) -> None:
    live, left = new_recording_id(), new_recording_id()
    for recording in (live, left):
        write(tmp_path, recording, caller=tone(440, 0.5), callee=tone(440, 0.5))
    (tmp_path / "raw" / "notes.txt").write_text("not ours")
    async with Archive(tmp_path) as archive:
        assert [*await archive.recover(live={live})] == [left]
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == sorted([f"{live}.raw", "notes.txt"])


async def test_left_is_the_caller_and_right_the_callee(tmp_path: Path) -> None:
    recording = new_recording_id()
    write(tmp_path, recording, caller=tone(440, 3), callee=tone(1000, 3))
    async with Archive(tmp_path) as archive:
        outcome = await archive.finish(recording)
    assert isinstance(outcome, Finished)
    assert outcome.seconds == pytest.approx(3)
    left, right = await asyncio.to_thread(decode, outcome.path)
    assert dominant(left[4000:20000]) == (pytest.approx(440, abs=2), pytest.approx(1, abs=0.02))
    assert dominant(right[4000:20000]) == (pytest.approx(1000, abs=2), pytest.approx(1, abs=0.02))


async def test_both_sides_stand_at_their_own_times(tmp_path: Path) -> None:
    recording = new_recording_id()
    write(tmp_path, recording, caller=tone(440, 1), callee=tone(1000, 1), callee_at=2.0)
    async with Archive(tmp_path) as archive:
        outcome = await archive.finish(recording)
    assert isinstance(outcome, Finished)
    left, right = await asyncio.to_thread(decode, outcome.path)
    assert dominant(left[1600:8000])[0] == pytest.approx(440, abs=3)
    assert dominant(right[1600:14000]) == (0.0, 0.0)
    assert dominant(left[12000:]) == (0.0, 0.0)
    assert dominant(right[18000:23000])[0] == pytest.approx(1000, abs=3)


@pytest.mark.parametrize("phone", [each for each in captures() if each["kind"] == "rtp"], ids=lambda each: each["file"])
async def test_what_real_phones_sent_sounds_as_it_should(tmp_path: Path, phone: dict[str, object]) -> None:
    recording = new_recording_id()
    codecs = {0: "PCMU/8000", 8: "PCMA/8000", 101: "telephone-event/8000"}
    write_packets(tmp_path, recording, codecs, [(0, at, data) for at, data in capture(str(phone["file"]))])
    async with Archive(tmp_path) as archive:
        outcome = await archive.finish(recording)
    assert isinstance(outcome, Finished)
    left, right = await asyncio.to_thread(decode, outcome.path)
    assert dominant(left)[0] == pytest.approx(phone["tone_hz"], abs=3)
    assert dominant(right) == (0.0, 0.0)


async def test_finishing_twice_makes_one_recording(tmp_path: Path) -> None:
    recording = new_recording_id()
    write(tmp_path, recording, caller=tone(440, 1), callee=tone(440, 1))
    async with Archive(tmp_path) as archive:
        both = await asyncio.gather(archive.finish(recording), archive.finish(recording))
        again = await archive.finish(recording)
    assert both[0] == both[1]
    assert isinstance(again, Finished)
    assert len(files(tmp_path, "*/*/*.mp3")) == 1


async def test_many_are_finished_by_few_workers(tmp_path: Path) -> None:
    recordings = [new_recording_id() for _ in range(12)]
    for recording in recordings:
        write(tmp_path, recording, caller=tone(440, 0.5), callee=tone(440, 0.5))
    async with Archive(tmp_path, workers=2) as archive:
        outcomes = await asyncio.gather(*map(archive.finish, recordings))
    assert {type(outcome) for outcome in outcomes} == {Finished}


async def test_a_worker_that_is_killed_fails_one_recording_and_serves_the_next(tmp_path: Path) -> None:
    first, second, third = (new_recording_id() for _ in range(3))
    for recording in (first, second, third):
        write(tmp_path, recording, caller=tone(440, 0.5), callee=tone(440, 0.5))
    async with Archive(tmp_path) as archive:
        assert isinstance(await archive.finish(first), Finished)
        workers = [one for one in psutil.Process().children() if "b2bua.recording.recorder" in one.cmdline()]
        assert workers
        for worker in workers:                  # and not the database that the whole run shares
            worker.kill()
        assert isinstance(await archive.finish(second), Failed)
        assert isinstance(await archive.finish(third), Finished)
        assert isinstance((await archive.recover())[second], Finished)


async def test_what_was_never_recorded_is_told(tmp_path: Path) -> None:
    async with Archive(tmp_path) as archive:
        assert await archive.finish(new_recording_id()) == NotRecorded("nothing was recorded")
        assert isinstance(await archive.finish("../../etc/passwd"), NotRecorded)
        assert await archive.recover() == {}


async def test_a_codec_that_cannot_be_recorded_is_told(tmp_path: Path) -> None:
    recording = new_recording_id()
    packet = struct.pack(">BBHII", 0x80, 96, 1, 0, 7) + bytes(80)
    write_packets(tmp_path, recording, {96: "opus/48000/2"}, [(0, 0.0, packet)])
    async with Archive(tmp_path) as archive:
        assert await archive.finish(recording) == NotRecorded("codec not recordable: opus/48000/2")


@pytest.mark.parametrize("name", [
    "../raw/x", "..", "/etc/passwd", "a/b", "*", "?" * 20, "[0-9]" * 5, "", "x" * 20 + "\0",
])
def test_nothing_but_ids_opens_a_file(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "2026" / "05"
    folder.mkdir(parents=True)
    (folder / "abcdefghijklmnopqrst.mp3").write_bytes(b"mp3")
    archive = Archive(tmp_path)
    assert archive.open_path(name) is None
    assert archive.open_path("abcdefghijklmnopqrst") == folder / "abcdefghijklmnopqrst.mp3"


def test_a_removed_recording_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "2026" / "05"
    folder.mkdir(parents=True)
    (folder / "abcdefghijklmnopqrst.mp3").write_bytes(b"mp3")
    waveform.path_beside(folder / "abcdefghijklmnopqrst.mp3").write_text("{}")
    archive = Archive(tmp_path)
    assert archive.remove("abcdefghijklmnopqrst")
    assert [*folder.iterdir()] == []
    assert archive.open_path("abcdefghijklmnopqrst") is None
    assert not archive.remove("abcdefghijklmnopqrst")


def test_ids_do_not_repeat() -> None:
    ids = {new_recording_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(map(raw.is_recording_id, ids))


def write(directory: Path, recording: str, *, caller: Samples, callee: Samples, callee_at: float = 0.0) -> None:
    packets = [*_packets(0, caller, 0.0), *_packets(1, callee, callee_at)]
    write_packets(directory, recording, {8: "PCMA/8000"}, sorted(packets, key=lambda packet: packet[1]))


def write_packets(directory: Path, recording: str, codecs: raw.Codecs,
                  packets: list[tuple[int, float, bytes]]) -> None:
    path = directory / "raw" / f"{recording}.raw"
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(raw.header(recording, datetime.now(UTC)) + raw.codecs_record((codecs, codecs), 0))
        for side, arrived, data in packets:
            file.write(raw.record_head(raw.CALLER + side, len(data), int(arrived * 1e6)) + data)


def _packets(side: int, samples: Samples, begin: float) -> list[tuple[int, float, bytes]]:
    words = encode(samples, PCMA)
    return [(side, begin + at / RATE,
             struct.pack(">BBHII", 0x80, 8, at // FRAME, 1000 + at, side) + words[at : at + FRAME])
            for at in range(0, len(words), FRAME)]
