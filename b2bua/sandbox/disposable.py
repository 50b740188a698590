"""The widget's disposable tokens (`X-Auth-Token`), signed with the integration's secret, and wrong ones."""

from __future__ import annotations

import secrets
from enum import Enum
from urllib.parse import urlsplit

import jwt

from b2bua.sandbox.account import Account
from b2bua.sandbox.seed import DOMAIN, SeedIntegration

LIFETIME = 1_800


class TokenKind(Enum):
    RIGHT = "right"
    OTHER_SECRET = "other_secret"      # noqa: S105  (not one)
    UNSIGNED = "none"                  # algorithm "none"
    HS512 = "hs512"
    EXPIRED = "expired"
    NOT_YET = "not_yet"
    OTHER_AUDIENCE = "other_aud"
    OTHER_ACCOUNT = "other_account"
    OTHER_CLIENT = "other_client"
    OTHER_HOST = "other_iss"


def mint(
    account: Account, integration: SeedIntegration, user: int, now: float, kind: TokenKind = TokenKind.RIGHT
) -> str:
    """As amoCRM's page gives it to the widget of that user."""
    if kind is TokenKind.EXPIRED:
        now -= 2 * LIFETIME
    if kind is TokenKind.NOT_YET:
        now += 2 * LIFETIME
    site = urlsplit(integration.redirect_uri)
    known = account.users.get(user)
    claims: dict[str, object] = {
        "iss": f"https://{account.subdomain}.{DOMAIN}", "aud": f"{site.scheme}://{site.netloc}",
        "jti": secrets.token_hex(16), "iat": int(now), "nbf": int(now), "exp": int(now) + LIFETIME,
        "account_id": account.id, "user_id": user, "subdomain": account.subdomain,
        "client_uuid": integration.client_id, "is_admin": known is not None and known.is_admin,
    }
    match kind:
        case TokenKind.OTHER_AUDIENCE:
            claims["aud"] = "https://elsewhere.example.org"
        case TokenKind.OTHER_ACCOUNT:
            claims["account_id"] = account.id + 1
        case TokenKind.OTHER_CLIENT:
            claims["client_uuid"] = "another-integration"
        case TokenKind.OTHER_HOST:
            claims["iss"] = f"https://evil.{DOMAIN}"
    if kind is TokenKind.UNSIGNED:
        return jwt.encode(claims, "", algorithm="none")
    secret = secrets.token_hex(32) if kind is TokenKind.OTHER_SECRET else integration.client_secret
    return jwt.encode(claims, secret, algorithm="HS512" if kind is TokenKind.HS512 else "HS256")
