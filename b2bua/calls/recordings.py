"""From the relay's raw file to the MP3 behind the link: the calls' side of recording."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from b2bua.calls.call import CallInProgress
from b2bua.calls.errands import Errands
from b2bua.cdr import CallId, ClientId
from b2bua.media.plane import MediaSession
from b2bua.recording.archive import Failed, Finished, NotRecorded, Outcome, new_recording_id

log = structlog.get_logger(__name__)


class RecordingBooks(Protocol):
    """Where it is written down which recordings there are (the store)."""

    async def begin(self, id: str, call: CallId, client: ClientId, path: str) -> None: ...  # noqa: A002

    async def finished(self, id: str, seconds: float, size: int) -> None: ...  # noqa: A002

    async def failed(self, id: str, why: str) -> None: ...  # noqa: A002


class RecordingArchive(Protocol):
    """Who makes the MP3 (b2bua.recording.archive)."""

    async def finish(self, recording_id: str) -> Outcome: ...

    def relative_path(self, recording_id: str) -> Path: ...


class Recordings:
    """Begins a recording with the talk, and has it finished after the call, beside all calls."""

    def __init__(
        self, archive: RecordingArchive, books: RecordingBooks, errands: Errands, when_settled: Callable[[str], None]
    ) -> None:
        self._archive = archive
        self._books = books
        self._errands = errands
        self._when_settled = when_settled      # the CRM's note waits for the file

    def begin(self, call: CallInProgress, media: MediaSession) -> None:
        call.recording = new_recording_id()
        media.record(call.recording)
        path = str(self._archive.relative_path(call.recording))
        self._errands.start("note a recording", self._books.begin(call.recording, call.id, call.client, path))

    def finish(self, call: CallInProgress) -> None:
        """The call is over and its media session closed."""
        if call.recording is not None:
            self._errands.start("finish a recording", self._finish(call.recording))

    async def _finish(self, recording: str) -> None:
        try:
            await self.settle(recording, await self._archive.finish(recording))
        finally:
            self._when_settled(recording)

    async def settle(self, recording: str, outcome: Outcome) -> None:
        """Write down what became of it."""
        match outcome:
            case Finished(seconds=seconds, size=size):
                await self._books.finished(recording, seconds, size)
            case NotRecorded(why=why):
                await self._books.failed(recording, why)
            case Failed(why=why):
                log.error("recording failed", recording=recording, why=why, remedy="the raw file is kept: see docs")
                await self._books.failed(recording, why)
