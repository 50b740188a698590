"""The daemon as an operator starts it: configuration file, apply, serve; on loopback addresses of its own."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import Any

from b2bua.net.certificates import CertificateFiles

PATIENCE = 60.0                           # seconds to become ready, and to end, on a busy machine
TICK = 0.05
APPLIED = "office.toml"
COMMAND = (sys.executable, "-m", "b2bua")
ROOT = Path(__file__).parents[2]

CONFIG = """\
[server]
data_dir = "{home}/var"
drain_seconds = 1

[sip]
realm = "{host}"
register_min = 60
qualify_every = 0            # SIPp takes an OPTIONS for a call that it did not expect
allow_without_qop = {without_qop}
listen = [
  {{ transport = "udp", host = "{host}", port = 5060 }}, {{ transport = "tcp", host = "{host}", port = 5060 }}{tls}
]

[media]
host = "{host}"
port_min = 20000
port_max = 20999
{sounds}

[web]
host = "{web_host}"
port = {web_port}

[log]
format = "console"
level = "debug"
sip_trace = true
"""


@dataclass(frozen=True, slots=True)
class Addresses:
    """A corner of 127.0.0.0/8 that no other test run on this machine uses at the same time."""

    block: int

    @classmethod
    def of_this_process(cls) -> Addresses:
        return cls(2 + os.getpid() % 250)

    @property
    def daemon(self) -> str:
        return f"127.{self.block}.1.1"

    @property
    def trunk(self) -> str:
        return f"127.{self.block}.2.1"

    @property
    def other_trunk(self) -> str:
        return f"127.{self.block}.2.2"

    @property
    def world(self) -> str:
        """Who is called, and calls, behind an operator's own server."""
        return f"127.{self.block}.4.1"

    @property
    def stranger(self) -> str:
        return f"127.{self.block}.9.9"

    def phone(self, extension: str) -> str:
        return f"127.{self.block}.3.{int(extension) % 250}"


@dataclass(frozen=True, slots=True)
class Daemon:
    home: Path
    addresses: Addresses
    process: subprocess.Popen[bytes]
    web: str                              # host:port

    @property
    def applied(self) -> Path:
        """What it began with."""
        return self.home / APPLIED

    @property
    def sip(self) -> str:
        return f"{self.addresses.daemon}:5060"

    def record(self, **wanted: str) -> dict[str, Any]:
        """The one call in the books with these values. It gets there shortly after the last message of the call,
        by no event that another process could see."""
        where = " and ".join(f"{column} = ?" for column in wanted)
        for _ in range(int(PATIENCE / TICK)):
            with closing(sqlite3.connect(f"file:{self.home}/var/smartswitch.db?mode=ro", uri=True)) as books:
                books.row_factory = sqlite3.Row
                rows = books.execute(f"select * from calls where {where}", tuple(wanted.values())).fetchall()     # noqa: S608
            if rows:
                (row,) = rows
                return dict(row)
            Event().wait(TICK)
        raise AssertionError(f"no such call in the books: {wanted}\n{self.log()}")

    def command(self, *words: str) -> str:
        """What an operator's command says."""
        words = (*COMMAND, *words, "--config", str(self.home / "smartswitch.toml"))
        return subprocess.run(words, check=True, timeout=PATIENCE, cwd=ROOT, capture_output=True, text=True).stdout

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.web}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")[-20_000:]

    def lines(self) -> list[str]:
        """Of the whole log."""
        return (self.home / "log").read_text(errors="replace").splitlines()


@contextmanager
def running_daemon(
    home: Path, addresses: Addresses, directory: str, tls: CertificateFiles | None = None, *, without_qop: bool = False,
    sounds: Path | None = None, environment: Mapping[str, str] = MappingProxyType({}),
    web: tuple[str, int] | None = None,
) -> Iterator[Daemon]:
    """Serve `directory` (what `smartswitch apply` reads) while the block lasts; then it must end well. `sounds`: where
    there are WAV files."""
    web_host, web_port = web or (addresses.daemon, 8080)
    config, applied = home / "smartswitch.toml", home / APPLIED
    config.write_text(CONFIG.format(
        home=home, host=addresses.daemon, tls=_tls_listener(addresses, tls), without_qop=str(without_qop).lower(),
        sounds="" if sounds is None else f'sounds = "{sounds}"', web_host=web_host, web_port=web_port,
    ))   # fmt: skip
    applied.write_text(directory)
    subprocess.run([*COMMAND, "apply", "--config", str(config), str(applied)], check=True, timeout=60, cwd=ROOT)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--config", str(config)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, **environment},
        )
    daemon = Daemon(home, addresses, process, f"{web_host}:{web_port}")
    try:
        _wait_until_ready(daemon)
        yield daemon
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, f"the daemon did not end well\n{daemon.log()}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _tls_listener(addresses: Addresses, files: CertificateFiles | None) -> str:
    if files is None:
        return ""
    return (f', {{ transport = "tls", host = "{addresses.daemon}", certificate = "{files.certificate}", '
            f'key = "{files.key}" }}')     # fmt: skip


def _wait_until_ready(daemon: Daemon) -> None:
    for _ in range(int(PATIENCE / TICK)):
        assert daemon.process.poll() is None, f"the daemon did not start\n{daemon.log()}"
        try:
            daemon.get("/readyz")
        except urllib.error.HTTPError as not_ready:
            not_ready.close()
            Event().wait(TICK)
        except OSError:
            Event().wait(TICK)
        else:
            return
    raise AssertionError(f"the daemon did not become ready\n{daemon.log()}")
