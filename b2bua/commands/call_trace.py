"""One call's ladder for the command line: of a call in progress asked of the daemon, of a past one read from the
database; with its recording and what its CRM was told, as far as the database knows them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from b2bua.calls.ladder import (
    Line,
    Messages,
    UnreadableLadder,
    from_plain,
    no_messages,
    printable,
    seconds_after,
    story,
    unpack,
)
from b2bua.cdr import CallId, CallRecord
from b2bua.commands.call_lists import as_plain
from b2bua.commands.daemon_link import DaemonRefused, DaemonUnreachable, ask_daemon
from b2bua.commands.outbox_list import UNREADABLE, span, what_of
from b2bua.commands.terminal import is_there
from b2bua.config import Settings
from b2bua.control import MOST_NAMED
from b2bua.crm.writes import UnreadableWrite, from_json
from b2bua.store.call_traces import SINCE
from b2bua.store.deliveries import OwedState
from b2bua.store.engine import StoreUnavailable
from b2bua.store.migrate import pending
from b2bua.store.outbox import Owed
from b2bua.store.recordings import Recording, RecordingStage
from b2bua.store.rows import call_record, from_line
from b2bua.store.store import Store, open_store


@dataclass(frozen=True, slots=True)
class Live:
    """What the daemon says."""

    calls: Sequence[CallId] = ()       # that are up, or have just ended, and begin so
    record: CallRecord | None = None   # of the one
    is_over: bool = False
    messages: Messages | None = None
    problem: str = ""                  # why it could not be asked


@dataclass(frozen=True, slots=True)
class Told:
    """One call."""

    record: CallRecord
    is_over: bool
    lines: Sequence[Line]
    notes: Sequence[str] = ()          # why something is missing


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Not one call: none, or several."""

    calls: Sequence[CallId]
    problem: str = ""                  # why the daemon was not asked

    def in_words(self, beginning: str) -> Iterator[str]:
        if self.calls:
            yield f"several calls begin with {printable(beginning)}: name one of them"
            yield from self.calls[:MOST_NAMED]
            if len(self.calls) > MOST_NAMED:
                yield "and more"
            return
        yield f"no call begins with {printable(beginning)}; smartswitch calls --json shows the last ones"
        if self.problem:
            yield f"of calls in progress nothing is known: {self.problem}"


@dataclass(slots=True)
class _Found:
    """What the database knows of a call."""

    record: CallRecord | None = None
    messages: Messages | None = None
    recordings: Sequence[Recording] = ()
    owed: Sequence[Owed] = ()
    notes: list[str] = field(default_factory=list)


async def trace(settings: Settings, beginning: str) -> Told | Ambiguous:
    """The call of that id, or the one whose id begins so. Raises StoreUnavailable when nobody else knows it."""
    live = await _live(settings, beginning)
    try:
        if not await is_there(settings):
            return _told(live, _Found())
        async with open_store(settings.database_url) as store:
            whole = CallId(beginning)
            if whole in live.calls or await store.calls.get(whole) is not None:
                calls = [whole]
            else:
                calls = sorted({*live.calls, *await store.calls.beginning_with(beginning, MOST_NAMED + 1)})
            if len(calls) != 1:
                return Ambiguous(calls, live.problem)
            if live.record is not None and live.record.id != calls[0]:
                live = Live(live.calls, problem=live.problem)
            has_traces = ((await pending(settings.database_url))[0] or "") >= SINCE
            return _told(live, await _found(store, calls[0], live, has_traces=has_traces))
    except StoreUnavailable as error:
        if live.record is None:
            raise
        return _told(live, _Found(notes=[f"the database does not say what else it knows: {error}"]))


async def _live(settings: Settings, beginning: str) -> Live:
    try:
        answer = ask_daemon(settings, "GET", f"/api/trace/{quote(beginning, safe='')}")
        traced = answer["traced"]
        calls = [CallId(str(call)) for call in answer["calls"]]
        if traced is None:
            return Live(calls)
        row, _ = from_line(json.dumps({"call": traced["record"], "writes": []}))
        messages = None if traced["messages"] is None else from_plain(traced["messages"])
        return Live(calls, call_record(row), traced["is_over"], messages)
    except (DaemonUnreachable, DaemonRefused) as error:      # refused: by one of an earlier version
        return Live(problem=str(error))
    except (KeyError, TypeError, ValueError) as error:
        return Live(problem=f"the daemon is of another version: {error}")


async def _found(store: Store, call: CallId, live: Live, *, has_traces: bool) -> _Found:
    found = _Found(await store.calls.get(call))
    record = live.record or found.record
    if record is None:                     # it ended, and went into the books, between two questions
        return found
    found.recordings = await store.recordings.find(call)
    found.owed = await store.outbox.of_call(record.client, call)
    if live.messages is not None:
        return found
    if not has_traces:
        found.notes.append("its messages are not known: the database is of an earlier version (smartswitch migrate)")
        return found
    packed = await store.call_traces.get(call)
    try:
        found.messages = unpack(packed) if packed is not None else None
    except UnreadableLadder as error:
        found.notes.append(f"its messages are not readable: {error}")
    return found


def _told(live: Live, found: _Found) -> Told | Ambiguous:
    record = live.record or found.record
    if record is None:
        return Ambiguous(live.calls, live.problem)
    is_live = record is live.record
    is_over = live.is_over if is_live else True
    messages = live.messages if is_live and live.messages is not None else found.messages
    notes = list(found.notes)
    if messages is None and not notes:
        notes.append(no_messages(record) if is_over else "its messages are not known: log.call_trace_days is 0")
    more = [*_of_recordings(found.recordings), *_of_crm(record, found.owed)]
    return Told(record, is_over, story(record, messages, more, is_over=is_over), notes)


def _of_recordings(recordings: Sequence[Recording]) -> Iterator[Line]:
    for one in recordings:
        match one.stage:
            case RecordingStage.READY:
                state = f"ready, {one.seconds:.1f} s, {one.size} bytes" + (", withdrawn" if one.revoked else "")
            case RecordingStage.FAILED:
                state = f"failed: {one.problem}"
            case RecordingStage.RECORDING:
                state = "not ready yet"
        yield Line(None, "recording", printable(f"recording {one.id}: {state}"))


def _of_crm(record: CallRecord, owed: Sequence[Owed]) -> Iterator[Line]:
    now = datetime.now(UTC)
    for row in owed:
        tries = f"{row.attempts} {'try' if row.attempts == 1 else 'tries'}"
        said = f": {row.said}" if row.said else ""
        match row.state:
            case OwedState.DELIVERED:
                on = f", on {row.card}" if row.card else ""
                state = f"delivered ({tries}{on}){said}"
            case OwedState.WAITING:
                due = "due now" if row.due_at <= now else f"next in {span((row.due_at - now).total_seconds())}"
                state = f"waits, {due} ({tries}){said}"
            case OwedState.ASIDE:
                state = f"set aside, for a person to resend or drop ({tries}){said}"
            case OwedState.DROPPED:
                state = f"dropped{said}"
        after = seconds_after(record, row.ended_at) if row.ended_at is not None else None
        yield Line(after, "crm", printable(f"outbox {row.id}, {_what(row)}: {state}"))


def _what(row: Owed) -> str:
    try:
        write = from_json(row.payload)
    except UnreadableWrite:
        return UNREADABLE
    return f"{what_of(write)} {write.phone}"


def plain(told: Told) -> dict[str, Any]:
    """For JSON."""
    lines = [{"after": line.after, "kind": line.kind, "text": line.text} for line in told.lines]
    return {"call": as_plain(told.record), "is_over": told.is_over, "lines": lines, "notes": list(told.notes)}
