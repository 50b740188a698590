"""History, one call, outbox: everybody finds their own calls, sees what their CRM was told, and decides on it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

import web.pages
from b2bua.cdr import CallId, ClientId, Direction, Disposition
from b2bua.crm.outbox import LEASE
from b2bua.crm.port import CallNote, Delivered
from b2bua.directory import CrmAccount, Directory
from b2bua.store.deliveries import OwedState
from tests.support.records import NOON, note, record
from tests.support.web_site import ACME, BETA, OF_OFFICE, OFFICES, Site, form_token, live_call, open_site, sign_in
from web.admin.outbox import shown_row

HOSTILE = "<script>alert(1)</script>\"'&\u202e"


@dataclass(frozen=True)
class Pages:
    site: Site
    acme: httpx.AsyncClient            # of its administrator
    operator: httpx.AsyncClient


@pytest.fixture
def pages(tmp_path: Path) -> AbstractAsyncContextManager[Pages]:
    return _open_pages(tmp_path)


@asynccontextmanager
async def _open_pages(directory: Path) -> AsyncIterator[Pages]:
    async with open_site(directory) as site, site.browser() as acme, site.browser() as operator:
        await sign_in(acme, OF_OFFICE[ACME], ACME)
        await sign_in(operator)
        yield Pages(site, acme, operator)


def calls_of(page: httpx.Response) -> list[str]:
    assert page.status_code == 200, page.text
    return re.findall(r'<p class="when"><a href="/calls/([^"]+)">', page.text)


def with_crm(directory: Directory) -> Directory:
    account = CrmAccount("https://acme.amocrm.ru", "a token")
    return replace(directory, clients=tuple(
        replace(client, crm=account) if client.id == ACME else client for client in directory.clients))


async def owes(site: Site, call: str = "c-1", **changes: object) -> CallNote:
    told = record(call, **changes)
    await site.store.calls.finish(told, [note(told)])
    return note(told)


async def set_aside(site: Site, client: ClientId = ACME) -> int:
    now = datetime.now(UTC)
    (row,) = await site.store.outbox.claim(client, now, now + LEASE, 1)
    await site.store.outbox.set_aside(row.id, "the CRM said no", now)
    return row.id


# -- history


async def test_calls_are_found_by_what_people_type(pages: Pages) -> None:
    await pages.site.store.calls.finish(record("in", caller="+79161234567", contact="Иван Петров"))
    await pages.site.store.calls.finish(record(
        "out", direction=Direction.OUTBOUND, caller="101", dialled="+79161234567", contact=None, recording=None,
        started_at=NOON + timedelta(days=1)))
    await pages.site.store.calls.finish(record(
        "missed", caller="+79037654321", disposition=Disposition.NO_ANSWER, answered_at=None, extension=None,
        rang=("102",), crm_user=None, started_at=NOON + timedelta(days=2)))
    for query, found in (
        ("", ["missed", "out", "in"]),
        ("number=8 (916) 123-45-67", ["out", "in"]),
        ("number=%2B79161234567", ["out", "in"]),
        ("number=4567&direction=inbound", ["in"]),
        ("number=4567&client=beta", ["out", "in"]),        # of an office's administrator that says nothing
        ("name=петр", ["missed", "in"]),
        ("person=e101", ["out", "in"]),
        ("person=e102", ["missed"]),
        ("person=u77", ["out", "in"]),
        ("result=missed", ["missed"]),
        ("result=answered&recording=with", ["in"]),
        ("recording=without", ["out"]),
        ("since=2026-03-03&until=2026-03-03", ["out"]),
        ("since=2026-03-04&zone=Europe/Moscow", ["missed"]),
        ("result=bogus&direction=bogus&person=bogus&zone=../bogus&before=bogus", ["missed", "out", "in"]),
    ):
        assert calls_of(await pages.acme.get(f"/calls?{query}")) == found, query


async def test_days_are_those_of_the_readers_zone(pages: Pages) -> None:
    await pages.site.store.calls.finish(record("late", started_at=datetime(2026, 3, 2, 22, 0, tzinfo=UTC)))
    assert calls_of(await pages.acme.get("/calls?since=2026-03-03&until=2026-03-03")) == []
    assert calls_of(await pages.acme.get("/calls?since=2026-03-03&until=2026-03-03&zone=Europe/Moscow")) == ["late"]


async def test_the_form_keeps_what_was_typed_and_says_what_is_wrong_with_it(pages: Pages) -> None:
    typed = {"number": HOSTILE.replace("1", ""), "name": "я", "since": "yesterday", "result": "busy"}
    page = await pages.acme.get("/calls", params=typed)
    assert page.status_code == 422
    assert "<script>alert" not in page.text
    assert f'value="{typed["number"]}"' in unescape(page.text)
    assert page.text.count('aria-invalid="true"') == 3
    assert 'role="alert"' in page.text
    assert '<option value="busy" selected>' in page.text


async def test_older_pages_keep_the_filter_and_lead_to_all_that_fit(pages: Pages) -> None:
    for number in range(120):
        await pages.site.store.calls.finish(record(f"{number:03}", started_at=NOON + timedelta(seconds=number // 3)))
    seen: list[str] = []
    page = await pages.acme.get("/calls?name=иван")
    assert "120 calls" in page.text
    while True:
        seen += calls_of(page)
        following = re.search(r'rel="next" href="([^"]+)"', page.text)
        if following is None:
            break
        page = await pages.acme.get(unescape(following[1]))
        assert 'value="иван"' in page.text
        assert "120 calls" not in page.text
    assert seen == [f"{number:03}" for number in reversed(range(120))]


async def test_empty_histories_say_what_to_do_next(pages: Pages) -> None:
    assert "Call one of your numbers" in (await pages.acme.get("/calls")).text
    assert "Ask for less" in (await pages.acme.get("/calls?number=0000")).text


async def test_an_office_sees_its_own_calls_only_and_the_operator_all(pages: Pages) -> None:
    await pages.site.store.calls.finish(record("ours"))
    await pages.site.store.calls.finish(record("theirs", client=BETA, contact="Secret Name"))
    for query in ("", "client=beta", "number=2233", "name=иван", "person=e101", "result=answered", "before=9-x"):
        assert "theirs" not in (await pages.acme.get(f"/calls?{query}")).text
    assert calls_of(await pages.operator.get("/calls")) == ["theirs", "ours"]
    assert calls_of(await pages.operator.get("/calls?client=beta")) == ["theirs"]
    assert calls_of(await pages.operator.get("/calls?number=8 495 111-22-33")) == ["theirs", "ours"]
    assert calls_of(await pages.operator.get("/calls?client=nobody%00")) == []


# -- one call


async def test_a_call_tells_its_story(pages: Pages) -> None:
    link = await pages.site.recorded("rec-1")
    await owes(pages.site)
    page = (await pages.acme.get("/calls/c-1")).text
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())
    for said in ("Иван Петров +74951112233", "Answered", "Talk time 1:00", "101 Anna of Acme", "0:00 The call came in",
                 "0:01 101, 102 rang", "0:06 101 answered", "1:06 Ended by the caller: hung up",
                 "responsible user 77 has extension 101", "Call in the card", "is due now"):
        assert said in text, said
    assert '<div class="player" data-waveform="/recordings/rec-1/waveform" data-label=' in page
    assert f'<audio controls preload="none" src="{link}"' in page
    assert '<script src="/static/waveform.js" type="module"></script>' in page


async def test_decisions_stand_among_what_happened_where_their_times_are_known(pages: Pages) -> None:
    await pages.site.store.calls.finish(record(why=("ask the CRM", "101 answered", "<b>held</b>"),
                                               why_after=(0.002, 6.0, 30.5)))
    page = (await pages.acme.get("/calls/c-1")).text
    timeline = page.split('class="timeline">', 1)[1].split("</ol>", 1)[0]
    said = [" ".join(unescape(re.sub(r"<[^>]+>", " ", one)).split()) for one in timeline.split("<li>")[1:]]
    assert [one.partition(" 2026")[0] for one in said] == [
        "0:00 The call came in", "0:00 ask the CRM", "0:01 101, 102 rang", "0:06 101 answered", "0:06 101 answered",
        "0:30 <b>held</b>", "1:06 Ended by the caller: hung up"]
    assert "why-heading" not in page


async def test_what_was_not_recorded_is_said(pages: Pages) -> None:
    await pages.site.store.calls.finish(record())
    assert "The recording was deleted." in (await pages.acme.get("/calls/c-1")).text
    await pages.site.store.recordings.begin("rec-1", CallId("c-1"), ACME)
    assert "being finished" in (await pages.acme.get("/calls/c-1")).text
    await pages.site.store.recordings.failed("rec-1", "the disk is full")
    assert "No recording: the disk is full" in (await pages.acme.get("/calls/c-1")).text
    await pages.site.store.recordings.revoke("rec-1", "acme")
    page = (await pages.acme.get("/calls/c-1")).text
    assert "was withdrawn" in page
    assert "<audio" not in page


async def test_a_call_says_what_its_crm_was_told_and_answered(pages: Pages) -> None:
    await owes(pages.site)
    now = datetime.now(UTC)
    (row,) = await pages.site.store.outbox.claim(ACME, now, now + LEASE, 1)
    await pages.site.store.outbox.done(row.id, Delivered("note 555", card="contacts/9001"), now)
    await pages.site.store.directory.replace(OFFICES, with_crm(OFFICES), 1)
    await pages.site.users.load()
    page = (await pages.acme.get("/calls/c-1")).text
    assert "Delivered" in page
    assert "note 555" in page
    assert 'href="https://acme.amocrm.ru/contacts/detail/9001" rel="noreferrer noopener"' in page
    assert "примечание 555" in (await pages.acme.get("/calls/c-1", headers={"Accept-Language": "ru"})).text
    (owed,) = await pages.site.store.outbox.of_call(ACME, CallId("c-1"))
    assert (owed.state, owed.ended_at, owed.card) == (OwedState.DELIVERED, now, "contacts/9001")
    shown = shown_row(owed, pages.site.users.directory, lambda client: {ACME: "https://acme2.kommo.com"}[client])
    assert shown.card == "https://acme2.kommo.com/contacts/detail/9001"        # the account has moved since


async def test_what_strangers_wrote_is_shown_as_text(pages: Pages) -> None:
    told = record(caller=HOSTILE, dialled=HOSTILE, contact=HOSTILE, why=(HOSTILE,), trunk=HOSTILE, extension=HOSTILE,
                  rang=(HOSTILE,))
    await pages.site.store.calls.finish(told, [note(told)])
    row = await set_aside(pages.site)
    for address in ("/calls", "/calls/c-1", "/outbox", f"/outbox/drop?row={row}"):
        page = await pages.acme.get(address)
        assert page.status_code == 200
        assert "alert(1)" in page.text
        assert "<script>alert" not in page.text


async def test_another_clients_call_is_not_there(pages: Pages) -> None:
    await owes(pages.site, "theirs", client=BETA)
    pages.site.control.calls.append(live_call("up"))
    pages.site.control.calls.append(live_call("up-there", client=BETA))
    nothing = await pages.acme.get("/calls/nothing")
    for id_ in ("theirs", "up-there", "x" * 500, "%00"):
        page = await pages.acme.get(f"/calls/{id_}")
        assert (page.status_code, page.text) == (404, nothing.text), id_
    assert "has not ended yet" in (await pages.acme.get("/calls/up")).text
    assert (await pages.operator.get("/calls/theirs")).status_code == 200


# -- outbox


async def test_what_is_set_aside_is_sent_again(pages: Pages) -> None:
    await owes(pages.site)
    row = await set_aside(pages.site)
    page = await pages.acme.get("/outbox")
    assert "the CRM said no" in page.text
    form = {"token": form_token(page.text), "row": str(row), "to": "call"}
    answer = await pages.acme.post("/outbox/resend", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/calls/c-1?notice=outbox-resent")
    assert [one.id for one in await pages.site.store.outbox.waiting(ACME, 5)] == [row]
    assert "is sent again" in (await pages.acme.get(answer.headers["location"])).text


async def test_dropping_wants_a_reason_and_keeps_who_said_it(pages: Pages) -> None:
    await owes(pages.site)
    row = await set_aside(pages.site)
    page = await pages.acme.get(f"/outbox/drop?row={row}")
    form = {"token": form_token(page.text), "row": str(row)}
    again = await pages.acme.post("/outbox/drop", data={**form, "why": " "})
    assert again.status_code == 422
    assert "Say why" in again.text
    answer = await pages.acme.post("/outbox/drop", data={**form, "why": "a fax"})
    assert answer.headers["location"] == "/outbox?notice=outbox-dropped"
    (owed,) = await pages.site.store.outbox.of_call(ACME, CallId("c-1"))
    assert owed.state is OwedState.DROPPED
    assert re.fullmatch(r"dropped by acme at \S+: a fax; before: the CRM said no", owed.said)
    twice = await pages.acme.post("/outbox/drop", data={**form, "why": "a fax"})
    assert twice.headers["location"] == "/outbox?notice=outbox-unchanged"


async def test_what_waits_long_may_be_hastened_or_dropped_but_not_what_is_on_its_way(pages: Pages) -> None:
    for number in range(3):
        await owes(pages.site, f"c-{number}", caller=f"+7916000000{number}")
    now = datetime.now(UTC)
    rows = [row.id for row in await pages.site.store.outbox.claim(ACME, now, now + LEASE, 3)]
    for row in rows[1:]:
        await pages.site.store.outbox.retry(row, now + timedelta(hours=2), "503")
    page = await pages.acme.get("/outbox?state=waiting")
    token = form_token(page.text)
    for row, notice in ((rows[0], "outbox-unchanged"), (rows[1], "outbox-resent")):
        answer = await pages.acme.post("/outbox/resend", data={"token": token, "row": str(row)})
        assert answer.headers["location"] == f"/outbox?notice={notice}"
    for row, notice in ((rows[0], "outbox-unchanged"), (rows[2], "outbox-dropped")):
        answer = await pages.acme.post("/outbox/drop", data={"token": token, "row": str(row), "why": "a test"})
        assert answer.headers["location"] == f"/outbox?notice={notice}"
    due = {row.id: row.due_at for row in await pages.site.store.outbox.waiting(ACME, 5)}
    assert set(due) == {rows[0], rows[1]}
    assert due[rows[1]] < now + timedelta(minutes=1)


async def test_all_of_a_list_are_decided_on_together(pages: Pages) -> None:
    for number in range(60):
        client = BETA if number % 3 == 0 else ACME
        await owes(pages.site, f"c-{number}", caller=f"+791600000{number:02}", client=client)
        await set_aside(pages.site, client)
    page = await pages.operator.get("/outbox")
    assert page.text.count("Send again") == 50
    more = re.search(r'rel="next" href="([^"]+)"', page.text)
    assert more is not None
    assert (await pages.operator.get(unescape(more[1]))).text.count("Send again") == 10
    asked = await pages.operator.get("/outbox/resend?state=aside&client=acme")
    assert "Send 40 again" in asked.text
    form = {"token": form_token(asked.text), "state": "aside", "client": "acme"}
    answer = await pages.operator.post("/outbox/resend", data=form)
    assert answer.headers["location"] == "/outbox?state=aside&client=acme&notice=outbox-resent"
    assert {row.client for row in await pages.site.store.outbox.aside(None, 100)} == {BETA}
    await pages.operator.post("/outbox/drop", data={**form, "client": "", "why": "all of it"})
    assert await pages.site.store.outbox.aside(None, 100) == []
    assert "there is nothing to decide" in (await pages.operator.get("/outbox?state=aside")).text


async def test_an_office_decides_on_its_own_only(pages: Pages) -> None:
    await owes(pages.site, client=BETA)
    theirs = await set_aside(pages.site, BETA)
    page = await pages.acme.get("/outbox?client=beta")
    assert "the CRM said no" not in page.text
    token = form_token(page.text)
    for word in ("resend", "drop"):
        for row in (str(theirs), "999", "x", "9" * 30):
            data = {"token": token, "row": row, "why": "mine"}
            assert (await pages.acme.get(f"/outbox/{word}?row={row}")).status_code == 404
            assert (await pages.acme.post(f"/outbox/{word}", data=data)).status_code == 404
        everything = {"token": token, "state": "aside", "client": "beta", "why": "mine"}
        await pages.acme.post(f"/outbox/{word}", data=everything)
        assert (await pages.acme.get(f"/outbox/{word}?state=done")).status_code == 404
        assert (await pages.acme.post(f"/outbox/{word}", data={"state": "aside", "why": "mine"})).status_code == 403
    assert [row.id for row in await pages.site.store.outbox.aside(BETA, 5)] == [theirs]


async def test_a_page_gives_others_their_turn_and_is_the_same(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        await pages.site.store.calls.finish(record(f"c-{number}"))
    turns = []

    async def turn(seconds: float) -> None:
        turns.append(seconds)

    at_once = await pages.acme.get("/calls")
    monkeypatch.setattr(web.pages, "PIECE_SECONDS", -1.0)
    monkeypatch.setattr(web.pages, "asyncio", SimpleNamespace(sleep=turn))
    assert (await pages.acme.get("/calls")).text == at_once.text
    assert len(turns) > 100


async def test_the_pages_speak_russian(pages: Pages) -> None:
    await owes(pages.site)
    await set_aside(pages.site)
    for address, said in (("/calls", "1 вызов"), ("/calls/c-1", "Ответил 101"), ("/outbox", "Отложено")):
        page = await pages.acme.get(address, headers={"Accept-Language": "ru"})
        assert said in page.text, address


async def test_nobody_is_shown_anything_without_signing_in(pages: Pages) -> None:
    async with pages.site.browser() as stranger:
        for address in ("/calls", "/calls/c-1", "/outbox", "/outbox/drop?row=1"):
            assert (await stranger.get(address)).status_code == 303
