"""How many G.711 calls the embedded relay carries on one core, and how late packets leave it.

    python bench/media.py --calls 600            relayed at once: loss, added delay, CPU of the relay
    python bench/media.py --calls 450 --record   all of them recorded
    python bench/media.py --delay                100 calls: the added delay that a usual load sees
    python bench/media.py --ramp [--record]      more calls until a limit is broken

The relay (and the writer of recordings) has core 0 for itself, the load core 1. Prints one JSON line a run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from b2bua.media.plane import MediaSession, Side
from b2bua.media.relay.link import RelaySettings
from b2bua.media.relay.plane import EmbeddedPlane, embedded_plane
from b2bua.recording.archive import new_recording_id

HOST = "127.0.0.1"
RELAY_CORE, LOAD_CORE = 0, 1
MAX_LOSS_PERCENT, MAX_P99_MS = 0.1, 5.0
RAMP_FROM, RAMP_STEP = 300, 50


def description(port: int) -> bytes:
    return (f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n").encode()


def port_of(sdp: bytes) -> int:
    match = re.search(rb"m=audio (\d+)", sdp)
    assert match is not None
    return int(match[1])


def processes(pid: int) -> list[int]:
    """The relay and the writer that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *map(int, children)]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def connect(session: MediaSession, ends: list[int], record: bool) -> tuple[int, int]:
    """The ports that the caller and the callee see."""
    to_callee = session.offer(description(ends[0]), Side.CALLER)
    to_caller = session.answer(description(ends[1]), Side.CALLEE)
    if record:
        session.record(new_recording_id())
    return port_of(to_caller), port_of(to_callee)


async def measure(plane: EmbeddedPlane, calls: int, seconds: float, record: bool) -> dict[str, object]:
    assert plane.pid is not None
    pids = processes(plane.pid)
    for pid in pids:
        os.sched_setaffinity(pid, {RELAY_CORE})
    load = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("media_load.py")), str(LOAD_CORE),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    assert load.stdin is not None
    assert load.stdout is not None
    ends = json.loads(await load.stdout.readline())
    async with contextlib.AsyncExitStack() as sessions:
        opened = [await sessions.enter_async_context(plane.open(f"call {number}")) for number in range(calls)]
        ports = [await connect(session, ends, record) for session in opened]
        before = [cpu_seconds(pid) for pid in pids]
        job = {"host": HOST, "ports": [[port[side] for port in ports] for side in (0, 1)], "seconds": seconds}
        load.stdin.write(json.dumps(job).encode() + b"\n")
        result = json.loads(await load.stdout.readline())
        cpu = [after - earlier for after, earlier in zip(map(cpu_seconds, pids), before, strict=True)]
        await load.wait()
        reports = [await session.close() for session in opened]
    return {
        "calls": calls, "recorded": sum(report.recorded for report in reports), "seconds": seconds,
        "packets_per_second": round(result["sent"] / seconds),
        **result,
        "relay_cpu_percent": round(100 * cpu[0] / seconds, 1),
        "writer_cpu_percent": round(100 * sum(cpu[1:]) / seconds, 1),
        "cpu_us_per_packet": round(1e6 * sum(cpu) / result["sent"], 2),
        "counted_by_the_relay": sum(report.caller.packets + report.callee.packets for report in reports),
    }  # fmt: skip


async def run(options: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        settings = RelaySettings(HOST, HOST, recordings=Path(folder) if options.record else None, spare=64)
        async with embedded_plane(settings) as plane:
            calls = RAMP_FROM if options.ramp else options.calls
            while True:
                result = await measure(plane, calls, options.seconds, options.record)
                sys.stdout.write(json.dumps(result) + "\n")
                sys.stdout.flush()
                good = within_limits(result)
                if not options.ramp or not good:
                    return good
                calls += RAMP_STEP


def within_limits(result: dict[str, object]) -> bool:
    """Of the relay; a run in which the load generator itself was too slow proves nothing, and counts as no."""
    delay, lost = result["delay_ms"], result["lost_percent"]
    assert isinstance(delay, dict)
    assert isinstance(lost, float)
    return lost < MAX_LOSS_PERCENT and delay["p99"] < MAX_P99_MS and not result["lost_by_the_generator"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--delay", action="store_true", help="100 calls")
    parser.add_argument("--ramp", action="store_true")
    parser.add_argument("--directory", help="for the recordings of the run")
    options = parser.parse_args()
    if options.delay:
        options.calls = 100
    return 0 if asyncio.run(run(options)) else 1


if __name__ == "__main__":
    sys.exit(main())
