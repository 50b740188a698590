"""No media plane: signalling only, session descriptions pass untouched and audio goes past us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from b2bua.control import Quality
from b2bua.media.plane import MediaReport, MediaSession, OnDigit, SdpRefused, Side

NOT_ANCHORED = "media is not anchored here"

log = structlog.get_logger(__name__)


class PassThroughPlane:
    """For sites whose media must not be anchored, and for measuring the signalling alone."""

    @property
    def problem(self) -> str | None:
        return None

    def look(self) -> None:
        """There is nothing to be seen."""

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

    def introduce(self, sdp: bytes, sender: Side) -> bytes:
        return b""                         # its address is perhaps not one to send to (a hold as of old)

    def answer(self, sdp: bytes, sender: Side) -> bytes:
        return sdp

    def own_offer(self, to: Side) -> bytes:
        raise SdpRefused(NOT_ANCHORED)

    def own_answer(self, to: Side) -> bytes:
        raise SdpRefused(NOT_ANCHORED)

    def cannot_play(self, sound: str, to: Side) -> str | None:
        return NOT_ANCHORED

    def play(self, sound: str, to: Side, *, repeat: bool = False) -> asyncio.Future[str | None]:
        refused: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        refused.set_result(NOT_ANCHORED)
        return refused

    def stop(self, to: Side) -> None:
        """Nothing is ever played."""

    def music_on_hold(self, sound: str) -> None:
        if sound:
            log.warning("no music on hold", call=self._call, why=NOT_ANCHORED)

    def left(self, side: Side) -> None:
        """The other one hears nothing."""

    def dial(self, digit: str, seconds: float, sender: Side) -> bool:
        return False

    def listen(self, on_digit: OnDigit | None) -> None:
        """The audio goes past us."""

    def record(self, recording: str) -> None:
        log.error("cannot record", call=self._call, why=NOT_ANCHORED)

    @property
    def on_hold(self) -> bool:
        return False                       # nobody tells us

    @property
    def quality(self) -> Quality | None:
        return None

    @property
    def lost(self) -> asyncio.Future[None]:
        return self._lost

    async def close(self) -> MediaReport:
        return MediaReport()
