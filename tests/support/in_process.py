"""The whole system in the test's own process, on loopback addresses of its own: for what has no door of its own yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from b2bua.app import System, running
from b2bua.cdr import CallId, CallRecord
from b2bua.config import Listener, LogSettings, MediaSettings, ServerSettings, Settings, SipSettings, WebSettings
from b2bua.directory import Directory
from tests.support.daemon import Addresses


@asynccontextmanager
async def running_system(home: Path, addresses: Addresses, directory: Directory) -> AsyncIterator[System]:
    settings = Settings(
        server=ServerSettings(data_dir=home / "var", drain_seconds=1),
        sip=SipSettings(listen=(Listener(transport="udp", host=addresses.daemon, port=5060),), qualify_every=0),
        media=MediaSettings(host=addresses.daemon, port_min=20000, port_max=20999),
        web=WebSettings(host=addresses.daemon, port=0),
        log=LogSettings(level="error"),
    )
    async with running(settings) as system:
        old, generation = await system.store.directory.load()
        await system.store.directory.replace(old, directory, generation)
        await system.switchboard.settings_changed()
        yield system


async def record_of(system: System, call: CallId, patience: float = 10.0) -> CallRecord:
    """It gets into the books shortly after the last message of the call."""
    async with asyncio.timeout(patience):
        while True:
            for record in await system.store.calls.last_calls():
                if record.id == call:
                    return record
            await asyncio.sleep(0.02)
