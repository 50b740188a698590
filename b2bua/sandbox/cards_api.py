"""Contacts, companies, leads and customers of the stand-in: lists with `query`, single cards, writes."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox.account import ENUMS
from b2bua.sandbox.answers import (
    Caller,
    Refused,
    caller_of,
    hal,
    is_within,
    items_of,
    listed,
    nothing,
    object_of,
    ordered,
    page,
    warn,
    with_names,
    written_row,
)
from b2bua.sandbox.card_writes import change, check, create
from b2bua.sandbox.entities import Entity, EntityType, Json

_NAMES = {"PHONE": "Телефон", "EMAIL": "Email"}


def type_of(request: Request) -> EntityType:
    """The third part of the path; the routes let no other word through."""
    return EntityType(request.url.path.split("/")[3])


async def list_cards(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    asked, switches = request.query_params, caller.state.switches
    rows = caller.account.search(kind, asked.get("query", ""), switches.query_digits)
    rows = ordered(request, rows, ("id", "created_at", "updated_at"))
    if switches.has_filters:
        rows = [entity for entity in rows if _passes(request, entity)]
    elif any(name.startswith("filter[") for name in asked):
        warn(request, "filters are ignored without the paid add-on")
    linked = _asked_links(request)
    return page(request, kind.value, rows, lambda entity: card_row(caller, entity, linked))


async def get_card(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    entity = caller.account.entities[kind].get(request.path_params["id"])
    return nothing() if entity is None else hal(card_row(caller, entity, _asked_links(request)))


async def create_cards(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    items = with_names(await items_of(request))
    for item, name in items:                               # all are checked before any is stored
        check(request, kind, item, name)
    rows = [written_row(caller, kind.path, create(caller, kind, item).id, name) for item, name in items]
    return hal({"_links": caller.self_link(kind.path), "_embedded": {kind.value: rows}})


async def change_card(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    item = await object_of(request)
    entity = _checked(request, kind, request.path_params["id"], item, "0")
    change(caller, entity, item)
    return hal(written_row(caller, kind.path, entity.id, None, entity.updated_at))


async def change_cards(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    items = with_names(await items_of(request))
    entities = [_checked(request, kind, item.get("id"), item, name) for item, name in items]
    rows = []
    for entity, (item, name) in zip(entities, items, strict=True):
        change(caller, entity, item)
        rows.append(written_row(caller, kind.path, entity.id, name, entity.updated_at))
    return hal({"_links": caller.self_link(kind.path), "_embedded": {kind.value: rows}})


async def list_fields(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    codes = list(ENUMS) if kind in (EntityType.CONTACTS, EntityType.COMPANIES) else []
    return page(request, "custom_fields", codes, lambda code: _field_row(caller, kind, str(code)), totals=True)


def card_row(caller: Caller, entity: Entity, linked: list[EntityType]) -> Json:
    embedded: Json = {"tags": [{"id": index + 1, "name": tag} for index, tag in enumerate(entity.tags)]}
    for kind in linked:
        embedded[kind.value] = [_link_row(caller, kind, other) for other in entity.links(kind)]
    row: Json = {
        "id": entity.id,
        "name": entity.name,
        "responsible_user_id": entity.responsible_user_id,
        "group_id": 0,
        "created_by": entity.created_by,
        "updated_by": entity.created_by,
        "created_at": entity.created_at,
        "updated_at": entity.updated_at,
        "closest_task_at": None,
        "is_deleted": False,
        "custom_fields_values": _field_values(caller, entity) or None,
        "account_id": caller.account.id,
        "_links": caller.self_link(f"{entity.type.path}/{entity.id}"),
        "_embedded": embedded,
    }
    if entity.type is EntityType.CONTACTS:
        row.update(first_name=entity.first_name, last_name=entity.last_name, is_unsorted=entity.is_hidden)
    if entity.type is EntityType.LEADS:
        row.update(
            price=entity.price, status_id=entity.status_id, pipeline_id=entity.pipeline_id, loss_reason_id=None,
            closed_at=None if entity.is_open_lead else entity.updated_at,
        )
    if entity.type is EntityType.CUSTOMERS:
        row.update(next_price=0, next_date=None, status_id=None, ltv=0, purchases_count=0)
    return row


def _passes(request: Request, entity: Entity) -> bool:
    """The filters of the add-on; those of stages only come with their pipeline."""
    wanted = (
        (listed(request, "id"), str(entity.id)),
        (listed(request, "name"), entity.name),
        (listed(request, "responsible_user_id"), str(entity.responsible_user_id)),
        (listed(request, "created_by"), str(entity.created_by)),
        (listed(request, "pipeline_id"), str(entity.pipeline_id)),
        (_asked_stages(request), str(entity.status_id)),
    )
    return (
        all(not values or value in values for values, value in wanted)
        and is_within(request, "created_at", entity.created_at) and is_within(request, "updated_at", entity.updated_at)
    )


def _asked_stages(request: Request) -> set[str]:
    """`filter[statuses][0][status_id]`"""
    return {
        value for name, value in request.query_params.multi_items()
        if name.startswith("filter[statuses][") and name.endswith("][status_id]")
    }


def _asked_links(request: Request) -> list[EntityType]:
    """Companies always come; the rest when `with` asks."""
    asked = set(request.query_params.get("with", "").split(",")) | {"companies"}
    return [kind for kind in EntityType if kind.value in asked and kind is not type_of(request)]


def _link_row(caller: Caller, kind: EntityType, entity: int) -> Json:
    return {"id": entity, "_links": caller.self_link(f"{kind.path}/{entity}")}


def _field_values(caller: Caller, entity: Entity) -> list[Json]:
    codes = dict.fromkeys(value.code for value in entity.fields)
    return [
        {
            "field_id": caller.account.field_id(code), "field_name": _NAMES[code], "field_code": code,
            "field_type": "multitext",
            "values": [
                {"value": value.value, "enum_id": caller.account.enum_id(code, value.enum), "enum_code": value.enum}
                for value in entity.fields if value.code == code
            ],
        }
        for code in codes
    ]


def _field_row(caller: Caller, kind: EntityType, code: str) -> Json:
    account, field = caller.account, caller.account.field_id(code)
    enums = [{"id": account.enum_id(code, enum), "value": enum, "sort": 500} for enum in account.enums[code]]
    return {
        "id": field, "name": _NAMES[code], "type": "multitext", "account_id": caller.account.id, "code": code,
        "sort": 500, "is_api_only": False, "enums": enums, "entity_type": kind.value, "is_predefined": True,
        "_links": caller.self_link(f"{kind.path}/custom_fields/{field}"),
    }


def _checked(request: Request, kind: EntityType, number: object, item: Json, name: str) -> Entity:
    """The card that this may change. Raises Refused, Invalid."""
    entity = caller_of(request).account.entities[kind].get(number) if isinstance(number, int) else None
    if entity is None:
        raise Refused(404, "Entity not found")
    check(request, kind, item, name)
    return entity
