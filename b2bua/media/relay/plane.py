"""The embedded media plane: descriptions are rewritten here, packets are relayed by a process of their own.

Nothing in here waits for the relay while a call is being set up: a few sessions are always open ahead, `offer` and
`answer` rewrite on the spot and send one small command each. Only `close` waits, for the report, and not for ever.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import assert_never

import structlog

from b2bua.media.plane import MediaError, MediaSession
from b2bua.media.relay import wire
from b2bua.media.relay.anchored import AnchoredSession, OpenPorts
from b2bua.media.relay.link import RelayLink
from b2bua.media.relay.link import RelaySettings as RelaySettings
from b2bua.media.relay.sounds import SoundMemory
from b2bua.media.sounds import load, stamp

OPEN_PATIENCE = 2.0                     # for a session, when none is open ahead: a relay that died is back by then
MAX_WAITING = 1000                      # calls that wait for one
LOOK_EVERY = 1.0                        # seconds; how often the relay is asked how the audio is, of all calls at once
FIRST_BACK_OFF, LAST_BACK_OFF = 0.2, 30.0
STEADY = 60.0                           # a relay that lived so long starts the back-off anew

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class PlaneCounts:
    """For metrics: gauges, and what has happened since the start."""

    sessions: int = 0
    spare: int = 0
    capacity: int = 0                   # sessions that the port range allows
    opened: int = 0
    refused: int = 0                    # calls that got no session
    restarts: int = 0
    timeouts: int = 0                   # RTP time-outs
    recordings_stopped: int = 0


@asynccontextmanager
async def embedded_plane(settings: RelaySettings) -> AsyncIterator[EmbeddedPlane]:
    """Starts the relay, and starts it again when it dies. Raises MediaError when it cannot be started at all."""
    plane = EmbeddedPlane(settings)
    try:
        await plane.look_at_sounds()
        link = await plane.start()
    except BaseException:
        await plane.close()
        raise
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            supervisor = tasks.create_task(plane.supervise(link))
            try:
                yield plane
            except Exception as error:  # noqa: BLE001
                failure = error         # raised again below, as what it is and not as one of a group
            finally:
                supervisor.cancel()
    finally:
        # Not by the supervisor: a task that is cancelled before its first step does nothing.
        await plane.close()
    if failure is not None:
        raise failure


class EmbeddedPlane:
    """A MediaPlane; embedded_plane() makes it."""

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings
        self._link: RelayLink | None = None
        self._spare: deque[OpenPorts] = deque()
        self._asked: set[int] = set()               # sessions that the relay is opening
        self._waiting: deque[asyncio.Future[OpenPorts | str]] = deque()
        self._sessions: dict[int, AnchoredSession] = {}
        self._number = 0
        self._random = random.SystemRandom()
        self._memory = SoundMemory()
        self._sounds: dict[str, wire.Sound] = {}    # where each lies; sessions look at it as well
        self._looked_at: object = None
        self._listened_at = float("-inf")
        self.counts = PlaneCounts()

    @property
    def pid(self) -> int | None:
        return self._link.pid if self._link is not None else None

    @property
    def problem(self) -> str | None:
        return "the media relay is being started again" if self._link is None else None

    def open(self, call: str) -> AbstractAsyncContextManager[MediaSession]:
        return self._open(call)

    def look(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._listened_at >= LOOK_EVERY:
            self._listened_at = now
            self._send(wire.Look())

    async def start(self) -> RelayLink:
        link = RelayLink(self._heard)
        ready = await link.open(self._settings, self._memory.fd)
        self._link = link
        self.counts.capacity = ready.sessions
        self._tell_of_sounds()
        self._refill()
        return link

    async def look_at_sounds(self) -> None:
        """Take what is in the sounds' directory now, when that is not what was there at the last look."""
        seen = await asyncio.to_thread(stamp, self._settings.sounds)
        if seen == self._looked_at:
            return
        self._looked_at = seen
        loaded = await asyncio.to_thread(load, self._settings.sounds)
        for bad in loaded.bad:
            log.error("sound cannot be played", file=str(bad.path), why=bad.problem, remedy=bad.remedy)
        places = await asyncio.to_thread(self._memory.write, loaded.sounds)
        self._sounds.clear()
        self._sounds.update({place.name: place for place in places})
        self._tell_of_sounds()

    def _tell_of_sounds(self) -> None:
        for place in self._sounds.values():
            self._send(place)

    async def supervise(self, link: RelayLink) -> None:
        """As long as the plane lives: a relay that dies takes its calls along, and another takes its place."""
        loop = asyncio.get_running_loop()
        back_off = FIRST_BACK_OFF
        while True:
            started = loop.time()
            status = await link.wait()
            if loop.time() - started > STEADY:
                back_off = FIRST_BACK_OFF
            log.error("media relay died", status=status, calls_lost=self._forget(), again_in=back_off)
            await link.close()
            link, back_off = await self._restarted(back_off)

    async def close(self) -> None:
        link = self._link
        self._forget()
        if link is not None:
            await link.close()
        self._memory.close()

    async def _restarted(self, back_off: float) -> tuple[RelayLink, float]:
        while True:
            await asyncio.sleep(back_off)
            back_off = min(LAST_BACK_OFF, back_off * 2)
            try:
                link = await self.start()
            except (MediaError, OSError) as error:
                log.error("media relay cannot be started", why=str(error), again_in=back_off)
                continue
            self.counts.restarts += 1
            log.info("media relay started again", pid=link.pid)
            return link, back_off

    @asynccontextmanager
    async def _open(self, call: str) -> AsyncIterator[MediaSession]:
        opened = await self._take(call)
        # 62 bits: an origin's numbers must fit into 63 for old parsers (RFC 8866 §5.2 says only "numeric").
        session = AnchoredSession(call, opened, self._settings, self._random.getrandbits(62), self._send,
                                  self._sounds)
        self._sessions[opened.number] = session
        self.counts.opened += 1
        self._count()
        try:
            yield session
        finally:
            await session.close()

    async def _take(self, call: str) -> OpenPorts:
        if self._spare:
            opened = self._spare.popleft()
            self._refill()
            return opened
        if len(self._waiting) >= MAX_WAITING:
            raise self._refused(call, "too many calls wait for the media relay")
        waiter: asyncio.Future[OpenPorts | str] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._refill()
        try:
            await asyncio.wait([waiter], timeout=OPEN_PATIENCE)
        except asyncio.CancelledError:
            if waiter.done() and isinstance(late := waiter.result(), OpenPorts):
                self._hand_out(late)                # served in the very tick in which the call was given up
            raise
        finally:
            if not waiter.done():
                self._waiting.remove(waiter)
        outcome = waiter.result() if waiter.done() else f"the media relay gave no ports within {OPEN_PATIENCE} s"
        if isinstance(outcome, str):
            raise self._refused(call, outcome)
        return outcome

    def _refused(self, call: str, why: str) -> MediaError:
        self.counts.refused += 1
        log.error("no media session", call=call, why=why)
        return MediaError(why)

    def _refill(self) -> None:
        if self._link is None:
            return
        wanted = self._settings.spare + len(self._waiting) - len(self._spare) - len(self._asked)
        for _ in range(wanted):
            self._number += 1
            self._asked.add(self._number)
            self._send(wire.Open(self._number))
        self._count()

    def _send(self, command: wire.Command) -> None:
        if self._link is not None:
            self._link.send(command)

    def _heard(self, event: wire.Event) -> None:
        match event:
            case wire.Opened(number, caller_port, callee_port):
                self._asked.discard(number)
                self._hand_out(OpenPorts(number, (caller_port, callee_port)))
            case wire.NoPorts(number, why):
                self._asked.discard(number)
                self._say_no(why)
            case wire.Silent() | wire.Played() | wire.Pressed() | wire.RecordingStopped() | wire.Closed():
                self._hand_on(event)
            case wire.Arrivals(rows):
                for row in rows:
                    if (session := self._sessions.get(row.session)) is not None:
                        session.arrives(row)
            case wire.Ready() | wire.CannotStart():
                raise AssertionError("said once, at the start")
            case _:
                assert_never(event)

    def _hand_out(self, opened: OpenPorts) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(opened)
            return
        self._spare.append(opened)
        self._count()

    def _say_no(self, why: str) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(why)

    def _hand_on(
        self, event: wire.Silent | wire.Played | wire.Pressed | wire.RecordingStopped | wire.Closed
    ) -> None:
        session = self._sessions[event.session]         # until it is closed, and nothing is told of it after that
        match event:
            case wire.Silent():
                self.counts.timeouts += 1
            case wire.RecordingStopped():
                self.counts.recordings_stopped += 1
            case wire.Closed():
                del self._sessions[event.session]
                self._refill()
        session.hear(event)

    def _forget(self) -> int:
        """The relay has gone, and all its sessions with it."""
        self._link = None
        sessions, self._sessions = self._sessions, {}
        self._spare.clear()
        self._asked.clear()
        for session in sessions.values():
            session.relay_is_gone()
        self._count()
        return len(sessions)

    def _count(self) -> None:
        self.counts.sessions = len(self._sessions)
        self.counts.spare = len(self._spare)
