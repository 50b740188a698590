"""How the stand-in amoCRM fails when it is told to: which requests, how, how often; and its limits of rate."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from b2bua.sandbox import (
    Act,
    Fault,
    SandboxSeed,
    SeedAccount,
    SeedContact,
    SeedIntegration,
    SeedUser,
    preset,
    running_sandbox,
)
from b2bua.sandbox.presets import PRESETS
from tests.support.sandbox import CrmUser, crm_user, refusal
from tests.support.virtual_loop import VirtualLoop

SEED = SandboxSeed((
    SeedAccount(
        users=(SeedUser(77, "Анна", is_admin=True),), contacts=(SeedContact("Иван", ("+74951234567",), 77, 9001),),
        integrations=(SeedIntegration(), *(SeedIntegration(f"other-{number}", token=f"other-{number}") for number in
                                           range(8))),
    ),
    SeedAccount(31_000_002, "beta", "Бета", integrations=(SeedIntegration("beta", token="beta-token"),)),
))
CALL = {"direction": "inbound", "duration": 5, "source": "t", "phone": "+74951234567"}
TASK = {"text": "x", "complete_till": 5}

# What each preset is on the wire: whether the write was done, and the error, or the status and the type of the body.
SEEN: dict[str, tuple[bool, type[Exception] | tuple[int, str | None]]] = {
    "refused": (False, httpx.ConnectError),
    "reset": (False, httpx.ReadError),
    "reset-after-commit": (True, httpx.ReadError),
    "502-after-commit": (True, (502, "text/html")),
    "504-after-commit": (True, (504, "text/html")),
    "slow": (True, (200, "application/hal+json")),
    "slower": (True, (200, "application/hal+json")),
    "slowest": (False, httpx.ReadTimeout),
    "silence": (False, httpx.ReadTimeout),
    "silence-after-commit": (True, httpx.ReadTimeout),
    "cut": (True, httpx.RemoteProtocolError),
    "500": (False, (500, "application/json")),
    "502": (False, (502, "text/html")),
    "503": (False, (503, "text/html")),
    "504": (False, (504, "text/html")),
    "429-json": (False, (429, "application/problem+json")),
    "429-text": (False, (429, "text/plain")),
    "429-retry-after": (False, (429, "text/plain")),
    "blocked": (False, (403, "text/html")),
    "401": (False, (401, "application/problem+json")),
    "402": (False, (402, "application/problem+json")),
    "wrong-json": (False, (200, "application/hal+json")),
    "other-json": (False, (200, "application/hal+json")),
    "empty": (False, (200, "application/hal+json")),
    "bom": (True, (200, "application/hal+json")),
    "large": (False, (200, "application/hal+json")),
}


@pytest.fixture
def crm() -> AbstractAsyncContextManager[CrmUser]:
    return crm_user(SEED)


def played(test: Callable[[CrmUser], Awaitable[None]]) -> float:
    """Runs it on the virtual loop; how many seconds it took there."""
    loop = VirtualLoop()

    async def run() -> None:
        async with crm_user(SEED, clock=loop.time) as crm:
            await test(crm)

    try:
        loop.run_until_complete(run())
        return loop.time()
    finally:
        loop.close()


def test_all_presets_are_looked_at() -> None:
    assert set(SEEN) == set(PRESETS)


@pytest.mark.parametrize("name", SEEN)
def test_each_failure_as_a_client_sees_it(name: str) -> None:
    committed, seen = SEEN[name]

    async def test(crm: CrmUser) -> None:
        crm.state.faults.add(preset(name, "/api/v4/tasks", "POST", times=1))
        assert (await crm.get("/api/v4/tasks")).status_code == 204         # another method
        if isinstance(seen, type):
            with pytest.raises(seen):
                await crm.http.post("/api/v4/tasks", json=[TASK], timeout=10)
        else:
            answer = await crm.http.post("/api/v4/tasks", json=[TASK], timeout=10)
            assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == seen
            check_body(name, answer)
        assert len(crm.state.tasks()) == committed
        assert (await crm.post("/api/v4/tasks", [TASK])).status_code == 200         # once only
        assert [entry.status for entry in crm.state.journal.of("POST")][-1] == 200

    lasted = played(test)
    assert lasted == {"slow": 0.5, "slower": 5.0, "slowest": 10.0, "silence": 10.0, "silence-after-commit": 10.0}.get(
        name, pytest.approx(0.0, abs=0.001)
    )


def check_body(name: str, answer: httpx.Response) -> None:
    match name:
        case "wrong-json" | "empty":
            with pytest.raises(json.JSONDecodeError):
                json.loads(answer.content)
        case "other-json":
            assert isinstance(answer.json(), list)
        case "bom":
            assert answer.content.startswith(b"\xef\xbb\xbf{")
        case "large":
            assert len(answer.content) == 64 * 1024 * 1024
        case "500":
            assert answer.json()["trace_id"]
        case "429-json":
            assert answer.json()["retry_after"] == 300
        case "429-retry-after":
            assert answer.headers["retry-after"] == "30"
        case _:
            assert answer.content


async def outcomes(crm: CrmUser, times: int, path: str = "/api/v4/account") -> str:
    """A letter each: `.` went well."""
    return "".join(["." if (await crm.get(path)).status_code < 400 else "x" for _ in range(times)])


@pytest.mark.parametrize(("given", "seen"), [
    ({}, "xxxxxxxx"), ({"times": 2}, "xx......"), ({"skip": 3, "times": 1}, "...x...."), ({"every": 3}, "..x..x.."),
    ({"skip": 1, "every": 2, "times": 2}, "..x.x..."), ({"probability": 0.0}, "........"),
])
async def test_which_requests_fail(crm: CrmUser, given: dict[str, Any], seen: str) -> None:
    crm.state.faults.add(preset("503", "/api/v4/acc*", **given))
    assert await outcomes(crm, 4) == seen[:4]
    assert await outcomes(crm, 4, "/api/v4/contacts") == "...."            # another path counts for nothing
    assert await outcomes(crm, 4) == seen[4:]


async def test_chance_repeats_itself_by_its_seed(crm: CrmUser) -> None:
    crm.state.faults.add(preset("503", probability=0.5))
    runs = []
    for seed in (5, 5, 6):
        crm.state.faults.seed(seed)
        runs.append(await outcomes(crm, 40))
    assert runs[0] == runs[1] != runs[2]
    assert 5 < runs[0].count("x") < 35


async def test_a_fault_may_be_one_accounts_only(crm: CrmUser) -> None:
    crm.state.faults.add(preset("401", account="acme"))
    refusal(await crm.get("/api/v4/account"), 401)
    assert (await crm.http.get("http://beta.amocrm.test/api/v4/account", headers={
        "Authorization": "Bearer beta-token",
    })).status_code == 200


async def test_something_may_happen_between_two_requests(crm: CrmUser) -> None:
    def meanwhile() -> None:
        crm.account.users[77].is_active = False

    crm.state.faults.add(Fault("/api/v4/contacts", "GET", then=meanwhile, times=1))
    assert (await crm.get("/api/v4/contacts?query=4951234567")).status_code == 200
    refusal(await crm.post("/api/v4/tasks", [{**TASK, "responsible_user_id": 77}]))


async def test_the_first_fault_that_fits_is_acted_out(crm: CrmUser) -> None:
    crm.state.faults.add(preset("401", times=1), preset("503", times=1))
    assert [(await crm.get("/api/v4/account")).status_code for _ in range(3)] == [401, 503, 200]
    crm.state.faults.add(preset("503"))
    crm.state.faults.clear()
    assert await outcomes(crm, 1) == "."


async def test_httpx_own_transport_sees_the_same(crm: CrmUser) -> None:
    transport = httpx.ASGITransport(crm.sandbox.app)
    headers = {"Authorization": "Bearer sandbox-token"}
    async with httpx.AsyncClient(transport=transport, base_url=crm.sandbox.base_url, headers=headers) as http:
        assert (await http.get("/api/v4/account")).json()["subdomain"] == "acme"
        for name in ("refused", "reset", "cut"):
            crm.state.faults.add(preset(name, times=1))
            with pytest.raises(httpx.TransportError):
                await http.get("/api/v4/account")


@pytest.mark.parametrize("name", ["refused", "reset", "reset-after-commit", "cut"])
async def test_a_connection_is_broken_on_real_sockets_too(name: str) -> None:
    async with running_sandbox(SEED) as sandbox, httpx.AsyncClient(base_url=sandbox.base_url) as http:
        sandbox.state.faults.add(preset(name, times=1))
        headers = {"Authorization": "Bearer sandbox-token"}
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await http.post("/api/v4/tasks", json=[TASK], headers=headers)
        assert len(sandbox.state.tasks()) == SEEN[name][0]
        assert (await http.get("/api/v4/account", headers=headers)).status_code == 200


async def test_a_server_that_is_gone_refuses_connections_and_comes_back() -> None:
    async with running_sandbox(SEED) as sandbox, httpx.AsyncClient(base_url=sandbox.base_url) as http:
        headers = {"Authorization": "Bearer sandbox-token"}
        assert (await http.get("/api/v4/account", headers=headers)).status_code == 200
        async with sandbox.refusing():
            with pytest.raises(httpx.TransportError):      # the connection that it kept
                await http.get("/api/v4/account", headers=headers)
            with pytest.raises(httpx.ConnectError):
                await http.get("/api/v4/account", headers=headers)
        assert (await http.get("/api/v4/account", headers=headers)).status_code == 200


@pytest.mark.parametrize(("switch", "kind", "retry_after"), [
    ({}, "application/problem+json", None), ({"retry_after": 300}, "application/problem+json", 300),
    ({"limited_as_text": True}, "text/plain; charset=utf-8", None),
])
def test_seven_a_second_for_an_integration(switch: dict[str, Any], kind: str, retry_after: int | None) -> None:
    async def test(crm: CrmUser) -> None:
        crm.state.switches.per_second = 7
        for name, value in switch.items():
            setattr(crm.state.switches, name, value)
        assert await outcomes(crm, 8) == ".......x"
        limited = await crm.get("/api/v4/account")
        assert limited.headers["content-type"] == kind
        if kind.endswith("json"):
            assert limited.json().get("retry_after") == retry_after
        await asyncio.sleep(0.6)
        assert await outcomes(crm, 1) == "x"               # those that were refused count
        await asyncio.sleep(0.5)
        assert await outcomes(crm, 5) == "....."           # a second slides: only the one of half a second ago is left
        other = {"Authorization": "Bearer other-0"}
        assert (await crm.get("/api/v4/account", **other)).status_code == 200

    played(test)


def test_fifty_a_second_for_an_account() -> None:
    async def test(crm: CrmUser) -> None:
        crm.state.switches.per_second, crm.state.switches.account_per_second = 7, 50
        statuses = [
            (await crm.get("/api/v4/account", Authorization=f"Bearer other-{number}")).status_code
            for number in range(8) for _ in range(7)
        ]
        assert statuses == [200] * 50 + [429] * 6
        beta = await crm.http.get(
            "http://beta.amocrm.test/api/v4/account", headers={"Authorization": "Bearer beta-token"}
        )
        assert beta.status_code == 200
        assert crm.sandbox.rate.highest_of == {31_000_001: 56, 31_000_002: 1}

    played(test)


def test_the_limit_may_be_by_address() -> None:
    async def test(crm: CrmUser) -> None:
        crm.state.switches.per_second, crm.state.switches.limit_by_address = 2, True
        tokens = ("sandbox-token", "other-0", "other-1")
        answers = [await crm.get("/api/v4/account", Authorization=f"Bearer {token}") for token in tokens]
        assert [answer.status_code for answer in answers] == [200, 200, 429]

    played(test)


def test_the_rate_may_be_reported_only() -> None:
    async def test(crm: CrmUser) -> None:
        crm.state.switches.per_second, crm.state.switches.only_report_rate = 7, True
        assert await outcomes(crm, 20) == "." * 20
        await asyncio.sleep(0.5)
        await outcomes(crm, 5)
        await asyncio.sleep(0.6)
        await outcomes(crm, 3)
        assert (crm.sandbox.rate.highest, crm.sandbox.rate.highest_of) == (25, {31_000_001: 25})
        crm.sandbox.rate.forget()
        await outcomes(crm, 1)
        assert crm.sandbox.rate.highest == 1

    played(test)


def test_who_insists_is_blocked_until_the_block_is_lifted() -> None:
    async def test(crm: CrmUser) -> None:
        crm.state.switches.per_second, crm.state.switches.block_after = 1, 3
        await outcomes(crm, 3)
        await asyncio.sleep(61.0)
        await outcomes(crm, 3)                             # two offences in this minute
        assert not crm.sandbox.rate.is_blocked
        await outcomes(crm, 1)
        for path in ("/api/v4/account", "/oauth2/access_token", "/nowhere"):
            blocked = await crm.http.request("POST", path, json={})
            assert (blocked.status_code, blocked.headers["content-type"]) == (403, "text/html; charset=utf-8")
        await asyncio.sleep(3_600.0)
        assert await outcomes(crm, 1) == "x"
        crm.sandbox.rate.unblock()
        assert await outcomes(crm, 1) == "."

    played(test)


async def test_a_fault_that_answers_stands_in_the_journal(crm: CrmUser) -> None:
    crm.state.faults.add(Fault(act=Act.ANSWER, status=503, times=1), preset("reset", times=1))
    await crm.get("/api/v4/account")
    with pytest.raises(httpx.ReadError):
        await crm.post("/api/v4/calls", [CALL])
    assert [str(entry) for entry in crm.state.journal] == [
        "GET /api/v4/account -> 503", "POST /api/v4/calls -> no answer",
    ]
