"""Who may ask: OAuth 2.0 codes and rotating tokens of the stand-in's accounts, and long-lived tokens."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field, replace

import jwt

from b2bua.sandbox.seed import API_HOST, DOMAIN, SeedIntegration

CODE_SECONDS = 20 * 60
ACCESS_SECONDS = 24 * 3_600
REFRESH_SECONDS = 90 * 24 * 3_600
MOST_TOKENS = 10_000                   # of each kind; the oldest are forgotten
_SCOPES = ["push_notifications", "files", "crm", "files_delete", "notifications"]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token or a code stands for."""

    account: int
    client_id: str
    user: int
    is_admin: bool                     # when it was given: that of an administrator outlives its user
    expires_at: float | None = None    # None: never
    is_refresh: bool = False


class TokenRefused(Exception):
    """`hint` is what amoCRM's answer says."""

    def __init__(self, status: int, hint: str) -> None:
        super().__init__(hint)
        self.status = status
        self.hint = hint


@dataclass(slots=True)
class Tokens:
    """All tokens of the sandbox."""

    integrations: dict[str, SeedIntegration] = field(default_factory=dict)
    _live: OrderedDict[str, Grant] = field(default_factory=OrderedDict)
    _codes: OrderedDict[str, Grant] = field(default_factory=OrderedDict)
    _pairs: dict[str, str] = field(default_factory=dict)       # refresh token -> its access token
    _key: str = field(default_factory=lambda: secrets.token_hex(32))

    def add_integration(self, integration: SeedIntegration, grant: Grant, now: float) -> None:
        """`grant`: of the tokens and the code that the seed gives it."""
        self.integrations[integration.client_id] = integration
        if integration.token:
            self._keep(integration.token, grant)
        if integration.code is not None:
            self.keep_code(integration.code, grant, now)

    def issue_code(self, grant: Grant, now: float) -> str:
        code = "def50200" + secrets.token_hex(300)
        self.keep_code(code, grant, now)
        return code

    def keep_code(self, code: str, grant: Grant, now: float) -> None:
        self._codes[code] = replace(grant, expires_at=now + CODE_SECONDS)
        while len(self._codes) > MOST_TOKENS:
            self._codes.popitem(last=False)

    def issue_long_lived(self, grant: Grant, now: float, seconds: float) -> str:
        """From the integration's keys: it cannot be refreshed."""
        token = self._jwt(grant, now, seconds, API_HOST)
        self._keep(token, replace(grant, expires_at=now + seconds))
        return token

    def open_session(self, grant: Grant) -> str:
        """For a browser's cookie."""
        session = secrets.token_hex(16)
        self._keep(session, grant)
        return session

    def grant_of(self, token: str, now: float) -> Grant | None:
        grant = self._live.get(token)
        return grant if grant is not None and not grant.is_refresh and _is_good(grant, now) else None

    def grant_of_refresh(self, token: str, now: float) -> Grant | None:
        grant = self._live.get(token)
        return grant if grant is not None and grant.is_refresh and _is_good(grant, now) else None

    def is_external(self, client_id: str) -> bool:
        return client_id in self.integrations and self.integrations[client_id].is_external

    def revoke(self, client_id: str, account: int | None = None) -> None:
        """The integration was switched off, in that account or in all."""
        for kept in (self._live, self._codes):
            for token in [token for token, grant in kept.items() if grant.client_id == client_id]:
                if account in (None, kept[token].account):
                    del kept[token]

    def exchange(
        self, request: dict[str, str], now: float, *, account: int | None = None, api_domain: str = API_HOST,
        wrong_client: int = 400,
    ) -> dict[str, object]:
        """The token endpoint, both grants. `account`: whose host was asked; `wrong_client`: the status of a wrong id
        or secret. Raises TokenRefused."""
        integration = self.integrations.get(request.get("client_id", ""))
        if integration is None or not secrets.compare_digest(
            integration.client_secret.encode(), request.get("client_secret", "").encode()
        ):
            raise TokenRefused(wrong_client, "Client authentication failed")
        if request.get("redirect_uri") != integration.redirect_uri:
            raise TokenRefused(400, "Check the redirect_uri parameter")
        match request.get("grant_type"):
            case "authorization_code":
                kept, given = self._codes, request.get("code", "")
                gone = TokenRefused(400, "Authorization code has been revoked")
            case "refresh_token":
                kept, given = self._live, request.get("refresh_token", "")
                gone = TokenRefused(401, "Token has been revoked")
            case _:
                raise TokenRefused(400, "Check the grant_type parameter")
        grant = kept.get(given)
        if (
            grant is None or grant.is_refresh != (kept is self._live) or grant.client_id != integration.client_id
            or account not in (None, grant.account) or not _is_good(grant, now)
        ):
            raise gone
        del kept[given]
        self._live.pop(self._pairs.pop(given, ""), None)
        return self._pair(replace(grant, expires_at=None, is_refresh=False), now, api_domain)

    def _pair(self, grant: Grant, now: float, api_domain: str) -> dict[str, object]:
        refresh = "def50200" + secrets.token_hex(400)
        access = self._jwt(grant, now, ACCESS_SECONDS, api_domain)
        self._keep(access, replace(grant, expires_at=now + ACCESS_SECONDS))
        self._keep(refresh, replace(grant, expires_at=now + REFRESH_SECONDS, is_refresh=True))
        self._pairs[refresh] = access
        return {
            "token_type": "Bearer", "expires_in": ACCESS_SECONDS, "server_time": int(now),
            "access_token": access, "refresh_token": refresh,
        }

    def _jwt(self, grant: Grant, now: float, seconds: float, api_domain: str) -> str:
        claims = {
            "aud": grant.client_id, "jti": secrets.token_hex(40), "iat": int(now), "nbf": int(now),
            "exp": int(now + seconds), "sub": str(grant.user), "grant_type": "", "account_id": grant.account,
            "base_domain": DOMAIN, "version": 2, "scopes": _SCOPES, "api_domain": api_domain,
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    def _keep(self, token: str, grant: Grant) -> None:
        self._live[token] = grant
        while len(self._live) > MOST_TOKENS:
            gone, _ = self._live.popitem(last=False)
            self._pairs.pop(gone, None)


def _is_good(grant: Grant, now: float) -> bool:
    return grant.expires_at is None or now < grant.expires_at
