"""linphonec, a real phone without hands: plays a tone instead of a microphone, and records what it hears."""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support.program import Program
from tests.support.sipp import ended
from tests.support.tone import Samples, tone, write_wav

MICROPHONE_SECONDS = 30
PATIENCE = 5.0                            # seconds to end
TICK = 0.05
WAV_HEADER = 44                           # bytes

available = shutil.which("linphonec") is not None

# It works on loopback, but registers only where the machine has another interface too: without, it sees no network.
SETTINGS = """\
[sip]
bind_address={host}
sip_port={udp_port}
sip_tcp_port={tcp_port}
sip_tls_port=0
use_ipv6=0
guess_hostname=0
default_proxy=0
use_info={info:d}
use_rfc2833={rfc4733:d}

[rtp]
bind_address={host}
audio_rtp_port=7078

"""

ACCOUNT = """
[proxy_0]
reg_proxy=<sip:{server};transport={transport}>
reg_identity=sip:{user}@{domain}
reg_expires=60
reg_sendregister=1
publish=0

[auth_info_0]
username={user}
userid={login}
passwd={password}
realm={domain}
"""

# Codecs that are not named it adds, and enables: those that would come before G.711 are named to be off.
ONLY_PCMA = """
[audio_codec_0]
mime=PCMA
rate=8000
enabled=1

[audio_codec_1]
mime=opus
rate=48000
channels=2
enabled=0

[audio_codec_2]
mime=speex
rate=16000
enabled=0

[audio_codec_3]
mime=speex
rate=8000
enabled=0
"""


@dataclass
class Linphone(Program):
    """A running one."""

    home: Path = Path()
    frequency: float = 0.0

    async def registered(self) -> None:
        """It does not say so unless it is asked."""
        while True:
            self.tell("status register")
            if await self.says("registered, identity|registered=-?[0-9]") == "registered, identity":
                return
            await asyncio.sleep(TICK)

    @property
    def recording(self) -> Path:
        return self.home / "heard.wav"

    def mark(self) -> int:
        """How much it has heard until now."""
        return self.recording.stat().st_size if self.recording.exists() else WAV_HEADER

    def heard_since(self, mark: int) -> Samples:
        """Its header is written at the end of a call, so it is not asked."""
        data = self.recording.read_bytes()[mark + mark % 2 :] if self.recording.exists() else b""
        return np.frombuffer(data[: len(data) // 2 * 2], np.int16)


@asynccontextmanager
async def running_linphone(
    home: Path, host: str, server: str, *, user: str = "", login: str = "", password: str = "", frequency: float,
    transport: str = "udp", info: bool = False, all_codecs: bool = False, provisioned: str = "",
) -> AsyncIterator[Linphone]:
    """A phone at `host` that has registered at `server`, and answers every call with a tone. Its keys are told by
    RFC 4733, or by INFO. It speaks PCMA alone, or everything from Opus on. `provisioned`: where it finds its account,
    instead of being told."""
    (home / ".local/share/linphone").mkdir(parents=True)
    write_wav(home / "microphone.wav", tone(frequency, MICROPHONE_SECONDS))
    settings = SETTINGS.format(
        host=host, udp_port=5060 if transport == "udp" else 0, tcp_port=5060 if transport == "tcp" else 0, info=info,
        rfc4733=not info,
    )   # fmt: skip
    settings += f"\n[misc]\nconfig-uri={provisioned}\n" if provisioned else ACCOUNT.format(
        server=server, domain=server.partition(":")[0], user=user, login=login, password=password, transport=transport)
    (home / "settings").write_text(settings if all_codecs else settings + ONLY_PCMA)
    process = await asyncio.create_subprocess_exec(
        "stdbuf", "-oL", "linphonec", "-c", "settings", "-S", "-a", "-d", "6", "-l", "log",
        cwd=home, env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, stdin=PIPE, stdout=PIPE, stderr=STDOUT,
    )   # fmt: skip
    async with ended(process):
        phone = Linphone(process, home=home, frequency=frequency)
        phone.tell("soundcard use files")
        phone.tell("play", str(home / "microphone.wav"))
        phone.tell("record", str(phone.recording))
        async with asyncio.timeout(10):
            await phone.registered()
        yield phone
        phone.tell("quit")                # it takes its registration off
        async with asyncio.timeout(PATIENCE):
            await process.wait()
