"""Who fetched which recording: written behind, added up, bounded by age and number, in both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from b2bua.cdr import CallId, ClientId
from b2bua.store import fetches
from b2bua.store.engine import StoreUnavailable
from b2bua.store.fetches import Fetch
from b2bua.store.store import open_store

NOW = datetime.now(UTC)


def fetch(
    recording: str = "rec-1", minute: int = 0, address: str = "203.0.113.5", who: str = "", size: int = 10
) -> Fetch:
    return Fetch(recording, NOW + timedelta(minutes=minute), address, who, size)


async def test_the_last_fetches_of_a_recording_are_told_the_newest_first(database_url: str) -> None:
    async with open_store(database_url) as store:
        log = store.recordings.fetch_log
        log.note(fetch(minute=0))
        log.note(fetch("rec-2"))
        assert await store.recordings.fetches("rec-1") == [fetch(minute=0)]
        log.note(fetch(minute=1, who="anna\0"))
        log.note(fetch(minute=2, address="2001:db8::/64"))
        assert await store.recordings.fetches("rec-1", 2) == [
            fetch(minute=2, address="2001:db8::/64"), fetch(minute=1, who="anna\ufffd")]


async def test_what_one_player_asks_for_in_pieces_is_one_row(database_url: str) -> None:
    async with open_store(database_url) as store:
        for minute, size in ((3, 100), (1, 20), (2, 3)):
            store.recordings.fetch_log.note(fetch(minute=minute, size=size))
        assert await store.recordings.fetches("rec-1") == [replace(fetch(minute=1, size=123), requests=3)]


async def test_what_is_noted_is_there_after_a_restart(database_url: str) -> None:
    async with open_store(database_url) as store:
        store.recordings.fetch_log.note(fetch())
    async with open_store(database_url) as store:
        assert await store.recordings.fetches("rec-1") == [fetch()]


async def test_only_so_many_rows_are_kept(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetches, "MOST_KEPT", 3)
    async with open_store(database_url) as store:
        for minute in range(5):
            store.recordings.fetch_log.note(fetch(minute=minute))
            assert (await store.recordings.fetches("rec-1"))[0] == fetch(minute=minute)
        assert await store.recordings.fetches("rec-1") == [fetch(minute=minute) for minute in (4, 3, 2)]


async def test_only_so_many_wait_in_memory(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetches, "MOST_WAITING", 2)
    async with open_store(database_url) as store:
        for number in (1, 2, 3, 1):
            store.recordings.fetch_log.note(fetch(address=f"203.0.113.{number}"))
        found = await store.recordings.fetches("rec-1")
        assert {(one.address, one.requests) for one in found} == {("203.0.113.1", 2), ("203.0.113.2", 1)}


async def test_old_ones_go_and_those_of_a_recording_that_is_gone(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.recordings.begin("rec-2", CallId("c-2"), ClientId("acme"), NOW)
        for one in (fetch(minute=0), fetch("rec-2", minute=5)):
            store.recordings.fetch_log.note(one)
            await store.recordings.fetches(one.recording)
        await store.recordings.fetch_log.forget(NOW + timedelta(minutes=1))
        assert await store.recordings.fetches("rec-1") == []
        assert await store.recordings.fetches("rec-2") == [fetch("rec-2", minute=5)]
        await store.recordings.forget("rec-2")
        assert await store.recordings.fetches("rec-2") == []


async def test_a_database_that_is_away_loses_none(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise StoreUnavailable("gone")

    async with open_store(database_url) as store:
        store.recordings.fetch_log.note(fetch(size=1))
        with monkeypatch.context() as patched:
            patched.setattr(store.recordings.fetch_log._database, "writing", away)
            with pytest.raises(StoreUnavailable):
                await store.recordings.fetches("rec-1")
        store.recordings.fetch_log.note(fetch(size=2))
        assert [one.size for one in await store.recordings.fetches("rec-1")] == [3]
