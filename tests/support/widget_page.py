"""What a person does and sees on the page like amoCRM's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.support.chromium import Tab
from tests.support.widget_server import AmoCrm

CARD = "document.querySelector('.smartswitch-card')"
OUTPUT = "document.querySelector('.smartswitch-form__output')"


@dataclass(frozen=True, slots=True)
class WidgetPage:
    tab: Tab
    crm: AmoCrm

    async def open(self, query: str = "hurry=20", saved: dict[str, str] | None = None) -> None:
        if saved is not None:
            self.crm.saved, self.crm.status = {**saved, "server_url": self.crm.server}, "installed"
        await self.tab.open(f"{self.crm.origin}/page?{query}")
        await self.tab.until("bench.started")

    async def click(self, selector: str = ".call") -> None:
        await self.tab.value(f"document.querySelector({selector!r}).click()")

    async def fill(self, **values: str) -> None:
        """The open window's fields, by their names; user_77: the extension of user 77."""
        for name, value in values.items():
            selector = f'[name="{name}"]' if not name.startswith("user_") else f'[name="extensions[{name[5:]}]"]'
            selector = "#smartswitch-password" if name == "password" else selector
            await self.tab.value(f"document.querySelector('#window ' + {selector!r}).value = {value!r}")

    async def notified(self, number: int) -> list[list[str]]:
        await self.tab.until(f"bench.notifications.length >= {number}")
        shown = await self.tab.value("[...document.querySelectorAll('#notifications div')].map("
                                     "line => [line.className, line.children[0].textContent, line.textContent])")
        return [[kind, header, text.removeprefix(header).strip()] for kind, header, text in shown]

    async def text(self, expression: str) -> Any:
        return await self.tab.value(f"{expression}?.innerText")
