"""What the server can play: WAV files of a directory and sounds made by code, encoded in G.711 beforehand.

It reads files and computes: never on the loop of the signalling.
"""

from __future__ import annotations

import re
import wave
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from b2bua.media.g711 import RATE, Samples, a_law, mu_law

FRAME = 160                             # samples in 20 ms: a sound is a whole number of them
MAX_SOUNDS = 100                        # files
MAX_SECONDS = 300                       # of one file
MAX_TOTAL_SECONDS = 1800                # of all sounds together; each second takes 16 kB of memory
SUFFIX = ".wav"
NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_CHUNK = RATE                           # samples encoded in one go, so that no other thread waits long for this one
_REMEDY = f"Save it as 16-bit PCM, mono, {RATE} Hz, {MAX_SECONDS} s at most, as by: sox IN -r {RATE} -c 1 -b 16 OUT.wav"


@dataclass(frozen=True, slots=True)
class Sound:
    """A whole number of 20 ms frames, a code word for each sample."""

    name: str
    a_law: bytes
    mu_law: bytes

    @property
    def seconds(self) -> float:
        return len(self.a_law) / RATE


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that cannot be played: what is wrong with it, and what to do."""

    path: Path
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Loaded:
    sounds: Mapping[str, Sound]         # by name; a file stands before what code has made of the same name
    bad: tuple[BadFile, ...] = ()


def names(directory: Path | None) -> set[str]:
    """Of all sounds that there should be; whether a file is right is not looked at."""
    return {*BUILT_IN, *(path.stem for path in _files(directory) if NAME.fullmatch(path.stem))}


def stamp(directory: Path | None) -> tuple[tuple[str, int, int], ...]:
    """Another value when some file is another one."""
    found = []
    for path in _files(directory):
        try:
            status = path.stat()
        except OSError:                 # gone in this very moment
            continue
        found.append((path.name, status.st_mtime_ns, status.st_size))
    return tuple(found)


def load(directory: Path | None) -> Loaded:
    """All that can be played. A directory that is not there is one bad file."""
    sounds = dict(built_in())
    bad: list[BadFile] = []
    if directory is not None and not directory.is_dir():
        bad.append(BadFile(directory, "there is no such directory", "Make it, or take the setting out."))
    left = MAX_TOTAL_SECONDS - sum(sound.seconds for sound in sounds.values())
    for count, path in enumerate(_files(directory)):
        loaded = _read(path) if count < MAX_SOUNDS else BadFile(
            path, f"there are more than {MAX_SOUNDS} sound files", "Take out what no call plays.")
        if isinstance(loaded, Sound) and loaded.seconds > left:
            loaded = BadFile(path, f"with it, all sounds together are longer than {MAX_TOTAL_SECONDS} s",
                             "Shorten it, or take out what no call plays.")
        if isinstance(loaded, Sound):
            left -= loaded.seconds
            sounds[loaded.name] = loaded
        else:
            bad.append(loaded)
    return Loaded(sounds, tuple(bad))


def _files(directory: Path | None) -> list[Path]:
    if directory is None:
        return []
    try:
        return sorted(path for path in directory.iterdir() if path.suffix.lower() == SUFFIX)
    except OSError:
        return []


def _read(path: Path) -> Sound | BadFile:
    if not NAME.fullmatch(path.stem):
        return BadFile(path, "its name is none that a destination can have",
                       "Use letters, digits, - and _ alone, 40 at most, before the .wav.")
    try:
        with wave.open(str(path), "rb") as file:
            if (problem := _unfit(file)) is not None:
                return BadFile(path, problem, _REMEDY)
            return _encoded(path.stem, _chunks(file))
    except OSError as error:
        return BadFile(path, f"it cannot be read: {error.strerror}", "Give the user that runs the daemon the right.")
    except (wave.Error, EOFError, ValueError) as error:
        return BadFile(path, f"it is no WAV file of PCM: {str(error) or 'it is cut short'}", _REMEDY)


def _unfit(file: wave.Wave_read) -> str | None:
    if file.getframerate() != RATE:
        return f"it has {file.getframerate()} samples a second"
    if file.getnchannels() != 1:
        return f"it has {file.getnchannels()} channels"
    if file.getsampwidth() != 2:
        return f"it has {8 * file.getsampwidth()} bits a sample"
    if not file.getnframes():
        return "it is empty"
    if file.getnframes() > MAX_SECONDS * RATE:
        return f"it is {file.getnframes() // RATE} s long"
    return None


def _chunks(file: wave.Wave_read) -> Iterator[Samples]:
    while data := file.readframes(_CHUNK):
        yield np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.int16)


def _encoded(name: str, chunks: Iterator[Samples]) -> Sound:
    """Filled up with silence to a whole frame."""
    words = bytearray(), bytearray()
    for chunk in chunks:
        words[0].extend(a_law(chunk))
        words[1].extend(mu_law(chunk))
    if not words[0]:
        raise EOFError
    missing = np.zeros(-len(words[0]) % FRAME, np.int16)
    return Sound(name, bytes(words[0]) + a_law(missing), bytes(words[1]) + mu_law(missing))


# -- made by code

@cache
def built_in() -> Mapping[str, Sound]:
    return {name: _encoded(name, _in_chunks(make())) for name, make in _MADE.items()}


def _in_chunks(samples: Samples) -> Iterator[Samples]:
    for begin in range(0, len(samples), _CHUNK):
        yield samples[begin : begin + _CHUNK]


def _beeps(hz: float, on: float, off: float, times: int) -> Samples:
    return np.tile(np.concatenate((_tone(hz, on), _pause(off))), times)


def _tone(hz: float, seconds: float, level: float = 0.15) -> Samples:
    at = np.arange(round(seconds * RATE)) / RATE
    return np.asarray(np.sin(2 * np.pi * hz * at) * level * 32767, dtype=np.int16)


def _pause(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.int16)


def _unavailable() -> Samples:
    """Three tones that rise, thrice: a call that cannot be put through (ITU-T E.180, special information tone)."""
    rising = [_tone(hz, 0.33) for hz in (950, 1400, 1800)]
    return np.tile(np.concatenate((*rising, _pause(1.01))), 3)


# Scale steps above A3 (220 Hz), each half a second: a slow arpeggio over four chords, that joins its own beginning.
_CHORDS = ((0, 7, 12, 16), (-4, 8, 12, 15), (3, 10, 15, 19), (-2, 10, 14, 17))
_NOTE = 0.5


def _music() -> Samples:
    """A gentle melody; each note dies away into the next."""
    notes = [step for chord in _CHORDS for step in (*chord, *reversed(chord))]
    length, ring = round(_NOTE * RATE), 4 * round(_NOTE * RATE)
    at = np.arange(ring) / RATE
    shape = np.minimum(at / 0.02, 1.0) * np.exp(-at * 2.5) * np.minimum((at[-1] - at) / 0.1, 1.0)
    mixed = np.zeros(len(notes) * length)
    for place, step in enumerate(notes):
        hz = 220 * 2 ** (step / 12)
        voice = (np.sin(2 * np.pi * hz * at) + 0.2 * np.sin(4 * np.pi * hz * at)) * shape
        mixed[(place * length + np.arange(ring)) % len(mixed)] += voice
    return np.asarray(mixed / np.abs(mixed).max() * 0.25 * 32767, dtype=np.int16)


# Russian tones (ITU-T E.180, 425 Hz). Once through is as long as an announcement of it should last.
_MADE: Mapping[str, Callable[[], Samples]] = {
    "ringback": lambda: _beeps(425, 1.0, 4.0, 1),
    "busy": lambda: _beeps(425, 0.35, 0.35, 14),
    "congestion": lambda: _beeps(425, 0.175, 0.175, 28),
    "unavailable": _unavailable,
    "music": _music,
    "silence": lambda: _pause(1.0),
}
BUILT_IN = tuple(_MADE)
