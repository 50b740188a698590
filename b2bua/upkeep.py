"""What the daemon sees to beside its calls: the directory's changes, registrations across restarts, old recordings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from b2bua.calls.switchboard import Switchboard
from b2bua.crm.outbox import RecordingState
from b2bua.net.certificates import ServerIdentity
from b2bua.recording.archive import Archive
from b2bua.recording.keeping import delete_older_than
from b2bua.store.bindings import SavedBinding
from b2bua.store.call_traces import FORGOTTEN_AT_ONCE
from b2bua.store.engine import StoreUnavailable
from b2bua.store.recordings import RecordingStage
from b2bua.store.store import Store
from b2bua.ua.agent import UserAgent
from b2bua.ua.registrar import Registrar, StoredBinding

BINDINGS_SAVED_EVERY = 5.0                 # seconds; so many seconds of registrations a crash may forget
OLD_RECORDINGS_EVERY = 3600.0              # seconds between two looks for recordings past their time
OLD_CHANGES_EVERY = 3600.0                 # the same for changes of the set-up
OLD_TRACES_EVERY = 3600.0                  # the same for what was said in calls
CERTIFICATES_LOOKED_AT_EVERY = 10.0        # seconds
SOUNDS_LOOKED_AT_EVERY = 10.0              # seconds
RELOAD_AGAIN = 5.0                         # seconds, when the database did not answer

log = structlog.get_logger(__name__)


async def follow_directory(
    store: Store, generation: int, switchboard: Switchboard, taken_over: Callable[[], None]
) -> None:
    """`apply` changed the directory, maybe in another process: take it over."""
    async for _ in store.directory.changes(generation):
        while True:
            try:
                await switchboard.settings_changed()
                taken_over()
                break
            except StoreUnavailable as error:
                log.warning("directory not loaded", why=str(error), remedy="calls go on by the old one meanwhile")
                await asyncio.sleep(RELOAD_AGAIN)
            except Exception:              # the boundary of a reload: what it stumbles over must end no call
                log.exception("directory not loaded", remedy="calls go on by the old one: correct it and apply again")
                break


async def keep_bindings(store: Store, registrar: Registrar, agent: UserAgent) -> None:
    """Phones stay reachable across a restart: their registrations are saved when they changed."""
    saved = 0
    while True:
        await asyncio.sleep(BINDINGS_SAVED_EVERY)
        changes = registrar.counters.changes
        if changes != saved and await save_bindings(store, registrar.snapshot(agent.now())):
            saved = changes


async def delete_old_recordings(days: int, store: Store, archive: Archive) -> None:
    while days:
        try:
            await delete_older_than(days, store.recordings, archive, utc_now())
        except StoreUnavailable as error:
            log.warning("old recordings not deleted", why=str(error), remedy="it is tried again within the hour")
        await asyncio.sleep(OLD_RECORDINGS_EVERY)


async def forget_old_changes(days: int, store: Store) -> None:
    while days:
        try:
            await store.changes.forget_older_than(utc_now() - timedelta(days=days))
        except StoreUnavailable as error:
            log.warning("old changes not forgotten", why=str(error), remedy="it is tried again within the hour")
        await asyncio.sleep(OLD_CHANGES_EVERY)


async def forget_old_traces(days: int, store: Store) -> None:
    """With 0 none are made any more, and those that there are go."""
    while True:
        try:
            while await store.call_traces.forget_older_than(utc_now() - timedelta(days=days)) >= FORGOTTEN_AT_ONCE:
                pass
        except StoreUnavailable as error:
            log.warning("old ladders not forgotten", why=str(error), remedy="it is tried again within the hour")
        await asyncio.sleep(OLD_TRACES_EVERY)


async def keep_certificates(identities: Sequence[ServerIdentity]) -> None:
    """Renewed TLS certificates are taken without a restart; files are looked at off the loop."""
    while identities:
        await asyncio.sleep(CERTIFICATES_LOOKED_AT_EVERY)
        for identity in identities:
            try:
                await asyncio.to_thread(identity.refresh, utc_now())
            except Exception:              # the boundary of a file that somebody puts there: it must end no call
                log.exception("TLS certificate not looked at", remedy="the old one is shown on: put a good one there")


async def keep_sounds(look: Callable[[], Awaitable[None]]) -> None:
    """Sound files that are new, or others, are taken without a restart; `look` looks, off the loop."""
    while True:
        await asyncio.sleep(SOUNDS_LOOKED_AT_EVERY)
        try:
            await look()
        except Exception:                  # the boundary of a file that somebody puts there: it must end no call
            log.exception("sounds not looked at", remedy="those that there were are played on")


async def save_bindings(store: Store, bindings: Sequence[StoredBinding]) -> bool:
    now = utc_now()
    rows = [
        SavedBinding(one.client, one.extension, one.key, now + timedelta(seconds=one.expires_in), one.payload)
        for one in bindings
    ]
    try:
        await store.bindings.save(rows)
    except StoreUnavailable as error:
        log.warning("registrations not saved", why=str(error), remedy="phones register again by themselves")
        return False
    return True


async def saved_bindings(store: Store) -> list[StoredBinding]:
    now = utc_now()
    return [
        StoredBinding(one.client, one.extension, one.key, (one.expires_at - now).total_seconds(), one.payload)
        for one in await store.bindings.load(now)
    ]


def recording_state(store: Store) -> Callable[[str], Awaitable[RecordingState]]:
    """Whether the note may go out with its link."""

    async def state(recording: str) -> RecordingState:
        known = await store.recordings.get(recording)
        match known.stage if known is not None else None:
            case RecordingStage.READY:
                return RecordingState.READY
            case RecordingStage.FAILED:
                return RecordingState.NEVER
            case RecordingStage.RECORDING | None:
                return RecordingState.PENDING

    return state


def utc_now() -> datetime:
    return datetime.now(UTC)
