"""Finished calls on the disk while the database is away: appended as lines of JSON, put back when it returns."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from itertools import islice
from pathlib import Path


class SpillFile:
    """Plain blocking file work, for a thread. One process owns it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._replaying = path.with_suffix(".replaying")
        self._rejected = path.with_suffix(".rejected")

        self._lock = threading.Lock()  # `take` must not rename the file under an `append` in another thread

    @property
    def holds_something(self) -> bool:
        return self._path.exists() or self._replaying.exists()

    def append(self, lines: Iterable[str]) -> None:
        """On the disk when this returns."""
        with self._lock:
            _append(self._path, lines)

    def reject(self, lines: Iterable[str]) -> None:
        """What no database will take is kept for a person to look at."""
        _append(self._rejected, lines)

    def take(self, position: int, count: int) -> tuple[list[str], int]:
        """The next lines of what was spilled, and the position after them; no lines at its end.

        It stays on the disk until `forget`: putting it back twice does no harm.
        """
        with self._lock:
            if not self._replaying.exists():
                if not self._path.exists():
                    return [], position
                self._path.rename(self._replaying)
        with self._replaying.open("rb") as file:
            file.seek(position)
            lines = [line.decode("utf-8", "replace") for line in islice(file, count)]
            return lines, file.tell()

    def forget(self) -> None:
        """What `take` gave is in the database."""
        self._replaying.unlink(missing_ok=True)


def _append(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
