"""The outbox for people: what waits for a CRM and why, what was set aside, and what a person decides on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from urllib.parse import quote, urlencode

import structlog
from starlette.responses import Response

from b2bua.cdr import CallId, ClientId
from b2bua.crm.outbox import LEASE
from b2bua.crm.user_keeper import UserKeeper
from b2bua.crm.writes import UnreadableWrite, from_json, name_of
from b2bua.directory import Directory
from b2bua.store.call_terms import microseconds, moment_of
from b2bua.store.deliveries import OwedState
from b2bua.store.outbox import Owed, Place, dropped_by
from b2bua.store.rows import storable
from b2bua.store.store import Store
from web.problems import nothing_here
from web.visits import Visit

PAGE = 50
COUNTED = 1_000                        # more are "more than 1,000"
DECIDED_AT_ONCE = 1_000                # rows by one click
IN_ONE_TRANSACTION = 100
SHOWN = 10                             # of them, before the decision
LONGEST_REASON = 500                   # characters
LONGEST_CLIENT = 100

STATES = {"aside": OwedState.ASIDE, "waiting": OwedState.WAITING}
_PLACE = re.compile(r"(\d{1,17})\.(\d{1,18})\.(.{1,100})", re.ASCII)
_ROW = re.compile(r"\d{1,18}", re.ASCII)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row as a page shows it."""

    owed: Owed
    what: str                          # name_of the write; "": this version cannot read it
    phone: str
    call: CallId | None
    started_at: datetime | None        # of the call
    card: str                          # where it was done in the CRM, as an address; "": not known


@dataclass(frozen=True, slots=True)
class Which:
    """What a decision is about: one row, or all of a list, as far as one click goes."""

    state: OwedState
    rows: Sequence[int]
    shown: Sequence[Owed]              # the first of them
    query: Mapping[str, str]           # says it again
    path: str                          # whence it was asked, and whither to go back ...
    filter: Mapping[str, str]          # ... with this query

    @property
    def back(self) -> str:
        return f"{self.path}?{urlencode(self.filter)}" if self.filter else self.path


class OutboxPage:
    def __init__(self, store: Store, users: UserKeeper, moved_to: Callable[[ClientId], str]) -> None:
        self._rows = store.outbox
        self._users = users
        self._moved_to = moved_to

    async def show(self, visit: Visit) -> Response:
        query = visit.request.query_params
        client = _client(visit, query)
        counts = {name: await self._rows.counted(state, client, COUNTED + 1) for name, state in STATES.items()}
        asked = query.get("state", "")
        name = asked if asked in STATES else "aside" if counts["aside"] else "waiting"
        rows = await self._rows.page_of(STATES[name], client, PAGE + 1, _place(query.get("after", "")))
        page = shown_rows(rows[:PAGE], self._users.directory, self._moved_to)
        filtered = {"state": name, **({"client": client} if client is not None and visit.client is None else {})}
        more = urlencode({**filtered, "after": _token(rows[PAGE - 1].place)}) if len(rows) > PAGE else ""
        groups = [(whose, list(some)) for whose, some in groupby(page, key=lambda row: row.owed.client)]
        directory = self._users.directory
        offices = sorted(directory.clients, key=lambda one: one.name) if visit.client is None else []
        return await visit.page(
            "outbox.html", state=name, client=client, clients=offices, groups=groups, counts=counts, counted=COUNTED,
            more=more, is_first=not query.get("after"), filter=urlencode(filtered),
            names={one.id: one.name for one in directory.clients}, now=datetime.now(UTC))

    async def ask_resend(self, visit: Visit) -> Response:
        return await self._ask(visit, "resend")

    async def ask_drop(self, visit: Visit) -> Response:
        return await self._ask(visit, "drop")

    async def resend(self, visit: Visit) -> Response:
        form = await visit.form()
        which, now = await self._which(visit, form), datetime.now(UTC)
        count = 0
        for some in _batches(which.rows):
            if which.state is OwedState.ASIDE:
                count += await self._rows.resend(some, now, visit.client)
            else:
                count += await self._rows.hasten_rows(some, now, now + LEASE, visit.client)
        log.info("CRM writes sent again", who=visit.who, rows=count, of=len(which.rows))
        return visit.redirect(which.path, "outbox-resent" if count else "outbox-unchanged", **which.filter)

    async def drop(self, visit: Visit) -> Response:
        form = await visit.form()
        which, now = await self._which(visit, form), datetime.now(UTC)
        reason = storable(form.get("why", "").strip(), LONGEST_REASON)
        if not reason:
            return await self._confirm(visit, "drop", which, 422, visit.say("Say why: it stays with what is dropped."))
        count = sum([await self._rows.drop(some, dropped_by(visit.who, now, reason), now, visit.client, now + LEASE)
                     for some in _batches(which.rows)])
        log.info("CRM writes dropped", who=visit.who, rows=count, of=len(which.rows), why=reason)
        return visit.redirect(which.path, "outbox-dropped" if count else "outbox-unchanged", **which.filter)

    async def _ask(self, visit: Visit, word: str) -> Response:
        return await self._confirm(visit, word, await self._which(visit, visit.request.query_params))

    async def _confirm(self, visit: Visit, word: str, which: Which, status: int = 200, complaint: str = "") -> Response:
        shown = shown_rows(which.shown, self._users.directory, self._moved_to)
        return await visit.page("outbox_confirm.html", status, word=word, rows=shown, count=len(which.rows),
                                most=DECIDED_AT_ONCE, query=which.query, back=which.back, complaint=complaint)

    async def _which(self, visit: Visit, given: Mapping[str, str]) -> Which:
        """Raises Problem."""
        if "row" in given:
            return await self._one(visit, given["row"], given.get("to") == "call")
        name = given.get("state", "")
        if name not in STATES:
            raise nothing_here()
        client = _client(visit, given)
        query = {"state": name, **({"client": client} if client is not None else {})}
        rows = await self._rows.ids_of(STATES[name], client, DECIDED_AT_ONCE)
        shown = await self._rows.page_of(STATES[name], client, SHOWN)
        return Which(STATES[name], rows, shown, query, "/outbox", query)

    async def _one(self, visit: Visit, row: str, is_of_call: bool) -> Which:
        owed = await self._rows.get(int(row)) if _ROW.fullmatch(row) else None
        if owed is None:
            raise nothing_here()
        visit.demand(owed.client)
        shown = shown_row(owed, Directory(), self._moved_to)
        if is_of_call and shown.call is not None:
            query, path = {"row": row, "to": "call"}, f"/calls/{quote(shown.call, safe='')}"
        else:
            query, path = {"row": row}, "/outbox"
        is_open = owed.state in STATES.values()
        return Which(owed.state, [owed.id] if is_open else [], [owed] if is_open else [], query, path, {})


def _batches(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    """A transaction for each, so that neither the loop nor the calls' records wait long."""
    return (rows[first:first + IN_ONE_TRANSACTION] for first in range(0, len(rows), IN_ONE_TRANSACTION))


def shown_rows(rows: Sequence[Owed], directory: Directory, moved_to: Callable[[ClientId], str]) -> list[ShownRow]:
    """`moved_to`: the address of an account that is not where the directory has it, else ""."""
    return [shown_row(row, directory, moved_to) for row in rows]


def shown_row(owed: Owed, directory: Directory, moved_to: Callable[[ClientId], str]) -> ShownRow:
    try:
        write = from_json(owed.payload)
    except UnreadableWrite:
        return ShownRow(owed, "", "", None, None, "")
    card = _address(owed, directory, moved_to)
    return ShownRow(owed, name_of(write), write.phone, write.call, write.started_at, card)


def _address(owed: Owed, directory: Directory, moved_to: Callable[[ClientId], str]) -> str:
    """The card's page in amoCRM."""
    client = directory.client.get(owed.client)
    entity, _, number = owed.card.partition("/")
    if client is None or client.crm is None or not number:
        return ""
    return f"{(moved_to(owed.client) or client.crm.base_url).rstrip('/')}/{entity}/detail/{number}"


def _client(visit: Visit, given: Mapping[str, str]) -> ClientId | None:
    if visit.client is not None:
        return visit.client
    asked = storable(given.get("client", ""), LONGEST_CLIENT)
    return ClientId(asked) if asked else None


def _token(place: Place) -> str:
    return f"{microseconds(place.due_at)}.{place.row}.{place.client}"


def _place(token: str) -> Place | None:
    if (match := _PLACE.fullmatch(token)) is None:
        return None
    return Place(ClientId(storable(match[3])), moment_of(int(match[1])), int(match[2]))
