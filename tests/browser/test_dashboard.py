"""The dashboard in a real browser: signing in, what it shows, how it looks, and that it keeps itself current."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta

import lameenc
import pytest

from b2bua.cdr import CallId, Direction, Disposition, EndedBy, EndReason
from b2bua.control import Device, ExtensionState, Heard, Presence, Quality, TrunkState, TurnedAway
from tests.support.looks import good_on_every_screen, keep
from tests.support.records import record
from tests.support.signed_in import Open
from tests.support.web_site import ACME, Site, live_call

HOSTILE = "<script>document.title = 'stolen'</script><img src=x onerror=alert(1)>"


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
        live_call("l-1", quality=Quality(Heard.of(0.0, 4.0), Heard.of(0.0, 8.0))),
        live_call("l-2", state="ringing", contact=None, caller="+79031112233", answered_at=None,
                  started_at=now - timedelta(seconds=8), rings=("101", "102", "103")),
        live_call("l-3", direction=Direction.OUTBOUND, caller="102", dialled="+79265554433", extension="102",
                  contact="ООО «Очень длинное название поставщика канцелярских товаров»",
                  answered_at=now - timedelta(minutes=72), on_hold=True, rings=("103",),
                  quality=Quality(Heard.of(0.0, 4.0), Heard.of(7.0, 48.0))),
        live_call("l-4", contact=HOSTILE, caller="", state="routing", extension=None, answered_at=None, started_at=now),
    ]
    site.control.trunks += [TrunkState(ACME, "operator", True, "registered for 3540 s"),
                            TrunkState(ACME, "reserve", False, "no answer to OPTIONS")]
    site.control.extensions += [
        ExtensionState(ACME, "101", "Анна Каренина", Presence.TALKING, (
            Device("sip:101@192.0.2.17:5062", "Yealink SIP-T54W 96.86.0.70", "reachable"),
            Device("sip:101@198.51.100.9:40123", "Linphone Android", "lagged"))),
        ExtensionState(ACME, "102", HOSTILE, Presence.FREE, (
            Device("sip:x7ab@198.51.100.4:50123;transport=tcp", HOSTILE, "reachable"),)),
        ExtensionState(ACME, "103", "Вера", Presence.RINGING, (
            Device("sip:103@192.0.2.18", "", "reachable"),)),
        ExtensionState(ACME, "104", "", Presence.UNREGISTERED, ())]
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


async def test_it_shows_the_day_in_every_light_and_size(opened: Open) -> None:
    await a_day(opened.site)
    tab = opened.tab
    await tab.open(f"{opened.url}/sign-in")
    await good_on_every_screen(tab, "sign-in")
    await opened.sign_in()
    await tab.until("document.querySelectorAll('[data-list=last] .past').length === 5")
    await tab.value("document.querySelector('[data-key=l-1] details').open = true")
    await good_on_every_screen(tab, "dashboard")
    assert await tab.value("document.querySelectorAll('[data-list=calls] .call').length") == 4
    assert "made 60 outgoing calls" in await tab.value("document.querySelector('main [role=alert]').textContent")
    assert await tab.value("document.title") == "4 calls · Smartswitch"
    assert await tab.value("document.querySelectorAll('main script, main img').length") == 0
    assert (await tab.value("document.querySelector('main').textContent")).count(HOSTILE) == 5
    assert tab.complaints == []


async def test_an_empty_office_and_a_wrong_password(opened: Open) -> None:
    tab = opened.tab
    await tab.look(width=1280, height=700)
    await opened.sign_in(password="wrong password")
    await tab.until("document.querySelector('[role=alert]')")
    await tab.until("document.activeElement.id === 'password'")
    await keep(tab, "sign-in-wrong")
    await opened.sign_in()
    await tab.until("document.querySelector('[data-list=last] .empty')")
    await keep(tab, "dashboard-empty")
    await tab.open(f"{opened.url}/r/nothing.mp3")
    assert await tab.value("document.querySelector('h1').textContent") == "There is no such recording"
    await keep(tab, "problem")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.dashboard.EVERY", 0.05)
    monkeypatch.setattr("web.admin.board.EVERY", 0.02)
    monkeypatch.setattr("web.admin.board.LAST_CALLS_EVERY", 0.02)


async def test_it_keeps_itself_current(opened: Open, quick: None) -> None:
    site, tab = opened.site, opened.tab
    await site.store.calls.finish(record())
    await opened.sign_in()
    await tab.until("document.querySelector('[data-list=last] .past')")
    await tab.until("document.querySelector('#link').textContent === 'kept current'")
    site.control.calls.append(live_call("l-1", state="ringing", answered_at=None))
    await tab.until("document.querySelector('[data-list=calls] .badge.ringing')")
    await tab.until("document.querySelector('#said').textContent === 'New call from Иван Петров'")
    site.control.calls[0] = live_call("l-1", answered_at=datetime.now(UTC) - timedelta(seconds=100))
    await tab.until("document.querySelector('[data-list=calls] .ticking')?.textContent >= '1:41'")     # it counts on
    site.control.calls.clear()
    await site.store.calls.finish(record("c-2", started_at=datetime.now(UTC), recording=None))
    await tab.until("document.querySelectorAll('[data-list=last] .past').length === 2")
    await tab.until("document.querySelector('[data-list=calls] .empty')")
    assert await tab.value("document.querySelector('[data-list=last]').lastElementChild.dataset.key") == "c-1"
    assert await tab.value("document.title") == "Live · Smartswitch"
    await tab.value("document.querySelector('.top form[action=\"/sign-out\"]').requestSubmit()")
    await tab.until("location.pathname === '/sign-in'")
    assert tab.complaints == []


async def test_many_new_calls_are_one_announcement(opened: Open, quick: None) -> None:
    site, tab = opened.site, opened.tab
    await opened.sign_in()
    await tab.until("document.querySelector('#link')?.textContent === 'kept current'")
    site.control.calls.append(live_call("l-0"))
    await tab.until("document.querySelector('#said').textContent === 'New call from Иван Петров'")
    for number in range(1, 5):
        site.control.calls.append(live_call(f"l-{number}"))
        await tab.until(f"document.querySelector('[data-key=l-{number}]')")
    assert await tab.value("document.querySelector('#said').textContent") == "New call from Иван Петров"
    await tab.until("document.querySelector('#said').textContent === 'New calls: 4'")


async def test_what_somebody_fills_in_stays_while_the_page_goes_on(opened: Open, quick: None) -> None:
    site, tab = opened.site, opened.tab
    row, field = "document.querySelector('[data-key=l-2]')", "document.querySelector('#target-l-2')"
    site.control.calls += [live_call("l-1"), live_call("l-2")]
    await opened.sign_in()
    await tab.until("document.querySelector('#link')?.textContent === 'kept current'")
    await tab.value(f"{row}.querySelector('summary').click()")
    await tab.until(f"document.activeElement === {field}")
    await tab.value(f"window.mine = {field}; mine.value = '10'")
    site.control.calls[:] = [live_call("l-3"), live_call("l-2", on_hold=True)]      # another before it, and one is over
    await tab.until(f"{row}.querySelector('.badge.bad')")
    await tab.until("!document.querySelector('[data-key=l-1]')")
    assert await tab.value("[...document.querySelector('[data-list=calls]').children].map(row => row.dataset.key)") == [
        "l-3", "l-2"]
    assert await tab.value(f"document.activeElement === mine && {field} === mine && mine.value === '10'")
    site.control.calls[1] = live_call("l-2", state="ringing", answered_at=None)     # a form that is not offered now
    await tab.until(f"{row}.querySelector('.badge.ringing')")
    assert await tab.value(f"document.activeElement === mine && {field} === mine")
    site.control.calls.clear()
    await tab.until(f"{row}.classList.contains('over')")
    assert await tab.value("mine.value === '10' && mine.form.querySelector('button').disabled")
    await tab.value("mine.closest('details').open = false; document.activeElement.blur()")
    await tab.until(f"!{row}")
    assert tab.complaints == []


async def test_a_call_is_transferred_and_hung_up_from_its_row(opened: Open, quick: None) -> None:
    site, tab = opened.site, opened.tab
    site.control.calls.append(live_call("l-1"))
    await opened.sign_in()
    await tab.until("document.querySelector('#link')?.textContent === 'kept current'")
    await tab.value("document.querySelector('#target-l-1').value = '102'; "
                    "document.querySelector('#target-l-1').form.requestSubmit()")
    await tab.until("document.querySelector('.notice')?.textContent.includes('is being transferred')")
    await tab.until("document.querySelector('[action$=hang-up]')")
    await tab.value("document.querySelector('[action$=hang-up]').requestSubmit()")
    await tab.until("document.querySelector('.notice')?.textContent.includes('was hung up')")
    assert site.control.acted == [("l-1", "102", "operator"), ("l-1", "operator")]
    assert tab.complaints == []
