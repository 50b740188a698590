"""Whose extension is whose in the CRM, for the command line: asked of the daemon, which alone may ask the CRM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from rich.table import Table
from rich.text import Text

from b2bua.commands.call_lists import plain_table, shown
from b2bua.commands.daemon_link import DAEMON_SECONDS, ask_daemon
from b2bua.config import Settings

REFRESH_SECONDS = 60.0                 # a big account has ten pages of users, and they let everything else go first


def users_of(settings: Settings, client: str, *, refresh: bool) -> dict[str, Any]:
    """Raises DaemonUnreachable, DaemonRefused."""
    if refresh:
        path = f"/api/crm/users/refresh?client={quote(client, safe='')}"
        return ask_daemon(settings, "POST", path, patience=REFRESH_SECONDS)
    return ask_daemon(settings, "GET", f"/api/crm/users?client={quote(client, safe='')}", patience=DAEMON_SECONDS)


def user_table(found: dict[str, Any]) -> Table | Text:
    if not found["users"]:
        return Text("No users are known.")
    table = plain_table("Users of the CRM", "user", "name", "active", "extension", "by")
    for user in found["users"]:
        active, extension = "yes" if user["is_active"] else "no", user["extension"] or ""
        table.add_row(*[shown(str(cell)) for cell in (user["id"], user["name"], active, extension, user["source"])])
    return table


def faults_told(found: dict[str, Any]) -> Iterator[str]:
    """Line by line, for a person."""
    for fault in found["faults"]:
        yield f"{fault['problem']}. {fault['remedy']}"
    if found["read_at"] is None:
        yield "The users were not read since the daemon has started."
