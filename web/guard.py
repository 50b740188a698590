"""Around every request: headers that keep browsers from being tricked, and the boundary where faults end."""

from __future__ import annotations

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from b2bua.metrics import WebCounters
from web.problems import as_problem

LONGEST_PATH = 2_048

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
                               "media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
                               "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

_HSTS = "max-age=31536000"             # a year without plain HTTP

log = structlog.get_logger(__name__)


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, counters: WebCounters) -> None:
        self._app = app
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":         # by our own TLS; a proxy speaks for itself
                    headers["Strict-Transport-Security"] = _HSTS
            await send(message)

        try:
            await self._app(scope, receive, send_guarded)
        except Exception as error:
            self._counters.faults += 1
            log.exception("web request broke", method=scope["method"], path=scope["path"][:LONGEST_PATH])
            if started:                # what has begun cannot be taken back: the server cuts the connection
                raise
            await (await as_problem(Request(scope), error))(scope, receive, send_guarded)
