"""How a page looks and whether it can be used: on every screen, in every light. With SCREENSHOTS=folder the pictures
are kept there."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.accessibility import accessible
from tests.support.chromium import Tab

LOOKS = {"light": (1280, False), "dark": (1280, True), "phone": (390, False), "phone-dark": (390, True)}
OVER_THE_EDGE = """[...document.body.querySelectorAll('*')]
    .filter((one) => one.getBoundingClientRect().right > innerWidth)
    .slice(0, 5).map((one) => one.outerHTML.slice(0, 200))"""

TAB_IN_SIGHT = """(here => !here || (box => box.left >= 0 && box.right <= innerWidth)(here.getBoundingClientRect()))(
    document.querySelector('.tabs [aria-current]'))"""


async def good_on_every_screen(tab: Tab, name: str) -> None:
    """Nobody has to scroll sideways, and axe-core finds nothing serious. The screen is a wide one then, by day."""
    viewport = await tab.value("document.querySelector('meta[name=viewport]')?.content")
    assert "width=device-width" in (viewport or ""), viewport
    for look, (width, dark) in LOOKS.items():
        await tab.look(width=width, dark=dark)
        await keep(tab, f"{name}-{look}")
        if await tab.value("document.documentElement.scrollWidth > innerWidth"):
            raise AssertionError(f"{name} on {look}: wider than the screen: {await tab.value(OVER_THE_EDGE)}")
        await tab.until(TAB_IN_SIGHT)
        await accessible(tab)
    await tab.look(width=1280)


async def keep(tab: Tab, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        await tab.photograph(Path(folder) / f"{name}.png")
