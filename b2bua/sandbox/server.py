"""The stand-in amoCRM as a real HTTP server: inside a test or the demo, or alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from b2bua.sandbox.app import create_sandbox
from b2bua.sandbox.door import Rate
from b2bua.sandbox.seed import EXAMPLE, SandboxSeed
from b2bua.sandbox.state import SandboxState

CONNECTIONS = 500                      # at once; more are answered 503


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running stand-in."""

    base_url: str
    state: SandboxState
    rate: Rate


class _Protocol(H11Protocol):
    """Lets the application reset its connections."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            self._transports()[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            self._transports().pop(self.client, None)
        super().connection_lost(exc)

    def _transports(self) -> dict[tuple[str, int], asyncio.Transport]:
        app = self.config.app
        assert isinstance(app, Starlette)
        transports: dict[tuple[str, int], asyncio.Transport] = app.state.transports
        return transports


class _Server(uvicorn.Server):
    """Tells when it listens, and leaves the signals to whom they belong."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def running_sandbox(
    seed: SandboxSeed = EXAMPLE, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Sandbox]:
    """Listens when the block begins; all is closed when it ends. Raises OSError when the port is taken."""
    app = create_sandbox(seed)
    listener = _listener(host, port)
    server = _Server(_config(app))
    tasks = asyncio.TaskGroup()        # entered by hand: the block's errors are handed on without its wrapping
    await tasks.__aenter__()
    try:
        tasks.create_task(server.serve([listener]))
        await server.listening.wait()
        yield Sandbox(_url(listener), app.state.sandbox, app.state.rate)
    finally:
        app.state.sandbox.closing.set()
        for transport in list(app.state.transports.values()):
            transport.abort()
        server.should_exit = True
        await tasks.__aexit__(None, None, None)


async def run_sandbox(host: str = "127.0.0.1", port: int = 8088, seed: SandboxSeed = EXAMPLE) -> None:
    """Until it is cancelled."""
    async with running_sandbox(seed, host, port):
        await asyncio.Event().wait()


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app, http=_Protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=2,
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


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
