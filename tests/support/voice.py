"""Somebody who talks: a fake phone, or the fake outside world, whose voice is a tone; and who hears whom."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from b2bua.net.udp import UdpTransport
from b2bua.sip.effects import Address
from tests.support.phone import Answers, Phone, PhoneCall
from tests.support.rtp import audio_address
from tests.support.tone import PCMA, RATE, RtpTone, Samples, is_tone, rtp_tone

SETTLES = 0.3                             # seconds of latching and jitter buffers
TALK = 0.7                                # seconds of audio that are judged


@dataclass(frozen=True, slots=True)
class Voice:
    line: Phone
    tone: RtpTone

    async def talks(self, call: PhoneCall) -> Samples:
        """For a while; what is heard meanwhile."""
        await self.settles(call)
        return await self.tone.hears(TALK)

    async def settles(self, call: PhoneCall) -> None:
        self.tone.remote = Address(*audio_address(call.sdp))
        await self.tone.hears(SETTLES)


class RealPhone(Protocol):
    """A program that plays a tone, and writes down what it hears."""

    @property
    def frequency(self) -> float: ...

    def mark(self) -> int:
        """How much it has heard until now."""
        ...

    def heard_since(self, mark: int) -> Samples:
        """At 8 kHz."""
        ...


async def hear_each_other(one: Voice, of_one: PhoneCall, other: Voice, of_other: PhoneCall) -> None:
    heard_by_one, heard_by_other = await asyncio.gather(one.talks(of_one), other.talks(of_other))
    assert is_tone(heard_by_one, other.tone.frequency)
    assert is_tone(heard_by_other, one.tone.frequency)


async def both_hear(phone: RealPhone, outside: Voice, call: PhoneCall) -> None:
    """The real phone hears the voice, of which the last half second is judged, and the voice hears the phone."""
    await outside.settles(call)                     # after a change of the call a phone begins its recording anew
    mark = phone.mark()
    assert is_tone(await outside.tone.hears(TALK), phone.frequency)
    assert is_tone(phone.heard_since(mark)[-RATE // 2 :], outside.tone.frequency)


async def hears(phone: RealPhone, frequency: float) -> None:
    """Wait until it has recorded for a while, and judge the last half second of that."""
    mark, wanted = phone.mark(), (SETTLES + TALK) * RATE
    while True:
        if len(heard := phone.heard_since(mark)) >= wanted:
            break
        await asyncio.sleep(SETTLES / 10)            # it writes to a file, and tells nobody
    assert is_tone(heard[-RATE // 2 :], frequency)


async def notices(phone: RealPhone, frequency: float) -> None:
    """A quarter of a second of it, in what it hears from now on."""
    mark = phone.mark()
    while True:
        heard = phone.heard_since(mark)
        windows = (heard[at : at + RATE // 4] for at in range(0, len(heard) - RATE // 4, RATE // 8))
        if any(is_tone(window, frequency) for window in windows):
            return
        await asyncio.sleep(0.1)                     # it writes to a file, and tells nobody


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
