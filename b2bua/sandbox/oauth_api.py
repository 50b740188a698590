"""OAuth 2.0 of the stand-in: consent page, token endpoint, and where an account has moved to."""

from __future__ import annotations

from html import escape
from urllib.parse import urlencode

import httpx
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from b2bua.sandbox.account import Account
from b2bua.sandbox.answers import Refused, as_json, form_fields, number_in, parsed
from b2bua.sandbox.hosts import HostKind, host_of
from b2bua.sandbox.seed import DOMAIN
from b2bua.sandbox.state import SandboxState
from b2bua.sandbox.switches import Consent
from b2bua.sandbox.tokens import TokenRefused

_PROBLEM = "https://developers.amocrm.ru/v3/errors/OAuthProblemJson"
_PLATFORM = "1"                        # amocrm.ru


async def access_token(request: Request) -> Response:
    state: SandboxState = request.app.state.sandbox
    host = host_of(state, request.scope)
    try:
        answer = state.tokens.exchange(
            await _fields(request), state.clock.now(), account=host.account.id if host.account is not None else None,
            api_domain=host.api_domain, wrong_client=state.switches.wrong_client_status,
        )
    except TokenRefused as refused:
        return _refusal(refused)
    return Response(as_json(answer), media_type="application/json")


async def current_subdomain(request: Request) -> Response:
    """Of the account that a refresh token is for, which stays good. Only the API's own host tells."""
    state: SandboxState = request.app.state.sandbox
    if not host_of(state, request.scope).stands_for(HostKind.API):
        raise Refused(404, "Not found")
    grant = state.tokens.grant_of_refresh(request.headers.get("x-refresh-token", ""), state.clock.now())
    if grant is None:
        return _refusal(TokenRefused(401, "Token has been revoked"))
    account = state.accounts[grant.account]
    body = {
        "id": account.id, "subdomain": account.subdomain, "domain": state.host_of(account),
        "top_level_domain": DOMAIN.rpartition(".")[2],
    }
    return Response(as_json(body), media_type="application/json")


async def consent(request: Request) -> Response:
    """`account` and `user` may be said; by default the first account and its first administrator."""
    state: SandboxState = request.app.state.sandbox
    asked = request.query_params
    integration = state.tokens.integrations.get(asked.get("client_id", ""))
    if not host_of(state, request.scope).stands_for(HostKind.WWW):
        raise Refused(404, "Not found")
    if integration is None:
        raise Refused(400, "Unknown client_id")
    account = _account(state, asked.get("account"))
    decision = asked.get("decision", state.switches.consent.value)
    said = {"state": asked["state"]} if "state" in asked else {}
    if decision == Consent.DENY.value:
        said["error"] = "access_denied"
    elif decision == Consent.GRANT.value:
        grant = state.grant(account, integration.client_id, number_in(asked.get("user", "")))
        said["code"] = state.tokens.issue_code(grant, state.clock.now())
        said |= {"referer": state.host_of(account), "platform": _PLATFORM}
    else:
        return _page(request, account)
    return RedirectResponse(str(httpx.URL(integration.redirect_uri).copy_merge_params(said)), 302)


def _account(state: SandboxState, subdomain: str | None) -> Account:
    """Raises Refused."""
    if subdomain is not None and subdomain not in [account.subdomain for account in state.accounts.values()]:
        raise Refused(400, "Unknown account")
    return state.account(subdomain)


def _page(request: Request, account: Account) -> Response:
    def link(decision: str, text: str) -> str:
        query = urlencode({**request.query_params, "account": account.subdomain, "decision": decision})
        return f'<p><a href="/oauth?{escape(query)}">{text}</a></p>'

    return HTMLResponse(
        '<!doctype html><html lang="ru"><head><meta charset="utf-8"><title>Доступ к amoCRM (песочница)</title></head>'
        f"<body><h1>Предоставить доступ к аккаунту «{escape(account.name)}»?</h1>"
        f"{link('grant', 'Разрешить')}{link('deny', 'Отказать')}</body></html>",
        headers={"Content-Security-Policy": "default-src 'none'; base-uri 'none'"},
    )


def _refusal(refused: TokenRefused) -> Response:
    title = "Unauthorized" if refused.status == 401 else "Bad Request"
    body = {
        "hint": refused.hint, "title": title, "type": _PROBLEM, "status": refused.status, "detail": refused.hint,
    }
    return Response(as_json(body), refused.status, media_type="application/problem+json")


async def _fields(request: Request) -> dict[str, str]:
    """The vendor's library posts a form, its documentation JSON. Raises Refused."""
    body, kind = await request.body(), request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return dict(form_fields(body))
    if kind != "application/json":
        raise Refused(400, "Content-Type must be application/json")
    try:
        fields = parsed(body)
    except (ValueError, RecursionError):
        raise Refused(400, "Request body is not JSON") from None
    return {str(name): str(value) for name, value in fields.items()} if isinstance(fields, dict) else {}
