"""What was said in a call that is up, or has just ended, for the command line."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from b2bua.control import MOST_NAMED, SHORTEST_BEGINNING, Control
from b2bua.store.rows import call_row, to_line
from web.control_token import ControlToken
from web.pages import NO_STORE
from web.problems import Problem

LONGEST = 64                           # letters of a call's id, or its beginning


class Trace:
    def __init__(self, control: Control, token: ControlToken) -> None:
        self._control = control
        self._token = token

    async def show(self, request: Request) -> Response:
        """Of a beginning that several calls have, only their ids."""
        self._token.demand(request)
        beginning = request.path_params["call"]
        if not SHORTEST_BEGINNING <= len(beginning) <= LONGEST:
            raise Problem(400, "This is no call's id",
                          f"Send {SHORTEST_BEGINNING} of its letters at least, from the first on.")
        ids = self._control.calls_beginning_with(beginning)
        traced = self._control.trace(ids[0]) if len(ids) == 1 or beginning in ids[:1] else None
        answer: dict[str, Any] = {"calls": ids[:MOST_NAMED], "traced": None}
        if traced is not None:
            record = json.loads(to_line(call_row(traced.record), []))["call"]
            answer["traced"] = {"record": record, "is_over": traced.is_over, "messages": traced.messages}
        return JSONResponse(answer, headers=NO_STORE)
