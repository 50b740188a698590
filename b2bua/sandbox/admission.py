"""Who may pass to a handler of the API: host, block, token, payment, rate, in this order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from b2bua.sandbox.account import Account
from b2bua.sandbox.answers import Caller, problem
from b2bua.sandbox.hosts import Host, HostKind, host_of
from b2bua.sandbox.presets import BLOCKED
from b2bua.sandbox.rate import Rate
from b2bua.sandbox.state import SandboxState
from b2bua.sandbox.tokens import Grant

SESSION_COOKIE = "session_id"
NO_SUCH_ACCOUNT = 101


@dataclass(frozen=True, slots=True)
class Visitor:
    """What a request says of itself, before anything is checked."""

    host: Host
    grant: Grant | None
    account: Account | None            # the Host's, else the token's


def visitor_of(state: SandboxState, scope: Scope) -> Visitor:
    host, headers = host_of(state, scope), Headers(scope=scope)
    kind, _, token = headers.get("authorization", "").partition(" ")
    if "authorization" not in headers:
        kind, token = "bearer", _session(headers.get("cookie", ""))
    grant = state.tokens.grant_of(token.strip(), state.clock.now()) if kind.lower() == "bearer" else None
    owned = state.accounts.get(grant.account) if grant is not None else None
    return Visitor(host, grant, host.account or owned)


def admitted(state: SandboxState, rate: Rate, scope: Scope, visitor: Visitor) -> Caller | Response | None:
    """The caller, a refusal, or None for what is not of the API and passes without a token."""
    if rate.is_blocked:
        return Response(BLOCKED, 403, media_type="text/html")
    if visitor.host.kind is HostKind.MOVED:
        return problem(state.switches.old_host_status, "Account not found")
    is_api = scope["path"].startswith("/api/")
    if visitor.host.kind is HostKind.UNKNOWN or (is_api and not visitor.host.stands_for(HostKind.ACCOUNT)):
        return problem(401, "Account not found", {"error_code": NO_SUCH_ACCOUNT})
    if not is_api:
        return None
    grant, account = visitor.grant, visitor.account
    if grant is None or account is None:
        return problem(401, "Wrong or expired token")
    if account.id != grant.account:
        return problem(401, "The token is not of this account")
    caller = _caller(state, scope, account, grant)
    if caller is None:
        return problem(401, "The user is refused")
    if not state.switches.is_paid:
        return problem(402, "Account is not paid")
    return _limited(state, rate, scope, grant) or caller


def _session(cookies: str) -> str:
    """Of a browser, which has no token."""
    try:
        parsed = SimpleCookie(cookies)
    except CookieError:
        return ""
    return parsed[SESSION_COOKIE].value if SESSION_COOKIE in parsed else ""


def _caller(state: SandboxState, scope: Scope, account: Account, grant: Grant) -> Caller | None:
    """An administrator's token outlives its user, and may act for others; None: refused."""
    headers = Headers(scope=scope)
    base_url = f"{scope.get('scheme', 'http')}://{headers.get('host', 'localhost')}"
    user = account.users.get(grant.user)
    if user is None or not user.is_active:
        if not grant.is_admin:
            return None
        is_admin = True
    else:
        is_admin = user.is_admin
    wanted = headers.get("x-context-user-id")
    if wanted is None:
        return Caller(state, account, grant.user, is_admin, base_url, grant.client_id)
    other = account.users.get(int(wanted)) if wanted.isascii() and wanted.isdecimal() and len(wanted) < 15 else None
    if not is_admin or other is None or not other.is_active:
        return None
    return Caller(state, account, other.id, other.is_admin, base_url, grant.client_id)


def _limited(state: SandboxState, rate: Rate, scope: Scope, grant: Grant) -> Response | None:
    now, switches = asyncio.get_running_loop().time(), state.switches
    client = scope.get("client")
    who = client[0] if switches.limit_by_address and client else (grant.client_id, grant.account)
    by_integration, by_account = rate.count(who, grant.account, now)
    if switches.only_report_rate or (
        by_integration <= (switches.per_second or by_integration)
        and by_account <= (switches.account_per_second or by_account)
    ):
        return None
    rate.offend(now, switches.block_after)
    if switches.limited_as_text:
        return Response("Too many requests", 429, media_type="text/plain")
    said = {} if switches.retry_after is None else {"retry_after": switches.retry_after}
    return problem(429, "Too many requests", said)
