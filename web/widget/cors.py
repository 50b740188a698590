"""Which pages may ask the widget's API, and read its answers: those of connected accounts, and exactly those."""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/widget/v1"
# Asked before an account is known: the pages of any account of the vendor's.
BEFORE_AN_ACCOUNT = (f"{API}/check", f"{API}/settings")
_VENDORS = re.compile(r"https://[a-z0-9-]{1,63}\.(amocrm\.ru|amocrm\.com|kommo\.com)")
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    "Access-Control-Allow-Headers": "X-Auth-Token, Content-Type",
    "Access-Control-Max-Age": "600",
}
LONGEST_ORIGIN = 300


class WidgetCors:
    """ASGI middleware around everything, so that refusals and faults can be read as well."""

    def __init__(self, app: ASGIApp, has_page_at: Callable[[str], bool]) -> None:
        self._app = app
        self._has_page_at = has_page_at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(f"{API}/"):
            await self._app(scope, receive, send)
            return
        origin = Headers(scope=scope).get("origin", "")
        added = {"Vary": "Origin"}
        if self._may_read(origin, scope["path"]):
            added["Access-Control-Allow-Origin"] = origin
        if scope["method"] == "OPTIONS":
            told = _PREFLIGHT if len(added) > 1 else {}
            await Response(status_code=204, headers={**added, **told})(scope, receive, send)
            return

        async def send_readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(added)
            await send(message)

        await self._app(scope, receive, send_readable)

    def _may_read(self, origin: str, path: str) -> bool:
        if not 0 < len(origin) <= LONGEST_ORIGIN:
            return False
        return self._has_page_at(origin) or (
            path in BEFORE_AN_ACCOUNT and _VENDORS.fullmatch(origin) is not None)
