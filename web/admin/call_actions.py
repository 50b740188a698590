"""Hanging up and transferring a call in progress: forms of the live page, and pages of their own."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from b2bua.cdr import CallId
from b2bua.control import Control, LiveCall, Transfer, TransferOutcome
from b2bua.directory import Directory
from web.admin.board import targets_of
from web.problems import Problem
from web.signin import SignIn
from web.visits import Visit


class CallActions:
    def __init__(self, control: Control, directory: Callable[[], Directory]) -> None:
        self._control = control
        self._directory = directory

    def routes(self, sign_in: SignIn) -> list[BaseRoute]:
        return [
            Route("/calls/{call}/hang-up", sign_in.only(self.ask_hang_up)),
            Route("/calls/{call}/hang-up", sign_in.only(self.hang_up), methods=["POST"]),
            Route("/calls/{call}/transfer", sign_in.only(self.ask_transfer)),
            Route("/calls/{call}/transfer", sign_in.only(self.transfer), methods=["POST"]),
        ]

    async def ask_hang_up(self, visit: Visit) -> Response:
        return await visit.page("hang_up.html", call=self._call(visit))

    async def hang_up(self, visit: Visit) -> Response:
        await visit.form()
        call = self._call(visit)
        self._control.hang_up(call.client, call.id, visit.who)
        return visit.redirect("/", "hung-up")

    async def ask_transfer(self, visit: Visit) -> Response:
        return await self._form(visit, self._call(visit))

    async def transfer(self, visit: Visit) -> Response:
        form = await visit.form()
        call, target = self._call(visit), form.get("target", "")
        outcome = self._control.transfer(call.client, call.id, target, visit.who)
        if outcome.transfer is Transfer.ACCEPTED:
            return visit.redirect("/", "transferring")
        return await self._form(visit, call, target, outcome)

    async def _form(
        self, visit: Visit, call: LiveCall, target: str = "", outcome: TransferOutcome | None = None
    ) -> Response:
        status = HTTPStatus.OK if outcome is None else HTTPStatus.UNPROCESSABLE_ENTITY
        return await visit.page("transfer.html", status, call=call, target=target, outcome=outcome,
                                targets=targets_of(self._directory(), call.client))

    def _call(self, visit: Visit) -> LiveCall:
        """Raises Problem: there is none, or it is another office's."""
        call = self._control.live_call(CallId(visit.request.path_params["call"]))
        if call is None or not visit.may_see(call.client):
            raise Problem(404, "There is no such call now", "It has just ended, perhaps. Go back to the live page.")
        return call

