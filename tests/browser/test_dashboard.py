"""The dashboard in a real browser: signing in, what it shows, how it looks, and that it keeps itself current."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lameenc
import pytest

from b2bua.cdr import CallId, Direction, Disposition, EndedBy, EndReason
from b2bua.config import WebSettings
from b2bua.control import RegisteredPhone, TrunkState, TurnedAway
from tests.support.chromium import Tab, open_chromium
from tests.support.records import record
from tests.support.web_site import ACME, PASSWORD, Site, live_call, open_site
from web.server import bind_web, serve_web

HOSTILE = "<script>document.title = 'stolen'</script><img src=x onerror=alert(1)>"
LOOKS = {"light": (1280, False), "dark": (1280, True), "phone": (390, False), "phone-dark": (390, True)}


@dataclass(frozen=True, slots=True)
class Open:
    site: Site
    tab: Tab
    url: str

    async def sign_in(self, password: str = PASSWORD) -> None:
        await self.tab.open(f"{self.url}/sign-in")
        await self.tab.value(f"document.querySelector('#password').value = {password!r}; "
                             "document.querySelector('form').requestSubmit()")


@pytest.fixture
def opened(tmp_path: Path) -> AbstractAsyncContextManager[Open]:
    return _open(tmp_path)


@asynccontextmanager
async def _open(directory: Path) -> AsyncIterator[Open]:
    async with open_site(directory) as site, asyncio.TaskGroup() as tasks:
        sock = bind_web(WebSettings(port=0))
        serving = tasks.create_task(serve_web(site.app, sock))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with open_chromium(directory / "profile") as tab:
            yield Open(site, tab, url)
        serving.cancel()


def tone(seconds: int) -> bytes:
    """A small MP3."""
    encoder = lameenc.Encoder()
    encoder.set_channels(1)
    encoder.set_in_sample_rate(8000)
    encoder.set_bit_rate(16)
    encoder.silence()
    samples = [round(8000 * math.sin(math.tau * 440 * n / 8000)) for n in range(8000 * seconds)]
    return bytes(encoder.encode(struct.pack(f"<{len(samples)}h", *samples)) + encoder.flush())


async def a_day(site: Site) -> None:
    """What an office sees on a normal day, and a guest who is none."""
    now = datetime.now(UTC)
    site.control.calls += [
        live_call("l-1"),
        live_call("l-2", state="ringing", contact=None, caller="+79031112233", answered_at=None,
                  started_at=now - timedelta(seconds=8)),
        live_call("l-3", direction=Direction.OUTBOUND, caller="102", dialled="+79265554433", extension="102",
                  contact="ООО «Очень длинное название поставщика канцелярских товаров»",
                  answered_at=now - timedelta(minutes=72)),
        live_call("l-4", contact=HOSTILE, caller="", state="routing", extension=None, answered_at=None, started_at=now),
    ]
    site.control.trunks += [TrunkState(ACME, "operator", True, "registered for 3540 s"),
                            TrunkState(ACME, "reserve", False, "no answer to OPTIONS")]
    site.control.phones += [RegisteredPhone(ACME, "101", "sip:101@192.0.2.17:5062", "Yealink SIP-T54W 96.86.0.70", 250),
                            RegisteredPhone(ACME, "102", "sip:x7ab@198.51.100.4:50123;transport=tcp", HOSTILE, 99)]
    site.control.alarming.append("101 of acme has made 60 outgoing calls within the hour (outgoing_per_hour)")
    nearest = "number +74951112233 belongs to acme, whose operator (acme) has 203.0.113.0/24"
    site.control.strangers += [TurnedAway(now, "203.0.114.7", "+74951112233", nearest, "challenge"),
                               TurnedAway(now, "198.51.100.9", HOSTILE, "nearest is operator (acme)", "silence")]
    await site.recorded("rec-1", tone(3))
    await site.store.recordings.begin("rec-2", CallId("c-2"), ACME)
    await site.store.recordings.begin("rec-3", CallId("c-3"), ACME)
    await site.store.recordings.failed("rec-3", "no RTP came from either side")
    start = now - timedelta(hours=30)
    times = {"started_at": start, "rang_at": start, "answered_at": start, "ended_at": start + timedelta(minutes=3)}
    missed = {"answered_at": None, "recording": None, "ended_by": EndedBy.CALLER, "reason": EndReason.CANCELLED}
    for number, changes in enumerate((
        {**times},
        {**times, "recording": "rec-2", "direction": Direction.OUTBOUND, "caller": "101", "dialled": "+79265554433"},
        {**times, "recording": "rec-3", "contact": HOSTILE, "why": (HOSTILE,)},
        {**times, **missed, "disposition": Disposition.ABANDONED, "status": 487, "contact": None, "extension": None},
        {**times, **missed, "disposition": Disposition.NO_ANSWER, "status": 480},
        {**times, **missed, "disposition": Disposition.REFUSED, "status": 404, "caller": "", "contact": None,
         "extension": None, "rang": (), "ended_by": EndedBy.SWITCH, "reason": EndReason.NOTHING_TO_RING},
        {**times, "recording": None, "direction": Direction.INTERNAL, "caller": "101", "dialled": "102",
         "contact": None, "trunk": None},
    )):
        shift = timedelta(hours=4 * number)
        moments = {name: value + shift for name, value in changes.items() if isinstance(value, datetime)}
        await site.store.calls.finish(record(f"c-{number + 1}", **{**changes, **moments}))


async def test_it_shows_the_day_in_every_light_and_size(opened: Open, tmp_path: Path) -> None:
    await a_day(opened.site)
    tab = opened.tab
    await tab.look(width=390)
    await tab.open(f"{opened.url}/sign-in")
    await tab.photograph(tmp_path / "sign-in-phone.png")
    await opened.sign_in()
    await tab.until("document.querySelectorAll('#history .past').length === 7")
    await tab.value("document.querySelector('#history details').open = true")
    for name, (width, dark) in LOOKS.items():
        await tab.look(width=width, dark=dark)
        await tab.photograph(tmp_path / f"dashboard-{name}.png")
        assert await tab.value("document.documentElement.scrollWidth") <= width
    assert await tab.value("document.querySelectorAll('#live .call').length") == 4
    assert "made 60 outgoing calls" in await tab.value("document.querySelector('#live [role=alert]').textContent")
    assert await tab.value("document.title") == "4 calls · Smartswitch"
    assert await tab.value("document.querySelectorAll('#live script, #history script, #live img').length") == 0
    assert (await tab.value("document.querySelector('#live').textContent")).count(HOSTILE) == 3
    assert await tab.value("document.querySelectorAll('audio').length") == 1
    assert tab.complaints == []


async def test_an_empty_office_and_a_wrong_password(opened: Open, tmp_path: Path) -> None:
    tab = opened.tab
    await tab.look(width=1280, height=700)
    await opened.sign_in("wrong password")
    await tab.until("document.querySelector('[role=alert]')")
    await tab.until("document.activeElement.id === 'password'")
    await tab.photograph(tmp_path / "sign-in-wrong.png")
    await opened.sign_in()
    await tab.until("document.querySelector('#history .empty')")
    await tab.photograph(tmp_path / "dashboard-empty.png")
    await tab.open(f"{opened.url}/r/nothing.mp3")
    assert await tab.value("document.querySelector('h1').textContent") == "There is no such recording"
    await tab.photograph(tmp_path / "problem.png")


async def test_it_keeps_itself_current_and_does_not_disturb_a_listener(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.dashboard.EVERY", 0.05)
    monkeypatch.setattr("web.board.EVERY", 0.02)
    site, tab = opened.site, opened.tab
    await site.recorded("rec-1", tone(20))
    await site.store.calls.finish(record())
    await opened.sign_in()
    await tab.until("document.querySelector('audio')")
    await tab.value("document.querySelector('details').open = true; document.querySelector('audio').play()")
    await tab.until("document.querySelector('audio').currentTime > 0.2")
    await tab.value("document.querySelector('audio').currentTime = 15")              # by a Range request
    site.control.calls.append(live_call("l-1", state="ringing", answered_at=None))
    await tab.until("document.querySelector('#live .badge.ringing')")
    site.control.calls[0] = live_call("l-1", answered_at=datetime.now(UTC) - timedelta(seconds=100))
    await tab.until("document.querySelector('#live .ticking')?.textContent >= '1:41'")     # the browser counts on
    site.control.calls.clear()
    await site.store.calls.finish(record("c-2", started_at=datetime.now(UTC), recording=None))
    await tab.until("document.querySelectorAll('#history .past').length === 2")
    await tab.until("document.querySelector('#live .empty')")
    old_row = "document.querySelector('[data-key^=c-1]')"
    assert await tab.value(f"{old_row} === document.querySelector('#history').lastElementChild")
    assert await tab.value(f"{old_row}.querySelector('details').open")
    assert not await tab.value("document.querySelector('audio').paused")
    assert await tab.value("document.querySelector('audio').currentTime") >= 15
    assert await tab.value("document.title") == "Calls · Smartswitch"
    await tab.value("document.querySelector('.top form').requestSubmit()")
    await tab.until("location.pathname === '/sign-in'")
    assert tab.complaints == []
