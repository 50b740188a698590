"""SIPp, run by tests: one scenario at one address, with everything it saw kept for who must find out why it failed."""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

SCENARIOS = Path(__file__).parents[2] / "sipp-scenarios"
TIMEOUT = 30                              # seconds of a whole scenario
TAIL = 6000                               # characters of the message log that a failure shows

available = shutil.which("sipp") is not None


class SippFailed(AssertionError):
    pass


@dataclass(frozen=True, slots=True)
class Sipp:
    """One end of a call: `scenario` played at `host`:`port`, its messages logged below `logs`."""

    scenario: str
    host: str
    logs: Path
    port: int = 5060
    keys: Mapping[str, str] = field(default_factory=dict)
    calls: int = 1
    rate: int = 100                       # calls a second; the first one waits for its turn too
    login: str = ""
    password: str = ""
    transport: str = "u1"                 # SIPp's word: one socket of UDP; "t1": one of TCP

    async def start(self, target: str = "") -> Process:
        self.logs.mkdir(parents=True, exist_ok=True)
        keys = [word for name, value in self.keys.items() for word in ("-key", name, value)]
        credentials = ["-au", self.login, "-ap", self.password] if self.login else []
        if self.login and "called" in self.keys:     # SIPp signs its target's address unless told what it asks for
            credentials += ["-auth_uri", f"{self.keys['called']}@{target}"]
        return await asyncio.create_subprocess_exec(
            "sipp", *([target] if target else []), "-sf", str(SCENARIOS / f"{self.scenario}.xml"),
            "-t", self.transport, "-i", self.host, "-p", str(self.port), "-m", str(self.calls), "-r", str(self.rate),
            *keys, *credentials,
            "-nostdin", "-timeout", f"{TIMEOUT}s", "-timeout_error", "-recv_timeout", f"{TIMEOUT * 1000 // 2}",
            "-trace_err", "-error_file", str(self.logs / f"{self.scenario}.errors"),
            "-trace_msg", "-message_file", str(self.logs / f"{self.scenario}.messages"),
            cwd=self.logs, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE,
        )

    async def listens(self) -> None:
        await bound(self.host, self.port, protocol="udp" if self.transport == "u1" else "tcp")

    async def finish(self, process: Process) -> None:
        """Wait for its end; SippFailed unless every call went as written."""
        _, complaint = await process.communicate()
        if process.returncode != 0:
            seen = [complaint.decode(errors="replace"), *(self.log(name) for name in ("errors", "messages"))]
            raise SippFailed(f"{self.scenario} at {self.host} ended with {process.returncode}\n" + "\n".join(seen))

    def log(self, kind: str) -> str:
        path = self.logs / f"{self.scenario}.{kind}"
        return path.read_text(errors="replace")[-TAIL:] if path.exists() else ""

    async def run(self, target: str) -> None:
        async with ended(await self.start(target)) as process:
            await self.finish(process)


async def run_pair(called: Sipp, caller: Sipp, target: str) -> None:
    """Both ends of a call that goes through `target`; the called one is there before the caller dials."""
    async with ended(await called.start()) as callee:
        await called.listens()
        async with ended(await caller.start(target)) as dialling:
            results = await asyncio.gather(
                caller.finish(dialling), called.finish(callee), return_exceptions=True
            )
    if failures := [result for result in results if result is not None]:
        raise SippFailed("\n\n".join(map(str, failures)))


@asynccontextmanager
async def ended(process: Process) -> AsyncIterator[Process]:
    """The process does not outlive the block."""
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def bound(host: str, port: int, patience: float = 5.0, protocol: str = "udp") -> None:
    """Wait until some program receives at this address; no event tells that of a foreign process."""
    async with asyncio.timeout(patience):
        while not is_bound(host, port, protocol):      # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def seen(sipp: Sipp, text: str, patience: float = 10.0) -> None:
    """Wait until that end has sent or received a message with this in it."""
    async with asyncio.timeout(patience):
        while text not in sipp.log("messages"):      # noqa: ASYNC110
            await asyncio.sleep(0.05)


def is_bound(host: str, port: int, protocol: str = "udp") -> bool:
    address = "".join(f"{int(byte):02X}" for byte in reversed(host.split("."))) + f":{port:04X}"
    return f": {address} " in Path(f"/proc/net/{protocol}").read_text()
