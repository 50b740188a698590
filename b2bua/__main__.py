"""The command line: reads the settings, hands them down, and turns outcomes into exit codes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from b2bua.apply_file import Change, apply_file, difference, merged, read_directory
from b2bua.cdr import CallRecord, ClientId
from b2bua.check import checked, notes
from b2bua.config import Settings, load_settings
from b2bua.daemon_link import DaemonRefused, DaemonUnreachable
from b2bua.directory import Directory
from b2bua.faults import ConfigurationFaults
from b2bua.keys import KeysUnavailable
from b2bua.media.plane import MediaError
from b2bua.store.directory import DirectoryChanged
from b2bua.store.engine import StoreUnavailable, sqlite_file, without_password
from b2bua.store.migrate import UnusableDatabase, migrate, pending
from b2bua.store.store import open_store

RUNTIME_FAULT = 1
WRONG_CONFIGURATION = 2

_TROUBLES = (
    OSError, DaemonRefused, DaemonUnreachable, StoreUnavailable, UnusableDatabase, DirectoryChanged, KeysUnavailable,
    MediaError,
)

cli = typer.Typer(name="smartswitch", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="A SIP back-to-back user agent that makes amoCRM part of every call.")

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", envvar="SMARTSWITCH_CONFIG", metavar="FILE",
                                                   help="Settings (TOML); without it: defaults and environment.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def main() -> None:
    """The entry point `smartswitch`."""
    cli()


@cli.command()
def serve(config: ConfigOption = None) -> None:
    """The daemon: runs until SIGTERM or SIGINT, then lets calls in progress end."""
    with _faults_told(config):
        settings = checked(config)
    from b2bua.app import run
    with _troubles_told():
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
            _tell_faults(wrong, config)
        else:
            _print_json({"faults": [asdict(fault) for fault in wrong.faults], "notes": []})
        raise typer.Exit(WRONG_CONFIGURATION) from None
    if as_json:
        _print_json({"faults": [], "notes": notes(settings)})
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
    with _faults_told(config):
        settings = load_settings(config)
    with _faults_told(file), _troubles_told():
        changes = asyncio.run(_apply(settings, file, dry_run=dry_run, prune=prune))
    if as_json:
        _print_json({"changes": [asdict(change) for change in changes], "applied": bool(changes) and not dry_run})
        return
    for change in changes:
        typer.echo(str(change))
    _say_summary(len(changes), dry_run=dry_run)


async def _apply(settings: Settings, file: Path, *, dry_run: bool, prune: bool) -> list[Change]:
    wanted = read_directory(file, settings.sip.realm)      # before the database is touched, or made
    if dry_run and not await _is_there(settings):
        return difference(Directory(), merged(Directory(), wanted, prune=prune))
    await migrate(settings.database_url)
    async with open_store(settings.database_url) as store:
        return await apply_file(store.directory, file, settings.sip.realm, dry_run=dry_run, prune=prune)


def _say_summary(changes: int, *, dry_run: bool) -> None:
    if not changes:
        typer.echo("Nothing to change.")
    else:
        typer.echo(f"{changes} change{'s' if changes > 1 else ''}{', not made (dry run)' if dry_run else ' made'}.")


@cli.command("migrate")
def migrate_command(config: ConfigOption = None) -> None:
    """Brings the database to the schema of this version; `serve` and `apply` do so too."""
    with _faults_told(config):
        settings = load_settings(config)
    with _troubles_told():
        before, after = asyncio.run(migrate(settings.database_url))
    database = without_password(settings.database_url)
    typer.echo(f"{database} is at revision {after}; it was {'so before' if before == after else before or 'empty'}.")


@cli.command()
def calls(config: ConfigOption = None,
          limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many past calls.")] = 20,
          client: Annotated[str | None, typer.Option("--client", help="Only this client's calls.")] = None,
          as_json: JsonOption = False) -> None:
    """Calls in progress, those from unknown addresses, and the last ones."""
    from b2bua.call_lists import as_plain, last_table, live_calls, live_table, turned_away_table
    with _faults_told(config):
        settings = load_settings(config)
    live = live_calls(settings, client)
    with _troubles_told():
        last = asyncio.run(_last_calls(settings, limit, ClientId(client) if client else None))
    if as_json:
        past = [as_plain(call) for call in last]
        _print_json({"daemon": live.problem or "running", "live": live.calls, "last": past,
                     "turned_away": live.turned_away})
        return
    from rich.console import Console
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(live_table(live))
    if live.turned_away:
        console.print(turned_away_table(live))
    console.print(last_table(last))


async def _last_calls(settings: Settings, limit: int, client: ClientId | None) -> list[CallRecord]:
    if not await _is_there(settings):
        return []
    async with open_store(settings.database_url) as store:
        return await store.calls.last_calls(limit, client)


@cli.command()
def explain(client: Annotated[str, typer.Option("--client", help="Whose call.")],
            caller: Annotated[str, typer.Option("--from", metavar="N", help="Extension, outside number or anonymous.")],
            dialled: Annotated[str, typer.Option("--to", metavar="N", help="Number, extension or group.")],
            config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What would happen to such a call now, and why; no phone rings."""
    from b2bua.explanation import explanation, told
    with _faults_told(config):
        settings = load_settings(config)
    with _troubles_told():
        found = explanation(settings, client, caller, dialled)
    if as_json:
        _print_json(found)
        return
    for line in told(found):
        typer.echo(line)


bans_cli = typer.Typer(invoke_without_command=True, help="Addresses and accounts that get no answer for a while.")
cli.add_typer(bans_cli, name="bans")


@bans_cli.callback()
def bans(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Who is banned now, why, and for how long still."""
    if context.invoked_subcommand is not None:
        return
    from b2bua.ban_list import ban_table, bans_in_force
    with _faults_told(config):
        settings = load_settings(config)
    with _troubles_told():
        found = bans_in_force(settings)
    if as_json:
        _print_json({"bans": found})
        return
    from rich.console import Console
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(ban_table(found))


@bans_cli.command()
def lift(subject: Annotated[str, typer.Argument(metavar="ADDRESS|ACCOUNT", help="As `smartswitch bans` shows it.")],
         config: ConfigOption = None) -> None:
    """Forgives an address, or an account, everything, at once."""
    from b2bua.ban_list import lift_ban
    with _faults_told(config):
        settings = load_settings(config)
    with _troubles_told():
        lifted = lift_ban(settings, subject)
    if not lifted:
        typer.echo(f"smartswitch: {subject} is not banned; smartswitch bans shows who is", err=True)
        raise typer.Exit(RUNTIME_FAULT)
    typer.echo(f"{lifted} ban{'s' if lifted > 1 else ''} lifted.")


@cli.command()
def demo(once: Annotated[bool, typer.Option("--once", help="Exit when the calls are done.")] = False,
         as_json: JsonOption = False) -> None:
    """The whole system with a stand-in amoCRM, a simulated trunk and phones; places real calls on loopback."""
    from b2bua.demo.main import run
    with _troubles_told():
        raise typer.Exit(run(once=once, as_json=as_json))


@cli.command()
def sandbox(host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
            port: Annotated[int, typer.Option("--port", help="Port to listen on.", min=0, max=65535)] = 8088) -> None:
    """The stand-in amoCRM alone, for people who develop against it."""
    from b2bua.sandbox.server import run_sandbox
    typer.echo(f"amoCRM stand-in on http://{host}:{port}, until Ctrl-C")
    with _troubles_told(), suppress(KeyboardInterrupt):
        asyncio.run(run_sandbox(host, port))


async def _is_there(settings: Settings) -> bool:
    """Whether the database has our tables; a SQLite file is not made by looking."""
    file = sqlite_file(settings.database_url)
    if file is not None and not file.exists():
        return False
    revision, _ = await pending(settings.database_url)
    return revision is not None


@contextmanager
def _faults_told(path: Path | None) -> Iterator[None]:
    try:
        yield
    except ConfigurationFaults as wrong:
        _tell_faults(wrong, path)
        raise typer.Exit(WRONG_CONFIGURATION) from None


def _tell_faults(wrong: ConfigurationFaults, path: Path | None) -> None:
    for fault in wrong.faults:
        typer.echo(str(fault) if fault.field == str(path) else f"{path or 'settings'}: {fault}", err=True)
    count = len(wrong.faults)
    typer.echo(f"{count} fault{'s' if count > 1 else ''}; nothing was changed or started.", err=True)


@contextmanager
def _troubles_told() -> Iterator[None]:
    """What the machine did wrong, in one sentence instead of a traceback."""
    try:
        yield
    except _TROUBLES as trouble:
        _tell_troubles([trouble])
    except BaseExceptionGroup as group:
        known, others = group.split(_TROUBLES)
        if known is None or others is not None:
            raise
        _tell_troubles(_leaves(known))


def _tell_troubles(troubles: Iterable[BaseException]) -> NoReturn:
    for trouble in troubles:
        typer.echo(f"smartswitch: {trouble}", err=True)
    raise typer.Exit(RUNTIME_FAULT) from None


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main()
