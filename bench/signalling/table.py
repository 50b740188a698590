#!/usr/bin/env python3
"""The summaries of a sipbench.py --out file as a Markdown table."""
from __future__ import annotations

import json
import sys
from pathlib import Path


def rows(lines: list[str]) -> list[str]:
    summaries = [entry for entry in map(json.loads, lines) if "summary" in entry]
    table: list[str] = []
    if any("ramp" in entry for entry in summaries):
        table += ["| | calls/s | CPU per call, ms | setup p50 / p99, ms | repeated | CPU |", "|---" * 6 + "|"]
        table += [_ramp(entry["summary"], entry["ramp"]) for entry in summaries if "ramp" in entry]
    if any("hold" in entry for entry in summaries):
        table += ["| | standing calls | KiB per call | before, MiB | after, MiB |", "|---|---|---|---|---|"]
        table += [_hold(entry["summary"], entry["hold"]) for entry in summaries if "hold" in entry]
    return table + [f"{entry['summary']}: {entry['problem']}" for entry in summaries if "problem" in entry]


def _ramp(name: str, ramp: dict) -> str:
    if not ramp["max_cps"]:
        return f"| {name} | none | | | | |"
    setup = ramp["setup_ms"]
    return (f"| {name} | {ramp['max_cps']} | {ramp['cpu_us_per_call'] / 1000:.2f} | {setup['p50']} / {setup['p99']} "
            f"| {ramp['retrans']} | {ramp['sut_cpu_pct']} % |")


def _hold(name: str, hold: dict) -> str:
    return (f"| {name} | {hold['standing']} | {hold['kib_per_call']} | {hold['base_pss_mib']} "
            f"| {hold['after_pss_mib']} |")


if __name__ == "__main__":
    sys.stdout.write("\n".join(rows(Path(sys.argv[1]).read_text().splitlines())) + "\n")
