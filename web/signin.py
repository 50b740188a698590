"""Signing in and out of the pages: the platform operator, and each client's administrator; and what guessing costs."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import quote

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from b2bua.cdr import ClientId
from b2bua.config import WebSettings
from b2bua.directory import OPERATOR_LOGIN, Directory
from b2bua.keys import Keys
from b2bua.metrics import WebCounters
from b2bua.store.engine import StoreUnavailable
from b2bua.store.web_sessions import SessionRow, WebSessionRows
from web.i18n import COOKIE, COOKIE_SECONDS, LANGUAGES, TRANSLATIONS, language_of
from web.lockout import Lockout
from web.pages import page
from web.passwords import Passwords
from web.problems import Problem
from web.sessions import SESSION_SECONDS, Session, Sessions
from web.visitors import account_of, address_of
from web.visits import Handler, Visit, form_of

LARGEST_FORM = 8_192                   # bytes
LONGEST_WAY_BACK = 500                 # characters of a path
FORM_COOKIE_SECONDS = 3_600
DEVICE_COOKIE_SECONDS = 180 * 86_400   # that a browser which has signed in is not kept out by its neighbours
ENDED_LOOKED_AT_EVERY = 10.0           # seconds, for those that another process has ended
STORE_SECONDS = 2.0                    # for the database to take a session into its list: it is open without, too

Endpoint = Callable[[Request], Awaitable[Response]]

log = structlog.get_logger(__name__)


class SignIn:
    def __init__(
        self, settings: WebSettings, keys: Keys, sessions: Sessions, rows: WebSessionRows,
        directory: Callable[[], Directory], passwords: Passwords, counters: WebCounters,
    ) -> None:
        self._sessions = sessions
        self._rows = rows
        self._directory = directory
        self._operator_hash = keys.operator_hash
        self._trusted = settings.trusted_proxies
        self._secure = settings.is_https
        self._counters = counters
        self._lockout = Lockout()
        self._passwords = passwords
        # A name with __Host- is never sent over plain HTTP, and no neighbouring domain can plant it.
        self._cookie = "__Host-session" if self._secure else "session"
        self._form_cookie = "__Host-form" if self._secure else "form"
        self._device_cookie = "__Host-device" if self._secure else "device"

    def visit(self, request: Request) -> Visit | None:
        session = self._sessions.read(request.cookies.get(self._cookie))
        if session is None or not self.is_open(session):
            return None
        if session.client is None:
            return Visit(request, session, OPERATOR_LOGIN, "", self._sessions)
        client = self._directory().client[session.client]
        return Visit(request, session, client.login, client.name, self._sessions)

    def is_open(self, session: Session) -> bool:
        """Neither expired nor ended, and its client is there still, with the password that opened it."""
        if session.client is not None:
            client = self._directory().client.get(session.client)
            if client is None or self._sessions.print_of(client.password_hash) != session.password:
                return False
        return self._sessions.is_open(session)

    def only(self, handler: Handler) -> Endpoint:
        """This handler, for who has signed in; a person's browser is shown where to."""
        async def guarded(request: Request) -> Response:
            if (visit := self.visit(request)) is not None:
                return await handler(visit)
            if "text/html" in request.headers.get("accept", ""):
                return RedirectResponse(f"/sign-in{_way_back(request)}", 303)
            raise Problem(401, "You are not signed in", "Sign in at /sign-in first.", challenge="Cookie")
        return guarded

    def operator_only(self, handler: Handler) -> Endpoint:
        async def guarded(visit: Visit) -> Response:
            if visit.client is not None:
                raise Problem(403, "This is for the operator of the platform", "Sign in as the operator.")
            return await handler(visit)
        return self.only(guarded)

    async def show(self, request: Request) -> Response:
        if self.visit(request) is not None:
            return RedirectResponse("/", 303)
        return self._form(request, to=request.query_params.get("to", ""))

    async def sign_in(self, request: Request) -> Response:
        form = await form_of(request, LARGEST_FORM)
        login, to = form.get("login", "").strip(), form.get("to", "")
        if not self._sessions.is_form_token(request.cookies.get(self._form_cookie, ""), form.get("token", "")):
            return self._form(request, 403, "The form was too old, or cookies are switched off. Try again.", login, to)
        address = account_of(address_of(request, self._trusted))
        now = asyncio.get_running_loop().time()
        client, hashed = self._account(login)
        account = (client or OPERATOR_LOGIN) if hashed else ""
        # Whoever guesses behind one address, an office's own, locks out no browser there that has been let in before.
        device = self._sessions.device_of(request.cookies.get(self._device_cookie), account, hashed)
        guesser = f"device {device}" if device else address
        if wait := math.ceil(self._lockout.wait(guesser, now)):
            self._counters.locked_out += 1
            return self._form(request, 429, "Too many wrong passwords. Wait {seconds} s, then try again.", login, to,
                              wait)
        self._lockout.failed(guesser, account, now)    # until it is known to be right: parallel guesses count as well
        if not await self._passwords.is_right(hashed, form.get("password", "")):
            self._counters.wrong_passwords += 1
            log.warning("wrong password", login=login[:LONGEST_WAY_BACK], address=address)
            return self._form(request, 403, "The login or the password is wrong.", login, to)
        self._lockout.succeeded(guesser, account)
        self._counters.signed_in += 1
        session, cookie = self._sessions.open(client, hashed if client is not None else "")
        await self._list(request, session, address)
        log.info("signed in", login=login or OPERATOR_LOGIN, address=address)
        response = self._with_cookie(RedirectResponse(_safe(to), 303), self._cookie, cookie, SESSION_SECONDS)
        return self._with_cookie(response, self._device_cookie, self._sessions.device(account, hashed),
                                 DEVICE_COOKIE_SECONDS)

    async def sign_out(self, request: Request) -> Response:
        if (visit := self.visit(request)) is not None:
            await visit.form()
            await self.end(visit.client, [visit.session.id])
        return self._with_cookie(RedirectResponse("/sign-in", 303), self._cookie, "", 0)

    async def end(self, client: ClientId | None, sessions: list[str]) -> None:
        """At once here, for copies of their cookies too, and within seconds in other processes."""
        self._sessions.end(sessions)
        try:
            await self._rows.end(client, sessions)
        except StoreUnavailable as error:
            log.warning("ended sessions not stored", why=str(error),
                        remedy="they are ended until the next start; end them again when the database is back")

    async def follow_ended(self) -> None:
        """Sessions that were ended before we started, or by another process."""
        while True:
            with suppress(StoreUnavailable):
                self._sessions.end(await self._rows.ended(datetime.now(UTC)))
            await asyncio.sleep(ENDED_LOOKED_AT_EVERY)

    async def language(self, request: Request) -> Response:
        form = await form_of(request, LARGEST_FORM)
        response = RedirectResponse(_safe(form.get("to", "")), 303)
        if form.get("language") in LANGUAGES:
            response.set_cookie(COOKIE, form["language"], COOKIE_SECONDS, secure=self._secure, httponly=True,
                                samesite="lax")
        return response

    def _account(self, login: str) -> tuple[ClientId | None, str]:
        """Whose login that is, and the hash of their password; "" when it is nobody's."""
        if login in ("", OPERATOR_LOGIN):
            return None, self._operator_hash
        client = self._directory().client_by_login.get(login)
        return (client.id, client.password_hash) if client is not None else (None, "")

    async def _list(self, request: Request, session: Session, address: str) -> None:
        row = SessionRow(session.id, session.client, datetime.now(UTC), datetime.fromtimestamp(session.expires_at, UTC),
                         address, request.headers.get("user-agent", ""))
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await self._rows.opened(row)
        except (TimeoutError, StoreUnavailable) as error:
            log.warning("session not listed", why=str(error), remedy="it is open nevertheless, until it expires")

    def _form(self, request: Request, status: int = 200, complaint: str = "", login: str = "", to: str = "",
              wait: int = 0) -> Response:
        owner = request.cookies.get(self._form_cookie) or secrets.token_urlsafe(16)
        language = language_of(request)
        said = TRANSLATIONS[language].gettext(complaint).format(seconds=wait) if complaint else ""
        response = page("sign_in.html", status, language=language, token=self._sessions.form_token(owner),
                        complaint=said, login=login, to=to, operator=OPERATOR_LOGIN, path="/sign-in")
        if wait:
            response.headers["Retry-After"] = str(wait)
        return self._with_cookie(response, self._form_cookie, owner, FORM_COOKIE_SECONDS)

    def _with_cookie(self, response: Response, name: str, value: str, seconds: int) -> Response:
        response.set_cookie(name, value, seconds, secure=self._secure, httponly=True, samesite="strict")
        return response


def _way_back(request: Request) -> str:
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"?to={quote(path)}" if request.method == "GET" and path != "/" and len(path) <= LONGEST_WAY_BACK else ""


def _safe(path: str) -> str:
    """Where a form wants to go on to, as long as that is a page of ours."""
    ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if ours and len(path) <= LONGEST_WAY_BACK else "/"
