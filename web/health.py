"""For those who watch over the switch: is it alive, should it get calls, what has it counted."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from b2bua.config import WebSettings
from b2bua.control import Control
from b2bua.metrics import Metrics
from b2bua.store.store import Store
from web.pages import NO_STORE
from web.problems import PROBLEM_JSON
from web.signin import SignIn
from web.visitors import address_of, is_in
from web.visits import Visit


class Health:
    def __init__(
        self, control: Control, store: Store, metrics: Metrics, settings: WebSettings, sign_in: SignIn
    ) -> None:
        self._control = control
        self._store = store
        self._metrics = metrics
        self._settings = settings
        self._metrics_for_the_operator = sign_in.operator_only(self._metrics_shown_to)

    async def alive(self, request: Request) -> Response:
        """The loop turns, or this would not answer."""
        # A widget's page may look whether anybody is here, though it cannot read the answer.
        return PlainTextResponse("ok\n", headers={**NO_STORE, "Cross-Origin-Resource-Policy": "cross-origin"})

    async def ready(self, request: Request) -> Response:
        reasons = not_ready(self._control, self._store)
        if not reasons:
            return PlainTextResponse("ready\n", headers=NO_STORE)
        body = {"type": "about:blank", "title": "The switch should not get calls now", "status": 503,
                "reasons": reasons, "remedy": "Send calls elsewhere until this answers 200."}
        return JSONResponse(body, 503, NO_STORE, PROBLEM_JSON)

    async def metrics(self, request: Request) -> Response:
        if is_in(address_of(request, self._settings.trusted_proxies), self._settings.metrics_from):
            return self._shown()
        return await self._metrics_for_the_operator(request)

    async def _metrics_shown_to(self, _: Visit) -> Response:
        return self._shown()

    def _shown(self) -> Response:
        return Response(self._metrics.text(), headers=NO_STORE, media_type=self._metrics.content_type)


def not_ready(control: Control, store: Store) -> list[str]:
    """Why the switch should not get calls now."""
    failing = ["the database does not answer"] if store.calls.failing_since is not None else []
    return [*control.ready(), *failing]
