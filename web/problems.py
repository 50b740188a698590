"""What goes wrong, said with a remedy: problem JSON (RFC 9457) for programs, a page for people."""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from b2bua.store.engine import StoreUnavailable
from web.i18n import language_of
from web.pages import page

PROBLEM_JSON = "application/problem+json"
RETRY_SECONDS = 5                      # told with what passes by itself


class Problem(Exception):
    """Raised by a handler, answered by `as_problem`."""

    def __init__(self, status: int, title: str, remedy: str, *, detail: str = "", code: str = "",
                 retry_after: int | None = None, challenge: str = ""):
        super().__init__(title)
        self.status = status
        self.title = title
        self.detail = detail
        self.remedy = remedy
        self.code = code               # a word for programs, where they have to tell one problem from another
        self.headers = {"Cache-Control": "no-store"}
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)
        if challenge:
            self.headers["WWW-Authenticate"] = challenge


def nothing_here() -> Problem:
    """What is another client's is told so as well: nobody learns what there is."""
    return Problem(404, "There is nothing here", "Check the address, or start from the first page.", code="not_found")


async def as_problem(request: Request, error: Exception) -> Response:
    problem = _problem_of(error)
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        problem.headers["Allow"] = ", ".join(sorted(_allowed(request)))          # RFC 9110 §15.5.6
    return problem_response(request, problem)


def problem_response(request: Request, problem: Problem) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        return page("problem.html", problem.status, problem.headers, language=language_of(request), problem=problem,
                    path="/")
    body = {"type": "about:blank", "title": problem.title, "status": problem.status, "remedy": problem.remedy}
    body |= {name: said for name in ("detail", "code") if (said := getattr(problem, name))}
    return JSONResponse(body, problem.status, problem.headers, PROBLEM_JSON)


def _problem_of(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case StoreUnavailable():
            return Problem(503, "The database does not answer", "Try again shortly; calls go on meanwhile.",
                           retry_after=RETRY_SECONDS, code="unavailable")
        case HTTPException(status_code=404):
            return nothing_here()
        case HTTPException(status_code=405):
            return Problem(405, "That cannot be done to this address", "Check the method of the request.",
                           code="wrong_method")
        case HTTPException(status_code=status):
            return Problem(status, HTTPStatus(status).phrase, "Check the request.")
        case _:
            return Problem(500, "We made a mistake", "Try again; the log of the server says more.", code="fault")


def _allowed(request: Request) -> set[str]:
    """Of all routes to this address: the one that refused knows its own methods alone."""
    return {method for route in request.app.routes if isinstance(route, Route)
            and route.matches(request.scope)[0] is not Match.NONE for method in route.methods or ()}
