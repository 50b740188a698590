"""Every address is documented."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.routing import Mount, Route

from tests.support.web_site import open_site

DOCUMENT = Path(__file__).parents[3] / "docs" / "web.md"


async def test_every_address_has_a_line_in_the_documentation_and_every_line_an_address(tmp_path: Path) -> None:
    documented = set(re.findall(r"^\| `(/[^`]*)` ", DOCUMENT.read_text("utf-8"), re.MULTILINE))
    async with open_site(tmp_path) as site:
        there = {route.path for route in site.served.app.routes if isinstance(route, Route | Mount)}
    assert documented == there
