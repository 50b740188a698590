"""The process that puts recordings on the disk, so that neither a slow disk nor Python's lock holds up a packet.

A thread in the relay would have to win the interpreter's lock from the packet loop at each of its system calls; a
process wins it from nobody. It reads packets of one socket, in which `number` is the relay's name of an open file, and
ends when the socket does.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time

OPEN, DATA, CLOSE = b"o", b"d", b"c"    # to the writer
DONE, FAILED = b"D", b"F"               # from it; FAILED with the reason
HEAD = struct.Struct(">cI")             # what, number
MAX_PACKET = 512 * 1024
SYNC_EVERY = 1.0                        # a power cut loses no more than this
NICE = 5


class Writer:
    def __init__(self, relay: socket.socket) -> None:
        self._relay = relay
        self._files: dict[int, int] = {}
        self._dirty: set[int] = set()

    def run(self) -> None:
        sync_at = time.monotonic() + SYNC_EVERY
        packet: bytes | None = None
        while packet != b"":
            readable, _, _ = select.select([self._relay], [], [], max(0.0, sync_at - time.monotonic()))
            packet = self._relay.recv(MAX_PACKET) if readable else None
            if packet:
                self._take(packet)
            if time.monotonic() >= sync_at:
                for number in [*self._dirty]:
                    self._sync(number)
                sync_at = time.monotonic() + SYNC_EVERY
        for number in [*self._files]:
            self._close(number)

    def _take(self, packet: bytes) -> None:
        what, number = HEAD.unpack_from(packet)
        data = packet[HEAD.size :]
        if what == OPEN:
            path, _, head = data.partition(b"\0")
            # A file that another writer has begun has its head already.
            data = head if self._open(number, path) == 0 else b""
        if number not in self._files:   # it failed, now or before, and the relay was told
            return
        self._write(number, data)
        if what == CLOSE and self._close(number):
            self._answer(DONE, number)

    def _open(self, number: int, path: bytes) -> int:
        """How long the file is already."""
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError as error:
            self._answer(FAILED, number, error)
            return 0
        self._files[number] = file
        return os.fstat(file).st_size

    def _write(self, number: int, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:                 # a disk that is nearly full takes a part
                rest = rest[os.write(self._files[number], rest) :]
            self._dirty.add(number)
        except OSError as error:
            self._give_up(number, error)

    def _sync(self, number: int) -> None:
        self._dirty.discard(number)
        try:
            os.fdatasync(self._files[number])
        except OSError as error:
            self._give_up(number, error)

    def _close(self, number: int) -> bool:
        if number in self._dirty:
            self._sync(number)
        file = self._files.pop(number, None)
        if file is None:
            return False
        os.close(file)
        return True

    def _give_up(self, number: int, error: OSError) -> None:
        self._dirty.discard(number)
        os.close(self._files.pop(number))
        self._answer(FAILED, number, error)

    def _answer(self, what: bytes, number: int, error: OSError | None = None) -> None:
        try:
            self._relay.send(HEAD.pack(what, number) + str(error.strerror if error else "").encode())
        except OSError:
            return                      # the relay has gone: the next recv() tells


def main() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    Writer(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
