"""What would happen to a call now, for the command line."""

from __future__ import annotations

import json
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from b2bua.cdr import ClientId
from b2bua.control import Control
from web.control_token import ControlToken
from web.pages import NO_STORE
from web.problems import Problem

LONGEST = 64                           # of a client's name, an extension or a number
_EXAMPLE = 'Send {"client": "acme", "from": "+79161234567", "to": "+74951112233"} as JSON.'


class Explain:
    def __init__(self, control: Control, token: ControlToken) -> None:
        self._control = control
        self._token = token

    async def show(self, request: Request) -> Response:
        self._token.demand(request)
        try:
            asked = json.loads(await request.body())
            words = [asked["client"], asked["from"], asked["to"]]
        except (ValueError, KeyError, TypeError):
            raise Problem(400, "Client, caller and number are not all named", _EXAMPLE) from None
        if not all(isinstance(word, str) and len(word) <= LONGEST for word in words):
            raise Problem(400, f"Client, caller and number are texts of {LONGEST} letters at most", _EXAMPLE)
        client, caller, dialled = words
        try:
            explanation = await self._control.explain(ClientId(client), caller, dialled)
        except LookupError:
            remedy = "Name one that `smartswitch apply` has made."
            raise Problem(404, f"There is no client {client!r}", remedy) from None
        return JSONResponse(asdict(explanation) | {"direction": explanation.direction.value}, headers=NO_STORE)
