"""Whose extension is whose in a client's CRM, for the command line."""

from __future__ import annotations

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from b2bua.cdr import ClientId
from b2bua.crm.user_keeper import UserKeeper
from web.control_token import ControlToken
from web.pages import NO_STORE
from web.problems import Problem


class Users:
    def __init__(self, users: UserKeeper, token: ControlToken) -> None:
        self._users = users
        self._token = token

    async def list(self, request: Request) -> Response:
        self._token.demand(request)
        return self._shown(_client(request))

    async def refresh(self, request: Request) -> Response:
        """The CRM is asked first."""
        self._token.demand(request)
        client = _client(request)
        try:
            await self._users.refresh(client)
        except LookupError:
            raise _no_such(client) from None
        return self._shown(client)

    def _shown(self, client: ClientId) -> Response:
        try:
            listing = self._users.listing(client)
        except LookupError:
            raise _no_such(client) from None
        return JSONResponse({
            "client": client,
            "read_at": listing.read_at.isoformat() if listing.read_at is not None else None,
            "users": [asdict(user) for user in listing.users],
            "faults": [asdict(fault) | {"kind": fault.kind.value} for fault in listing.faults],
        }, headers=NO_STORE)


def _client(request: Request) -> ClientId:
    return ClientId(request.query_params.get("client", ""))


def _no_such(client: ClientId) -> Problem:
    return Problem(404, f"There is no client {client[:64]!r} with a CRM", "Name one whose file has [client.crm].")
