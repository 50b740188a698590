"""The web server inside the daemon: on its loop, without its signals, gone when it is told so."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from b2bua.config import WebSettings
from b2bua.metrics import WebCounters

MOST_CONNECTIONS = 300                 # at once; further ones are closed, as calls need file descriptors too
HEAD_SECONDS = 10.0                    # for a request's head to arrive
KEEP_ALIVE_SECONDS = 15                # between two requests
GRACE_SECONDS = 3                      # for answers under way when we go down
LARGEST_HEAD = 32_768                  # bytes of a request before its body
BACKLOG = 256

_REMEDIES = {
    errno.EADDRINUSE: "stop what uses it, or set web.port to a free one",
    errno.EACCES: "set web.port above 1023, or allow the process to bind low ports",
    errno.EADDRNOTAVAIL: "set web.host to an address of this machine",
}


def bind_web(settings: WebSettings) -> socket.socket:
    """Early, before anything else is started. Raises OSError whose text an administrator understands."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        number = error.errno or 0
        remedy = _REMEDIES.get(number, "set web.host and web.port to what this machine can listen on")
        raise OSError(f"the web server cannot listen on {settings.host} port {settings.port} "
                      f"({os.strerror(number)}): {remedy}") from error


async def serve_web(app: Starlette, sock: socket.socket) -> None:
    """Until cancelled; answers under way get GRACE_SECONDS. Closes the socket."""
    server = _Server(uvicorn.Config(
        app, http=_Connection, ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False,
        server_header=False, timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=LARGEST_HEAD, backlog=BACKLOG,
    ))
    with sock:
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve([sock]))
            try:
                await asyncio.wait([serving])          # which leaves the server alone when we are cancelled
            finally:
                app.state.close()
                server.should_exit = True
                await asyncio.wait([serving])


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are the daemon's."""
        yield


class _Connection(H11Protocol):
    """Hangs up on those who keep a connection without asking for anything, which uvicorn leaves open for ever."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._counters.connections_refused += 1
            transport.close()
        else:
            self._expect_after(None, HEAD_SECONDS)

    def on_response_complete(self) -> None:
        answered = self.cycle
        super().on_response_complete()                 # may go on at once with the next request, if that is here
        self._expect_after(answered, KEEP_ALIVE_SECONDS + HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)

    def _expect_after(self, answered: RequestResponseCycle | None, seconds: float) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self.loop.call_later(seconds, self._give_up, answered)

    def _give_up(self, answered: RequestResponseCycle | None) -> None:
        if self.cycle is answered:
            self._counters.slow_connections_closed += 1
            self.transport.close()

    @property
    def _counters(self) -> WebCounters:
        app = self.config.app
        assert isinstance(app, Starlette), "serve_web was given one"
        counters: WebCounters = app.state.counters
        return counters
