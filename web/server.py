"""The web server inside the daemon: on its loop, without its signals, gone when it is told so.

With a certificate, connections are accepted here, not by asyncio's server: who connects and does not shake hands counts
and is hung up on, and each one gets the certificate of that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from b2bua.config import WebSettings
from b2bua.metrics import WebCounters
from b2bua.net.certificates import ServerIdentity

# At once; further ones are closed, as calls need file descriptors too. An office of 300 has one for each browser, by
# which the widget's live card waits.
MOST_CONNECTIONS = 2_000
HANDSHAKE_SECONDS = 10.0               # for TLS to be agreed on
TLS_END_SECONDS = 3.0                  # for the other side to say goodbye as well
HEAD_SECONDS = 10.0                    # for a request's head to arrive
KEEP_ALIVE_SECONDS = 15                # between two requests
GRACE_SECONDS = 3                      # for answers under way when we go down
LARGEST_HEAD = 32_768                  # bytes of a request before its body
BACKLOG = 256
ACCEPT_AGAIN = 0.5                     # seconds, when the process is out of files

_REMEDIES = {
    errno.EADDRINUSE: "stop what uses it, or set web.port to a free one",
    errno.EACCES: "set web.port above 1023, or allow the process to bind low ports",
    errno.EADDRNOTAVAIL: "set web.host to an address of this machine",
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Website:
    """What is served, who counts, what runs beside it, and what lets go of visitors who would never leave."""

    app: Starlette
    counters: WebCounters = field(default_factory=WebCounters)
    beside: tuple[Callable[[], Coroutine[None, None, None]], ...] = ()
    close: Callable[[], None] = lambda: None


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


async def serve_web(site: Website, sock: socket.socket, identity: ServerIdentity | None = None) -> None:
    """Until cancelled; answers under way get GRACE_SECONDS. Closes the socket. By TLS, when there is an identity."""
    server = _Server(uvicorn.Config(
        site.app, http=partial(_Connection, counters=site.counters),  # type: ignore[arg-type]  # it only calls it
        ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False, server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=LARGEST_HEAD, backlog=BACKLOG,
    ))
    with sock:
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve([sock] if identity is None else []))
            beside = [tasks.create_task(run()) for run in site.beside]
            if identity is not None:
                beside.append(tasks.create_task(_TlsDoor(server, identity, site.counters).run(sock)))
            try:
                await asyncio.wait([serving])          # which leaves the server alone when we are cancelled
            finally:
                site.close()
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
                server.should_exit = True
                await asyncio.wait([serving])


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are the daemon's."""
        yield


class _TlsDoor:
    """Lets into a server who has shaken hands."""

    def __init__(self, server: _Server, identity: ServerIdentity, counters: WebCounters) -> None:
        self._server = server
        self._identity = identity
        self._counters = counters
        self._shaking = 0

    async def run(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        async with asyncio.TaskGroup() as handshakes:
            while True:
                try:
                    stream, _ = await loop.sock_accept(sock)
                except OSError as error:               # out of files, or the visitor is gone again
                    log.warning("web connection not accepted", why=str(error))
                    await asyncio.sleep(ACCEPT_AGAIN)
                    continue
                if len(self._server.server_state.connections) + self._shaking >= _most_connections():
                    self._counters.connections_refused += 1
                    stream.close()
                else:
                    self._shaking += 1
                    handshakes.create_task(self._shake_hands(stream)).add_done_callback(partial(self._shaken, stream))
                await asyncio.sleep(0)                 # what waits in the backlog is taken without waiting otherwise

    async def _shake_hands(self, stream: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, stream, ssl=self._identity.context, ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=TLS_END_SECONDS)
        except OSError:                                # SSLError, a reset, and asyncio's word for out of time
            self._counters.failed_handshakes += 1

    def _shaken(self, stream: socket.socket, task: asyncio.Task[None]) -> None:
        self._shaking -= 1
        if task.cancelled():                           # maybe before it began
            stream.close()

    def _protocol(self) -> _Connection:
        return _Connection(self._server.config, self._server.server_state, {}, counters=self._counters)


def _most_connections() -> int:
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, files // 4)


class _Connection(H11Protocol):
    """Hangs up on those who keep a connection without asking for anything, which uvicorn leaves open for ever."""

    _patience: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, counters: WebCounters, **more: Any) -> None:
        super().__init__(*args, **more)
        self._counters = counters

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > _most_connections():
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
