"""Two servers for the widget's tests: one like amoCRM, with a page and the widget's own archive in it, and one that
answers as docs/widget-api.md says, does what the test wants, and keeps what it was asked.

A request that is not as described there is a complaint, which fails the test.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from b2bua.config import WebSettings
from b2bua.crm.switches import Switches
from b2bua.sandbox import SandboxState
from b2bua.sandbox.installation import install, switch_off
from b2bua.widget_archive import build
from tests.support.widget_files import unpacked
from web.server import Website, bind_web, serve_web

PAGE = Path(__file__).parent / "amocrm_page"
SECRET = "client-secret-of-the-integration-of-acme"
ACCOUNT, ANNA = 101, 77
LONGEST_WAIT = 25.0                    # seconds, of a request that waits for a change
KINDS = {"js": "text/javascript", "json": "application/json", "css": "text/css"}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    what: str                          # "POST calls"
    body: Json
    user: int
    lang: str


@dataclass(slots=True)
class AmoCrm:
    """What the page is given, and what it has stored."""

    server: str
    language: str = "en"
    name: str = "APP"                  # of its global object
    user: int = ANNA
    managers: dict[int, str] = field(default_factory=lambda: {77: "Anna Archer", 78: "Ben Kim"})
    left: frozenset[int] = frozenset()           # of the managers, who are switched off
    phones: tuple[str, ...] = ("+7 (495) 123-45-67",)
    card: Json | None = None
    saved: dict[str, str] = field(default_factory=dict)
    status: str = "install"
    origin: str = ""
    integration: str = "5b0c"          # its id
    secret: str = SECRET
    token_age: float = 0.0             # seconds
    api: Starlette | None = None       # what is behind the pages: the stand-in's

    def app(self) -> Starlette:
        files = unpacked(build(self.server))

        async def of_widget(request: Request) -> Response:
            name = request.path_params["name"]
            return Response(files[name], media_type=KINDS[name.rsplit(".", 1)[-1]])

        async def state(_: Request) -> Response:
            return JSONResponse({
                "language": self.language, "global": self.name, "user": self.user, "account": ACCOUNT,
                "phones": self.phones,
                "managers": {user: {"id": user, "title": name, "active": user not in self.left}
                             for user, name in self.managers.items()},
                "card": self.card, "saved": self.saved, "status": self.status, "code": "smartswitch_code"})

        async def saved(request: Request) -> Response:
            told = await request.json()
            before, self.saved, self.status = self.status, told["saved"], told["status"]
            if self.api is not None:
                stand_in: SandboxState = self.api.state.sandbox
                (widget,) = stand_in.account().widgets.values()
                widget.settings = dict(self.saved)
                if self.status != before:
                    await (install if self.status == "installed" else switch_off)(stand_in, self.integration)
            return Response(status_code=204)

        async def token(_: Request) -> Response:
            now = int(time.time() - self.token_age)
            claims = {"iss": self.origin, "aud": self.server, "jti": str(now), "iat": now, "nbf": now,
                      "exp": now + 1800, "account_id": ACCOUNT, "user_id": self.user, "subdomain": "acme",
                      "client_uuid": self.integration}
            return JSONResponse({"token": jwt.encode(claims, self.secret, "HS256")})

        async def page(_: Request) -> Response:
            return FileResponse(PAGE / "page.html")

        async def script(_: Request) -> Response:
            return FileResponse(PAGE / "amocrm.js")

        async def two_tabs(_: Request) -> Response:
            frames = '<iframe src="/page?hurry=20" width="600" height="700"></iframe>' * 2
            html = f"<!doctype html><title>Two</title><link rel=icon href='data:,'>{frames}"
            return Response(html, media_type="text/html")

        return Starlette(routes=[
            Route("/page", page), Route("/two", two_tabs), Route("/widget/{name:path}", of_widget),
            Route("/state", state), Route("/saved", saved, methods=["POST"]), Route("/token", token, methods=["POST"]),
            Route("/amocrm.js", script), *([] if self.api is None else [Mount("/", self.api)])])


@dataclass(slots=True)
class Server:
    """Smartswitch as the widget sees it."""

    url: str
    crm: AmoCrm
    port: int
    asked: list[Asked] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    problems: dict[str, Json] = field(default_factory=dict)      # "POST calls" -> what it is refused with
    connected: Json = field(default_factory=lambda: {
        "client": "Acme", "extensions": 2, "crm_connected": True, "notes": []})
    functions: Json = field(default_factory=dict)
    calls: dict[str, Json] = field(default_factory=dict)
    lost_answers: int = 0              # of the next clicks, that break off before they arrive
    deaf_to_origin: bool = False       # no CORS
    watchers: int = 0
    most_watchers: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _closing: bool = False

    def bodies(self, what: str) -> list[Json]:
        return [asked.body for asked in self.asked if asked.what == what]

    async def asked_for(self, what: str) -> Json:
        """The body of the first request of that kind, now or later."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.bodies(what))
        return self.bodies(what)[0]

    async def change(self, call: str, **members: Any) -> None:
        async with self._changed:
            now = self.calls.setdefault(call, {
                "id": call, "version": 0, "direction": "outbound", "state": "ringing_you", "outcome": None, "why": None,
                "number": "+7 495 123-45-67", "contact": None, "deal": None, "talk_seconds": None, "may_hang_up": True})
            now.update(members, version=now["version"] + 1)
            self._changed.notify_all()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._closing = False
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(serve_web(Website(self._app()), bind_web(WebSettings(port=self.port))))
            yield
            async with self._changed:
                self._closing = True
                self._changed.notify_all()
            serving.cancel()

    def _app(self) -> Starlette:
        cors = Middleware(CORSMiddleware, allow_origins=[] if self.deaf_to_origin else [self.crm.origin],
                          allow_methods=["GET", "POST", "DELETE"], allow_headers=["X-Auth-Token", "Content-Type"])
        return Starlette(middleware=[cors], routes=[
            Route("/healthz", lambda _: Response("ok")),
            Route("/widget/v1/check", self._door(self._check), methods=["POST"]),
            Route("/widget/v1/settings", self._door(self._settings), methods=["GET", "POST"]),
            Route("/widget/v1/calls", self._door(self._calls), methods=["GET", "POST"]),
            Route("/widget/v1/calls/{id}", self._door(self._call), methods=["GET", "DELETE"]),
        ])

    def _door(self, handle: Callable[[Request, Json], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def handler(request: Request) -> Response:
            what = f"{request.method} {request.url.path.removeprefix('/widget/v1/')}"
            try:
                claims = jwt.decode(request.headers["x-auth-token"], SECRET, ["HS256"], audience=self.url,
                                    issuer=self.crm.origin, options={"require": ["exp", "user_id", "account_id"]})
                body = await self._body(request)
                assert request.query_params["lang"] == self.crm.language
                assert set(request.query_params) <= {"lang", "after"}
            except (KeyError, ValueError, AssertionError, jwt.InvalidTokenError) as error:
                self.complaints.append(f"{what}: {error!r}")
                return problem({"status": 400, "title": "Not as agreed", "code": "malformed"})
            async with self._changed:
                self.asked.append(Asked(what, body, claims["user_id"], request.query_params["lang"]))
                self._changed.notify_all()
            if what in self.problems:
                return problem(self.problems[what])
            return await handle(request, body)
        return handler

    async def _body(self, request: Request) -> Json:
        if request.method != "POST":
            assert not await request.body()
            return {}
        assert request.headers["content-type"] == "application/json"
        body: Json = await request.json()
        name = request.url.path.rsplit("/", 1)[-1]
        must, may = {"check": ({"login", "password"}, set()),
                     "calls": ({"phone", "request"}, {"entity", "extension", "age"}),
                     "settings": ({"widget_version", "login", "functions", "extensions"}, {"password"})}[name]
        assert must <= set(body) <= must | may, f"{sorted(body)}"
        if name == "calls":
            UUID(body["request"])
            assert set(body.get("entity", {"type", "id"})) == {"type", "id"}
        if name == "settings":
            Switches.model_validate(body["functions"])
            assert all(user.isdecimal() and number.strip() == number != "" for user, number
                       in body["extensions"].items())
        return body

    async def _check(self, _: Request, __: Json) -> Response:
        return JSONResponse(self.connected)

    async def _settings(self, request: Request, _: Json) -> Response:
        if request.method == "GET":
            return JSONResponse({"client": "Acme", "login": "acme", "functions": self.functions})
        return JSONResponse(self.connected)

    async def _calls(self, request: Request, body: Json) -> Response:
        if request.method == "GET":
            return await self._all_calls(request)
        call = body["request"]
        if call not in self.calls:
            await self.change(call, number=body["phone"])
        if self.lost_answers:
            self.lost_answers -= 1
            return BrokenOff()
        return JSONResponse(self.calls[call], 202)

    async def _all_calls(self, request: Request) -> Response:
        self.watchers += 1
        self.most_watchers = max(self.watchers, self.most_watchers)
        try:
            await self._wait(lambda: request.query_params.get("after") != self._version())
            return JSONResponse({"version": self._version(), "calls": list(self.calls.values())})
        finally:
            self.watchers -= 1

    async def _call(self, request: Request, _: Json) -> Response:
        call = self.calls[request.path_params["id"]]
        if request.method == "DELETE":
            await self.change(call["id"], state="ended", outcome="talked" if call["talk_seconds"] else "cancelled")
        else:
            await self._wait(lambda: request.query_params["after"] != str(call["version"]))
        return JSONResponse(call)

    def _version(self) -> str:
        return " ".join(f"{call['id']}:{call['version']}" for call in self.calls.values()) or "none"

    async def _wait(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(lambda: self._closing or condition()), LONGEST_WAIT)


class BrokenOff(Response):
    """An answer that does not arrive whole: the browser sees the connection end."""

    async def __call__(self, _: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"100")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": False})


def problem(members: Mapping[str, Any]) -> Response:
    body = {"type": "about:blank", **members}
    return Response(json.dumps(body), members["status"], media_type="application/problem+json")


@asynccontextmanager
async def open_amocrm() -> AsyncIterator[tuple[AmoCrm, Server]]:
    """amoCRM with the widget in it; the server does not run yet."""
    port = free_port()
    async with serving_amocrm(AmoCrm(f"http://127.0.0.1:{port}")) as crm:
        yield crm, Server(crm.server, crm, port)


@asynccontextmanager
async def serving_amocrm(crm: AmoCrm) -> AsyncIterator[AmoCrm]:
    sock = bind_web(WebSettings(port=0))
    address = f"127.0.0.1:{sock.getsockname()[1]}"
    crm.origin = f"http://{address}"
    if crm.api is not None:
        crm.api.state.sandbox.address = address
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve_web(Website(crm.app()), sock))
        yield crm
        serving.cancel()


def free_port() -> int:
    with bind_web(WebSettings(port=0)) as free:
        return int(free.getsockname()[1])
