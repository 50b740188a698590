"""Somebody who talks: a fake phone, or the fake outside world, whose voice is a tone."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from b2bua.net.udp import UdpTransport
from b2bua.sip.effects import Address
from tests.support.phone import Answers, Phone, PhoneCall
from tests.support.rtp import audio_address
from tests.support.tone import PCMA, RtpTone, Samples, rtp_tone

SETTLES = 0.3                             # seconds of latching and jitter buffers
TALK = 0.7                                # seconds of audio that are judged


@dataclass(frozen=True, slots=True)
class Voice:
    line: Phone
    tone: RtpTone

    async def talks(self, call: PhoneCall) -> Samples:
        """For a while; what is heard meanwhile."""
        self.tone.remote = Address(*audio_address(call.sdp))
        await self.tone.hears(SETTLES)
        return await self.tone.hears(TALK)


@asynccontextmanager
async def voice(
    user: str, at: Address, server: Address, frequency: float, codec: int = PCMA, *, login: str = "", password: str = ""
) -> AsyncIterator[Voice]:
    """Answers what calls it. With a password it registers first, and not without success."""
    async with rtp_tone(at.host, frequency, codec) as tone:
        # One daemon serves many tests: the same seed would make the same Call-ID, and a new call a repeated one.
        line = Phone(
            user, server, login=login, password=password, rtp_port=tone.local.port, seed=secrets.randbits(32),
            does=Answers(after=0.1),
        )
        line.codecs = {codec: line.codecs[codec]}
        line.plug(partial(UdpTransport.open, at))
        try:
            if password:
                assert (await line.register()).status == 200
            yield Voice(line, tone)
            if password:
                await line.register(expires=0)       # an extension has room for a few
        finally:
            line.close()
