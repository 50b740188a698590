"""The web server by its own certificate: shown, renewed, and who does not shake hands."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from b2bua.commands.daemon_link import DaemonUnreachable, ask_daemon
from b2bua.config import ServerSettings, Settings, WebSettings
from b2bua.net.certificates import CertificateFiles, ServerIdentity
from tests.support.certificates import DAY, Authority, dns, ip
from tests.support.web_site import KEYS, PASSWORD, Site, form_token, open_site
from web import server
from web.server import bind_web, serve_web

pytestmark = pytest.mark.both_loops

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Served:
    site: Site
    port: int
    task: asyncio.Task[None]
    authority: Authority
    identity: ServerIdentity

    async def renew(self) -> None:
        """As the daemon looks at its files now and then."""
        await asyncio.to_thread(self.identity.refresh, datetime.now(UTC))

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[httpx.AsyncClient]:
        context = ssl.create_default_context(cafile=str(self.authority.file))
        async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{self.port}", trust_env=False,
                                     verify=context) as client:
            yield client

    async def connect(self) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.authority.client())

    @asynccontextmanager
    async def plain(self) -> AsyncIterator[Streams]:
        """Speaks no TLS."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        yield reader, writer
        await _closed(writer)

    async def shown(self) -> bytes:
        """The certificate that a new connection gets."""
        _, writer = await self.connect()
        certificate = shown_by(writer)
        await _closed(writer)
        return certificate


def shown_by(writer: asyncio.StreamWriter) -> bytes:
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    assert isinstance(certificate, bytes)
    return certificate


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:                    # the other side was faster
        return


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return CertificateFiles(tmp_path / "pbx.pem", tmp_path / "pbx.key")


@pytest.fixture
def served(tmp_path: Path, files: CertificateFiles) -> AbstractAsyncContextManager[Served]:
    return _serve(tmp_path, files)


@asynccontextmanager
async def _serve(directory: Path, files: CertificateFiles) -> AsyncIterator[Served]:
    authority = Authority(directory)
    issue(authority)
    identity = ServerIdentity(files)
    settings = {"certificate": files.certificate, "certificate_key": files.key}
    async with open_site(directory, **settings) as site, asyncio.TaskGroup() as tasks:
        sock = bind_web(WebSettings(port=0))
        task = tasks.create_task(serve_web(site.served, sock, identity))
        yield Served(site, sock.getsockname()[1], task, authority, identity)
        task.cancel()


def issue(authority: Authority) -> CertificateFiles:
    return authority.issue("pbx", *dns("pbx.test"), *ip("127.0.0.1"))


async def test_a_browser_that_trusts_the_authority_is_served(served: Served) -> None:
    async with served.browser() as browser:
        alive = await browser.get("/healthz")
        assert alive.text == "ok\n"
        assert alive.headers["strict-transport-security"] == "max-age=31536000"
        path = await served.site.recorded("rec-1")
        assert (await browser.get(path, headers={"Range": "bytes=5-9"})).status_code == 206
        form = await browser.get("/sign-in")
        signed_in = await browser.post("/sign-in", data={"token": form_token(form.text), "password": PASSWORD})
        cookie = signed_in.headers["set-cookie"]
        assert cookie.startswith("__Host-session=")
        assert "; Secure" in cookie
        assert (await browser.get("/")).status_code == 200


async def test_a_renewed_certificate_is_for_new_connections_and_old_ones_go_on(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(REQUEST)
    await reader.readuntil(b"ok\n")
    before = shown_by(writer)
    issue(served.authority)
    assert await served.shown() == before              # nobody has looked at the files yet
    await served.renew()
    assert await served.shown() != before
    writer.write(REQUEST)
    assert await reader.readuntil(b"ok\n")
    await _closed(writer)


@pytest.mark.parametrize("fault", ["no certificate", "expired", "key of another", "gone"])
async def test_a_pair_that_is_no_good_leaves_the_old_one(
    served: Served, files: CertificateFiles, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = await served.shown()
    match fault:
        case "no certificate":
            files.certificate.write_text("nonsense")
        case "expired":
            served.authority.issue("pbx", *dns("pbx.test"), since=-3 * DAY, until=-2 * DAY)
        case "key of another":
            files.key.write_bytes(served.authority.issue("another").key.read_bytes())
        case "gone":
            files.certificate.unlink()
    await served.renew()
    assert await served.shown() == before
    (line,) = [record for record in caplog.records if "not taken" in record.getMessage()]
    assert line.levelname == "ERROR"
    issue(served.authority)
    await served.renew()
    assert await served.shown() != before


async def test_who_does_not_shake_hands_is_hung_up_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(server, "HANDSHAKE_SECONDS", 0.05)
        async with served.plain() as (reader, _):
            assert await reader.read() == b""
    async with served.browser() as browser:
        assert (await browser.get("/healthz")).status_code == 200
    assert served.site.served.counters.failed_handshakes == 1


async def test_plain_http_is_no_handshake(served: Served) -> None:
    async with served.plain() as (reader, writer):
        writer.write(REQUEST)
        assert b"HTTP" not in await reader.read()
    async with served.browser() as browser:
        assert (await browser.get("/healthz")).status_code == 200
    assert served.site.served.counters.failed_handshakes == 1


async def test_who_shakes_hands_and_says_nothing_is_hung_up_on(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.05)
    reader, writer = await served.connect()
    assert await reader.read() == b""
    assert served.site.served.counters.slow_connections_closed == 1
    await _closed(writer)


async def test_who_only_shakes_hands_counts_among_the_connections(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
    async with served.plain(), served.plain():
        async with served.plain() as (reader, _):
            assert await reader.read() == b""
        assert served.site.served.counters.connections_refused == 1
    await served.shown()
    assert served.site.served.counters.failed_handshakes == 2


async def test_going_down_waits_for_no_handshake(served: Served) -> None:
    async with served.plain() as (reader, _):
        await asyncio.sleep(0)
        served.task.cancel()
        await asyncio.wait([served.task])
        assert await reader.read() == b""
    assert served.task.cancelled()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", served.port)


async def test_the_command_line_asks_a_daemon_that_speaks_tls(
    served: Served, files: CertificateFiles, tmp_path: Path
) -> None:
    settings = Settings(
        server=ServerSettings(data_dir=tmp_path / "data"),
        web=WebSettings(port=served.port, certificate=files.certificate, certificate_key=files.key))
    keys = tmp_path / "data" / "keys"
    keys.mkdir(parents=True)
    (keys / "control").write_text(KEYS.control_token)
    assert (await asyncio.to_thread(ask_daemon, settings, "GET", "/api/live"))["calls"] == []
    without = settings.model_copy(update={"web": WebSettings(port=served.port)})
    with pytest.raises(DaemonUnreachable):
        await asyncio.to_thread(ask_daemon, without, "GET", "/api/live")
