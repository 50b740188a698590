"""Which recordings there are, of which call, and whether they may still be heard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from sqlalchemy import Select, delete, select, update

from b2bua.cdr import CallId, ClientId
from b2bua.store.engine import Database, whole
from b2bua.store.rows import LONGEST_WHY, storable
from b2bua.store.schema import recordings


class RecordingStage(Enum):
    RECORDING = "recording"            # or being finished
    READY = "ready"
    FAILED = "failed"                  # there is nothing to hear, and never will be


@dataclass(frozen=True, slots=True)
class Recording:
    id: str
    call: CallId
    client: ClientId
    started_at: datetime
    stage: RecordingStage
    path: str                          # of the MP3, below the recordings' directory; "" until it is ready
    seconds: float
    size: int
    problem: str | None
    revoked: bool


class RecordingRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def begin(self, recording: str, call: CallId, client: ClientId, started_at: datetime | None = None) -> None:
        """Known from now on, so that its link can say "not yet". Twice is once."""
        values = (recording, storable(call), client, "", started_at or datetime.now(UTC),
                  RecordingStage.RECORDING.value, 0.0, 0, False)
        statement = self._database.insert_once(
            recordings, ("id", "call", "client", "path", "started_at", "state", "seconds", "size", "revoked"))
        async with self._database.writing() as connection:
            await connection.exec_driver_sql(statement, self._database.values(values))

    async def finished(self, recording: str, path: str, seconds: float, size: int) -> None:
        await self._set(recording, state=RecordingStage.READY.value, path=path, seconds=seconds, size=size,
                        problem=None)

    async def failed(self, recording: str, problem: str) -> None:
        await self._set(recording, state=RecordingStage.FAILED.value, problem=storable(problem, LONGEST_WHY))

    async def revoke(self, recording: str, *, revoked: bool = True) -> None:
        """Its link gives nothing any more."""
        await self._set(recording, revoked=revoked)

    @whole
    async def forget(self, recording: str) -> None:
        async with self._database.writing() as connection:
            await connection.execute(delete(recordings).where(recordings.c.id == recording))

    @whole
    async def get(self, recording: str) -> Recording | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(select(recordings).where(recordings.c.id == recording))).mappings().first()
        if row is None:
            return None
        return Recording(row["id"], CallId(row["call"]), ClientId(row["client"]), row["started_at"],
                         RecordingStage(row["state"]), row["path"], row["seconds"], row["size"], row["problem"],
                         row["revoked"])

    async def unfinished(self) -> list[str]:
        """What a crash may have left behind."""
        return await self._ids(select(recordings.c.id).where(recordings.c.state == RecordingStage.RECORDING.value))

    async def older_than(self, before: datetime, limit: int = 1000) -> list[str]:
        """Candidates for deletion, the oldest first."""
        return await self._ids(select(recordings.c.id).where(recordings.c.started_at < before)
                               .order_by(recordings.c.started_at).limit(limit))

    @whole
    async def _ids(self, query: Select[tuple[str]]) -> list[str]:
        async with self._database.reading() as connection:
            return [row.id for row in await connection.execute(query)]

    @whole
    async def _set(self, recording: str, /, **values: object) -> None:
        async with self._database.writing() as connection:
            await connection.execute(update(recordings).where(recordings.c.id == recording).values(**values))
