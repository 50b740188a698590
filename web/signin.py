"""Signing in and out of the pages: one operator, one password, and what guessing costs."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from b2bua.config import WebSettings
from b2bua.keys import Keys
from b2bua.metrics import WebCounters
from web.lockout import Lockout
from web.pages import page
from web.problems import Problem
from web.sessions import SESSION_SECONDS, Session, Sessions
from web.visitors import account_of, address_of

LARGEST_FORM = 8_192                   # bytes
FORM_SECONDS = 10.0                    # for a browser to send them
LONGEST_PASSWORD = 1_024               # characters; argon2 would hash more, for whoever likes to keep us busy
CHECKS_AT_ONCE = 2                     # each takes 64 MB and a core for some 50 ms
CHECKS_WAITING = 20                    # further ones are turned away
FORM_COOKIE_SECONDS = 3_600

Handler = Callable[[Request], Awaitable[Response]]

log = structlog.get_logger(__name__)


class SignIn:
    def __init__(self, settings: WebSettings, keys: Keys, sessions: Sessions, counters: WebCounters) -> None:
        self._sessions = sessions
        self._hash = keys.operator_hash
        self._trusted = settings.trusted_proxies
        self._secure = (settings.public_url or "").startswith("https:")
        self._counters = counters
        self._lockout = Lockout()
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._checking = 0
        # A name with __Host- is never sent over plain HTTP, and no neighbouring domain can plant it.
        self._cookie = "__Host-session" if self._secure else "session"
        self._form_cookie = "__Host-form" if self._secure else "form"

    def session(self, request: Request) -> Session | None:
        return self._sessions.read(request.cookies.get(self._cookie))

    def only(self, handler: Handler) -> Handler:
        """This handler, for who has signed in; a person's browser is shown where to."""
        async def guarded(request: Request) -> Response:
            if self.session(request) is not None:
                return await handler(request)
            if "text/html" in request.headers.get("accept", ""):
                return RedirectResponse("/sign-in", 303)
            raise Problem(401, "You are not signed in", "Sign in at /sign-in first.", challenge="Cookie")
        return guarded

    async def show(self, request: Request) -> Response:
        if self.session(request) is not None:
            return RedirectResponse("/", 303)
        return self._form(request)

    async def sign_in(self, request: Request) -> Response:
        form = await _form_of(request)
        if not self._sessions.is_form_token(request.cookies.get(self._form_cookie, ""), form.get("token", "")):
            return self._form(request, 403, "The form was too old, or cookies are switched off. Try again.")
        address = account_of(address_of(request, self._trusted))
        now = asyncio.get_running_loop().time()
        if wait := math.ceil(self._lockout.wait(address, now)):
            self._counters.locked_out += 1
            return self._form(request, 429, f"Too many wrong passwords. Wait {wait} s, then try again.", wait)
        self._lockout.failed(address, now)             # until it is known to be right: parallel guesses count as well
        if not await self._is_right(form.get("password", "")):
            self._counters.wrong_passwords += 1
            log.warning("wrong password", address=address)
            return self._form(request, 403, "That is not the password.")
        self._lockout.succeeded(address)
        self._counters.signed_in += 1
        log.info("signed in", address=address)
        return self._with_cookie(RedirectResponse("/", 303), self._cookie, self._sessions.open(), SESSION_SECONDS)

    async def sign_out(self, request: Request) -> Response:
        session, form = self.session(request), await _form_of(request)
        if session is not None:
            if not self._sessions.is_form_token(session.id, form.get("token", "")):
                raise Problem(403, "This form is not of your session", "Reload the page and sign out there.")
            self._sessions.end(session)
        return self._with_cookie(RedirectResponse("/sign-in", 303), self._cookie, "", 0)

    async def _is_right(self, password: str) -> bool:
        if self._checking >= CHECKS_AT_ONCE + CHECKS_WAITING:
            raise Problem(503, "Too many people sign in at once", "Try again in a few seconds.", retry_after=3)
        self._checking += 1
        try:
            async with self._checks:
                return await asyncio.to_thread(_verify, self._hash, password[:LONGEST_PASSWORD])
        finally:
            self._checking -= 1

    def _form(self, request: Request, status: int = 200, complaint: str = "", wait: int = 0) -> Response:
        owner = request.cookies.get(self._form_cookie) or secrets.token_urlsafe(16)
        response = page("sign_in.html", status, token=self._sessions.form_token(owner), complaint=complaint)
        if wait:
            response.headers["Retry-After"] = str(wait)
        return self._with_cookie(response, self._form_cookie, owner, FORM_COOKIE_SECONDS)

    def _with_cookie(self, response: Response, name: str, value: str, seconds: int) -> Response:
        response.set_cookie(name, value, seconds, secure=self._secure, httponly=True, samesite="strict")
        return response


def _verify(hashed: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(hashed, password)
    except VerificationError:
        return False


async def _form_of(request: Request) -> dict[str, str]:
    body = bytearray()
    try:
        async with asyncio.timeout(FORM_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_FORM:
                    raise Problem(413, "The form is too large", f"Send at most {LARGEST_FORM} bytes.")
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=10))
    except TimeoutError:
        raise Problem(408, "The form took too long to arrive", "Try again.") from None
    except ValueError:
        raise Problem(400, "This is no form", "Send application/x-www-form-urlencoded in UTF-8.") from None
