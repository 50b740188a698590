#!/usr/bin/env python3
"""What a flood of junk, INVITE, REGISTER or OPTIONS costs those who talk; it comes from one address, or from many.

The real daemon (embedded relay, SQLite), and beside it two processes of ours: one with a trunk and phones, of whom ten
pairs talk all the time and three more a second are joined, answered and parted; and one that floods. Each phase of a
few seconds is held against the same calls without a flood, in the same run: calls lost, time from INVITE to 200, and
how late RTP packets are, from the stamp that the sender wrote to the kernel's at the receiver.

  bench/run flood, or bench/flood.py [--rate 5000] [--seconds 8] [--only invite,junk] [--seed 1]
"""
from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import select
import signal
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench"), str(ROOT / "bench" / "signalling")]

import far_ends  # noqa: E402
import sipbench  # noqa: E402
import soak_hour  # noqa: E402

from tests.support.phone import PhoneCall  # noqa: E402

TALKING = 10                               # calls that stand
NEW_A_SECOND = 3.0
TALK = 1.0                                 # seconds that the new ones last
SET_UP_WITHIN = 4.0                        # else the call is lost
SETTLES = 3.0
PAUSE = 2.0                                # seconds between phases
NEAR = "127.0.80"                          # the flood's addresses: this, and the nets after it
CROWD = 500
TICK = 0.002
SO_TIMESTAMPNS = 35
KINDS = ("invite", "register", "options", "junk", "mix")
SOURCES = ("one", "many", "phone")         # addresses: a stranger's, many strangers', that of a registered phone


# ------------------------------------------------------------------ those who talk

class TimedSound(far_ends.Sound):
    """RTP with the time of its sending in it."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(32):
                data, ancillary, _, _ = self._socket.recvmsg(2048, 64)
                seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2][:16])
                sent_at, phase = struct.unpack_from("!qB", data, 12)
                LATE[phase].append((seconds * 1_000_000_000 + nanoseconds - sent_at) / 1e6)

    async def chat(self, call: PhoneCall, first: float) -> None:
        """Until the end."""
        remote, sequence, loop = far_ends.audio_address(call.sdp), 0, asyncio.get_running_loop()
        due = loop.time() + first
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            sequence += 1
            head = struct.pack("!BBHII", 0x80, 8, sequence & 0xFFFF, sequence * 160 & 0xFFFFFFFF, 7)
            SENT[PHASE[0]] += 1
            self._socket.sendto(head + struct.pack("!qB", time.time_ns(), PHASE[0]) + bytes(151), remote)
            due += far_ends.RTP_EVERY


PHASE = [0]
LATE: list[list[float]] = [[] for _ in range(256)]         # ms, by phase
SENT: Counter[int] = Counter()


class Talkers(far_ends.Side):
    def __init__(self, seed: int) -> None:
        super().__init__("talkers", seed, 0, 0.0)
        self.operator = self._timed("operator", far_ends.OPERATOR)
        self.phones = [self._timed(f"{200 + n}", far_ends.Address(far_ends.OFFICE, 5060 + n), far_ends.PASSWORD)
                       for n in range(far_ends.PHONES)]
        self.setups: list[float] = []
        self.lost: Counter[str] = Counter()
        self.standing: list[PhoneCall] = []

    def _timed(self, user: str, local: far_ends.Address, password: str = "") -> far_ends.Line:
        line = self.line(user, local, password)
        line.sound = TimedSound(local.host)
        line.rtp_port = line.sound.port
        line.on_call = lambda call: self.start(self._take, line, call)
        return line

    async def _take(self, line: far_ends.Line, call: PhoneCall) -> None:
        line.ring(call)
        await asyncio.sleep(0.05)
        call.answer()
        if len(self.standing) < TALKING:
            assert isinstance(line.sound, TimedSound)
            await line.sound.chat(call, 0.0)
        await call.over.wait()
        line.forget_later(call)

    async def join(self) -> None:
        """Register, and have the standing calls up."""
        for phone in self.phones:
            assert (await phone.register(3600)).status == 200
        for place in range(TALKING):
            call = self.operator.call(far_ends.phone_number(place), as_=f"+7916000{place:04}")
            await asyncio.wait_for(call.answered.wait(), SET_UP_WITHIN)
            await asyncio.sleep(0.1)
            self.standing.append(call)
            assert isinstance(self.operator.sound, TimedSound)
            self.tasks.create_task(self.operator.sound.chat(call, place * 0.002))

    async def keep_calling(self) -> None:
        number = 0
        while True:
            number += 1
            self.start(self._one_more, number)
            await asyncio.sleep(1 / NEW_A_SECOND)

    async def _one_more(self, number: int) -> None:
        began = time.monotonic()
        place = TALKING + number % (far_ends.PHONES - TALKING)
        if number % 2:
            line = self.operator
            call = line.call(far_ends.phone_number(place), as_=f"+7917{number:07}")
        else:
            line = self.phones[place]
            call = line.call(self.phones[TALKING + (number + 7) % (far_ends.PHONES - TALKING)].user)
        try:
            await asyncio.wait_for(call.answered.wait(), SET_UP_WITHIN)
            self.setups.append((time.monotonic() - began) * 1000 - 50)
            await asyncio.sleep(TALK)
            if call.over.is_set():
                self.lost["cut"] += 1
        except TimeoutError:
            self.lost[f"not set up ({call.status})"] += 1
        call.hang_up()
        line.forget_later(call)

    def report(self, phase: int) -> dict[str, Any]:
        late, setups = sorted(LATE[phase]), sorted(self.setups)
        self.setups.clear()
        lost, self.lost = self.lost, Counter()
        lost["of the standing"] = sum(call.over.is_set() for call in self.standing)
        return {"phase": phase, "sent": SENT[phase], "heard": len(late), "late_ms": _percentiles(late),
                "calls": len(setups), "setup_ms": _percentiles(setups), "lost": {k: v for k, v in lost.items() if v}}


def _percentiles(values: Sequence[float]) -> list[float]:
    """Of sorted ones: median, 99 %, and the largest."""
    if not values:
        return [0.0, 0.0, 0.0]
    return [round(values[min(len(values) - 1, int(len(values) * share))], 2) for share in (0.5, 0.99, 1.0)]


async def talk(seed: int) -> None:
    """Commands on standard input: "phase N" begins one and tells of the last; end of file ends."""
    talkers = Talkers(seed)
    loop, end = asyncio.get_running_loop(), asyncio.Event()

    def told() -> None:
        words = sys.stdin.readline().split()
        if not words:
            loop.remove_reader(sys.stdin.fileno())
            end.set()
            return
        ended, PHASE[0] = PHASE[0], int(words[1])
        # What was sent in it is still on its way.
        loop.call_later(0.5, lambda: talkers.tell(**talkers.report(ended)))

    async with talkers.tasks:
        await talkers.join()
        calling = talkers.tasks.create_task(talkers.keep_calling())
        loop.add_reader(sys.stdin.fileno(), told)
        talkers.tell(ready=True)
        await end.wait()
        calling.cancel()
        os._exit(0)                        # whoever talks is cut off: so ends a bench


# ------------------------------------------------------------------ who floods

def request(method: bytes, source: bytes, number: int) -> bytes:
    name = b"%d" % number
    to = b"sip:%s@%s" % (far_ends.phone_number(0).encode(), far_ends.PBX.host.encode())
    target = to if method == b"INVITE" else b"sip:" + far_ends.PBX.host.encode()
    body = (b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8\r\n"
            if method == b"INVITE" else b"")
    return (b"%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s;rport\r\nMax-Forwards: 70\r\n"
            b"From: <sip:200@%s>;tag=%s\r\nTo: <%s>\r\nCall-ID: flood-%s\r\nCSeq: 1 %s\r\n"
            b"Contact: <sip:200@%s>\r\nExpires: 300\r\nUser-Agent: Some Phone 1.2.3\r\n"
            b"Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY\r\nSupported: replaces, timer\r\n"
            b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s") % (
        method, target, source, name, source, name, to, name, method, source, len(body), body)


def maker(kind: str, die: random.Random) -> Callable[[bytes, int], bytes]:
    junk = [die.randbytes(die.randrange(20, 600)) for _ in range(64)] + [
        b"INVITE sip:x SIP/2.0\r\nVia: nonsense\r\n\r\n", b"\0" * 200, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]
    methods = {"invite": b"INVITE", "register": b"REGISTER", "options": b"OPTIONS"}

    def make(source: bytes, number: int) -> bytes:
        this = kind if kind != "mix" else KINDS[number % 4]
        return junk[number % len(junk)] if this == "junk" else request(methods[this], source, number)

    return make


def addresses(sources: str) -> list[str]:
    if sources == "phone":
        return [far_ends.OFFICE]
    near = NEAR.rpartition(".")
    return [f"{near[0]}.{int(near[2]) + n // 250}.{n % 250 + 1}" for n in range(CROWD if sources == "many" else 1)]


def flood(kind: str, sources: str, rate: float, seconds: float, seed: int) -> dict[str, Any]:
    """Bytes and datagrams, out and in."""
    make, started = maker(kind, random.Random(seed)), os.getpid() << 24
    sockets, poll = [], select.epoll()
    for host in addresses(sources):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind((host, 0))
        one.setblocking(False)
        one.connect(far_ends.PBX)
        poll.register(one, select.EPOLLIN)
        sockets.append((one, f"{host}:{one.getsockname()[1]}".encode()))
    by_number = {one.fileno(): one for one, _ in sockets}
    sent = back = bytes_out = bytes_back = refused = 0
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds + 0.5:
        while sent < min(now, seconds) * rate:
            one, source = sockets[sent % len(sockets)]
            data = make(source, started + sent)
            sent += 1
            try:
                bytes_out += one.send(data)
            except OSError:
                refused += 1
        for number, _ in poll.poll(TICK):
            with suppress(OSError):
                while True:
                    bytes_back += len(by_number[number].recv(65535))
                    back += 1
    for one, _ in sockets:
        one.close()
    return {"sent": sent, "back": back, "bytes_out": bytes_out, "bytes_back": bytes_back, "not_sent": refused}


# ------------------------------------------------------------------ the bench

class Process:
    """A role of this file in a process of its own, which answers by lines of JSON."""

    def __init__(self, *words: str) -> None:
        self._words = words
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, *self._words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)

    async def answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 60)
        if not line:
            raise SystemExit(f"{self._words[0]} ended")
        told: dict[str, Any] = json.loads(line)
        return told

    def say(self, words: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(words.encode() + b"\n")

    async def end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await self._process.wait()


async def bench(given: argparse.Namespace, scratch: Path) -> bool:
    daemon, good = soak_hour.Daemon(scratch), True
    kinds = given.only.split(",") if given.only else KINDS
    sources = given.sources.split(",") if given.sources else SOURCES
    phases = [("none", "–"), *((kind, one) for one in sources for kind in kinds), ("none", "–")]
    talkers = Process("talk", "--seed", str(given.seed))
    async with asyncio.TaskGroup() as tasks:
        try:
            await daemon.start(tasks)
            await talkers.start()
            await talkers.answer()
            await asyncio.sleep(SETTLES)
            talkers.say("phase 1")
            await talkers.answer()
            _row("flood", "from", "calls", "lost", "set-up ms p50/p99/max", "RTP", "lost", "late ms p50/p99/max",
                 "CPU s", "memory KiB", "out B", "in B", "bans")
            _row(*["---"] * 13)
            baseline = 0.0
            for number, (kind, one) in enumerate(phases, 1):
                began, memory = await daemon.figures(), daemon.memory()["all"]
                done = await _flood(given, kind, one)
                after, grown = await daemon.figures(), daemon.memory()["all"] - memory
                talkers.say(f"phase {number + 1}")
                told = await talkers.answer()
                baseline = baseline or told["late_ms"][2]
                lost = json.dumps(told["lost"]) if told["lost"] else 0
                _row(kind, one, told["calls"], lost, _three(told["setup_ms"]),
                     told["heard"], told["sent"] - told["heard"], _three(told["late_ms"]),
                     f"{after['process_cpu_seconds_total'] - began['process_cpu_seconds_total']:.1f}",
                     f"{memory} {grown:+}", done["bytes_out"], done["bytes_back"],
                     f"{sum(v for k, v in after.items() if k.startswith('smartswitch_bans')):.0f}")
                late = told["late_ms"][2] - baseline > 20
                good = good and not told["lost"] and done["bytes_back"] <= done["bytes_out"] and not late
                if late:
                    _row(f"late by {told['late_ms'][2] - baseline:.1f} ms more than without")
                await asyncio.sleep(PAUSE)
                talkers.say(f"phase {number + 1}")
                await talkers.answer()
            for event, times in daemon.complaints.most_common(10):
                sys.stdout.write(f"log: {times} × {event}\n")
            _, bans = await daemon.command("bans")
            sys.stdout.write("\n".join(bans.splitlines()[:8]) + "\n")
        finally:
            await talkers.end()
            if daemon.process is not None and daemon.process.returncode is None:
                daemon.process.terminate()
                await daemon.process.wait()
    return good


async def _flood(given: argparse.Namespace, kind: str, sources: str) -> dict[str, Any]:
    if kind == "none":
        await asyncio.sleep(given.seconds)
        return {"bytes_out": 0, "bytes_back": 0}
    flooder = Process("flood", "--kind", kind, "--sources", sources, "--rate", str(given.rate),
                      "--seconds", str(given.seconds), "--seed", str(given.seed))
    await flooder.start()
    try:
        return await flooder.answer()
    finally:
        await flooder.end()


def _row(*cells: object) -> None:
    sys.stdout.write("| " + " | ".join(str(cell) for cell in cells) + " |\n")
    sys.stdout.flush()


def _three(values: Sequence[float]) -> str:
    return " / ".join(str(value) for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", nargs="?", choices=("bench", "talk", "flood"), default="bench", help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, default=5000, help="datagrams a second")
    parser.add_argument("--seconds", type=float, default=8, help="of each phase")
    parser.add_argument("--only", default="", help=f"kinds, of {', '.join(KINDS)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, default="mix", help=argparse.SUPPRESS)
    parser.add_argument("--sources", default="", help=f"of {', '.join(SOURCES)}")
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    match given.role:
        case "talk":
            import uvloop

            uvloop.run(talk(given.seed))
        case "flood":
            done = flood(given.kind, given.sources, given.rate, given.seconds, given.seed)
            sys.stdout.write(json.dumps(done) + "\n")
        case _:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # so that what was started is ended
            with sipbench.turn(sipbench.LOCK), tempfile.TemporaryDirectory(prefix="flood.") as scratch:
                good = asyncio.run(bench(given, Path(scratch)))
            sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
