"""Deals where a number is looked up: whose contact has an open one, and which deal holds the number itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence

import structlog

from b2bua.crm.amocrm.api import AmoApi
from b2bua.crm.amocrm.gate import Lane
from b2bua.crm.amocrm.rows import PATHS, Row, as_row, as_rows, embedded, integer, text
from b2bua.crm.port import Contact, CrmRejected, CrmUnavailable, EntityKind, OpenDeal
from b2bua.numbers import SEARCHED_DIGITS, is_short, normalise, same_number

CLOSED = frozenset({142, 143})         # won and lost, in every pipeline
MOST_READ = 12                         # deals read one by one to choose between cards of one number
MOST_READ_OF_A_CARD = 4                # the newest first
URGENT_SECONDS = 0.7                   # for all of them while a phone waits; then the card that changed last is taken
PATIENT_SECONDS = 15.0
LONGEST_TEXT = 256                     # characters of a name or field that are searched for a number
_WRITTEN = re.compile(rf"\+?[0-9][0-9 ()./\u00a0\u2010-\u2015-]{{{SEARCHED_DIGITS - 1},}}")

log = structlog.get_logger(__name__)


def is_open(lead: Row) -> bool:
    stage = integer(lead, "status_id")
    return stage is not None and stage not in CLOSED


async def only_open(api: AmoApi, contact: Contact) -> OpenDeal | None:
    """None: there is none, or more than one; or too many to look at."""
    if contact.kind is EntityKind.LEAD:
        return OpenDeal(contact.id, contact.name)
    async with asyncio.timeout(PATIENT_SECONDS):
        path = f"/api/v4/{PATHS[contact.kind]}/{contact.id}"
        card = await api.get(path, [("with", "leads")], Lane.POP_UP, PATIENT_SECONDS)
        ids = [lead for one in embedded(as_row(card.body), "leads") if (lead := integer(one, "id")) is not None]
        if len(ids) > MOST_READ_OF_A_CARD:
            return None
        answers = [await api.get(f"/api/v4/leads/{lead}", [], Lane.POP_UP, PATIENT_SECONDS) for lead in ids]
    found = [row for answer in answers if answer.status == 200 and is_open(row := as_row(answer.body))]
    return OpenDeal(integer(found[0], "id") or 0, text(found[0], "name")) if len(found) == 1 else None


async def first_with_open(api: AmoApi, rows: Sequence[Row], lane: Lane) -> Row | None:
    """The first of these cards that has an open deal, as far as can be found out in time. amoCRM sends the ids of a
    card's deals without their stages, and filters by id are a paid add-on: so they are read one by one."""
    try:
        async with asyncio.timeout(URGENT_SECONDS if lane is Lane.RINGING else PATIENT_SECONDS):
            return await _first_with_open(api, rows, lane)
    except (CrmUnavailable, CrmRejected, TimeoutError) as error:
        log.info("deals not read, the card that changed last is taken", why=str(error) or "too slow")
        return None


async def _first_with_open(api: AmoApi, rows: Sequence[Row], lane: Lane) -> Row | None:
    left = MOST_READ
    for row in rows:
        leads = embedded(row, "leads")
        if any(is_open(lead) for lead in leads):
            return row
        unknown = [lead for one in leads if "status_id" not in one and (lead := integer(one, "id")) is not None]
        for lead in sorted(unknown, reverse=True)[:min(MOST_READ_OF_A_CARD, left)]:
            left -= 1
            answer = await api.get(f"/api/v4/leads/{lead}", [], lane, PATIENT_SECONDS)
            if answer.status == 200 and isinstance(answer.body, dict) and is_open(answer.body):
                return row
    return None


def holds(lead: Row, phone: str, country: str) -> bool:
    return integer(lead, "id") is not None and any(same_number(phone, number) for number in numbers_of(lead, country))


def numbers_of(lead: Row, country: str) -> list[str]:
    """The numbers that stand in the deal's name and its own fields, normalised."""
    texts = [text(lead, "name")]
    for field in as_rows(lead.get("custom_fields_values")):
        texts += [text(value, "value") for value in as_rows(field.get("values"))]
    found = (number for said in texts for number in _numbers_in(said[:LONGEST_TEXT], country))
    return list(dict.fromkeys(number for number in found if not is_short(number)))


def _numbers_in(said: str, country: str) -> Iterator[str]:
    """What looks like a number; what is none as a whole may have one in its parts, as a date may stand before it."""
    for run in _WRITTEN.findall(said):
        number = normalise(run, country)
        yield number
        if not number.startswith("+"):
            yield from (normalise(part, country) for part in run.split() if not is_short(part))


def rank(lead: Row) -> tuple[bool, int, int]:
    """Open ones first, then the last updated, then the oldest."""
    return not is_open(lead), -(integer(lead, "updated_at") or 0), integer(lead, "id") or 0
