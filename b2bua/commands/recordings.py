"""Recordings: withdrawn, given back, and who fetched them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, NoReturn

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

cli = typer.Typer(no_args_is_help=True, help="Who may hear what was recorded, and who did.")
Recorded = Annotated[str, typer.Argument(metavar="ID|CALL", help="A recording, or the call that it is of.")]


@cli.command()
def revoke(what: Recorded, config: ConfigOption = None) -> None:
    """Withdraws a recording: none of its links opens it any more. The file stays."""
    _decide(config, what, revoked=True)


@cli.command()
def restore(what: Recorded, config: ConfigOption = None) -> None:
    """Gives a recording back: its links open it again."""
    _decide(config, what, revoked=False)


def _decide(config: Path | None, what: str, *, revoked: bool) -> None:
    from b2bua.commands.recording_list import decide
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        found = asyncio.run(decide(settings, what, revoked=revoked)) if asyncio.run(is_there(settings)) else []
    if not found:
        _tell_no_recording(what)
    for recording in found:
        typer.echo(f"{recording.id} of the call {recording.call} is {'withdrawn' if revoked else 'given back'}.")


@cli.command("fetches")
def fetches_command(what: Recorded, config: ConfigOption = None,
                    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many.")] = 50,
                    as_json: JsonOption = False) -> None:
    """Who fetched a recording, when, and how much of it."""
    from b2bua.commands.recording_list import as_plain, fetch_table, fetches
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        found = asyncio.run(fetches(settings, what, limit)) if asyncio.run(is_there(settings)) else None
    if found is None:
        _tell_no_recording(what)
    if as_json:
        print_json({"fetches": [as_plain(fetch) for fetch in found]})
        return
    console().print(fetch_table(found))


def _tell_no_recording(what: str) -> NoReturn:
    typer.echo(f"smartswitch: {what} is no recording and no call that has one; "
               "smartswitch calls --json shows both", err=True)
    raise typer.Exit(RUNTIME_FAULT)
