"""The benches run: they build parts of the system by hand, and would break unseen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_whole_call_is_measured() -> None:
    command = (sys.executable, "-m", "bench.calls", "--calls", "20")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "us a call" in done.stdout
