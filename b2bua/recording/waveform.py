"""How loud each side of a recording is, in slices of time: what a page draws to seek in, kept beside the MP3."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from b2bua.recording.formats import RATE, Samples

SUFFIX = ".waveform"
FINEST = RATE // 20                     # samples in a slice; more in a long recording
MOST_SLICES = 1500                      # of a side: more than a screen is wide is for nobody
LARGEST_FILE = 32_768                   # bytes; such a waveform is half as large

Levels = npt.NDArray[np.uint8]


class UnreadableWaveform(ValueError):
    """The file is not one that we wrote."""


@dataclass(frozen=True, slots=True)
class Waveform:
    """Peaks, 0 to 255, of `slice_seconds` each; the last slice may be shorter."""

    seconds: float
    slice_seconds: float
    caller: bytes
    callee: bytes

    def to_json(self) -> str:
        return json.dumps({"seconds": self.seconds, "slice_seconds": self.slice_seconds,
                           "caller": [*self.caller], "callee": [*self.callee]}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Waveform:
        """Raises UnreadableWaveform."""
        try:
            said = json.loads(text)
            return cls(float(said["seconds"]), float(said["slice_seconds"]), bytes(said["caller"]),
                       bytes(said["callee"]))
        except (ValueError, TypeError, KeyError) as error:
            raise UnreadableWaveform(str(error)) from error


class Peaks:
    """Listens to both sides while they are encoded. What is added holds whole slices, except at the end."""

    def __init__(self) -> None:
        self._samples = 0
        self._levels: tuple[list[Levels], list[Levels]] = ([], [])

    def add(self, caller: Samples, callee: Samples) -> None:
        self._samples += len(caller)
        for levels, samples in zip(self._levels, (caller, callee), strict=True):
            # -32768 has no positive of its own in 16 bits.
            loudness = np.minimum(np.abs(samples.astype(np.int32)) >> 7, 255).astype(np.uint8)
            levels.append(_peaks(loudness, FINEST))

    def waveform(self) -> Waveform:
        caller, callee = (np.concatenate([np.zeros(0, np.uint8), *levels]) for levels in self._levels)
        coarser = max(1, -(-len(caller) // MOST_SLICES))
        return Waveform(self._samples / RATE, coarser * FINEST / RATE,
                        _peaks(caller, coarser).tobytes(), _peaks(callee, coarser).tobytes())


def _peaks(levels: Levels, size: int) -> Levels:
    """The loudest of each so many."""
    whole = np.pad(levels, (0, -len(levels) % size))
    peaks: Levels = whole.reshape(-1, size).max(axis=1)
    return peaks


def path_beside(mp3: Path) -> Path:
    return mp3.with_suffix(SUFFIX)


def keep(waveform: Waveform, mp3: Path) -> None:
    """On the disk, whole, when this returns."""
    unfinished = mp3.with_suffix(f"{SUFFIX}.part")
    with unfinished.open("w", encoding="ascii") as file:
        file.write(waveform.to_json())
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path_beside(mp3))


def read(mp3: Path) -> Waveform | None:
    """Of this recording; None when it has none. Reads a file: not for the loop. Raises UnreadableWaveform."""
    try:
        with path_beside(mp3).open("rb") as file:
            return Waveform.from_json(file.read(LARGEST_FILE))
    except FileNotFoundError:
        return None
