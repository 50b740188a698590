"""Live and past calls for the command line: asked of the daemon and of the database, shown as tables or JSON."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from rich.table import Table
from rich.text import Text

from b2bua.cdr import CallRecord, Disposition
from b2bua.commands.daemon_link import DaemonUnreachable, ask_daemon
from b2bua.config import Settings


@dataclass(frozen=True, slots=True)
class LiveCalls:
    calls: list[dict[str, Any]]
    turned_away: list[dict[str, Any]] = field(default_factory=list)     # from unknown addresses, of no client
    problem: str | None = None         # why the daemon could not be asked


def live_calls(settings: Settings, client: str | None = None) -> LiveCalls:
    """What the daemon of these settings says, by the token that it keeps in its data directory."""
    try:
        state = ask_daemon(settings, "GET", "/api/live")
    except DaemonUnreachable as error:
        return LiveCalls([], problem=str(error))
    calls = [call for call in state["calls"] if client in (None, call["client"])]
    return LiveCalls(calls, state["turned_away"] if client is None else [])


def live_table(live: LiveCalls) -> Table | Text:
    if live.problem is not None:
        return Text(f"Calls in progress: unknown; {live.problem}")
    if not live.calls:
        return Text("No call in progress.")
    table = plain_table("Calls in progress", "since", "client", "direction", "caller", "dialled", "contact",
                        "extension", "state")
    for call in live.calls:
        since = datetime.fromisoformat(call["started_at"])
        table.add_row(_clock(since), *[shown(call[name]) for name in (
            "client", "direction", "caller", "dialled", "contact", "extension", "state")])
    return table


def turned_away_table(live: LiveCalls) -> Table:
    table = plain_table("Calls from unknown addresses", "at", "from", "dialled", "got", "why")
    for call in live.turned_away:
        at = datetime.fromisoformat(call["at"])
        table.add_row(_clock(at), *[shown(call[name]) for name in ("source", "dialled", "done", "why")])
    return table


def last_table(calls: Sequence[CallRecord]) -> Table | Text:
    if not calls:
        return Text("No past call.")
    table = plain_table("Last calls", "started", "client", "direction", "caller", "dialled", "contact", "extension",
                        "result", "talked", "call")
    for call in calls:
        table.add_row(_clock(call.started_at), *[shown(text) for text in (
            call.client, call.direction.value, call.caller or "withheld", call.dialled, call.contact, call.extension,
            call.disposition.value, _duration(call), call.id)])
    return table


def as_plain(call: CallRecord) -> dict[str, Any]:
    """For JSON."""
    plain = {field.name: _plain(getattr(call, field.name)) for field in fields(call)}
    return plain | {"talk_seconds": call.talk_seconds}


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            return value.value
        case datetime():
            return value.isoformat()
        case tuple():
            return list(value)
        case _:
            return value


def plain_table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def shown(value: str | None) -> Text:
    """As text, whatever a stranger wrote: no markup, no control characters."""
    return Text("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in value or ""))


def somebody() -> str:
    """Who types here."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):        # a container's user without a name
        return "somebody"


def _clock(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S" if at.date() != datetime.now(UTC).date() else "%H:%M:%S")


def _duration(call: CallRecord) -> str:
    if call.disposition is not Disposition.ANSWERED:
        return ""
    return f"{call.talk_seconds // 60}:{call.talk_seconds % 60:02}"
