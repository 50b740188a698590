"""amoCRM's answers: HAL for what went well, problem JSON (RFC 9457) for the rest, nothing for an empty list."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import parse_qsl

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox.entities import Json
from b2bua.sandbox.state import Account, SandboxState

T = TypeVar("T")

DEFAULT_PAGE, LARGEST_PAGE = 50, 250
LARGEST_BATCH = 250
MOST_FIELDS = 1_000                    # of a form
_TITLES = {
    400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 413: "Request Entity Too Large", 422: "Unprocessable Entity", 429: "Too Many Requests",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the door found out."""

    state: SandboxState
    account: Account
    user: int
    base_url: str

    @property
    def is_admin(self) -> bool:
        user = self.account.users.get(self.user)
        return user is not None and user.is_admin

    def self_link(self, path: str) -> Json:
        return {"self": {"href": f"{self.base_url}{path}"}}

    def now(self) -> int:
        return int(self.state.clock.now())


class Invalid(Exception):
    """A write that is refused: what is wrong with which item."""

    def __init__(self, errors: Sequence[tuple[str, str, str]], request_id: str = "0") -> None:
        super().__init__("; ".join(f"{path}: {detail}" for _, path, detail in errors))
        self.errors = errors           # (code, path, detail)
        self.request_id = request_id


class Refused(Exception):
    """A request that is refused as a whole."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def caller_of(request: Request) -> Caller:
    caller = request.scope["sandbox.caller"]
    assert isinstance(caller, Caller)
    return caller


def warn(request: Request, warning: str) -> None:
    """Written into the journal: the real server may ignore it, our tests must not."""
    request.scope["sandbox.warnings"].append(warning)


def as_json(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def hal(body: object, status: int = 200) -> Response:
    return Response(as_json(body), status, media_type="application/hal+json")


def nothing() -> Response:
    return Response(status_code=204)


def problem(status: int, detail: str, more: Mapping[str, object] = {}) -> Response:
    title = _TITLES.get(status, "Error")
    body = {"title": title, "type": f"https://httpstatus.es/{status}", "status": status, "detail": detail, **more}
    return Response(as_json(body), status, media_type="application/problem+json")


def invalid(error: Invalid) -> Response:
    errors = [{"code": code, "path": path, "detail": detail} for code, path, detail in error.errors]
    details = [{"request_id": error.request_id, "errors": errors}]
    return problem(400, "Request validation failed", {"validation-errors": details})


async def json_body(request: Request) -> object:
    """What a write carries. Raises Refused."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(400, "Content-Type must be application/json")
    try:
        body: object = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refused(400, "Request body is not JSON") from None
    if not body:
        raise Refused(400, "Request data can not be empty")
    return body


def form_fields(body: bytes) -> list[tuple[str, str]]:
    """A form's fields; none when there are too many."""
    text = body.decode("utf-8", "replace")
    return [] if text.count("&") >= MOST_FIELDS else parse_qsl(text, keep_blank_values=True)


async def items_of(request: Request) -> list[Json]:
    """The array of a batch write. Raises Refused."""
    body = await json_body(request)
    if not isinstance(body, list) or not all(isinstance(item, dict) for item in body):
        raise Refused(400, "An array of objects is expected")
    if len(body) > LARGEST_BATCH:
        raise Refused(400, f"At most {LARGEST_BATCH} objects")
    return body


def request_id(item: Json, index: int) -> str:
    """What is given comes back; else the index. Null is refused."""
    given = item.get("request_id", str(index))
    if given is None:
        raise Invalid([("NotNullable", "request_id", "This value should not be null.")], str(index))
    return str(given)


def page(
    request: Request, name: str, rows: Sequence[T], render: Callable[[T], Json], *, totals: bool = False
) -> Response:
    """One page of a list. Raises Refused."""
    query = request.query_params
    number, limit = _natural(query, "page", 1), _natural(query, "limit", DEFAULT_PAGE)
    if limit > LARGEST_PAGE:
        raise Refused(422, f"limit: at most {LARGEST_PAGE}")
    part = rows[(number - 1) * limit : number * limit]
    if not part:
        return nothing()
    caller = caller_of(request)
    links = {"self": {"href": _page_link(request, caller, number)}}
    if number * limit < len(rows):
        links["next"] = {"href": _page_link(request, caller, number + 1)}
    if number > 1:
        links["first"] = {"href": _page_link(request, caller, 1)}
        links["prev"] = {"href": _page_link(request, caller, number - 1)}
    body: Json = {"_page": number, "_links": links, "_embedded": {name: [render(row) for row in part]}}
    if totals:
        body = {"_total_items": len(rows), "_page_count": -(-len(rows) // limit), **body}
    return hal(body)


def _natural(query: QueryParams, name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and int(text) > 0):
        raise Refused(422, f"{name}: a positive number is expected")
    return int(text)


def _page_link(request: Request, caller: Caller, number: int) -> str:
    url = request.url.include_query_params(page=number)
    return f"{caller.base_url}{url.path}?{url.query}"
