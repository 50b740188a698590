"""`POST /api/v4/leads/complex` of the stand-in: a lead with its contact and company in one request."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox import unsorted
from b2bua.sandbox.answers import Caller, Invalid, Refused, caller_of, hal, items_of, with_names
from b2bua.sandbox.card_writes import check, create
from b2bua.sandbox.checks import bad_choice, integer, is_one_of, objects
from b2bua.sandbox.entities import Entity, EntityType, Json
from b2bua.sandbox.unsorted_api import bad_metadata

MOST_LEADS = 50
MOST_FIELDS = 40                       # custom fields of each part
_PARTS = (EntityType.CONTACTS, EntityType.COMPANIES)


async def add_leads(request: Request) -> Response:
    """The answer is a bare array."""
    caller = caller_of(request)
    items = with_names(await items_of(request, MOST_LEADS))
    for item, name in items:                               # all are checked before any is stored
        _check(request, item, name)
    earlier = frozenset(caller.account.entities[EntityType.CONTACTS])
    return hal([_add(caller, item, name, earlier) for item, name in items])


def _check(request: Request, item: Json, name: str) -> None:
    """Raises Invalid, Refused."""
    caller = caller_of(request)
    check(request, EntityType.LEADS, item, name, complex_parts=True)
    embedded = _embedded(item)
    for kind in _PARTS:
        parts = objects(embedded.get(kind.value))
        if len(parts) > 1:
            raise Invalid([("TooMany", f"_embedded.{kind.value}", "At most one.")], name)
        for part in parts:
            check(request, kind, part, name)
            if "id" in part and not is_one_of(part["id"], caller.account.entities[kind]):
                raise Invalid([bad_choice(f"_embedded.{kind.value}.0.id")], name)
    for values in (item, *objects(embedded.get("contacts")), *objects(embedded.get("companies"))):
        if len(objects(values.get("custom_fields_values"))) > MOST_FIELDS:
            raise Invalid([("TooMany", "custom_fields_values", f"At most {MOST_FIELDS}.")], name)
    metadata = _metadata(item)
    if metadata and metadata.get("category") != "sip":     # others there are, and nobody here sends them
        raise Invalid([bad_choice("_embedded.metadata.category")], name)
    if metadata:
        if errors := bad_metadata(request, {key: value for key, value in metadata.items() if key != "category"}):
            raise Invalid(errors, name)
        pipeline = integer(item, "pipeline_id", caller.account.main_pipeline.id)
        if not unsorted.is_accepting(caller.account, pipeline):
            raise Refused(caller.state.switches.unsorted_off_status, "Unsorted is switched off")


def _add(caller: Caller, item: Json, name: str, earlier: frozenset[int]) -> Json:
    """`earlier`: the contacts that were there before the request, within which nothing is deduplicated."""
    metadata, embedded = _metadata(item), _embedded(item)
    if metadata:
        lead_fields = {field: value for field, value in item.items() if field != "_embedded"}
        made = unsorted.make(caller, {
            "pipeline_id": item.get("pipeline_id"), "metadata": metadata, "source_uid": metadata.get("service_code"),
            "_embedded": {**embedded, "leads": [lead_fields]},
        })
        return _answer({kind: next(iter(made.embedded.get(kind, ())), None) for kind in unsorted.PARTS}, name)
    contact, was_known = _contact(caller, embedded, earlier)
    lead = _same_lead(caller, contact, item) if was_known and contact is not None else None
    if lead is None:
        rest = {key: value for key, value in embedded.items() if key not in ("contacts", "companies", "metadata")}
        lead = create(caller, EntityType.LEADS, {**item, "_embedded": rest})
    company = _part(caller, EntityType.COMPANIES, embedded)
    for other in (contact, company):
        if other is not None:
            caller.account.link(lead, other)
    if contact is not None and company is not None:
        caller.account.link(contact, company)
    parts = {EntityType.LEADS: lead, EntityType.CONTACTS: contact, EntityType.COMPANIES: company}
    return _answer({kind: part.id if part is not None else None for kind, part in parts.items()}, name, was_known)


def _answer(ids: dict[EntityType, int | None], name: str, merged: bool = False) -> Json:
    return {
        "id": ids[EntityType.LEADS], "contact_id": ids[EntityType.CONTACTS], "company_id": ids[EntityType.COMPANIES],
        "request_id": [name], "merged": merged,
    }


def _contact(caller: Caller, embedded: Json, earlier: frozenset[int]) -> tuple[Entity | None, bool]:
    """The contact, and whether duplicate control found it by one of its numbers."""
    for part in objects(embedded.get("contacts")):
        if "id" in part or not caller.account.has_duplicate_control:
            continue
        for phone in _phones(part):
            known = caller.account.by_phone(EntityType.CONTACTS, phone)
            if known is not None and known.id in earlier:
                return known, True
    return _part(caller, EntityType.CONTACTS, embedded), False


def _same_lead(caller: Caller, contact: Entity, item: Json) -> Entity | None:
    """An open lead of that contact in the same pipeline takes the new one in."""
    pipeline = integer(item, "pipeline_id", caller.account.main_pipeline.id)
    return next((lead for lead in caller.account.open_leads(contact) if lead.pipeline_id == pipeline), None)


def _part(caller: Caller, kind: EntityType, embedded: Json) -> Entity | None:
    for part in objects(embedded.get(kind.value)):
        return caller.account.entities[kind][part["id"]] if "id" in part else create(caller, kind, part)
    return None


def _phones(part: Json) -> list[str]:
    return [
        str(value.get("value")) for field in objects(part.get("custom_fields_values"))
        if field.get("field_code") == "PHONE" for value in objects(field.get("values"))
    ]


def _embedded(item: Json) -> Json:
    embedded = item.get("_embedded")
    return embedded if isinstance(embedded, dict) else {}


def _metadata(item: Json) -> Json:
    metadata = _embedded(item).get("metadata")
    return metadata if isinstance(metadata, dict) else {}
