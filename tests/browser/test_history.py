"""History, one call and outbox in a real browser: what people come for, and how it looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from b2bua.cdr import CallId, ClientId, Direction, Disposition, EndReason
from b2bua.crm.outbox import LEASE
from b2bua.crm.port import Card, Delivered
from tests.support.amo_post import call_back, card
from tests.support.chromium import go
from tests.support.looks import good_on_every_screen
from tests.support.records import note, record
from tests.support.signed_in import Open
from tests.support.web_site import ACME, BETA, Site

HOSTILE = "<script>document.title = 'stolen'</script><img src=x onerror=alert(1)>\u202e"


async def a_month(site: Site) -> None:
    now = datetime.now(UTC)
    await site.recorded("rec-1")
    for number in range(60):
        start = now - timedelta(hours=number * 11, minutes=7)
        times = {"started_at": start, "rang_at": start + timedelta(seconds=1), "ended_at": start + timedelta(minutes=3),
                 "answered_at": start + timedelta(seconds=6), "recording": "rec-1" if number == 0 else None}
        match number % 4:
            case 1:
                times |= {"answered_at": None, "disposition": Disposition.NO_ANSWER, "status": 480, "extension": None,
                          "reason": EndReason.NOBODY_ANSWERED, "cause": 19}
            case 2:
                times |= {"direction": Direction.OUTBOUND, "caller": "101", "dialled": "+79265554433",
                          "contact": "ООО «Очень длинное название поставщика канцелярских товаров»"}
            case 3:
                times |= {"contact": HOSTILE, "caller": "+79031112233", "why": (HOSTILE, "102 answered")}
        call = record(f"c-{number}", **times)
        await site.store.calls.finish(call, [note(call)])


async def outcomes(site: Site, client: ClientId = ACME) -> None:
    """One delivered, one set aside, one that waits for long."""
    phone = "+79160000001"
    call = record(f"told-{client}", client=client, caller=phone, contact=None, started_at=datetime.now(UTC))
    owed: list[Card] = [card(call.id, phone, client=client)]
    await site.store.calls.finish(call, [*owed, note(call), call_back(call.id, phone, client=client)])
    for outcome in (Delivered("contact 9001", card="contacts/9001"), "400: the user 77 was removed", None):
        now = datetime.now(UTC)
        rows = await site.store.outbox.claim(client, now, now + LEASE, 100)
        row = next(row for row in rows if call.id in row.payload)
        if isinstance(outcome, Delivered):
            await site.store.outbox.done(row.id, outcome, now)
        elif outcome is not None:
            await site.store.outbox.set_aside(row.id, outcome, now)
        else:
            await site.store.outbox.retry(row.id, now + timedelta(hours=2), "CrmUnavailable: 503 Service Unavailable")
        for other in rows:
            if other is not row:
                await site.store.outbox.release(other.id, now - timedelta(seconds=1))


async def test_a_call_is_searched_for_and_opened(opened: Open) -> None:
    await a_month(opened.site)
    await outcomes(opened.site)
    tab = opened.tab
    await opened.sign_in(ACME)
    await tab.open(f"{opened.url}/calls")
    assert await tab.value("document.querySelectorAll('.past').length") == 50
    await good_on_every_screen(tab, "history")
    await tab.value("document.querySelector('a[rel=next]').click()")
    await tab.until("document.querySelectorAll('.past').length === 11")
    assert await tab.value("document.querySelectorAll('.past script, .past img').length") == 0
    await tab.open(f"{opened.url}/calls")
    today = await tab.value("new Date().toLocaleDateString('sv')")
    await tab.value("document.querySelector('#number').value = '8 (916) 000-00-01'; "
                    f"document.querySelector('#since').value = {today!r}; "
                    "document.querySelector('form.search').requestSubmit()")
    await tab.until("location.search && document.querySelectorAll('.past').length === 1")
    zone = await tab.value("Intl.DateTimeFormat().resolvedOptions().timeZone")
    assert await tab.value("new URLSearchParams(location.search).get('zone')") == zone
    assert await tab.value("document.querySelector('#number').value") == "8 (916) 000-00-01"
    await tab.value("document.querySelector('.past .when a').click()")
    await tab.until("document.querySelector('.told')")
    told = await tab.value("[...document.querySelectorAll('.told .badge')].map(one => one.textContent)")
    assert told == ["Delivered", "Set aside", "Waits"]
    await good_on_every_screen(tab, "call")
    await tab.value("document.querySelector('.decide button').click()")
    await tab.until("document.querySelector('[role=status]')")
    assert await tab.value("[...document.querySelectorAll('.told .badge')].map(one => one.textContent)") == [
        "Delivered", "Waits", "Waits"]
    await tab.open(f"{opened.url}/calls/c-0")
    await good_on_every_screen(tab, "recorded")
    await tab.open(f"{opened.url}/calls/c-3")
    await good_on_every_screen(tab, "hostile")
    assert await tab.value("document.querySelectorAll('main script, main img').length") == 0
    await tab.open(f"{opened.url}/calls?number=x&name=y&since=2026-01-01")
    assert await tab.value("document.querySelectorAll('[aria-invalid]').length") == 2
    await good_on_every_screen(tab, "wrong")
    assert [one for one in tab.complaints if "waveform" not in one and "422" not in one] == []


async def test_what_was_set_aside_is_dropped_with_a_reason(opened: Open) -> None:
    for client in (ACME, BETA):
        await outcomes(opened.site, client)
    tab = opened.tab
    await opened.sign_in()
    await tab.open(f"{opened.url}/outbox")
    assert await tab.value("document.querySelectorAll('h2').length") == 2
    await good_on_every_screen(tab, "outbox")
    await tab.value("document.querySelector('.decide a').click()")
    await tab.until("document.querySelector('#why')")
    await good_on_every_screen(tab, "outbox-drop")
    await tab.value("document.querySelector('#why').value = 'a fax'; document.querySelector('button.danger').click()")
    await tab.until("document.querySelector('[role=status]')?.textContent === 'Dropped.'")
    (owed,) = [row for row in await opened.site.store.outbox.of_call(ACME, CallId("told-acme"))
               if row.state.value == "dropped"]
    assert owed.said.startswith("dropped by operator at ")
    await tab.open(f"{opened.url}/outbox?state=waiting")
    await good_on_every_screen(tab, "outbox-waiting")
    await tab.open(f"{opened.url}/outbox?state=aside&client=beta")
    await go(tab.page.get_by_role("button", name="Send again"))
    await tab.page.get_by_text("It is sent again within half a minute.").wait_for()
    assert "aside" not in [row.state.value for row in await opened.site.store.outbox.of_call(BETA, CallId("told-beta"))]
    await tab.open(f"{opened.url}/outbox?state=waiting")
    await go(tab.page.get_by_role("link", name="Send all of them"))
    await good_on_every_screen(tab, "outbox-send")
    await go(tab.page.get_by_role("button", name="Send 3 again"))
    await tab.page.get_by_text("It is sent again within half a minute.").wait_for()
    await tab.open(f"{opened.url}/outbox?state=aside&client=acme")
    await good_on_every_screen(tab, "outbox-empty")
    assert tab.complaints == []
