"""What goes wrong, said with a remedy: problem JSON (RFC 9457) for programs, a page for people."""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from b2bua.store.engine import StoreUnavailable
from web.pages import page

PROBLEM_JSON = "application/problem+json"
RETRY_SECONDS = 5                      # told with what passes by itself


class Problem(Exception):
    """Raised by a handler, answered by `as_problem`."""

    def __init__(self, status: int, title: str, remedy: str, *, retry_after: int | None = None, challenge: str = ""):
        super().__init__(title)
        self.status = status
        self.title = title
        self.remedy = remedy
        self.headers = {"Cache-Control": "no-store"}
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)
        if challenge:
            self.headers["WWW-Authenticate"] = challenge


async def as_problem(request: Request, error: Exception) -> Response:
    return problem_response(request, _problem_of(error))


def problem_response(request: Request, problem: Problem) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        return page("problem.html", status=problem.status, headers=problem.headers, problem=problem)
    body = {"type": "about:blank", "title": problem.title, "status": problem.status, "remedy": problem.remedy}
    return JSONResponse(body, problem.status, problem.headers, PROBLEM_JSON)


def _problem_of(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case StoreUnavailable():
            return Problem(503, "The database does not answer", "Try again shortly; calls go on meanwhile.",
                           retry_after=RETRY_SECONDS)
        case HTTPException(status_code=404):
            return Problem(404, "There is nothing here", "Check the address, or start from the dashboard.")
        case HTTPException(status_code=405):
            return Problem(405, "That cannot be done to this address", "Check the method of the request.")
        case HTTPException(status_code=status):
            return Problem(status, HTTPStatus(status).phrase, "Check the request.")
        case _:
            return Problem(500, "We made a mistake", "Try again; the log of the server says more.")
