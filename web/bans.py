"""Who is banned, and the lifting of it, for the command line."""

from __future__ import annotations

import json
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from b2bua.control import Control
from web.control_token import ControlToken
from web.pages import NO_STORE
from web.problems import Problem

LONGEST_SUBJECT = 256                  # of an address or an account


class Bans:
    def __init__(self, control: Control, token: ControlToken) -> None:
        self._control = control
        self._token = token

    async def list(self, request: Request) -> Response:
        self._token.demand(request)
        bans = [asdict(ban) | {"who": ban.who.value} for ban in self._control.bans()]
        return JSONResponse({"bans": bans}, headers=NO_STORE)

    async def lift(self, request: Request) -> Response:
        self._token.demand(request)
        try:
            subject = json.loads(await request.body())["subject"]
        except (ValueError, KeyError, TypeError):
            subject = None
        if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
            raise Problem(400, "No address or account is named", 'Send {"subject": "198.51.100.7"} as JSON.')
        return JSONResponse({"lifted": self._control.lift_ban(subject)}, headers=NO_STORE)
