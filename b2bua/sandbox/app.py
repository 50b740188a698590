"""The stand-in amoCRM as one Starlette application."""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from b2bua.sandbox import account_api, calls_api, cards_api, control, notes_api, oauth_api, page, pop_ups_api
from b2bua.sandbox.answers import Invalid, Refused, invalid, problem
from b2bua.sandbox.door import Door, Rate
from b2bua.sandbox.seed import EXAMPLE, SandboxSeed
from b2bua.sandbox.state import Full, SandboxState

_TYPES = ("contacts", "companies", "leads")


def create_sandbox(seed: SandboxSeed = EXAMPLE) -> Starlette:
    """Its `state.sandbox` is the SandboxState."""
    state, rate = SandboxState(seed), Rate()
    transports: dict[tuple[str, int], asyncio.Transport] = {}
    app = Starlette(
        routes=[*_oauth(), *_account(), *_cards(), *_events(), *control.routes(), Route("/", page.home)],
        middleware=[Middleware(Door, state=state, rate=rate, transports=transports)],
        exception_handlers={
            HTTPException: _http_error,
            Refused: _refused,
            Invalid: _invalid,
            Full: _full,
        },
    )
    app.router.redirect_slashes = False
    app.state.sandbox, app.state.rate, app.state.transports = state, rate, transports
    return app


def _oauth() -> list[Route]:
    return [
        Route(path, oauth_api.access_token, methods=["POST"])
        for path in ("/oauth2/access_token", "/oauth2/access_token/")
    ]


def _account() -> list[Route]:
    return [
        Route("/api/v4/account", account_api.get_account),
        Route("/api/v4/users", account_api.list_users),
        Route("/api/v4/users/{id:int}", account_api.get_user),
    ]


def _cards() -> list[Route]:
    """One set of routes per type, so that an unknown type is a 404."""
    routes = []
    for name in _TYPES:
        base = f"/api/v4/{name}"
        table = [
            ("", "GET", cards_api.list_cards), ("", "POST", cards_api.create_cards),
            ("", "PATCH", cards_api.change_cards),
            ("/custom_fields", "GET", cards_api.list_fields),
            ("/notes", "GET", notes_api.list_notes), ("/notes", "POST", notes_api.create_notes),
            ("/notes", "PATCH", notes_api.change_notes),
            ("/{id:int}", "GET", cards_api.get_card), ("/{id:int}", "PATCH", cards_api.change_card),
            ("/{card:int}/notes", "GET", notes_api.list_notes), ("/{card:int}/notes", "POST", notes_api.create_notes),
            ("/{card:int}/notes", "PATCH", notes_api.change_notes),
            ("/{card:int}/notes/{id:int}", "GET", notes_api.get_note),
            ("/{card:int}/notes/{id:int}", "PATCH", notes_api.change_note),
        ]
        routes += [Route(base + path, handler, methods=[method]) for path, method, handler in table]
    return routes


def _events() -> list[Route]:
    return [
        Route("/api/v4/calls", calls_api.add_calls, methods=["POST"]),
        Route("/api/v2/events", pop_ups_api.add_events, methods=["POST"]),
        Route("/api/v2/events/", pop_ups_api.add_events, methods=["POST"]),
    ]


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, f"Cannot {request.method} {request.url.path}")


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return problem(error.status, error.detail)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, Invalid)
    return invalid(error)


def _full(request: Request, error: Exception) -> Response:
    return problem(507, str(error))
