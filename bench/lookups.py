#!/usr/bin/env python3
"""Who calls, from a memory of a million numbers: lookups a second, how long each takes, bytes a number.

Through the real Lookup, for ten clients with 100,000 numbers each; one CPU, one task, no CRM is asked. The longest
single step of filling it is told too, as calls stand still so long.

  .venv/bin/python bench/lookups.py [--numbers 1000000] [--lookups 300000] [--json]
"""
from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from b2bua.cdr import ClientId  # noqa: E402  the checkout is no package
from b2bua.collector import short_pauses  # noqa: E402
from b2bua.crm.lookup import Lookup  # noqa: E402
from b2bua.crm.memory import Memory  # noqa: E402
from b2bua.crm.people import Holder  # noqa: E402
from b2bua.crm.port import Contact, CrmUnavailable, CrmWrite, Delivered, EntityKind, Made, PopUp  # noqa: E402

CLIENTS = [ClientId(f"client-{number}") for number in range(10)]
NAMES = ("Иван Петров", "Мария Соколова", "Александр Константинопольский", "ООО «Вектор»", "Anna Smith")
PAGE = os.sysconf("SC_PAGE_SIZE")


class NoCrm:
    """Whoever asks it, the memory did not know."""

    async def find_contact(self, phone: str) -> Contact | None:
        raise CrmUnavailable(phone)

    async def deliver(self, write: CrmWrite, known: tuple[Made, ...] = (), *, repeated: bool = False) -> Delivered:
        raise CrmUnavailable("none")

    async def pop_up(self, pop_up: PopUp) -> None:
        raise CrmUnavailable("none")


def resident() -> int:
    """Bytes of memory that the process has now."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE


def fill(memory: Memory, numbers: int, now: float) -> list[float]:
    """What each number took, in microseconds."""
    random, took = Random(1), []
    for serial in range(numbers):
        contact = Contact(EntityKind.CONTACT, 40_000_000 + serial, f"{random.choice(NAMES)} {serial % 1000}", 77)
        holder = Holder(contact, (phone(serial),), 1_700_000_000 + serial)
        began = time.perf_counter_ns()
        memory.hold(CLIENTS[serial % len(CLIENTS)], holder, now, is_news=False)
        took.append((time.perf_counter_ns() - began) / 1000)
    return took


def phone(serial: int) -> str:
    return f"+79{serial * 7919 % 10**9:09}"


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


async def measure(numbers: int, lookups: int) -> dict[str, Any]:
    memory, crm = Memory(size=2 * numbers, size_of_client=numbers), NoCrm()
    lookup = Lookup(lambda client: crm, memory=memory)
    now = asyncio.get_running_loop().time()
    gc.collect()
    before = resident()
    filled = fill(memory, numbers, now)
    grown = resident() - before - len(filled) * 32         # the list of what each took is not the memory's
    serials = Random(2).choices(range(numbers), k=lookups)
    asked = [(CLIENTS[serial % len(CLIENTS)], phone(serial)) for serial in serials]
    found, took = 0, []
    began = time.perf_counter_ns()
    for client, number in asked:
        found += await lookup.find_contact(client, number) is not None
    seconds = (time.perf_counter_ns() - began) / 1e9
    for client, number in asked:
        one = time.perf_counter_ns()
        await lookup.find_contact(client, number)
        took.append((time.perf_counter_ns() - one) / 1000)
    began = time.perf_counter_ns()
    gc.unfreeze()
    gc.collect()
    whole = (time.perf_counter_ns() - began) / 1e6
    if found != lookups or lookup.counts.asked or len(memory) != numbers:
        raise SystemExit(f"{found} of {lookups} found, {lookup.counts.asked} asked for, {len(memory)} there")
    return {
        "numbers": numbers, "lookups_per_second": round(lookups / seconds),
        "lookup_us": {"p50": percentile(took, .5), "p99": percentile(took, .99), "max": percentile(took, 1)},
        "fill_us": {"p50": percentile(filled, .5), "p99": percentile(filled, .99), "max": percentile(filled, 1)},
        "bytes_per_number": round(grown / numbers), "full_collection_ms": round(whole, 1),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", type=int, default=1_000_000)
    parser.add_argument("--lookups", type=int, default=300_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with short_pauses():                                   # as in the daemon
        figures = await measure(given.numbers, given.lookups)
    if given.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    looked, filled = figures["lookup_us"], figures["fill_us"]
    sys.stdout.write("\n".join([
        f"| {figures['numbers']:,} numbers | |", "|---|---|",
        f"| lookups a second | {figures['lookups_per_second']:,} |",
        f"| one lookup, µs: median, p99, longest | {looked['p50']}, {looked['p99']}, {looked['max']} |",
        f"| one number learnt, µs: median, p99, longest | {filled['p50']}, {filled['p99']}, {filled['max']} |",
        f"| bytes a number | {figures['bytes_per_number']} |",
        f"| the collector's hourly look at everything, ms | {figures['full_collection_ms']} |",
    ]) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
