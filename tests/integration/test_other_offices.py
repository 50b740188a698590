"""Whatever address there is, and whatever of another office is asked for there: nothing of it comes out, and nothing of
it is changed. The addresses are the application's own, so that a new one cannot be forgotten."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import httpx
import pytest
from starlette.routing import Mount, Route

import web
from b2bua.cdr import CallId
from b2bua.config import WebSettings
from b2bua.control import Device, ExtensionState, Presence, RegisteredPhone, TrunkState
from b2bua.directory import Extension, Group
from tests.support.records import note, record
from tests.support.web_site import ACME, BETA, OF_OFFICE, Site, form_token, live_call, open_site, sign_in
from web.server import bind_web, serve_web

CONTACT, CALLER, CALL, LIVE, RECORDING = "Bella Betova", "+79031112299", "call-of-beta", "live-of-beta", "mp3-of-beta"
WORDS = ("Beta Ltd", CONTACT, "Beta phone", "beta-line", "beta-user", CALL, LIVE, RECORDING)
NUMBERS = (CALLER, "+74959998877")     # found however they are written
OPEN_FILES = "/static"                 # the same for everybody
REFUSALS = (401, 403, 404, 405, 410)   # the last: of a link that may have been one
LEAVES = "/sign-out"                   # of one's own session, and nothing else
FIELDS = set(re.findall(r'\bname="(\w+)"', "".join(
    template.read_text("utf-8") for template in (Path(web.__file__).parent / "templates").glob("*.html")))) - {"token"}


@dataclass(frozen=True, slots=True)
class Ask:
    method: str
    path: str
    what: str = ""                     # of Beta's: sent as whatever a form or a query may name
    is_foreign: bool = False           # the address itself names what is Beta's; below /clients/acme nothing is


@dataclass(frozen=True, slots=True)
class Offices:
    site: Site
    acme: httpx.AsyncClient            # signed in
    operator: httpx.AsyncClient        # signed in
    foreign: tuple[str, ...]           # ids of what is Beta's

    async def of_beta(self) -> object:
        """All that is kept of it."""
        now, store, control = datetime.now(UTC), self.site.store, self.site.control
        directory, _ = await store.directory.load()
        kept = (directory.clients, directory.extensions, directory.trunks, directory.groups, directory.numbers)
        return ([[one for one in part if BETA in (getattr(one, "client", None), one.id if part is kept[0] else None)]
                 for part in kept],
                await store.calls.last_calls(client=BETA), await store.outbox.waiting(BETA, 10),
                await store.outbox.aside(BETA, 10), await store.recordings.get(RECORDING),
                await store.web_sessions.open_of(BETA, now),
                list(control.hung_up), list(control.acted), list(control.calls))

    def everything(self) -> Iterator[Ask]:
        """Each address, with each of what is Beta's wherever the address, a query or a form may name something."""
        for route in self.site.served.app.routes:
            if isinstance(route, Mount):
                assert route.path == OPEN_FILES, "what is mounted there may be somebody's"
                continue
            assert isinstance(route, Route)
            if route.path == LEAVES:
                continue
            names = re.findall(r"{(\w+)", route.path)
            places = [(BETA, ACME) if name == "client" else self.foreign for name in names]
            methods = sorted(set(route.methods or ()) - {"HEAD"})
            for values in product(*places):
                path = route.path
                for name, value in zip(names, values, strict=True):
                    path = path.replace(f"{{{name}}}", value)
                yield from (Ask(method, path, is_foreign=bool(names) and ACME not in values) for method in methods)
            if set(names) <= {"client"}:
                yield from (Ask(method, route.path.replace("{client}", ACME), what)
                            for method in methods for what in self.foreign)


@asynccontextmanager
async def both_offices(directory: Path) -> AsyncIterator[Offices]:
    async with open_site(directory) as site, asyncio.TaskGroup() as tasks:
        sock = bind_web(WebSettings(port=0))
        serving = tasks.create_task(serve_web(site.served, sock))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"

        def browser() -> httpx.AsyncClient:
            return httpx.AsyncClient(base_url=url, headers={"Accept": "text/html"}, trust_env=False)

        async with browser() as acme, browser() as beta, browser() as operator:
            assert (await sign_in(beta, OF_OFFICE[BETA], BETA)).status_code == 303
            foreign = await something_of_beta(site)
            assert (await sign_in(acme, OF_OFFICE[ACME], ACME)).status_code == 303
            assert (await sign_in(operator)).status_code == 303
            yield Offices(site, acme, operator, foreign)
        serving.cancel()


async def something_of_beta(site: Site) -> tuple[str, ...]:
    """One of everything, beside what both offices have under the same number; its ids."""
    now, generation = await site.store.directory.load()
    await site.store.directory.replace(now, replace(
        now, extensions=(*now.extensions, Extension(BETA, "909", "beta-909", {}, "Betty of Beta Ltd")),
        groups=(*now.groups, Group(BETA, "969", ("909",), "All of Beta Ltd"))), generation)
    await site.users.load()
    site.control.calls.append(live_call(LIVE, client=BETA, caller=CALLER, contact=CONTACT))
    site.control.trunks.append(TrunkState(BETA, "beta-line", False, "no answer to OPTIONS"))
    site.control.phones.append(RegisteredPhone(BETA, "909", "sip:beta@192.0.2.17", "Beta phone", 250))
    device = Device("sip:beta@192.0.2.17", "Beta phone", "reachable")
    site.control.extensions.append(ExtensionState(BETA, "909", "Betty of Beta Ltd", Presence.FREE, (device,)))
    finished = record(CALL, client=BETA, caller=CALLER, contact=CONTACT, recording=RECORDING)
    await site.store.calls.finish(finished, [note(finished)])
    await site.store.recordings.begin(RECORDING, CallId(CALL), BETA)
    (owed,) = await site.store.outbox.waiting(BETA, 10)
    (session,) = await site.store.web_sessions.open_of(BETA, datetime.now(UTC))
    return (BETA, CALL, LIVE, RECORDING, str(owed.id), session.id, "beta-line", "909", "969", "+74959998877")


@pytest.fixture
def offices(tmp_path: Path) -> AbstractAsyncContextManager[Offices]:
    return both_offices(tmp_path)


async def answer_to(browser: httpx.AsyncClient, ask: Ask, token: str = "") -> tuple[int, str]:
    """Of an answer without an end the beginning, in which a page's events tell how everything is."""
    named = dict.fromkeys(FIELDS, ask.what) if ask.what else {}
    sent = {"params": named} if ask.method == "GET" else {"data": {**named, "token": token}}
    async with browser.stream(ask.method, ask.path, **sent) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return answer.status_code, await anext(answer.aiter_text())
        return answer.status_code, (await answer.aread()).decode(errors="replace") + str(answer.headers)


def told(body: str, ask: Ask) -> list[str]:
    """What of Beta is in the answer, beside what was asked for."""
    digits = re.sub(r"\D", "", body)
    asked = f"{ask.path} {ask.what}"
    return [word for word in WORDS if word in body and word not in asked] + [
        number for number in NUMBERS if number[1:] in digits and number not in asked]


@pytest.mark.patience(180)
async def test_nothing_of_another_office_is_told_or_changed(offices: Offices) -> None:
    token = form_token((await offices.acme.get("/account")).text)
    before = await offices.of_beta()
    for ask in offices.everything():
        status, body = await answer_to(offices.acme, ask, token)
        assert not told(body, ask), ask
        assert status < 500, ask
        assert not ask.is_foreign or status in REFUSALS, (ask, status)
    assert await offices.of_beta() == before
    assert (await offices.acme.get("/account")).status_code == 200       # it was signed in all the time


@pytest.mark.patience(180)
async def test_the_operator_finds_it(offices: Offices) -> None:
    """Or the test before this one would prove nothing."""
    found: set[str] = set()
    for ask in offices.everything():
        if ask.method == "GET" and not ask.what:
            status, body = await answer_to(offices.operator, ask)
            found |= set(told(body, Ask("", ""))) if status == 200 else set()
    assert found >= {"Beta Ltd", "Beta phone", LIVE, CONTACT, CALLER}
