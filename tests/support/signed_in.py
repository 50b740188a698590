"""The pages in a real browser, and somebody who signs in there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from b2bua.cdr import ClientId
from b2bua.config import WebSettings
from b2bua.directory import OPERATOR_LOGIN
from tests.support.chromium import Tab, open_chromium
from tests.support.web_site import OF_OFFICE, PASSWORD, Site, open_site
from web.server import bind_web, serve_web


@dataclass(frozen=True, slots=True)
class Open:
    site: Site
    tab: Tab
    url: str

    async def sign_in(self, login: str = OPERATOR_LOGIN, *, to: str = "/", password: str = "") -> None:
        await sign_in(self.tab, self.url, login, password or OF_OFFICE.get(ClientId(login), PASSWORD), to)


async def sign_in(tab: Tab, url: str, login: str, password: str, to: str = "/") -> None:
    """Until `to` is there, or it is said why not."""
    await tab.open(f"{url}/sign-in?{urlencode({'to': to})}")
    await tab.page.fill("#login", login)
    await tab.page.fill("#password", password)
    await tab.page.press("#password", "Enter")
    await tab.until("document.readyState === 'complete' && "
                    f"(location.pathname === {to!r} || document.querySelector('main [role=alert]'))")


@asynccontextmanager
async def opened_site(directory: Path, *, locale: str = "en-GB") -> AsyncIterator[Open]:
    async with open_site(directory) as site, asyncio.TaskGroup() as tasks:
        sock = bind_web(WebSettings(port=0))
        serving = tasks.create_task(serve_web(site.served, sock))
        async with open_chromium(locale=locale) as tab:
            yield Open(site, tab, f"http://127.0.0.1:{sock.getsockname()[1]}")
        serving.cancel()


@asynccontextmanager
async def signed_in(
    directory: Path, login: str, to: str = "/account", *, locale: str = "en-GB"
) -> AsyncIterator[tuple[Site, Tab]]:
    async with opened_site(directory, locale=locale) as opened:
        await opened.sign_in(login, to=to)
        yield opened.site, opened.tab
