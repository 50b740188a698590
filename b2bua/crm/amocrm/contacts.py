"""Finding who has a number: contacts, then companies, then deals, compared here, as amoCRM's `query` searches every
field of a card."""

from __future__ import annotations

import structlog

from b2bua.crm.amocrm import deals
from b2bua.crm.amocrm.api import AmoApi
from b2bua.crm.amocrm.gate import Lane
from b2bua.crm.amocrm.rows import Row, as_rows, embedded, integer, text
from b2bua.crm.port import Contact, CrmRejected, EntityKind
from b2bua.numbers import SEARCHED_DIGITS, in_a_card, national_digits, normalise, same_number

LOOKUP_SECONDS = 15.0                  # the phone's patience is shorter; this fills the memory for the next call
_LISTS = (EntityKind.CONTACT, "contacts", "leads"), (EntityKind.COMPANY, "companies", "leads,contacts")

log = structlog.get_logger(__name__)


async def candidates(api: AmoApi, phone: str, country: str, lane: Lane) -> tuple[EntityKind, list[Row]]:
    """All rows that have this phone: contacts, or companies when no contact has it."""
    digits = national_digits(phone)
    for kind, path, linked in _LISTS if len(digits) >= SEARCHED_DIGITS else ():
        pages = api.pages(f"/api/v4/{path}", path, [("query", digits), ("with", linked)], lane, LOOKUP_SECONDS)
        if rows := [row async for row in pages if _has_phone(row, phone, country)]:
            return kind, rows
    return EntityKind.CONTACT, []


async def find(api: AmoApi, phone: str, country: str, lane: Lane = Lane.RINGING) -> Contact | None:
    """Who calls. Of several cards of a kind: one with an open deal, the last updated, the oldest."""
    kind, rows = await candidates(api, phone, country, lane)
    if not rows:
        return await _deal(api, phone, country, lane)
    rows.sort(key=_rank)
    chosen = await deals.first_with_open(api, rows, lane) if len(rows) > 1 else None
    return as_contact(kind, chosen or rows[0])


async def _deal(api: AmoApi, phone: str, country: str, lane: Lane) -> Contact | None:
    digits = national_digits(phone)
    if len(digits) < SEARCHED_DIGITS:
        return None
    pages = api.pages("/api/v4/leads", "leads", [("query", digits)], lane, LOOKUP_SECONDS)
    try:
        rows = [row async for row in pages if deals.holds(row, phone, country)]
    except CrmRejected as error:           # a token that may read contacts only is no illness of the CRM
        log.info("deals are not searched", why=str(error))
        return None
    return as_contact(EntityKind.LEAD, min(rows, key=deals.rank)) if rows else None


def phones_of(row: Row) -> list[str]:
    """The numbers of the row's PHONE field, as people typed them, without what they typed behind."""
    fields = [field for field in as_rows(row.get("custom_fields_values")) if text(field, "field_code") == "PHONE"]
    return [in_a_card(text(value, "value")) for field in fields for value in as_rows(field.get("values"))]


def linked_ids(row: Row, name: str) -> list[int]:
    """Ids of the leads, contacts or companies that hang on the row."""
    return [entity for linked in embedded(row, name) if (entity := integer(linked, "id")) is not None]


def as_contact(kind: EntityKind, row: Row) -> Contact:
    name = text(row, "name") or f"{text(row, 'first_name')} {text(row, 'last_name')}"
    return Contact(kind, integer(row, "id") or 0, " ".join(name.split()), integer(row, "responsible_user_id"))


def _has_phone(row: Row, phone: str, country: str) -> bool:
    return integer(row, "id") is not None and any(
        same_number(phone, normalise(written, country)) for written in phones_of(row)
    )


def _rank(row: Row) -> tuple[int, int]:
    return -(integer(row, "updated_at") or 0), integer(row, "id") or 0
