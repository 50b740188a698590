"""What the stand-in sends to other servers: the install and disconnect hooks of integrations, and webhooks."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

import httpx

HOOK_SECONDS = 3.0                     # they are never repeated


@dataclass(slots=True)
class Outgoing:
    """`transport`: a test's, in place of the network."""

    transport: httpx.AsyncBaseTransport | None = None

    async def get(self, url: str, query: dict[str, str]) -> int | None:
        """The status, or None when none came in time."""
        merged = httpx.URL(url).copy_merge_params(query)
        return await self._send(httpx.Request("GET", merged), HOOK_SECONDS)

    async def post_form(self, url: str, body: bytes, seconds: float) -> int | None:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "amoCRM-Webhooks/3.0"}
        return await self._send(httpx.Request("POST", url, content=body, headers=headers), seconds)

    async def _send(self, request: httpx.Request, seconds: float) -> int | None:
        request.extensions["timeout"] = httpx.Timeout(seconds).as_dict()
        # A stand-in calls servers with certificates of a test's own CA.
        transport = self.transport or httpx.AsyncHTTPTransport(verify=False)
        try:
            answer = await transport.handle_async_request(request)
            await answer.aclose()
        except (httpx.TransportError, httpx.InvalidURL):
            return None
        finally:
            if self.transport is None:
                await transport.aclose()
        return answer.status_code


def disconnect_signature(client_secret: str, client_uuid: str, account_id: int) -> str:
    message = f"{client_uuid}|{account_id}".encode()
    return hmac.new(client_secret.encode(), message, hashlib.sha256).hexdigest()
