"""Payloads become samples as G.711 says, RTP is taken apart as RFC 3550 says, an MP3 comes out."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2bua.recording.formats import Mp3, RtpPacket, decoder_of, read_rtp


@pytest.mark.parametrize(("codec", "code", "sample"), [
    # G.711's corners: silence, the smallest steps, full scale.
    ("PCMU/8000", 0xFF, 0), ("PCMU/8000", 0x7F, 0), ("PCMU/8000", 0x80, 32124), ("PCMU/8000", 0x00, -32124),
    ("PCMU/8000", 0xFE, 8), ("PCMU/8000", 0x7E, -8), ("PCMU/8000", 0xEF, 132),
    ("PCMA/8000", 0xD5, 8), ("PCMA/8000", 0x55, -8), ("PCMA/8000", 0xAA, 32256), ("PCMA/8000", 0x2A, -32256),
    ("pcma/8000", 0xD4, 24), ("PCMA/8000", 0xC5, 264), ("PCMA/8000", 0x45, -264),
])
def test_g711(codec: str, code: int, sample: int) -> None:
    decoder = decoder_of(codec)
    assert decoder is not None
    assert decoder(bytes([code])).tolist() == [sample]


@pytest.mark.parametrize("codec", ["PCMU/8000", "PCMA/8000"])
def test_every_code_has_its_own_sample_and_the_opposite_one(codec: str) -> None:
    decoder = decoder_of(codec)
    assert decoder is not None
    samples = decoder(bytes(range(256))).tolist()
    assert sorted(samples) == sorted(-sample for sample in samples)
    assert len(set(samples)) >= 255             # mu-law knows two zeros


@pytest.mark.parametrize("codec", ["opus/48000/2", "G729/8000", "G722/8000", "PCMU/16000", ""])
def test_what_cannot_be_recorded_is_told(codec: str) -> None:
    assert decoder_of(codec) is None


HEAD = struct.pack(">BBHII", 0x80, 0x88, 1, 160, 7)


def test_a_plain_packet() -> None:
    assert read_rtp(HEAD + b"audio") == RtpPacket(8, 160, 7, b"audio")


def test_contributing_sources_an_extension_and_padding_are_cut_off() -> None:
    head = bytes([0x80 | 0x20 | 0x10 | 2]) + HEAD[1:]
    data = head + bytes(8) + b"\xbe\xde\x00\x01" + bytes(4) + b"audio" + b"\x00\x00\x03"
    assert read_rtp(data) == RtpPacket(8, 160, 7, b"audio")


@pytest.mark.parametrize("data", [
    b"", HEAD[:11], b"\x40" + HEAD[1:], b"\x8f" + HEAD[1:] + b"audio", b"\x90" + HEAD[1:] + b"\xbe\xde\xff\xff",
    b"\xa0" + HEAD[1:] + b"\xff",
])
def test_what_is_not_whole(data: bytes) -> None:
    assert read_rtp(data) is None


@given(st.binary(max_size=64))
@settings(max_examples=200)
def test_any_bytes_are_a_packet_or_none(data: bytes) -> None:
    packet = read_rtp(data)
    assert packet is None or len(packet.payload) <= len(data) - 12


def test_an_mp3_begins_with_a_frame() -> None:
    encoder = Mp3(24)
    silence = np.zeros(8000, np.int16)
    data = encoder.encode(silence, silence) + encoder.finish()
    assert data[0] == 0xFF
    assert data[1] & 0xE0 == 0xE0
    assert len(data) == pytest.approx(3000, rel=0.25)       # a second at 24 kbit/s, and the frames in flight
