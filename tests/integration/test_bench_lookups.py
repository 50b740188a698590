"""The bench of lookups runs, small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_lookups_are_measured() -> None:
    command = (sys.executable, "bench/lookups.py", "--numbers", "2000", "--lookups", "500", "--json")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["numbers"] == 2000
