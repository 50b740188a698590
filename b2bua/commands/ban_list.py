"""Bans for the command line, asked of the daemon: they are in its memory alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from b2bua.commands.call_lists import plain_table, shown
from b2bua.commands.daemon_link import ask_daemon
from b2bua.config import Settings


def bans_in_force(settings: Settings) -> list[dict[str, Any]]:
    """Raises DaemonUnreachable."""
    return list(ask_daemon(settings, "GET", "/api/bans")["bans"])


def lift_ban(settings: Settings, subject: str) -> int:
    """How many were lifted. Raises DaemonUnreachable."""
    return int(ask_daemon(settings, "POST", "/api/bans/lift", {"subject": subject})["lifted"])


def ban_table(bans: Sequence[dict[str, Any]]) -> Table | Text:
    if not bans:
        return Text("Nobody is banned.")
    table = plain_table("Bans", "who", "address", "account", "why", "ends in")
    for ban in bans:
        minutes, seconds = divmod(int(ban["expires_in"]), 60)
        cells = [shown(str(ban[name])) for name in ("who", "address", "account", "why")]
        table.add_row(*cells, f"{minutes}:{seconds:02}")
    return table
