"""What stands before every request of the widget: how often one may ask, who it is, and what the body may be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from b2bua.config import WebSettings
from b2bua.metrics import WebCounters
from b2bua.store.engine import StoreUnavailable
from web.allowances import Allowances
from web.bodies import TooLarge, body_of
from web.guard import LONGEST_PATH
from web.problems import RETRY_SECONDS, Problem
from web.visitors import account_of, address_of
from web.widget.auth import TokenRefused, Visitor, WidgetTokens
from web.widget.problems import language, problem
from web.widget.schemas import Body

LARGEST_BODY = 64 * 1024               # bytes
PER_ADDRESS = 2_400                    # requests a minute: an office of 300 is behind one, and asks every 25 s
PER_CLIENT = 3_000
PER_USER = 180                         # five windows with a live card, and calls that change
LIMITED_SECONDS = 10                   # told to who asked too often
LONGEST_ORIGIN = 300                   # characters

B = TypeVar("B", bound=Body)
Handler = Callable[[Request], Awaitable[Response]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who is known."""

    request: Request
    visitor: Visitor
    lang: str
    address: str

    def problem(self, code: str, *, retry_after: int | None = None, **facts: object) -> Problem:
        return problem(code, self.lang, retry_after=retry_after, **facts)

    async def body(self, kind: type[B]) -> B:
        """Raises Problem."""
        try:
            if self.request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise self.problem("malformed")
            return kind.model_validate_json(await body_of(self.request, LARGEST_BODY))
        except TooLarge:
            raise self.problem("too_large", most=LARGEST_BODY) from None
        except (TimeoutError, ClientDisconnect):
            raise self.problem("too_slow") from None
        except ValidationError as error:
            raise self._of_validation(error) from None

    def _of_validation(self, error: ValidationError) -> Problem:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if not first["loc"]:
            return self.problem("malformed")
        return self.problem("invalid", member=".".join(map(str, first["loc"])), why=first["msg"])


class WidgetDoor:
    def __init__(self, tokens: WidgetTokens, settings: WebSettings, counters: WebCounters) -> None:
        self._tokens = tokens
        self._trusted = settings.trusted_proxies
        self._counters = counters
        self._of_address = Allowances(PER_ADDRESS)
        self._of_client = Allowances(PER_CLIENT)
        self._of_user = Allowances(PER_USER)

    def open(self, handler: Callable[[Visit], Awaitable[Response]]) -> Handler:
        """This handler, for whom the page's token proves; whatever is refused is told in the page's language."""
        async def opened(request: Request) -> Response:
            self._counters.widget_requests += 1
            lang = language(request.query_params.get("lang", ""))
            try:
                return await handler(self._visit(request, lang))
            except StoreUnavailable:
                raise problem("unavailable", lang, retry_after=RETRY_SECONDS) from None
            except Problem as refused:
                self._counters.widget_refused += refused.status < 500
                raise
            except Exception:          # as in guard.py, in the page's language
                self._counters.faults += 1
                log.exception("web request broke", method=request.method, path=request.url.path[:LONGEST_PATH])
                raise problem("fault", lang) from None
        return opened

    def _visit(self, request: Request, lang: str) -> Visit:
        """Raises Problem."""
        address, now = account_of(address_of(request, self._trusted)), asyncio.get_running_loop().time()
        self._spend(self._of_address, address, now, lang)
        try:
            visitor = self._tokens.read(request.headers.get("x-auth-token", ""),
                                        request.headers.get("origin", "")[:LONGEST_ORIGIN])
        except TokenRefused as refused:
            log.info("token of a widget refused", code=refused.code, why=str(refused), address=address)
            raise problem(refused.code, lang) from None
        self._spend(self._of_user, (visitor.account, visitor.user), now, lang)
        self._spend(self._of_client, visitor.client or visitor.account, now, lang)
        return Visit(request, visitor, lang, address)

    def _spend(self, allowances: Allowances, who: object, now: float, lang: str) -> None:
        if not allowances.spend(who, now):
            self._counters.widget_limited += 1
            raise problem("too_many", lang, retry_after=LIMITED_SECONDS, seconds=LIMITED_SECONDS)
