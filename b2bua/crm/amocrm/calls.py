"""A finished call for the card (F3, F4): `POST /api/v4/calls`, one call a request, never twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from b2bua.cdr import CallId, Direction, Disposition
from b2bua.crm.amocrm import contacts
from b2bua.crm.amocrm.api import Answer
from b2bua.crm.amocrm.gate import Lane
from b2bua.crm.amocrm.rows import PATHS, Row, as_row, as_rows, embedded, integer, text
from b2bua.crm.amocrm.writing import (
    MOST_OF_OURS,
    SOURCE,
    USER_FIELDS,
    WRITE_SECONDS,
    Desk,
    is_nobodys,
    made_for,
    path_of,
    post_as,
    read,
    users,
)
from b2bua.crm.port import (
    CallNote,
    CrmNoCard,
    CrmRejected,
    CrmUnauthorized,
    CrmUnavailable,
    Delivered,
    Made,
    MadeKind,
    RecordingLink,
)

SEARCHED_CARDS = 20                    # cards of one caller whose notes are searched for a call of ours
NOBODY_HAS_THE_NUMBER = 263

TALKED, NOT_REACHED, BUSY = 4, 6, 7    # amoCRM's call_status
_PATHS = ("leads", "contacts", "companies")
_PLURALS = {"lead": "leads", "contact": "contacts", "company": "companies", "customer": "customers"}
_NOTE_TYPES = {Direction.INBOUND: "call_in", Direction.OUTBOUND: "call_out"}
_PARAMS = ("uniq", "duration", "source", "link", "phone", "call_responsible", "call_status", "call_result")
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


@dataclass(frozen=True, slots=True)
class Written:
    """A call that stands in a card already."""

    id: str
    on: str                            # "contacts/9001"
    has_link: bool


async def write_call(desk: Desk, note: CallNote, known: tuple[Made, ...], *, repeated: bool) -> Delivered:
    """Raises CrmNoCard when nobody has the number."""
    if is_nobodys(note.phone):
        raise CrmNoCard("no number to find a card by")
    if (told := made_for(known, MadeKind.NOTE, note.call)) is not None:
        return Delivered(f"told already: {told.id}", card=told.on)
    if repeated and (written := await find_written(desk, note.call, note.phone, known)) is not None:
        return _found(note, written)
    candidates = users(note.user, desk.default_user)
    answer = await post_as(desk, "/api/v4/calls", lambda user: call_body(note, user, desk.link_of), candidates)
    if (row := _accepted(answer)) is not None:
        return _told(note, row, f"{_PLURALS.get(text(row, 'entity_type'), '')}/{integer(row, 'entity_id')}")
    for on in _cards_of_ours(known):
        if (row := await _add_note(desk, note, on)) is not None:
            return _told(note, row, on)
    deal = await contacts.find(desk.api, note.phone, desk.country, Lane.WRITE)     # amoCRM itself looks at no deal
    if deal is not None and (row := await _add_note(desk, note, path_of(deal))) is not None:
        return _told(note, row, path_of(deal))
    raise CrmNoCard("nobody has this number")


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
        "call_result": _result(note),
        "created_at": started,
        "updated_at": started,
        "request_id": note.call,
    }
    if note.recording is not None:
        body["link"] = link_of(note.recording)
    if user is not None:
        body.update(dict.fromkeys(USER_FIELDS, user))     # all three equal, or the call counts for nobody
    elif note.did:
        body["call_responsible"] = note.did
    return body


async def find_written(desk: Desk, call: CallId, phone: str, known: tuple[Made, ...]) -> Written | None:
    """The note that an earlier try left, whose answer was lost: amoCRM itself takes doubles."""
    kind, rows = await contacts.candidates(desk.api, phone, desk.country, Lane.WRITE)
    cards = {path: [entity for row in rows for entity in contacts.linked_ids(row, path)] for path in _PATHS}
    cards[PATHS[kind]] = [found for row in rows if (found := integer(row, "id")) is not None]
    deal = None if rows else await contacts.find(desk.api, phone, desk.country, Lane.WRITE)
    for on in [*_cards_of_ours(known), *([path_of(deal)] if deal is not None else [])]:
        path, _, entity = on.partition("/")
        cards[path].append(int(entity))
    for path, ids in cards.items():
        entities = list(dict.fromkeys(ids))[:SEARCHED_CARDS]
        if entities and (written := await _written_on(desk, path, entities, call)) is not None:
            return written
    return None


async def _written_on(desk: Desk, path: str, entities: Iterable[int], call: CallId) -> Written | None:
    params: list[tuple[str, str | int]] = [("filter[entity_id][]", entity) for entity in entities]
    params += [("filter[note_type][]", kind) for kind in _NOTE_TYPES.values()]
    async for row in desk.api.pages(
        f"/api/v4/{path}/notes", "notes", [*params, ("order[id]", "desc")], Lane.WRITE, WRITE_SECONDS
    ):
        said = as_row(row.get("params"))
        if text(said, "uniq") == call:
            return Written(str(integer(row, "id")), f"{path}/{integer(row, 'entity_id')}", bool(text(said, "link")))
    return None


def _cards_of_ours(known: tuple[Made, ...]) -> list[str]:
    """Where a call belongs whose number amoCRM does not find: it finds a new contact only after a while, and the
    contact of an unsorted lead not before somebody accepts that."""
    ours = [f"contacts/{made.id}" for made in known if made.kind is MadeKind.CONTACT]
    waiting = [made.on for made in known if made.kind is MadeKind.UNSORTED and made.is_open and made.on]
    return ours[:MOST_OF_OURS] + waiting


async def _add_note(desk: Desk, note: CallNote, on: str) -> Row | None:
    """The call on a card by its id. None when there is no such card any more."""

    def body(user: int | None) -> Row:
        call = call_body(note, user, desk.link_of)
        said = {name: call[name] for name in _PARAMS if name in call}
        return {
            "note_type": _NOTE_TYPES[note.direction],
            "params": said,
            **{name: call[name] for name in ("created_by", "responsible_user_id", "created_at") if name in call},
            "request_id": note.call,
        }

    answer = await post_as(desk, f"/api/v4/{on}/notes", body, users(note.user, desk.default_user))
    if answer.status >= 400 and await read(desk, f"/api/v4/{on}") is None:
        return None
    rows = embedded(answer.accepted(), "notes")
    if not rows:
        raise CrmUnavailable("the answer names no note")
    return rows[0]


def _told(note: CallNote, row: Row, on: str) -> Delivered:
    number = str(integer(row, "id"))
    return Delivered(f"note {number}", made=(Made(MadeKind.NOTE, note.call, number, on),), card=on)


def _found(note: CallNote, written: Written) -> Delivered:
    """It may have been told before its recording was there."""
    made = Made(MadeKind.NOTE, note.call, written.id, written.on)
    link = RecordingLink(note.call, note.client, note.phone, note.started_at, note.recording)
    is_owed = note.recording is not None and not written.has_link
    return Delivered(f"note {written.id}", made=(made,), then=(link,) if is_owed else (), card=written.on)


def _result(note: CallNote) -> str:
    """Which of our numbers, how it came out, and who talked where several did; the last of them has the call."""
    talked = "говорили: " + ", ".join(note.talked) if note.talked else ""
    return ", ".join(part for part in (note.did, _RESULT[note.disposition], talked) if part)


def _status(disposition: Disposition) -> int:
    match disposition:
        case Disposition.ANSWERED:
            return TALKED
        case Disposition.BUSY:
            return BUSY
        case _:
            return NOT_REACHED


def _accepted(answer: Answer) -> Row | None:
    """The note; None when nobody has the number. By the body, as amoCRM says that with a 400 as well as with a 200."""
    if written := embedded(answer.body, "calls"):
        return written[0]
    for error in as_rows(as_row(answer.body).get("errors")):
        if integer(error, "status") == NOBODY_HAS_THE_NUMBER or text(error, "title") == "Entity not found":
            return None
    if answer.status == 404:                               # the path exists in every account that does
        raise CrmUnauthorized(f"404: the account is not here any more: {answer.complaint()}")
    if answer.status >= 400:
        raise CrmRejected(f"{answer.status}: {answer.complaint()}")
    raise CrmUnavailable("the answer names no call")
