"""What the dashboard shows, rendered at most once a second however many look at it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from b2bua.cdr import CallRecord
from b2bua.control import Control
from b2bua.links import RecordingLinks
from b2bua.store.engine import StoreUnavailable
from b2bua.store.recordings import Recording, RecordingStage
from b2bua.store.store import Store
from web.health import not_ready
from web.pages import fragment

EVERY = 1.0                            # seconds between two renderings
HISTORY_EVERY = 30.0                   # seconds; other processes and a spill file put calls into the database too
FINISHED_WITHIN = timedelta(minutes=2) # of the call's end, a recording is looked for at each rendering
LAST_CALLS = 50
MOST_LIVE = 100                        # calls, trunks, phones shown each; the rest is a number

_COUNTDOWN = re.compile(r" for \d+ s$")


@dataclass(frozen=True, slots=True)
class PastCall:
    """A row of the history."""

    record: CallRecord
    recording: Recording | None
    link: str

    @property
    def key(self) -> str:
        """Another key means that there is something else to see."""
        heard = "" if self.recording is None else "gone" if self.recording.revoked else self.recording.stage.value
        return f"{self.record.id}-{heard}"


@dataclass(frozen=True, slots=True)
class Board:
    """Two parts, as HTML; `title` is for the window."""

    title: str = ""
    live: str = ""
    history: str = ""


class Boards:
    def __init__(self, control: Control, store: Store, links: RecordingLinks) -> None:
        self._control = control
        self._store = store
        self._links = links
        self._lock = asyncio.Lock()
        self._board = Board()
        self._rendered_at = self._asked_at = float("-inf")
        self._shown: object = None
        self._stored = -1
        self._calls: Sequence[CallRecord] = ()
        self._recordings: dict[str, Recording | None] = {}
        self._listed: list[str] | None = None

    async def current(self) -> Board:
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._rendered_at >= EVERY:
                history = await self._history(now)
                self._board = Board(self._title(), self._live(), history)
                self._rendered_at = now
            return self._board

    def _title(self) -> str:
        calls = len(self._control.live_calls())
        return f"{calls} call{'' if calls == 1 else 's'}" if calls else "Calls"

    def _live(self) -> str:
        """The last one again when nothing is new: what only counts down is no news."""
        calls, reasons = self._control.live_calls(), not_ready(self._control, self._store)
        trunks = [replace(trunk, detail=_COUNTDOWN.sub("", trunk.detail)) for trunk in self._control.trunk_states()]
        phones = [replace(phone, expires_in=0) for phone in self._control.registered_phones()]
        alarms, strangers = list(self._control.alarms()), self._control.turned_away()
        shown = tuple(calls), trunks, phones, reasons, alarms, strangers
        if shown == self._shown:
            return self._board.live
        self._shown = shown
        clients = {one.client for some in (calls, trunks, phones) for one in some}
        return fragment("live.html", calls=calls[:MOST_LIVE], trunks=trunks[:MOST_LIVE], phones=phones[:MOST_LIVE],
                        counts={"calls": len(calls), "trunks": len(trunks), "phones": len(phones),
                                "up": sum(trunk.up for trunk in trunks)},
                        strangers=strangers, reasons=reasons, alarms=alarms[:MOST_LIVE],
                        several_clients=len(clients) > 1, now=datetime.now(UTC))

    async def _history(self, now: float) -> str:
        try:
            await self._look_into_the_books(now)
        except StoreUnavailable:
            return self._board.history or fragment("history.html", calls=[], several_clients=False, away=True)
        calls = [self._past(record) for record in self._calls]
        listed = [call.key for call in calls]
        if listed == self._listed:
            return self._board.history
        self._listed = listed
        several = len({call.record.client for call in calls}) > 1
        return fragment("history.html", calls=calls, several_clients=several, away=False)

    async def _look_into_the_books(self, now: float) -> None:
        stored = self._store.calls.stored
        if stored != self._stored or now - self._asked_at >= HISTORY_EVERY:
            self._calls = await self._store.calls.last_calls(LAST_CALLS)
            self._stored, self._asked_at = stored, now
            self._recordings = {id_: known for id_, known in self._recordings.items() if _stays(known)}
        for record in self._calls:
            if record.recording and self._is_news(record, record.recording):
                self._recordings[record.recording] = await self._store.recordings.get(record.recording)

    def _is_news(self, record: CallRecord, recording: str) -> bool:
        """Not asked for yet, or on its way to be finished."""
        if recording not in self._recordings:
            return True
        return not _stays(self._recordings[recording]) and datetime.now(UTC) - record.ended_at < FINISHED_WITHIN

    def _past(self, record: CallRecord) -> PastCall:
        recording = self._recordings.get(record.recording) if record.recording else None
        return PastCall(record, recording, self._links.path(recording.id) if recording else "")


def _stays(recording: Recording | None) -> bool:
    """Withdrawn ones may be given back, and what is missing may come: they are asked for again now and then."""
    return recording is not None and recording.stage is not RecordingStage.RECORDING and not recording.revoked
