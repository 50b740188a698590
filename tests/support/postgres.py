"""A PostgreSQL cluster for one test run, from Debian's binaries: own directory, own port, gone afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ADDRESS = "127.0.0.1"
START_SECONDS = 60


@dataclass(frozen=True)
class Cluster:
    port: int
    binaries: Path

    def url(self, name: str) -> str:
        return f"postgresql+asyncpg://postgres@{ADDRESS}:{self.port}/{name}"

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
        data = directory / "data"
        _run(where / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        port = _free_port()
        options = f"-c listen_addresses={ADDRESS} -p {port} -k {directory} -c fsync=off -c max_connections=50"
        _run(where / "pg_ctl", "-D", data, "-l", directory / "log", "-w", "-t", START_SECONDS, "-o", options, "start")
        try:
            yield Cluster(port, where)
        finally:
            _run(where / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run(program: Path, *arguments: object) -> None:
    command = [str(program), *map(str, arguments)]
    if os.getuid() == 0:
        command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
    # pg_ctl leaves the server with our pipes in its hands: a pipe would never end, so the output goes to a file.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd="/", check=False,
                              timeout=START_SECONDS + 10)
        output.seek(0)
        if done.returncode != 0:
            raise RuntimeError(f"{program.name}: {output.read().decode(errors='replace')}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])
