"""How requests get into an account: where it is, and with which token."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import jwt

from b2bua.crm.port import CrmUnauthorized

FIRST_REST, LONGEST_REST = 15.0, 900.0     # seconds without a request after the only token was refused; doubled

_ANOTHER = ("the long-lived token is refused: make another one in the integration, and apply it, with the new address "
            "of the account if it has moved")


@dataclass(frozen=True, slots=True)
class Access:
    base_url: str                      # "https://acme.amocrm.ru"
    token: str = field(repr=False)


class TokenSource(Protocol):
    """One account's. Both methods may raise CrmUnauthorized, a person has to act, and CrmUnavailable, again later."""

    async def current(self) -> Access:
        """For the next request; answers from memory."""
        ...

    async def refused(self, access: Access) -> Access:
        """The CRM answered 401 to this one, or knows no such account there: another one, to ask once more with."""
        ...

    @property
    def trouble(self) -> str:
        """What a person must see to, and no stored state tells; "" when nothing."""
        ...


class LongLivedToken:
    """A token that nobody renews. While it is refused, a request now and then finds out whether it still is."""

    def __init__(self, base_url: str, token: str) -> None:
        self._access = Access(base_url.rstrip("/"), token)
        self._rests_until = 0.0
        self._next_rest = FIRST_REST

    async def current(self) -> Access:
        if asyncio.get_running_loop().time() < self._rests_until:
            raise CrmUnauthorized(_ANOTHER)
        return self._access

    async def refused(self, access: Access) -> Access:
        now = asyncio.get_running_loop().time()
        if now > self._rests_until + LONGEST_REST:
            self._next_rest = FIRST_REST
        if now >= self._rests_until:   # of several requests under way one tells
            self._rests_until = now + self._next_rest
            self._next_rest = min(2 * self._next_rest, LONGEST_REST)
        raise CrmUnauthorized(_ANOTHER)

    @property
    def trouble(self) -> str:
        """It is not told of successes: the last refusal is forgotten after the longest rest."""
        is_recent = asyncio.get_running_loop().time() < self._rests_until + LONGEST_REST
        return _ANOTHER if self._rests_until and is_recent else ""


class Locked:
    """The secrets of an account that are sealed with a key that is not here."""

    async def current(self) -> Access:
        raise CrmUnauthorized("its secrets are locked: see smartswitch crm status")

    async def refused(self, access: Access) -> Access:
        return await self.current()

    @property
    def trouble(self) -> str:
        """Its state tells."""
        return ""


def claims_of(token: str) -> dict[str, Any]:
    """What a token says of itself, unchecked: amoCRM has told it to us over TLS. {} when it is none that tells."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def expiry_of(token: str) -> datetime | None:
    """When a token ends by its own word."""
    try:
        return datetime.fromtimestamp(float(claims_of(token)["exp"]), UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
