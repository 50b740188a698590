"""What the live page shows of one office, or of all: rendered at most once a second however many look at it.

A board is pieces of HTML by their places, so that who looks is sent only those that changed. A row is rendered again
only when what it shows is another, and between some rows the calls have their turn: a full board takes the loop some
20 ms.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from b2bua.cdr import CallRecord, ClientId
from b2bua.control import Control, Heard, LiveCall
from b2bua.directory import Directory
from b2bua.store.engine import StoreUnavailable
from b2bua.store.store import Store
from web.health import not_ready
from web.pages import fragment

EVERY = 1.0                            # seconds between two renderings
LAST_CALLS = 5
LAST_CALLS_EVERY = 3.0                 # seconds between two looks at a database that has got further calls
LAST_CALLS_AGAIN = 30.0                # the same, as other processes and a spill file put calls into it too
MOST = 100                             # calls, extensions, trunks, alarms shown each; the rest is a number
MOST_TARGETS = 300                     # extensions and groups that the page proposes to transfer to
FORGOTTEN_AFTER = 60.0                 # seconds without anybody who looks
TURN = 0.0002                          # seconds of rendering, then the calls' turn
SILENT_AFTER = timedelta(seconds=5)    # of talk: until then nobody need have said anything

# In the place of the form token of whoever reads the board. Nobody can guess it, and so put it into a name.
TOKEN = secrets.token_hex(16)

_COUNTDOWN = re.compile(r" for \d+ s$")

Pieces = Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Board:
    """`title` is for the window; the rows of a list stand in their order."""

    title: str = ""
    parts: Pieces = field(default_factory=dict)
    lists: Mapping[str, Pieces] = field(default_factory=dict)

    def changes(self, seen: Board) -> dict[str, Any]:
        """What is new to whoever has seen that one."""
        changes: dict[str, Any] = {"title": self.title} if self.title != seen.title else {}
        if parts := {name: part for name, part in self.parts.items() if seen.parts.get(name) != part}:
            changes["parts"] = parts
        lists: dict[str, Any] = {}
        for name, rows in self.lists.items():
            before = seen.lists.get(name, {})
            fresh = {key: row for key, row in rows.items() if before.get(key) != row}
            if fresh or list(rows) != list(before):
                lists[name] = {"order": list(rows), "rows": fresh}
        return changes | ({"lists": lists} if lists else {})


NOTHING = Board()


class Boards:
    """One for each office and language that somebody looks at."""

    def __init__(self, control: Control, store: Store, directory: Callable[[], Directory]) -> None:
        self._control = control
        self._store = store
        self._directory = directory
        self._showings: dict[tuple[ClientId | None, str], Showing] = {}

    def of(self, client: ClientId | None, language: str) -> Showing:
        """`client` None: of the whole platform, for its operator."""
        now = asyncio.get_running_loop().time()
        self._showings = {key: one for key, one in self._showings.items() if now - one.asked_at < FORGOTTEN_AFTER}
        showing = self._showings.get((client, language))
        if showing is None:
            showing = Showing(self._control, self._store, self._directory, client, language)
            self._showings[client, language] = showing
        showing.asked_at = now
        return showing


class Showing:
    """A board that is kept current while somebody asks for it."""

    def __init__(
        self, control: Control, store: Store, directory: Callable[[], Directory], client: ClientId | None, language: str
    ) -> None:
        self.asked_at = 0.0
        self._control = control
        self._store = store
        self._directory = directory
        self._client = client
        self._language = language
        self._lock = asyncio.Lock()
        self._board = NOTHING
        self._rendered_at = self._looked_at = float("-inf")
        self._stored = -1
        self._last: Sequence[CallRecord] | None = ()
        self._pen = Pen(language)
        self._news: dict[Board, bytes] = {}          # by what was seen before
        self._targets: tuple[Directory | None, tuple[tuple[str, str], ...]] = (None, ())

    async def current(self) -> Board:
        loop = asyncio.get_running_loop()
        self.asked_at = loop.time()
        async with self._lock:
            if loop.time() - self._rendered_at >= EVERY:
                await self._look_into_the_books(loop.time())
                board = await self._render()
                if changes := board.changes(self._board):
                    self._news = {self._board: _encoded(changes)}
                    self._board = board
                self._rendered_at = loop.time()
            return self._board

    def news(self, seen: Board) -> bytes:
        """As JSON, what `current` has that `seen` had not; b"": nothing. All who have seen the same get the same."""
        if seen is self._board:
            return b""
        if seen not in self._news:
            self._news[seen] = _encoded(self._board.changes(seen))
        return self._news[seen]

    async def _look_into_the_books(self, now: float) -> None:
        stored, since = self._store.calls.stored, now - self._looked_at
        if since >= LAST_CALLS_AGAIN or (stored != self._stored and since >= LAST_CALLS_EVERY):
            try:
                self._last = await self._store.calls.last_calls(LAST_CALLS, self._client)
            except StoreUnavailable:
                self._last = None
            self._stored, self._looked_at = stored, now

    async def _render(self) -> Board:
        pen, control, directory = self._pen, self._control, self._directory()
        glance, now = control.glance(self._client, MOST), datetime.now(UTC)
        everywhere = self._client is None
        several = everywhere and len(directory.clients) > 1
        await pen.begin()
        counts = {"calls": glance.all_calls, "extensions": glance.all_extensions, "trunks": glance.all_trunks}
        parts = {f"{name}-count": str(count) for name, count in counts.items()}
        reasons = tuple(not_ready(control, self._store))
        alarms = tuple(control.alarms()[:MOST]) if everywhere else ()
        parts["notices"] = await pen.write("live/notices.html", "", reasons=reasons, alarms=alarms)
        parts["targets"] = await pen.write("live/targets.html", "", targets=self._targets_of(directory))
        lists: dict[str, dict[str, str]] = {
            "calls": {call.id: await pen.write("live/call.html", call.id, call=replace(call, quality=None),
                                               audio=audio_of(call, now), several=several, token=TOKEN)
                      for call in glance.calls},
            "extensions": {key: await pen.write("live/extension.html", key, extension=one, several=several)
                           for one in glance.extensions for key in [f"{one.client}-{one.number}"]},
            "trunks": {key: await pen.write("live/trunk.html", key, several=several,
                                            trunk=replace(one, detail=_COUNTDOWN.sub("", one.detail)))
                       for one in glance.trunks for key in [f"{one.client}-{one.name}"]},
            "last": {call.id: await pen.write("live/last.html", call.id, record=call, several=several)
                     for call in self._last or ()},
        }
        if everywhere:
            lists["strangers"] = {call.source: await pen.write("live/stranger.html", call.source, call=call)
                                  for call in control.turned_away()}
            parts["strangers-heading"] = await pen.write("live/strangers.html", "", count=len(lists["strangers"]))
        for name, rows in lists.items():
            rows |= await self._besides(name, rows, counts.get(name, 0))
        title = await pen.write("live/title.html", "", count=glance.all_calls)
        pen.end()
        return Board(title, parts, lists)

    def _targets_of(self, directory: Directory) -> tuple[tuple[str, str], ...]:
        """What a call of this office can be transferred to; of all offices together that would say nothing."""
        if self._client is not None and self._targets[0] is not directory:
            self._targets = directory, targets_of(directory, self._client)
        return self._targets[1]

    async def _besides(self, name: str, rows: Pieces, count: int) -> dict[str, str]:
        """What stands at the end of a list: that there is nothing, or how many more there are."""
        if name == "strangers" or (rows and count <= len(rows)):
            return {}
        return {"besides": await self._pen.write("live/besides.html", name, name=name, more=count - len(rows),
                                                 client=self._client, away=self._last is None)}


class Pen:
    """Writes pieces by their templates, those that stay as they are only once."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._written: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}
        self._before = self._written
        self._turn_began = 0.0

    async def begin(self) -> None:
        self._before, self._written = self._written, {}
        await self._let_others()

    def end(self) -> None:
        """What was not needed any more is forgotten."""
        self._before = self._written

    async def write(self, template: str, key: str, **values: Any) -> str:
        place = template, key
        known = self._before.get(place)
        if known is None or known[0] != values:
            known = values, fragment(template, language=self._language, **values)
            if time.perf_counter() - self._turn_began >= TURN:     # a loop's own time may stand still within a turn
                await self._let_others()
        self._written[place] = known
        return known[1]

    async def _let_others(self) -> None:
        await asyncio.sleep(0)
        self._turn_began = time.perf_counter()


def _encoded(changes: dict[str, Any]) -> bytes:
    return json.dumps(changes, ensure_ascii=False).encode()


Audio = tuple[str, tuple[tuple[str, Heard | None], ...]]


def audio_of(call: LiveCall, now: datetime) -> Audio | None:
    """The worse of the two verdicts, and what is wrong with whom: `None`, nothing comes of that side. Rounded, as a
    row that says another thing each second says nothing."""
    if call.quality is None or call.answered_at is None:
        return None
    talks_long = now - call.answered_at >= SILENT_AFTER
    wrong: list[tuple[str, Heard | None]] = []
    for side, heard in (("caller", call.quality.caller), ("callee", call.quality.callee)):
        if heard is None and talks_long and not call.on_hold:
            wrong.append((side, None))
        elif heard is not None and heard.verdict != "good":
            wrong.append((side, replace(heard, lost=round(heard.lost), jitter_ms=round(heard.jitter_ms, -1))))
    verdicts = {heard.verdict if heard is not None else "poor" for _, heard in wrong}
    return next((word for word in ("poor", "fair") if word in verdicts), "good"), tuple(wrong)


def targets_of(directory: Directory, client: ClientId) -> tuple[tuple[str, str], ...]:
    extensions = ((one.number, one.name) for one in directory.extensions_of.get(client, ()))
    groups = ((one.number, one.name) for one in directory.groups if one.client == client)
    return (*extensions, *groups)[:MOST_TARGETS]
