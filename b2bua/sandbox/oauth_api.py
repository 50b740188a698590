"""`POST /oauth2/access_token` of the stand-in, as JSON and as a form."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox.answers import as_json, form_fields
from b2bua.sandbox.state import SandboxState
from b2bua.sandbox.tokens import TokenRefused

_PROBLEM = "https://developers.amocrm.ru/v3/errors/OAuthProblemJson"


async def access_token(request: Request) -> Response:
    state: SandboxState = request.app.state.sandbox
    try:
        answer = state.tokens.exchange(_fields(await request.body()), state.clock.now())
    except TokenRefused as refused:
        body = {"hint": refused.hint, "title": "Unauthorized" if refused.status == 401 else "Bad Request",
                "type": _PROBLEM, "status": refused.status, "detail": refused.hint}
        return Response(as_json(body), refused.status, media_type="application/problem+json")
    return Response(as_json(answer), media_type="application/json")


def _fields(body: bytes) -> dict[str, str]:
    """The vendor's library posts a form, its documentation JSON."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return dict(form_fields(body))
    return {str(name): str(value) for name, value in fields.items()} if isinstance(fields, dict) else {}
