"""The connections to the CRMs, and their users."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from b2bua.commands.terminal import ConfigOption, JsonOption, console, faults_told, is_there, print_json, troubles_told
from b2bua.config import load_settings

cli = typer.Typer(no_args_is_help=True, help="The clients' CRMs.")

ClientOption = Annotated[str, typer.Option("--client", help="Whose account.")]


@cli.command()
def status(client: Annotated[str | None, typer.Option("--client", help="Only this client's account.")] = None,
           config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The state of each connection, since when, until when, and what to do."""
    from b2bua.commands.crm_accounts import status_table, statuses
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        found = asyncio.run(statuses(settings, client)) if asyncio.run(is_there(settings)) else []
    if as_json:
        rows = [asdict(one) | {name: at.isoformat() if (at := getattr(one, name)) is not None else None
                               for name in ("since", "until")} for one in found]
        print_json({"connections": rows})
        return
    console().print(status_table(found))


@cli.command()
def link(client: ClientOption, config: ConfigOption = None) -> None:
    """The address where an administrator of the account lets the integration in; good for an hour."""
    from b2bua.commands.crm_accounts import link as made
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        typer.echo(asyncio.run(made(settings, client)))


@cli.command("connect")
def connect_command(client: ClientOption,
                    code: Annotated[str, typer.Option("--code", help="From the integration's keys; good for 20 min.")],
                    host: Annotated[str | None, typer.Option("--host", help="NAME.amocrm.ru, if it has moved.")] = None,
                    config: ConfigOption = None) -> None:
    """Connects an account by a code that was copied, where amoCRM cannot reach the redirect address."""
    from b2bua.commands.crm_accounts import connect
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        done = asyncio.run(connect(settings, client, code.strip(), host))
    typer.echo(f"{client} is connected; a running daemon knows within a few seconds. The way in ends on "
               f"{done.until:%Y-%m-%d} unless the daemon renews it, as it does every day.")


@cli.command()
def users(client: ClientOption,
          refresh: Annotated[bool, typer.Option("--refresh", help="Ask the CRM first.")] = False,
          config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Who is who in a client's CRM: extension, active or not, and what is wrong."""
    from b2bua.commands.user_list import faults_told as told
    from b2bua.commands.user_list import user_table, users_of
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        found = users_of(settings, client, refresh=refresh)
    if as_json:
        print_json(found)
        return
    console().print(user_table(found))
    for line in told(found):
        typer.echo(line)
