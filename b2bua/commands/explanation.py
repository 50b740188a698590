"""What would happen to a call, for the command line: asked of the daemon, which alone knows who is reachable now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from b2bua.commands.daemon_link import ask_daemon
from b2bua.config import Settings

CRM_SECONDS = 15.0                     # it is asked as for a call; no client's patience with it is longer than ten


def explanation(settings: Settings, client: str, caller: str, dialled: str) -> dict[str, Any]:
    """Raises DaemonUnreachable, DaemonRefused."""
    question = {"client": client, "from": caller, "to": dialled}
    return ask_daemon(settings, "POST", "/api/explain", question, patience=CRM_SECONDS)


def told(found: dict[str, Any]) -> Iterator[str]:
    """Line by line, for a person."""
    yield f"{found['direction']} call"
    for note in found["notes"]:
        yield f"   {note}"
    for number, step in enumerate(found["steps"], 1):
        yield f"{number}. {step['why']}"
        yield f"   {step['does']}"
        for onward in step["onward"]:
            yield f"   {onward}"
    if not found["steps"]:
        yield f"refused with {found['status']}: {found['refusal']}"
    if found["crm"]:
        yield found["crm"]
