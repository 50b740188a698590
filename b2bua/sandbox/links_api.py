"""`/link`, `/unlink` and `/links` of the stand-in's cards."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox.answers import Caller, Invalid, Refused, caller_of, hal, items_of, listed, nothing
from b2bua.sandbox.cards_api import type_of
from b2bua.sandbox.checks import bad_choice, is_one_of, warn_of_unknown
from b2bua.sandbox.entities import Entity, EntityType, Json

_FIELDS = ("to_entity_id", "to_entity_type", "metadata", "request_id")
_METADATA = ("is_main", "quantity", "catalog_id", "price_id", "updated_by")


async def list_links(request: Request) -> Response:
    caller, entity = caller_of(request), _entity(request)
    kinds, ids = listed(request, "to_entity_type"), listed(request, "to_entity_id")
    rows = [
        {**_row(kind, other), "metadata": _metadata(entity, kind, other)}
        for kind, others in entity.linked.items() for other in others
        if (not kinds or kind.value in kinds) and (not ids or str(other) in ids)
    ]
    if not rows:
        return nothing()
    return hal({
        "_total_items": len(rows), "_links": caller.self_link(request.url.path), "_embedded": {"links": rows},
    })


async def link(request: Request) -> Response:
    caller, entity = caller_of(request), _entity(request)
    others = await _others(request, entity)
    for other in others:
        caller.account.link(entity, other)
    rows = [
        {"entity_id": entity.id, "entity_type": entity.type.value, **_row(other.type, other.id),
         "metadata": _metadata(entity, other.type, other.id)}
        for other in others
    ]
    return hal({
        "_total_items": len(rows), "_links": caller.self_link(request.url.path.removesuffix("/link") + "/links"),
        "_embedded": {"links": rows},
    })


async def unlink(request: Request) -> Response:
    caller, entity = caller_of(request), _entity(request)
    for other in await _others(request, entity):
        caller.account.unlink(entity, other)
    return nothing()


def _entity(request: Request) -> Entity:
    entity = caller_of(request).account.entities[type_of(request)].get(request.path_params["id"])
    if entity is None:
        raise Refused(404, "Entity not found")
    return entity


async def _others(request: Request, entity: Entity) -> list[Entity]:
    """What is to be linked or parted. Raises Invalid."""
    caller = caller_of(request)
    others = []
    for index, item in enumerate(await items_of(request)):
        warn_of_unknown(request, item, _FIELDS)
        metadata = item.get("metadata")
        warn_of_unknown(request, metadata if isinstance(metadata, dict) else {}, _METADATA, "metadata.")
        others.append(_other(caller, entity, item, str(index)))
    return others


def _other(caller: Caller, entity: Entity, item: Json, name: str) -> Entity:
    kind = item.get("to_entity_type")
    if not is_one_of(kind, {known.value for known in EntityType} - {entity.type.value}):
        raise Invalid([bad_choice("to_entity_type")], name)
    known, number = caller.account.entities[EntityType(kind)], item.get("to_entity_id")
    if not is_one_of(number, known):
        raise Invalid([bad_choice("to_entity_id")], name)
    return known[int(str(number))]


def _row(kind: EntityType, number: int) -> Json:
    return {"to_entity_id": number, "to_entity_type": kind.value}


def _metadata(entity: Entity, kind: EntityType, other: int) -> Json | None:
    """A lead's first contact is its main one."""
    if kind is not EntityType.CONTACTS:
        return None
    return {"main_contact": entity.links(kind)[0] == other}
