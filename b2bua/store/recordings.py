"""Which recordings there are, of which call, whether they may still be heard, and by whom they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from sqlalchemy import Select, delete, or_, select, update

from b2bua.cdr import CallId, ClientId
from b2bua.store.engine import Database, whole
from b2bua.store.fetches import Fetch, FetchLog
from b2bua.store.rows import LONGEST_WHY, storable
from b2bua.store.schema import recording_fetches, recordings


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
    decided_at: datetime | None        # when it was last withdrawn or given back
    decided_by: str | None


class RecordingRows:
    def __init__(self, database: Database) -> None:
        self._database = database
        self.fetch_log = FetchLog(database)

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

    async def revoke(self, recording: str, by: str, *, revoked: bool = True) -> None:
        """Its links give nothing any more; or they do again."""
        await self._set(recording, revoked=revoked, decided_at=datetime.now(UTC), decided_by=storable(by))

    async def fetches(self, recording: str, limit: int = 20) -> list[Fetch]:
        """The last ones, the newest first."""
        return await self.fetch_log.last(recording, limit)

    @whole
    async def forget(self, recording: str) -> None:
        async with self._database.writing() as connection:
            await connection.execute(delete(recordings).where(recordings.c.id == recording))
            await connection.execute(delete(recording_fetches).where(recording_fetches.c.recording == recording))

    async def get(self, recording: str) -> Recording | None:
        found = await self._recordings(select(recordings).where(recordings.c.id == recording))
        return found[0] if found else None

    async def find(self, what: str) -> list[Recording]:
        """The recording of this id, or those of the call of this id."""
        return await self._recordings(select(recordings).where(or_(recordings.c.id == what, recordings.c.call == what))
                                      .order_by(recordings.c.started_at))

    async def those(self, ids: Sequence[str]) -> Mapping[str, Recording]:
        """Of these ids what there is."""
        return {one.id: one for one in await self._recordings(select(recordings).where(recordings.c.id.in_(ids)))}

    @whole
    async def _recordings(self, query: Select[tuple[object, ...]]) -> list[Recording]:
        async with self._database.reading() as connection:
            return [Recording(row["id"], CallId(row["call"]), ClientId(row["client"]), row["started_at"],
                              RecordingStage(row["state"]), row["path"], row["seconds"], row["size"], row["problem"],
                              row["revoked"], row["decided_at"], row["decided_by"])
                    for row in (await connection.execute(query)).mappings()]

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
