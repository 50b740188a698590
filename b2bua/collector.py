"""When CPython's garbage collector looks at what: short pauses however much lingers, and no cycle stays for ever.

What an ended call leaves lingers for half a minute (RFC 3261 §17) and is then freed by its reference counts: a call
leaves no cycle (tests/scenario/test_memory.py). The collector's older generations would look at all of it, again and
again: half a second of silence at 800 calls/s. So it only looks at the youngest objects, where the cycles of a request
or of an exception are found, and whatever lives on is put out of its sight. Everything is looked at when it is quiet.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

YOUNG: Final = 5_000                    # new objects between two looks: some 5 ms each
NEVER: Final = 1_000_000                # young looks until the older generations, which are empty, get one too
FULL_EVERY: Final = 3600.0              # seconds between two looks at everything
QUIET: Final = 500                      # lingering transactions; so few make the full look take below 0.1 s
FULL_AT_LAST: Final = 86_400.0          # seconds; a server that is never quiet has its full look then
CHECK_EVERY: Final = 30.0               # seconds; is it time, and quiet?

log = structlog.get_logger(__name__)


@contextmanager
def short_pauses() -> Iterator[None]:
    """For the process, while the block lasts."""
    thresholds = gc.get_threshold()
    gc.callbacks.append(_put_away)
    gc.set_threshold(YOUNG, NEVER, NEVER)
    gc.collect()
    try:
        yield
    finally:
        gc.callbacks.remove(_put_away)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


async def look_at_everything(lingering: Callable[[], int]) -> None:
    """Once an hour, when there is a quiet moment: cycles that had grown old before they died."""
    loop = asyncio.get_running_loop()
    last = loop.time()
    while True:
        await asyncio.sleep(CHECK_EVERY)
        since = loop.time() - last
        if since >= FULL_EVERY and (lingering() <= QUIET or since >= FULL_AT_LAST):
            begun = loop.time()
            gc.unfreeze()
            found = gc.collect()
            last = loop.time()
            log.info("collected garbage", objects=found, seconds=round(last - begun, 3))


def _put_away(phase: str, info: dict[str, int]) -> None:
    """After each look (gc.callbacks). Moving what lives takes no time, whatever its number."""
    if phase == "stop":
        gc.freeze()
