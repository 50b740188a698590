"""What the deliverer of the outbox says to the database: claims, and words about rows that it had claimed. Whatever
comes at the same time is one transaction, and one statement for all of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeVar

from sqlalchemy import (
    ARRAY,
    BindParameter,
    Integer,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from b2bua.cdr import CallId, ClientId
from b2bua.crm.port import Delivered, Made, MadeKind
from b2bua.crm.writes import OutboxRow, keys_behind_card, ledger_of
from b2bua.store.rows import LONGEST_WHY, outbox_row, storable
from b2bua.store.schema import Instant, crm_made, outbox


class OwedState(Enum):
    WAITING = "pending"
    DELIVERED = "done"
    ASIDE = "aside"                    # given up, or never understood: until a person decides
    DROPPED = "dropped"


PENDING, DONE, ASIDE, DROPPED = [state.value for state in OwedState]
LOOKED_AT = 100                        # due rows of a client that are looked at together, for heads of lanes among them
MOST_LOOKS = 20                        # in one claim; what is left is found by the next
BEHIND = timedelta(seconds=120)        # a row behind another is looked at again after this, should nobody wake it
KNOWN = 50                             # things of one number that a delivery is told of
KEPT = 200                             # things of one number that are remembered, about ...
TRIMMED_EVERY = 20                     # ... as they are counted only at some deliveries
TRIMMED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Claim:
    client: ClientId
    now: datetime
    until: datetime
    limit: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The row is pending no more; the next of its lane may go."""

    row: int
    state: str
    outcome: str
    now: datetime
    delivered: Delivered | None = None


@dataclass(frozen=True, slots=True)
class PutOff:
    row: int
    at: datetime
    error: str


@dataclass(frozen=True, slots=True)
class Released:
    row: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Hastened:
    row: int
    at: datetime


Word = Ended | PutOff | Released | Hastened
Said = Claim | Word
Claimed = Sequence[OutboxRow]          # what a claim is answered; nothing, for a word

T = TypeVar("T")


def waits_for_card(row: int) -> str:
    """Why a row was set aside that was never tried: by this it is found when a person decides on the card's row."""
    return f"waits for its card, row {row}"


def carry_out(connection: Connection, said: Sequence[Said]) -> list[Claimed]:
    """Words before claims, which so find what they wake. Rows are locked in the order of their ids, so that two
    processes do not wait for each other."""
    words = [word for word in said if not isinstance(word, Claim)]
    if words:
        _take_words(connection, words)
    claimed = iter(_claim(connection, claims) if (claims := _those(said, Claim)) else ())
    return [next(claimed) if isinstance(one, Claim) else () for one in said]


def _those(said: Iterable[object], kind: type[T]) -> list[T]:
    return [one for one in said if isinstance(one, kind)]


# -- statements, made once: SQLAlchemy knows them again by what they are

# As a word of the statement, not a parameter: so that the planner may use the indexes of what is pending.
is_pending = outbox.c.state == literal_column(f"'{PENDING}'")
_before = outbox.alias("before")
_head = (select(func.min(_before.c.id))
         .where(_before.c.client == outbox.c.client, _before.c.lane == outbox.c.lane,
                _before.c.state == literal_column(f"'{PENDING}'"))
         .scalar_subquery().label("head"))


def _first_due(client: Any, now: Any) -> Select[Any]:
    """PostgreSQL: rows that another process is claiming are passed over, not waited for. SQLite writes one by one."""
    return (select(outbox.c.id, outbox.c.lane, outbox.c.payload, outbox.c.attempts, outbox.c.created_at, _head)
            .where(is_pending, outbox.c.client == client, outbox.c.due_at <= now)
            .order_by(outbox.c.due_at, outbox.c.id).limit(bindparam("most", type_=Integer))
            .with_for_update(of=outbox, skip_locked=True))


_due_of_one = _first_due(bindparam("of_client"), bindparam("by"))
_wanted = (func.unnest(bindparam("clients", type_=ARRAY(Text)), bindparam("times", type_=ARRAY(Instant)))
           .table_valued("client", "now", name="wanted").render_derived())
_first = _first_due(_wanted.c.client, _wanted.c.now).correlate(_wanted).lateral("first")
_due_of_many = select(_wanted.c.client, *_first.c).select_from(_wanted.join(_first, literal_column("true")))

_row: BindParameter[int] = bindparam("row")
_lease = update(outbox).where(outbox.c.id == _row).values(
    due_at=bindparam("at"), attempts=outbox.c.attempts + bindparam("tries"))
_spoken_of = (select(outbox.c.id, outbox.c.client, outbox.c.lane, outbox.c.key)
              .where(outbox.c.id.in_(bindparam("rows", expanding=True)), is_pending)
              .order_by(outbox.c.id).with_for_update())
_end = update(outbox).where(outbox.c.id == _row).values(
    state=bindparam("to"), outcome=bindparam("said"), ended_at=bindparam("now"), card=bindparam("on_card"))
_put_off = update(outbox).where(outbox.c.id == _row).values(due_at=bindparam("at"), outcome=bindparam("said"))
_release = update(outbox).where(outbox.c.id == _row).values(
    due_at=bindparam("at"), attempts=case((outbox.c.attempts > 0, outbox.c.attempts - 1), else_=0))
_hasten = update(outbox).where(outbox.c.id == _row, outbox.c.attempts == 0).values(due_at=bindparam("at"))

# Only a row that nobody has claimed is woken: another may be on its way just now (one that was resent has passed it),
# and comes in its own time. PostgreSQL: it is locked, so that a claim either passes it over, or was waited for.
_ended = outbox.alias("ended")
_following = (select(select(func.min(_before.c.id))
                     .where(_before.c.client == _ended.c.client, _before.c.lane == _ended.c.lane,
                            _before.c.state == literal_column(f"'{PENDING}'")).scalar_subquery())
              .where(_ended.c.id.in_(bindparam("rows", expanding=True))))
_next = (select(outbox.c.id, outbox.c.due_at)
         .where(outbox.c.id.in_(_following), is_pending, outbox.c.attempts == 0)
         .order_by(outbox.c.id).with_for_update())
_wake = update(outbox).where(outbox.c.id == _row).values(due_at=bindparam("at"))

# What is on its way is left alone: it is told alone, as a person has wished.
_with_card = update(outbox).where(
    outbox.c.client == bindparam("of_client"), outbox.c.key.in_(bindparam("keys", expanding=True)), is_pending,
    or_(outbox.c.attempts == 0, outbox.c.due_at <= bindparam("now")),
).values(state=ASIDE, outcome=bindparam("said"), ended_at=bindparam("now"))

_number = and_(crm_made.c.client == bindparam("of_client"), crm_made.c.lane == bindparam("ledger"))
_newest_first = crm_made.c.is_open.desc(), crm_made.c.at.desc(), crm_made.c.id.desc()
_ranked = (select(crm_made.c.client, crm_made.c.lane, crm_made.c.kind, crm_made.c.call, crm_made.c.id, crm_made.c.on,
                  crm_made.c.is_open,
                  func.row_number().over(partition_by=(crm_made.c.client, crm_made.c.lane), order_by=_newest_first)
                  .label("place"))
           .where(tuple_(crm_made.c.client, crm_made.c.lane).in_(bindparam("numbers", expanding=True)))
           .subquery("ranked"))
_known_of = select(_ranked).where(_ranked.c.place <= KNOWN).order_by(_ranked.c.place)
_close = update(crm_made).where(_number, crm_made.c.kind == bindparam("of_kind"), crm_made.c.id == bindparam("made")
                                ).values(is_open=False)
_beyond = (select(crm_made.c.kind, crm_made.c.id).where(_number).order_by(*_newest_first)
           .limit(TRIMMED_AT_ONCE).offset(KEPT))
_trim = delete(crm_made).where(_number, tuple_(crm_made.c.kind, crm_made.c.id).in_(_beyond))


def _remembering(dialect: Any) -> Any:
    latest = dialect.insert(crm_made)
    return latest.on_conflict_do_update(
        index_elements=["client", "lane", "kind", "id"],
        set_={name: latest.excluded[name] for name in ("call", "on", "is_open", "at")})


_remember = {"sqlite": _remembering(sqlite), "postgresql": _remembering(postgresql)}
_owe = {"sqlite": sqlite.insert(outbox).on_conflict_do_nothing(),
        "postgresql": postgresql.insert(outbox).on_conflict_do_nothing()}


# -- claims


def _claim(connection: Connection, claims: Sequence[Claim]) -> list[Claimed]:
    """Of one client only one at a time: the others find what it leaves."""
    claimed: list[Claimed] = [()] * len(claims)
    waiting = dict(enumerate(claims))
    while waiting:
        first = {claim.client: number for number, claim in reversed(waiting.items())}
        rows = _claim_for_each(connection, [waiting[number] for number in first.values()])
        for client, number in first.items():
            claimed[number] = rows[client]
            del waiting[number]
    return claimed


def _claim_for_each(connection: Connection, claims: Sequence[Claim]) -> Mapping[ClientId, Claimed]:
    found: dict[ClientId, list[Row[Any]]] = {claim.client: [] for claim in claims}
    most = 2 * max(claim.limit for claim in claims)
    looking = claims
    for _ in range(MOST_LOOKS):
        due = _due(connection, looking, most)
        leases = [lease for claim in looking for lease in _leases(claim, due[claim.client], found[claim.client])]
        if leases:
            connection.execute(_lease, leases)
        looking = [claim for claim in looking
                   if len(found[claim.client]) < claim.limit and len(due[claim.client]) == most]
        if not looking:
            break
        most = LOOKED_AT
    return _with_what_is_known(connection, found)


def _leases(claim: Claim, due: Sequence[Row[Any]], found: list[Row[Any]]) -> list[dict[str, Any]]:
    """What becomes of the rows; heads go to `found`. Those behind one are not looked at again before it is done, or
    after BEHIND: however many wait behind one that the CRM does not take, the client's others are found at once."""
    heads = [row for row in due if row.id == row.head][:claim.limit - len(found)]
    found += heads
    return [{"row": row.id, "at": claim.until, "tries": 1} for row in heads] + [
        {"row": row.id, "at": claim.now + BEHIND, "tries": 0} for row in due if row.id != row.head]


def _due(connection: Connection, claims: Sequence[Claim], most: int) -> Mapping[ClientId, list[Row[Any]]]:
    if connection.dialect.name == "sqlite":
        return {claim.client: list(connection.execute(
            _due_of_one, {"of_client": claim.client, "by": claim.now, "most": most})) for claim in claims}
    due: dict[ClientId, list[Row[Any]]] = {claim.client: [] for claim in claims}
    wanted = {"clients": [claim.client for claim in claims], "times": [claim.now for claim in claims], "most": most}
    for row in connection.execute(_due_of_many, wanted):
        due[ClientId(row.client)].append(row)
    return due


def _with_what_is_known(
    connection: Connection, found: Mapping[ClientId, Sequence[Row[Any]]]
) -> Mapping[ClientId, Claimed]:
    numbers = list(dict.fromkeys((client, ledger_of(row.lane)) for client, rows in found.items() for row in rows))
    known: dict[tuple[str, str], list[Made]] = defaultdict(list)
    for made in connection.execute(_known_of, {"numbers": numbers}) if numbers else ():
        known[made.client, made.lane].append(
            Made(MadeKind(made.kind), CallId(made.call), made.id, made.on, made.is_open))
    return {client: [
        OutboxRow(row.id, client, row.payload, row.attempts + 1, row.created_at,
                  tuple(known.get((client, ledger_of(row.lane)), ())))
        for row in sorted(rows, key=lambda row: int(row.id))
    ] for client, rows in found.items()}


# -- words


def _take_words(connection: Connection, words: Sequence[Word]) -> None:
    """Only what is pending changes: a late word about a row that is done says nothing."""
    pending = {row.id: row for row in connection.execute(_spoken_of, {"rows": [word.row for word in words]})}
    heard = [word for word in words if word.row in pending]
    _set(connection, _put_off, heard, PutOff, lambda word: {"at": word.at, "said": storable(word.error, LONGEST_WHY)})
    _set(connection, _release, heard, Released, lambda word: {"at": word.at})
    _set(connection, _hasten, heard, Hastened, lambda word: {"at": word.at})
    ended = list({word.row: word for word in reversed(_those(heard, Ended))}.values())     # the first word stands
    _set(connection, _end, ended, Ended, _as_ended)
    for word in ended:
        row = pending[word.row]
        if word.state == ASIDE and (keys := keys_behind_card(row.key)):
            connection.execute(_with_card, {"of_client": row.client, "keys": keys, "now": word.now,
                                            "said": waits_for_card(word.row)})
    if ended:
        _remember_all(connection, [(pending[word.row], word) for word in ended])
        _wake_next(connection, ended)


def _as_ended(word: Ended) -> dict[str, Any]:
    card = word.delivered.card if word.delivered is not None else ""
    return {"to": word.state, "said": storable(word.outcome, LONGEST_WHY), "now": word.now, "on_card": storable(card)}


def _set(
    connection: Connection, statement: Any, words: Sequence[Word], kind: type[T], values: Callable[[T], dict[str, Any]]
) -> None:
    changes = [{"row": word.row, **values(word)} for word in words if isinstance(word, kind)]
    if changes:
        connection.execute(statement, changes)


def _wake_next(connection: Connection, ended: Sequence[Ended]) -> None:
    now = max(word.now for word in ended)
    waiting = connection.execute(_next, {"rows": [word.row for word in ended]})
    woken = [{"row": row.id, "at": now} for row in waiting if row.due_at > now]
    if woken:
        connection.execute(_wake, woken)


def _remember_all(connection: Connection, ended: Sequence[tuple[Any, Ended]]) -> None:
    dialect = connection.dialect.name
    closed, made, then = [], [], []
    for row, word in ended:
        if word.delivered is None:
            continue
        number = {"client": row.client, "lane": ledger_of(row.lane)}
        closed += [{"of_client": row.client, "ledger": number["lane"], "of_kind": one.kind.value, "made": one.id}
                   for one in word.delivered.closed]
        made += [{**number, "kind": one.kind.value, "id": storable(one.id), "call": one.call, "on": storable(one.on),
                  "is_open": one.is_open, "at": word.now} for one in word.delivered.made]
        then += [outbox_row(write, word.now) for write in word.delivered.then]
    if closed:
        connection.execute(_close, closed)
    if made:
        connection.execute(_remember[dialect], made)
    if then:
        connection.execute(_owe[dialect], then)
    for row, word in ended:
        if row.id % TRIMMED_EVERY == 0 and word.delivered is not None and word.delivered.made:
            connection.execute(_trim, {"of_client": row.client, "ledger": ledger_of(row.lane)})
