"""The live page: what goes on now, kept current by server-sent events."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from b2bua.cdr import ClientId
from b2bua.control import Control
from b2bua.metrics import WebCounters
from b2bua.store.store import Store
from web.admin.board import EVERY, NOTHING, TOKEN, Boards
from web.control_token import ControlToken
from web.health import not_ready
from web.pages import NO_STORE
from web.problems import Problem
from web.signin import SignIn
from web.visits import Visit

MOST_LISTENERS = 100                   # pages that are kept current; further ones reload themselves
MOST_OF_ACCOUNT = 20                   # of these, the pages of one office's administrator, or of the operator
STILL_HERE_EVERY = 15                  # rounds without news, then a comment keeps proxies from hanging up
RETRY_SECONDS = 10


class Dashboard:
    def __init__(
        self, control: Control, store: Store, boards: Boards, sign_in: SignIn, token: ControlToken,
        counters: WebCounters,
    ) -> None:
        self._control = control
        self._store = store
        self._boards = boards
        self._sign_in = sign_in
        self._token = token
        self._counters = counters
        self._listeners: Counter[ClientId | None] = Counter()
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Lets go of the listeners, which would never leave by themselves."""
        self._closing.set()

    async def show(self, visit: Visit) -> Response:
        board = await self._boards.of(visit.client, visit.language).current()
        token = visit.sessions.form_token(visit.session.id)
        lists = {name: "".join(rows.values()).replace(TOKEN, token) for name, rows in board.lists.items()}
        return await visit.page("dashboard.html", title=board.title, parts=board.parts, lists=lists)

    async def live(self, visit: Visit) -> Response:
        if self._listeners.total() >= MOST_LISTENERS or self._listeners[visit.client] >= MOST_OF_ACCOUNT:
            self._counters.listeners_refused += 1
            raise Problem(503, "Too many pages are kept current already", "Close some of them.",
                          retry_after=RETRY_SECONDS)
        if visit.request.method == "HEAD":
            return Response(headers=NO_STORE, media_type="text/event-stream")
        headers = {**NO_STORE, "X-Accel-Buffering": "no"}      # nginx would gather them
        return StreamingResponse(self._events(visit), headers=headers, media_type="text/event-stream")

    async def api_live(self, request: Request) -> Response:
        self._token.demand(request)
        body = {
            "calls": [asdict(call) for call in self._control.live_calls()],
            "trunks": [asdict(trunk) for trunk in self._control.trunk_states()],
            "phones": [asdict(phone) for phone in self._control.registered_phones()],
            "turned_away": [asdict(call) for call in self._control.turned_away()],
            "not_ready": not_ready(self._control, self._store),
        }
        return Response(json.dumps(body, default=_plain), headers=NO_STORE, media_type=JSONResponse.media_type)

    async def _events(self, visit: Visit) -> AsyncIterator[bytes]:
        """The pieces that changed, once a second at most, until the session is over or we are.

        Each page has its own moment within the second: all at once, they would hold the calls up.
        """
        showing = self._boards.of(visit.client, visit.language)
        token = visit.sessions.form_token(visit.session.id).encode()
        self._listeners[visit.client] += 1
        try:
            seen, quiet, pause = NOTHING, 0, _random.uniform(0, EVERY)
            while self._sign_in.is_open(visit.session) and not self._closing.is_set():
                board = await showing.current()
                quiet += 1
                if news := showing.news(seen):
                    now = datetime.now(UTC).isoformat().encode()
                    yield b'data: {"now": "%s", %s\n\n' % (now, news[1:].replace(_TOKEN, token))
                elif quiet >= STILL_HERE_EVERY:
                    yield b": still here\n\n"
                if news or quiet >= STILL_HERE_EVERY:
                    quiet = 0
                seen = board
                await _elapsed(pause, self._closing)
                pause = EVERY
        finally:
            self._listeners[visit.client] -= 1


async def _elapsed(seconds: float, or_this: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await or_this.wait()
    except TimeoutError:
        return


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(getattr(value, "value", value))


_TOKEN = TOKEN.encode()
_random = secrets.SystemRandom()
