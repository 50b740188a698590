"""G.711 streams through a relay: sends, receives, and says what was lost and how late the rest was.

A process of its own, started by media.py. One socket plays all callers and one all callees; `sendmmsg` and `recvmmsg`
by ctypes, as one system call a packet would leave too little of a core. Delay is the kernel's time of reception
(SO_TIMESTAMPNS) less the time before sending, which each packet carries.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import sys
import time

import numpy as np

PACKET = 12 + 160                       # RTP with 20 ms of G.711
INTERVAL = 0.020
SLOTS = 40                              # bursts that the streams are spread over, per interval
WARM_UP = 1.0                           # seconds that are not counted for delay
DRAIN = 0.5
SO_TIMESTAMPNS = 35
BATCH = 512
HEADER = np.dtype({
    "names": ["name", "name_length", "vector", "vectors", "control", "control_length", "flags", "length"],
    "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
    "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
    "itemsize": 64,
})  # struct mmsghdr of x86-64 and arm64
libc = ctypes.CDLL(None, use_errno=True)


def headers(data: np.ndarray, lengths: int) -> tuple[np.ndarray, np.ndarray]:
    """mmsghdr and iovec arrays for the rows of `data`."""
    count = len(data)
    vectors = np.zeros((count, 2), np.uint64)
    vectors[:, 0] = data.ctypes.data + np.arange(count, dtype=np.uint64) * np.uint64(data.shape[1])
    vectors[:, 1] = lengths
    messages = np.zeros(count, HEADER)
    messages["vector"] = vectors.ctypes.data + np.arange(count) * 16
    messages["vectors"] = 1
    return messages, vectors


class Party:
    """All callers, or all callees: one socket."""

    def __init__(self, host: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.sent = self.received = 0
        self.delays: list[np.ndarray] = []
        self._buffer = np.zeros((BATCH, 256), np.uint8)
        self._control = np.zeros((BATCH, 64), np.uint8)
        self._messages, self._vectors = headers(self._buffer, 256)
        self._messages["control"] = self._control.ctypes.data + np.arange(BATCH) * 64

    def streams(self, host: str, ports: list[int]) -> None:
        count = len(ports)
        self._packets = np.full((count, PACKET), 0xD5, np.uint8)
        self._packets[:, 0] = 0x80
        self._packets[:, 1] = 8
        self._packets[:, 8:12] = np.arange(1, count + 1, dtype=">u4").view(np.uint8).reshape(count, 4)
        self._addresses = np.zeros((count, 16), np.uint8)
        self._addresses[:, 0] = socket.AF_INET
        self._addresses[:, 2:4] = np.array(ports, ">u2").view(np.uint8).reshape(count, 2)
        self._addresses[:, 4:8] = np.frombuffer(socket.inet_aton(host), np.uint8)
        self._out, self._out_vectors = headers(self._packets, PACKET)
        self._out["name"] = self._addresses.ctypes.data + np.arange(count) * 16
        self._out["name_length"] = 16

    def send(self, first: int, last: int, sequence: int) -> None:
        if first == last:
            return
        rows = self._packets[first:last]
        rows[:, 2:4] = np.frombuffer((sequence & 0xFFFF).to_bytes(2, "big"), np.uint8)
        rows[:, 4:8] = np.frombuffer((sequence * 160 & 0xFFFFFFFF).to_bytes(4, "big"), np.uint8)
        rows[:, 12:20] = np.frombuffer(time.time_ns().to_bytes(8, "little"), np.uint8)
        sent = libc.sendmmsg(self.socket.fileno(), ctypes.c_void_p(self._out[first:last].ctypes.data), last - first, 0)
        self.sent += max(sent, 0)

    def receive(self, counted: bool) -> int:
        self._messages["control_length"] = 64
        count = libc.recvmmsg(self.socket.fileno(), ctypes.c_void_p(self._messages.ctypes.data), BATCH, 0, None)
        if count <= 0:
            return 0
        self.received += count
        if counted:
            sent = self._buffer[:count, 12:20].copy().view(np.int64)[:, 0]
            stamp = self._control[:count, 16:32].copy().view(np.int64)
            self.delays.append(stamp[:, 0] * 1_000_000_000 + stamp[:, 1] - sent)
        return count

    def overflowed(self) -> int:
        """Packets that came back, and that this process was too slow to take."""
        port = f":{self.socket.getsockname()[1]:04X}"
        with open("/proc/net/udp", encoding="ascii") as table:
            return sum(int(line.split()[-1]) for line in table if line.split()[1].endswith(port))


def run(parties: tuple[Party, Party], calls: int, seconds: float) -> None:
    bounds = [round(slot * calls / SLOTS) for slot in range(SLOTS + 1)]
    poller = select.poll()
    for party in parties:
        poller.register(party.socket.fileno(), select.POLLIN)
    begin = time.perf_counter() + 0.05
    for tick in range(int(seconds / INTERVAL) * SLOTS):
        at = begin + tick * INTERVAL / SLOTS
        counted = tick * INTERVAL / SLOTS > WARM_UP
        while (left := at - time.perf_counter()) > 0:
            if sum(party.receive(counted) for party in parties) == 0 and left > 0.0002:
                poller.poll(left * 1000 - 0.1)
        sequence, slot = divmod(tick, SLOTS)
        for party in parties:
            party.send(bounds[slot], bounds[slot + 1], sequence)
    end = time.perf_counter() + DRAIN
    while time.perf_counter() < end:
        for party in parties:
            party.receive(counted=True)


def main() -> None:
    os.sched_setaffinity(0, {int(sys.argv[1])})
    parties = Party("127.0.0.1"), Party("127.0.0.1")
    sys.stdout.write(json.dumps([party.socket.getsockname()[1] for party in parties]) + "\n")
    sys.stdout.flush()
    job = json.loads(sys.stdin.readline())
    for party, ports in zip(parties, job["ports"], strict=True):
        party.streams(job["host"], ports)
    run(parties, len(job["ports"][0]), job["seconds"])
    delays = np.concatenate([delay for party in parties for delay in party.delays]) / 1e6
    sent, received = (sum(getattr(party, name) for party in parties) for name in ("sent", "received"))
    median, p99, worst = np.percentile(delays, [50, 99, 100])
    overflowed = sum(party.overflowed() for party in parties)
    lost = sent - received - overflowed
    result = {
        "sent": sent, "lost": lost, "lost_percent": round(100 * lost / sent, 4), "lost_by_the_generator": overflowed,
        "delay_ms": {"median": round(median, 3), "p99": round(p99, 3), "worst": round(worst, 3)},
    }  # fmt: skip
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
