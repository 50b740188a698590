"""Real anchored sessions without a relay process: what the relay would be told is kept, and can be looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from b2bua.media.plane import MediaSession
from b2bua.media.relay import wire
from b2bua.media.relay.anchored import AnchoredSession, OpenPorts
from b2bua.media.relay.link import RelaySettings

SETTINGS = RelaySettings("10.0.0.1", "10.0.0.1")


class AnchoredPlane:
    def __init__(self) -> None:
        self._sessions: dict[int, AnchoredSession] = {}
        self.told: list[wire.Command] = []
        self._opened = 0
        self.in_use = 0                    # sessions that are open

    @property
    def problem(self) -> str | None:
        return None

    def session(self, number: int = 1) -> AnchoredSession:
        return self._sessions[number]

    def hosts(self, session: int = 1) -> tuple[str, str]:
        """Where the relay sends to, for caller and callee of a session."""
        latest = {one.side: one.host for one in self.told if isinstance(one, wire.Remote) and one.session == session}
        return latest[0], latest[1]

    def recorded(self) -> list[int]:
        """The sessions that are recorded."""
        return [one.session for one in self.told if isinstance(one, wire.Record)]

    def open(self, call: str) -> AbstractAsyncContextManager[MediaSession]:
        return self._open(call)

    @asynccontextmanager
    async def _open(self, call: str) -> AsyncIterator[MediaSession]:
        self._opened += 1
        self.in_use += 1
        port = 20_000 + 4 * self._opened
        session = AnchoredSession(call, OpenPorts(self._opened, (port, port + 2)), SETTINGS, 1000, self.told.append)
        self._sessions[self._opened] = session
        try:
            yield session
        finally:
            self.in_use -= 1
            del self._sessions[session.number]
            session.relay_is_gone()
