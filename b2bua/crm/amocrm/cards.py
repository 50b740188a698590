"""F7 and F8: whoever called gets into amoCRM, once, however often they call and whatever answer was lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from b2bua.cdr import Direction
from b2bua.crm.amocrm import calls, contacts, unsorted
from b2bua.crm.amocrm.gate import Lane
from b2bua.crm.amocrm.rows import Row, embedded, integer
from b2bua.crm.amocrm.writing import WRITE_SECONDS, Desk, card_of, has_number, is_nobodys, path_of, post_as, users
from b2bua.crm.functions import CardKind
from b2bua.crm.port import Card, CrmUnavailable, Delivered, Made, MadeKind

LOOKED_THROUGH = 250                   # newest contacts, among which one of ours is looked for


async def make(desk: Desk, card: Card, known: tuple[Made, ...], *, repeated: bool) -> Delivered:
    if card.make is CardKind.NOTHING or is_nobodys(card.phone):
        return Delivered("no card to make")
    if repeated and (before := await _made_before(desk, card, known)) is not None:
        return before
    if (contact := await card_of(desk, card.phone, known)) is not None:
        return Delivered(f"known already: {contact.kind.value} {contact.id}", closed=_open_unsorted(known),
                         card=path_of(contact))
    waiting, gone = await _unsorted_of(desk, known)
    if waiting is not None:
        return Delivered(f"waits already: unsorted lead {waiting.id}", closed=gone, card=waiting.on)
    return replace(await _make(desk, card), closed=gone)


async def _make(desk: Desk, card: Card) -> Delivered:
    is_unsorted = card.make is CardKind.UNSORTED and card.direction is Direction.INBOUND  # there are no outgoing ones
    if is_unsorted and (made := await unsorted.make(desk, card)) is not None:
        return made
    candidates = users(card.user, desk.default_user)
    answer = await post_as(desk, "/api/v4/contacts", lambda user: _body(card, user), candidates)
    rows = embedded(answer.accepted(), "contacts")
    if not rows or (number := integer(rows[0], "id")) is None:
        raise CrmUnavailable("the answer names no contact")
    return _made(card, number)


def _made(card: Card, number: int) -> Delivered:
    return Delivered(f"contact {number}", made=(Made(MadeKind.CONTACT, card.call, str(number)),),
                     card=f"contacts/{number}")


def _body(card: Card, user: int | None) -> Row:
    body: Row = {
        "name": card.name,
        "created_at": int(card.started_at.timestamp()),    # by which we know it again, see _made_before
        "custom_fields_values": [
            {"field_code": "PHONE", "values": [{"value": card.phone, "enum_code": "WORK"}]},
        ],
        "request_id": card.call,
    }
    if card.tag:
        body["tags_to_add"] = [{"name": card.tag}]
    if user is not None:
        body["responsible_user_id"] = user
    return body


async def _made_before(desk: Desk, card: Card, known: tuple[Made, ...]) -> Delivered | None:
    """What an earlier try, whose answer was lost, has left. A contact of ours was made, for the CRM, at the second in
    which the call began; the search may not know it yet, so the newest contacts are looked through as well."""
    began = int(card.started_at.timestamp())
    async for row in _contacts(desk, card.phone):
        number = integer(row, "id")
        if number is not None and integer(row, "created_at") == began and has_number(row, card.phone, desk.country):
            return _made(card, number)
    if card.make is not CardKind.UNSORTED:
        return None
    if (waiting := await unsorted.made_before(desk, card)) is not None:
        return waiting
    written = await calls.find_written(desk, card.call, card.phone, known)
    if written is None:
        return None
    note = Made(MadeKind.NOTE, card.call, written.id, written.on)      # somebody has accepted it meanwhile
    return Delivered("unsorted lead, accepted already", made=(note,), card=written.on)


async def _contacts(desk: Desk, phone: str) -> AsyncIterator[Row]:
    _, rows = await contacts.candidates(desk.api, phone, desk.country, Lane.WRITE)
    for row in rows:
        yield row
    newest: list[tuple[str, str | int]] = [("order[id]", "desc"), ("limit", LOOKED_THROUGH)]
    answer = await desk.api.get("/api/v4/contacts", newest, Lane.WRITE, WRITE_SECONDS)
    for row in answer.rows("contacts"):
        yield row


async def _unsorted_of(desk: Desk, known: tuple[Made, ...]) -> tuple[Made | None, tuple[Made, ...]]:
    """The unsorted lead that still waits for this number's caller; and those that wait no more."""
    gone: list[Made] = []
    for made in _open_unsorted(known):
        if await unsorted.is_waiting(desk, made):
            return made, tuple(gone)
        gone.append(made)
    return None, tuple(gone)


def _open_unsorted(known: tuple[Made, ...]) -> tuple[Made, ...]:
    return tuple(made for made in known if made.kind is MadeKind.UNSORTED and made.is_open)
