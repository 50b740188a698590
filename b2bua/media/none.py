"""No media plane: signalling only, session descriptions pass untouched and audio goes past us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from b2bua.media.plane import MediaReport, MediaSession, OnDigit, Side

log = structlog.get_logger(__name__)


class PassThroughPlane:
    """For sites whose media must not be anchored, and for measuring the signalling alone."""

    @property
    def problem(self) -> str | None:
        return None

    def open(self, call: str) -> AbstractAsyncContextManager[MediaSession]:
        return _pass_through(call)


@asynccontextmanager
async def _pass_through(call: str) -> AsyncIterator[MediaSession]:
    yield _PassThrough(call)


class _PassThrough:
    def __init__(self, call: str) -> None:
        self._call = call
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()   # never done

    def offer(self, sdp: bytes, sender: Side) -> bytes:
        return sdp

    def answer(self, sdp: bytes, sender: Side) -> bytes:
        return sdp

    def dial(self, digit: str, seconds: float, sender: Side) -> bool:
        return False

    def listen(self, on_digit: OnDigit | None) -> None:
        """The audio goes past us."""

    def record(self, recording: str) -> None:
        log.error("cannot record", call=self._call, why="media is not anchored here")

    @property
    def lost(self) -> asyncio.Future[None]:
        return self._lost

    async def close(self) -> MediaReport:
        return MediaReport()
