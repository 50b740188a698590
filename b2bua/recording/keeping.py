"""Recordings are kept as long as the settings say, and not longer."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from b2bua.store.recordings import RecordingRows

AT_ONCE = 200

_log = structlog.get_logger(__name__)


class Files(Protocol):
    """The archive, as far as deleting goes."""

    def remove(self, recording: str) -> bool: ...


async def delete_older_than(days: int, rows: RecordingRows, files: Files, now: datetime) -> int:
    """How many recordings went; 0 days: they are kept for ever. What cannot be deleted is tried the next time."""
    deleted = 0
    while days:
        old = await rows.older_than(now - timedelta(days=days), AT_ONCE)
        gone = [recording for recording in old if await asyncio.to_thread(_remove, files, recording)]
        for recording in gone:
            await rows.forget(recording)
        deleted += len(gone)
        if not gone or len(old) < AT_ONCE:
            break
    if deleted:
        _log.info("old recordings deleted", deleted=deleted, days=days)
    return deleted


def _remove(files: Files, recording: str) -> bool:
    try:
        files.remove(recording)        # False, when there was no file, is as good
    except OSError as error:
        _log.error("recording not deleted", recording=recording, error=str(error))
        return False
    return True
