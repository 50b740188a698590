#!/usr/bin/env python3
"""An hour of everything: whether anything is lost, left over, or grows, while datagrams are lost and far ends die.

The real daemon (embedded relay in its own process, SQLite, all as the product comes, but for the settings below that
make leftovers end within the run) between an operator and an office of 40 phones, each side a process of its own
(far_ends.py). Calls of eleven kinds in both directions and among the phones: plain ones, cancelled, busy, unanswered,
held in three spellings and resumed, transferred blindly and attended, rung by groups; one in twenty with sound. The
phones register over and over. A share of the SIP datagrams is lost, each way. Now and then one side is killed and
started anew.

Afterwards nothing may be left: no call, session, transaction, binding, media session, open port or row of a call that
is up; each answered call has one record; memory did not grow after the warm-up of 15 minutes. Calls that went otherwise
than their kind says, and not across the death of a side, are told with their log.

  scripts/soak hour [--minutes 60] [--rate 50] [--loss 0.01] [--restart-every 120] [--seed 1] [--growth-kib 16384]
"""
from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import sqlite3
import sys
import tempfile
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench"), str(ROOT / "bench" / "signalling")]

import far_ends  # noqa: E402
import sipbench  # noqa: E402

SAMPLE_EVERY = 10.0
READY_WITHIN = 30.0
BACK_WITHIN = 60.0                         # seconds that a side may take to be up again
AFTERWARDS = 20.0                          # seconds after a restart in which calls may still suffer from it
DRAIN_WITHIN = 200.0                       # what the slowest of RTP time-out, session timer, 64 × T1 needs, twice
WEB = (far_ends.PBX.host, 8080)
LOG_KEPT = 60_000                          # lines; a minute and more of calls
TOLD_AT_MOST = 40                          # failures with their log
OFFICE_SHARE = 0.4                         # of the calls are made by the phones
DIRECTIONS = {"in": "inbound", "out": "outbound"}
# Seconds: by then what is bounded is full: nonces live for 300 s, and the 16,384 numbers whose spellings are remembered
# are all different here. A shorter run says nothing of memory.
WARM_UP = 900.0

SERVER = """\
[server]
data_dir = "{scratch}/var"
drain_seconds = 5

[sip]
listen = [{{ transport = "udp", host = "{host}", port = {port} }}]
max_calls = 5000
register_min = 10
session_expires = 90
qualify_every = 20

[media]
host = "{host}"
rtp_timeout = 30
hold_timeout = 60

[web]
host = "{web_host}"
port = {web_port}
"""
SAMPLE = re.compile(r"(?m)^((?:smartswitch|process)_\w+(?:\{.*\})?) (\S+)$")
# Gauges of /metrics that have to be back at nothing.
LEFT_OVER = (
    "smartswitch_live_calls", "smartswitch_sip_sessions", "smartswitch_sip_transactions", "smartswitch_media_sessions",
    "smartswitch_registered_phones", "smartswitch_journal_waiting", "smartswitch_recordings_waiting",
)
FAULTS = (
    "smartswitch_call_faults_total", 'smartswitch_sip_messages_unusable_total{kind="fault"}',
    "smartswitch_log_lines_dropped_total", 'smartswitch_journal_calls_total{kept="lost"}',
    'smartswitch_media_events_total{event="restart"}', 'smartswitch_web_events_total{event="faults"}',
)


def office() -> str:
    """The apply file."""
    lines = ["[[client]]", 'id = "soak"', "max_calls = 5000", "outgoing_per_hour = 100000", "record = false",
             f'caller_id = "{far_ends.phone_number(0)}"',
             "[[client.trunk]]", 'name = "operator"', f'host = "{far_ends.OPERATOR.host}"',
             f"port = {far_ends.OPERATOR.port}", "max_calls = 5000"]
    for place in range(far_ends.PHONES):
        lines += ["[[client.extension]]", f'number = "{200 + place}"', f'password = "{far_ends.PASSWORD}"',
                  "max_calls = 5000", "outgoing_per_hour = 100000",
                  "[[client.number]]", f'number = "{far_ends.phone_number(place)}"', f'destination = "{200 + place}"',
                  f"ring_seconds = {far_ends.NUMBER_RINGS}"]
    for place in range(far_ends.GROUPS):
        members = [f"{200 + 3 * place + one}" for one in range(3)]
        lines += ["[[client.group]]", f'number = "{600 + place}"', f"members = {json.dumps(members)}",
                  "[[client.number]]", f'number = "{far_ends.group_number(place)}"', f'destination = "{600 + place}"',
                  f"ring_seconds = {far_ends.NUMBER_RINGS}"]
    return "\n".join(lines) + "\n"


class Daemon:
    """The process, its last log lines, its figures."""

    def __init__(self, scratch: Path) -> None:
        self.database = scratch / "var" / "smartswitch.db"
        self.lines: deque[bytes] = deque(maxlen=LOG_KEPT)
        self.complaints: Counter[str] = Counter()
        self.process: asyncio.subprocess.Process | None = None
        self._config = scratch / "smartswitch.toml"
        self._config.write_text(SERVER.format(scratch=scratch, host=far_ends.PBX.host, port=far_ends.PBX.port,
                                              web_host=WEB[0], web_port=WEB[1]))
        self._apply_file = scratch / "office.toml"
        self._apply_file.write_text(office())

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        applied = await self.command("apply", str(self._apply_file))
        if applied[0]:
            raise SystemExit(f"apply failed: {applied[1]}")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "b2bua", "serve", "--config", str(self._config), cwd=ROOT, start_new_session=True,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, limit=1 << 20)
        tasks.create_task(self._read_log())
        until = time.monotonic() + READY_WITHIN
        while True:
            with suppress(OSError):
                await self.figures()
                return
            if self.process.returncode is not None or time.monotonic() > until:
                raise SystemExit(b"".join(list(self.lines)[-20:]).decode())
            await asyncio.sleep(0.2)

    async def command(self, *words: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "b2bua", words[0], "--config", str(self._config), *words[1:], cwd=ROOT,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    async def _read_log(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line)
            if b'"info"' not in line and b'"debug"' not in line:
                self.complaints[_event(line)] += 1

    async def figures(self) -> dict[str, float]:
        """Each sample of /metrics by its name with labels."""
        text = await asyncio.to_thread(_get, f"http://{WEB[0]}:{WEB[1]}/metrics")
        return {name: float(value) for name, value in SAMPLE.findall(text)}

    def memory(self) -> dict[str, int]:
        """Proportional set sizes in KiB: of all its processes, and of the first."""
        assert self.process is not None
        family = sipbench.family(self.process.pid)
        return {"all": sipbench.memory(family)[0], "signalling": sipbench.memory([self.process.pid])[0]}

    def sockets(self) -> int:
        """Open in all its processes."""
        assert self.process is not None
        return sum(_sockets(pid) for pid in sipbench.family(self.process.pid))

    def log_of(self, number: str) -> list[str]:
        """The lines of the calls in which that number was."""
        mark = f'"{number}"'.encode()
        ids = {found[1] for line in self.lines if mark in line and (found := re.search(rb'"call": ?"(\w+)"', line))}
        return [line.decode().strip() for line in self.lines if any(one in line for one in ids)]

    def records(self) -> tuple[int, Counter[tuple[str, str]], int]:
        """How many; how many of each direction and outside number; and how many calls are in the books as still up."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
            numbers: Counter[tuple[str, str]] = Counter()
            total = 0
            for direction, caller, dialled in database.execute("SELECT direction, caller, dialled FROM calls"):
                total += 1
                numbers[direction, caller if direction == "inbound" else dialled] += 1
            (standing,) = database.execute("SELECT count(*) FROM standing_calls").fetchone()
        return total, numbers, standing


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:      # noqa: S310  our own daemon
        return str(answer.read().decode())


def _sockets(pid: int) -> int:
    count = 0
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                count += os.readlink(entry.path).startswith("socket:")
    return count


def _event(line: bytes) -> str:
    with suppress(ValueError):
        told = json.loads(line)
        return f"{told.get('level')}: {told.get('event')}"
    return line.decode(errors="replace").strip()[:100]


@dataclass
class Outcomes:
    """What the far ends tell of the calls, bounded but for the directions and numbers of those that were answered."""

    kinds: Counter[tuple[str, str, str]] = field(default_factory=Counter)       # way, kind, what became of it
    answered: set[tuple[str, str]] = field(default_factory=set)
    told: list[tuple[dict[str, Any], list[str]]] = field(default_factory=list)
    unexplained: int = 0
    troubles: list[tuple[float, float]] = field(default_factory=list)           # from, until: a side was away

    def take(self, told: dict[str, Any], daemon: Daemon) -> None:
        key = (told["way"], told["kind"])
        if told["part"] == "caller" and told["status"] == 200 and told["way"] in DIRECTIONS:
            self.answered.add((DIRECTIONS[told["way"]], told["number"]))
        if not told["problem"]:
            self.kinds[*key, "as expected"] += 1
        elif any(told["began"] < until and told["ended"] > since for since, until in self.troubles):
            self.kinds[*key, "cut by a restart"] += 1
        else:
            self.unexplained += 1
            self.kinds[*key, "otherwise"] += 1
            if len(self.told) < TOLD_AT_MOST:
                self.told.append((told, daemon.log_of(told["number"])))

    def table(self) -> Iterator[str]:
        fates = ("as expected", "cut by a restart", "otherwise")
        yield f"| calls | {' | '.join(fates)} |"
        yield "|---|---|---|---|"
        for way, kind in sorted({(way, kind) for way, kind, _ in self.kinds}):
            yield f"| {way} {kind} | {' | '.join(str(self.kinds[way, kind, fate]) for fate in fates)} |"


class FarEnd:
    """One side's process, which may die and come back."""

    def __init__(self, side: str, rate: float, given: argparse.Namespace, outcomes: Outcomes, daemon: Daemon) -> None:
        self.side = side
        self.lost: Counter[str] = Counter()
        self.generation = 0
        self._rate, self._given, self._outcomes, self._daemon = rate, given, outcomes, daemon
        self._process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()
        self._done = {"stop": asyncio.Event(), "sign off": asyncio.Event()}

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        self._ready.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "bench" / "far_ends.py"), self.side, "--rate", str(self._rate),
            "--seed", str(self._given.seed), "--generation", str(self.generation), "--loss", str(self._given.loss),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True, limit=1 << 20)
        tasks.create_task(self._listen(self._process))
        await asyncio.wait_for(self._ready.wait(), BACK_WITHIN)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if not line.endswith(b"\n"):   # cut by its death
                return
            told = json.loads(line)
            if "ready" in told:
                self._ready.set()
            elif "idle" in told:
                self._done["stop"].set()
            elif "signed_off" in told:
                self.lost.update(told["lost"])
                self._done["sign off"].set()
            else:
                self._outcomes.take(told, self._daemon)

    async def die_and_come_back(self, tasks: asyncio.TaskGroup) -> None:
        assert self._process is not None
        since = time.time()
        self._outcomes.troubles.append((since, since + BACK_WITHIN + AFTERWARDS))
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        self.generation += 1
        await self.start(tasks)
        self.say("go")
        self._outcomes.troubles[-1] = (since, time.time() + AFTERWARDS)

    def say(self, word: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")

    async def done(self, word: str) -> None:
        """Until that is so."""
        await asyncio.wait_for(self._done[word].wait(), DRAIN_WITHIN)

    async def end(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()


@dataclass
class Samples:
    """Memory by time."""

    taken: list[tuple[float, int, int]] = field(default_factory=list)     # seconds, KiB of all, of the first process

    def add(self, at: float, memory: dict[str, int]) -> None:
        self.taken.append((at, memory["all"], memory["signalling"]))

    def growth(self, warm_up: float) -> tuple[float, int]:
        """KiB a minute by least squares, and KiB from the median of the first fifth to that of the last."""
        points = [(at, size) for at, size, _ in self.taken if at >= warm_up]
        if len(points) < 5:
            return 0.0, 0
        mean_at = sum(at for at, _ in points) / len(points)
        mean_size = sum(size for _, size in points) / len(points)
        spread = sum((at - mean_at) ** 2 for at, _ in points)
        slope = sum((at - mean_at) * (size - mean_size) for at, size in points) / spread
        fifth = max(1, len(points) // 5)

        def median(some: list[tuple[float, int]]) -> int:
            return sorted(size for _, size in some)[len(some) // 2]

        return slope * 60, median(points[-fifth:]) - median(points[:fifth])


async def soak(given: argparse.Namespace, scratch: Path) -> bool:
    daemon, outcomes, samples = Daemon(scratch), Outcomes(), Samples()
    share = {"operator": 1 - OFFICE_SHARE, "office": OFFICE_SHARE}
    sides = [FarEnd(side, given.rate * share[side], given, outcomes, daemon) for side in ("operator", "office")]
    async with asyncio.TaskGroup() as tasks:
        try:
            await daemon.start(tasks)
            sockets = daemon.sockets()
            for side in reversed(sides):   # the phones are there before anybody calls them
                await side.start(tasks)
            for side in sides:
                side.say("go")
            began = time.monotonic()
            standing = await _run(given, daemon, sides, samples, began, tasks)
            for word in ("stop", "sign off"):
                for side in sides:
                    side.say(word)
                for side in sides:
                    await side.done(word)
            left = await _drained(daemon)
            faded = daemon.memory()
            figures = await daemon.figures()
            troubles = list(await _leftovers(daemon, figures, left, sockets, outcomes))
            for side in sides:
                await side.end()
        finally:
            if daemon.process is not None and daemon.process.returncode is None:
                daemon.process.terminate()
                await daemon.process.wait()
            for side in sides:
                await side.end()
    slope, growth = samples.growth(WARM_UP)
    if growth > given.growth_kib:
        troubles.append(f"memory grew by {growth} KiB")
    if outcomes.unexplained:
        troubles.append(f"{outcomes.unexplained} calls went otherwise than they should")
    _tell("\n".join(outcomes.table()))
    lost = sides[0].lost + sides[1].lost
    _tell(f"\nlost datagrams of the last generations: in {lost['in']} of {lost['in all']}, out {lost['out']} of "
          f"{lost['out all']}; restarts: {', '.join(f'{side.side} {side.generation}' for side in sides)}")
    _tell(f"most calls at once: {standing}; "
          f"CPU of the signalling process: {figures['process_cpu_seconds_total']:.0f} s")
    judged = f"{growth:+} KiB, {slope:+.1f} KiB a minute" if given.minutes * 60 > WARM_UP else "not judged, too short"
    _tell(f"memory after the warm-up: {judged}; at the end, all faded: {faded['all']} KiB")
    _tell("repeated by us: {:.0f}, absorbed: {:.0f}, timed out: {:.0f}".format(
        *(figures.get(f"smartswitch_sip_{name}", 0) for name in (
            'retransmissions_total{way="out"}', 'retransmissions_total{way="in"}', "timeouts_total"))))
    for event, times in daemon.complaints.most_common(20):
        _tell(f"log: {times} × {event}")
    for told, log in outcomes.told:
        _tell("otherwise: " + json.dumps(told))
        for line in log:
            _tell("    " + line)
    for trouble in troubles:
        _tell(f"TROUBLE: {trouble}")
    _tell("nothing lost, nothing left over" if not troubles else "FAILED")
    return not troubles


async def _run(given: argparse.Namespace, daemon: Daemon, sides: list[FarEnd], samples: Samples, began: float,
               tasks: asyncio.TaskGroup) -> int:
    """Sample and restart for so long; the most calls that stood at once."""
    die = random.Random(given.seed)
    due, most = began + given.restart_every * die.uniform(0.5, 1.5), 0
    end = began + given.minutes * 60
    while (now := time.monotonic()) < end:
        figures, memory = await daemon.figures(), daemon.memory()
        live = int(sum(figures.get(f'smartswitch_live_calls{{state="{state}"}}', 0)
                       for state in ("routing", "ringing", "talking")))
        most = max(most, live)
        samples.add(now - began, memory)
        _tell(f"{now - began:6.0f} s  {live:5} calls  {figures['smartswitch_sip_transactions']:6.0f} transactions  "
              f"{memory['all']} KiB, signalling {memory['signalling']}  "
              f"{figures['process_cpu_seconds_total']:.0f} s CPU", error=True)
        if now >= due and end - now > BACK_WITHIN:
            await die.choice(sides).die_and_come_back(tasks)
            due += given.restart_every * die.uniform(0.5, 1.5)
        await asyncio.sleep(max(0.0, min(end, now + SAMPLE_EVERY) - time.monotonic()))
    return most


async def _drained(daemon: Daemon) -> dict[str, float]:
    """Gauges that are not back at nothing, once they are or it is too late."""
    until = time.monotonic() + DRAIN_WITHIN
    while True:
        figures = await daemon.figures()
        left = {name: value for name, value in figures.items() if name.partition("{")[0] in LEFT_OVER and value}
        if not left or time.monotonic() > until:
            return left
        await asyncio.sleep(2.0)


async def _leftovers(daemon: Daemon, figures: dict[str, float], left: dict[str, float], sockets: int,
                     outcomes: Outcomes) -> list[str]:
    troubles = [f"left over: {value:.0f} {name}" for name, value in left.items()]
    troubles += [f"{figures[name]:.0f} {name}" for name in FAULTS if figures.get(name)]
    now_open = daemon.sockets()
    if now_open > sockets + 2:             # the web's and the command line's own
        troubles.append(f"{now_open} sockets are open, {sockets} were at first")
    status, output = await daemon.command("calls", "--json")
    shown = json.loads(output) if not status else {}
    if shown.get("daemon") != "running" or shown.get("live"):
        troubles.append(f"smartswitch calls: {output[:500]}")
    total, numbers, standing = await asyncio.to_thread(daemon.records)
    finished = sum(value for name, value in figures.items() if name.startswith("smartswitch_calls_finished_total"))
    if total != finished:
        troubles.append(f"{total} records of {finished:.0f} finished calls")
    if standing:
        troubles.append(f"{standing} calls stand in the books as up")
    twice = [one for one, times in numbers.items() if times > 1 and far_ends.script_of(one[1])]
    if twice:
        troubles.append(f"{len(twice)} calls have two records, as {twice[0]}")
    without = outcomes.answered - numbers.keys()
    if without:
        troubles.append(f"{len(without)} answered calls have no record, as {min(without)}")
    _tell(f"{total} records, {len(outcomes.answered)} calls answered as their callers saw it")
    return troubles


def _tell(line: str, *, error: bool = False) -> None:
    stream = sys.stderr if error else sys.stdout
    stream.write(line + "\n")
    stream.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=50, help="calls a second, both sides together")
    parser.add_argument("--loss", type=float, default=0.01, help="share of the datagrams that are lost, each way")
    parser.add_argument("--restart-every", type=float, default=120, help="seconds, on average, between two deaths")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--growth-kib", type=int, default=16_384, help="allowed after the warm-up")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # so that what was started is ended
    with sipbench.turn(sipbench.LOCK), tempfile.TemporaryDirectory(prefix="soak.") as scratch:
        flat = asyncio.run(soak(given, Path(scratch)))
    sys.exit(0 if flat else 1)


if __name__ == "__main__":
    main()
