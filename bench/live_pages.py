#!/usr/bin/env python3
"""What open live pages cost the calls: INVITE in -> INVITE out, and how late the daemon's loop is, without and with.

Five logins (the operator and four offices) have 20 pages open each, over real HTTP connections of a process of its
own; each office has calls of ten seconds all the time, so that every page changes each second. The daemon has the first
CPU, the load the second. The daemon's loop is asked every 2 ms how late it is; uvloop's timers are good to 1 ms.

  .venv/bin/python bench/live_pages.py [--calls 1200] [--rate 25] [--pages 100] [--json]
"""
from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIGNALLING = ROOT / "bench" / "signalling"
sys.path[:0] = [str(ROOT), str(SIGNALLING)]

import httpx  # noqa: E402
import structlog  # noqa: E402
import uvloop  # noqa: E402
from argon2 import PasswordHasher  # noqa: E402
from sipbench import LOCK, turn  # noqa: E402

from b2bua.app import running  # noqa: E402  the checkout is no package
from b2bua.cdr import ClientId  # noqa: E402
from b2bua.config import (  # noqa: E402
    Listener,
    LogSettings,
    MediaSettings,
    ServerSettings,
    Settings,
    SipSettings,
    WebSettings,
)
from b2bua.directory import Client, Directory, Extension, Number, Trunk  # noqa: E402

SUT_CPU, LOAD_CPU = "0", "1"
HERE, PHONES, WEB_PORT = "127.0.77.1", "127.0.77.30", 8077
PROBED, OFFICES = ClientId("probed"), tuple(ClientId(f"office-{number}") for number in range(1, 5))
EXTENSIONS = 20                           # of each office
TALKS = 10                                # calls that each office has at once,
TALK_SECONDS = 10                         # and for how long
PASSWORD = "of the bench"                 # noqa: S105
LOGINS = ("operator", *OFFICES)
TOKEN = re.compile(r'name="token" value="([^"]+)"')
SETTLE = 3.0                              # seconds from the last page's opening to the first call that is timed
READY_WITHIN = 30.0


# -- the daemon

def directory() -> Directory:
    hashed = PasswordHasher(time_cost=1, memory_cost=64).hash(PASSWORD)
    clients = [Client(PROBED, "Probed", record=False, max_calls=1000)]
    extensions = [Extension(PROBED, "100", "probed", {}, address=f"sip:1000@{HERE}:5070")]
    trunks = [Trunk(PROBED, "load", HERE, max_calls=1000)]
    numbers = [Number(PROBED, "1000", "100")]
    for index, office in enumerate(OFFICES, 1):
        clients.append(Client(office, str(office), record=False, login=office, password_hash=hashed))
        extensions += [Extension(office, str(number), f"{office}-{number}", {}, f"Employee {number}",
                                 address=f"sip:{number}@{PHONES}:5070") for number in range(100, 100 + EXTENSIONS)]
        trunks.append(Trunk(office, "load", f"127.0.77.1{index}"))
        numbers.append(Number(office, "1000", "100"))
    return Directory(tuple(clients), tuple(extensions), tuple(trunks), (), tuple(numbers))


async def daemon(scratch: Path) -> None:
    settings = Settings(
        server=ServerSettings(data_dir=scratch, drain_seconds=0),
        sip=SipSettings(listen=(Listener(transport="udp", host=HERE, port=5060),), qualify_every=0),
        media=MediaSettings(plane="none"),
        web=WebSettings(host=HERE, port=WEB_PORT, operator_password=PASSWORD),
        log=LogSettings(level="error"),
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    lags: list[float] = []
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lags.clear)
    async with running(settings) as system:
        old, generation = await system.store.directory.load()
        await system.store.directory.replace(old, directory(), generation)
        await system.switchboard.settings_changed()
        async with asyncio.TaskGroup() as tasks:
            metering = tasks.create_task(meter(lags))
            await stop.wait()
            metering.cancel()
        sys.stdout.write(json.dumps(percentiles([lag * 1000 for lag in lags])) + "\n")


async def meter(lags: list[float]) -> None:
    while True:
        due = time.perf_counter() + 0.002
        await asyncio.sleep(0.002)
        lags.append(max(0.0, time.perf_counter() - due))


def percentiles(values: list[float]) -> dict[str, float]:
    values.sort()
    return {name: round(values[min(len(values) - 1, int(share * len(values)))], 2)
            for name, share in (("p50", .5), ("p99", .99), ("p99.9", .999), ("max", 1.0))} if values else {}


# -- who looks

async def look(pages: int) -> None:
    """Opens the pages, says so, and tells what came when it is stopped."""
    os.nice(10)                           # who measures goes first on this CPU
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    came = {"events": 0, "bytes": 0}
    async with asyncio.TaskGroup() as tasks:
        reading = []
        for index, login in enumerate(LOGINS):
            cookie = await signed_in(login)
            for _ in range(index, pages, len(LOGINS)):
                opened = asyncio.Event()
                reading.append(tasks.create_task(read(cookie, came, opened)))
                await opened.wait()
        sys.stdout.write("open\n")
        sys.stdout.flush()
        came.update(events=0, bytes=0)
        began = time.monotonic()
        await stop.wait()
        took = time.monotonic() - began
        for one in reading:
            one.cancel()
    sys.stdout.write(json.dumps({"events_a_second": round(came["events"] / took, 1),
                                 "kib_a_second": round(came["bytes"] / took / 1024, 1)}) + "\n")


async def signed_in(login: str) -> str:
    async with httpx.AsyncClient(base_url=f"http://{HERE}:{WEB_PORT}", trust_env=False, timeout=30) as browser:
        form = TOKEN.search((await browser.get("/sign-in")).text)
        assert form is not None
        said = await browser.post("/sign-in", data={"token": form[1], "login": login, "password": PASSWORD})
        assert said.status_code == 303, said.text
        return f"session={browser.cookies['session']}"


async def read(cookie: str, came: dict[str, int], opened: asyncio.Event) -> None:
    """As cheaply as can be: what is measured is not the reader."""
    reader, writer = await asyncio.open_connection(HERE, WEB_PORT)
    try:
        writer.write(f"GET /live HTTP/1.1\r\nHost: {HERE}:{WEB_PORT}\r\nCookie: {cookie}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        while chunk := await reader.read(65_536):
            opened.set()
            came["events"] += chunk.count(b"data: {")
            came["bytes"] += len(chunk)
    finally:
        writer.close()


# -- the measurement

@asynccontextmanager
async def program(*command: str, cpu: str = LOAD_CPU) -> AsyncIterator[asyncio.subprocess.Process]:
    silent = asyncio.subprocess.DEVNULL if command[0] == "sipp" else None
    process = await asyncio.create_subprocess_exec(
        "taskset", "-c", cpu, *command, stdout=silent or asyncio.subprocess.PIPE, stderr=silent)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


async def stopped(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """What it says at its end."""
    process.terminate()
    output, _ = await process.communicate()
    return dict(json.loads(output))


async def probe(calls: int, rate: float, timeout_seconds: float = 4.0) -> dict[str, Any]:
    command = (sys.executable, str(SIGNALLING / "probe.py"), f"{HERE}:5060", "--answer", f"{HERE}:5070", "--local",
               f"{HERE}:0", "--calls", str(calls), "--rate", str(rate), "--timeout", str(timeout_seconds))
    async with program(*command) as process:
        output, _ = await process.communicate()
    return dict(json.loads(output))


async def measure(pages: int, calls: int, rate: float) -> dict[str, Any]:
    own = (sys.executable, str(Path(__file__)))
    with tempfile.TemporaryDirectory() as scratch:
        async with AsyncExitStack() as parts:
            sut = await parts.enter_async_context(program(*own, "--daemon", scratch, cpu=SUT_CPU))
            async with asyncio.timeout(READY_WITHIN):
                while (await probe(1, 1, 0.5))["failed"]:
                    assert sut.returncode is None, "the daemon did not start"
            await parts.enter_async_context(program("sipp", "-sn", "uas", "-i", PHONES, "-p", "5070", "-nostdin"))
            for index in range(1, len(OFFICES) + 1):
                await parts.enter_async_context(program(
                    "sipp", "-sn", "uac", f"{HERE}:5060", "-s", "1000", "-i", f"127.0.77.1{index}", "-p", "5060",
                    "-r", str(TALKS), "-rp", str(TALK_SECONDS * 1000), "-d", str(TALK_SECONDS * 1000), "-nostdin"))
            await asyncio.sleep(TALK_SECONDS)
            watching = None
            if pages:
                watching = await parts.enter_async_context(program(*own, "--look", str(pages)))
                assert watching.stdout is not None
                assert await watching.stdout.readline() == b"open\n"
            await asyncio.sleep(SETTLE)
            sut.send_signal(signal.SIGUSR1)
            figures = await probe(calls, rate)
            came = await stopped(watching) if watching is not None else {}
            return {"pages": pages, "invite_us": figures["invite_us"], "failed": figures["failed"],
                    "loop_late_ms": await stopped(sut), **came}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1200)
    parser.add_argument("--rate", type=float, default=25.0, help="calls a second, one after another")
    parser.add_argument("--pages", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--daemon", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--look", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.daemon is not None:
        await daemon(given.daemon)
        return
    if given.look is not None:
        await look(given.look)
        return
    os.sched_setaffinity(0, {int(LOAD_CPU)})
    with turn(LOCK):
        figures = [await measure(pages, given.calls, given.rate) for pages in (0, given.pages)]
    if given.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    rows = ["| pages | INVITE in → INVITE out, µs: median | 99th percentile | loop late, ms: median | 99th | 99.9th | "
            "events/s | KiB/s | failed |", "|---|---|---|---|---|---|---|---|---|"]
    for one in figures:
        at, late = one["invite_us"], one["loop_late_ms"]
        rows.append(f"| {one['pages']} | {at['p50']} | {at['p99']} | {late['p50']} | {late['p99']} | {late['p99.9']} | "
                    f"{one.get('events_a_second', 0)} | {one.get('kib_a_second', 0)} | {one['failed']} |")
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    structlog.configure(                    # as `open_logs` has it, at the level of bench/signalling
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR), cache_logger_on_first_use=True
    )
    uvloop.run(main())
