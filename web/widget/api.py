"""The widget's API: docs/widget-api.md as routes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from b2bua.config import WebSettings
from b2bua.control import Control
from b2bua.crm.open_deals import OpenDeals
from b2bua.crm.user_keeper import UserKeeper
from b2bua.crm.widget_account import origin_of
from b2bua.metrics import WebCounters
from b2bua.store.widget_settings import WidgetSettingsRows
from web.lockout import Lockout
from web.passwords import Passwords
from web.widget.auth import WidgetAccounts, WidgetTokens
from web.widget.calls import WidgetCalls
from web.widget.cards import Cards, Clicks
from web.widget.cors import API
from web.widget.door import WidgetDoor
from web.widget.openapi import description
from web.widget.settings import CROWD_FAILURES, WidgetSettings
from web.widget.waiters import Waiters


class WidgetApi:
    def __init__(
        self, control: Control, accounts: WidgetAccounts, users: UserKeeper, rows: WidgetSettingsRows,
        deals: OpenDeals, passwords: Passwords, settings: WebSettings, url: str, counters: WebCounters,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`url`: how browsers reach us."""
        clicks, self._waiters = Clicks(), Waiters()
        self._door = WidgetDoor(WidgetTokens(accounts, origin_of(url)), settings, counters)
        self._settings = WidgetSettings(control, accounts, users, rows, passwords, counters, clock, Lockout(),
                                        Lockout(free=CROWD_FAILURES))
        self._calls = WidgetCalls(control, users, clicks, Cards(control, clicks, deals, clock), self._waiters,
                                  counters)
        self._description = description(url)

    def routes(self) -> list[Route]:
        door, settings, calls = self._door.open, self._settings, self._calls
        return [
            Route(f"{API}/check", door(settings.check), methods=["POST"]),
            Route(f"{API}/settings", door(settings.show)),
            Route(f"{API}/settings", door(settings.save), methods=["POST"]),
            Route(f"{API}/calls", door(calls.list)),
            Route(f"{API}/calls", door(calls.click), methods=["POST"]),
            Route(f"{API}/calls/{{id}}", door(calls.show)),
            Route(f"{API}/calls/{{id}}", door(calls.hang_up), methods=["DELETE"]),
            Route(f"{API}/openapi.json", self.describe),
        ]

    async def describe(self, request: Request) -> Response:
        return JSONResponse(self._description)

    def close(self) -> None:
        """Answers those who wait."""
        self._waiters.close()
