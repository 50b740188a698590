"""What the relay plays, in memory that the switch writes and the relay reads: no sound crosses their socket, and the
relay reads no disk while packets pass."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping

from b2bua.media.g711 import RATE
from b2bua.media.relay import wire
from b2bua.media.sounds import MAX_TOTAL_SECONDS, Sound

_HALF = 2 * RATE * MAX_TOTAL_SECONDS    # bytes; memory is taken only where something was written


class SoundMemory:
    """The switch's side. What is loaded anew goes into the other half, so that what sounds now sounds on; only the
    change after that overwrites it."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("sounds")
        os.ftruncate(self.fd, 2 * _HALF)
        self._map = mmap.mmap(self.fd, 2 * _HALF)
        self._half = 1

    def write(self, sounds: Mapping[str, Sound]) -> list[wire.Sound]:
        """Where the relay finds each of them. Copies some MB: not on the loop of the signalling."""
        self._half = 1 - self._half
        offset, end = self._half * _HALF, (self._half + 1) * _HALF
        places = []
        for sound in sounds.values():
            words = sound.a_law + sound.mu_law
            assert offset + len(words) <= end           # loading saw to it (MAX_TOTAL_SECONDS)
            self._map[offset : offset + len(words)] = words
            places.append(wire.Sound(sound.name, offset, len(sound.a_law)))
            offset += len(words)
        return places

    def close(self) -> None:
        self._map.close()
        os.close(self.fd)
