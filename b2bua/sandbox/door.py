"""Before and after every request to the stand-in: journal, faults, account, token, rate, X-Request-Id."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from b2bua.sandbox.answers import Caller, problem
from b2bua.sandbox.faults import LONGEST_DELAY, Act, Fault
from b2bua.sandbox.journal import LONGEST_BODY, JournalEntry
from b2bua.sandbox.state import Account, SandboxState
from b2bua.sandbox.tokens import Grant

LARGEST_REQUEST = 4 * 1024 * 1024
OFFENCE_WINDOW = 60.0
_OWN = "/_fake/"                       # what is not amoCRM's: the control API and the human page
_BLOCKED = "<html><head><title>403 Forbidden</title></head><body><center><h1>403 Forbidden</h1></center></body></html>"

Transports = MutableMapping[tuple[str, int], asyncio.Transport]


@dataclass(slots=True)
class Rate:
    """Requests of the last second by integration and by account, and how often the limit was broken."""

    starts: dict[object, deque[float]] = field(default_factory=dict)
    offences: deque[float] = field(default_factory=deque)
    highest: int = 0                   # requests of one integration in any sliding second
    is_blocked: bool = False

    def count(self, who: object, now: float) -> int:
        recent = self.starts.setdefault(who, deque())
        while recent and recent[0] <= now - 1.0:
            recent.popleft()
        recent.append(now)
        return len(recent)

    def offend(self, now: float, block_after: int) -> None:
        self.offences.append(now)
        while self.offences[0] <= now - OFFENCE_WINDOW:
            self.offences.popleft()
        self.is_blocked = self.is_blocked or len(self.offences) >= block_after

    def unblock(self) -> None:
        self.is_blocked = False
        self.offences.clear()


@dataclass(slots=True)
class Door:
    """ASGI middleware. `transports` are the server's connections by client address; without them a reset is a cut."""

    app: ASGIApp
    state: SandboxState
    rate: Rate
    transports: Transports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/" or scope["path"].startswith(_OWN):
            await self.app(scope, receive, send)
            return
        try:
            body = await _body(Request(scope, receive))
        except ClientDisconnect:
            return
        entry = self._noted(scope, body)
        fault = self.state.faults.next(entry.method, entry.path)
        if fault is not None:
            await self._delay(fault.delay)
        if fault is None or fault.act is Act.NOTHING or fault.committed:
            answer = await self._answer(scope, body, entry)
        else:
            answer = Response()
        if fault is not None and fault.act is Act.ANSWER:
            answer = _answer_of(fault)
        answer.headers["X-Request-Id"] = uuid.uuid4().hex
        match fault.act if fault is not None else Act.NOTHING:
            case Act.NOTHING | Act.ANSWER:
                entry.status, entry.answer = answer.status_code, bytes(answer.body)[:LONGEST_BODY]
                await answer(scope, receive, send)
            case Act.RESET:
                await self._reset(scope, receive)
            case Act.CUT:
                await self._begin(answer, send, bytes(answer.body)[: len(answer.body) // 2])
                await self._reset(scope, receive)
            case Act.SILENCE:
                await self._begin(answer, send, b"")
                await self._delay(LONGEST_DELAY)
                await self._reset(scope, receive)

    def _noted(self, scope: Scope, body: bytes) -> JournalEntry:
        headers = dict(Headers(scope=scope).items())
        query = scope["query_string"].decode("latin-1")
        entry = JournalEntry(
            self.state.clock.now(), scope["method"], scope["path"], query, headers, body[:LONGEST_BODY]
        )
        self.state.journal.add(entry)
        return entry

    async def _answer(self, scope: Scope, body: bytes, entry: JournalEntry) -> Response:
        """Auth first, then the rate, then the handler."""
        if self.rate.is_blocked:
            return Response(_BLOCKED, 403, media_type="text/html")
        if len(body) > LARGEST_REQUEST:
            return problem(413, "Request is too large")
        if scope["path"].startswith("/api/"):
            grant = self._grant(scope)
            if grant is None:
                return problem(401, "Wrong or expired token")
            account = self._account(scope, grant)
            if account is None:
                return problem(401, "The token is not of this account")
            if not self.state.switches.is_paid:
                return problem(402, "Account is not paid")
            if (limited := self._limited(grant)) is not None:
                return limited
            user = self._user(scope, account, grant)
            if user is None:
                return problem(401, "X-Context-User-ID is refused")
            scope["sandbox.caller"] = Caller(self.state, account, user, _base_url(scope))
        scope["sandbox.warnings"] = entry.warnings
        return await _captured(self.app, scope, body)

    def _grant(self, scope: Scope) -> Grant | None:
        kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        return self.state.tokens.grant_of(token.strip(), self.state.clock.now()) if kind.lower() == "bearer" else None

    def _account(self, scope: Scope, grant: Grant) -> Account | None:
        """The Host's; the token's own when the Host is an address or a name that tells no account."""
        host = Headers(scope=scope).get("host", "").rpartition(":")[0] or Headers(scope=scope).get("host", "")
        named = None if _is_address(host) else host.partition(".")[0]
        known = {account.subdomain: account for account in self.state.accounts.values()}
        account = self.state.accounts.get(grant.account)
        return None if named in known and known[named] is not account else account

    def _user(self, scope: Scope, account: Account, grant: Grant) -> int | None:
        wanted = Headers(scope=scope).get("x-context-user-id")
        if wanted is None:
            return grant.user
        owner = account.users.get(grant.user)
        user = account.users.get(int(wanted)) if wanted.isascii() and wanted.isdecimal() and len(wanted) < 15 else None
        return user.id if owner is not None and owner.is_admin and user is not None and user.is_active else None

    def _limited(self, grant: Grant) -> Response | None:
        now, switches = asyncio.get_running_loop().time(), self.state.switches
        by_integration = self.rate.count(grant.client_id, now)
        by_account = self.rate.count(grant.account, now)
        self.rate.highest = max(self.rate.highest, by_integration)
        if by_integration <= (switches.per_second or by_integration) and by_account <= (
            switches.account_per_second or by_account
        ):
            return None
        self.rate.offend(now, switches.block_after)
        if switches.limited_as_text:
            return Response("Too many requests", 429, media_type="text/plain")
        said = {} if switches.retry_after is None else {"retry_after": switches.retry_after}
        return problem(429, "Too many requests", said)

    async def _delay(self, seconds: float) -> None:
        """Ends early when the sandbox closes."""
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(seconds, LONGEST_DELAY)):
                    await self.state.closing.wait()

    async def _begin(self, answer: Response, send: Send, part: bytes) -> None:
        headers = [(name, value) for name, value in answer.raw_headers if name != b"content-length"]
        headers.append((b"content-length", str(len(answer.body) + 1).encode()))
        await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": part, "more_body": True})

    async def _reset(self, scope: Scope, receive: Receive) -> None:
        client = scope.get("client")
        transport = self.transports.get((client[0], client[1])) if client else None
        if transport is not None:
            transport.abort()
            while (await receive())["type"] != "http.disconnect":
                pass


async def _body(request: Request) -> bytes:
    """At most a little more than is allowed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_REQUEST:
            break
    return bytes(body)


async def _captured(app: ASGIApp, scope: Scope, body: bytes) -> Response:
    """The handler's whole answer, before any of it is sent."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    answer = Response(b"".join(message.get("body", b"") for message in sent[1:]), sent[0]["status"])
    answer.raw_headers = list(sent[0]["headers"])
    return answer


def _answer_of(fault: Fault) -> Response:
    if fault.body is None:
        answer = problem(fault.status, "As ordered by the test")
    else:
        answer = Response(fault.body, fault.status, media_type=fault.content_type or "text/html")
    for name, value in fault.headers.items():
        answer.headers[name] = value
    return answer


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _base_url(scope: Scope) -> str:
    return f"{scope.get('scheme', 'http')}://{Headers(scope=scope).get('host', 'localhost')}"
