"""The web on a real socket, inside this loop: events, slow and idle connections, and going down."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from b2bua.config import WebSettings
from tests.support.records import record
from tests.support.web_site import (
    ACME,
    LINKS,
    MP3,
    OF_OFFICE,
    PASSWORD,
    Site,
    form_token,
    live_call,
    open_site,
    sign_in,
)
from web import dashboard, server
from web.server import bind_web, serve_web

pytestmark = pytest.mark.both_loops

PORT_0 = WebSettings(port=0)


@dataclass(frozen=True, slots=True)
class Served:
    site: Site
    port: int
    task: asyncio.Task[None]

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", trust_env=False) as client:
            yield client

    async def signed_in(self, client: httpx.AsyncClient) -> None:
        token = form_token((await client.get("/sign-in")).text)
        answer = await client.post("/sign-in", data={"token": token, "password": PASSWORD})
        assert answer.status_code == 303


@pytest.fixture
def served(tmp_path: Path) -> AbstractAsyncContextManager[Served]:
    return _serve(tmp_path)


@asynccontextmanager
async def _serve(directory: Path) -> AsyncIterator[Served]:
    async with open_site(directory) as site, asyncio.TaskGroup() as tasks:
        sock = bind_web(PORT_0)
        task = tasks.create_task(serve_web(site.served, sock))
        yield Served(site, sock.getsockname()[1], task)
        task.cancel()


async def _next_event(lines: AsyncIterator[str]) -> dict[str, Any]:
    async for line in lines:
        if line.startswith("data: "):
            event: dict[str, Any] = json.loads(line.removeprefix("data: "))
            return event
    raise AssertionError("the stream ended")


async def test_it_serves_pages_and_files(served: Served) -> None:
    path = await served.site.recorded("rec-1", MP3 * 50)
    async with served.browser() as browser:
        assert (await browser.get("/healthz")).text == "ok\n"
        assert (await browser.get("/static/style.css")).headers["content-type"].startswith("text/css")
        assert (await browser.get(path)).content == MP3 * 50
        assert (await browser.get(path, headers={"Range": "bytes=500000-"})).content == (MP3 * 50)[500_000:]
        assert "server" not in (await browser.head(path)).headers


async def test_a_page_is_told_what_changed_and_nothing_else(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "EVERY", 0.02)
    monkeypatch.setattr("web.admin.board.EVERY", 0.01)
    monkeypatch.setattr("web.admin.board.LAST_CALLS_EVERY", 0.0)
    async with served.browser() as browser:
        await served.signed_in(browser)
        token = form_token((await browser.get("/")).text)
        async with browser.stream("GET", "/live") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = aiter(stream.aiter_lines())
            first = await _next_event(lines)
            assert set(first) == {"title", "parts", "lists", "now"}
            assert set(first["lists"]) == {"calls", "extensions", "trunks", "last"}
            served.site.control.calls.append(live_call())
            rang = await _next_event(lines)
            assert set(rang) == {"title", "parts", "lists", "now"}
            assert rang["lists"]["calls"]["order"] == ["live-1"]
            assert "Иван Петров" in rang["lists"]["calls"]["rows"]["live-1"]
            assert f'name="token" value="{token}"' in rang["lists"]["calls"]["rows"]["live-1"]
            served.site.control.calls.clear()
            await served.site.store.calls.finish(record(recording=None))
            over = await _next_event(lines)
            while "last" not in over.get("lists", {}):
                over = await _next_event(lines)
            assert over["lists"]["last"]["order"] == ["c-1"]


async def test_a_quiet_stream_says_that_it_is_there(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "EVERY", 0.01)
    async with served.browser() as browser:
        await served.signed_in(browser)
        async with browser.stream("GET", "/live") as stream:
            async for line in stream.aiter_lines():
                if line == ": still here":
                    return
    pytest.fail("the stream ended")


async def test_signing_out_ends_the_stream(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "EVERY", 0.02)
    async with served.browser() as browser:
        await served.signed_in(browser)
        page = await browser.get("/")
        async with browser.stream("GET", "/live") as stream:
            lines = aiter(stream.aiter_lines())
            await _next_event(lines)
            await browser.post("/sign-out", data={"token": form_token(page.text)})
            with pytest.raises(AssertionError, match="ended"):
                await _next_event(lines)
        assert (await browser.get("/live")).status_code == 401


async def test_only_so_many_pages_are_kept_current(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "MOST_LISTENERS", 1)
    monkeypatch.setattr(dashboard, "EVERY", 0.02)
    async with served.browser() as browser:
        await served.signed_in(browser)
        assert (await browser.head("/live")).status_code == 200
        async with browser.stream("GET", "/live") as stream:
            await _next_event(aiter(stream.aiter_lines()))
            assert (await browser.get("/live")).status_code == 503
        async with asyncio.timeout(5):
            while (await browser.head("/live")).status_code != 200:        # the other one's leaving is noticed
                pass


async def test_one_login_takes_only_its_share_of_these(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "MOST_OF_ACCOUNT", 1)
    monkeypatch.setattr(dashboard, "EVERY", 0.02)
    async with served.browser() as operator, served.browser() as office:
        await served.signed_in(operator)
        await sign_in(office, OF_OFFICE[ACME], ACME)
        async with operator.stream("GET", "/live") as stream:
            await _next_event(aiter(stream.aiter_lines()))
            assert (await operator.get("/live")).status_code == 503
            assert (await office.head("/live")).status_code == 200


async def test_going_down_lets_go_of_listeners_at_once(served: Served) -> None:
    async with served.browser() as browser:
        await served.signed_in(browser)
        async with browser.stream("GET", "/live") as stream:
            lines = aiter(stream.aiter_lines())
            await _next_event(lines)
            started = asyncio.get_running_loop().time()
            served.task.cancel()
            with pytest.raises(AssertionError, match="ended"):
                await _next_event(lines)
            await asyncio.wait([served.task])
            assert asyncio.get_running_loop().time() - started < server.GRACE_SECONDS
        assert served.task.cancelled()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", served.port)


async def test_signals_stay_the_daemons(served: Served) -> None:
    async with served.browser() as browser:
        await browser.get("/healthz")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_who_sends_nothing_is_hung_up_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")                  # and no more
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_who_asks_once_and_then_trickles_is_hung_up_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    writer.write(request + request + b"GET /")                             # two at once are answered in their order
    assert (await reader.read()).count(b"ok\n") == 2
    writer.close()
    await writer.wait_closed()


async def test_more_connections_than_the_limit_are_closed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
    opened = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(3)]
    assert await opened[2][0].read() == b""
    opened[0][1].write(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert (await opened[0][0].read()).endswith(b"ok\n")
    for _, writer in opened:
        writer.close()
        await writer.wait_closed()


async def test_an_office_of_three_hundred_browsers_that_wait_shuts_nobody_out(served: Served) -> None:
    """As each holds a connection by which its widget's live card waits."""
    opened = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(350)]
    opened[-1][1].write(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert (await opened[-1][0].read()).endswith(b"ok\n")
    for _, writer in opened:
        writer.close()
        await writer.wait_closed()


async def test_what_is_no_http_is_refused(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await writer.wait_closed()


async def test_a_player_that_leaves_in_the_middle_harms_nobody(served: Served) -> None:
    path = await served.site.recorded("rec-1", MP3 * 2_000)                # 20 MB: more than the sockets hold
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.transport.abort()
    async with served.browser() as browser:
        assert (await browser.head(LINKS.path("rec-1"))).status_code == 200


def test_a_taken_port_is_said_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=r"set web\.port") as caught:
            bind_web(WebSettings(port=port))
    assert str(caught.value) == (f"the web server cannot listen on 127.0.0.1 port {port} (Address already in use): "
                                 "stop what uses it, or set web.port to a free one")


def test_an_address_of_another_machine_is_said_in_one_sentence() -> None:
    with pytest.raises(OSError, match=r"set web\.host to an address of this machine"):
        bind_web(WebSettings(host="192.0.2.1", port=0))
