"""The ear of the tests is not deaf, and does not hear what is not there."""

import asyncio

import numpy as np
import pytest

from tests.support.tone import PCMA, PCMU, decode, dominant, encode, rtp_tone, tone


@pytest.mark.parametrize("payload_type", [PCMU, PCMA])
def test_g711_keeps_the_tone_and_nearly_its_wave(payload_type: int) -> None:
    samples = tone(440, 1.0)
    heard = decode(encode(samples, payload_type), payload_type)
    frequency, share = dominant(heard)
    assert frequency == pytest.approx(440, abs=2)
    assert share > 0.99
    assert np.abs(heard.astype(int) - samples).max() < 600       # half a step of the loudest segment


def test_known_words_of_g711() -> None:
    assert encode(np.array([0], np.int16), PCMU) in (b"\xff", b"\x7f")
    assert encode(np.array([8], np.int16), PCMA) == b"\xd5"
    assert decode(b"\x00\x80", PCMU).tolist() == [-32124, 32124]
    assert decode(b"\x2a\xaa", PCMA).tolist() == [-32256, 32256]


def test_silence_and_noise_are_no_tone() -> None:
    assert dominant(np.zeros(8000, np.int16)) == (0.0, 0.0)
    noise = np.random.default_rng(1).integers(-8000, 8000, 8000).astype(np.int16)
    assert dominant(noise)[1] < 0.2


async def test_two_endpoints_hear_each_others_tone() -> None:
    async with rtp_tone("127.0.0.1", 440) as one, rtp_tone("127.0.0.1", 1000) as other:
        one.remote, other.remote = other.local, one.local
        heard, heard_there = await asyncio.gather(one.hears(0.3), other.hears(0.3))
    assert dominant(heard)[0] == pytest.approx(1000, abs=5)
    assert dominant(heard_there)[0] == pytest.approx(440, abs=5)
