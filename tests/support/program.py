"""A program that is told what to do on its standard input, and says on its output what happens to it."""

from __future__ import annotations

import re
from asyncio.subprocess import Process
from dataclasses import dataclass

CHUNK = 4096


@dataclass
class Program:
    process: Process
    said: str = ""                        # everything on its output
    _read: int = 0                        # so much of that was waited for already

    def tell(self, *words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write((" ".join(words) + "\n").encode())

    async def says(self, pattern: str) -> str:
        """Wait for this on its output, after what was waited for before."""
        assert self.process.stdout is not None
        while (found := re.compile(pattern).search(self.said, self._read)) is None:
            chunk = await self.process.stdout.read(CHUNK)
            assert chunk, f"the program has ended, and never said {pattern!r}\n{self.said}"
            self.said += chunk.decode(errors="replace")
        self._read = found.end()
        return found[0]
