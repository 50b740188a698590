"""The stand-in without a socket: an httpx transport for tests that make thousands of requests, on any event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from starlette.applications import Starlette

from b2bua.sandbox.app import create_sandbox
from b2bua.sandbox.rate import Rate
from b2bua.sandbox.seed import DOMAIN, EXAMPLE, SandboxSeed
from b2bua.sandbox.state import SandboxState


class SandboxTransport(httpx.ASGITransport):
    """As httpx's own, and keeps the client's time-outs. Faults of the connection come as httpx's errors."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            async with asyncio.timeout(request.extensions.get("timeout", {}).get("read")):
                return await super().handle_async_request(request)
        except TimeoutError:
            raise httpx.ReadTimeout("the stand-in did not answer in time", request=request) from None


@dataclass(frozen=True, slots=True)
class InProcessSandbox:
    """The first account is at `base_url`; the others at their own names. `transport` reaches all of them."""

    base_url: str
    state: SandboxState
    rate: Rate
    app: Starlette
    transport: SandboxTransport

    def client(self, token: str = "sandbox-token") -> httpx.AsyncClient:   # noqa: S107  (a stand-in's)
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=self.base_url, transport=self.transport, headers=headers)


def in_process_sandbox(seed: SandboxSeed = EXAMPLE, clock: Callable[[], float] = time.time) -> InProcessSandbox:
    """`clock`: seconds since 1970."""
    app = create_sandbox(seed, clock)
    return InProcessSandbox(
        f"http://{seed.accounts[0].subdomain}.{DOMAIN}", app.state.sandbox, app.state.rate, app, SandboxTransport(app)
    )
