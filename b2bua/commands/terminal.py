"""What all commands share: their options, their exit codes, and how they tell what went wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from b2bua.commands.daemon_link import DaemonRefused, DaemonUnreachable
from b2bua.config import Settings
from b2bua.crm.port import NotConnected
from b2bua.faults import ConfigurationFaults
from b2bua.keys import KeysUnavailable
from b2bua.media.plane import MediaError
from b2bua.sealing import SecretsLocked
from b2bua.store.directory import DirectoryChanged
from b2bua.store.engine import StoreUnavailable, sqlite_file
from b2bua.store.migrate import UnusableDatabase, pending

if TYPE_CHECKING:
    from rich.console import Console

RUNTIME_FAULT = 1
WRONG_CONFIGURATION = 2
WIDTH = 160                            # characters of a table that goes into a file or a pipe

_TROUBLES = (
    OSError, DaemonRefused, DaemonUnreachable, StoreUnavailable, UnusableDatabase, DirectoryChanged, KeysUnavailable,
    MediaError, NotConnected, SecretsLocked,
)

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", envvar="SMARTSWITCH_CONFIG", metavar="FILE",
                                                   help="Settings (TOML); without it: defaults and environment.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def console() -> Console:
    from rich.console import Console  # which takes its time to load, and not every command prints a table
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)


async def is_there(settings: Settings) -> bool:
    """Whether the database has our tables; a SQLite file is not made by looking."""
    file = sqlite_file(settings.database_url)
    if file is not None and not file.exists():
        return False
    revision, _ = await pending(settings.database_url)
    return revision is not None


@contextmanager
def faults_told(path: Path | None) -> Iterator[None]:
    try:
        yield
    except ConfigurationFaults as wrong:
        tell_faults(wrong, path)
        raise typer.Exit(WRONG_CONFIGURATION) from None


def tell_faults(wrong: ConfigurationFaults, path: Path | None) -> None:
    for fault in wrong.faults:
        typer.echo(str(fault) if fault.field == str(path) else f"{path or 'settings'}: {fault}", err=True)
    count = len(wrong.faults)
    typer.echo(f"{count} fault{'s' if count > 1 else ''}; nothing was changed or started.", err=True)


@contextmanager
def troubles_told() -> Iterator[None]:
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


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))
