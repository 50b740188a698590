"""Finished calls and their CRM writes: both or neither, once, whatever the database does meanwhile."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from b2bua.cdr import CallId, ClientId
from b2bua.store import calls as journal
from b2bua.store.calls import CallJournal, Kept
from b2bua.store.engine import StoreUnavailable, open_database, sqlite_file
from b2bua.store.migrate import migrate
from b2bua.store.row_writer import RowsRefused
from b2bua.store.spill import SpillFile
from b2bua.store.store import open_store
from tests.support.postgres import running_cluster
from tests.support.records import NOON, note, record


async def test_a_finished_call_reads_back_as_it_was(database_url: str) -> None:
    call = record()
    async with open_store(database_url) as store:
        assert await store.calls.finish(call, [note(call)]) is Kept.STORED
        assert await store.calls.get(call.id) == call
        assert await store.calls.last_calls() == [call]
        (row,) = await store.outbox.claim(call.client, NOON + timedelta(hours=1), NOON + timedelta(hours=2), 10)
    assert json.loads(row.payload)["call"] == "c-1"
    assert (row.client, row.attempts, row.created_at) == ("acme", 1, call.ended_at)


async def test_the_moments_of_decisions_are_kept_where_they_are_known(database_url: str) -> None:
    timed = record("timed", why=("one", "two"), why_after=(0.25, 12.5))
    without = record("without", why=("one", "two"), why_after=(0.25,))
    async with open_store(database_url) as store:
        for call in (timed, without):
            await store.calls.finish(call)
        assert await store.calls.get(timed.id) == timed
        assert await store.calls.get(without.id) == replace(without, why_after=())


async def test_finishing_a_call_twice_stores_and_tells_it_once(database_url: str) -> None:
    call = record()
    async with open_store(database_url) as store:
        await store.calls.finish(call, [note(call)])
        await store.calls.finish(call, [note(call)])
        assert len(await store.calls.last_calls()) == 1
        assert (await store.outbox.backlog()).pending == 1


async def test_what_strangers_write_is_stored_whatever_it_is(database_url: str) -> None:
    call = record(caller="bad\0\udcff\u202eman" + "9" * 5000, contact="\0", why=("\0", "x" * 50_000))
    async with open_store(database_url) as store:
        assert await store.calls.finish(call, [note(call)]) is Kept.STORED
        stored = await store.calls.get(call.id)
    assert stored is not None
    assert stored.caller.startswith("bad\ufffd\ufffd\u202eman999")
    assert len(stored.caller) <= 512


async def test_concurrent_finishes_share_transactions(database_url: str) -> None:
    async with open_store(database_url) as store, asyncio.TaskGroup() as tasks:
        for number in range(300):
            tasks.create_task(store.calls.finish(record(f"c-{number:03}")))
    async with open_store(database_url) as store:
        assert len(await store.calls.last_calls(limit=1000)) == 300


async def test_pages_of_calls_meet_without_gap_or_overlap(database_url: str) -> None:
    async with open_store(database_url) as store:
        async with asyncio.TaskGroup() as tasks:
            for number in range(10):        # two calls each second
                started = NOON + timedelta(seconds=number // 2)
                tasks.create_task(store.calls.finish(record(f"c-{number}", started_at=started)))
        seen: list[str] = []
        before = None
        while page := await store.calls.last_calls(limit=3, before=before):
            seen += [call.id for call in page]
            before = page[-1].started_at, page[-1].id
    assert seen == [f"c-{number}" for number in reversed(range(10))]


async def test_a_client_sees_only_its_own_calls(database_url: str) -> None:
    async with open_store(database_url) as store:
        await store.calls.finish(record("ours"))
        await store.calls.finish(record("theirs", client=ClientId("other")))
        assert [call.id for call in await store.calls.last_calls(client=ClientId("acme"))] == ["ours"]


async def test_a_cancelled_waiter_does_not_take_its_call_back(database_url: str) -> None:
    async with open_store(database_url) as store:
        async with asyncio.TaskGroup() as tasks:
            waiter = tasks.create_task(store.calls.finish(record()))
            await asyncio.sleep(0)
            waiter.cancel()
        await store.calls.finish(record("c-2"))
        assert await store.calls.get(CallId("c-1")) is not None


async def test_leaving_the_store_writes_what_still_waits(database_url: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        async with open_store(database_url) as store:
            finishing = tasks.create_task(store.calls.finish(record()))
            await asyncio.sleep(0)
        assert await finishing is Kept.STORED


async def test_a_shutdown_by_cancellation_writes_what_still_waits(database_url: str) -> None:
    opened = asyncio.Event()

    async def serve() -> None:
        async with open_store(database_url) as store, asyncio.TaskGroup() as tasks:
            tasks.create_task(store.calls.finish(record()))
            await asyncio.sleep(0)
            opened.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve())
        await opened.wait()
        serving.cancel()
    async with open_store(database_url) as store:
        assert await store.calls.get(CallId("c-1")) is not None


async def test_a_refused_call_does_not_take_others_with_it(database_url: str, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    whole = CallJournal._insert

    async def picky(self: CallJournal, rows: list[journal.FinishRows]) -> None:
        if any(call["id"] == "poison" for call, _ in rows):
            raise RowsRefused("not this one")
        await whole(self, rows)

    monkeypatch.setattr(CallJournal, "_insert", picky)
    async with open_store(database_url, spill=tmp_path / "calls.jsonl") as store:
        async with asyncio.TaskGroup() as tasks:
            good = [tasks.create_task(store.calls.finish(record(f"c-{n}"))) for n in range(3)]
            bad = tasks.create_task(store.calls.finish(record("poison")))
        assert bad.result() is Kept.SPILLED
        assert {one.result() for one in good} == {Kept.STORED}
        assert len(await store.calls.last_calls()) == 3
    assert "poison" in (tmp_path / "calls.rejected").read_text()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    url = f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"
    asyncio.run(migrate(url))
    return url


async def test_a_locked_database_is_waited_for(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("b2bua.store.engine.BUSY_SECONDS", 0.05)
    path, alarmed, whole = sqlite_file(sqlite_url), asyncio.Event(), CallJournal._after_failure

    async def watched(self: CallJournal, error: BaseException) -> None:
        alarmed.set()
        await whole(self, error)

    monkeypatch.setattr(CallJournal, "_after_failure", watched)
    assert path is not None
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with open_store(sqlite_url) as store, asyncio.TaskGroup() as tasks:
            finishing = tasks.create_task(store.calls.finish(record(), [note(record())]))
            await alarmed.wait()
            assert not finishing.done()
            assert store.calls.waiting == 1
            other.execute("ROLLBACK")
            assert await finishing is Kept.STORED
            assert store.calls.failing_since is None


async def test_a_database_that_stays_away_has_calls_on_the_disk_and_gets_them_later(
        sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("b2bua.store.engine.BUSY_SECONDS", 0.02)
    path, spill = sqlite_file(sqlite_url), tmp_path / "spill" / "calls.jsonl"
    assert path is not None
    call = record(caller="\udcff")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with asyncio.TaskGroup() as tasks:
            async with open_store(sqlite_url, spill=spill) as store:
                finishing = tasks.create_task(store.calls.finish(call, [note(call)]))
                await asyncio.sleep(0)
            assert await finishing is Kept.SPILLED         # the process ends: the disk has it
    with spill.open("a") as file:
        file.write('{"call": {"id": "cut sho')             # and the power went
    async with open_store(sqlite_url, spill=spill) as store:
        await store.calls.finish(record("next"))
        assert {one.id for one in await store.calls.last_calls()} == {"c-1", "next"}
        assert (await store.outbox.backlog()).pending == 1
    assert not SpillFile(spill).holds_something
    assert "cut sho" in spill.with_suffix(".rejected").read_text()


async def test_beyond_the_limit_in_memory_calls_go_to_the_disk(
        sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("b2bua.store.engine.BUSY_SECONDS", 0.02)
    monkeypatch.setattr(journal, "WAITING_LIMIT", 5)
    path = sqlite_file(sqlite_url)
    assert path is not None
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with open_store(sqlite_url, spill=tmp_path / "calls.jsonl") as store, asyncio.TaskGroup() as tasks:
            finishing = [tasks.create_task(store.calls.finish(record(f"c-{n}"))) for n in range(8)]
            assert [await one for one in finishing[5:]] == [Kept.SPILLED] * 3
            other.execute("ROLLBACK")
            assert [await one for one in finishing[:5]] == [Kept.STORED] * 5
            await store.calls.finish(record("after"))
            assert len(await store.calls.last_calls()) == 9


async def test_without_a_disk_either_a_lost_call_is_counted_and_said(
        sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "WAITING_LIMIT", 0)
    async with open_store(sqlite_url) as store:
        assert await store.calls.finish(record()) is Kept.LOST
        assert store.calls.lost == 1


async def test_a_database_that_is_not_there_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="nowhere does not exist"):
        async with open_database(f"sqlite+aiosqlite:///{tmp_path}/nowhere/x.db"):
            pass


async def test_a_postgresql_that_goes_and_comes_back_gets_every_call_once() -> None:
    with running_cluster() as cluster:
        url = cluster.url("postgres")
        await migrate(url)
        async with open_store(url) as store:
            await store.calls.finish(record("before"), [note(record("before"))])
            await asyncio.to_thread(cluster.stop)
            with pytest.raises(StoreUnavailable):
                await store.calls.last_calls()
            async with asyncio.TaskGroup() as tasks:
                during = tasks.create_task(store.calls.finish(record("during"), [note(record("during"))]))
                await asyncio.to_thread(cluster.start)
                assert await during is Kept.STORED
            assert {call.id for call in await store.calls.last_calls()} == {"before", "during"}
            assert (await store.outbox.backlog()).pending == 2
            assert (store.calls.failing_since, store.calls.lost) == (None, 0)
