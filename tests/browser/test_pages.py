"""Every page that there is: on a wide and a narrow screen, by day and by night, in both languages. The addresses are
the application's own, so that a new page cannot be forgotten. What each page is for has tests of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest
from starlette.routing import Route

from b2bua.cdr import Direction
from b2bua.control import Device, ExtensionState, Presence, TrunkState
from b2bua.recording import waveform
from b2bua.recording.waveform import Waveform
from tests.support import accessibility
from tests.support.looks import good_on_every_screen
from tests.support.records import note, record
from tests.support.signed_in import signed_in
from tests.support.web_site import ACME, Site, live_call

HOSTILE = "<script>document.title = 'stolen'</script><img src=x onerror=alert(1)>"
LONG = "ООО «Очень длинное название поставщика канцелярских товаров, которое не помещается ни на одном экране»"
OWN = {"client": (ACME,), "key": ("101", "600", "+74951112233", "acme-line"), "id": ("c-1",), "call": ("c-1",),
       "recording": ("rec-1",)}
ANY = ("101", "600", "acme-line", "c-1")
PROBE = """fetch({path!r}, {{headers: {{accept: 'text/html'}}, redirect: 'manual'}}).then((answer) => {{
    answer.body?.cancel();
    return answer.status === 200 && (answer.headers.get('content-type') || '').startsWith('text/html');
}})"""


async def a_day(site: Site) -> None:
    now = datetime.now(UTC)
    site.control.calls += [
        live_call("l-1"), live_call("l-2", contact=HOSTILE, state="ringing", answered_at=None),
        live_call("l-3", direction=Direction.OUTBOUND, caller="102", dialled="+79265554433", contact=LONG)]
    site.control.trunks += [TrunkState(ACME, "acme-line", True, "registered for 3540 s"),
                            TrunkState(ACME, HOSTILE, False, "no answer to OPTIONS")]
    device = Device("sip:101@192.0.2.17:5062", HOSTILE, "reachable")
    site.control.extensions.append(ExtensionState(ACME, "101", LONG, Presence.TALKING, (device,)))
    await site.recorded("rec-1")
    waveform.keep(Waveform(60.0, 1.0, bytes(range(60)), bytes(60)), site.recordings / "re" / "rec-1.mp3")
    for number, changes in enumerate(({}, {"contact": HOSTILE, "why": (HOSTILE,)}, {"contact": LONG}), 1):
        started = now - timedelta(hours=number)
        finished = record(f"c-{number}", **{"started_at": started, "rang_at": started, "answered_at": started,
                                            "ended_at": started + timedelta(minutes=3), **changes})
        await site.store.calls.finish(finished, [note(finished)])


def candidates(site: Site) -> Iterator[str]:
    """Where a page may be."""
    for route in site.served.app.routes:
        if isinstance(route, Route) and "GET" in (route.methods or ()):
            names = re.findall(r"{(\w+)", route.path)
            for values in product(*(OWN.get(name, ANY) for name in names)):
                path = route.path
                for name, value in zip(names, values, strict=True):
                    path = path.replace(f"{{{name}}}", value)
                yield path


@pytest.mark.skipif(not accessibility.available, reason="axe-core is not there (scripts/test fetches it from npm)")
def test_the_pages_are_judged_by_axe_core() -> None:
    """Without it the tests of pages look at everything else."""


@pytest.mark.patience(600)
@pytest.mark.parametrize(("login", "locale"), [(ACME, "en-GB"), ("operator", "ru-RU")])
async def test_every_page_is_good_on_every_screen(tmp_path: Path, login: str, locale: str) -> None:
    async with signed_in(tmp_path, login, locale=locale) as (site, tab):
        await a_day(site)
        paths = [path for path in dict.fromkeys(candidates(site)) if await tab.value(PROBE.format(path=path))]
        wrong = {}
        origin = await tab.value("location.origin")
        for path in paths:
            tab.complaints.clear()
            await tab.open(origin + path)
            try:
                assert await tab.value("document.documentElement.lang") == locale[:2]
                assert await tab.value("document.querySelectorAll('h1').length") == 1
                assert await tab.value("document.querySelectorAll('main script, main img[src=x]').length") == 0
                await good_on_every_screen(tab, f"{login}{path.replace('/', '_')}")
                assert tab.complaints == []
            except AssertionError as error:
                wrong[path] = str(error)
        assert "/account" in paths
    assert not wrong, "\n".join(f"{path}: {what}" for path, what in wrong.items())


@pytest.mark.parametrize(("locale", "shown"), [
    ("en-GB", "2 Mar, 15:04"), ("en-US", "Mar 2, 03:04 PM"), ("ru-RU", "2 мар., 15:04"),
])
async def test_times_are_written_as_the_reader_s_country_does(tmp_path: Path, locale: str, shown: str) -> None:
    async with signed_in(tmp_path, ACME, locale=locale) as (_, tab):
        text = await tab.value("""import('/static/times.js').then((times) => {
            document.querySelector('main').innerHTML = '<time datetime="2026-03-02T15:04:00"></time>';
            times.showTimes(document);
            return document.querySelector('main').textContent;
        })""")
        assert text.replace("\u202f", " ") == shown
