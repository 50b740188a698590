"""amoCRM's token endpoint (RFC 6749): pairs of tokens for codes and refresh tokens, and where an account has moved."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit

import httpx
import structlog

from b2bua.cdr import ClientId
from b2bua.crm.amocrm.access import claims_of
from b2bua.crm.amocrm.api import CONNECT_SECONDS, USER_AGENT
from b2bua.crm.amocrm.rows import as_row, integer, text
from b2bua.crm.vendor import VENDOR

EXCHANGE_SECONDS = 15.0                # for an answer of the token endpoint, all of it
WHEREABOUTS_SECONDS = 10.0
LARGEST_ANSWER = 64 * 1024             # bytes; tokens are some 1000 characters each
LONGEST_TOKEN = 16 * 1024
SHORTEST_LIFE, LONGEST_LIFE = 300.0, 30 * 86_400.0     # seconds that we believe of an access token
UNPAID_PAUSE, BLOCK_PAUSE, CROWDED_PAUSE = 3_600.0, 900.0, 60.0        # 402, 403, 429 without a time
_NAME = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){2,8}")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Integration:
    """A client's, as the settings have it."""

    client: ClientId
    base_url: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str


@dataclass(frozen=True, slots=True)
class Granted:
    access: str = field(repr=False)
    refresh: str = field(repr=False)
    seconds: float                     # the life of the access token, by no clock but ours
    account: int | None
    api_domain: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer that leaves no doubt: not with this code or token, or not at this address."""

    why: str


@dataclass(frozen=True, slots=True)
class NotNow:
    """Nothing was spent: we did not get through, or were sent away at the door."""

    why: str
    seconds: float = 0.0               # to wait, if the CRM says so


@dataclass(frozen=True, slots=True)
class Lost:
    """It may have been carried out: what was sent may be spent."""

    why: str


Answer = Granted | Refused | NotNow | Lost


class TokenEndpoint:
    """An async context manager. Its answers are values; nothing of what the network does is raised."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = httpx.AsyncClient(
            headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
            limits=httpx.Limits(max_connections=20, max_keepalive_connections=0),   # rare: no connection waits so long
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
            follow_redirects=False, trust_env=False, transport=transport,
        )

    async def __aenter__(self) -> TokenEndpoint:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def exchange(self, base_url: str, integration: Integration, code: str) -> Answer:
        return await self._ask(base_url, integration, {"grant_type": "authorization_code", "code": code})

    async def refresh(self, base_url: str, integration: Integration, token: str) -> Answer:
        return await self._ask(base_url, integration, {"grant_type": "refresh_token", "refresh_token": token})

    async def whereabouts(self, api_domain: str, token: str, known: str) -> str | None:
        """Where the account of this refresh token is now; None when that cannot be told. `known`: where it was."""
        if not is_trusted(api_domain, known):
            return None
        request = self._http.build_request(
            "GET", f"{url_of(api_domain, known)}/oauth2/account/current/subdomain", headers={"X-Refresh-Token": token})
        try:
            status, raw = await self._answer(request, WHEREABOUTS_SECONDS)
        except (httpx.HTTPError, OSError) as error:
            log.warning("where the account has moved to cannot be asked", at=api_domain, why=_named(error))
            return None
        domain = text(as_row(_parsed(raw)), "domain").lower() if status == 200 else ""
        return url_of(domain, known) if domain and is_trusted(domain, known) else None

    async def _ask(self, base_url: str, integration: Integration, grant: dict[str, str]) -> Answer:
        body = {"client_id": integration.client_id, "client_secret": integration.client_secret, **grant,
                "redirect_uri": integration.redirect_uri}
        request = self._http.build_request("POST", f"{base_url}/oauth2/access_token", json=body)
        try:
            status, raw = await self._answer(request, EXCHANGE_SECONDS)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            return NotNow(_named(error))
        except (httpx.HTTPError, OSError) as error:        # TimeoutError is an OSError
            return Lost(_named(error))
        return _judged(status, _parsed(raw))

    async def _answer(self, request: httpx.Request, seconds: float) -> tuple[int, bytes]:
        async with asyncio.timeout(seconds):
            response = await self._http.send(request, stream=True)
            try:
                raw = bytearray()
                async for chunk in response.aiter_bytes():
                    raw += chunk
                    if len(raw) > LARGEST_ANSWER:
                        break
                return response.status_code, bytes(raw)
            finally:
                await response.aclose()


def _judged(status: int, body: object) -> Answer:
    row = as_row(body)
    said = f"{status} {text(row, 'hint') or text(row, 'detail') or text(row, 'title')}".strip()[:300]
    match status:
        case 200:
            return _granted(row)
        case 402:
            return NotNow(f"{said}: the account is not paid", UNPAID_PAUSE)
        case 403:
            return NotNow(f"{said}: amoCRM blocks us", BLOCK_PAUSE)
        case 429:
            return NotNow(said, float(min(max(integer(row, "retry_after") or 0, CROWDED_PAUSE), UNPAID_PAUSE)))
        case 408 | 425:
            return Lost(said)
        case _ if 300 <= status < 500:
            return Refused(said)
    return Lost(said)


def _granted(row: dict[str, object]) -> Granted | Lost:
    access, refresh = text(row, "access_token"), text(row, "refresh_token")
    if not (0 < len(access) <= LONGEST_TOKEN and 0 < len(refresh) <= LONGEST_TOKEN):
        return Lost("200 without tokens")
    claims = claims_of(access)
    seconds = float(integer(row, "expires_in") or 0)
    api_domain = text(claims, "api_domain").lower()
    return Granted(access, refresh, min(max(seconds, SHORTEST_LIFE), LONGEST_LIFE), integer(claims, "account_id"),
                   api_domain[:255] or None)


def is_trusted(host: str, known: str) -> bool:
    """Whether a host that we are told of may hear our secrets: the known account's own, its neighbours in that domain,
    and the vendor's. Beside a stand-in on this machine: whatever else is on it."""
    ours = urlsplit(known).netloc
    _, dot, domain = ours.partition(".")
    is_neighbour = bool(dot) and "." in domain and _NAME.fullmatch(host) is not None and host.endswith(f".{domain}")
    return host == ours or VENDOR.fullmatch(host) is not None or (is_neighbour and not _is_address(ours)) or (
        _is_loopback(known) and _is_loopback(f"http://{host}"))


def url_of(host: str, known: str) -> str:
    """Of a trusted host, which is reached as the known one."""
    return f"{urlsplit(known).scheme if _is_loopback(known) and _is_loopback(f'http://{host}') else 'https'}://{host}"


def consent_url(base_url: str) -> str:
    """Where a person allows an integration into an account: the vendor's page, or the stand-in's own."""
    host = urlsplit(base_url).hostname or ""
    if VENDOR.fullmatch(host) is None:
        return f"{base_url}/oauth"
    return f"https://www.{'.'.join(host.split('.')[-2:])}/oauth"


def _is_address(netloc: str) -> bool:
    try:
        ipaddress.ip_address(urlsplit(f"http://{netloc}").hostname or "")
    except ValueError:
        return False
    return True


def _is_loopback(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port                 # ValueError for what is no port
        return parts.hostname is not None and (
            parts.hostname == "localhost" or parts.hostname.endswith(".localhost")
            or ipaddress.ip_address(parts.hostname).is_loopback)
    except ValueError:
        return False


def _parsed(raw: bytes) -> object:
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _named(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()[:300]
