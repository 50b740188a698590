"""The history: finished calls by number, person, name, result and time, the newest first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from starlette.responses import Response

from b2bua.cdr import UNTAKEN, CallId, CallRecord, ClientId, Direction, Disposition
from b2bua.crm.user_keeper import UserKeeper
from b2bua.directory import Client, Directory
from b2bua.links import RecordingLinks
from b2bua.numbers import digits_of, last_digits, normalise
from b2bua.store.call_search import COUNTED, CallFilter, Position
from b2bua.store.call_terms import NAME_LETTERS, folded, microseconds, moment_of
from b2bua.store.recordings import Recording
from b2bua.store.rows import storable
from b2bua.store.store import Store
from web.visits import Visit

PAGE = 50
LONGEST_TYPED = 100                    # characters of a field
FIELDS = ("number", "name", "person", "direction", "result", "recording", "client", "since", "until", "zone")
_TOKEN = re.compile(r"(\d{1,17})-([0-9A-Za-z-]{0,64})", re.ASCII)
MISSED = "missed"                      # a result of its own: an incoming call that nobody of ours took


@dataclass(frozen=True, slots=True)
class Asked:
    """The form as it was filled in, and what it means."""

    given: Mapping[str, str]
    wanted: CallFilter
    complaints: Mapping[str, str]      # by field


@dataclass(frozen=True, slots=True)
class Person:
    value: str
    name: str


@dataclass(frozen=True, slots=True)
class PastCall:
    """A row of the history."""

    record: CallRecord
    recording: Recording | None
    link: str                          # of the recording; "": there is none


class History:
    def __init__(self, store: Store, links: RecordingLinks, users: UserKeeper) -> None:
        self._store = store
        self._links = links
        self._users = users

    async def show(self, visit: Visit) -> Response:
        query = visit.request.query_params
        asked = _asked(visit, self._users.directory)
        values: dict[str, Any] = {"given": asked.given, "complaints": asked.complaints, **self._choices(visit, asked)}
        if asked.complaints:
            return await visit.page("calls.html", 422, calls=[], found=None, older="", newest="", **values)
        before = _position(query.get("before", ""))
        found = await self._store.history.search(asked.wanted, PAGE, before, counted=before is None)
        past = await past_calls(self._store, self._links, found.calls)
        given = {name: value for name, value in asked.given.items() if value}
        older = urlencode({**given, "before": _token(found.older)}) if found.older is not None else ""
        newest = f"/calls?{urlencode(given)}" if before is not None else ""
        return await visit.page("calls.html", calls=past, found=found, older=older, newest=newest, **values)

    def _choices(self, visit: Visit, asked: Asked) -> Mapping[str, Any]:
        directory = self._users.directory
        offices = sorted(directory.clients, key=lambda client: client.name) if visit.client is None else []
        return {"clients": offices, "several_clients": asked.wanted.client is None, "counted": COUNTED,
                "extensions": _extensions(directory, asked), "crm_users": self._crm_users(directory, asked),
                "dispositions": [disposition.value for disposition in Disposition],
                "is_filtered": any(asked.given[name] for name in FIELDS if name not in ("zone", "client"))}

    def _crm_users(self, directory: Directory, asked: Asked) -> Sequence[Person]:
        client = directory.client.get(asked.wanted.client) if asked.wanted.client is not None else None
        users = self._users.listing(client.id).users if client is not None and client.crm is not None else ()
        return _with_asked([Person(f"u{user.id}", user.name or str(user.id)) for user in users], "u", asked)


async def past_calls(store: Store, links: RecordingLinks, calls: Sequence[CallRecord]) -> list[PastCall]:
    recordings = await store.recordings.those([call.recording for call in calls if call.recording is not None])
    return [PastCall(call, recording := recordings.get(call.recording or ""),
                     links.path(recording.id) if recording is not None else "") for call in calls]


def _extensions(directory: Directory, asked: Asked) -> Sequence[Person]:
    of_client = [Person(f"e{one.number}", f"{one.number} {one.name}".strip()) for one in directory.extensions
                 if one.client == asked.wanted.client]
    return _with_asked(sorted(of_client, key=lambda one: one.value), "e", asked)


def _with_asked(known: Sequence[Person], kind: str, asked: Asked) -> Sequence[Person]:
    """With whom was asked for, who may have left since."""
    person = asked.given["person"]
    if not person.startswith(kind) or any(one.value == person for one in known):
        return known
    return [*known, Person(person, person[1:])]


# -- what was asked for


def _asked(visit: Visit, directory: Directory) -> Asked:
    query = visit.request.query_params
    given = {name: storable(query.get(name, "").strip(), LONGEST_TYPED) for name in FIELDS}
    complaints: dict[str, str] = {}
    whose = visit.client or (ClientId(given["client"]) if given["client"] else None)
    digits = _digits(given["number"], directory.client.get(whose) if whose is not None else None)
    if given["number"] and not digits:
        complaints["number"] = visit.say("There is no digit in it. Type a number, or its last four digits.")
    if given["name"] and max(map(len, folded(given["name"])), default=0) < NAME_LETTERS:
        complaints["name"] = visit.say("Type at least two letters of a name.")
    zone = _zone(given["zone"])
    since, until = _day(given["since"], zone), _day(given["until"], zone)
    for name, day in (("since", since), ("until", until)):
        if given[name] and day is None:
            complaints[name] = visit.say("This is no day. Write it as 2026-03-31.")
    extension, crm_user = _person(given["person"])
    directions, dispositions = _result(given["direction"], given["result"])
    recorded = {"with": True, "without": False}.get(given["recording"])
    return Asked(given, CallFilter(
        whose, digits, extension, crm_user, given["name"], directions, dispositions, recorded, since,
        until + timedelta(days=1) if until is not None else None), complaints)


def _digits(number: str, client: Client | None) -> str:
    """Without a client nobody knows how national numbers are read: their last ten digits are the same everywhere."""
    return digits_of(normalise(number, client.country)) if client is not None else last_digits(number)


def _person(value: str) -> tuple[str, int | None]:
    if value.startswith("u") and value[1:].isascii() and value[1:].isdecimal() and len(value) < 18:
        return "", int(value[1:])
    return value[1:] if value.startswith("e") else "", None


def _result(direction: str, result: str) -> tuple[frozenset[Direction], frozenset[Disposition]]:
    directions = frozenset(one for one in Direction if one.value == direction)
    if result == MISSED:
        return (directions or frozenset({Direction.INBOUND})), UNTAKEN
    return directions, frozenset(one for one in Disposition if one.value == result)


def _zone(name: str) -> tzinfo:
    """As the browser says; UTC where it does not."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ValueError, OSError, LookupError):
        return UTC


def _day(text: str, zone: tzinfo) -> datetime | None:
    """When it begins; None: that is no day."""
    try:
        return datetime.combine(date.fromisoformat(text), time(), zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# -- pages


def _token(position: Position) -> str:
    return f"{microseconds(position.started_at)}-{position.call}"


def _position(token: str) -> Position | None:
    """None: the first page, for what is no token of ours as well."""
    if (match := _TOKEN.fullmatch(token)) is None:
        return None
    return Position(moment_of(int(match[1])), CallId(match[2]))
