"""Who gets no answer, and how to forgive them."""

from __future__ import annotations

from typing import Annotated

import typer

from b2bua.commands.terminal import (
    RUNTIME_FAULT,
    ConfigOption,
    JsonOption,
    console,
    faults_told,
    print_json,
    troubles_told,
)
from b2bua.config import load_settings

cli = typer.Typer(invoke_without_command=True, help="Addresses and accounts that get no answer for a while.")


@cli.callback()
def bans(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Who is banned now, why, and for how long still."""
    if context.invoked_subcommand is not None:
        return
    from b2bua.commands.ban_list import ban_table, bans_in_force
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        found = bans_in_force(settings)
    if as_json:
        print_json({"bans": found})
        return
    console().print(ban_table(found))


@cli.command()
def lift(subject: Annotated[str, typer.Argument(metavar="ADDRESS|ACCOUNT", help="As `smartswitch bans` shows it.")],
         config: ConfigOption = None) -> None:
    """Forgives an address, or an account, everything, at once."""
    from b2bua.commands.ban_list import lift_ban
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        lifted = lift_ban(settings, subject)
    if not lifted:
        typer.echo(f"smartswitch: {subject} is not banned; smartswitch bans shows who is", err=True)
        raise typer.Exit(RUNTIME_FAULT)
    typer.echo(f"{lifted} ban{'s' if lifted > 1 else ''} lifted.")
