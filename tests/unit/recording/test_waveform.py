"""Peaks of both sides: where somebody speaks, how loud, in bounded size; and the file that keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2bua.recording import waveform
from b2bua.recording.formats import RATE, Samples
from b2bua.recording.waveform import FINEST, LARGEST_FILE, MOST_SLICES, Peaks, UnreadableWaveform, Waveform

CHUNK = 200 * FINEST


def silence(samples: int) -> Samples:
    return np.zeros(samples, np.int16)


def drawn(caller: Samples, callee: Samples) -> Waveform:
    """Added as the recorder does: whole chunks, then the rest."""
    peaks = Peaks()
    for start in range(0, len(caller), CHUNK):
        peaks.add(caller[start : start + CHUNK], callee[start : start + CHUNK])
    return peaks.waveform()


def test_the_loudest_moment_of_each_slice_is_drawn() -> None:
    caller, callee = silence(4 * FINEST), silence(4 * FINEST)
    caller[0], caller[FINEST - 1], caller[2 * FINEST] = 256, -12_800, 127
    callee[-1] = -32_768
    assert drawn(caller, callee) == Waveform(0.2, 0.05, bytes([100, 0, 0, 0]), bytes([0, 0, 0, 255]))


def test_the_last_slice_may_be_shorter() -> None:
    caller = silence(FINEST + 1)
    caller[-1] = 32_767
    assert drawn(caller, silence(FINEST + 1)) == Waveform((FINEST + 1) / RATE, 0.05, bytes([0, 255]), bytes(2))


@pytest.mark.parametrize("slices", [MOST_SLICES, MOST_SLICES + 1, 7 * MOST_SLICES - 3])
def test_a_long_recording_has_longer_slices_and_not_more_of_them(slices: int) -> None:
    caller = silence(slices * FINEST)
    caller[::FINEST] = np.arange(slices) // 128
    caller[-1] = 32_767
    found = drawn(caller, silence(len(caller)))
    assert MOST_SLICES // 2 <= len(found.caller) == len(found.callee) <= MOST_SLICES
    assert found.caller[-1] == 255
    assert found.seconds <= len(found.caller) * found.slice_seconds < found.seconds + found.slice_seconds


def test_nothing_heard_is_nothing_drawn() -> None:
    assert Peaks().waveform() == Waveform(0.0, 0.05, b"", b"")


@given(st.floats(0, 1e6), st.floats(0.05, 1e3), st.binary(max_size=50), st.binary(max_size=50))
def test_it_passes_through_json(seconds: float, slice_seconds: float, caller: bytes, callee: bytes) -> None:
    known = Waveform(seconds, slice_seconds, caller, callee)
    assert Waveform.from_json(known.to_json()) == known


def test_the_largest_one_fits_the_file() -> None:
    loud = bytes([255]) * MOST_SLICES
    assert len(Waveform(86_399.999875, 57.65, loud, loud).to_json()) < LARGEST_FILE


def test_it_is_kept_beside_the_mp3(tmp_path: Path) -> None:
    mp3 = tmp_path / "rec.mp3"
    assert waveform.read(mp3) is None
    for known in (Waveform(1.0, 0.05, b"\1\2", b"\3\4"), Waveform(2.0, 0.05, b"\5", b"\6")):
        waveform.keep(known, mp3)
        assert waveform.read(mp3) == known
    assert [path.name for path in tmp_path.iterdir()] == ["rec.waveform"]


@pytest.mark.parametrize("text", [
    "", "[]", "{}", '{"seconds":1,"slice_seconds":1,"caller":[256],"callee":[]}', "\xff",
    '{"seconds":1,"slice_seconds":1,"caller":[1.5],"callee":[]}', '{"seconds":"x","slice_seconds":1}',
])
def test_what_we_did_not_write_is_not_believed(text: str, tmp_path: Path) -> None:
    (tmp_path / "rec.waveform").write_bytes(text.encode("latin-1"))
    with pytest.raises(UnreadableWaveform):
        waveform.read(tmp_path / "rec.mp3")
