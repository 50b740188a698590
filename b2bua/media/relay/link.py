"""One relay process as the switch sees it: commands go out at once or wait in a bounded queue, events come in."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from b2bua.media.plane import MediaError
from b2bua.media.relay import wire

MAX_UNSENT = 10_000                     # commands; a relay that takes none of so many is stuck
START_PATIENCE = 15.0
STOP_PATIENCE = 3.0                     # it still writes what it has in memory


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Where the relay listens, what SDP says of it, and how patient it is."""

    bind: str
    advertised: str
    first_port: int = 20000
    last_port: int = 29999
    recordings: Path | None = None
    sounds: Path | None = None          # a directory of WAV files
    rtp_timeout: float = 60.0
    hold_timeout: float = 300.0
    spare: int = 32                     # sessions whose ports are open before anybody asks
    realtime: bool = True               # schedule the relay before everything else, where that is permitted


class RelayLink:
    """`open()` starts the process; `gone` is done when it has ended, with its exit status."""

    def __init__(self, on_event: Callable[[wire.Event], None]) -> None:
        self._on_event = on_event
        self._unsent: deque[bytes] = deque()
        self._socket: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def open(self, settings: RelaySettings, sounds: int) -> wire.Ready:
        """`sounds`: the memory that it plays from. Raises MediaError with the one sentence that the relay says."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._socket = ours
        options = {
            "control": theirs.fileno(), "bind": settings.bind, "first_port": settings.first_port,
            "last_port": settings.last_port, "rtp_timeout": settings.rtp_timeout,
            "hold_timeout": settings.hold_timeout, "realtime": settings.realtime, "sounds": sounds,
            "recordings": None if settings.recordings is None else str(settings.recordings),
        }  # fmt: skip
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "b2bua.media.relay", json.dumps(options),
                    pass_fds=[theirs.fileno(), sounds], stdin=asyncio.subprocess.DEVNULL, env=_environment())
            ready = await self._first_event(ours)
        except BaseException:
            await self.close()
            raise
        asyncio.get_running_loop().add_reader(ours.fileno(), self._read)
        return ready

    def send(self, command: wire.Command) -> None:
        """Never waits: it goes out at the end of this turn of the loop or, when the relay is busy, a little later."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._send_all)
        self._unsent.append(wire.encode(command))
        if len(self._unsent) > MAX_UNSENT:
            self.kill()

    async def wait(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def close(self) -> None:
        """Ends the process, if it has not ended yet."""
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket.fileno())
            loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._process is None:
            return
        try:
            async with asyncio.timeout(STOP_PATIENCE):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

    async def _first_event(self, ours: socket.socket) -> wire.Ready:
        try:
            async with asyncio.timeout(START_PATIENCE):
                packet = await asyncio.get_running_loop().sock_recv(ours, wire.MAX_PACKET)
        except TimeoutError:
            raise MediaError(f"the media relay did not start within {START_PATIENCE:.0f} s") from None
        match wire.events(packet) if packet else None:
            case [wire.Ready() as ready]:
                return ready
            case [wire.CannotStart(why)]:
                raise MediaError(why)
            case _:
                raise MediaError("the media relay ended at its start")

    def _read(self) -> None:
        while self._socket is not None:
            try:
                packet = self._socket.recv(wire.MAX_PACKET)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                asyncio.get_running_loop().remove_reader(self._socket.fileno())
                return
            for event in wire.events(packet):
                self._on_event(event)

    def _send_all(self) -> None:
        if self._socket is None:
            return
        loop = asyncio.get_running_loop()
        while self._unsent:
            try:
                self._socket.send(wire.pack(self._unsent))
            except BlockingIOError:
                loop.add_writer(self._socket.fileno(), self._send_all)
                return
            except OSError:             # it has died: wait() tells
                self._unsent.clear()
                break
            wire.taken(self._unsent)
        loop.remove_writer(self._socket.fileno())


def _environment() -> dict[str, str]:
    """The relay must find this package wherever the switch was started from."""
    root = str(Path(__file__).resolve().parents[3])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
