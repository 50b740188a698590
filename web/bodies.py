"""Bodies of requests: no larger, and no slower, than is said."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

BODY_SECONDS = 10.0                    # for a browser to send them


class TooLarge(Exception):
    """More bytes came than may."""


async def body_of(request: Request, most: int) -> bytes:
    """Raises TooLarge, TimeoutError, ClientDisconnect."""
    body = bytearray()
    async with asyncio.timeout(BODY_SECONDS):
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise TooLarge
    return bytes(body)
