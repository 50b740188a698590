"""baresip, a real phone without hands: plays a tone instead of a microphone, dumps what it hears, and is told what to
do over its control socket (netstrings of JSON)."""

from __future__ import annotations

import asyncio
import json
import shutil
from asyncio.subprocess import DEVNULL, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tests.support.sipp import ended
from tests.support.tone import Samples, tone, write_wav

MODULES = next(iter(Path("/usr").glob("lib*/**/baresip/modules/ctrl_tcp.so")), Path("ctrl_tcp.so")).parent
CONTROL_PORT = 4444
MICROPHONE_SECONDS = 30
WAV_HEADER = 44                           # bytes
PATIENCE = 5.0                            # seconds to end

available = shutil.which("baresip") is not None and (MODULES / "g711.so").exists()

CONFIG = """\
sip_listen {host}:0
net_interface {host}
audio_source aufile,{home}/microphone.wav
audio_player aubridge,nil
module_path {modules}
module g711.so
module g722.so
module aufile.so
module aubridge.so
module sndfile.so
snd_path {home}
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen {host}:{control}
"""
TLS_CONFIG = "sip_cafile {ca_file}\nsip_verify_server yes\nmodule_tmp uuid.so\n"      # outbound needs an instance
PRESENCE_CONFIG = "module_app contact.so\nmodule_app presence.so\n"
ACCOUNT = (
    "<sip:{user}@{server};transport={transport}>;auth_user={login};auth_pass={password}"
    ';outbound="sip:{server};transport={transport}"{more};regint=60;answermode={answers};audio_codecs={codecs}'
)


@dataclass
class Baresip:
    """A running one. `events` holds what it said of registrations and calls, oldest first."""

    home: Path
    frequency: float
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    events: list[dict[str, Any]] = field(default_factory=list)

    async def tell(self, command: str, parameters: str = "") -> None:
        text = json.dumps({"command": command, "params": parameters})
        self.writer.write(f"{len(text)}:{text},".encode())
        await self.writer.drain()

    async def event(self, kind: str) -> dict[str, Any]:
        """The next event of this type, or one that was there already and was not asked for."""
        while True:
            for at, event in enumerate(self.events):
                if event.get("type") == kind:
                    return self.events.pop(at)
            self.events.append(await self._message())

    async def _message(self) -> dict[str, Any]:
        length = int((await self.reader.readuntil(b":"))[:-1])
        message = json.loads(await self.reader.readexactly(length))
        await self.reader.readexactly(1)
        return dict(message)

    def mark(self) -> int:
        """How much it has heard until now."""
        return len(self._decoded())

    def heard_since(self, mark: int) -> Samples:
        """As it came out of the decoder, of G.711."""
        data = self._decoded()[mark + mark % 2 :]
        return np.frombuffer(data[: len(data) // 2 * 2], np.int16)

    def _decoded(self) -> bytes:
        """It begins a file with each stream, and writes the length into the header only when that ends."""
        dumps = sorted(self.home.glob("dump-*-dec.wav"), key=lambda path: path.stat().st_mtime_ns)
        return b"".join(path.read_bytes()[WAV_HEADER:] for path in dumps)

    async def was_pressed(self, key: str) -> None:
        """The next key that it hears is this one."""
        assert (await self.event("CALL_DTMF_START"))["param"] == key

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")


@asynccontextmanager
async def running_baresip(
    home: Path, host: str, server: str, *, user: str, login: str, password: str, frequency: float, codecs: str = "PCMA",
    ca_file: Path | None = None, answers: bool = True, contacts: str = "",
) -> AsyncIterator[Baresip]:
    """A phone at `host` that registers at `server` and answers every call with a tone, or only rings. With a
    `ca_file` it goes by TLS, and by the rules of outbound (RFC 5626); with `contacts` it asks for their presence."""
    transport, more = ("udp", "") if ca_file is None else ("tls", ";sipnat=outbound")
    account = ACCOUNT.format(
        user=user, server=server, login=login, password=password, codecs=codecs, transport=transport, more=more,
        answers="auto" if answers else "manual",
    )
    with _furnished(home, host, frequency, ca_file, contacts) as log:
        process = await asyncio.create_subprocess_exec(
            "baresip", "-f", str(home), "-s", cwd=home, stdin=DEVNULL, stdout=log, stderr=STDOUT
        )
    async with ended(process):
        reader, writer = await _connected(host)
        try:
            phone = Baresip(home, frequency, reader, writer)
            await phone.tell("uanew", account)      # from a file it would register before anybody listens
            yield phone
            await phone.tell("quit")                # it takes its registration off: an extension has room for a few
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        finally:
            writer.close()
            with suppress(ConnectionError):         # it was faster
                await writer.wait_closed()


def _furnished(home: Path, host: str, frequency: float, ca_file: Path | None, contacts: str) -> BinaryIO:
    """What baresip wants to find in its directory; the file that its log goes to."""
    home.mkdir(parents=True, exist_ok=True)
    write_wav(home / "microphone.wav", tone(frequency, MICROPHONE_SECONDS))
    config = CONFIG.format(host=host, home=home, modules=MODULES, control=CONTROL_PORT)
    config += "" if ca_file is None else TLS_CONFIG.format(ca_file=ca_file)
    (home / "config").write_text(config + (PRESENCE_CONFIG if contacts else ""))
    (home / "accounts").write_text("")
    (home / "contacts").write_text(contacts)
    return (home / "log").open("wb")


async def _connected(host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Its control socket, which it opens after a moment."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await asyncio.open_connection(host, CONTROL_PORT)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
