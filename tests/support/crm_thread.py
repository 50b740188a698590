"""The stand-in amoCRM beside a daemon in another process, for tests whose fixtures have no loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread

from b2bua.sandbox import SandboxSeed, running_sandbox


@contextmanager
def answering_crm(seed: SandboxSeed, host: str) -> Iterator[str]:
    """Serves while the block lasts; the value is its address."""
    told: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, str]] = Future()
    thread = Thread(target=lambda: asyncio.run(_serve(seed, host, told)), name=f"CRM at {host}")
    thread.start()
    loop, stop, url = told.result()
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _serve(
    seed: SandboxSeed, host: str, told: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, str]]
) -> None:
    try:
        async with running_sandbox(seed, host) as sandbox:
            stop = asyncio.Event()
            told.set_result((asyncio.get_running_loop(), stop, sandbox.base_url))
            await stop.wait()
    except BaseException as fault:
        if not told.done():
            told.set_exception(fault)
        raise
