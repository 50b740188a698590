"""pyVoIP, a phone written in Python, in a process of its own (pyvoip_phone.py)."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tests.support.program import Program
from tests.support.sipp import ended
from tests.support.tone import Samples

PROGRAM = Path(__file__).with_name("pyvoip_phone.py")
PATIENCE = 5.0                            # seconds to end

# It decodes G.711 by audioop, which Python 3.13 has no more.
available = find_spec("pyVoIP") is not None and sys.version_info < (3, 13)


@dataclass
class PyVoip(Program):
    heard_file: Path = Path()
    frequency: float = 0.0

    def mark(self) -> int:
        """How much it has heard until now."""
        return self.heard_file.stat().st_size if self.heard_file.exists() else 0

    def heard_since(self, mark: int) -> Samples:
        """Of its 8 bits, unsigned."""
        octets = np.frombuffer(self.heard_file.read_bytes()[mark:], np.uint8)
        return ((octets.astype(np.int16) - 128) * 256).astype(np.int16)


@asynccontextmanager
async def running_pyvoip(
    home: Path, host: str, server: str, *, user: str, password: str, frequency: float
) -> AsyncIterator[PyVoip]:
    """A phone at `host` that has registered at `server`, and answers every call with a tone."""
    heard = home / "heard.raw"
    with (home / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore", str(PROGRAM), server, host, user, password, str(frequency), str(heard),
            cwd=home, stdin=PIPE, stdout=PIPE, stderr=log,
        )   # fmt: skip
    async with ended(process):
        phone = PyVoip(process, heard_file=heard, frequency=frequency)
        async with asyncio.timeout(10):
            await phone.says("registered")
        yield phone
        phone.tell("quit")
        async with asyncio.timeout(PATIENCE):
            await process.wait()
