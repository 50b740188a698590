"""The dashboard: what goes on now, kept current by server-sent events, and the last calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from b2bua.control import Control
from b2bua.metrics import WebCounters
from b2bua.store.store import Store
from web.board import EVERY, Board, Boards
from web.control_token import ControlToken
from web.health import not_ready
from web.pages import NO_STORE, page
from web.problems import Problem
from web.sessions import Session, Sessions
from web.signin import SignIn

MOST_LISTENERS = 100                   # pages that are kept current; further ones reload themselves
STILL_HERE_EVERY = 15                  # rounds without news, then a comment keeps proxies from hanging up
RETRY_SECONDS = 10


class Dashboard:
    def __init__(
        self, control: Control, store: Store, boards: Boards, sign_in: SignIn, sessions: Sessions, token: ControlToken,
        counters: WebCounters,
    ) -> None:
        self._control = control
        self._store = store
        self._boards = boards
        self._sign_in = sign_in
        self._sessions = sessions
        self._token = token
        self._counters = counters
        self._listeners = 0
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Lets go of the listeners, which would never leave by themselves."""
        self._closing.set()

    async def show(self, request: Request) -> Response:
        session = self._sign_in.session(request)
        assert session is not None, "SignIn.only stands before it"
        board = await self._boards.current()
        return page("dashboard.html", board=board, token=self._sessions.form_token(session.id))

    async def live(self, request: Request) -> Response:
        session = self._sign_in.session(request)
        assert session is not None, "SignIn.only stands before it"
        if self._listeners >= MOST_LISTENERS:
            self._counters.listeners_refused += 1
            raise Problem(503, f"{MOST_LISTENERS} pages are kept current already", "Close some of them.",
                          retry_after=RETRY_SECONDS)
        if request.method == "HEAD":
            return Response(headers=NO_STORE, media_type="text/event-stream")
        headers = {**NO_STORE, "X-Accel-Buffering": "no"}      # nginx would gather them
        return StreamingResponse(self._events(session), headers=headers, media_type="text/event-stream")

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

    async def _events(self, session: Session) -> AsyncIterator[bytes]:
        """The parts that changed, once a second at most, until the session is over or we are."""
        self._listeners += 1
        try:
            seen, quiet = Board(), 0
            while self._sessions.is_open(session) and not self._closing.is_set():
                board = await self._boards.current()
                quiet += 1
                if (news := _news(seen, board)) or quiet >= STILL_HERE_EVERY:
                    yield news or b": still here\n\n"
                    seen, quiet = board, 0
                await _elapsed(EVERY, self._closing)
        finally:
            self._listeners -= 1


def _news(seen: Board, board: Board) -> bytes:
    changes = _changes(seen, board)
    return b'data: {"now": "%s", %s\n\n' % (datetime.now(UTC).isoformat().encode(), changes[1:]) if changes else b""


@lru_cache(maxsize=8)
def _changes(seen: Board, board: Board) -> bytes:
    """Remembered, as all who look saw the same before."""
    parts = {name: part for name, part in asdict(board).items() if part != getattr(seen, name)}
    return json.dumps(parts).encode() if parts else b""


async def _elapsed(seconds: float, or_this: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await or_this.wait()
    except TimeoutError:
        return


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(getattr(value, "value", value))
