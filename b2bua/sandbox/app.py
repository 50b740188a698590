"""The stand-in amoCRM as one Starlette application."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from b2bua.sandbox import control, levers, page
from b2bua.sandbox.account import Full
from b2bua.sandbox.answers import Invalid, Refused, invalid, problem
from b2bua.sandbox.door import Connections, Door
from b2bua.sandbox.rate import Rate
from b2bua.sandbox.routes import api_routes
from b2bua.sandbox.seed import EXAMPLE, SandboxSeed
from b2bua.sandbox.state import SandboxState


def create_sandbox(
    seed: SandboxSeed = EXAMPLE, clock: Callable[[], float] = time.time, connections: Connections | None = None
) -> Starlette:
    """Its `state.sandbox` is the SandboxState. `connections`: a server's, which keeps them up to date. All handlers are
    coroutines: Starlette runs others in threads, which a virtual loop does not wait for."""
    state, rate = SandboxState(seed, clock), Rate()
    app = Starlette(
        routes=[*api_routes(), *control.routes(), *levers.routes(), Route("/", page.home)],
        middleware=[Middleware(Door, state=state, rate=rate, connections=connections)],
        exception_handlers={
            HTTPException: _http_error,
            Refused: _refused,
            Invalid: _invalid,
            Full: _full,
        },
    )
    app.router.redirect_slashes = False
    app.state.sandbox, app.state.rate, app.state.connections = state, rate, connections
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, f"Cannot {request.method} {request.url.path}")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return problem(error.status, error.detail)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, Invalid)
    return invalid(error)


async def _full(request: Request, error: Exception) -> Response:
    return problem(507, str(error))
