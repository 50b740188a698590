"""Passwords held against their hashes: off the loop, a few at once, and as long for who is not there."""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from web.problems import Problem

LONGEST_PASSWORD = 1_024               # characters; argon2 would hash more, for whoever likes to keep us busy
CHECKS_AT_ONCE = 2                     # each takes 64 MB and a core for some 50 ms
CHECKS_WAITING = 20                    # further ones are turned away

# What the password of somebody is held against who has none, or is not there: nobody knows what it is the hash of.
_NOBODYS = "$argon2id$v=19$m=65536,t=3,p=4$ea/U+2DK9IJfrVZ0hAgMXQ$Ovjv41H7OD8mM2DHXD0uufMo9Fq7QLH0Y9qa0PO7mH4"


class Passwords:
    def __init__(self) -> None:
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._checking = 0

    async def is_right(self, hashed: str, password: str) -> bool:
        """`hashed` may be "": nothing is right then. Raises Problem: too many are being checked."""
        if self._checking >= CHECKS_AT_ONCE + CHECKS_WAITING:
            raise Problem(503, "Too many people sign in at once", "Try again in a few seconds.", retry_after=3,
                          code="unavailable")
        self._checking += 1
        try:
            async with self._checks:
                right = await asyncio.to_thread(_verify, hashed or _NOBODYS, password[:LONGEST_PASSWORD])
                return right and bool(hashed)
        finally:
            self._checking -= 1


def _verify(hashed: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False
