"""The widget's archive: made, and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from b2bua.commands.terminal import RUNTIME_FAULT, WRONG_CONFIGURATION, troubles_told

cli = typer.Typer(no_args_is_help=True, help="The archive that is uploaded to amoCRM or Kommo.")


@cli.command()
def build(url: Annotated[str, typer.Option("--url", metavar="URL", help="How browsers reach this server.")],
          out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it.")] = Path("widget.zip"),
          ) -> None:
    """Writes the widget's archive for one server, after the checks of `widget check`."""
    from b2bua import widget_archive
    from b2bua.widget_lint import lint
    try:
        archive = widget_archive.build(url)
    except widget_archive.UnusableUrl as wrong:
        typer.echo(f"smartswitch: {wrong}", err=True)
        raise typer.Exit(WRONG_CONFIGURATION) from None
    _tell_findings(lint(archive), out)
    with troubles_told():
        out.write_bytes(archive)
    typer.echo(f"{out}: {len(archive)} bytes, for {widget_archive.server_url(url)}.")
    if out.name != widget_archive.ARCHIVE_NAME:
        typer.echo(f"note: amoCRM takes it only under the name {widget_archive.ARCHIVE_NAME}.")


@cli.command("check")
def check_widget(file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive.")]) -> None:
    """Says everything that amoCRM, Kommo or their moderators would not take in an archive."""
    from b2bua.widget_lint import LARGEST_ARCHIVE, lint
    with troubles_told(), file.open("rb") as archive:
        findings = lint(archive.read(LARGEST_ARCHIVE + 1))
    _tell_findings(findings, file)
    typer.echo(f"{file}: no fault found.")


def _tell_findings(findings: list[str], file: Path) -> None:
    for finding in findings:
        typer.echo(f"{file}: {finding}", err=True)
    if findings:
        typer.echo(f"{len(findings)} fault{'s' if len(findings) > 1 else ''}.", err=True)
        raise typer.Exit(RUNTIME_FAULT)
