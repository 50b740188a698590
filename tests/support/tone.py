"""Tones as G.711 over RTP, and which tone it is that was heard: audio is checked by content, not by packet count."""

from __future__ import annotations

import asyncio
import struct
import wave
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from b2bua.sip.effects import Address

Samples = npt.NDArray[np.int16]

RATE = 8000
PACKET = 160                              # samples of 20 ms
PCMU, PCMA = 0, 8
NEAR = 20.0                               # Hz around the peak that count as the tone itself
AUDIBLE = 200.0                           # root mean square below which there is only silence
PURE = 0.9                                # share of the tone in what is heard
HEADER = struct.Struct("!BBHII")
EVENTS = 101                              # payload type of keys that are pressed (RFC 4733)
KEYS = "0123456789*#ABCD"
KEY = struct.Struct("!BBH")               # which; the end, and how loud; for how long
KEY_END, KEY_LOUD, KEY_PACKETS = 0x80, 10, 5


def tone(frequency: float, seconds: float, amplitude: float = 0.5) -> Samples:
    at = np.arange(round(seconds * RATE)) / RATE
    return (np.sin(2 * np.pi * frequency * at) * amplitude * 32767).astype(np.int16)


def _decoded(payload_type: int) -> Samples:
    """What each of the 256 code words means (ITU-T G.711)."""
    words = np.arange(256)
    if payload_type == PCMU:
        words = ~words & 0xFF
        segment, step = (words >> 4) & 7, words & 15
        magnitude = ((2 * step + 33) << segment) - 33
        return (np.where(words & 0x80, -magnitude, magnitude) * 4).astype(np.int16)
    words = words ^ 0x55
    segment, step = (words >> 4) & 7, words & 15
    magnitude = np.where(segment == 0, 2 * step + 1, (2 * step + 33) << np.maximum(segment - 1, 0))
    return (np.where(words & 0x80, magnitude, -magnitude) * 8).astype(np.int16)


DECODED = {payload_type: _decoded(payload_type) for payload_type in (PCMU, PCMA)}


def encode(samples: Samples, payload_type: int) -> bytes:
    """The code word whose meaning is nearest to each sample."""
    meanings = DECODED[payload_type].astype(np.int32)
    order = np.argsort(meanings, kind="stable")
    between = (meanings[order][1:] + meanings[order][:-1]) / 2
    return order[np.searchsorted(between, samples)].astype(np.uint8).tobytes()


def decode(payload: bytes, payload_type: int) -> Samples:
    return DECODED[payload_type][np.frombuffer(payload, np.uint8)]


def dominant(samples: Samples, rate: int = RATE) -> tuple[float, float]:
    """The loudest frequency, and its share of all the energy: near 1 for a pure tone, (0, 0) for silence."""
    if len(samples) < rate // 10 or np.sqrt(np.mean(samples.astype(float) ** 2)) < AUDIBLE:
        return 0.0, 0.0
    spectrum = np.abs(np.fft.rfft(samples.astype(float) * np.hanning(len(samples)))) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / rate)
    peak = float(frequencies[np.argmax(spectrum)])
    near = np.abs(frequencies - peak) <= NEAR
    return peak, float(spectrum[near].sum() / spectrum.sum())


def is_tone(samples: Samples, frequency: float, rate: int = RATE) -> bool:
    found, share = dominant(samples, rate)
    assert abs(found - frequency) < 15, f"heard {found} Hz, not {frequency}"
    assert share > PURE, f"only {share:.0%} of what was heard is the tone"
    return True


def write_wav(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())


class RtpTone(asyncio.DatagramProtocol):
    """Sends a tone as RTP every 20 ms to `remote`, once that is known, and keeps what it hears; presses keys, and
    knows which were pressed at the far end (RFC 4733)."""

    def __init__(self, frequency: float, payload_type: int = PCMA) -> None:
        self.payload_type = payload_type
        self.remote: Address | None = None
        self.received: list[tuple[int, bytes]] = []          # sequence number, payload
        self.sources: set[Address] = set()
        self.keys = ""                                       # pressed at the far end, until now
        self.frequency = frequency
        self._words = encode(tone(frequency, 1.0), payload_type)      # whole periods when the frequency is whole
        self._sequence = 0
        self._transport: asyncio.DatagramTransport | None = None
        self._enough = 0
        self._heard_enough = asyncio.Event()
        self._pressing: deque[tuple[int, bytes]] = deque()   # what goes out instead of the tone: marker bit, event
        self._pressed_at = 0                                 # time stamp of the key that is pressed here
        self._keys_at: set[int] = set()                      # time stamps of those that were pressed there
        self._key_came = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    @property
    def local(self) -> Address:
        assert self._transport is not None
        return Address(*self._transport.get_extra_info("sockname")[:2])

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        _, kind, sequence, timestamp, _ = HEADER.unpack_from(data)
        self.sources.add(Address(*addr[:2]))
        if kind & 0x7F == EVENTS:
            self._key(timestamp, data[HEADER.size:])
        elif kind & 0x7F == self.payload_type:
            self.received.append((sequence, data[HEADER.size:]))
            if len(self.received) >= self._enough:
                self._heard_enough.set()

    def switch(self, payload_type: int) -> None:
        """Speak and understand this codec from now on."""
        self.payload_type = payload_type
        self._words = encode(tone(self.frequency, 1.0), payload_type)

    async def hears(self, seconds: float) -> Samples:
        """Forget what was heard, then hear so many seconds of audio."""
        self.received.clear()
        self._heard_enough.clear()
        self._enough = round(seconds * RATE / PACKET)
        await self._heard_enough.wait()
        return self.heard()

    def heard(self) -> Samples:
        """All of it, in the order of sequence numbers (the tests are too short for them to wrap)."""
        return decode(b"".join(payload for _, payload in sorted(self.received)), self.payload_type)

    def press(self, key: str) -> None:
        """For a tenth of a second; its end is said three times (RFC 4733 §2.5.1.4)."""
        event = KEYS.index(key)
        for packet in range(1, KEY_PACKETS + 1):
            self._pressing.append((0x80 if packet == 1 else 0, KEY.pack(event, KEY_LOUD, packet * PACKET)))
        self._pressing.extend([(0, KEY.pack(event, KEY_END | KEY_LOUD, KEY_PACKETS * PACKET))] * 3)

    async def was_pressed(self, keys: str) -> None:
        """Wait until just these keys have been pressed at the far end."""
        while self.keys != keys:
            self._key_came.clear()
            await self._key_came.wait()

    def _key(self, timestamp: int, payload: bytes) -> None:
        event, flags, _ = KEY.unpack_from(payload)
        if flags & KEY_END and timestamp not in self._keys_at:
            self._keys_at.add(timestamp)
            self.keys += KEYS[event]
            self._key_came.set()

    async def send(self) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        while True:
            if self._transport is not None and self.remote is not None:
                self._transport.sendto(self._packet(), self.remote)
            self._sequence += 1
            await asyncio.sleep(max(0.0, start + self._sequence * PACKET / RATE - loop.time()))

    def _packet(self) -> bytes:
        if self._pressing:
            marker, event = self._pressing.popleft()
            if marker:
                self._pressed_at = self._sequence * PACKET
            return HEADER.pack(0x80, marker | EVENTS, self._sequence & 0xFFFF, self._pressed_at, 0x5157) + event
        begin = self._sequence * PACKET % len(self._words)
        header = HEADER.pack(0x80, self.payload_type, self._sequence & 0xFFFF, self._sequence * PACKET, 0x5157)
        return header + self._words[begin : begin + PACKET]


@asynccontextmanager
async def rtp_tone(host: str, frequency: float, payload_type: int = PCMA) -> AsyncIterator[RtpTone]:
    """An RTP endpoint at a free port of `host` that sounds while the block lasts."""
    loop = asyncio.get_running_loop()
    transport, stream = await loop.create_datagram_endpoint(
        lambda: RtpTone(frequency, payload_type), local_addr=(host, 0)
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(stream.send())
            yield stream
            sending.cancel()
    finally:
        transport.close()
