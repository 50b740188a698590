"""Debian's Chromium without a window, driven by Playwright."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Error, Locator, Page, async_playwright

SWITCHES = (
    "--disable-gpu", "--mute-audio", "--autoplay-policy=no-user-gesture-required",
    "--disable-partial-raster",        # a picture does not depend on what was painted there before
)


@dataclass(slots=True)
class Tab:
    """One page. What it logs as an error or a warning (a refused script, a missing file) is kept in `complaints`."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    @classmethod
    async def of(cls, browser: Browser, locale: str) -> Tab:
        """Cookies of its own, as in a browser of somebody else."""
        tab = cls(await browser.new_page(locale=locale, has_touch=True))
        tab.page.on("console", lambda message: tab.hear(message))     # Playwright writes on what a method is of
        tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        return tab

    async def another(self, *, locale: str = "en-GB") -> Tab:
        """Of somebody else, as long as this one is there."""
        assert self.page.context.browser is not None
        return await Tab.of(self.page.context.browser, locale)

    async def open(self, url: str) -> None:
        await self.page.goto(url)

    async def value(self, expression: str) -> Any:
        """Of JavaScript; a promise is waited for."""
        return await self.page.evaluate(expression)

    async def until(self, condition: str) -> None:
        """Asked again while the page does what we cannot watch; the test's patience ends it. Playwright's own waiting
        evaluates inside the page, where the Content-Security-Policy does not let it."""
        while True:
            try:
                if await self.value(f"!!({condition})"):
                    return
            except Error as error:                 # between two pages there is nobody to ask
                if "context was destroyed" not in error.message:
                    raise
            await asyncio.sleep(0.02)

    async def look(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        await self.page.set_viewport_size({"width": width, "height": height})
        await self.page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")

    async def photograph(self, file: Path) -> None:
        """The whole page, however long."""
        await self.page.screenshot(path=file, full_page=True)

    def hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} {message.location['url']}")


@asynccontextmanager
async def open_chromium(*, locale: str = "en-GB") -> AsyncIterator[Tab]:
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=SWITCHES) as browser,
    ):
        yield await Tab.of(browser, locale)


async def go(where: Locator) -> None:
    """By a link or a button, until the other page is there: a click alone comes back while the old one still is."""
    async with where.page.expect_navigation():
        await where.click()
