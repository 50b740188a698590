"""Contacts, companies and leads of the stand-in: lists with `query`, single cards, writes with their checks."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox.answers import (
    Caller,
    Refused,
    caller_of,
    hal,
    items_of,
    json_body,
    nothing,
    page,
    request_id,
    warn,
)
from b2bua.sandbox.card_writes import ENUMS, check, enum_id, fill
from b2bua.sandbox.entities import Entity, EntityType, Json

_NAMES = {"PHONE": "Телефон", "EMAIL": "Email"}
_FIRST_STAGE, _MAIN_PIPELINE = 1_001, 1_000


def type_of(request: Request) -> EntityType:
    """The third part of the path; the routes let no other word through."""
    return EntityType(request.url.path.split("/")[3])


async def list_cards(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    rows = caller.account.search(kind, request.query_params.get("query", ""))
    for name in ("updated_at", "created_at", "id"):
        direction = request.query_params.get(f"order[{name}]")
        if direction is not None:
            rows.sort(key=lambda entity: (getattr(entity, name), entity.id), reverse=direction == "desc")
    if any(name.startswith("filter[") for name in request.query_params) and not caller.state.switches.has_filters:
        warn(request, "filters are ignored without the paid add-on")
    linked = _asked_links(request)
    return page(request, kind.value, rows, lambda entity: card_row(caller, entity, linked))


async def get_card(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    entity = caller.account.entities[kind].get(request.path_params["id"])
    return nothing() if entity is None else hal(card_row(caller, entity, _asked_links(request)))


async def create_cards(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    items = await items_of(request)
    ids = [request_id(item, index) for index, item in enumerate(items)]
    for item, name in zip(items, ids, strict=True):        # all are checked before any is stored
        check(request, kind, item, name)
    now = caller.now()
    rows = []
    for item, name in zip(items, ids, strict=True):
        entity = Entity(kind, caller.account.next_id(), "", caller.user, caller.user, now, now)
        if kind is EntityType.LEADS:
            entity.status_id, entity.pipeline_id = _FIRST_STAGE, _MAIN_PIPELINE
        fill(caller, entity, item)
        caller.account.add(entity)
        rows.append(_written_row(caller, entity, name))
    return hal({"_links": caller.self_link(f"/api/v4/{kind.value}"), "_embedded": {kind.value: rows}})


async def change_card(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    item = await json_body(request)
    if not isinstance(item, dict):
        raise Refused(400, "An object is expected")
    entity = _change(request, kind, request.path_params["id"], item, "0")
    return hal(_written_row(caller, entity, None))


async def change_cards(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    rows = []
    for index, item in enumerate(await items_of(request)):
        name = request_id(item, index)
        rows.append(_written_row(caller, _change(request, kind, item.get("id"), item, name), name))
    return hal({"_links": caller.self_link(f"/api/v4/{kind.value}"), "_embedded": {kind.value: rows}})


async def list_fields(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    codes = ["PHONE", "EMAIL"] if kind is not EntityType.LEADS else []
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
        "_links": caller.self_link(f"/api/v4/{entity.type.value}/{entity.id}"),
        "_embedded": embedded,
    }
    if entity.type is EntityType.CONTACTS:
        row.update(first_name=entity.first_name, last_name=entity.last_name, is_unsorted=False)
    if entity.type is EntityType.LEADS:
        row.update(
            price=entity.price, status_id=entity.status_id, pipeline_id=entity.pipeline_id, loss_reason_id=None,
            closed_at=None if entity.is_open_lead else entity.updated_at,
        )
    return row


def _asked_links(request: Request) -> list[EntityType]:
    """Companies always come; the rest when `with` asks."""
    asked = set(request.query_params.get("with", "").split(",")) | {"companies"}
    return [kind for kind in EntityType if kind.value in asked and kind is not type_of(request)]


def _link_row(caller: Caller, kind: EntityType, entity: int) -> Json:
    return {"id": entity, "_links": caller.self_link(f"/api/v4/{kind.value}/{entity}")}


def _field_values(caller: Caller, entity: Entity) -> list[Json]:
    codes = dict.fromkeys(value.code for value in entity.fields)
    return [
        {
            "field_id": caller.account.field_id(code), "field_name": _NAMES[code], "field_code": code,
            "field_type": "multitext",
            "values": [
                {"value": value.value, "enum_id": enum_id(caller, code, value.enum), "enum_code": value.enum}
                for value in entity.fields if value.code == code
            ],
        }
        for code in codes
    ]


def _field_row(caller: Caller, kind: EntityType, code: str) -> Json:
    enums = [{"id": enum_id(caller, code, enum), "value": enum, "sort": 500} for enum in ENUMS[code]]
    field = caller.account.field_id(code)
    return {
        "id": field, "name": _NAMES[code], "type": "multitext", "account_id": caller.account.id, "code": code,
        "sort": 500, "is_api_only": False, "enums": enums, "entity_type": kind.value, "is_predefined": True,
        "_links": caller.self_link(f"/api/v4/{kind.value}/custom_fields/{field}"),
    }


def _written_row(caller: Caller, entity: Entity, name: str | None) -> Json:
    row: Json = {"id": entity.id, "_links": caller.self_link(f"/api/v4/{entity.type.value}/{entity.id}")}
    if name is None:
        row["updated_at"] = entity.updated_at
    else:
        row["request_id"] = name
    return row


def _change(request: Request, kind: EntityType, entity_id: object, item: Json, name: str) -> Entity:
    caller = caller_of(request)
    entity = caller.account.entities[kind].get(entity_id) if isinstance(entity_id, int) else None
    if entity is None:
        raise Refused(404, "Entity not found")
    check(request, kind, item, name)
    fill(caller, entity, item)
    if "updated_at" not in item:
        entity.updated_at = caller.now()
    return entity
