"""Whether a page can be used by everybody, as far as axe-core sees it (MPL-2.0, fetched by scripts/test)."""

from __future__ import annotations

from pathlib import Path

from tests.support.chromium import Tab

AXE = Path(__file__).parent / "axe" / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = ("serious", "critical")

available = AXE.exists()


async def accessible(tab: Tab, part: str = "html") -> None:
    """Nothing serious is wrong with the page as it stands, or a part of it. Without axe-core nothing is asked
    (tests/browser/test_pages.py tells that it is not there)."""
    if not available:
        return
    await tab.value(AXE.read_text("utf-8"))
    found = await tab.value(f"axe.run({part!r}, {{resultTypes: ['violations']}}).then(result => result.violations)")
    wrong = [f"{rule['impact']}: {rule['help']}: {node['html']}: {node['failureSummary']}"
             for rule in found if rule["impact"] in SERIOUS for node in rule["nodes"]]
    assert not wrong, "\n".join(wrong)
