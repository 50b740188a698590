"""Incoming leads ("unsorted"): a caller whom nobody knows, for a person to accept or decline."""

from __future__ import annotations

import structlog

from b2bua.crm.amocrm.gate import Lane
from b2bua.crm.amocrm.rows import Row, as_row, embedded, integer, text
from b2bua.crm.amocrm.writing import SOURCE, WRITE_SECONDS, Desk, post_as, read, users
from b2bua.crm.port import Card, CrmUnavailable, Delivered, Made, MadeKind

PATH = "/api/v4/leads/unsorted"

log = structlog.get_logger(__name__)


async def make(desk: Desk, card: Card) -> Delivered | None:
    """None when amoCRM takes none: they are switched off in the account or its pipeline."""
    candidates = users(card.user, desk.default_user)
    answer = await post_as(desk, f"{PATH}/sip", lambda user: _body(card, user), candidates)
    if answer.status < 400:
        rows = embedded(answer.body, "unsorted")
        if not rows:
            raise CrmUnavailable("the answer names no unsorted lead")
        return _made(card, rows[0])
    log.warning("amoCRM takes no unsorted lead, a contact is made instead", call=card.call, why=answer.complaint())
    return None


async def made_before(desk: Desk, card: Card) -> Delivered | None:
    params = [("filter[category][]", "sip"), ("order[created_at]", "desc")]
    async for row in desk.api.pages(PATH, "unsorted", params, Lane.WRITE, WRITE_SECONDS):
        if text(as_row(row.get("metadata")), "uniq") == card.call:
            return _made(card, row)
    return None


async def is_waiting(desk: Desk, made: Made) -> bool:
    return await read(desk, f"{PATH}/{made.id}") is not None


def _tells_the_call(card: Card) -> bool:
    """Whether the lead carries the call into the card's feed by itself. That is what amoCRM has it for, and on the
    lead's own page nothing else is sure to be shown before somebody accepts it (api.md §14). But it can say neither
    who talked for how long nor add a recording: so it tells calls that nobody answered, and a note tells the others.
    Which of the two it was is remembered as a note, so that it is never both."""
    return not (card.answered or card.talk_seconds)    # an older version's rows have only the seconds


def _made(card: Card, row: Row) -> Delivered:
    uid = text(row, "uid")
    lead = next((integer(lead, "id") for lead in embedded(row, "leads")), None)
    on = f"leads/{lead}" if lead is not None else ""
    made = [Made(MadeKind.UNSORTED, card.call, uid, on, is_open=True)]
    if _tells_the_call(card):
        made.append(Made(MadeKind.NOTE, card.call, f"unsorted {uid}", on))
    return Delivered(f"unsorted lead {uid}", made=tuple(made), card=on)


def _body(card: Card, user: int | None) -> Row:
    """All but the times is mandatory. `from` is read by nobody for certain: it is the caller's number as well."""
    began = int(card.started_at.timestamp())
    tagged: Row = {"_embedded": {"tags": [{"name": card.tag}]}} if card.tag else {}
    phones = [{"field_code": "PHONE", "values": [{"value": card.phone, "enum_code": "WORK"}]}]
    return {
        "request_id": card.call,
        "source_uid": card.did or SOURCE,
        "source_name": SOURCE,
        "created_at": began,
        "metadata": {
            "phone": card.phone,
            "from": card.phone,
            "call_responsible": user or card.did or SOURCE,
            "called_at": began,
            "duration": card.talk_seconds,
            "link": "",
            "service_code": SOURCE,
            "uniq": card.call,
            "is_call_event_needed": _tells_the_call(card),
        },
        "_embedded": {
            "leads": [{"name": card.name, **tagged}],
            "contacts": [{"name": card.name, "custom_fields_values": phones, **tagged}],
        },
    }


