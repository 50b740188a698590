"""Where packets belong in a recording: RTP time, arrival, drift, leaps, gaps."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.media import raw
from b2bua.recording import waveform
from b2bua.recording.formats import RATE, RtpPacket
from b2bua.recording.recorder import (
    CHUNK,
    DRIFT_WINDOW,
    LEAP,
    MAX_DRIFT,
    Failed,
    Finished,
    NotRecorded,
    RtpClock,
    Track,
    answer,
    finish,
    outcome_of,
)

FRAME = 160
CODECS = {0: "PCMU/8000", 8: "PCMA/8000", 13: "CN/8000", 96: "opus/48000/2", 101: "telephone-event/8000"}
LOUD = b"\x80" * FRAME                          # mu-law's full scale
STARTED = datetime(2026, 5, 1, 10, 0, tzinfo=UTC)


def packet(timestamp: int, ssrc: int = 7) -> RtpPacket:
    return RtpPacket(0, timestamp % 2**32, ssrc, LOUD)


def rtp(number: int, payload_type: int = 0, ssrc: int = 7, payload: bytes = LOUD, first: int = 0) -> bytes:
    return struct.pack(">BBHII", 0x80, payload_type, number & 0xFFFF, (first + number * FRAME) % 2**32, ssrc) + payload


def track() -> Track:
    made = Track()
    made.codecs(CODECS)
    return made


def loud(made: Track, frames: int) -> list[bool]:
    """Which of the first frames are heard."""
    return [bool(np.all(made.take(FRAME) == 32124)) for _ in range(frames)]


def test_the_first_packet_is_where_it_arrived() -> None:
    assert RtpClock().position(packet(123456), arrived=800) == 800


def test_later_packets_are_where_their_timestamp_says_however_late_they_come() -> None:
    clock = RtpClock()
    clock.position(packet(1000), 800)
    assert clock.position(packet(1320), 800 + 320 + 900) == 1120
    assert clock.position(packet(1160), 800 + 320 + 950) == 960


def test_a_timestamp_wraps() -> None:
    clock = RtpClock()
    clock.position(packet(2**32 - 160), 0)
    assert [clock.position(packet(160 * number), 160 * (number + 1)) for number in range(3)] == [160, 320, 480]


def test_another_ssrc_is_anchored_anew() -> None:
    clock = RtpClock()
    clock.position(packet(1000), 0)
    assert clock.position(packet(99, ssrc=8), 500) == 500


@pytest.mark.parametrize("leap", [LEAP + FRAME + 1, -LEAP - FRAME - 1])
def test_a_leap_of_rtp_time_is_anchored_anew(leap: int) -> None:
    clock = RtpClock()
    clock.position(packet(100_000), 50_000)
    assert clock.position(packet(100_160 + leap), 50_160) == 50_160
    assert clock.position(packet(100_320 + leap), 50_320) == 50_320


@pytest.mark.parametrize("skew", [0.01, -0.01])
def test_a_clock_at_another_pace_is_followed(skew: float) -> None:
    clock = RtpClock()
    for number in range(6000):                  # two minutes, of which 1.2 s would be off at the end
        arrived = round(number * FRAME * (1 + skew))
        position = clock.position(packet(number * FRAME), arrived)
        assert abs(position - arrived) <= MAX_DRIFT + 2 * DRIFT_WINDOW * FRAME * abs(skew)


def test_jitter_alone_moves_nothing() -> None:
    clock = RtpClock()
    for number in range(1000):
        late = (number * 7919) % 1200           # up to 150 ms
        assert clock.position(packet(number * FRAME), number * FRAME + late) == number * FRAME


def test_a_gap_is_silence() -> None:
    made = track()
    for number in (0, 1, 4):
        made.add(rtp(number), number * FRAME)
    assert loud(made, 6) == [True, True, False, False, True, False]


def test_order_does_not_matter() -> None:
    made = track()
    for number, arrived in ((0, 0), (2, 1), (1, 2), (3, 3)):
        made.add(rtp(number), arrived * FRAME)
    assert loud(made, 4) == [True] * 4


@given(st.permutations(range(12)))
@settings(max_examples=50)
def test_no_order_matters(order: list[int]) -> None:
    made = track()
    made.add(rtp(0), 0)
    for place, number in enumerate(order):
        made.add(rtp(number + 1), (place + 1) * FRAME)
    assert loud(made, 13) == [True] * 13


def test_a_duplicate_is_heard_once() -> None:
    made = track()
    for arrived in (0, 1):
        made.add(rtp(0), arrived * FRAME)
    assert loud(made, 2) == [True, False]


def test_comfort_noise_and_digits_are_silence() -> None:
    made = track()
    for number, payload_type in enumerate((0, 13, 101, 0)):
        made.add(rtp(number, payload_type), number * FRAME)
    assert loud(made, 4) == [True, False, False, True]


def test_a_codec_may_change_during_the_call() -> None:
    made = track()
    made.add(rtp(0), 0)
    made.add(rtp(1, 8, payload=b"\xaa" * FRAME), FRAME)
    assert made.take(FRAME)[0] == 32124
    assert made.take(FRAME)[0] == 32256


def test_a_codec_that_cannot_be_recorded_is_remembered() -> None:
    made = track()
    made.add(rtp(0, 96), 0)
    assert made.unknown == {"opus/48000/2"}
    assert made.packets == 0


def test_what_is_too_late_is_left_out() -> None:
    made = track()
    made.add(rtp(10), 10 * FRAME)
    made.take(20 * FRAME)
    made.add(rtp(11), 30 * FRAME)
    made.add(rtp(25), 31 * FRAME)
    assert loud(made, 6) == [False] * 5 + [True]


def test_garbage_is_left_out() -> None:
    made = track()
    for data in (b"", b"\x00" * 200, rtp(0, 77)):
        made.add(data, 0)
    assert made.packets == 0


def write(path: Path, packets: list[tuple[int, float, bytes]], codecs: raw.Codecs = CODECS) -> None:
    with path.open("wb") as file:
        file.write(raw.header(path.stem, STARTED) + raw.codecs_record((codecs, codecs), 0))
        for side, arrived, data in packets:
            file.write(raw.record_head(raw.CALLER + side, len(data), int(arrived * 1e6)) + data)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw" / "abcdefghijklmnop.raw"


def test_a_recording_becomes_an_mp3_and_the_raw_file_goes(source: Path, tmp_path: Path) -> None:
    write(source, [(number % 2, number * 0.01, rtp(number // 2)) for number in range(200)])
    outcome = finish(source, tmp_path, 24)
    assert isinstance(outcome, Finished)
    assert outcome.path == tmp_path / "2026" / "05" / "abcdefghijklmnop.mp3"
    assert outcome.seconds == pytest.approx(2.01)
    assert outcome.size == outcome.path.stat().st_size == pytest.approx(6030, rel=0.15)
    assert not source.exists()
    beside = waveform.path_beside(outcome.path)
    assert {*outcome.path.parent.iterdir()} == {outcome.path, beside}


def test_beside_it_is_how_loud_each_side_was(source: Path, tmp_path: Path) -> None:
    write(source, [(0, 0.0, rtp(0)), (0, 0.02, rtp(1)), (1, 12.0, rtp(0)), (0, 12.5, rtp(2))])
    outcome = finish(source, tmp_path, 24)
    assert isinstance(outcome, Finished)
    drawn = waveform.read(outcome.path)
    assert drawn is not None
    assert (drawn.seconds, drawn.slice_seconds) == (outcome.seconds, 0.05)
    heard = [[number for number, level in enumerate(side) if level] for side in (drawn.caller, drawn.callee)]
    assert heard == [[0, 250], [240]]
    assert max(drawn.caller) == 32124 >> 7


def test_both_sides_are_on_one_clock(source: Path, tmp_path: Path) -> None:
    write(source, [(0, 0.0, rtp(0, first=5_000_000)), (1, 3.0, rtp(0, first=99))])
    outcome = finish(source, tmp_path, 24)
    assert isinstance(outcome, Finished)
    assert outcome.seconds == pytest.approx(3.02)


def test_a_long_pause_is_kept(source: Path, tmp_path: Path) -> None:
    write(source, [(0, 0.0, rtp(0)), (0, 95.0, rtp(1))])
    outcome = finish(source, tmp_path, 24)
    assert isinstance(outcome, Finished)
    assert outcome.seconds == pytest.approx(95.02)
    assert outcome.seconds > 2 * CHUNK / RATE


def test_a_damaged_time_ends_the_recording(source: Path, tmp_path: Path) -> None:
    write(source, [(0, 0.0, rtp(0)), (0, 10_000_000.0, rtp(1))])
    outcome = finish(source, tmp_path, 24)
    assert isinstance(outcome, Finished)
    assert outcome.seconds < 1


def test_a_codec_that_cannot_be_recorded_is_an_outcome(source: Path, tmp_path: Path) -> None:
    write(source, [(0, 0.0, rtp(0, 96))])
    assert finish(source, tmp_path, 24) == NotRecorded("codec not recordable: opus/48000/2")
    assert not source.exists()
    assert not [*tmp_path.glob("*/*/*.*")]


def test_a_call_without_audio_is_an_outcome(source: Path, tmp_path: Path) -> None:
    write(source, [])
    assert finish(source, tmp_path, 24) == NotRecorded("no audio came")


def test_a_file_that_is_none_of_ours_is_put_aside(source: Path, tmp_path: Path) -> None:
    source.write_bytes(b"something else")
    assert isinstance(finish(source, tmp_path, 24), Failed)
    assert [path.name for path in source.parent.iterdir()] == ["abcdefghijklmnop.unreadable"]


def test_a_directory_that_cannot_be_written_keeps_the_raw_file(source: Path, tmp_path: Path) -> None:
    write(source, [(0, 0.0, rtp(0))])
    (tmp_path / "2026").write_text("in the way")
    assert isinstance(finish(source, tmp_path, 24), Failed)
    assert source.exists()


@pytest.mark.parametrize("outcome", [Finished(Path("/x/y.mp3"), 1.5, 20), NotRecorded("why"), Failed("why")])
def test_outcomes_pass_between_processes(outcome: Finished | NotRecorded | Failed) -> None:
    assert outcome_of(answer(outcome).encode()) == outcome


@pytest.mark.parametrize("line", [b"", b"{}", b'["Other", {}]', b'["Finished", {}]'])
def test_what_is_no_outcome(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"outcome|Expecting"):
        outcome_of(line)
