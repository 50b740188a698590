"""The links that the CRM keeps: an MP3 that can be sought in, or a word on why there is none."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from pathlib import Path

import structlog
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from b2bua.config import WebSettings
from b2bua.links import RecordingLinks
from b2bua.metrics import WebCounters
from b2bua.store.recordings import Recording, RecordingStage
from b2bua.store.store import Store
from web.problems import Problem
from web.visitors import account_of, address_of

UNFINISHED_RETRY = 5                   # seconds
LONGEST_RANGE_SHOWN = 100              # characters of what was asked for, in the log

# What a player asks for. Anything else (RFC 9110 §14.2: may be ignored) gets the whole file, so that nobody makes us
# send a hundred pieces of it.
_ONE_RANGE = re.compile(r"bytes=(?:(\d{1,15})-(\d{0,15})|-\d{1,15})", re.ASCII)

log = structlog.get_logger(__name__)


class Recordings:
    def __init__(
        self, store: Store, links: RecordingLinks, directory: Path, settings: WebSettings, counters: WebCounters
    ) -> None:
        self._store = store
        self._links = links
        self._directory = directory
        self._counters = counters
        self._trusted = settings.trusted_proxies

    async def play(self, request: Request) -> Response:
        try:
            recording = await self._audible(request.path_params["token"])
            file, status = await self._on_disk(recording)
        except Problem:
            self._counters.recordings_refused += 1
            raise
        self._counters.recordings_served += 1
        log.info("recording fetched", recording=recording.id, call=recording.call, method=request.method,
                 range=request.headers.get("range", "")[:LONGEST_RANGE_SHOWN],
                 address=account_of(address_of(request, self._trusted)))
        return _file_response(request, file, status, recording)

    async def _audible(self, token: str) -> Recording:
        """The recording behind a link, if it may and can be heard. Raises Problem."""
        id_ = self._links.recording(token)
        recording = await self._store.recordings.get(id_) if id_ is not None else None
        if recording is None:
            raise Problem(404, "There is no such recording", "Check that the link is complete.")
        if recording.revoked:
            raise Problem(410, "This recording was withdrawn", "Ask the administrator of your telephone system.")
        match recording.stage:
            case RecordingStage.READY:
                return recording
            case RecordingStage.RECORDING:
                raise Problem(404, "This recording is not finished yet",
                              "It is there some seconds after the call has ended: try again then.",
                              retry_after=UNFINISHED_RETRY)
            case RecordingStage.FAILED:
                raise Problem(404, "This call could not be recorded", recording.problem or "Nothing was heard in it.")

    async def _on_disk(self, recording: Recording) -> tuple[Path, os.stat_result]:
        file = self._directory / recording.path
        status = await asyncio.to_thread(_status, file, self._directory)
        if status is None:
            log.error("recording is not on the disk", recording=recording.id, path=recording.path)
            raise Problem(404, "The file of this recording is gone",
                          "Ask whoever runs the server whether it was deleted or moved.")
        return file, status


def _file_response(request: Request, file: Path, status: os.stat_result, recording: Recording) -> Response:
    headers = {
        "Cache-Control": "private, no-cache",                  # asked again each time: it may have been withdrawn
        "Cross-Origin-Resource-Policy": "cross-origin",        # the CRM's page plays it
        "ETag": f'"{recording.id}-{status.st_size:x}"',
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if not _is_one_range(request.headers.get("range", "")):
        request.scope["headers"] = [(name, value) for name, value in request.scope["headers"] if name != b"range"]
    name = f"call-{recording.started_at:%Y-%m-%d-%H-%M-%S}-{recording.call}.mp3"
    return FileResponse(file, headers=headers, media_type="audio/mpeg", filename=name, stat_result=status,
                        content_disposition_type="inline")


def _is_one_range(asked: str) -> bool:
    match = _ONE_RANGE.fullmatch(asked)
    return match is not None and (not match[2] or int(match[1]) <= int(match[2]))


def _status(file: Path, directory: Path) -> os.stat_result | None:
    """None unless it is a file below the directory."""
    try:
        if not file.resolve().is_relative_to(directory.resolve()):
            return None
        status = file.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None
