"""Who asks from a page of the CRM: the widget's disposable tokens (X-Auth-Token), believed when their signature is that
of an integration of ours, and everything that they say fits its account."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jwt

from b2bua.cdr import ClientId
from b2bua.crm.widget_account import WidgetAccount, origin_of

LONGEST_TOKEN = 4_096                  # characters
LEEWAY = 60                            # seconds that clocks may differ
MOST_KEYS = 4                          # of one integration that are tried: clients who share it have the same
LARGEST_ID = 2**63 - 1
CLAIMS = ("iss", "aud", "exp", "nbf", "account_id", "user_id", "client_uuid")


class WidgetAccounts(Protocol):
    """All of these answer from memory."""

    def widget_accounts(self, integration: str) -> Sequence[WidgetAccount]:
        """Of the clients with this integration."""
        ...

    def has_page_at(self, origin: str) -> bool:
        """Whether it is that of an account which is connected."""
        ...

    def seen_elsewhere(self, client: ClientId) -> None:
        """A page of the client's account is at another address of the vendor's than we know."""
        ...

    def is_entered(self, client: ClientId) -> bool:
        """Whether we hold the means to enter the client's account, and they work."""
        ...


class TokenRefused(Exception):
    """`code` is that of the problem; the rest is for the log."""

    def __init__(self, code: str, why: str):
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, slots=True)
class Visitor:
    """What a token proves."""

    account: int                       # id in the CRM
    user: int
    is_admin: bool | None              # None: the CRM does not say
    client: ClientId | None            # whose the account is; None: not connected yet
    may_be: frozenset[ClientId]        # to whom a password may connect it


class WidgetTokens:
    def __init__(self, accounts: WidgetAccounts, ours: str, clock: Callable[[], float] = time.time) -> None:
        """`ours`: scheme and host of this server, where an integration names no address of its own."""
        self._accounts = accounts
        self._ours = ours
        self._clock = clock

    def read(self, token: str, page: str) -> Visitor:
        """`page`: the origin that the browser tells; "" when it tells none. Raises TokenRefused."""
        if not token:
            raise TokenRefused("token_missing", "there is none")
        if len(token) > LONGEST_TOKEN:
            raise TokenRefused("token_invalid", "it is too long")
        named = _unchecked(token).get("client_uuid")
        known = self._accounts.widget_accounts(named) if isinstance(named, str) and named else ()
        claims, accounts = self._checked(token, known)
        origin = origin_of(claims["iss"]) if isinstance(claims["iss"], str) else ""
        if not origin or page not in ("", origin):
            raise TokenRefused("token_invalid", "its account has other pages")
        visitor = _visitor(claims, origin, accounts)
        if isinstance(visitor, Visitor):
            return visitor
        self._accounts.seen_elsewhere(visitor)
        raise TokenRefused("token_elsewhere", f"{visitor} has its pages at {origin}")

    def _checked(self, token: str, known: Iterable[WidgetAccount]) -> tuple[dict[str, Any], list[WidgetAccount]]:
        """What it says, and the accounts whose integration has signed it."""
        keys: dict[tuple[str, str], list[WidgetAccount]] = {}
        for one in known:
            keys.setdefault((one.secret, one.audience or self._ours), []).append(one)
        why = TokenRefused("token_invalid", "it is of no integration of ours")
        for (secret, audience), accounts in list(keys.items())[:MOST_KEYS]:
            try:
                claims = jwt.decode(token, secret, algorithms=["HS256"], audience=audience,
                                    options={"require": list(CLAIMS), "verify_exp": False, "verify_nbf": False,
                                             "verify_iat": False})
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
                why = TokenRefused("token_invalid", str(error))
                continue
            self._check_times(claims)
            return claims, accounts
        raise why

    def _check_times(self, claims: dict[str, Any]) -> None:
        now, begins, ends = self._clock(), claims["nbf"], claims["exp"]
        if not isinstance(begins, int | float) or not isinstance(ends, int | float):
            raise TokenRefused("token_invalid", "it has no times")
        if not begins - LEEWAY <= now:
            raise TokenRefused("token_invalid", "it is not valid yet: do the clocks differ?")
        if not now < ends + LEEWAY:
            raise TokenRefused("token_expired", "it has ended")


def _unchecked(token: str) -> dict[str, Any]:
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise TokenRefused("token_invalid", "it is none") from error
    return claims


def _visitor(claims: dict[str, Any], origin: str, accounts: Sequence[WidgetAccount]) -> Visitor | ClientId:
    """A client alone: its account is known, and at another address."""
    account, user, is_admin = claims["account_id"], claims["user_id"], claims.get("is_admin")
    if not _is_id(account) or not _is_id(user):
        raise TokenRefused("token_invalid", "account or user is no number")
    there = [one for one in accounts if origin in one.origins]
    own = [one for one in there if one.account == account]
    if not own and (moved := [one for one in accounts if one.account == account]):
        return moved[0].client
    if not own and there and all(one.account is not None for one in there):
        raise TokenRefused("token_invalid", "another account is there")
    may_be = frozenset(one.client for one in there if one.account in (None, account))
    return Visitor(account, user, is_admin if isinstance(is_admin, bool) else None,
                   own[0].client if own else None, may_be)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_ID
