"""Where recordings are kept: raw ones become MP3 in worker processes, finished ones are found by an unguessable id."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from b2bua.media.raw import FOLDER, SUFFIX, is_recording_id
from b2bua.recording import waveform
from b2bua.recording.formats import BIT_RATES
from b2bua.recording.recorder import Failed, Finished, NotRecorded, Outcome, outcome_of

MAX_WAITING = 5000                      # recordings that wait for a worker; beyond, the next start finishes them
BASE_PATIENCE = 60.0                    # for one recording, and a second more for each
RAW_BYTES_PER_SECOND = 500_000          # of its raw file; seen: ten times faster

log = structlog.get_logger(__name__)


def new_recording_id() -> str:
    """192 random bits: who has the link may listen, nobody guesses it."""
    return secrets.token_urlsafe(24)


class Archive:
    """`async with Archive(directory) as archive`; what still waits when it is left, is finished at the next start."""

    def __init__(self, directory: Path, *, bit_rate: int = 24, workers: int = 1) -> None:
        if bit_rate not in BIT_RATES:
            raise ValueError(f"bit rate {bit_rate}: one of {BIT_RATES}")
        self._directory = directory
        self._raw = directory / FOLDER
        self._bit_rate = bit_rate
        self._places = asyncio.Semaphore(workers)
        self._idle: list[_Worker] = []
        self._busy: dict[str, asyncio.Future[Outcome]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        while self._idle:
            await self._idle.pop().end()

    @property
    def waiting(self) -> int:
        """Recordings that are not finished yet, for metrics."""
        return len(self._busy)

    async def finish(self, recording: str) -> Outcome:
        """Make the MP3; when asked twice, it is made once."""
        if not is_recording_id(recording):
            return NotRecorded("no id of a recording")
        if recording in self._busy:
            return await asyncio.shield(self._busy[recording])
        if len(self._busy) >= MAX_WAITING:
            return Failed("too many recordings wait: the next start finishes this one")
        result: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._busy[recording] = result
        outcome: Outcome = Failed("interrupted: the next start finishes it")
        try:
            outcome = await self._finish(recording)
        finally:
            del self._busy[recording]
            result.set_result(outcome)
        return outcome

    async def recover(self, live: Collection[str] = (), unfinished: Collection[str] = ()) -> dict[str, Outcome]:
        """Finish what a crash has left behind, except for `live` ones. What appears later is not touched.

        `unfinished` ones, as the books have it, may have been finished without the books' knowing.
        """
        left = await asyncio.to_thread(self._left, unfinished)
        return {recording: await self.finish(recording) for recording in left if recording not in live}

    def open_path(self, recording: str) -> Path | None:
        """The finished MP3 of that id, None when there is none."""
        if not is_recording_id(recording):          # no slash and no dot passes: it stays below the directory
            return None
        name = f"{recording}.mp3"
        return next((path for path in self._directory.glob(f"[0-9][0-9][0-9][0-9]/[0-9][0-9]/{name}")), None)

    def remove(self, recording: str) -> bool:
        """Whether there was something to remove."""
        path = self.open_path(recording)
        if path is not None:
            waveform.path_beside(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        return path is not None

    def _left(self, unfinished: Collection[str]) -> list[str]:
        left = {recording for recording in unfinished if self.open_path(recording) is not None}
        if self._raw.is_dir():
            left |= {path.stem for path in self._raw.iterdir() if path.suffix == SUFFIX and is_recording_id(path.stem)}
        return sorted(left)

    async def _finish(self, recording: str) -> Outcome:
        raw = self._raw / f"{recording}{SUFFIX}"
        async with self._places:
            size = await asyncio.to_thread(_size, raw)
            if size is None:
                return await asyncio.to_thread(self._as_it_is, recording)
            outcome = await self._work(raw, size)
        match outcome:
            case Failed(why):
                log.error("recording not finished", recording=recording, why=why)
            case NotRecorded(why):
                log.warning("nothing recorded", recording=recording, why=why)
            case Finished(_, seconds, written):
                log.info("recording finished", recording=recording, seconds=round(seconds, 1), size=written)
        return outcome

    def _as_it_is(self, recording: str) -> Outcome:
        path = self.open_path(recording)
        if path is None:
            return NotRecorded("nothing was recorded")
        size = path.stat().st_size
        return Finished(path, size * 8 / (self._bit_rate * 1000), size)

    async def _work(self, raw: Path, size: int) -> Outcome:
        worker = self._idle.pop() if self._idle else _Worker()
        try:
            async with asyncio.timeout(BASE_PATIENCE + size / RAW_BYTES_PER_SECOND):
                outcome = await worker.finish(raw, self._directory, self._bit_rate)
        except TimeoutError:
            await worker.end()
            return Failed("took too long")
        except (OSError, EOFError, ValueError) as error:
            await worker.end()
            return Failed(f"the worker died: {error}")
        except BaseException:
            await worker.end()
            raise
        self._idle.append(worker)
        return outcome


class _Worker:
    """A process that finishes one recording after the other, so that Python and numpy are loaded once."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def finish(self, raw: Path, directory: Path, bit_rate: int) -> Outcome:
        """Raises OSError, EOFError or ValueError when the process is not what it was."""
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "b2bua.recording.recorder",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=_environment())
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(raw), str(directory), bit_rate]).encode() + b"\n")
        await self._process.stdin.drain()
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError(f"exit status {await self._process.wait()}")
        return outcome_of(line)

    async def end(self) -> None:
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.kill()                    # it replaces files whole: nothing is left half written
        await self._process.wait()
        self._process = None


def _environment() -> dict[str, str]:
    """The worker must find this package wherever the switch was started from; one thread is enough for it."""
    paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
