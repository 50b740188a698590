"""From the relay's raw file to the MP3 behind the link: the calls' side of recording."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from b2bua.calls.call import CallInProgress
from b2bua.calls.errands import Errands
from b2bua.cdr import CallId, CallRecord, ClientId
from b2bua.media.plane import MediaSession
from b2bua.recording.archive import new_recording_id
from b2bua.recording.recorder import Failed, Finished, NotRecorded, Outcome
from b2bua.store.engine import StoreUnavailable

BOOKS_AGAIN = 2.0                          # seconds, when the database did not answer
BOOKS_PATIENCE = 600.0                     # so long at most; then the next start finds the file

log = structlog.get_logger(__name__)
T = TypeVar("T")


class RecordingBooks(Protocol):
    """Where it is written down which recordings there are (the store)."""

    async def begin(self, recording: str, call: CallId, client: ClientId, started_at: datetime) -> None: ...

    async def finished(self, recording: str, path: str, seconds: float, size: int) -> None: ...

    async def failed(self, recording: str, problem: str) -> None: ...

    async def unfinished(self) -> Sequence[str]: ...


class RecordingArchive(Protocol):
    """Who makes the MP3 (b2bua.recording.archive)."""

    async def finish(self, recording: str) -> Outcome: ...

    async def recover(self, live: Collection[str], unfinished: Collection[str]) -> Mapping[str, Outcome]: ...


class Recordings:
    """Begins a recording with the talk, and has it finished after the call, beside all calls."""

    def __init__(
        self,
        directory: Path,
        archive: RecordingArchive,
        books: RecordingBooks,
        errands: Errands,
        settled: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._archive = archive
        self._books = books
        self._errands = errands
        self._settled = settled                # the CRM's note waits for the file
        self._live: set[str] = set()

    def begin(self, call: CallInProgress, media: MediaSession) -> None:
        recording = call.recording = new_recording_id()
        self._live.add(recording)
        media.record(recording)
        self._errands.start("note a recording", self._note(call, recording))

    def finish(self, call: CallInProgress) -> None:
        """The call is over and its media session closed: the raw file is whole."""
        if call.recording is not None:
            self._errands.start("finish a recording", self._finish(call, call.recording))

    async def recover(self, calls: Sequence[CallRecord] = ()) -> None:
        """What a crash has left: finished now, as if its call had just ended. `calls` were up then."""
        try:
            for call in calls:             # the crash may have come before their recordings were noted
                if (recording := call.recording) is not None:
                    await _in_the_end(partial(self._books.begin, recording, call.id, call.client, call.started_at))
            unfinished = await _in_the_end(self._books.unfinished)
            for recording, outcome in (await self._archive.recover(self._live, unfinished)).items():
                await self._settle(recording, outcome)
        except (StoreUnavailable, OSError) as error:
            log.error("recordings not recovered", why=str(error), remedy="the next start tries again")

    async def _note(self, call: CallInProgress, recording: str) -> None:
        """So that its link can say "not yet", and that a crash leaves a trace of it."""
        try:
            await self._books.begin(recording, call.id, call.client, call.started_at)
        except StoreUnavailable as error:
            log.warning("recording not noted", recording=recording, why=str(error), remedy="it is, when the call ends")

    async def _finish(self, call: CallInProgress, recording: str) -> None:
        try:
            outcome = await self._archive.finish(recording)
            # Again, should the first time have failed: twice is once.
            await _in_the_end(lambda: self._books.begin(recording, call.id, call.client, call.started_at))
            await self._settle(recording, outcome)
        finally:
            self._live.discard(recording)

    async def _settle(self, recording: str, outcome: Outcome) -> None:
        match outcome:
            case Finished(path=path, seconds=seconds, size=size):
                where = str(path.relative_to(self._directory))
                await _in_the_end(lambda: self._books.finished(recording, where, seconds, size))
            case NotRecorded(why=why) | Failed(why=why):
                await _in_the_end(lambda: self._books.failed(recording, why))
        self._settled(recording)


async def _in_the_end(ask: Callable[[], Awaitable[T]]) -> T:
    """The database may be away when a recording is ready: its link must come alive when that is back."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + BOOKS_PATIENCE
    while True:
        try:
            return await ask()
        except StoreUnavailable:
            if loop.time() > give_up_at:
                raise
        await asyncio.sleep(BOOKS_AGAIN)
