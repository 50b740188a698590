"""A finished call for the card (F3, F4): `POST /api/v4/calls`, one call a request, never twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from b2bua.cdr import Direction, Disposition
from b2bua.crm.amocrm import contacts
from b2bua.crm.amocrm.api import AmoApi, Answer
from b2bua.crm.amocrm.gate import Lane
from b2bua.crm.amocrm.rows import Row, as_row, as_rows, embedded, integer, text
from b2bua.crm.port import CallNote, CrmNoCard, CrmRejected, CrmUnauthorized, CrmUnavailable, EntityKind
from b2bua.numbers import is_anonymous, is_short

SOURCE = "Smartswitch"                 # the service that the card names
WRITE_SECONDS = 30.0
SEARCHED_CARDS = 20                    # cards of one caller whose notes are searched for a call of ours
NOBODY_HAS_THE_NUMBER = 263

TALKED, NOT_REACHED, BUSY = 4, 6, 7    # amoCRM's call_status
_USER_FIELDS = ("created_by", "responsible_user_id", "call_responsible")
_RESULT = {                            # shown in the card, whose readers are amoCRM's Russian users
    Disposition.ANSWERED: "разговор состоялся",
    Disposition.NO_ANSWER: "не ответили",
    Disposition.BUSY: "занято",
    Disposition.DECLINED: "звонок отклонён",
    Disposition.ABANDONED: "звонивший положил трубку",
    Disposition.UNREACHABLE: "телефон недоступен",
    Disposition.REFUSED: "звонок не принят",
    Disposition.FAILED: "сбой связи",
}

log = structlog.get_logger(__name__)


async def write_call(
    api: AmoApi,
    note: CallNote,
    *,
    link_of: Callable[[str], str],
    default_user: int | None,
    country: str,
    repeated: bool,
) -> str:
    """Returns the note's id. Raises CrmNoCard when nobody has the number."""
    if is_anonymous(note.phone) or is_short(note.phone):
        raise CrmNoCard("no number to find a card by")
    if repeated and (found := await find_written(api, note, country)) is not None:
        return found
    answer = None
    for user in _users(note, default_user):
        answer = await api.post("/api/v4/calls", [call_body(note, user, link_of)], Lane.WRITE, WRITE_SECONDS)
        if not _user_is_refused(answer):
            break
        log.warning("amoCRM does not take the user of a call", call=note.call, user=user, why=answer.complaint())
    assert answer is not None
    return _written(answer)


def call_body(note: CallNote, user: int | None, link_of: Callable[[str], str]) -> Row:
    """Optional fields are left out: amoCRM refuses some of them as null."""
    started = int(note.started_at.timestamp())
    body: Row = {
        "direction": "outbound" if note.direction is Direction.OUTBOUND else "inbound",
        "uniq": note.call,
        "duration": note.talk_seconds,
        "source": SOURCE,
        "phone": note.phone,
        "call_status": _status(note.disposition),
        "call_result": ", ".join(part for part in (note.did, _RESULT[note.disposition]) if part),
        "created_at": started,
        "updated_at": started,
        "request_id": note.call,
    }
    if note.recording is not None:
        body["link"] = link_of(note.recording)
    if user is not None:
        body.update(dict.fromkeys(_USER_FIELDS, user))     # all three equal, or the call counts for nobody
    elif note.did:
        body["call_responsible"] = note.did
    return body


async def find_written(api: AmoApi, note: CallNote, country: str) -> str | None:
    """The id of the note that an earlier try left, whose answer was lost: amoCRM itself takes doubles."""
    kind, rows = await contacts.candidates(api, note.phone, country, Lane.WRITE)
    own = "contacts" if kind is EntityKind.CONTACT else "companies"
    cards = {
        path: [entity for row in rows for entity in contacts.linked_ids(row, path)]
        for path in ("leads", "contacts", "companies")
    }
    cards[own] = [entity for row in rows if (entity := integer(row, "id")) is not None]
    for path, ids in cards.items():
        if ids and (written := await _note_on(api, path, ids[:SEARCHED_CARDS], note)) is not None:
            return written
    return None


async def _note_on(api: AmoApi, path: str, entities: Iterable[int], note: CallNote) -> str | None:
    note_type = "call_out" if note.direction is Direction.OUTBOUND else "call_in"
    params: list[tuple[str, str | int]] = [("filter[entity_id][]", entity) for entity in entities]
    params += [("filter[note_type][]", note_type), ("order[id]", "desc")]
    async for row in api.pages(f"/api/v4/{path}/notes", "notes", params, Lane.WRITE, WRITE_SECONDS):
        if text(as_row(row.get("params")), "uniq") == note.call:
            return str(integer(row, "id"))
    return None


def _status(disposition: Disposition) -> int:
    match disposition:
        case Disposition.ANSWERED:
            return TALKED
        case Disposition.BUSY:
            return BUSY
        case _:
            return NOT_REACHED


def _users(note: CallNote, default_user: int | None) -> list[int | None]:
    """Whose call it is, in the order to try: a user may have been removed since (then amoCRM refuses the whole)."""
    return [*dict.fromkeys(user for user in (note.user, default_user) if user is not None), None]


def _user_is_refused(answer: Answer) -> bool:
    paths = {text(error, "path").rpartition(".")[2] for error in answer.validation_errors()}
    return answer.status == 400 and bool(paths) and paths <= set(_USER_FIELDS)


def _written(answer: Answer) -> str:
    """By the body, as amoCRM says "nobody has this number" with a 400 as well as with a 200."""
    if written := embedded(answer.body, "calls"):
        return str(integer(written[0], "id"))
    for error in as_rows(as_row(answer.body).get("errors")):
        if integer(error, "status") == NOBODY_HAS_THE_NUMBER or text(error, "title") == "Entity not found":
            raise CrmNoCard("nobody has this number")
    if answer.status == 404:                               # the path exists in every account that does
        raise CrmUnauthorized(f"404: the account is not here any more: {answer.complaint()}")
    if answer.status >= 400:
        raise CrmRejected(f"{answer.status}: {answer.complaint()}")
    raise CrmUnavailable("the answer names no call")
