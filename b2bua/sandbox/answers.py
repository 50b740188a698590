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

from b2bua.sandbox.account import Account
from b2bua.sandbox.entities import Json
from b2bua.sandbox.state import SandboxState

T = TypeVar("T")

DEFAULT_PAGE, LARGEST_PAGE = 50, 250
LARGEST_BATCH = 250
LONGEST_NUMBER = 20                    # digits of one in a query
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
    is_admin: bool
    base_url: str
    client_id: str

    @property
    def is_external(self) -> bool:
        return self.state.tokens.is_external(self.client_id)

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


def administrators_only(request: Request) -> None:
    """Raises Refused."""
    if not caller_of(request).is_admin:
        raise Refused(403, "Administrator rights are needed")


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


async def json_body(request: Request, *, may_be_empty: bool = False) -> object:
    """What a write carries. Raises Refused."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(400, "Content-Type must be application/json")
    try:
        body = parsed(await request.body())
    except (ValueError, RecursionError):
        raise Refused(400, "Request body is not JSON") from None
    if not body and not may_be_empty:
        raise Refused(400, "Request data can not be empty")
    return body


def parsed(data: bytes) -> object:
    """JSON as it is written down, without NaN and half characters. Raises ValueError, RecursionError."""
    body: object = json.loads(data, parse_constant=_no_number)
    if b"\\u" in data:
        as_json(body)
    return body


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def form_fields(body: bytes) -> list[tuple[str, str]]:
    """A form's fields; none when there are too many."""
    text = body.decode("utf-8", "replace")
    return [] if text.count("&") >= MOST_FIELDS else parse_qsl(text, keep_blank_values=True)


async def object_of(request: Request) -> Json:
    """The object that a write carries. Raises Refused."""
    body = await json_body(request)
    if not isinstance(body, dict):
        raise Refused(400, "An object is expected")
    return body


async def items_of(request: Request, most: int = LARGEST_BATCH) -> list[Json]:
    """The array of a batch write. Raises Refused."""
    body = await json_body(request)
    if not isinstance(body, list) or not all(isinstance(item, dict) for item in body):
        raise Refused(400, "An array of objects is expected")
    if len(body) > most:
        raise Refused(400, f"At most {most} objects")
    return body


def request_id(item: Json, index: int) -> str:
    """What is given comes back; else the index. Null is refused."""
    given = item.get("request_id", str(index))
    if given is None:
        raise Invalid([("NotNullable", "request_id", "This value should not be null.")], str(index))
    return str(given)


def with_names(items: Sequence[Json]) -> list[tuple[Json, str]]:
    """Each with its request_id. Raises Invalid."""
    return [(item, request_id(item, index)) for index, item in enumerate(items)]


def written_row(caller: Caller, path: str, number: int, name: str | None, updated_at: int | None = None) -> Json:
    """What a write says of each item; `updated_at` after a change, `name` (its request_id) when it was in an array."""
    row: Json = {"id": number, "_links": caller.self_link(f"{path}/{number}")}
    if name is not None:
        row["request_id"] = name
    if updated_at is not None:
        row["updated_at"] = updated_at
    return row


def listed(request: Request, name: str, *others: str) -> set[str]:
    """What a filter asks for, as `filter[x]=1` or `filter[x][]=1`; empty: anything. `others` are its other names."""
    keys = [key for known in (name, *others) for key in (f"filter[{known}]", f"filter[{known}][]")]
    indexed = tuple(f"filter[{known}][" for known in (name, *others))
    return {
        value for key, value in request.query_params.multi_items()
        if key in keys or (key.startswith(indexed) and key.removesuffix("]").rpartition("[")[2].isdecimal())
    }


def is_within(request: Request, name: str, value: int) -> bool:
    """`filter[x][from]` and `filter[x][to]`, both ends included."""
    start, end = (number_in(request.query_params.get(f"filter[{name}][{side}]", "")) for side in ("from", "to"))
    return (start is None or value >= start) and (end is None or value <= end)


def number_in(text: str) -> int | None:
    """Of a query."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < LONGEST_NUMBER else None


def ordered(request: Request, rows: list[T], names: Sequence[str]) -> list[T]:
    """`order[x]=asc` or `desc` by one of these attributes."""
    for name in names:
        if (direction := request.query_params.get(f"order[{name}]")) is not None:
            rows = sorted(rows, key=lambda row: getattr(row, name), reverse=direction == "desc")
    return rows


def page(
    request: Request, name: str, rows: Sequence[T], render: Callable[[T], Json], *, totals: bool = False,
    largest: int = LARGEST_PAGE,
) -> Response:
    """One page of a list. Raises Refused."""
    query = request.query_params
    number, limit = _natural(query, "page", 1), _natural(query, "limit", DEFAULT_PAGE)
    if limit > largest:
        raise Refused(422, f"limit: at most {largest}")
    part = rows[(number - 1) * limit : number * limit]
    if not part:
        return nothing()
    caller = caller_of(request)
    links = {"self": {"href": _page_link(request, caller, number)}}
    if number * limit < len(rows):
        links["next"] = {"href": _page_link(request, caller, number + 1)}
    elif caller.state.switches.next_never_ends:
        links["next"] = links["self"]
    if number > 1:
        links["first"] = {"href": _page_link(request, caller, 1)}
        links["prev"] = {"href": _page_link(request, caller, number - 1)}
    body: Json = {"_page": number, "_links": links, "_embedded": {name: [render(row) for row in part]}}
    if totals:
        body = {"_total_items": len(rows), "_page_count": -(-len(rows) // limit), **body}
    return hal(body)


def _natural(query: QueryParams, name: str, default: int) -> int:
    text = query.get(name, str(default))
    number = number_in(text)
    if number is None or number == 0:
        raise Refused(422, f"{name}: a positive number is expected")
    return number


def _page_link(request: Request, caller: Caller, number: int) -> str:
    url = request.url.include_query_params(page=number)
    return f"{caller.base_url}{url.path}?{url.query}"
