"""The web without a socket: who may see what, recordings, and what is refused."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from b2bua.cdr import CallId
from b2bua.control import TracedCall, TrunkState
from b2bua.directory import OPERATOR_LOGIN
from b2bua.recording import waveform
from b2bua.recording.waveform import Waveform
from b2bua.sip.throttle import Ban, Banned
from b2bua.store.recordings import RecordingRows
from tests.support.records import record
from tests.support.web_site import (
    ACME,
    BETA,
    KEYS,
    LINKS,
    MP3,
    OF_OFFICE,
    PASSWORD,
    Site,
    form_token,
    live_call,
    open_site,
    sign_in,
)
from web import lockout
from web.lockout import FREE_FAILURES

JSON = {"Accept": "application/json"}
LONG = 600                             # seconds of waiting that no test sees the end of
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
        assert (await stranger.get("/metrics")).headers["location"] == "/sign-in?to=/metrics"
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
        assert part.headers["etag"] == whole.headers["etag"]
        for asked in ({}, {"Range": "bytes=100-199"}, {"Range": f"bytes={len(MP3)}-"}):       # RFC 9110 §14.2: of GET
            head = await player.head(path, headers=asked)
            assert (head.status_code, head.content) == (200, b"")
            assert _but_date(head.headers) == _but_date(whole.headers)


def _but_date(headers: httpx.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "date"}


async def test_a_link_that_is_limited_in_time_says_when_it_is_over(site: Site) -> None:
    await site.recorded("rec-1")
    now = datetime.now(UTC)
    async with site.browser(headers=JSON) as player:
        assert (await player.get(LINKS.path("rec-1", now + timedelta(hours=1)))).content == MP3
        over = await player.get(LINKS.path("rec-1", now - timedelta(seconds=1)))
        assert (over.status_code, over.json()["title"]) == (410, "This link has expired")
        assert over.json()["remedy"]
        assert (await player.get(LINKS.path("rec-2", now - timedelta(seconds=1)))).status_code == 404


async def test_a_recording_can_be_saved_under_a_name_that_says_when_it_was(site: Site) -> None:
    path = await site.recorded("rec-1")
    async with site.browser() as player:
        saved = await player.get(f"{path}?download=1")
        assert saved.headers["content-disposition"] == 'attachment; filename="call-2026-03-02-12-00-00-c-1.mp3"'
        assert saved.content == MP3


async def test_who_fetched_a_recording_is_written_down(site: Site) -> None:
    path = await site.recorded("rec-1")
    async with site.browser() as player:
        etag = (await player.head(path)).headers["etag"]
        await player.get(path)
        await player.get(path, headers={"Range": "bytes=100-199"})
        await player.get(path, headers={"If-None-Match": etag})
        await player.get("/r/rec-1.forged.mp3")
    async with site.browser(address="2001:db8:1:2:3::4") as other:
        await sign_in(other, OF_OFFICE[ACME], "acme")
        await other.get(path)
    there, here = await site.store.recordings.fetches("rec-1")
    assert (here.address, here.who, here.requests, here.size) == ("203.0.113.5", "", 4, len(MP3) + 100)
    assert (there.address, there.who, there.requests, there.size) == ("2001:db8:1:2::/64", "acme", 1, len(MP3))
    assert abs(datetime.now(UTC) - here.at) < timedelta(minutes=1)


@pytest.mark.parametrize(("asked", "status", "content"), [
    ("bytes=0-", 206, MP3), ("bytes=-10", 206, MP3[-10:]), (f"bytes=0-{10**12}", 206, MP3),
    (f"bytes=-{10**12}", 206, MP3), ("bytes=-0", 416, b""),
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
        await site.store.recordings.revoke("rec-1", "operator")
        assert (await player.get(path)).status_code == 410
        assert (await player.get(path, headers={"Range": "bytes=0-1"})).status_code == 410
        await site.store.recordings.revoke("rec-1", "operator", revoked=False)
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


async def test_how_loud_a_recording_is_where_is_told_to_those_whose_it_is(site: Site) -> None:
    await site.recorded("rec-1")
    drawn = Waveform(60.0, 0.05, b"\1\2\3", b"\4\5\6")
    waveform.keep(drawn, site.recordings / "re" / "rec-1.mp3")
    path = "/recordings/rec-1/waveform"
    async with site.browser(headers=JSON) as visitor:
        assert (await visitor.get(path)).status_code == 401
        await sign_in(visitor, OF_OFFICE[BETA], "beta")
        foreign, unknown = [await visitor.get(there) for there in (path, "/recordings/rec-2/waveform")]
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.json() == unknown.json()
    for login, password in (("acme", OF_OFFICE[ACME]), (OPERATOR_LOGIN, PASSWORD)):
        async with site.browser(headers=JSON) as visitor:
            await sign_in(visitor, password, login)
            answer = await visitor.get(path)
            assert answer.json() == {"seconds": 60.0, "slice_seconds": 0.05, "caller": [1, 2, 3], "callee": [4, 5, 6]}
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["cache-control"] == "private, no-cache"


async def test_a_recording_without_a_waveform_says_so(site: Site) -> None:
    await site.recorded("rec-1")
    await site.store.recordings.begin("rec-2", CallId("c-2"), ACME)
    async with site.browser(headers=JSON) as visitor:
        await sign_in(visitor)
        path = "/recordings/rec-1/waveform"
        without = await visitor.get(path)
        assert (without.status_code, without.json()["title"]) == (404, "This recording has no waveform")
        (site.recordings / "re" / "rec-1.waveform").write_text("nonsense")
        assert (await visitor.get(path)).json()["title"] == "This recording has no waveform"
        await site.store.recordings.revoke("rec-1", "operator")
        assert (await visitor.get(path)).status_code == 410
        unfinished = await visitor.get("/recordings/rec-2/waveform")
        assert (unfinished.status_code, unfinished.headers["retry-after"]) == (404, "5")


async def test_a_recording_is_withdrawn_and_given_back_from_the_pages(site: Site) -> None:
    path = await site.recorded("rec-1")

    async def post(visitor: httpx.AsyncClient, what: str, token: str | None = None) -> httpx.Response:
        token = form_token((await visitor.get("/account")).text) if token is None else token
        return await visitor.post(f"/recordings/rec-1/{what}", data={"token": token})

    async with site.browser() as stranger:
        assert (await post(stranger, "revoke", "forged")).headers["location"].startswith("/sign-in")
    async with site.browser(headers=JSON) as foreign:
        await sign_in(foreign, OF_OFFICE[BETA], "beta")
        assert (await post(foreign, "revoke")).status_code == 404
    async with site.browser() as browser:
        await sign_in(browser, OF_OFFICE[ACME], "acme")
        assert (await post(browser, "revoke", "forged")).status_code == 403
        assert (await browser.get(path)).status_code == 200
        with capture_logs() as lines:
            withdrawn = await post(browser, "revoke")
        assert (withdrawn.status_code, withdrawn.headers["location"]) == (
            303, "/calls/c-1?notice=recording-withdrawn")
        (line,) = [line for line in lines if line["event"] == "recording withdrawn"]
        assert (line["who"], line["recording"]) == ("acme", "rec-1")
        assert (await browser.get(path)).status_code == 410
        assert (await browser.get(LINKS.path("rec-1", datetime.now(UTC) + timedelta(hours=1)))).status_code == 410
        stored = await site.store.recordings.get("rec-1")
        assert stored is not None
        assert stored.decided_by == "acme"
        restored = await post(browser, "restore")
        assert restored.headers["location"] == "/calls/c-1?notice=recording-given-back"
        assert (await browser.get(path)).status_code == 200


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


async def test_a_wrong_password_is_told_and_guessing_gets_slower(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockout, "FIRST_WAIT", LONG)
    async with site.browser() as browser:
        for _ in range(FREE_FAILURES + 1):
            wrong = await sign_in(browser, "wrong")
            assert wrong.status_code == 403
            assert "The login or the password is wrong" in wrong.text
        locked = await sign_in(browser)
        assert locked.status_code == 429
        assert 0 < int(locked.headers["retry-after"]) <= LONG
    async with site.browser(address="203.0.113.6") as somebody_else:
        assert (await sign_in(somebody_else)).status_code == 303


async def test_a_neighbour_who_guesses_keeps_nobody_out_who_has_been_here(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind an office's one address. Who comes for the first time waits, and is told how long."""
    monkeypatch.setattr(lockout, "FIRST_WAIT", lockout.LONGEST_WAIT)
    async with site.browser() as owner, site.browser() as guesser:
        signed_in = await sign_in(owner, OF_OFFICE[ACME], "acme")
        page = await owner.get("/")
        await owner.post("/sign-out", data={"token": form_token(page.text)})
        for _ in range(FREE_FAILURES + 1):
            await sign_in(guesser, "wrong", "acme")
        locked = await sign_in(guesser, OF_OFFICE[ACME], "acme")
        assert locked.status_code == 429
        assert 0 < int(locked.headers["retry-after"]) <= lockout.LONGEST_WAIT
        assert (await sign_in(owner, OF_OFFICE[ACME], "acme")).status_code == 303
        # What says that it has been here is no way round the lock: neither at another account, nor for long at this.
        device = re.search(r"device=([^;]+)", signed_in.headers["set-cookie"])
        assert device is not None
        guesser.cookies.set("device", device[1])
        assert (await sign_in(guesser, "wrong", "beta")).status_code == 429
        tries = [(await sign_in(guesser, "wrong", "acme")).status_code for _ in range(FREE_FAILURES + 2)]
        assert tries == [403] * (FREE_FAILURES + 1) + [429]


async def test_one_s_own_password_buys_no_guesses_at_another_s(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "FIRST_WAIT", LONG)
    async with site.browser() as browser:
        for _ in range(FREE_FAILURES):
            assert (await sign_in(browser, "wrong", "beta")).status_code == 403
    async with site.browser() as browser:
        assert (await sign_in(browser, OF_OFFICE[ACME], "acme")).status_code == 303
    async with site.browser() as browser:
        assert (await sign_in(browser, "wrong", "beta")).status_code == 403
        assert (await sign_in(browser, "wrong", "beta")).status_code == 429


async def test_guesses_at_once_count_as_well(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "FIRST_WAIT", LONG)
    async with site.browser() as browser:
        token = form_token((await browser.get("/sign-in")).text)
        guesses = (browser.post("/sign-in", data={"token": token, "password": f"guess {n}"}) for n in range(20))
        statuses = [answer.status_code for answer in await asyncio.gather(*guesses)]
        assert statuses.count(403) == FREE_FAILURES + 1
        assert statuses.count(429) == 20 - FREE_FAILURES - 1


@pytest.mark.parametrize(("body", "status"), [
    (b"", 403), (b"password=correct+horse+battery", 403), (b"token=x&password=y", 403), (b"\xff\xfe", 400),
    (b"=&" * 1_500, 400), (b"password=" + b"x" * 20_000, 413)])
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


# -- what the command line asks


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


async def test_the_command_line_traces_calls_in_progress_by_its_token(site: Site) -> None:
    allowed = {"Authorization": f"Bearer {KEYS.control_token}"}
    messages = [0, [[0.0, "in", "trunk operator at 10.0.1.1:5060", "INVITE (CSeq 1)", ""]]]
    site.control.traced = {CallId(call): TracedCall(record(call), call == "5f0d", messages)
                           for call in ("5f0c", "5f0c-2", "5f0c-3", "5f0d")}
    async with site.browser(headers=JSON) as program:
        assert (await program.get("/api/trace/5f0d")).status_code == 401
        for beginning in ("5f0", "x" * 65):
            assert (await program.get(f"/api/trace/{beginning}", headers=allowed)).status_code == 400
        several = (await program.get("/api/trace/5f0c-", headers=allowed)).json()
        assert several == {"calls": ["5f0c-2", "5f0c-3"], "traced": None}
        none = (await program.get("/api/trace/ffff", headers=allowed)).json()
        assert none == {"calls": [], "traced": None}
        one = await program.get("/api/trace/5f0d", headers=allowed)
        assert one.headers["cache-control"] == "no-store"
        assert (one.json()["traced"]["is_over"], one.json()["traced"]["messages"]) == (True, messages)
        assert one.json()["traced"]["record"]["caller"] == "+74951112233"
        exact = (await program.get("/api/trace/5f0c", headers=allowed)).json()["traced"]
        assert (exact["record"]["id"], exact["is_over"]) == ("5f0c", False)


async def test_the_command_line_asks_what_would_happen_by_its_token(site: Site) -> None:
    asked = {"client": "acme", "from": "+79161234567", "to": "+74951112233"}
    allowed = {"Authorization": f"Bearer {KEYS.control_token}"}
    async with site.browser(headers=JSON) as program:
        assert (await program.post("/api/explain", json=asked)).status_code == 401
        told = (await program.post("/api/explain", json=asked, headers=allowed)).json()
        assert told == {
            "direction": "inbound", "notes": ["the CRM gave no contact for +79161234567"],
            "status": None, "refusal": "", "crm": "",
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


# -- each client's administrator


async def test_an_administrator_is_one_client_s_and_no_operator(site: Site) -> None:
    async with site.browser() as browser:
        assert (await sign_in(browser, OF_OFFICE[BETA], ACME)).status_code == 403
        assert (await sign_in(browser, OF_OFFICE[ACME], ACME)).status_code == 303
        page = await browser.get("/account")
        assert "Acme" in page.text
        assert (await browser.get("/metrics")).status_code == 403
        assert (await browser.get(f"/amocrm/connect/{BETA}")).status_code == 404


async def test_another_password_ends_the_sessions_of_the_old_one(site: Site) -> None:
    async with site.browser() as browser, site.browser() as operator:
        await sign_in(browser, OF_OFFICE[ACME], ACME)
        await sign_in(operator)
        now, generation = await site.store.directory.load()
        acme, *others = now.clients
        await site.store.directory.replace(
            now, replace(now, clients=(replace(acme, password_hash=now.clients[1].password_hash), *others)), generation)
        await site.users.load()
        assert (await browser.get("/account")).status_code == 303
        assert (await operator.get("/account")).status_code == 200


async def test_sessions_of_one_s_own_login_can_be_ended_and_no_others(site: Site) -> None:
    async with site.browser() as mine, site.browser(headers={"User-Agent": "<b>phone</b>"}) as lost, \
            site.browser() as operator:
        for browser in (mine, lost):
            await sign_in(browser, OF_OFFICE[ACME], ACME)
        await sign_in(operator)
        page = await mine.get("/account")
        assert page.text.count('name="session"') == 2
        assert "&lt;b&gt;phone&lt;/b&gt;" in page.text
        of_operator = (await operator.get("/account")).text.split('name="session" value="')[1].split('"')[0]
        form = {"token": form_token(page.text)}
        assert (await mine.post("/account/end", data={"session": of_operator})).status_code == 403
        await mine.post("/account/end", data=form | {"session": of_operator})
        assert (await operator.get("/account")).status_code == 200
        assert (await mine.post("/account/end", data=form)).headers["location"] == "/account?notice=sessions-ended"
        assert (await lost.get("/account")).status_code == 303
        assert "All other sessions were ended" in (await mine.get("/account?notice=sessions-ended")).text


async def test_a_session_that_another_process_has_ended_ends_here_too(site: Site) -> None:
    async with site.browser() as browser, asyncio.TaskGroup() as tasks:
        await sign_in(browser)
        here, = await site.store.web_sessions.open_of(None, datetime.now(UTC))
        await site.store.web_sessions.end(None, [here.id])
        following = tasks.create_task(site.served.beside[0]())
        while (await browser.get("/account")).status_code == 200:
            pass                       # it reads the list from the database, so that the other one gets its turn
        following.cancel()


@pytest.mark.parametrize(("to", "where"), [("/account?x=1", "/account?x=1"), ("//evil.example", "/"), ("/\\evil", "/"),
                                           ("https://evil.example", "/"), ("/\r\nSet-Cookie: a=b", "/"), ("", "/")])
async def test_after_signing_in_one_is_where_one_wanted_to_be_and_nowhere_else(site: Site, to: str, where: str) -> None:
    async with site.browser() as browser:
        form = await browser.get("/sign-in")
        answer = await browser.post("/sign-in", data={"token": form_token(form.text), "login": "operator",
                                                      "password": PASSWORD, "to": to})
        assert answer.headers["location"] == where


async def test_pages_speak_the_browser_s_language_or_the_chosen_one(site: Site) -> None:
    async with site.browser(headers={"Accept-Language": "de, ru-RU;q=0.8, en;q=0.5"}) as browser:
        assert "Войти" in (await browser.get("/sign-in")).text
        chosen = await browser.post("/language", data={"language": "en", "to": "/sign-in"})
        assert chosen.headers["location"] == "/sign-in"
        assert "Sign in" in (await browser.get("/sign-in")).text
        await browser.post("/language", data={"language": "xx"})
        assert "Sign in" in (await browser.get("/sign-in")).text
