"""Before and after every request to the stand-in: journal, faults, admission, X-Request-Id."""

from __future__ import annotations

import asyncio
import codecs
import uuid
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass

import httpx
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from b2bua.sandbox.admission import Visitor, admitted, visitor_of
from b2bua.sandbox.answers import problem
from b2bua.sandbox.faults import LARGEST_ANSWER, LONGEST_DELAY, Act, Fault
from b2bua.sandbox.journal import LONGEST_BODY, JournalEntry
from b2bua.sandbox.rate import Rate
from b2bua.sandbox.state import SandboxState

LARGEST_REQUEST = 4 * 1024 * 1024
_OWN = "/_fake/"                       # what is not amoCRM's: the control API and the human page

Connections = MutableMapping[tuple[str, int], asyncio.Transport]


@dataclass(slots=True)
class Door:
    """ASGI middleware. `connections` are the server's, by the client's address; without a server, what befalls a
    connection is raised as the client's httpx would say it."""

    app: ASGIApp
    state: SandboxState
    rate: Rate
    connections: Connections | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/" or scope["path"].startswith(_OWN):
            await self.app(scope, receive, send)
            return
        try:
            body = await _body(Request(scope, receive))
        except ClientDisconnect:
            return
        visitor = visitor_of(self.state, scope)
        entry = self._noted(scope, body, visitor)
        fault = self.state.faults.next(entry.method, entry.path, entry.account)
        if fault is None:
            answer = await self._answer(scope, body, entry, visitor)
            entry.status, entry.answer = answer.status_code, bytes(answer.body[:LONGEST_BODY])
            await answer(scope, receive, send)
        else:
            await self._act_out(fault, scope, receive, send, entry, body, visitor)

    def _noted(self, scope: Scope, body: bytes, visitor: Visitor) -> JournalEntry:
        entry = JournalEntry(
            self.state.clock.now(), scope["method"], scope["path"], scope["query_string"].decode("latin-1"),
            dict(Headers(scope=scope).items()), body[:LONGEST_BODY],
            account=visitor.account.subdomain if visitor.account is not None else None,
            client_id=visitor.grant.client_id if visitor.grant is not None else None,
        )
        self.state.journal.add(entry)
        return entry

    async def _answer(self, scope: Scope, body: bytes, entry: JournalEntry, visitor: Visitor) -> Response:
        """Whoever passes the admission is answered by the handler."""
        if len(body) > LARGEST_REQUEST:
            answer = problem(413, "Request is too large")
        else:
            caller = admitted(self.state, self.rate, scope, visitor)
            if isinstance(caller, Response):
                answer = caller
            else:
                scope["sandbox.caller"], scope["sandbox.warnings"] = caller, entry.warnings
                answer = await _captured(self.app, scope, body)
                if entry.method != "GET":
                    self.state.news.set()
        answer.headers["X-Request-Id"] = uuid.uuid4().hex
        return answer

    async def _act_out(
        self, fault: Fault, scope: Scope, receive: Receive, send: Send, entry: JournalEntry, body: bytes,
        visitor: Visitor,
    ) -> None:
        await self._delay(fault.delay)
        answer = Response()
        if fault.committed or fault.act is Act.NOTHING:
            answer = await self._answer(scope, body, entry, visitor)
        if fault.then is not None:
            fault.then()
        if fault.act is Act.ANSWER:
            answer = _answer_of(fault)
        elif fault.act is Act.BOM:
            answer.body = codecs.BOM_UTF8 + bytes(answer.body)
            answer.headers["Content-Length"] = str(len(answer.body))
        match fault.act:
            case Act.NOTHING | Act.ANSWER | Act.BOM:
                entry.status, entry.answer = answer.status_code, bytes(answer.body[:LONGEST_BODY])
                await answer(scope, receive, send)
            case Act.REFUSE:
                await self._reset(scope, receive, httpx.ConnectError("connection refused"))
            case Act.RESET:
                await self._reset(scope, receive, httpx.ReadError("connection reset"))
            case Act.CUT:
                await self._begin(answer, send, bytes(answer.body)[: len(answer.body) // 2])
                await self._reset(scope, receive, httpx.RemoteProtocolError("the body ended early"))
            case Act.SILENCE:
                await self._begin(answer, send, b"")
                await self._delay(LONGEST_DELAY)
                await self._reset(scope, receive, httpx.RemoteProtocolError("the body ended early"))

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

    async def _reset(self, scope: Scope, receive: Receive, as_seen: httpx.TransportError) -> None:
        """`as_seen`: what the client's httpx would raise."""
        if self.connections is None:
            raise as_seen
        client = scope.get("client")
        connection = self.connections.get((client[0], client[1])) if client else None
        if connection is not None:
            connection.abort()
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
        body = fault.body.encode().ljust(min(fault.size, LARGEST_ANSWER))
        answer = Response(body, fault.status, media_type=fault.content_type or "text/html")
    for name, value in fault.headers.items():
        answer.headers[name] = value
    answer.headers["X-Request-Id"] = uuid.uuid4().hex
    return answer
