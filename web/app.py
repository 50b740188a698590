"""The web's composition root: which address asks which part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from b2bua.cdr import ClientId
from b2bua.config import WebSettings
from b2bua.control import Control
from b2bua.crm.health import CrmHealth
from b2bua.crm.open_deals import OpenDeals
from b2bua.crm.user_keeper import UserKeeper
from b2bua.handouts import Handouts
from b2bua.keys import Keys
from b2bua.links import RecordingLinks
from b2bua.metrics import Metrics
from b2bua.store.engine import StoreUnavailable
from b2bua.store.store import Store
from web.admin.account import AccountPage
from web.admin.board import Boards
from web.admin.call_actions import CallActions
from web.admin.call_page import CallPage
from web.admin.clients import ClientPages
from web.admin.history import History
from web.admin.outbox import OutboxPage
from web.amocrm_hooks import AmoCrmHooks, CrmConnections
from web.amocrm_webhooks import AmoWebhooks
from web.bans import Bans
from web.control_token import ControlToken
from web.dashboard import Dashboard
from web.explain import Explain
from web.guard import Guard
from web.health import Health
from web.pages import STATIC
from web.passwords import Passwords
from web.problems import Problem, as_problem
from web.recordings import Recordings
from web.server import Website
from web.sessions import Sessions
from web.setup.changes import ChangePages
from web.setup.client import SettingsPages
from web.setup.crm import CrmPages
from web.setup.extensions import ExtensionPages
from web.setup.functions import FunctionPages
from web.setup.groups import GroupPages
from web.setup.numbers import NumberPages
from web.setup.overview import OverviewPage
from web.setup.phones import PhonePages
from web.setup.sheet import SheetPages
from web.setup.things import SetUp
from web.setup.trunks import TrunkPages
from web.setup.users import UserPages
from web.signin import SignIn
from web.trace import Trace
from web.users import Users
from web.widget.api import WidgetApi
from web.widget.auth import WidgetAccounts
from web.widget.cors import WidgetCors


def create_app(
    control: Control,
    store: Store,
    *,
    settings: WebSettings,
    keys: Keys,
    links: RecordingLinks,
    recordings: Path,
    metrics: Metrics,
    connections: CrmConnections,
    webhooks: AmoWebhooks,
    users: UserKeeper,
    deals: OpenDeals,
    widget_accounts: WidgetAccounts,
    set_up: SetUp,
    crm_health: Callable[[ClientId], CrmHealth | None],
) -> Website:
    sessions = Sessions(keys.session)
    counters = metrics.web
    passwords = Passwords()
    sign_in = SignIn(settings, keys, sessions, store.web_sessions, lambda: users.directory, passwords, counters)
    health = Health(control, store, metrics, settings, sign_in)
    token = ControlToken(keys, counters)
    boards = Boards(control, store, lambda: users.directory)
    dashboard = Dashboard(control, store, boards, sign_in, token, counters)
    account = AccountPage(store.web_sessions, sign_in)
    handouts = Handouts()
    office_pages = (
        SheetPages(set_up, sign_in, control, handouts),        # before extensions, whose numbers may be anything else
        ExtensionPages(set_up, sign_in, control, handouts), GroupPages(set_up, sign_in), NumberPages(set_up, sign_in),
        SettingsPages(set_up, sign_in, passwords), ChangePages(set_up, sign_in, store.changes),
        PhonePages(set_up, sign_in, handouts), TrunkPages(set_up, sign_in, control, counters),
        CrmPages(set_up, sign_in, crm_health, connections, store.outbox),
        FunctionPages(set_up, sign_in, store.changes), UserPages(set_up, sign_in, users),
        ClientPages(set_up, sign_in, control, users, crm_health),
        OverviewPage(set_up, sign_in, control, store.calls, users, crm_health),
    )
    history = History(store, links, users)
    call = CallPage(control, store, links, users, connections.moved_to)
    outbox = OutboxPage(store, users, connections.moved_to)
    bans = Bans(control, token)
    heard = Recordings(store, links, recordings, sign_in, settings, counters)
    amocrm = AmoCrmHooks(connections, settings, counters)
    widget = WidgetApi(control, widget_accounts, users, store.widget_settings, deals, passwords, settings,
                       links.public_url, counters)
    app = Starlette(
        routes=[
            Route("/", sign_in.only(dashboard.show)),
            Route("/live", sign_in.only(dashboard.live)),
            *CallActions(control, lambda: users.directory).routes(sign_in),
            Route("/api/live", dashboard.api_live),
            Route("/api/explain", Explain(control, token).show, methods=["POST"]),
            Route("/api/trace/{call}", Trace(control, token).show),
            Route("/api/crm/users", Users(users, token).list),
            Route("/api/crm/users/refresh", Users(users, token).refresh, methods=["POST"]),
            Route("/api/bans", bans.list),
            Route("/api/bans/lift", bans.lift, methods=["POST"]),
            Route("/r/{token}.mp3", heard.play),
            Route("/recordings/{recording}/waveform", sign_in.only(heard.waveform)),
            Route("/recordings/{recording}/revoke", sign_in.only(heard.revoke), methods=["POST"]),
            Route("/recordings/{recording}/restore", sign_in.only(heard.restore), methods=["POST"]),
            Route("/amocrm/oauth", amocrm.code),
            Route("/amocrm/disconnect", amocrm.disconnect),
            Route("/amocrm/connect/{client}", sign_in.only(amocrm.connect)),
            Route("/hooks/amocrm/{token}", webhooks.take, methods=["POST"]),
            *widget.routes(),
            Route("/sign-in", sign_in.show),
            Route("/sign-in", sign_in.sign_in, methods=["POST"]),
            Route("/sign-out", sign_in.sign_out, methods=["POST"]),
            Route("/calls", sign_in.only(history.show)),
            Route("/calls/{id}", sign_in.only(call.show)),
            Route("/outbox", sign_in.only(outbox.show)),
            Route("/outbox/resend", sign_in.only(outbox.ask_resend)),
            Route("/outbox/resend", sign_in.only(outbox.resend), methods=["POST"]),
            Route("/outbox/drop", sign_in.only(outbox.ask_drop)),
            Route("/outbox/drop", sign_in.only(outbox.drop), methods=["POST"]),
            Route("/account", sign_in.only(account.show)),
            Route("/account/end", sign_in.only(account.end), methods=["POST"]),
            Route("/language", sign_in.language, methods=["POST"]),
            *(route for pages in office_pages for route in pages.routes()),
            Route("/healthz", health.alive),
            Route("/readyz", health.ready),
            Route("/metrics", health.metrics),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(WidgetCors, has_page_at=widget_accounts.has_page_at),
                    Middleware(Guard, counters=counters)],
        exception_handlers={Problem: as_problem, HTTPException: as_problem, StoreUnavailable: as_problem},
    )

    def close() -> None:
        dashboard.close()
        widget.close()

    return Website(app, counters, (sign_in.follow_ended,), close)
