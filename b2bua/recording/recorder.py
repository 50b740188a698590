"""From a raw recording to an MP3: both sides on one clock, gaps filled; run in a worker process (`python -m`).

Where a packet belongs is said by its RTP timestamp, as that knows neither jitter nor order; where RTP time stands in
the recording is said by arrival. A sender whose clock runs at another pace, or whose RTP time leaps, is anchored anew.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from b2bua.media import raw
from b2bua.recording import waveform
from b2bua.recording.formats import RATE, Decoder, Mp3, RtpPacket, Samples, decoder_of, read_rtp
from b2bua.sdp.session import is_voice

CHUNK = 10 * RATE                       # samples that are encoded at a time
LATEST = 3 * RATE                       # how far behind the newest arrival a packet may still be placed
LEAP = 2 * RATE                         # RTP time this far from arrival is a leap, not delay
MAX_DRIFT = RATE // 10                  # what clock skew may add up to before the side is anchored anew
DRIFT_WINDOW = 100                      # packets; the least delayed one of them tells the drift
MAX_PAUSE = 6 * 3600                    # seconds without any packet; beyond, the file is damaged
UNREADABLE = ".unreadable"              # what does not begin as a raw recording is put aside, for a person to look at
NICE = 10


@dataclass(frozen=True, slots=True)
class Finished:
    path: Path
    seconds: float
    size: int                           # bytes


@dataclass(frozen=True, slots=True)
class NotRecorded:
    """There is nothing to hear, and nothing to try again."""

    why: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The raw file is kept."""

    why: str


Outcome = Finished | NotRecorded | Failed


class RtpClock:
    """RTP timestamps of one side -> samples since the start of the recording."""

    def __init__(self) -> None:
        self._ssrc = -1
        self._timestamp = 0
        self._position = 0              # of that timestamp
        self._least_delay = LEAP
        self._seen = 0

    def position(self, packet: RtpPacket, arrived: int) -> int:
        if packet.ssrc != self._ssrc:
            return self._anchor(packet, arrived)
        step = (packet.timestamp - self._timestamp + 0x8000_0000) % 0x1_0000_0000 - 0x8000_0000
        position = self._position + step
        if abs(position - arrived) > LEAP:
            return self._anchor(packet, arrived)
        if step > 0:
            self._timestamp, self._position = packet.timestamp, position
        self._follow_drift(arrived - position)
        return position

    def _anchor(self, packet: RtpPacket, arrived: int) -> int:
        self._ssrc, self._timestamp, self._position = packet.ssrc, packet.timestamp, arrived
        self._least_delay, self._seen = LEAP, 0
        return arrived

    def _follow_drift(self, delay: int) -> None:
        self._least_delay = min(self._least_delay, delay)
        self._seen += 1
        if self._seen == DRIFT_WINDOW:
            if abs(self._least_delay) > MAX_DRIFT:
                self._position += self._least_delay
            self._least_delay, self._seen = LEAP, 0


class Track:
    """One side's samples from `start` on; what nobody sent is silence."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()              # voice that could not be decoded
        self.packets = 0                            # that are heard
        self.end = 0
        self._start = 0
        self._samples: Samples = np.zeros(CHUNK + LATEST + 2 * LEAP, np.int16)
        self._clock = RtpClock()
        self._codecs: raw.Codecs = {}
        self._decoders: dict[str, Decoder | None] = {}

    def codecs(self, codecs: raw.Codecs) -> None:
        self._codecs = codecs

    def add(self, data: bytes, arrived: int) -> None:
        packet = read_rtp(data)
        codec = "" if packet is None else self._codecs.get(packet.payload_type, "")
        if packet is None or not codec or not is_voice(codec):
            return                      # comfort noise is silence here, and so are digits, which may be secret
        if codec not in self._decoders:
            self._decoders[codec] = decoder_of(codec)
        decoder = self._decoders[codec]
        if decoder is None:
            self.unknown.add(codec)
            return
        self._place(decoder(packet.payload), self._clock.position(packet, arrived))
        self.packets += 1

    def take(self, count: int) -> Samples:
        """The first samples, which are then over."""
        taken = self._samples[:count].copy()
        self._samples[:-count] = self._samples[count:]
        self._samples[-count:] = 0
        self._start += count
        return taken

    def _place(self, samples: Samples, position: int) -> None:
        first = position - self._start
        if first < 0:                               # too late, or before the recording began
            samples, first = samples[-first:], 0
        last = min(first + len(samples), len(self._samples))
        self._samples[first:last] = samples[: last - first]
        self.end = max(self.end, self._start + last)


def finish(raw_path: Path, directory: Path, bit_rate: int) -> Outcome:
    """Make <directory>/<yyyy>/<mm>/<recording>.mp3 and its waveform, then remove the raw file."""
    try:
        started_at = _started_at(raw_path)
        folder = directory / f"{started_at:%Y}" / f"{started_at:%m}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{raw_path.stem}.mp3"
        unfinished = path.with_suffix(".part")
        heard = _encode(raw_path, unfinished, bit_rate)
        if isinstance(heard, NotRecorded):
            unfinished.unlink()
            raw_path.unlink()
            return heard
        waveform.keep(heard, path)
        os.replace(unfinished, path)
        _sync_folder(folder)
        raw_path.unlink()
        return Finished(path, heard.seconds, path.stat().st_size)
    except raw.NotRaw as error:
        raw_path.rename(raw_path.with_suffix(UNREADABLE))
        return Failed(f"put aside as {UNREADABLE}: {error}")
    except OSError as error:
        return Failed(f"{error.strerror}: {error.filename}")


def _started_at(path: Path) -> datetime:
    with path.open("rb") as file:
        return raw.started_at(file.readline(raw.MAX_HEADER))


def _encode(source: Path, target: Path, bit_rate: int) -> waveform.Waveform | NotRecorded:
    tracks, peaks = (Track(), Track()), waveform.Peaks()
    with source.open("rb") as file, target.open("wb") as out:
        mp3 = Mp3(bit_rate)
        for left, right in _chunks(raw.read(file), tracks):
            out.write(mp3.encode(left, right))
            peaks.add(left, right)
        out.write(mp3.finish())
        out.flush()
        os.fsync(out.fileno())
    if not any(track.packets for track in tracks):
        unknown = sorted(tracks[0].unknown | tracks[1].unknown)
        return NotRecorded(f"codec not recordable: {', '.join(unknown)}" if unknown else "no audio came")
    return peaks.waveform()


def _chunks(records: Iterator[raw.CodecsKnown | raw.Packet],
            tracks: tuple[Track, Track]) -> Iterator[tuple[Samples, Samples]]:
    done = newest = 0
    for record in records:
        if isinstance(record, raw.CodecsKnown):
            for track, codecs in zip(tracks, record.codecs, strict=True):
                track.codecs(codecs)
            continue
        arrived = int(record.arrived * RATE)
        if arrived - newest > MAX_PAUSE * RATE:
            break
        newest = max(newest, arrived)
        while newest - done >= CHUNK + LATEST:
            yield tracks[0].take(CHUNK), tracks[1].take(CHUNK)
            done += CHUNK
        tracks[record.side].add(record.rtp, arrived)
    rest = max(track.end for track in tracks) - done
    while rest > 0:
        yield tracks[0].take(min(rest, CHUNK)), tracks[1].take(min(rest, CHUNK))
        rest -= CHUNK


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def answer(outcome: Outcome) -> str:
    """An outcome as the worker says it: one line."""
    return json.dumps([type(outcome).__name__, asdict(outcome)], default=str)


def outcome_of(line: bytes) -> Outcome:
    match json.loads(line):
        case ["Finished", {"path": path, "seconds": seconds, "size": size}]:
            return Finished(Path(path), seconds, size)
        case ["NotRecorded", {"why": why}]:
            return NotRecorded(why)
        case ["Failed", {"why": why}]:
            return Failed(why)
    raise ValueError("no outcome")


def main() -> None:
    """One job a line on the standard input: [raw path, directory, bit rate]; one outcome a line on the output."""
    for number in (signal.SIGINT, signal.SIGTERM):      # meant for the switch, which ends us when it ends
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICE)
    for line in sys.stdin:
        path, directory, bit_rate = json.loads(line)
        sys.stdout.write(answer(finish(Path(path), Path(directory), bit_rate)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
