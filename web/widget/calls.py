"""Calls of the employee whose page asks: placed by a click, watched, and hung up."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

import structlog
from starlette.responses import Response

from b2bua.cdr import CallId
from b2bua.control import AlreadyCalling, ClickStage, Control, TooManyClicks, Unavailable
from b2bua.crm.user_keeper import UserKeeper
from b2bua.directory import Extension
from b2bua.metrics import WebCounters
from web.problems import RETRY_SECONDS
from web.widget import schemas
from web.widget.answers import answer
from web.widget.cards import EVERY, Cards, Clicks, Desk, list_version
from web.widget.door import Visit
from web.widget.settings import client_id
from web.widget.waiters import Waiters

A_MINUTE = 60                          # seconds, until a client may click again that has clicked too much
OLDEST_CLICK = 60                      # seconds: who clicked before does not expect their phone to ring any more

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WidgetCalls:
    control: Control
    users: UserKeeper
    clicks: Clicks
    cards: Cards
    waiters: Waiters
    counters: WebCounters
    since: float = field(default_factory=monotonic)    # clicks before that are not remembered

    async def click(self, visit: Visit) -> Response:
        asked = await visit.body(schemas.Click)
        own = self._extension(visit)
        if asked.extension not in (None, own.number):
            raise visit.problem("extension_mismatch", said=asked.extension, has=own.number)
        key = f"{visit.visitor.user} {asked.request}"
        if not self.clicks.knows(own.client, key) and self._may_have_been_called(asked.age):
            raise visit.problem("click_too_late")
        try:
            call = self.control.click2call(own.client, own.number, asked.phone, key)
        except AlreadyCalling:
            raise visit.problem("already_calling") from None
        except TooManyClicks:
            raise visit.problem("too_many", retry_after=A_MINUTE, seconds=A_MINUTE) from None
        except Unavailable:
            raise visit.problem("unavailable", retry_after=RETRY_SECONDS) from None
        except LookupError:
            raise visit.problem("no_extension") from None
        except ValueError:
            raise visit.problem("invalid_number", number=asked.phone) from None
        is_new = self.clicks.note(key, call, asked.entity, _now())
        self.counters.widget_clicks += is_new
        return answer(self.cards.of_click(call), 202 if is_new else 200)

    async def show(self, visit: Visit) -> Response:
        desk, after = self._desk(visit), visit.request.query_params.get("after")
        call = self._call(visit, desk)
        if after == str(call.version) and call.state is not ClickStage.ENDED:
            with suppress(TimeoutError, LookupError):
                async with self.waiters.patience(("call", *desk)):
                    await self._changed(desk, call)
            call = self.cards.find(desk, CallId(call.id), _now()) or call
        return answer(call)

    async def hang_up(self, visit: Visit) -> Response:
        desk = self._desk(visit)
        call = self._call(visit, desk)
        if call.may_hang_up and self.control.hang_up(desk[0], CallId(call.id)):
            log.info("hung up in the widget", call=call.id, client=desk[0], user=visit.visitor.user)
        return answer(self.cards.find(desk, CallId(call.id), _now()) or call)

    async def list(self, visit: Visit) -> Response:
        desk, after = self._desk(visit), visit.request.query_params.get("after")
        with suppress(TimeoutError):
            async with self.waiters.patience(("calls", *desk)):
                while list_version(self.cards.of(desk, _now())) == after:
                    await _a_moment()
        calls = self.cards.of(desk, _now())
        return answer(schemas.Calls(version=list_version(calls), calls=calls))

    async def _changed(self, desk: Desk, call: schemas.Call) -> None:
        if self.control.clicked(desk[0], CallId(call.id)) is not None:
            await self.control.click_changed(desk[0], CallId(call.id), call.version)
            return
        while (now := self.cards.find(desk, CallId(call.id), _now())) is not None and now.version == call.version:
            await _a_moment()

    def _may_have_been_called(self, age: int) -> bool:
        """A click that is sent again and is new to us: whoever was here before us may have rung the phone for it."""
        return age > min(OLDEST_CLICK, monotonic() - self.since)

    # -- whose

    def _extension(self, visit: Visit) -> Extension:
        """Raises Problem."""
        extension = self.users.directory.by_crm_user.get((client_id(visit), visit.visitor.user))
        if extension is None:
            raise visit.problem("no_extension")
        return extension

    def _desk(self, visit: Visit) -> Desk:
        extension = self._extension(visit)
        return extension.client, extension.number

    def _call(self, visit: Visit, desk: Desk) -> schemas.Call:
        """Raises Problem: none of this employee's has that id."""
        call = self.cards.find(desk, CallId(visit.request.path_params["id"]), _now())
        if call is None:
            raise visit.problem("no_such_call")
        return call


async def _a_moment() -> None:
    """Between two looks: of calls that nobody clicked the switch tells how they are, not that they change."""
    await asyncio.sleep(EVERY)


def _now() -> float:
    return asyncio.get_running_loop().time()
