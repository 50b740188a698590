"""The benches run: they build parts of the system by hand, and would break unseen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_a_whole_call_is_measured() -> None:
    command = (sys.executable, "-m", "bench.calls", "--calls", "20")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "us a call" in done.stdout


def test_an_outbox_is_drained() -> None:
    command = (sys.executable, "-m", "bench.outbox_drain", "--rows", "60", "--clients", "3", "--looks", "5",
               "--real-rate")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    drains = [line for line in done.stdout.splitlines() if "HTTP" in line]
    assert [line.rstrip(" |").rpartition(" ")[2] for line in drains] == ["0", "0"]             # nothing is left


def test_a_history_is_searched() -> None:
    command = (sys.executable, "-m", "bench.history_search", "--calls", "3000", "--rounds", "2")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "| the newest, any client |" in done.stdout
    assert "| person, name, own number, failed, outgoing: none, older |" in done.stdout


@pytest.mark.parametrize("bench", ["clicks.py", "click_http.py"])
def test_a_click_is_measured(bench: str) -> None:
    command = (sys.executable, f"bench/{bench}", "--clicks", "10")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "us at the median of 10" in done.stdout
