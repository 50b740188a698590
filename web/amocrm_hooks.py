"""What amoCRM and its users' browsers bring when an account is connected or disconnected: codes and signatures.

amoCRM waits for three seconds and asks once: it is answered at once, and the work is done behind it. Nobody who comes
here is believed: a code is worth what our secret gets for it at the account's own address, a disconnection what its
signature is.
"""

from __future__ import annotations

import asyncio
from typing import Protocol
from urllib.parse import parse_qsl, quote

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from b2bua.cdr import ClientId
from b2bua.config import WebSettings
from b2bua.metrics import WebCounters
from web.allowances import Allowances
from web.i18n import language_of
from web.pages import NO_STORE, page
from web.problems import Problem
from web.visitors import account_of, address_of
from web.visits import Visit

LONGEST_QUERY = 8_192                  # bytes
MOST_FIELDS = 20
LONGEST_HOST = 255
PER_MINUTE = 30                        # of one address, bursts of as many

log = structlog.get_logger(__name__)


class CrmConnections(Protocol):
    """All of these raise LookupError with one sentence when it is nothing of ours."""

    def link(self, client: ClientId) -> str:
        """Where a person allows our integration into this client's account."""
        ...

    def code_arrived(self, code: str, host: str, state: str, client_id: str) -> ClientId: ...

    async def code_pasted(self, client: ClientId, code: str, host: str, seconds: float) -> None:
        """Returns when it was exchanged, after `seconds` at most; the others answer at once."""
        ...

    def switched_off(self, client_id: str, account: str, signature: str) -> ClientId: ...

    def moved_to(self, client: ClientId) -> str:
        """Where the account is, if it is not where the directory has it; else "". Raises nothing."""
        ...


class AmoCrmHooks:
    def __init__(self, connections: CrmConnections, settings: WebSettings, counters: WebCounters) -> None:
        self._connections = connections
        self._trusted = settings.trusted_proxies
        self._counters = counters
        self._allowances = Allowances(PER_MINUTE)

    async def code(self, request: Request) -> Response:
        """The Redirect URI: of the install hook, and of a person who followed our link."""
        if request.method == "HEAD":   # amoCRM looks whether we are there
            return Response(headers=NO_STORE)
        given = self._query(request)
        if "error" in given:
            raise Problem(400, "amoCRM was not allowed to let us in",
                          "Follow the link again, signed in as an administrator of the account, and allow it.")
        if not given.get("code"):
            raise Problem(400, "There is no code here", "This address is for amoCRM: enter it as the integration's "
                          "redirect address. It can be reached, as you see.")
        host = given.get("referer", "").removeprefix("https://").removeprefix("http://").rstrip("/").lower()
        try:
            client = self._connections.code_arrived(
                given["code"], host[:LONGEST_HOST], given.get("state", ""), given.get("client_id", ""))
        except LookupError as error:
            self._refused(request, "code", error)
            raise Problem(403, "This code is not for us", "See the log of the server for why, or paste the code: "
                          "smartswitch crm connect --client … --code …") from error
        log.info("a code for the CRM came", client=client, at=host)
        if "text/html" in request.headers.get("accept", ""):
            back = f"/clients/{quote(client, safe='')}/crm" if given.get("state") else ""     # a link of ours led here
            return page("connecting.html", language=language_of(request), back=back)
        return JSONResponse({"accepted": True}, headers=NO_STORE)

    async def disconnect(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(headers=NO_STORE)
        given = self._query(request)
        try:
            client = self._connections.switched_off(
                given.get("client_uuid", ""), given.get("account_id", ""), given.get("signature", ""))
        except LookupError as error:
            self._refused(request, "disconnection", error)
            raise Problem(403, "The signature is wrong", "Only amoCRM can say that an integration is switched "
                          "off; the secret key in the apply file must be the integration's.") from error
        log.warning("the integration was switched off in amoCRM", client=client)
        return JSONResponse({"accepted": True}, headers=NO_STORE)

    async def connect(self, visit: Visit) -> Response:
        """For an administrator's browser: on to the page of consent."""
        client = ClientId(visit.request.path_params["client"])
        visit.demand(client)
        try:
            return RedirectResponse(self._connections.link(client), 303, NO_STORE)
        except LookupError as error:
            raise Problem(404, "No such client enters its CRM by OAuth",
                          "See smartswitch crm status for those that do.") from error

    def _query(self, request: Request) -> dict[str, str]:
        address = account_of(address_of(request, self._trusted))
        if not self._allowances.spend(address, asyncio.get_running_loop().time()):
            self._counters.hooks_refused += 1
            raise Problem(429, "Too many requests come from this address", "Wait a minute.", retry_after=60)
        query = request.scope["query_string"]
        try:
            if len(query) > LONGEST_QUERY:
                raise ValueError("too long")
            return dict(parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS,
                                  errors="strict"))
        except ValueError as error:
            self._counters.hooks_refused += 1
            raise Problem(400, "This is no request of amoCRM's", f"Send at most {MOST_FIELDS} fields in "
                          f"{LONGEST_QUERY} bytes.") from error

    def _refused(self, request: Request, what: str, error: LookupError) -> None:
        self._counters.hooks_refused += 1
        log.warning("refused what came as amoCRM's", what=what, why=str(error),
                    address=account_of(address_of(request, self._trusted)))
