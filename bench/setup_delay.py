#!/usr/bin/env python3
"""What Smartswitch adds before a phone hears of a call: INVITE in -> INVITE out, in microseconds.

For a client without a CRM, with a contact that the CRM told of before (cached), and with callers of whom nothing is
known: the CRM well, slow (0.5 s and 5 s an answer) and dead (nobody listens). Idle, calls one after another (no faster
than amoCRM takes their requests); the second CPU plays both ends and the stand-in amoCRM, so that the first is the
daemon's alone. A slow CRM costs at most the patience of 1.5 s, a dead one nothing once it is known to be dead.

  .venv/bin/python bench/setup_delay.py [--calls 300] [--json]
"""
from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIGNALLING = ROOT / "bench" / "signalling"
sys.path[:0] = [str(ROOT), str(SIGNALLING)]

from sipbench import LOCK, turn  # noqa: E402

from b2bua.sandbox.faults import Fault  # noqa: E402  the checkout is no package
from b2bua.sandbox.seed import SandboxSeed, SeedAccount, SeedContact  # noqa: E402
from b2bua.sandbox.server import Sandbox, running_sandbox  # noqa: E402

SUT_CPU, LOAD_CPU = "0", "1"
LISTEN, NEXT = "127.0.77.1:5060", "127.0.77.1:5070"
CALLER = "+79161234567"
STRANGER = "+15550200{}"                  # as the probe numbers its callers
STRANGERS = tuple(SeedContact(f"Клиент {serial}", (STRANGER.format(serial),)) for serial in range(1, 101))
SEED = SandboxSeed((SeedAccount(contacts=(SeedContact("Мария Соколова", (CALLER,)), *STRANGERS)),))
READY_WITHIN = 30.0
RATE = "6"                                # calls a second; an integration of amoCRM may ask seven times
UNKNOWN_RATE = "2"                        # each asks twice: who that is, and for the pop-up
UNKNOWN_CALLS = 40
SLOW_CALLS = 15                           # each waits for its answer, or for the patience


async def probe(*arguments: str, known: bool = True) -> dict[str, Any]:
    caller = ("--caller", CALLER) if known else ()
    process = await asyncio.create_subprocess_exec(
        "taskset", "-c", LOAD_CPU, sys.executable, str(SIGNALLING / "probe.py"), LISTEN, "--answer", NEXT,
        "--local", f"{LISTEN.rpartition(':')[0]}:0", *caller, *arguments, stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return dict(json.loads(output))


@asynccontextmanager
async def daemon(scratch: Path, crm: str, *more: str) -> AsyncIterator[None]:
    with (scratch / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "taskset", "-c", SUT_CPU, sys.executable, str(SIGNALLING / "smartswitch_sut.py"), "--listen", LISTEN,
            "--next", NEXT, "--scratch", str(scratch), *(["--crm", crm] if crm else []), *more, stdout=log, stderr=log,
        )
    try:
        async with asyncio.timeout(READY_WITHIN):
            while (await probe("--calls", "1", "--timeout", "0.5"))["failed"]:
                if process.returncode is not None:
                    raise SystemExit("the daemon did not start")
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def measure(crm: str, calls: int) -> dict[str, Any]:
    with turn(LOCK), tempfile.TemporaryDirectory() as scratch:
        async with daemon(Path(scratch), crm):
            return await probe("--calls", str(calls), "--rate", RATE)


async def measure_unknown(
    crm: str, calls: int, sandbox: Sandbox | None = None, answers_after: float = 0
) -> dict[str, Any]:
    """Nothing is read ahead, and each caller is another; the CRM gets slow once the daemon is up."""
    with turn(LOCK), tempfile.TemporaryDirectory() as scratch:
        async with daemon(Path(scratch), crm, "--no-sync"):
            if sandbox is not None:
                sandbox.state.faults.add(Fault(path="/api/v4/*", delay=answers_after))
            figures = await probe("--calls", str(calls), "--rate", UNKNOWN_RATE, known=False)
    if sandbox is not None:
        sandbox.state.faults.clear()
    return figures


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    os.sched_setaffinity(0, {int(LOAD_CPU)})
    unknown, slow = min(given.calls, UNKNOWN_CALLS), min(given.calls, SLOW_CALLS)
    figures = {"without CRM": await measure("", given.calls)}
    async with running_sandbox(SEED) as sandbox:
        figures["cached contact"] = await measure(sandbox.base_url, given.calls)
        figures["unknown caller"] = await measure_unknown(sandbox.base_url, unknown)
        figures["unknown caller, CRM answers after 0.5 s"] = await measure_unknown(sandbox.base_url, slow, sandbox, 0.5)
        figures["unknown caller, CRM answers after 5 s"] = await measure_unknown(sandbox.base_url, slow, sandbox, 5)
    figures["unknown caller, CRM dead"] = await measure_unknown(sandbox.base_url, unknown)
    if given.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    rows = ["| INVITE in → INVITE out | median, µs | 95th percentile | 99th | failed of |", "|---|---|---|---|---|"]
    for name, figure in figures.items():
        at, failed = figure["invite_us"], f"{figure['failed']} of {figure['calls']}"
        rows.append(f"| {name} | {at['p50']} | {at['p95']} | {at['p99']} | {failed} |")
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
