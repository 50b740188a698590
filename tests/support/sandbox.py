"""The stand-in amoCRM for one test, without a socket, and a client with the administrator's token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from b2bua.sandbox import InProcessSandbox, SandboxSeed, in_process_sandbox
from b2bua.sandbox.account import Account

NOW = 1_767_225_600.0                  # where the clock of such a test stands still


class CrmUser:
    """Short ways to ask, and the sandbox that answers."""

    def __init__(self, sandbox: InProcessSandbox, http: httpx.AsyncClient) -> None:
        self.sandbox, self.http, self.state = sandbox, http, sandbox.state

    @property
    def account(self) -> Account:
        return self.state.account()

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(path, headers=headers)

    async def post(self, path: str, body: Any) -> httpx.Response:
        return await self.http.post(path, json=body)

    async def patch(self, path: str, body: Any) -> httpx.Response:
        return await self.http.patch(path, json=body)

    async def delete(self, path: str, body: Any = None) -> httpx.Response:
        return await self.http.request("DELETE", path, json=body)


@asynccontextmanager
async def crm_user(
    seed: SandboxSeed, *, allowed: tuple[str, ...] = (), clock: Callable[[], float] = lambda: NOW
) -> AsyncIterator[CrmUser]:
    """Without limits of rate. At its end nothing may have been written that a strict reader would not take; `allowed`
    are words of warnings that may."""
    sandbox = in_process_sandbox(seed, clock)
    sandbox.state.switches.per_second = sandbox.state.switches.account_per_second = None
    async with sandbox.client() as http:
        yield CrmUser(sandbox, http)
    left = [warning for warning in sandbox.state.journal.warnings if not any(word in warning for word in allowed)]
    assert not left, left


def rows(answer: httpx.Response, name: str) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/hal+json"
    embedded: list[dict[str, Any]] = answer.json()["_embedded"][name]
    return embedded


def ids(answer: httpx.Response, name: str) -> list[Any]:
    """Of the rows; none when the list is empty, which amoCRM says by 204 without a body."""
    if answer.status_code == 204:
        assert not answer.content
        assert "content-type" not in answer.headers
        return []
    return [row.get("id", row.get("uid")) for row in rows(answer, name)]


def refusal(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    return body


def refused_path(answer: httpx.Response) -> str:
    """What a refused write blames first."""
    path: str = refusal(answer)["validation-errors"][0]["errors"][0]["path"]
    return path
