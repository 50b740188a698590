"""What an MP3 sounds like: decoded by ffmpeg (a Debian package that scripts/test installs)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from tests.support.tone import RATE, Samples


def decode(path: Path) -> tuple[Samples, Samples]:
    """Left and right, at 8 kHz."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-ac", "2", "-ar", str(RATE), "-f", "s16le", "-"]
    pairs = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.int16).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
