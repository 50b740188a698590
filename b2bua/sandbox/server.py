"""The stand-in amoCRM as a real HTTP server: inside a test or the demo, or alone."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from b2bua.sandbox.app import create_sandbox
from b2bua.sandbox.delivery import keep_delivering
from b2bua.sandbox.door import Connections
from b2bua.sandbox.rate import Rate
from b2bua.sandbox.seed import EXAMPLE, SandboxSeed
from b2bua.sandbox.state import SandboxState

CONNECTIONS = 500                      # at once; more are answered 503


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running stand-in."""

    base_url: str
    state: SandboxState
    rate: Rate
    _server: _Server

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Nobody listens inside the block, and what was connected is cut."""
        self._server.stop_listening()
        try:
            yield
        finally:
            await self._server.listen_again()


class _Protocol(H11Protocol):
    """Lets the application reset its connections."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            self._connections()[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            self._connections().pop(self.client, None)
        super().connection_lost(exc)

    def _connections(self) -> Connections:
        app = self.config.app
        assert isinstance(app, Starlette)
        connections: Connections = app.state.connections
        return connections


class _Server(uvicorn.Server):
    """Tells when it listens, and leaves the signals to whom they belong."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._address: tuple[str, int] = sockets[0].getsockname()[:2] if sockets else ("", 0)
        await super().startup(sockets)
        self.listening.set()

    def stop_listening(self) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.config.app.state.connections.values()):     # type: ignore[union-attr]
            connection.abort()

    async def listen_again(self) -> None:
        protocol = partial(
            _Protocol, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        listener = _listener(*self._address)
        self.servers = [await asyncio.get_running_loop().create_server(protocol, sock=listener, ssl=self.config.ssl)]


@asynccontextmanager
async def running_sandbox(
    seed: SandboxSeed = EXAMPLE, host: str = "127.0.0.1", port: int = 0, clock: Callable[[], float] = time.time,
    certificate: Path | None = None, key: Path | None = None,
) -> AsyncIterator[Sandbox]:
    """Listens when the block begins; all is closed when it ends. `certificate` and `key`: PEM, for HTTPS.
    Raises OSError when the port is taken."""
    connections: dict[tuple[str, int], asyncio.Transport] = {}
    app = create_sandbox(seed, clock, connections)
    listener = _listener(host, port)
    state: SandboxState = app.state.sandbox
    state.address = _url(listener, certificate).partition("//")[2]
    server = _Server(_config(app, certificate, key))
    tasks = asyncio.TaskGroup()        # entered by hand: the block's errors are handed on without its wrapping
    await tasks.__aenter__()
    delivering = tasks.create_task(keep_delivering(state))
    try:
        tasks.create_task(server.serve([listener]))
        await server.listening.wait()
        yield Sandbox(_url(listener, certificate), state, app.state.rate, server)
    finally:
        state.closing.set()
        delivering.cancel()
        for transport in list(connections.values()):
            transport.abort()
        server.should_exit = True
        await tasks.__aexit__(None, None, None)


async def run_sandbox(host: str = "127.0.0.1", port: int = 8088, seed: SandboxSeed = EXAMPLE) -> None:
    """Until it is cancelled."""
    async with running_sandbox(seed, host, port):
        await asyncio.Event().wait()


def _config(app: Starlette, certificate: Path | None, key: Path | None) -> uvicorn.Config:
    return uvicorn.Config(
        app, http=_Protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=2, ssl_certfile=certificate,
        ssl_keyfile=key,
    )


def _listener(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _url(listener: socket.socket, certificate: Path | None) -> str:
    host, port = listener.getsockname()[:2]
    scheme = "https" if certificate is not None else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
