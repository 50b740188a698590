"""The command line: reads the settings, hands them down, and turns outcomes into exit codes."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import structlog
import typer

from b2bua.apply.difference import Change, difference
from b2bua.apply.file import apply_file, merged, read_directory
from b2bua.cdr import CallRecord, ClientId
from b2bua.commands import bans, crm, outbox, recordings, widget
from b2bua.commands.check import checked, notes
from b2bua.commands.terminal import (
    RUNTIME_FAULT,
    WRONG_CONFIGURATION,
    ConfigOption,
    JsonOption,
    console,
    faults_told,
    is_there,
    print_json,
    tell_faults,
    troubles_told,
)
from b2bua.config import Settings, load_settings
from b2bua.directory import Directory
from b2bua.faults import ConfigurationFaults
from b2bua.keys import open_sealer
from b2bua.media import sounds
from b2bua.store.engine import without_password
from b2bua.store.migrate import migrate
from b2bua.store.secrets import Resealed
from b2bua.store.store import open_store

if TYPE_CHECKING:
    from b2bua.commands.call_trace import Ambiguous

cli = typer.Typer(name="smartswitch", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="A SIP back-to-back user agent that makes amoCRM part of every call.")

for name, group in (("bans", bans.cli), ("crm", crm.cli), ("widget", widget.cli), ("outbox", outbox.cli),
                    ("recordings", recordings.cli)):
    cli.add_typer(group, name=name)


def main() -> None:
    """The entry point `smartswitch`. What commands print is theirs alone; `serve` sets its own log up."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    cli()


@cli.command()
def serve(config: ConfigOption = None) -> None:
    """The daemon: runs until SIGTERM or SIGINT, then lets calls in progress end."""
    with faults_told(config):
        settings = checked(config)
    from b2bua.app import run
    with troubles_told():
        raise typer.Exit(run(settings))


@cli.command()
def check(config: ConfigOption = None,
          running: Annotated[bool, typer.Option("--running", help="The daemon runs: its ports are taken.")] = False,
          as_json: JsonOption = False) -> None:
    """Says every fault of settings and machine at once, each with its line and its remedy."""
    try:
        settings = checked(config, ports=not running)
    except ConfigurationFaults as wrong:
        if not as_json:
            tell_faults(wrong, config)
        else:
            print_json({"faults": [asdict(fault) for fault in wrong.faults], "notes": []})
        raise typer.Exit(WRONG_CONFIGURATION) from None
    if as_json:
        print_json({"faults": [], "notes": notes(settings)})
        return
    for note in notes(settings):
        typer.echo(f"note: {note}")
    typer.echo(f"{config or 'The defaults'}: no fault found.")


@cli.command()
def apply(file: Annotated[Path, typer.Argument(metavar="FILE", help="Clients, trunks, numbers, extensions, groups.")],
          config: ConfigOption = None,
          dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, change nothing.")] = False,
          prune: Annotated[bool, typer.Option("--prune", help="Remove clients that FILE does not name.")] = False,
          as_json: JsonOption = False) -> None:
    """Brings the directory to what FILE says; a running daemon follows within a second or two."""
    with faults_told(config):
        settings = load_settings(config)
    with faults_told(file), troubles_told():
        changes = asyncio.run(_apply(settings, file, dry_run=dry_run, prune=prune))
    if as_json:
        told = [{"sign": one.sign, "what": one.what, "fields": one.fields} for one in changes]
        print_json({"changes": told, "applied": bool(changes) and not dry_run})
        return
    for change in changes:
        typer.echo(str(change))
    _say_summary(len(changes), dry_run=dry_run)


async def _apply(settings: Settings, file: Path, *, dry_run: bool, prune: bool) -> list[Change]:
    from b2bua.commands.call_lists import somebody
    known = sounds.names(settings.media.sounds)
    wanted = read_directory(file, settings.sip.realm, known)      # before the database is touched, or made
    if dry_run and not await is_there(settings):
        return difference(Directory(), merged(Directory(), wanted, prune=prune))
    await migrate(settings.database_url)
    async with open_store(settings.database_url, sealer=open_sealer(settings)) as store:
        return await apply_file(store.directory, file, settings.sip.realm, known_sounds=known, dry_run=dry_run,
                                prune=prune, who=f"apply by {somebody()}")


def _say_summary(changes: int, *, dry_run: bool) -> None:
    if not changes:
        typer.echo("Nothing to change.")
    else:
        typer.echo(f"{changes} change{'s' if changes > 1 else ''}{', not made (dry run)' if dry_run else ' made'}.")


@cli.command("migrate")
def migrate_command(config: ConfigOption = None) -> None:
    """Brings the database to the schema of this version; `serve` and `apply` do so too."""
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        before, after = asyncio.run(migrate(settings.database_url))
    database = without_password(settings.database_url)
    typer.echo(f"{database} is at revision {after}; it was {'so before' if before == after else before or 'empty'}.")


@cli.command()
def reseal(config: ConfigOption = None) -> None:
    """Seals all tokens and secrets in the database with the first of database.secret_keys."""
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        done = asyncio.run(_reseal(settings))
    for why in done.locked:
        typer.echo(f"smartswitch: {why}", err=True)
    typer.echo(f"{done.sealed} secret{'' if done.sealed == 1 else 's'} sealed with the first key.")
    if done.locked:
        raise typer.Exit(RUNTIME_FAULT)


async def _reseal(settings: Settings) -> Resealed:
    if not await is_there(settings):
        return Resealed(0, ())
    await migrate(settings.database_url)
    async with open_store(settings.database_url, sealer=open_sealer(settings)) as store:
        return await store.secrets.reseal()


@cli.command()
def calls(config: ConfigOption = None,
          limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many past calls.")] = 20,
          client: Annotated[str | None, typer.Option("--client", help="Only this client's calls.")] = None,
          as_json: JsonOption = False) -> None:
    """Calls in progress, those from unknown addresses, and the last ones."""
    from b2bua.commands.call_lists import as_plain, last_table, live_calls, live_table, turned_away_table
    with faults_told(config):
        settings = load_settings(config)
    live = live_calls(settings, client)
    with troubles_told():
        last = asyncio.run(_last_calls(settings, limit, ClientId(client) if client else None))
    if as_json:
        past = [as_plain(call) for call in last]
        print_json({"daemon": live.problem or "running", "live": live.calls, "last": past,
                     "turned_away": live.turned_away})
        return
    terminal = console()
    terminal.print(live_table(live))
    if live.turned_away:
        terminal.print(turned_away_table(live))
    terminal.print(last_table(last))


async def _last_calls(settings: Settings, limit: int, client: ClientId | None) -> list[CallRecord]:
    if not await is_there(settings):
        return []
    async with open_store(settings.database_url) as store:
        return await store.calls.last_calls(limit, client)


@cli.command()
def trace(call: Annotated[str, typer.Argument(metavar="CALL", help="Its id, or the beginning of it; 4 letters.")],
          config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """One call's ladder: what was said, decided, recorded and told the CRM, in its order."""
    from b2bua.calls.ladder import title
    from b2bua.commands.call_trace import Told, plain
    from b2bua.commands.call_trace import trace as found_trace
    from b2bua.control import SHORTEST_BEGINNING
    if len(call) < SHORTEST_BEGINNING:
        raise typer.BadParameter(f"{SHORTEST_BEGINNING} letters of its id at least", param_hint="CALL")
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        found = asyncio.run(found_trace(settings, call))
    if not isinstance(found, Told):
        _tell_no_trace(call, found)
    if as_json:
        print_json(plain(found))
        return
    typer.echo(title(found.record, is_over=found.is_over))
    for line in (*found.lines, *found.notes):
        typer.echo(str(line))


def _tell_no_trace(call: str, found: Ambiguous) -> NoReturn:
    for line in found.in_words(call):
        typer.echo(f"smartswitch: {line}", err=True)
    raise typer.Exit(RUNTIME_FAULT)


@cli.command()
def explain(client: Annotated[str, typer.Option("--client", help="Whose call.")],
            caller: Annotated[str, typer.Option("--from", metavar="N", help="Extension, outside number or anonymous.")],
            dialled: Annotated[str, typer.Option("--to", metavar="N", help="Number, extension or group.")],
            config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What would happen to such a call now, and why; no phone rings."""
    from b2bua.commands.explanation import explanation, told
    with faults_told(config):
        settings = load_settings(config)
    with troubles_told():
        found = explanation(settings, client, caller, dialled)
    if as_json:
        print_json(found)
        return
    for line in told(found):
        typer.echo(line)


@cli.command()
def demo(once: Annotated[bool, typer.Option("--once", help="Exit when the calls are done.")] = False,
         as_json: JsonOption = False) -> None:
    """The whole system with a stand-in amoCRM, a simulated trunk and phones; places real calls on loopback."""
    from b2bua.demo.main import run
    with troubles_told():
        raise typer.Exit(run(once=once, as_json=as_json))


@cli.command()
def sandbox(host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
            port: Annotated[int, typer.Option("--port", help="Port to listen on.", min=0, max=65535)] = 8088) -> None:
    """The stand-in amoCRM alone, for people who develop against it."""
    from b2bua.sandbox.server import run_sandbox
    typer.echo(f"amoCRM stand-in on http://{host}:{port}, until Ctrl-C")
    with troubles_told(), suppress(KeyboardInterrupt):
        asyncio.run(run_sandbox(host, port))


if __name__ == "__main__":
    main()
