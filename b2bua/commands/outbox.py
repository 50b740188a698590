"""What the CRMs are owed, and what a person decides of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from b2bua.commands.terminal import (
    RUNTIME_FAULT,
    ConfigOption,
    JsonOption,
    console,
    faults_told,
    is_there,
    print_json,
    troubles_told,
)
from b2bua.config import load_settings

cli = typer.Typer(invoke_without_command=True, help="What the CRMs must still learn, and what they refused.")
RowIds = Annotated[list[int], typer.Argument(metavar="ID...", help="As `smartswitch outbox` shows them.")]


@cli.callback()
def outbox(context: typer.Context, config: ConfigOption = None,
           client: Annotated[str | None, typer.Option("--client", help="Only this client's.")] = None,
           aside: Annotated[bool, typer.Option("--aside", help="Only what waits for a person.")] = False,
           limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many of each.")] = 50,
           as_json: JsonOption = False) -> None:
    """What is owed to the CRMs, the newest first, and what was set aside with the reason."""
    if context.invoked_subcommand is not None:
        return
    from b2bua.commands.outbox_list import Lists, as_plain, aside_table, owed, waiting_table
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        there = asyncio.run(is_there(settings))
        lists = asyncio.run(owed(settings, client, limit)) if there else Lists([], [])
    if as_json:
        waiting = {} if aside else {"waiting": [as_plain(row) for row in lists.waiting]}
        print_json({**waiting, "aside": [as_plain(row) for row in lists.aside]})
        return
    terminal, now = console(), datetime.now(UTC)
    if not aside:
        terminal.print(waiting_table(lists.waiting, now))
    terminal.print(aside_table(lists.aside, now))


@cli.command()
def resend(rows: RowIds, config: ConfigOption = None) -> None:
    """Tries again what was set aside; what had arrived all the same is found, and not doubled."""
    from b2bua.commands.outbox_list import resend as resend_rows
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        count = asyncio.run(resend_rows(settings, rows)) if asyncio.run(is_there(settings)) else 0
    _say_decided(count, rows, "resent")


@cli.command()
def drop(rows: RowIds, why: Annotated[str, typer.Option("--why", help="Kept with them.")],
         config: ConfigOption = None) -> None:
    """Never sends what was set aside."""
    from b2bua.commands.outbox_list import drop as drop_rows
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        count = asyncio.run(drop_rows(settings, rows, why)) if asyncio.run(is_there(settings)) else 0
    _say_decided(count, rows, "dropped")


def _say_decided(count: int, rows: list[int], done: str) -> None:
    if count < len(set(rows)):
        typer.echo(f"smartswitch: only {count} of {len(set(rows))} {done}: the others are not set aside; "
                   "smartswitch outbox --aside shows what is", err=True)
        raise typer.Exit(RUNTIME_FAULT)
    typer.echo(f"{count} {done}.")
