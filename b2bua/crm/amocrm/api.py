"""amoCRM's REST API v4 for one account: HTTP, its rate, and what each failure means to the switch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import httpx
import structlog

from b2bua.crm.amocrm.access import Access, TokenSource
from b2bua.crm.amocrm.gate import Gate, Lane
from b2bua.crm.amocrm.rows import Row, as_row, as_rows, embedded, integer, text
from b2bua.crm.health import Traffic
from b2bua.crm.port import CrmRejected, CrmShut, CrmUnauthorized, CrmUnavailable

USER_AGENT = "Smartswitch/0.1"
CONNECT_SECONDS = 3.0
LARGEST_BODY = 8 * 1024 * 1024         # 250 contacts with many fields stay well below
LONGEST_DETAIL = 500                   # characters of the CRM's words that reach a log
PAGE_SIZE = 250
MOST_PAGES = 10
UNPAID_PAUSE = 3_600.0                 # 402: asked again once an hour
BLOCK_PAUSE = 900.0                    # 403 without JSON: the account is blocked for its request rate
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0    # 429 without a time; doubled while it lasts
LONGEST_RETRY_AFTER = 3_600.0          # whatever the CRM says
_EVERYWHERE = frozenset({"/api/v4/account", "/api/v4/contacts", "/api/v4/companies", "/api/v4/leads", "/api/v4/calls"})
ADDRESS_REFUSED = 113                  # 403 with this code: the account's list of allowed addresses

log = structlog.get_logger(__name__)

Params = Sequence[tuple[str, str | int]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the CRM understood and answered: `body` is parsed JSON, None when there was none."""

    status: int
    body: object

    def accepted(self) -> object:
        """The body of a success; raises CrmRejected for a refusal."""
        if self.status >= 400:
            raise CrmRejected(f"{self.status}: {self.complaint()}")
        return self.body

    def row(self) -> Row:
        """The one thing that was asked for or changed; raises CrmUnavailable for JSON of another shape."""
        body = self.accepted()
        if not isinstance(body, dict) or not ("id" in body or "uid" in body):
            raise CrmUnavailable(f"{self.status}: the answer is no single thing")
        return body

    def rows(self, name: str) -> list[Row]:
        """Those of a list; none of an empty one (204). Raises CrmUnavailable for JSON of another shape, which says
        nothing about who is there."""
        body = self.accepted()
        if self.status == 204:
            return []
        if not isinstance(as_row(body).get("_embedded"), dict):
            raise CrmUnavailable(f"{self.status}: the answer is no list of {name}")
        return embedded(body, name)

    def complaint(self) -> str:
        """Why it was refused, in the CRM's words, bounded."""
        body = as_row(self.body)
        words = [text(body, "title"), text(body, "detail")]
        words += [f"{text(e, 'path')}: {text(e, 'detail') or text(e, 'code')}" for e in self.validation_errors()]
        words += [text(error, "title") or text(error, "detail") for error in as_rows(body.get("errors"))]
        return "; ".join(word for word in words if word)[:LONGEST_DETAIL] or "no reason given"

    def validation_errors(self) -> list[Row]:
        items = as_rows(as_row(self.body).get("validation-errors"))
        return [error for item in items for error in as_rows(item.get("errors"))]


class AmoApi:
    """An async context manager; every request may raise CrmUnavailable or CrmUnauthorized."""

    def __init__(self, tokens: TokenSource, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`transport`: another way to the server than the network."""
        self._tokens = tokens
        self._http = httpx.AsyncClient(
            transport=transport,
            headers={"User-Agent": USER_AGENT, "Accept": "application/hal+json"},
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=4),
            follow_redirects=False,
            trust_env=False,
        )
        self._gate = Gate()
        self._next_pause = FIRST_PAUSE
        self.traffic = Traffic()

    async def __aenter__(self) -> AmoApi:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def get(self, path: str, params: Params, lane: Lane, seconds: float) -> Answer:
        return await self._request("GET", path, lane, seconds, params=params)

    async def post(self, path: str, body: object, lane: Lane, seconds: float) -> Answer:
        return await self._request("POST", path, lane, seconds, body=body)

    async def patch(self, path: str, body: object, lane: Lane, seconds: float) -> Answer:
        return await self._request("PATCH", path, lane, seconds, body=body)

    async def delete(self, path: str, body: object, lane: Lane, seconds: float) -> Answer:
        return await self._request("DELETE", path, lane, seconds, body=body)

    async def pages(self, path: str, name: str, params: Params, lane: Lane, seconds: float) -> AsyncIterator[Row]:
        """All rows of a list, page by page; at most MOST_PAGES, as a `next` link may lead in a circle."""
        for page in range(1, MOST_PAGES + 1):
            answer = await self.get(path, [*params, ("limit", PAGE_SIZE), ("page", page)], lane, seconds)
            rows = answer.rows(name)
            for row in rows:
                yield row
            if not rows or "next" not in as_row(as_row(answer.body).get("_links")):
                return
        log.warning("amoCRM list cut", path=path, pages=MOST_PAGES)

    async def _request(
        self, method: str, path: str, lane: Lane, seconds: float, params: Params = (), body: object = None
    ) -> Answer:
        now = asyncio.get_running_loop().time
        try:
            answer = await self._answered(method, path, lane, seconds, params, body)
        except (CrmUnavailable, CrmUnauthorized) as error:
            self.traffic.failed_at, self.traffic.failure = now(), str(error)[:LONGEST_DETAIL]
            raise
        self.traffic.answered_at = now()
        return answer

    async def _answered(
        self, method: str, path: str, lane: Lane, seconds: float, params: Params, body: object
    ) -> Answer:
        """Asked once more, with other tokens, when these are refused."""
        access = await self._tokens.current()
        answer = await self._asked(access, method, path, lane, seconds, params, body)
        if not _is_refused(answer, path):
            return answer
        access = await self._tokens.refused(access)
        answer = await self._asked(access, method, path, lane, seconds, params, body)
        if _is_refused(answer, path):
            await self._tokens.refused(access)
            raise CrmUnauthorized(f"{method} {path}: {answer.status} {answer.complaint()}")
        return answer

    async def _asked(
        self, access: Access, method: str, path: str, lane: Lane, seconds: float, params: Params, body: object
    ) -> Answer:
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        headers = {"Authorization": f"Bearer {access.token}"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        request = self._http.build_request(
            method, access.base_url + path, params=list(params), content=content, headers=headers,
            timeout=httpx.Timeout(None, connect=min(CONNECT_SECONDS, seconds)),
        )
        async with self._gate.passing(lane):
            try:
                async with asyncio.timeout(seconds):       # the whole of it: a body may also drip
                    response = await self._http.send(request, stream=True)
                    try:
                        raw = await _bounded(response)
                    finally:
                        await response.aclose()
            except (httpx.HTTPError, OSError) as error:    # TimeoutError is an OSError
                raise CrmUnavailable(f"{method} {path}: {type(error).__name__} {error}".rstrip()) from error
            return self._judge(f"{method} {path}", response, raw)

    def _judge(self, what: str, response: httpx.Response, raw: bytes) -> Answer:
        """The table of api.md §3: an answer to use, or the error that says what to do next."""
        status = response.status_code
        is_json, body = _parsed(raw)
        answer = Answer(status, body)
        where = f"{what}: {status}"
        match status:
            case 401:
                return answer          # the tokens' business
            case 402 if not what.endswith("/webhooks"):    # there it is the tariff that has none
                raise self._paused(f"{where} account not paid", UNPAID_PAUSE, CrmShut)
            case 403 if not isinstance(body, dict):
                log.error("amoCRM blocks the account", what=what, seconds=BLOCK_PAUSE)
                raise self._paused(f"{where} amoCRM blocks the account", BLOCK_PAUSE, CrmShut)
            case 403 if ADDRESS_REFUSED in (integer(as_row(body), "code"), integer(as_row(body), "error_code")):
                raise CrmUnauthorized(f"{where} our address is not on the account's list")
            case 429:
                raise self._paused(f"{where} too many requests", self._pause_after_429(response.headers, body))
            case _ if status >= 500 or 300 <= status < 400:
                raise CrmUnavailable(f"{where} {answer.complaint()}")
            case _ if raw and not is_json:
                raise CrmUnavailable(f"{where} answer is not JSON")
            case 200 | 201 if not raw:
                raise CrmUnavailable(f"{where} answer is empty")
        self._next_pause = FIRST_PAUSE
        return answer

    def _paused(
        self, why: str, seconds: float, as_what: type[CrmUnavailable] = CrmUnavailable
    ) -> CrmUnavailable:
        self._gate.pause(seconds, as_what)
        log.warning("amoCRM account paused", why=why, seconds=seconds)
        return as_what(why, retry_after=seconds)

    def _pause_after_429(self, headers: Mapping[str, str], body: object) -> float:
        said = integer({"header": headers.get("Retry-After")}, "header") or integer(as_row(body), "retry_after")
        if said is not None and said > 0:
            return min(float(said), LONGEST_RETRY_AFTER)
        pause, self._next_pause = self._next_pause, min(self._next_pause * 2, LONGEST_PAUSE)
        return pause


def _is_refused(answer: Answer, path: str) -> bool:
    """404: these paths exist in every account that does, so that this one is not here any more."""
    return answer.status == 401 or (answer.status == 404 and path in _EVERYWHERE)


async def _bounded(response: httpx.Response) -> bytes:
    """The whole body, unpacked, unless it is too large to be an answer to us."""
    received = bytearray()
    async for chunk in response.aiter_bytes():
        received += chunk
        if len(received) > LARGEST_BODY:
            raise CrmUnavailable("answer is too large")
    return bytes(received)


def _parsed(raw: bytes) -> tuple[bool, object]:
    """(whether it is JSON, what it says); a byte order mark is forgiven."""
    try:
        return True, json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False, None
