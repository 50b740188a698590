"""How fast recordings are finished, and how much memory that takes.

    python bench/recording.py [--minutes 30]     one recording, both sides talking; prints one JSON line
"""

from __future__ import annotations

import argparse
import json
import resource
import struct
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from b2bua.media import raw
from b2bua.recording.recorder import Finished, finish

FRAME = 160
CODECS = ({8: "PCMA/8000"}, {8: "PCMA/8000"})


def write(path: Path, minutes: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, 50 * FRAME, np.uint8).tobytes()
    with path.open("wb") as file:
        file.write(raw.header(path.stem, datetime.now(UTC)) + raw.codecs_record(CODECS, 0))
        for number in range(round(minutes * 60 * 50)):
            at = number % 50 * FRAME
            for kind in (raw.CALLER, raw.CALLEE):
                rtp = struct.pack(">BBHII", 0x80, 8, number & 0xFFFF, number * FRAME, kind) + noise[at : at + FRAME]
                file.write(raw.record_head(kind, len(rtp), number * 20_000) + rtp)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--bit-rate", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "abcdefghijklmnop.raw"
        write(source, options.minutes)
        size = source.stat().st_size
        began = time.process_time()
        outcome = finish(source, Path(folder), options.bit_rate)
        cpu = time.process_time() - began
        assert isinstance(outcome, Finished)
        result = {
            "minutes": options.minutes, "raw_bytes": size, "mp3_bytes": outcome.size, "cpu_seconds": round(cpu, 2),
            "times_real_time": round(outcome.seconds / cpu),
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }  # fmt: skip
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
