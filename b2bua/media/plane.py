"""The media plane as calls see it: anchored sessions, whoever relays them (embedded relay, rtpengine)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from b2bua.control import Quality


class Side(Enum):
    """Whose SDP or media this is."""

    CALLER = "caller"
    CALLEE = "callee"

    @property
    def other(self) -> Side:
        return Side.CALLEE if self is Side.CALLER else Side.CALLER


class MediaError(Exception):
    """The plane cannot serve: no ports left, the relay is gone."""


class SdpRefused(Exception):
    """This SDP cannot be served; `status` is what to answer with (488 not acceptable, 400 not SDP)."""

    def __init__(self, message: str, status: int = 488) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class StreamReport:
    """How one direction's audio was."""

    packets: int = 0
    octets: int = 0
    lost: int = 0
    jitter_ms: float = 0.0
    foreign: int = 0                   # packets from sources that were not believed
    codec: str = ""


@dataclass(frozen=True, slots=True)
class MediaReport:
    caller: StreamReport = StreamReport()
    callee: StreamReport = StreamReport()
    recorded: bool = False


# Who pressed, which key (RFC 4733 §3.2), and for how many seconds.
OnDigit = Callable[[Side, str, float], None]


class MediaSession(Protocol):
    """Two sides joined through the relay. Offers and answers go through it in both directions, as often as
    the call re-negotiates; what comes back is what to send to the other side."""

    def offer(self, sdp: bytes, sender: Side) -> bytes:
        """SDP offer of `sender` -> the offer to make to the other side. Raises SdpRefused."""
        ...

    def introduce(self, sdp: bytes, sender: Side) -> bytes:
        """The offer by which somebody new is asked to talk to `sender`, from what that said of itself last, whoever
        it held then. Nothing changes for those who talk. b"": it has to be asked for an offer. Raises SdpRefused."""
        ...

    def answer(self, sdp: bytes, sender: Side) -> bytes:
        """SDP answer of `sender` to the last offer (or an early one in a 18x; may come again, from another
        branch) -> the answer for the other side. Media flows from now on. Raises SdpRefused."""
        ...

    def own_offer(self, to: Side) -> bytes:
        """An offer to that side when nobody else is there, to play something to it; `answer` takes what it says."""
        ...

    def own_answer(self, to: Side) -> bytes:
        """The answer to that side's last offer when nobody else is there. Raises SdpRefused."""
        ...

    def cannot_play(self, sound: str, to: Side) -> str | None:
        """Why that side could not hear this sound now, in one sentence."""
        ...

    def play(self, sound: str, to: Side, *, repeat: bool = False) -> asyncio.Future[str | None]:
        """Play it to that side, instead of whatever it hears now: the two sides do not hear each other meanwhile. Done
        with None when it was played to its end, or with a sentence why it was not."""
        ...

    def stop(self, to: Side) -> None:
        """What is played to that side by `play` ends; nothing, when nothing is."""
        ...

    def music_on_hold(self, sound: str) -> None:
        """From now on who is put on hold by the other side hears this sound; "": whatever that side sends."""
        ...

    def left(self, side: Side) -> None:
        """Who was there has gone, and another may come: until the next answer it is as if it held the other side."""
        ...

    def dial(self, digit: str, seconds: float, sender: Side) -> bool:
        """`sender` says a digit by signalling, as it has no telephone-event: say it in the audio of the other side.
        False: that side has none either, or both have, or there is no audio of ours; pass it on as it came."""
        ...

    def listen(self, on_digit: OnDigit | None) -> None:
        """Be told of digits in the audio of a side, when the other side has no telephone-event. None: not any more."""
        ...

    def record(self, recording: str) -> None:
        """Record from now on under this id."""
        ...

    @property
    def on_hold(self) -> bool:
        """Whether one of the two does not hear the other now."""
        ...

    @property
    def quality(self) -> Quality | None:
        """How the audio has arrived of late, as of the last `MediaPlane.look`; None: nothing has come yet."""
        ...

    @property
    def lost(self) -> asyncio.Future[None]:
        """Done when no RTP has come for too long (RTP time-out; longer while on hold), or the relay is gone."""
        ...

    async def close(self) -> MediaReport:
        """Free the ports; what was recorded is complete on the disk when this returns. May be called twice."""
        ...


class MediaPlane(Protocol):
    @property
    def problem(self) -> str | None:
        """Why no session can be had now, in one sentence."""
        ...

    def look(self) -> None:
        """Somebody wants to know how the audio is: find out for all sessions, once a second at most. Waits for
        nothing; the sessions know it a little later."""
        ...

    def open(self, call: str) -> AbstractAsyncContextManager[MediaSession]:
        """A session whose ports are freed when the block is left. Raises MediaError."""
        ...
