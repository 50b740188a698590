"""What simulated phones say and hear: a pure tone in G.711 A-law and RTP (RFC 3551), known again by its spectrum."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from typing import cast

import numpy as np

from b2bua.media.g711 import a_law
from b2bua.recording.formats import Samples, decoder_of
from b2bua.sip.effects import Address

RATE = 8000                                # samples a second
FRAME = 160                                # samples in 20 ms
PCMA = 8                                   # static payload type, RFC 3551 §6
MAX_HEARD = 60 * RATE // FRAME             # frames kept: a minute

_decoder = decoder_of("PCMA/8000")
assert _decoder is not None
decode_pcma = _decoder


def tone(hz: int, seconds: float = 1.0) -> Samples:
    """A sine of half the full scale; whole seconds of a whole number of Hz join without a click."""
    t = np.arange(round(RATE * seconds)) / RATE
    return np.asarray(np.sin(2 * np.pi * hz * t) * 16000, dtype=np.int16)


def dominant_hz(samples: Samples) -> int:
    """The loudest frequency, to about 8 Hz; 0 for silence."""
    if len(samples) < RATE // 4 or int(np.abs(samples.astype(np.int32)).max()) < 500:
        return 0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return round(float(np.argmax(spectrum)) * RATE / len(samples))


def same_tone(heard: int, expected: int) -> bool:
    return abs(heard - expected) <= 10


class RtpVoice(asyncio.DatagramProtocol):
    """One RTP endpoint that says its tone every 20 ms and keeps what it hears."""

    def __init__(self, hz: int) -> None:
        self.hz = hz
        self.packets = 0
        self._heard: list[bytes] = []
        self._transport: asyncio.DatagramTransport | None = None
        self._remote: Address | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._frames = _frames_of(hz)
        self._sequence, self._timestamp, self._ssrc = 1, 160, hz
        self._due = 0.0

    @classmethod
    async def open(cls, host: str, hz: int) -> RtpVoice:
        _, voice = await asyncio.get_running_loop().create_datagram_endpoint(lambda: cls(hz), local_addr=(host, 0))
        return voice

    @property
    def port(self) -> int:
        assert self._transport is not None
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def say_to(self, remote: Address) -> None:
        """Start, or go on towards another address."""
        self._remote = remote
        if self._timer is None:
            self._due = asyncio.get_running_loop().time()
            self._send_frame()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()

    @property
    def heard_hz(self) -> int:
        """The tone of the last second that was heard."""
        return dominant_hz(decode_pcma(b"".join(self._heard[-50:])))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)   # uvloop's is none by isinstance

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) > 12 and data[1] & 0x7F == PCMA and len(self._heard) < MAX_HEARD:
            self.packets += 1
            self._heard.append(data[12:])

    def _send_frame(self) -> None:
        if self._transport is None or self._transport.is_closing() or self._remote is None:
            return
        header = struct.pack("!BBHII", 0x80, PCMA, self._sequence, self._timestamp, self._ssrc)
        self._transport.sendto(header + next(self._frames), self._remote)
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + FRAME) & 0xFFFFFFFF
        self._due += FRAME / RATE
        self._timer = asyncio.get_running_loop().call_at(self._due, self._send_frame)


def _frames_of(hz: int) -> Iterator[bytes]:
    second = a_law(tone(hz))
    while True:
        for start in range(0, len(second), FRAME):
            yield second[start : start + FRAME]
