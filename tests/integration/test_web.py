"""The web without a socket: who may see what, recordings, the dashboard's parts, and what is refused."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from b2bua.cdr import CallId, Disposition
from b2bua.control import RegisteredPhone, TrunkState
from b2bua.sip.throttle import Ban, Banned
from b2bua.store.calls import CallJournal
from b2bua.store.engine import StoreUnavailable
from b2bua.store.recordings import RecordingRows
from tests.support.records import record
from tests.support.web_site import ACME, KEYS, LINKS, MP3, Site, form_token, live_call, open_site, sign_in
from web.lockout import FREE_FAILURES

JSON = {"Accept": "application/json"}
HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture
def site(tmp_path: Path) -> AbstractAsyncContextManager[Site]:
    return open_site(tmp_path)


# -- health


async def test_it_says_that_it_lives_and_whether_it_should_get_calls(site: Site) -> None:
    async with site.browser() as anybody:
        assert (await anybody.get("/healthz")).text == "ok\n"
        assert (await anybody.get("/readyz")).status_code == 200
        site.control.reasons.append("draining")
        site.store.calls.failing_since = 1.0
        answer = await anybody.get("/readyz")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["reasons"] == ["draining", "the database does not answer"]
        assert answer.json()["remedy"]


async def test_metrics_are_for_the_named_networks_and_the_signed_in(site: Site) -> None:
    async with site.browser(address="127.0.0.1", headers=JSON) as scraper:
        answer = await scraper.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert b"smartswitch_live_calls" in answer.content
        behind_a_proxy_that_is_not_ours = await scraper.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"})
        assert behind_a_proxy_that_is_not_ours.status_code == 401
    async with site.browser() as stranger:
        assert (await stranger.get("/metrics")).headers["location"] == "/sign-in"
        await sign_in(stranger)
        assert b"smartswitch_live_calls" in (await stranger.get("/metrics")).content


async def test_what_visitors_do_is_counted(site: Site) -> None:
    path = await site.recorded("rec-1")
    async with site.browser(address="127.0.0.1") as browser:
        await sign_in(browser, "wrong")
        await sign_in(browser)
        await browser.get(path)
        await browser.get("/r/nothing.mp3")
        await browser.get("/api/live")
        page = (await browser.get("/metrics")).text
    for event in ("wrong_passwords", "signed_in", "recordings_served", "recordings_refused", "wrong_tokens"):
        assert f'smartswitch_web_events_total{{event="{event}"}} 1.0' in page


# -- recordings


async def test_a_recording_plays_without_signing_in_and_can_be_sought_in(site: Site) -> None:
    path = await site.recorded("rec-1")
    async with site.browser() as player:
        whole = await player.get(path)
        assert (whole.status_code, whole.content) == (200, MP3)
        assert whole.headers["content-type"] == "audio/mpeg"
        assert whole.headers["accept-ranges"] == "bytes"
        assert whole.headers["content-disposition"] == 'inline; filename="call-2026-03-02-12-00-00-c-1.mp3"'
        assert whole.headers["cross-origin-resource-policy"] == "cross-origin"
        part = await player.get(path, headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, MP3[100:200])
        assert part.headers["content-range"] == f"bytes 100-199/{len(MP3)}"
        head = await player.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(MP3))
        assert head.headers["etag"] == whole.headers["etag"] == part.headers["etag"]


@pytest.mark.parametrize(("asked", "status", "content"), [
    ("bytes=0-", 206, MP3), ("bytes=-10", 206, MP3[-10:]), (f"bytes=0-{10**12}", 206, MP3),
    (f"bytes={len(MP3)}-", 416, b""), ("bytes=9-3", 200, MP3),
    ("bytes=0-1,5-6", 200, MP3), ("items=0-5", 200, MP3), ("bytes=x-y", 200, MP3), ("bytes=-", 200, MP3),
    ("bytes=" + "9" * 5000 + "-", 200, MP3),
])
async def test_ranges_of_all_kinds(site: Site, asked: str, status: int, content: bytes) -> None:
    path = await site.recorded("rec-1")
    async with site.browser() as player:
        answer = await player.get(path, headers={"Range": asked})
        assert answer.status_code == status
        assert answer.content == content
        if status == 416:
            assert answer.headers["content-range"] == f"bytes */{len(MP3)}"


async def test_what_the_player_has_is_not_sent_again(site: Site) -> None:
    path = await site.recorded("rec-1")
    async with site.browser() as player:
        etag = (await player.head(path)).headers["etag"]
        again = await player.get(path, headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
        goes_on = await player.get(path, headers={"Range": "bytes=5-9", "If-Range": etag})
        assert goes_on.content == MP3[5:10]
        other_now = await player.get(path, headers={"Range": "bytes=5-9", "If-Range": '"other"'})
        assert (other_now.status_code, other_now.content) == (200, MP3)


@pytest.mark.parametrize("path", [
    "/r/rec-1.mp3", "/r/rec-1..mp3", "/r/.mp3", "/r/%2e%2e%2fweb.db.mp3", "/r/%00.mp3", "/r/é.é.mp3",
    "/r/rec-1." + "A" * 32 + ".mp3", "/r/" + "x" * 5000 + ".mp3"])
async def test_a_link_that_we_did_not_make_opens_nothing(site: Site, path: str) -> None:
    await site.recorded("rec-1")
    async with site.browser(headers=JSON) as stranger:
        answer = await stranger.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["remedy"]


async def test_a_withdrawn_recording_says_so_and_can_come_back(site: Site) -> None:
    path = await site.recorded("rec-1")
    async with site.browser(headers=JSON) as player:
        await site.store.recordings.revoke("rec-1")
        assert (await player.get(path)).status_code == 410
        assert (await player.get(path, headers={"Range": "bytes=0-1"})).status_code == 410
        await site.store.recordings.revoke("rec-1", revoked=False)
        assert (await player.get(path)).status_code == 200


async def test_a_recording_that_is_not_there_says_why(site: Site) -> None:
    path = await site.recorded("rec-1")
    (site.recordings / "re" / "rec-1.mp3").unlink()
    async with site.browser(headers=JSON) as player:
        gone = await player.get(path)
        assert (gone.status_code, gone.json()["title"]) == (404, "The file of this recording is gone")
        await site.store.recordings.begin("rec-2", CallId("c-2"), ACME)
        unfinished = await player.get(LINKS.path("rec-2"))
        assert (unfinished.status_code, unfinished.headers["retry-after"]) == (404, "5")
        assert unfinished.json()["title"] == "This recording is not finished yet"
        await site.store.recordings.failed("rec-2", "no RTP came")
        assert (await player.get(LINKS.path("rec-2"))).json()["remedy"] == "no RTP came"
        person = await player.get(LINKS.path("rec-2"), headers={"Accept": "text/html"})
        assert person.headers["content-type"].startswith("text/html")
        assert "This call could not be recorded" in person.text


async def test_no_path_leads_out_of_the_recordings(site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret.mp3").write_bytes(b"secret")
    (site.recordings / "link.mp3").symlink_to(tmp_path / "secret.mp3")
    async with site.browser(headers=JSON) as stranger:
        for number, path in enumerate(("../secret.mp3", str(tmp_path / "secret.mp3"), "link.mp3", "", ".")):
            await site.store.recordings.begin(f"out-{number}", CallId("c-1"), ACME)
            await site.store.recordings.finished(f"out-{number}", path, 1.0, 6)
            assert (await stranger.get(LINKS.path(f"out-{number}"))).status_code == 404


# -- signing in


async def test_signing_in_opens_the_pages_and_signing_out_closes_them(site: Site) -> None:
    async with site.browser() as browser:
        assert (await browser.get("/")).headers["location"] == "/sign-in"
        signed_in = await sign_in(browser)
        assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/")
        cookie = signed_in.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        page = await browser.get("/")
        assert page.status_code == 200
        stolen = dict(browser.cookies)
        assert (await browser.post("/sign-out", data={"token": "forged"})).status_code == 403
        assert (await browser.get("/")).status_code == 200
        await browser.post("/sign-out", data={"token": form_token(page.text)})
        assert (await browser.get("/")).status_code == 303
    async with site.browser() as thief:
        thief.cookies.update(stolen)
        assert (await thief.get("/")).status_code == 303


async def test_over_https_no_cookie_goes_over_http(tmp_path: Path) -> None:
    async with open_site(tmp_path, public_url="https://pbx.example.org") as site, site.browser() as browser:
        signed_in = await sign_in(browser)
        assert signed_in.headers["set-cookie"].startswith("__Host-session=")
        assert "; Secure" in signed_in.headers["set-cookie"]
        assert (await browser.get("/")).status_code == 200


async def test_a_wrong_password_is_told_and_guessing_gets_slower(site: Site) -> None:
    async with site.browser() as browser:
        for _ in range(FREE_FAILURES + 1):
            wrong = await sign_in(browser, "wrong")
            assert wrong.status_code == 403
            assert "That is not the password" in wrong.text
        locked = await sign_in(browser)
        assert locked.status_code == 429
        assert 0 < int(locked.headers["retry-after"]) <= 2
    async with site.browser(address="203.0.113.6") as somebody_else:
        assert (await sign_in(somebody_else)).status_code == 303


async def test_guesses_at_once_count_as_well(site: Site) -> None:
    async with site.browser() as browser:
        token = form_token((await browser.get("/sign-in")).text)
        guesses = (browser.post("/sign-in", data={"token": token, "password": f"guess {n}"}) for n in range(20))
        statuses = [answer.status_code for answer in await asyncio.gather(*guesses)]
        assert statuses.count(403) == FREE_FAILURES + 1
        assert statuses.count(429) == 20 - FREE_FAILURES - 1


@pytest.mark.parametrize(("body", "status"), [
    (b"", 403), (b"password=correct+horse+battery", 403), (b"token=x&password=y", 403), (b"\xff\xfe", 400),
    (b"&".join(b"%d=1" % n for n in range(50)), 400), (b"password=" + b"x" * 20_000, 413)])
async def test_forms_that_are_not_ours_do_nothing(site: Site, body: bytes, status: int) -> None:
    async with site.browser() as browser:
        await browser.get("/sign-in")
        answer = await browser.post("/sign-in", content=body)
        assert answer.status_code == status
        assert (await browser.get("/")).status_code == 303


async def test_programs_get_problem_json_where_people_are_sent_to_sign_in(site: Site) -> None:
    async with site.browser(headers=JSON) as program:
        for path in ("/", "/live", "/metrics"):
            answer = await program.get(path)
            assert (answer.status_code, answer.json()["remedy"]) == (401, "Sign in at /sign-in first.")


# -- the dashboard


async def test_the_dashboard_shows_what_goes_on_and_what_went_on(site: Site) -> None:
    site.control.calls.append(live_call())
    site.control.trunks.append(TrunkState(ACME, "operator", False, "no answer to OPTIONS"))
    site.control.phones.append(RegisteredPhone(ACME, "101", "sip:101@192.0.2.7", "Yealink T54W", 250))
    await site.recorded("rec-1")
    await site.store.calls.finish(record())
    async with site.browser() as browser:
        await sign_in(browser)
        page = (await browser.get("/")).text
    for part in ("Иван Петров", "+79161234567", "Talking", "with 101", "no answer to OPTIONS", "Yealink T54W", "1:00",
                 f'src="{LINKS.path("rec-1")}"', "responsible user 77 has extension 101",
                 "ended by the caller: hung up"):
        assert part in page


async def test_an_empty_dashboard_says_what_to_do(site: Site) -> None:
    async with site.browser() as browser:
        await sign_in(browser)
        page = (await browser.get("/")).text
    for part in ("Nobody is on the phone", "There is no trunk", "No phone is registered", "No call has ended yet"):
        assert part in page


async def test_whatever_a_caller_is_named_it_is_text(site: Site) -> None:
    site.control.calls.append(live_call(contact=HOSTILE, caller=HOSTILE, dialled=HOSTILE))
    site.control.phones.append(RegisteredPhone(ACME, "101", HOSTILE, HOSTILE, 250))
    await site.store.calls.finish(record(contact=HOSTILE, caller=HOSTILE, why=(HOSTILE,), recording=None))
    async with site.browser() as browser:
        await sign_in(browser)
        page = (await browser.get("/")).text
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;") >= 7


@pytest.mark.parametrize("disposition", list(Disposition))
async def test_every_result_has_a_word(site: Site, disposition: Disposition) -> None:
    await site.store.calls.finish(record(disposition=disposition, recording=None))
    async with site.browser() as browser:
        await sign_in(browser)
        assert 'class="badge ' in (await browser.get("/")).text.partition("Last calls")[2]


async def test_a_database_that_is_away_costs_the_history_only(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailable("gone")

    site.control.calls.append(live_call())
    monkeypatch.setattr(CallJournal, "last_calls", away)
    monkeypatch.setattr(RecordingRows, "get", away)
    async with site.browser() as browser:
        await sign_in(browser)
        page = await browser.get("/")
        assert page.status_code == 200
        assert "The database does not answer just now" in page.text
        assert "Иван Петров" in page.text
        recording = await browser.get(LINKS.path("rec-1"), headers=JSON)
        assert (recording.status_code, recording.headers["retry-after"]) == (503, "5")


async def test_the_command_line_gets_the_live_state_by_its_token(site: Site) -> None:
    site.control.calls.append(live_call())
    site.control.trunks.append(TrunkState(ACME, "operator", True, "registered"))
    async with site.browser(headers=JSON) as program:
        for credentials in ("", "Bearer", "Bearer wrong", f"Basic {KEYS.control_token}", "Bearer é"):
            refused = await program.get("/api/live", headers={"Authorization": credentials.encode()})
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        answer = await program.get("/api/live", headers={"Authorization": f"Bearer {KEYS.control_token}"})
        assert answer.status_code == 200
        state = answer.json()
        assert state["calls"][0]["contact"] == "Иван Петров"
        assert state["calls"][0]["direction"] == "inbound"
        assert datetime.now(UTC) - datetime.fromisoformat(state["calls"][0]["started_at"]) < timedelta(minutes=5)
        assert state["trunks"] == [{"client": "acme", "name": "operator", "up": True, "detail": "registered"}]
        assert (state["phones"], state["not_ready"]) == ([], [])


async def test_the_command_line_sees_and_lifts_bans_by_its_token(site: Site) -> None:
    site.control.banned = [Ban(Banned.ADDRESS, "198.51.100.7", "", "a scanner: sipcli", 840)]
    allowed = {"Authorization": f"Bearer {KEYS.control_token}"}
    async with site.browser(headers=JSON) as program:
        assert (await program.get("/api/bans")).status_code == 401
        assert (await program.post("/api/bans/lift", json={"subject": "198.51.100.7"})).status_code == 401
        assert (await program.get("/api/bans", headers=allowed)).json() == {"bans": [{
            "who": "address", "address": "198.51.100.7", "account": "", "why": "a scanner: sipcli", "expires_in": 840,
        }]}
        for body in (b"", b"[]", b'{"subject": 7}', b'{"subject": ""}', b'{"subject": "' + b"x" * 500 + b'"}'):
            assert (await program.post("/api/bans/lift", content=body, headers=allowed)).status_code == 400
        for lifted in (1, 0):
            answer = await program.post("/api/bans/lift", json={"subject": "198.51.100.7"}, headers=allowed)
            assert answer.json() == {"lifted": lifted}


async def test_the_command_line_asks_what_would_happen_by_its_token(site: Site) -> None:
    asked = {"client": "acme", "from": "+79161234567", "to": "+74951112233"}
    allowed = {"Authorization": f"Bearer {KEYS.control_token}"}
    async with site.browser(headers=JSON) as program:
        assert (await program.post("/api/explain", json=asked)).status_code == 401
        told = (await program.post("/api/explain", json=asked, headers=allowed)).json()
        assert told == {
            "direction": "inbound", "notes": ["the CRM gave no contact for +79161234567"],
            "status": None, "refusal": "",
            "steps": [{"why": "+74951112233 goes to 102", "does": "rings 102 for 20 s",
                       "onward": ["102 is busy: on to 103"]}],
        }
        for body in ({}, [], {**asked, "to": 7}, {**asked, "from": "1" * 65}):
            assert (await program.post("/api/explain", json=body, headers=allowed)).status_code == 400
        unknown = await program.post("/api/explain", json={**asked, "client": "nobody"}, headers=allowed)
        assert (unknown.status_code, unknown.json()["title"]) == (404, "There is no client 'nobody'")


# -- every answer


@pytest.mark.parametrize("path", ["/", "/sign-in", "/healthz", "/nothing", "/static/style.css", "/r/x.mp3"])
async def test_every_answer_tells_the_browser_to_be_careful(site: Site, path: str) -> None:
    async with site.browser() as browser:
        headers = (await browser.get(path)).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


async def test_other_methods_and_addresses_get_a_problem_with_a_remedy(site: Site) -> None:
    async with site.browser(headers=JSON) as program:
        for method, path, status in (("POST", "/", 405), ("DELETE", "/healthz", 405), ("GET", "/nothing", 404),
                                     ("GET", "/static/../app.py", 404), ("GET", "/static/", 404)):
            answer = await program.request(method, path)
            assert answer.status_code == status
            assert json.loads(answer.content)["remedy"]


async def test_a_fault_of_ours_is_a_problem_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(RecordingRows, "get", broken)
    async with site.browser(headers=JSON) as player:
        answer = await player.get(LINKS.path("rec-1"))
        assert (answer.status_code, answer.json()["title"]) == (500, "We made a mistake")


async def test_metrics_from_a_proxied_network_count_the_address_behind_the_proxy(tmp_path: Path) -> None:
    proxy = (ipaddress.ip_network("127.0.0.1/32"),)
    async with open_site(tmp_path, trusted_proxies=proxy) as site, site.browser(address="127.0.0.1") as browser:
        outside: httpx.Response = await browser.get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"})
        assert outside.status_code == 303
