"""Real anchored sessions without a relay process: what the relay would be told is kept, and can be looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from b2bua.media.plane import MediaSession
from b2bua.media.relay import wire
from b2bua.media.relay.anchored import AnchoredSession, OpenPorts
from b2bua.media.relay.link import RelaySettings
from b2bua.media.sounds import BUILT_IN

SETTINGS = RelaySettings("10.0.0.1", "10.0.0.1")
SOUND = 5.0                                # seconds that each sound takes
SIDES = ("caller", "callee")


def in_words(command: wire.Command) -> str:
    match command:
        case wire.Play(side=side, sound=sound, repeat=repeat):
            return f"{sound} to the {SIDES[side]}" + (", again and again" if repeat else ", once")
        case wire.Stop(side=side):
            return f"no more of it to the {SIDES[side]}"
        case wire.SendDigit(side=side, digit=digit):
            return f"RTP events of {digit} to the {SIDES[side]}"
        case _:
            return ""


class AnchoredPlane:
    def __init__(self, remark: Callable[[str], None] = lambda text: None) -> None:
        """`remark` hears in words what the relay shall send, beside what it passes on."""
        self.told: list[wire.Command] = []
        self._remark = remark
        self._opened = 0
        self._open_now: list[AnchoredSession] = []
        self.sessions: list[AnchoredSession] = []

    @property
    def problem(self) -> str | None:
        return None

    def look(self) -> None:
        self.told.append(wire.Look())

    @property
    def in_use(self) -> int:
        """How many sessions are open."""
        return len(self._open_now)

    def dies(self) -> None:
        """The relay does, and another one takes its place."""
        for session in self._open_now:
            session.relay_is_gone()

    def session(self, number: int = 1) -> AnchoredSession:
        return self.sessions[number - 1]

    def hosts(self, session: int = 1) -> tuple[str, str]:
        """Where the relay sends to, for caller and callee of a session."""
        latest = {one.side: one.host for one in self.told if isinstance(one, wire.Remote) and one.session == session}
        return latest[0], latest[1]

    def heard(self, session: int = 1) -> dict[int, wire.Play]:
        """What the relay plays now, by the side that hears it."""
        playing: dict[int, wire.Play] = {}
        silent: set[int] = set()
        for one in self.told:
            match one:
                case wire.Play(number, side) if number == session:
                    playing[side] = one
                    silent.discard(side)
                case wire.Tune(number, side, listens=listens) if number == session and side in playing:
                    silent.discard(side) if listens else silent.add(side)
                case wire.Stop(number, side) if number == session:
                    del playing[side]
                case wire.Close(number) if number == session:
                    playing.clear()
        return {side: play for side, play in playing.items() if side not in silent}

    def recorded(self) -> list[int]:
        """The sessions that are recorded."""
        return [one.session for one in self.told if isinstance(one, wire.Record)]

    def open(self, call: str) -> AbstractAsyncContextManager[MediaSession]:
        return self._open(call)

    @asynccontextmanager
    async def _open(self, call: str) -> AsyncIterator[MediaSession]:
        self._opened += 1
        port = 20_000 + 4 * self._opened
        loop = asyncio.get_running_loop()

        def tell(command: wire.Command) -> None:
            self.told.append(command)
            if words := in_words(command):
                self._remark(words)
            if isinstance(command, wire.Play) and not command.repeat:
                loop.call_later(SOUND, session.hear, wire.Played(command.session, command.side, command.number))

        session = AnchoredSession(call, OpenPorts(self._opened, (port, port + 2)), SETTINGS, 1000, tell, BUILT_IN)
        self.sessions.append(session)
        self._open_now.append(session)
        try:
            yield session
        finally:
            self._open_now.remove(session)
            self.told.append(wire.Close(session.number))
            session.relay_is_gone()
