"""G.711, both laws, at 8 kHz: what each code word means, and the code word that is nearest to a sample (ITU-T)."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

RATE = 8000                             # samples a second, and code words
Samples = npt.NDArray[np.int16]


def _mu_law_table() -> Samples:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << (code >> 4 & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _a_law_table() -> Samples:
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = code >> 4 & 7, (code & 0x0F) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


MU_LAW, A_LAW = _mu_law_table(), _a_law_table()


def a_law(samples: Samples) -> bytes:
    return _nearest(False)[samples.view(np.uint16)].tobytes()


def mu_law(samples: Samples) -> bytes:
    return _nearest(True)[samples.view(np.uint16)].tobytes()


@cache
def _nearest(mu: bool) -> npt.NDArray[np.uint8]:
    """For each sample, as an unsigned number of 16 bits, its code word."""
    meanings = (MU_LAW if mu else A_LAW).astype(np.int32)
    order = np.argsort(meanings, kind="stable")
    between = (meanings[order][1:] + meanings[order][:-1]) / 2
    samples = np.arange(0x10000, dtype=np.uint16).view(np.int16)
    return order[np.searchsorted(between, samples)].astype(np.uint8)
