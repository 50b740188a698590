"""Recordings while they run, on the relay's side: packets gather in memory and go to the writer in batches."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from b2bua.media.raw import FOLDER, SUFFIX, Codecs, codecs_record, header
from b2bua.media.relay.writer import CLOSE, DATA, DONE, FAILED, HEAD, OPEN

FLUSH_EVERY = 0.5                       # a crash loses no more than this
MAX_BUFFER = 256 * 1024                 # bytes of one recording that wait for the writer: about 14 s
SOCKET_BUFFER = 4 * 1024 * 1024
WRITER_PATIENCE = 2.0                   # for the disk, when the relay ends
RESTART_AFTER = 1.0                     # a writer that dies is not started again sooner
MAX_ANSWERS = 64                        # read at a time


class Tape:
    """One recording. The packet loop appends to `buffer`, and reads `started`."""

    __slots__ = ("buffer", "ending", "head", "known", "number", "path", "recording", "session", "started")

    def __init__(self, number: int, session: int, recording: str, path: Path, started: float) -> None:
        self.buffer = bytearray()
        self.head = header(recording, datetime.now(UTC))
        self.known = b""                # the last record of codecs
        self.number = number
        self.session = session
        self.recording = recording
        self.path = path
        self.started = started
        self.ending = False

    def codecs(self, codecs: Sequence[Codecs], now: float) -> None:
        self.known = codecs_record(codecs, int((now - self.started) * 1e6))
        self.buffer += self.known


@dataclass(frozen=True, slots=True)
class TapeDone:
    """Complete on the disk."""

    tape: Tape


@dataclass(frozen=True, slots=True)
class TapeFailed:
    tape: Tape
    why: str


class Tapes:
    """All recordings of this relay, and the process that writes them."""

    def __init__(self, directory: Path | None, watch: Callable[[int], None], unwatch: Callable[[int], None]) -> None:
        self._directory = None if directory is None else directory / FOLDER
        self._watch = watch             # by the epoll loop: a file descriptor to call receive() for
        self._unwatch = unwatch
        self._tapes: dict[int, Tape] = {}
        self._turn: deque[Tape] = deque()           # whose batch goes next
        self._failed: list[TapeFailed] = []
        self._number = 0
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._restart_at = 0.0

    def start_writer(self) -> None:
        """Raises OSError when the directory cannot be written."""
        if self._directory is None:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        if not os.access(self._directory, os.W_OK | os.X_OK):
            raise PermissionError(13, "not writable", str(self._directory))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
            ours.setblocking(False)
            command = [sys.executable, "-m", "b2bua.media.relay.writer", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])  # noqa: S603
        self._socket = ours
        self._watch(ours.fileno())

    def start(self, session: int, recording: str, codecs: Sequence[Codecs], now: float) -> Tape:
        self._number += 1
        directory = self._directory or Path()
        tape = Tape(self._number, session, recording, directory / f"{recording}{SUFFIX}", now)
        if self._directory is None:
            self._failed.append(TapeFailed(tape, "no directory is configured"))
            return tape
        self._tapes[tape.number] = tape
        self._turn.append(tape)
        self._open(tape)
        tape.codecs(codecs, now)
        return tape

    def end(self, tape: Tape) -> bool:
        """Write the rest and close; TapeDone or TapeFailed follows. False when it had failed before."""
        if tape.number not in self._tapes:
            return False
        tape.ending = True
        self._flush(tape)
        return True

    def failures(self) -> list[TapeFailed]:
        """What has failed on our side since the last look."""
        failed, self._failed = self._failed, []
        return failed

    def tick(self, now: float, elapsed: float) -> None:
        """Send the batches that are due: all tapes in FLUSH_EVERY, a few at a time, so that no packet waits long."""
        if self._socket is None and self._tapes and now >= self._restart_at:
            self._restart(now)
        due = min(len(self._turn), int(len(self._turn) * elapsed / FLUSH_EVERY) + 1)
        for _ in range(due):
            tape = self._turn.popleft()
            if tape.number in self._tapes:
                self._turn.append(tape)
                self._flush(tape)

    def receive(self, now: float) -> list[TapeDone | TapeFailed]:
        """The writer has something to say, or has died."""
        outcomes: list[TapeDone | TapeFailed] = []
        if self._socket is None:
            return outcomes
        for _ in range(MAX_ANSWERS):
            try:
                answer = self._socket.recv(1024)
            except BlockingIOError:
                break
            except OSError:
                answer = b""
            if not answer:
                self._writer_died(now)
                break
            outcome = self._outcome(answer)
            if outcome is not None:
                outcomes.append(outcome)
        return outcomes

    def close(self) -> None:
        """The relay ends: what is in memory goes out, and the writer sees the end of the socket."""
        if self._socket is None:
            return
        self._socket.settimeout(FLUSH_EVERY)
        for tape in self._tapes.values():
            self._flush(tape)
        self._socket.close()
        assert self._process is not None
        try:
            self._process.wait(WRITER_PATIENCE)
        except subprocess.TimeoutExpired:
            return                      # a very slow disk: the writer goes on alone, and ends by itself

    def _outcome(self, answer: bytes) -> TapeDone | TapeFailed | None:
        what, number = HEAD.unpack_from(answer)
        tape = self._tapes.pop(number, None)
        if tape is None:
            return None
        assert what in (DONE, FAILED)
        return TapeDone(tape) if what == DONE else TapeFailed(tape, answer[HEAD.size :].decode())

    def _open(self, tape: Tape) -> None:
        # With no writer just now, the next one opens it.
        if self._socket is not None and not self._send(
                HEAD.pack(OPEN, tape.number) + bytes(tape.path) + b"\0" + tape.head):
            self._fail(tape, "the disk is too slow")

    def _flush(self, tape: Tape) -> None:
        if not tape.buffer and not tape.ending:
            return
        if self._send(HEAD.pack(CLOSE if tape.ending else DATA, tape.number) + tape.buffer):
            tape.buffer.clear()
            if tape.ending and tape in self._turn:
                self._turn.remove(tape)
        elif len(tape.buffer) > MAX_BUFFER:
            self._fail(tape, "the disk is too slow")

    def _send(self, packet: bytes) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.send(packet)
        except OSError:                 # full; or broken, which receive() will tell
            return False
        return True

    def _fail(self, tape: Tape, why: str) -> None:
        del self._tapes[tape.number]
        tape.buffer.clear()
        self._failed.append(TapeFailed(tape, why))

    def _writer_died(self, now: float) -> None:
        assert self._socket is not None
        assert self._process is not None
        self._unwatch(self._socket.fileno())
        self._socket.close()
        self._socket = None
        self._process.wait()
        self._restart_at = now + RESTART_AFTER

    def _restart(self, now: float) -> None:
        """A new writer goes on with the old files: they are opened for appending, at the end of a whole record."""
        self._restart_at = now + RESTART_AFTER
        try:
            self.start_writer()
        except OSError as error:
            for tape in [*self._tapes.values()]:
                self._fail(tape, str(error.strerror))
            return
        for tape in [*self._tapes.values()]:
            self._open(tape)
            tape.buffer[0:0] = tape.known           # it may have been lost on its way
            if tape.ending and tape.number in self._tapes:
                self._flush(tape)
