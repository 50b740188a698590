"""Who may ask: OAuth 2.0 codes and rotating tokens of a stand-in account, and long-lived tokens."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

import jwt

from b2bua.sandbox.seed import SeedIntegration

CODE_SECONDS = 20 * 60
ACCESS_SECONDS = 24 * 3_600
REFRESH_SECONDS = 90 * 24 * 3_600
MOST_TOKENS = 10_000                   # of each kind; the oldest are forgotten


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token stands for."""

    account: int
    client_id: str
    user: int
    expires_at: float | None           # None: long-lived
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

    _integrations: dict[str, SeedIntegration] = field(default_factory=dict)
    _live: OrderedDict[str, Grant] = field(default_factory=OrderedDict)
    _codes: dict[str, Grant] = field(default_factory=dict)
    _pairs: dict[str, str] = field(default_factory=dict)       # refresh token -> its access token
    _key: str = field(default_factory=lambda: secrets.token_hex(32))

    def add_integration(self, integration: SeedIntegration, account: int, user: int, now: float) -> None:
        self._integrations[integration.client_id] = integration
        if integration.token:
            self._keep(integration.token, Grant(account, integration.client_id, user, None))
        if integration.code is not None:
            self._codes[integration.code] = Grant(account, integration.client_id, user, now + CODE_SECONDS)

    def grant_of(self, token: str, now: float) -> Grant | None:
        grant = self._live.get(token)
        if grant is None or grant.is_refresh or (grant.expires_at is not None and now >= grant.expires_at):
            return None
        return grant

    def revoke(self, client_id: str) -> None:
        """The integration was switched off."""
        for token in [token for token, grant in self._live.items() if grant.client_id == client_id]:
            del self._live[token]

    def exchange(self, request: dict[str, str], now: float) -> dict[str, object]:
        """The token endpoint, both grants. Raises TokenRefused."""
        integration = self._integrations.get(request.get("client_id", ""))
        if integration is None or not secrets.compare_digest(
            integration.client_secret.encode(), request.get("client_secret", "").encode()
        ):
            raise TokenRefused(401, "Client authentication failed")
        if request.get("redirect_uri") != integration.redirect_uri:
            raise TokenRefused(400, "Check the redirect_uri parameter")
        match request.get("grant_type"):
            case "authorization_code":
                grant = self._codes.pop(request.get("code", ""), None)
                gone = TokenRefused(400, "Authorization code has expired or was used")
            case "refresh_token":
                refresh = request.get("refresh_token", "")
                grant = self._live.pop(refresh, None)
                self._live.pop(self._pairs.pop(refresh, ""), None)
                gone = TokenRefused(401, "Token has been revoked")
            case _:
                raise TokenRefused(400, "Check the grant_type parameter")
        if grant is None or grant.client_id != integration.client_id or (grant.expires_at or 0) <= now:
            raise gone
        return self._pair(grant, now)

    def _pair(self, grant: Grant, now: float) -> dict[str, object]:
        refresh = "def50200" + secrets.token_hex(64)
        access = jwt.encode(
            {"aud": grant.client_id, "jti": secrets.token_hex(16), "iat": int(now), "nbf": int(now),
             "exp": int(now) + ACCESS_SECONDS, "sub": str(grant.user), "account_id": grant.account, "scopes": ["crm"]},
            self._key, algorithm="HS256",
        )
        self._keep(access, Grant(grant.account, grant.client_id, grant.user, now + ACCESS_SECONDS))
        self._keep(refresh, Grant(grant.account, grant.client_id, grant.user, now + REFRESH_SECONDS, is_refresh=True))
        self._pairs[refresh] = access
        return {
            "token_type": "Bearer", "expires_in": ACCESS_SECONDS, "server_time": int(now),
            "access_token": access, "refresh_token": refresh,
        }

    def _keep(self, token: str, grant: Grant) -> None:
        self._live[token] = grant
        while len(self._live) > MOST_TOKENS:
            gone, _ = self._live.popitem(last=False)
            self._pairs.pop(gone, None)
