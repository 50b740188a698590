"""The links that the CRM keeps: an MP3 that can be sought in, or a word on why there is none. For the pages: how loud
it is where, and whether it may be heard at all."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from b2bua.config import WebSettings
from b2bua.links import RecordingLinks
from b2bua.metrics import WebCounters
from b2bua.recording import waveform
from b2bua.store.fetches import Fetch
from b2bua.store.recordings import Recording, RecordingStage
from b2bua.store.store import Store
from web.problems import Problem, nothing_here
from web.signin import SignIn
from web.visitors import account_of, address_of
from web.visits import Visit

UNFINISHED_RETRY = 5                   # seconds
LONGEST_RANGE_SHOWN = 100              # characters of what was asked for, in the log
ASK_AGAIN = {"Cache-Control": "private, no-cache"}             # each time: it may have been withdrawn

# What a player asks for. Anything else (RFC 9110 §14.2: may be ignored) gets the whole file, so that nobody makes us
# send a hundred pieces of it.
_ONE_RANGE = re.compile(r"bytes=(?:(\d{1,15})-(\d{0,15})|-\d{1,15})", re.ASCII)

log = structlog.get_logger(__name__)


class Recordings:
    def __init__(
        self, store: Store, links: RecordingLinks, directory: Path, sign_in: SignIn, settings: WebSettings,
        counters: WebCounters,
    ) -> None:
        self._store = store
        self._links = links
        self._directory = directory
        self._sign_in = sign_in
        self._counters = counters
        self._trusted = settings.trusted_proxies

    async def play(self, request: Request) -> Response:
        try:
            recording = await self._linked(request.path_params["token"])
            file, status = await self._on_disk(recording)
        except Problem:
            self._counters.recordings_refused += 1
            raise
        self._counters.recordings_served += 1
        address = account_of(address_of(request, self._trusted))
        visit = self._sign_in.visit(request)
        who = visit.who if visit is not None else ""
        log.info("recording fetched", recording=recording.id, call=recording.call, method=request.method,
                 range=request.headers.get("range", "")[:LONGEST_RANGE_SHOWN], address=address, who=who)

        def answered(size: int) -> None:
            self._store.recordings.fetch_log.note(Fetch(recording.id, datetime.now(UTC), address, who, size))

        return _file_response(request, file, status, recording, answered)

    async def waveform(self, visit: Visit) -> Response:
        recording = await self._of(visit)
        file, _ = await self._on_disk(recording)
        drawn = await asyncio.to_thread(_drawn, file)
        if drawn is None:
            raise Problem(404, "This recording has no waveform", "The player works without it.")
        return Response(drawn, headers=ASK_AGAIN, media_type="application/json")

    async def revoke(self, visit: Visit) -> Response:
        return await self._decide(visit, revoked=True)

    async def restore(self, visit: Visit) -> Response:
        return await self._decide(visit, revoked=False)

    async def _decide(self, visit: Visit, *, revoked: bool) -> Response:
        await visit.form()
        recording = await self._of(visit)
        await self._store.recordings.revoke(recording.id, visit.who, revoked=revoked)
        log.info("recording withdrawn" if revoked else "recording given back", recording=recording.id,
                 call=recording.call, who=visit.who)
        return visit.redirect(f"/calls/{recording.call}", "recording-withdrawn" if revoked else "recording-given-back")

    async def _of(self, visit: Visit) -> Recording:
        """Raises Problem."""
        recording = await self._store.recordings.get(visit.request.path_params["recording"])
        if recording is None:
            raise nothing_here()
        visit.demand(recording.client)
        return recording

    async def _linked(self, token: str) -> Recording:
        """The recording behind a link that opens it. Raises Problem."""
        link = self._links.opened(token)
        recording = await self._store.recordings.get(link.recording) if link is not None else None
        if link is None or recording is None:
            raise Problem(404, "There is no such recording", "Check that the link is complete.")
        if link.until is not None and datetime.now(UTC) >= link.until:
            raise Problem(410, "This link has expired", "Ask whoever sent it for a new one.")
        return recording

    async def _on_disk(self, recording: Recording) -> tuple[Path, os.stat_result]:
        """If it may and can be heard. Raises Problem."""
        if recording.revoked:
            raise Problem(410, "This recording was withdrawn", "Ask the administrator of your telephone system.")
        match recording.stage:
            case RecordingStage.RECORDING:
                raise Problem(404, "This recording is not finished yet",
                              "It is there some seconds after the call has ended: try again then.",
                              retry_after=UNFINISHED_RETRY)
            case RecordingStage.FAILED:
                raise Problem(404, "This call could not be recorded", recording.problem or "Nothing was heard in it.")
        file = self._directory / recording.path
        status = await asyncio.to_thread(_status, file, self._directory)
        if status is None:
            log.error("recording is not on the disk", recording=recording.id, path=recording.path)
            raise Problem(404, "The file of this recording is gone",
                          "Ask whoever runs the server whether it was deleted or moved.")
        return file, status


class _ToldFile(FileResponse):
    """Tells how many bytes it answers with, by the range that was asked for."""

    answered: Callable[[int], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_told(message: Message) -> None:
            if message["type"] == "http.response.start":
                length = dict(message["headers"]).get(b"content-length", b"0")
                self.answered(0 if scope["method"] == "HEAD" else int(length))
            await send(message)
        await super().__call__(scope, receive, send_told)


def _file_response(
    request: Request, file: Path, status: os.stat_result, recording: Recording, answered: Callable[[int], None]
) -> Response:
    headers = {
        **ASK_AGAIN,
        "Cross-Origin-Resource-Policy": "cross-origin",        # the CRM's page plays it
        "ETag": f'"{recording.id}-{status.st_size:x}"',
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        answered(0)
        return Response(status_code=304, headers=headers)
    if request.method != "GET" or not _is_one_range(request.headers.get("range", "")):   # RFC 9110 §14.2: of GET alone
        request.scope["headers"] = [(name, value) for name, value in request.scope["headers"] if name != b"range"]
    name = f"call-{recording.started_at:%Y-%m-%d-%H-%M-%S}-{recording.call}.mp3"
    response = _ToldFile(file, headers=headers, media_type="audio/mpeg", filename=name, stat_result=status,
                         content_disposition_type="attachment" if "download" in request.query_params else "inline")
    response.answered = answered
    return response


def _drawn(file: Path) -> str | None:
    """The waveform as JSON."""
    try:
        drawn = waveform.read(file)
    except (OSError, waveform.UnreadableWaveform) as error:
        log.error("waveform cannot be read", path=str(file), why=str(error))
        return None
    return None if drawn is None else drawn.to_json()


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
