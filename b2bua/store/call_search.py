"""Finished calls that fit what a person asks for, the newest first, however many there are beside them.

A search goes along runs: stretches of an index in which the calls are in the order of their time already. Of one word
(see call_terms.py) there is a run for each client; where none was asked for there is one of all calls, or, where the
result matters, one for each kind of call. What else was asked for is checked on the way. That way has an end: a word
that is everywhere, with another that is hardly anywhere, would be a walk through all the years."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    exists,
    func,
    literal,
    literal_column,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from b2bua.cdr import CallId, CallRecord, ClientId, Direction, Disposition
from b2bua.store.call_terms import (
    NAME_LETTERS,
    NUMBER_DIGITS,
    backwards,
    crm_user_term,
    extension_term,
    folded,
    kinds,
    microseconds,
    moment_of,
    name_term,
    number_term,
)
from b2bua.store.engine import Database, whole
from b2bua.store.rows import call_record
from b2bua.store.schema import Instant, call_terms, calls

COUNTED = 1_000                        # more are "more than 1,000"
NEAR = 5_000                           # entries of a run that are looked at before any further ones
LOOKED_AT = 200_000                    # in one search, where each entry has all that was asked for
LOOKED_UP = 20_000                     # the same where each has to be looked up elsewhere
MOST_CLIENTS = 1_000                   # whose calls one search goes through
SEARCHES_AT_ONCE = 2                   # so that what the pages ask leaves the database to the others
STATEMENT_SECONDS = 3                  # PostgreSQL: a backstop

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CallFilter:
    """All of it must fit; nothing given is no restriction."""

    client: ClientId | None = None
    number: str = ""                   # of caller or dialled: its last digits; if they are fewer than four, all of them
    extension: str = ""                # whose call it was: see people_of
    crm_user: int | None = None
    name: str = ""                     # each of its words begins one of the contact's
    directions: frozenset[Direction] = frozenset()
    dispositions: frozenset[Disposition] = frozenset()
    recorded: bool | None = None
    since: datetime | None = None      # of their start
    until: datetime | None = None      # before this


@dataclass(frozen=True, slots=True)
class Position:
    """Of a call among the others; older ones come after it."""

    started_at: datetime
    call: CallId


@dataclass(frozen=True, slots=True)
class Count:
    calls: int                         # more than COUNTED: that many, or more
    is_all: bool                       # older ones were looked at, too


@dataclass(frozen=True, slots=True)
class Found:
    calls: list[CallRecord]
    older: Position | None             # where to go on; None: that was all
    looked_back_to: datetime | None    # the search was given up there: what is older was not looked at
    count: Count | None                # of the whole; None: not asked for

    @property
    def is_settled(self) -> bool:
        """A look further back would say nothing else."""
        if self.looked_back_to is not None:
            return False
        return self.count is None or self.count.is_all or self.count.calls > COUNTED


@dataclass(frozen=True, slots=True)
class _Word:
    """One thing that was asked for and that has a bucket of its own."""

    term: str
    beginnings: tuple[str, ...] = ()   # each begins one of the words of the entry ...
    is_whole: bool = False             # ... or is one


Runs = Sequence[Mapping[str, Any]]     # the parameters of each


class CallSearch:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = asyncio.Semaphore(SEARCHES_AT_ONCE)

    @whole
    async def search(self, wanted: CallFilter, limit: int, before: Position | None = None, *,
                     counted: bool = False) -> Found:
        """The newest that fit, of those before `before`."""
        of_kinds = kinds(wanted.directions, wanted.dispositions, wanted.recorded)
        words = _words(wanted)
        if words is None or not of_kinds:
            return Found([], None, None, Count(0, True) if counted else None)
        span = _span(wanted, before)
        async with self._turns, self._database.reading() as connection:
            if not self._database.is_sqlite:
                await connection.execute(_for_this_search)
            if not words:
                return await _along(connection, _by_kind(of_kinds, wanted, span), limit, counted)
            way, furthest = await _by_word(connection, words, of_kinds, wanted.client, span)
            near = await _along(connection, await _as_far_as(connection, way, NEAR), limit, counted)
            if near.is_settled:
                return near
            return await _along(connection, await _as_far_as(connection, way, furthest), limit, counted)


@dataclass(frozen=True, slots=True)
class _Way:
    """Runs to go along, and the statement that gives the next entries of one: (moment, call), the newest first."""

    entries: Select[Any]
    runs: Runs
    is_time: bool                      # moments are datetimes, not microseconds
    given_up_at: Any = None            # a moment: what is older is not looked at


async def _along(connection: AsyncConnection, way: _Way, limit: int, counted: bool) -> Found:
    newest = way.entries.limit(limit + 1)
    keys = [tuple(row) for run in way.runs for row in await connection.execute(newest, run)]
    page = sorted(keys, reverse=True)[:limit]
    is_more = len(keys) > limit
    count = None
    if counted:
        count = (Count(await _count(connection, way), way.given_up_at is None) if is_more else
                 Count(len(page), way.given_up_at is None))
    found = await _read(connection, [call for _, call in page])
    looked_back_to = None if is_more or way.given_up_at is None else _moment(way, way.given_up_at)
    older = None
    if is_more:
        older = Position(_moment(way, page[-1][0]), page[-1][1])
    elif looked_back_to is not None:
        older = Position(looked_back_to, CallId(""))
    return Found(found, older, looked_back_to, count)


async def _count(connection: AsyncConnection, way: _Way) -> int:
    total = 0
    counting = select(func.count()).select_from(way.entries.order_by(None).limit(COUNTED + 1).subquery())
    for run in way.runs:
        total += (await connection.execute(counting, run)).scalar_one()
        if total > COUNTED:
            break
    return min(total, COUNTED + 1)


async def _read(connection: AsyncConnection, ids: Sequence[str]) -> list[CallRecord]:
    rows = (await connection.execute(_these, {"ids": ids})).mappings()
    records = {row["id"]: call_record(row) for row in rows}
    return [records[id_] for id_ in ids]


def _moment(way: _Way, moment: Any) -> datetime:
    return moment if way.is_time else moment_of(moment)


# -- where the runs are


@dataclass(frozen=True, slots=True)
class _Span:
    since: datetime
    before: datetime
    before_call: str                   # of those at `before`, the calls before this one


def _span(wanted: CallFilter, before: Position | None) -> _Span:
    until = wanted.until or _LAST
    if before is None or until <= before.started_at:
        return _Span(wanted.since or _FIRST, until, "")
    return _Span(wanted.since or _FIRST, before.started_at, before.call)


# PostgreSQL plans each search for its own words: one plan for any words takes ten times as long for common ones.
_for_this_search = text(f"SELECT set_config('statement_timeout', '{STATEMENT_SECONDS}s', true), "
                        "set_config('plan_cache_mode', 'force_custom_plan', true)")
_these = select(calls).where(calls.c.id.in_(bindparam("ids", expanding=True)))
_before_call = bindparam("before_call", type_=Text)


def _by_kind(of_kinds: Sequence[int], wanted: CallFilter, span: _Span) -> _Way:
    """Runs of `calls` itself: one for each kind, or one of all."""
    entries = select(calls.c.started_at, calls.c.id).where(
        calls.c.started_at >= bindparam("since", type_=Instant),
        tuple_(calls.c.started_at, calls.c.id) < tuple_(bindparam("before", type_=Instant), _before_call),
    ).order_by(calls.c.started_at.desc(), calls.c.id.desc())
    given: dict[str, Any] = {"since": span.since, "before": span.before, "before_call": span.before_call}
    if wanted.client is not None:
        entries = entries.where(calls.c.client == bindparam("of_client"))
        given["of_client"] = wanted.client
    if len(of_kinds) == len(kinds()):
        return _Way(entries, [given], is_time=True)
    return _Way(entries.where(calls.c.kind == bindparam("of_kind")), [{**given, "of_kind": kind} for kind in of_kinds],
                is_time=True)


_in_span = (call_terms.c.term == bindparam("term"), call_terms.c.client == bindparam("of_client"),
            call_terms.c.at >= bindparam("since"),
            tuple_(call_terms.c.at, call_terms.c.call) < tuple_(bindparam("before"), _before_call))
_newest_first = call_terms.c.at.desc(), call_terms.c.call.desc()
_entries_of_word = select(call_terms.c.at, call_terms.c.call).where(*_in_span).order_by(*_newest_first)
_size_of_run = select(func.count()).select_from(
    select(literal_column("1")).where(*_in_span).limit(LOOKED_UP).subquery())
_far_back = (select(call_terms.c.at).where(*_in_span).order_by(*_newest_first)
             .limit(1).offset(bindparam("looked_at", type_=Integer)))

_owner = select(literal("", Text).label("client")).cte("owners", recursive=True)
_next_owner = (select(func.min(call_terms.c.client)).where(call_terms.c.term == bindparam("term"),
                                                           call_terms.c.client > _owner.c.client).scalar_subquery())
_owners = select(_owner.union_all(select(_next_owner).where(_owner.c.client.is_not(None))).c.client).limit(MOST_CLIENTS)


async def _by_word(
    connection: AsyncConnection, words: Sequence[_Word], of_kinds: Sequence[int], client: ClientId | None, span: _Span
) -> tuple[_Way, int]:
    """Runs of the rarest word, the others are looked up for each of its entries; and how many may be looked at."""
    given = {"since": microseconds(span.since), "before": microseconds(span.before), "before_call": span.before_call}
    sized = []
    for word in words:
        runs = [{**given, "term": word.term, "of_client": owner}
                for owner in ([client] if client is not None else await _owners_of(connection, word))]
        size = 0 if len(words) == 1 else sum(
            [(await connection.execute(_size_of_run, run)).scalar_one() for run in runs])
        sized.append((size, word, runs))
    _, rarest, runs = min(sized, key=lambda one: one[0])
    others = [word for word in words if word is not rarest]
    entries = _entries_of_word.where(*_has(call_terms, rarest), *[_is_beside(word) for word in others])
    if len(of_kinds) < len(kinds()):
        entries = entries.where(call_terms.c.kind.in_(of_kinds))
    return _Way(entries, runs, is_time=False), LOOKED_UP if others else LOOKED_AT


async def _as_far_as(connection: AsyncConnection, way: _Way, looked_at: int) -> _Way:
    each = looked_at // max(1, len(way.runs))
    ends = [(await connection.execute(_far_back, {**run, "looked_at": each})).scalar() for run in way.runs]
    given_up_at = max((end for end in ends if end is not None), default=None)
    if given_up_at is None:
        return way
    return replace(way, runs=[{**run, "since": given_up_at} for run in way.runs], given_up_at=given_up_at)


async def _owners_of(connection: AsyncConnection, word: _Word) -> list[str]:
    return [client for client in (await connection.execute(_owners, {"term": word.term})).scalars() if client]


# -- words


def _words(wanted: CallFilter) -> list[_Word] | None:
    """None: nothing has such a word."""
    words = []
    if wanted.number:
        digits = backwards(wanted.number)
        if not digits:
            return None
        words.append(_Word(number_term(digits), (digits,), is_whole=len(digits) < NUMBER_DIGITS))
    if wanted.name:
        names = folded(wanted.name)
        if max(map(len, names), default=0) < NAME_LETTERS:
            return None
        words.append(_Word(name_term(max(names, key=len)), tuple(names)))
    if wanted.extension:
        words.append(_Word(extension_term(wanted.extension)))
    if wanted.crm_user is not None:
        words.append(_Word(crm_user_term(wanted.crm_user)))
    return words


def _has(entry: Any, word: _Word) -> list[ColumnElement[bool]]:
    """None of what is looked for has a % or a _ in it: they are letters and digits."""
    return [entry.c.words.like(f"% {beginning}{' ' if word.is_whole else ''}%") for beginning in word.beginnings]


def _is_beside(word: _Word) -> ColumnElement[bool]:
    """Another entry of the same call has this word."""
    other = call_terms.alias()
    return exists().where(other.c.term == word.term, other.c.client == call_terms.c.client,
                          other.c.at == call_terms.c.at, other.c.call == call_terms.c.call, *_has(other, word))
