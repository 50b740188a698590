#!/usr/bin/env python3
"""click2call: from the call of Control.click2call to the INVITE on the wire, as the phone's socket gets it.

The whole system in one process (database, relay and all), and a phone that is busy, in a thread of its own. What the
page's request over HTTPS takes is not in it.

  .venv/bin/python bench/clicks.py [--clicks 300] [--json]
"""
from __future__ import annotations

import argparse
import json
import logging
import re
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import structlog  # noqa: E402
import uvloop  # noqa: E402

from b2bua.app import System, running  # noqa: E402  the checkout is no package
from b2bua.cdr import ClientId  # noqa: E402
from b2bua.config import (  # noqa: E402
    Listener,
    LogSettings,
    MediaSettings,
    ServerSettings,
    Settings,
    SipSettings,
    WebSettings,
)
from b2bua.control import ClickStage  # noqa: E402
from b2bua.directory import Client, Directory, Extension, Trunk  # noqa: E402

HERE, PHONE, TRUNK = "127.0.78.1", "127.0.78.2", "127.0.78.3"
CLIENTS = 10                              # each may click 60 times a minute
WARM_UP = 20
COPIED = re.compile(rb"(?im)^(?:via|from|call-id|cseq):[^\r\n]*\r\n")
TO = re.compile(rb"(?im)^to:[^\r\n]*")


def busy_phone(sock: socket.socket, rung: Queue[int]) -> None:
    """When each INVITE came, in nanoseconds."""
    while True:
        data, source = sock.recvfrom(65_535)
        at = time.perf_counter_ns()
        if data.startswith(b"stop"):
            return
        if data.startswith(b"INVITE"):
            copied, to = b"".join(COPIED.findall(data)), TO.findall(data)[0]
            sock.sendto(b"SIP/2.0 486 Busy Here\r\n" + copied + to + b";tag=busy\r\nContent-Length: 0\r\n\r\n", source)
            rung.put(at)


async def measure(system: System, rung: Queue[int], clicks: int) -> list[float]:
    """Microseconds of each click."""
    took = []
    for number in range(WARM_UP + clicks):
        client, began = ClientId(f"client-{number % CLIENTS}"), time.perf_counter_ns()
        clicked = system.switchboard.click2call(client, "101", "+79265554433", str(number))
        while clicked.stage is not ClickStage.ENDED:
            clicked = await system.switchboard.click_changed(client, clicked.id, clicked.version)
        took.append((rung.get_nowait() - began) / 1000)
    return took[WARM_UP:]


def directory() -> Directory:
    clients = [ClientId(f"client-{number}") for number in range(CLIENTS)]
    return Directory(
        clients=tuple(Client(client, str(client)) for client in clients),
        extensions=tuple(Extension(client, "101", f"{client}-101", {}, address=f"sip:101@{PHONE}:5060")
                         for client in clients),
        trunks=tuple(Trunk(client, "operator", TRUNK, 5060 + number) for number, client in enumerate(clients)),
    )


async def bench(home: Path, clicks: int) -> list[float]:
    settings = Settings(
        server=ServerSettings(data_dir=home, drain_seconds=0),
        sip=SipSettings(listen=(Listener(transport="udp", host=HERE, port=0),), qualify_every=0),
        media=MediaSettings(host=HERE, port_min=22000, port_max=22999),
        web=WebSettings(host=HERE, port=0),
        log=LogSettings(level="error"),
    )
    rung: Queue[int] = Queue()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((PHONE, 5060))
        phone = threading.Thread(target=busy_phone, args=(sock, rung))
        phone.start()
        try:
            async with running(settings) as system:
                old, generation = await system.store.directory.load()
                await system.store.directory.replace(old, directory(), generation)
                await system.switchboard.settings_changed()
                return await measure(system, rung, clicks)
        finally:
            sock.sendto(b"stop", (PHONE, 5060))
            phone.join()


def told(what: str, took: list[float], as_json: bool) -> str:
    took = sorted(took)
    figures = {
        "clicks": len(took),
        "median_us": round(statistics.median(took)),
        "p95_us": round(took[len(took) * 95 // 100]),
        "p99_us": round(took[len(took) * 99 // 100]),
        "max_us": round(took[-1]),
    }
    line = "{median_us} us at the median of {clicks}, 95 % {p95_us}, 99 % {p99_us}, most {max_us}".format(**figures)
    return (json.dumps(figures) if as_json else f"{what}: {line}") + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=300, help=f"at most {60 * CLIENTS - WARM_UP}")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    structlog.configure(                    # as `open_logs` has it, at the level of bench/signalling
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING), cache_logger_on_first_use=True
    )
    with tempfile.TemporaryDirectory() as home:
        took = uvloop.run(bench(Path(home), given.clicks))
    sys.stdout.write(told("click -> INVITE", took, given.json))


if __name__ == "__main__":
    main()
