"""Old recordings go when their days are over, file and row; what cannot be deleted is tried again."""

from __future__ import annotations

from datetime import timedelta

from b2bua.cdr import CallId, ClientId
from b2bua.recording.keeping import delete_older_than
from b2bua.store.store import Store, open_store
from tests.support.records import NOON


class Files:
    def __init__(self, *stuck: str) -> None:
        self.stuck = stuck
        self.removed: list[str] = []

    def remove(self, recording: str) -> bool:
        if recording in self.stuck:
            raise PermissionError("read-only file system")
        self.removed.append(recording)
        return True


async def _recorded(store: Store, **days_ago: int) -> None:
    for recording, days in days_ago.items():
        await store.recordings.begin(recording, CallId("c"), ClientId("acme"), NOON - timedelta(days=days))


async def test_only_what_is_older_goes(database_url: str) -> None:
    files = Files()
    async with open_store(database_url) as store:
        await _recorded(store, old=31, older=90, young=29)
        assert await delete_older_than(30, store.recordings, files, NOON) == 2
        assert files.removed == ["older", "old"]
        assert await store.recordings.get("old") is None
        assert await store.recordings.get("young") is not None


async def test_for_ever_means_for_ever(database_url: str) -> None:
    async with open_store(database_url) as store:
        await _recorded(store, old=4000)
        assert await delete_older_than(0, store.recordings, Files(), NOON) == 0


async def test_what_cannot_be_deleted_holds_nothing_up(database_url: str) -> None:
    async with open_store(database_url) as store:
        await _recorded(store, stuck=90, old=80)
        assert await delete_older_than(30, store.recordings, Files("stuck"), NOON) == 1
        assert await store.recordings.get("stuck") is not None
        assert await store.recordings.get("old") is None
