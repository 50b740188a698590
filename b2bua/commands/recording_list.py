"""Recordings for the command line: withdrawn, given back, and who fetched them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from b2bua.commands.call_lists import plain_table, shown, somebody
from b2bua.config import Settings
from b2bua.store.fetches import Fetch
from b2bua.store.recordings import Recording
from b2bua.store.store import open_store


async def decide(settings: Settings, what: str, *, revoked: bool) -> list[Recording]:
    """The recordings that it was about: by their id, or by their call's."""
    async with open_store(settings.database_url) as store:
        found = await store.recordings.find(what)
        for recording in found:
            await store.recordings.revoke(recording.id, somebody(), revoked=revoked)
        return found


async def fetches(settings: Settings, what: str, limit: int) -> list[Fetch] | None:
    """None: there is no such recording."""
    async with open_store(settings.database_url) as store:
        found = await store.recordings.find(what)
        if not found:
            return None
        return [fetch for recording in found for fetch in await store.recordings.fetches(recording.id, limit)]


def fetch_table(found: Sequence[Fetch]) -> Table | Text:
    if not found:
        return Text("Nobody has fetched it.")
    table = plain_table("Fetched, the last first", "at", "by", "signed in as", "requests", "bytes")
    for fetch in found:
        table.add_row(f"{fetch.at.astimezone():%Y-%m-%d %H:%M:%S}", shown(fetch.address), shown(fetch.who),
                      str(fetch.requests), str(fetch.size))
    return table


def as_plain(fetch: Fetch) -> dict[str, object]:
    return {**asdict(fetch), "at": fetch.at.isoformat()}
