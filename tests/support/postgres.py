"""A PostgreSQL cluster for one test run, from Debian's binaries: own directory, own port, gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

ADDRESS = "127.0.0.1"
START_SECONDS = 60
TICK = 0.05
PORTS = 20                                # of each process of a test run


@dataclass(slots=True)
class Cluster:
    port: int
    binaries: Path
    directory: Path
    _server: subprocess.Popen[bytes] | None = None

    def url(self, name: str) -> str:
        return f"postgresql+asyncpg://postgres@{ADDRESS}:{self.port}/{name}"

    def start(self) -> None:
        command = [self.binaries / "postgres", "-D", self.directory / "data", "-h", ADDRESS, "-p", self.port,
                   "-k", self.directory, "-F"]
        with (self.directory / "log").open("ab") as log:
            # It dies with us, so that a test run that was killed leaves no server behind.
            self._server = subprocess.Popen(_as_postgres(*command, dies_with_us=True), stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, cwd="/")
        for _ in range(int(START_SECONDS / TICK)):
            if self._answers():
                return
            Event().wait(TICK)
        raise RuntimeError(f"PostgreSQL does not start: {(self.directory / 'log').read_text(errors='replace')[-2000:]}")

    def _answers(self) -> bool:
        command = [self.binaries / "pg_isready", "-q", "-h", ADDRESS, "-p", str(self.port)]
        return subprocess.run(command, check=False, timeout=START_SECONDS).returncode == 0

    def stop(self) -> None:
        """As a crash would: connections are cut."""
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait(START_SECONDS)
            self._server = None

    def sql(self, statement: str, database: str = "postgres") -> str:
        command = [str(self.binaries / "psql"), "-h", ADDRESS, "-p", str(self.port), "-U", "postgres", "-d", database,
                   "-Atqc", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=START_SECONDS).stdout


def binaries() -> Path | None:
    """Where initdb and pg_ctl are; Debian keeps them out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    where = binaries()
    if where is None:
        raise RuntimeError("PostgreSQL's initdb is not installed (Debian: apt-get install postgresql)")
    directory = Path(tempfile.mkdtemp(prefix="smartswitch-pg-"))
    try:
        if os.getuid() == 0:           # PostgreSQL refuses to run as root
            shutil.chown(directory, "postgres", "postgres")
        subprocess.run(
            _as_postgres(where / "initdb", "-D", directory / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
                         "--locale=C", "--no-sync"),
            check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd="/", timeout=START_SECONDS)
        cluster = Cluster(_free_port(), where, directory)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _as_postgres(*command: object, dies_with_us: bool = False) -> list[str]:
    options = ["--pdeathsig=QUIT"] if dies_with_us else []
    if os.getuid() == 0:
        options += ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
    return [*(["setpriv", *options] if options else []), *map(str, command)]


def _free_port() -> int:
    """Below those that the kernel hands out, so that nobody gets it while the server is away for a while."""
    first = 10_000 + os.getpid() % 250 * PORTS
    for port in range(first, first + PORTS):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((ADDRESS, port))
            return port
    raise RuntimeError(f"no port is free for PostgreSQL from {first} to {first + PORTS - 1}")
