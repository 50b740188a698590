"""The web's composition root: which address asks which part."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from b2bua.config import WebSettings
from b2bua.control import Control
from b2bua.keys import Keys
from b2bua.links import RecordingLinks
from b2bua.metrics import Metrics
from b2bua.store.engine import StoreUnavailable
from b2bua.store.store import Store
from web.bans import Bans
from web.board import Boards
from web.control_token import ControlToken
from web.dashboard import Dashboard
from web.explain import Explain
from web.guard import Guard
from web.health import Health
from web.pages import STATIC
from web.problems import Problem, as_problem
from web.recordings import Recordings
from web.sessions import Sessions
from web.signin import SignIn


def create_app(
    control: Control,
    store: Store,
    *,
    settings: WebSettings,
    keys: Keys,
    links: RecordingLinks,
    recordings: Path,
    metrics: Metrics,
) -> Starlette:
    sessions = Sessions(keys.session)
    counters = metrics.web
    sign_in = SignIn(settings, keys, sessions, counters)
    health = Health(control, store, metrics, settings, sign_in)
    token = ControlToken(keys, counters)
    dashboard = Dashboard(control, store, Boards(control, store, links), sign_in, sessions, token, counters)
    bans = Bans(control, token)
    app = Starlette(
        routes=[
            Route("/", sign_in.only(dashboard.show)),
            Route("/live", sign_in.only(dashboard.live)),
            Route("/api/live", dashboard.api_live),
            Route("/api/explain", Explain(control, token).show, methods=["POST"]),
            Route("/api/bans", bans.list),
            Route("/api/bans/lift", bans.lift, methods=["POST"]),
            Route("/r/{token}.mp3", Recordings(store, links, recordings, settings, counters).play),
            Route("/sign-in", sign_in.show),
            Route("/sign-in", sign_in.sign_in, methods=["POST"]),
            Route("/sign-out", sign_in.sign_out, methods=["POST"]),
            Route("/healthz", health.alive),
            Route("/readyz", health.ready),
            Route("/metrics", health.metrics),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Guard, counters=counters)],
        exception_handlers={Problem: as_problem, HTTPException: as_problem, StoreUnavailable: as_problem},
    )
    app.state.close, app.state.counters = dashboard.close, counters        # for web.server
    return app
