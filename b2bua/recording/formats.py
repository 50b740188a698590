"""Audio as it comes and as it is kept: RTP payloads -> 16-bit samples at 8 kHz -> MP3 (G.711, RFC 3550, RFC 3551)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import lameenc
import numpy as np

from b2bua.media.g711 import A_LAW, MU_LAW
from b2bua.media.g711 import RATE as RATE
from b2bua.media.g711 import Samples as Samples

BIT_RATES = (16, 24, 32, 40, 48, 56, 64)            # kbit/s: those of MPEG-2.5 layer III that are fit for speech
_QUALITY = 7                                        # LAME's 0 (best) to 9 (fastest)
_HEADER = 12

Decoder = Callable[[bytes], Samples]


@dataclass(frozen=True, slots=True)
class RtpPacket:
    payload_type: int
    timestamp: int
    ssrc: int
    payload: bytes


def read_rtp(data: bytes) -> RtpPacket | None:
    """None when this is not whole (RFC 3550 §5.1, §5.3.1)."""
    if len(data) < _HEADER or data[0] >> 6 != 2:
        return None
    start = _HEADER + 4 * (data[0] & 0x0F)
    if data[0] & 0x10:
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    end = len(data) - (data[-1] if data[0] & 0x20 else 0)
    if start > end:
        return None
    return RtpPacket(data[1] & 0x7F, int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big"),
                     data[start:end])


def decoder_of(codec: str) -> Decoder | None:
    """How to read that encoding ("PCMA/8000"); None when it cannot be recorded."""
    match codec.upper():
        case "PCMU/8000":
            return _table_decoder(MU_LAW)
        case "PCMA/8000":
            return _table_decoder(A_LAW)
    return None


def _table_decoder(table: Samples) -> Decoder:
    return lambda payload: table[np.frombuffer(payload, np.uint8)]


class Mp3:
    """Stereo at 8 kHz: left the caller, right the callee."""

    def __init__(self, bit_rate: int) -> None:
        self._encoder = lameenc.Encoder()
        self._encoder.silence()
        self._encoder.set_bit_rate(bit_rate)
        self._encoder.set_in_sample_rate(RATE)
        self._encoder.set_out_sample_rate(RATE)
        self._encoder.set_channels(2)
        self._encoder.set_quality(_QUALITY)
        self._begun = False

    def encode(self, left: Samples, right: Samples) -> bytes:
        self._begun = True
        return bytes(self._encoder.encode(np.column_stack((left, right)).tobytes()))

    def finish(self) -> bytes:
        return bytes(self._encoder.flush()) if self._begun else b""        # lameenc minds an end without a beginning
