"""`smartswitch demo`: the whole system on embedded defaults, real calls on loopback, and what came of them."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from b2bua.config import LogSettings
from b2bua.demo.office import HERE, PASSWORDS, Office, open_office
from b2bua.demo.story import Check, Story
from b2bua.logs import open_logs

SIP_PORT, WEB_PORT = 5060, 8080            # taken when they are free, else any


def run(*, once: bool, as_json: bool) -> int:
    """0 when every call went as expected, else 1. Without `once` it goes on until interrupted."""
    with (
        open_logs(LogSettings(level="warning", format="console")),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_run(once=once, as_json=as_json))


async def _run(*, once: bool, as_json: bool) -> int:
    out = Console(stderr=as_json)
    with tempfile.TemporaryDirectory(prefix="smartswitch-demo-") as scratch:
        async with open_office(Path(scratch), sip_port=_free(SIP_PORT), web_port=_free(WEB_PORT)) as office:
            server = office.server
            out.print(f"Smartswitch listens on sip:{server.host}:{server.port}; three phones are registered.\n")
            checks = [check async for check in _told(Story(office), out)]
            good = all(check.ok for check in checks)
            if as_json:
                answer = {"ok": good, "checks": [asdict(check) for check in checks]}
                sys.stdout.write(json.dumps(answer, ensure_ascii=False, indent=1) + "\n")
                sys.stdout.flush()
            out.print(_table(checks))
            out.print("[green]All as expected.[/]" if good else "[red]Not all was as expected.[/]")
            if not once:
                _say_what_next(office, out)
                await _interrupted()
    return 0 if good else 1


async def _told(story: Story, out: Console) -> AsyncIterator[Check]:
    """The checks as they come, each chapter announced, each result shown."""
    chapter = ""
    async for check in story.tell():
        if check.call != chapter:
            chapter = check.call
            out.print(f"[bold]{chapter}[/]")
        mark = "[green]✓[/]" if check.ok else "[red]✗[/]"
        wrong = "" if check.ok else f" [red](expected {check.expected})[/]"
        out.print(f"  {mark} {check.what}: {check.seen}{wrong}")
        yield check


def _table(checks: list[Check]) -> Table:
    table = Table("call", "what", "expected", "happened", "", title="What was expected, and what happened")
    previous = ""
    for check in checks:
        if previous and check.call != previous:
            table.add_section()
        mark = "[green]✓[/]" if check.ok else "[red]✗[/]"
        table.add_row(check.call if check.call != previous else "", check.what, check.expected, check.seen, mark)
        previous = check.call
    return table


def _say_what_next(office: Office, out: Console) -> None:
    web = office.system.web
    out.print(
        f"""
[bold]It keeps running.[/] Stop it with Ctrl-C.
  Dashboard      http://{web.host}:{web.port}/   (login: operator, password: {office.system.keys.operator_password})
  The CRM's card {office.crm_url}/
  Your softphone server {office.server.host}:{office.server.port} (UDP or TCP)
                 user 104, password {PASSWORDS['104']}
                 then dial 101, 102 or 103: they pick up and whistle.
""",
        soft_wrap=True,                # a password that is broken in two is copied wrong
    )


async def _interrupted() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def _free(port: int) -> int:
    """`port`, or 0 (any) when somebody has it."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HERE, port))
            except OSError:
                return 0
    return port
