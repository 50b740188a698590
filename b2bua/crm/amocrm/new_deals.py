"""A deal for the contact that a call has made."""

from __future__ import annotations

from typing import Any

import structlog

from b2bua.crm.amocrm import contacts
from b2bua.crm.amocrm.api import Answer
from b2bua.crm.amocrm.gate import Lane
from b2bua.crm.amocrm.rows import Row, embedded, integer
from b2bua.crm.amocrm.writing import GONE, WRITE_SECONDS, Desk, is_refused_for, made_for, post_as, read, users
from b2bua.crm.port import CrmUnavailable, Deal, Delivered, Made, MadeKind

LOOKED_AT = 20                         # deals of a contact that we have just made
_PLACE = ("pipeline_id", "status_id")

log = structlog.get_logger(__name__)


async def make(desk: Desk, deal: Deal, known: tuple[Made, ...], *, repeated: bool) -> Delivered:
    contact = made_for(known, MadeKind.CONTACT, deal.call)
    if contact is None:
        return Delivered("no new contact")
    if repeated and (before := await _made_before(desk, deal, contact)) is not None:
        return _made(deal, contact, before)
    answer = await _post(desk, deal, contact, in_place=True)
    is_placed = deal.pipeline is not None or deal.stage is not None
    if is_placed and (is_refused_for(answer, _PLACE) or answer.status == 404):
        log.warning("pipeline or stage is gone, the deal begins where the account's deals begin", call=deal.call,
                    pipeline=deal.pipeline, stage=deal.stage, why=answer.complaint())
        answer = await _post(desk, deal, contact, in_place=False)
    if answer.status >= 400 and await read(desk, f"/api/v4/contacts/{contact.id}") is None:
        return Delivered(f"contact {contact.id} is gone")
    rows = embedded(answer.accepted(), "leads")
    if not rows or (number := integer(rows[0], "id")) is None:
        raise CrmUnavailable("the answer names no deal")
    return _made(deal, contact, number)


def _made(deal: Deal, contact: Made, number: int) -> Delivered:
    made = Made(MadeKind.DEAL, deal.call, str(number), f"contacts/{contact.id}")
    return Delivered(f"deal {number}", made=(made,), card=f"leads/{number}")


async def _post(desk: Desk, deal: Deal, contact: Made, *, in_place: bool) -> Answer:
    def body(user: int | None) -> Row:
        wanted: dict[str, Any] = {
            "name": deal.name,
            "created_at": int(deal.started_at.timestamp()),    # by which we know it again, see _made_before
            "responsible_user_id": user,
            "pipeline_id": deal.pipeline if in_place else None,
            "status_id": deal.stage if in_place else None,
            "tags_to_add": [{"name": deal.tag}] if deal.tag else None,
            "_embedded": {"contacts": [{"id": int(contact.id), "is_main": True}]},
            "request_id": deal.call,
        }
        return {name: value for name, value in wanted.items() if value is not None}

    return await post_as(desk, "/api/v4/leads", body, users(deal.user, desk.default_user))


async def _made_before(desk: Desk, deal: Deal, contact: Made) -> int | None:
    """The contact is new: a deal of it that began, for the CRM, at the second of the call is ours."""
    answer = await desk.api.get(f"/api/v4/contacts/{contact.id}", [("with", "leads")], Lane.WRITE, WRITE_SECONDS)
    if answer.status in GONE:
        return None
    for number in contacts.linked_ids(answer.row(), "leads")[:LOOKED_AT]:
        row = await read(desk, f"/api/v4/leads/{number}")
        if row is not None and integer(row, "created_at") == int(deal.started_at.timestamp()):
            return number
    return None
