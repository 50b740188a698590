#!/usr/bin/env python3
"""Whether memory stays flat: calls in batches through one daemon, and its memory after each batch has faded.

The first batch warms up (code paths, pools, caches). After it, memory may grow by so much at most, or the soak fails.

  scripts/soak [--calls 50000] [--rate 300] [--growth-kib 12288]
"""
from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIGNALLING = ROOT / "bench" / "signalling"
sys.path.insert(0, str(SIGNALLING))

import sipbench  # noqa: E402  the harness beside

LISTEN, NEXT, CALLER = ("127.0.77.1", 5060), ("127.0.77.1", 5070), ("127.0.77.1", 5061)
FADE = 35.0                               # seconds: 64 × T1, the longest that a transaction lingers, and a little
READY_WITHIN = 30.0
BATCHES = 5


def text(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def pinned(cpu: int, *command: str) -> list[str]:
    return ["taskset", "-c", str(cpu), *command]


def probe() -> bool:
    command = [sys.executable, str(SIGNALLING / "probe.py"), text(LISTEN), "--local", f"{LISTEN[0]}:0",
               "--answer", text(NEXT), "--calls", "1", "--timeout", "0.5"]
    return subprocess.run(pinned(1, *command), capture_output=True, check=False).returncode == 0


def sipp(scenario: str, address: tuple[str, int], *more: str) -> list[str]:
    return pinned(1, "sipp", *more, "-sf", str(SIGNALLING / f"{scenario}.xml"), "-i", address[0], "-p", str(address[1]),
                  "-nostdin", "-default_behaviors", "all,-abortunexp")


def batch(scratch: Path, calls: int, rate: float) -> int:
    """Send so many calls through; how many SIPp counts as failed."""
    quiet = {"cwd": scratch, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    called = subprocess.Popen(sipp("uas", NEXT), **quiet)
    time.sleep(0.5)                       # noqa: TID251  no event tells that SIPp is bound
    statistics = scratch / "caller.csv"
    statistics.unlink(missing_ok=True)
    try:
        subprocess.run(
            sipp("uac", CALLER, text(LISTEN), "-s", "1000", "-d", "1000", "-m", str(calls), "-r", f"{rate:.0f}",
                 "-l", "5000", "-trace_stat", "-fd", "5", "-stf", str(statistics)),
            cwd=scratch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=calls / rate + 120,
        )
    finally:
        sipbench.stop(called)
    last = statistics.read_text().splitlines()
    return int(dict(zip(last[0].split(";"), last[-1].split(";"), strict=False))["FailedCall(C)"])


def soak(scratch: Path, calls: int, rate: float, growth_kib: int) -> bool:
    command = [sys.executable, str(SIGNALLING / "smartswitch_sut.py"), "--listen", text(LISTEN), "--next", text(NEXT),
               "--scratch", str(scratch)]
    with (scratch / "log").open("wb") as log:
        daemon = subprocess.Popen(pinned(0, *command), stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + READY_WITHIN
        while not probe():
            if daemon.poll() is not None or time.monotonic() > until:
                raise SystemExit("the daemon carries no call:\n" + (scratch / "log").read_text()[-2000:])
        sizes: list[int] = []
        failed = 0
        for number in range(BATCHES + 1):
            failed += batch(scratch, calls // BATCHES, rate)
            time.sleep(FADE)              # noqa: TID251  what lingers must be gone before it is weighed
            sizes.append(sipbench.memory(sipbench.family(daemon.pid))[0])
            name = "warmed up" if not number else f"after {number * (calls // BATCHES)} calls"
            sys.stdout.write(f"| {name} | {sizes[-1] / 1024:.1f} MiB | {failed} failed |\n")
            sys.stdout.flush()
        grown = sizes[-1] - sizes[0]
        sys.stdout.write(f"grown by {grown} KiB ({grown / (calls // BATCHES * BATCHES) * 1024:.0f} bytes a call), "
                         f"{growth_kib} KiB allowed; {failed} calls failed\n")
        return grown <= growth_kib and failed <= calls // 1000
    finally:
        sipbench.stop(daemon)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--growth-kib", type=int, default=12_288,
                        help="the allocator alone moves by some 8000 up and down; 12288 are 250 bytes a call")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # so that what was started is ended
    with sipbench.turn(sipbench.LOCK), tempfile.TemporaryDirectory(prefix="soak.") as scratch:
        flat = soak(Path(scratch), given.calls, given.rate, given.growth_kib)
    sys.exit(0 if flat else 1)


if __name__ == "__main__":
    main()
