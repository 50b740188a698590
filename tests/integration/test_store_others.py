"""Directory, recordings and bindings in both databases."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import replace
from datetime import timedelta

import pytest

from b2bua.cdr import CallId, ClientId
from b2bua.directory import Client, CrmAccount, Directory, Extension, Group, Hours, Number, Strategy, Trunk
from b2bua.numbers import NumberFormat
from b2bua.sealing import Sealer
from b2bua.store import directory as directory_store
from b2bua.store.bindings import SavedBinding
from b2bua.store.directory import DirectoryChanged
from b2bua.store.recordings import RecordingStage
from b2bua.store.store import open_store
from b2bua.trunk_profiles import CallerSource, FromShows, Identity
from tests.support.records import NOON

ACME = ClientId("acme")
SEALER = Sealer(["a key of the tests, which is long enough"])
CLIENT = Client(ACME, "Acme", CrmAccount("https://acme.amocrm.ru", "token", patience=1.0, default_user=5, sync=False,
                                           sync_minutes=7, sync_cards=9, webhooks=False, account=101),
                caller_id="+74957654321", forward_outside=True, music_on_hold="music",
                pickup_code="*77", group_pickup_code="", show_callers=True, click2call_answer_after=2,
                login="acme", password_hash="$argon2id$")
HA1 = {"MD5": "a" * 32, "SHA-256": "b" * 64}
EXTENSIONS = tuple(Extension(ACME, number, f"acme-{number}", HA1, name=f"Имя {number}", caller_id="+74957654322",
                             hide_caller_id=number == "102", ring_seconds=25,
                             forward_always="+79160000001", on_busy="600") for number in ("101", "102"))
TRUNK = Trunk(ACME, "operator", "sip.example.org", networks=(ipaddress.ip_network("192.0.2.0/24"),
                                                            ipaddress.ip_network("2001:db8::/32")), password="p")
RULED = replace(TRUNK, name="ruled", priority=2, weight=5, prefixes=("+7495", "112"), profile="rpid",
                number_format=NumberFormat.NATIONAL, caller_format=NumberFormat.PLAIN, identity=Identity.ASSERTED,
                from_shows=FromShows.NUMBER, trusts=(CallerSource.FROM, CallerSource.ASSERTED))
FULL = Directory((CLIENT,), EXTENSIONS, (TRUNK, RULED),
                 (Group(ACME, "600", ("101", "102"), "Sales"),
                  Group(ACME, "601", ("101",), "", Strategy.LONGEST_IDLE, 20, 40, "102", "600", "101")),
                 (Number(ACME, "+74957654321", "600", "operator", 20, "601", "102", "101",
                         Hours("Europe/Moscow", ("mon-fri 09:00-18:00",), "102", ("01-01",))),))


async def test_a_directory_reads_back_as_it_was_written(database_url: str) -> None:
    async with open_store(database_url, sealer=SEALER) as store:
        empty, generation = await store.directory.load()
        assert empty == Directory()
        assert await store.directory.replace(empty, FULL, generation) == generation + 1
        assert await store.directory.load() == (FULL, generation + 1)


async def test_everything_of_a_directory_can_change_at_once(database_url: str) -> None:
    first, second = EXTENSIONS
    changed = Directory(
        (replace(CLIENT, name="Acme 2", crm=None), Client(ClientId("new"), "New")),
        (replace(first, login=second.login), replace(second, login=first.login)),        # logins change places
        (replace(TRUNK, name="other"), replace(RULED, profile="plain", number_format=None, trusts=None)), (),
        (replace(FULL.numbers[0], trunk="other", destination="101"),))
    async with open_store(database_url, sealer=SEALER) as store:
        generation = await store.directory.replace(Directory(), FULL, 0)
        generation = await store.directory.replace(FULL, changed, generation)
        assert (await store.directory.load())[0] == changed
        await store.directory.replace(changed, Directory(), generation)
        assert (await store.directory.load())[0] == Directory()


async def test_of_two_changes_from_one_state_the_second_is_refused(database_url: str) -> None:
    async with open_store(database_url, sealer=SEALER) as store:
        await store.directory.replace(Directory(), FULL, 0)
        with pytest.raises(DirectoryChanged):
            await store.directory.replace(Directory(), Directory(), 0)
        assert (await store.directory.load())[0] == FULL


async def test_a_running_daemon_notices_a_change_by_another_process(
        database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_store, "WATCH_SECONDS", 0.01)
    async with (open_store(database_url, sealer=SEALER) as daemon, open_store(database_url, sealer=SEALER) as apply,
                asyncio.TaskGroup() as tasks):
        async def next_change() -> int:
            async for generation in daemon.directory.changes(since=0):
                return generation
            raise AssertionError("ended")

        noticed = tasks.create_task(next_change())
        await apply.directory.replace(Directory(), FULL, 0)
        assert await noticed == 1


async def test_a_recording_is_pending_then_ready_and_can_be_revoked(database_url: str) -> None:
    async with open_store(database_url, sealer=SEALER) as store:
        await store.recordings.begin("rec-1", CallId("c-1"), ACME, NOON)
        await store.recordings.begin("rec-1", CallId("c-1"), ACME, NOON)
        pending = await store.recordings.get("rec-1")
        assert pending is not None
        assert (pending.stage, pending.revoked) == (RecordingStage.RECORDING, False)
        assert await store.recordings.unfinished() == ["rec-1"]
        await store.recordings.finished("rec-1", "2026/03/rec-1.mp3", 60.5, 181_000)
        ready = await store.recordings.get("rec-1")
        assert ready == replace(pending, stage=RecordingStage.READY, path="2026/03/rec-1.mp3", seconds=60.5,
                                size=181_000)
        await store.recordings.revoke("rec-1", "operator")
        revoked = await store.recordings.get("rec-1")
        assert revoked is not None
        assert revoked == replace(ready, revoked=True, decided_at=revoked.decided_at, decided_by="operator")
        assert revoked.decided_at is not None
        await store.recordings.revoke("rec-1", "anna", revoked=False)
        restored = await store.recordings.get("rec-1")
        assert restored is not None
        assert (restored.revoked, restored.decided_by) == (False, "anna")
        assert await store.recordings.find("rec-1") == await store.recordings.find("c-1") == [restored]
        assert await store.recordings.find("c-2") == []
        assert await store.recordings.older_than(NOON + timedelta(days=1)) == ["rec-1"]
        await store.recordings.forget("rec-1")
        assert await store.recordings.get("rec-1") is None


async def test_a_failed_recording_says_why(database_url: str) -> None:
    async with open_store(database_url, sealer=SEALER) as store:
        await store.recordings.begin("rec-1", CallId("c-1"), ACME)
        await store.recordings.failed("rec-1", "disk full")
        failed = await store.recordings.get("rec-1")
        assert failed is not None
        assert (failed.stage, failed.problem) == (RecordingStage.FAILED, "disk full")
        assert await store.recordings.unfinished() == []


async def test_bindings_come_back_unless_they_expired(database_url: str) -> None:
    lasting = SavedBinding(ACME, "101", "sip:101@192.0.2.7", NOON + timedelta(hours=1), '{"cseq": 1}')
    async with open_store(database_url, sealer=SEALER) as store:
        await store.bindings.save([lasting, replace(lasting, extension="102", expires_at=NOON)])
        assert await store.bindings.load(NOON) == [lasting]
        await store.bindings.save([])
        assert await store.bindings.load(NOON) == []
