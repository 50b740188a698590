"""Notes of the stand-in's cards: written, changed, listed with the free filters."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox.answers import (
    Caller,
    Invalid,
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
from b2bua.sandbox.card_writes import bad_users
from b2bua.sandbox.cards_api import type_of
from b2bua.sandbox.entities import EntityType, Json, Note

NOTE_TYPES = frozenset({
    "common", "call_in", "call_out", "service_message", "extended_service_message", "message_cashier", "geolocation",
    "sms_in", "sms_out", "attachment",
})
CALLS = frozenset({"call_in", "call_out"})
_FIELDS = {
    "id", "entity_id", "note_type", "params", "created_by", "updated_by", "responsible_user_id", "created_at",
    "updated_at", "group_id", "request_id", "is_need_to_trigger_digital_pipeline",
}


async def list_notes(request: Request) -> Response:
    caller, kind, query = caller_of(request), type_of(request), request.query_params
    types = set(query.getlist("filter[note_type]") + query.getlist("filter[note_type][]"))
    cards = set(query.getlist("filter[entity_id]") + query.getlist("filter[entity_id][]"))
    if (card := request.path_params.get("card")) is not None:
        cards = {str(card)}
    rows = [
        note for note in caller.account.notes.values()
        if note.entity_type is kind and (not types or note.note_type in types)
        and (not cards or str(note.entity_id) in cards) and _is_updated_within(request, note)
    ]
    for name in ("id", "updated_at", "created_at"):
        if (direction := query.get(f"order[{name}]")) is not None:
            rows.sort(key=lambda note: (getattr(note, name), note.id), reverse=direction == "desc")
    return page(request, "notes", rows, lambda note: note_row(caller, note))


async def get_note(request: Request) -> Response:
    note = caller_of(request).account.notes.get(request.path_params["id"])
    is_there = note is not None and note.entity_type is type_of(request)
    return hal(note_row(caller_of(request), note)) if note is not None and is_there else nothing()


async def create_notes(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    items = [dict(item) for item in await items_of(request)]
    names = [request_id(item, index) for index, item in enumerate(items)]
    for item, name in zip(items, names, strict=True):
        item.setdefault("entity_id", request.path_params.get("card"))
        _check(request, kind, item, name)
    rows = []
    for item, name in zip(items, names, strict=True):
        now = caller.now()
        note = caller.account.add_note(Note(
            caller.account.next_id(), kind, _int(item, "entity_id", 0), str(item["note_type"]), _params(item),
            _int(item, "created_by", caller.user), _int(item, "responsible_user_id", caller.user),
            _int(item, "created_at", now), _int(item, "updated_at", now),
        ))
        rows.append(_written_row(caller, note, name))
    return hal({"_links": caller.self_link(request.url.path), "_embedded": {"notes": rows}})


async def change_note(request: Request) -> Response:
    item = await json_body(request)
    if not isinstance(item, dict):
        raise Refused(400, "An object is expected")
    caller = caller_of(request)
    note = _change(request, request.path_params["id"], item, "0")
    return hal(_written_row(caller, note, None))


async def change_notes(request: Request) -> Response:
    caller = caller_of(request)
    rows = []
    for index, item in enumerate(await items_of(request)):
        name = request_id(item, index)
        rows.append(_written_row(caller, _change(request, item.get("id"), item, name), name))
    return hal({"_links": caller.self_link(request.url.path), "_embedded": {"notes": rows}})


def note_row(caller: Caller, note: Note) -> Json:
    return {
        "id": note.id,
        "entity_id": note.entity_id,
        "created_by": note.created_by,
        "updated_by": note.created_by,
        "created_at": note.created_at,
        "updated_at": note.updated_at,
        "responsible_user_id": note.responsible_user_id,
        "group_id": 0,
        "note_type": note.note_type,
        "params": note.params,
        "account_id": caller.account.id,
        "_links": caller.self_link(f"/api/v4/{note.entity_type.value}/{note.entity_id}/notes/{note.id}"),
    }


def _written_row(caller: Caller, note: Note, name: str | None) -> Json:
    link = caller.self_link(f"/api/v4/{note.entity_type.value}/{note.entity_id}/notes/{note.id}")
    row: Json = {"id": note.id, "entity_id": note.entity_id, "_links": link}
    if name is None:
        row["updated_at"] = note.updated_at
    else:
        row["request_id"] = name
    return row


def _change(request: Request, note_id: object, item: Json, name: str) -> Note:
    caller = caller_of(request)
    note = caller.account.notes.get(note_id) if isinstance(note_id, int) else None
    card = request.path_params.get("card")
    if note is None or note.entity_type is not type_of(request) or card not in (None, note.entity_id):
        raise Refused(404, "Note not found")
    _check(request, note.entity_type, {"note_type": note.note_type, **item, "entity_id": note.entity_id}, name)
    note.params = {**note.params, **_params(item)}
    note.responsible_user_id = _int(item, "responsible_user_id", note.responsible_user_id)
    note.updated_at = _int(item, "updated_at", caller.now())
    return note


def _check(request: Request, kind: EntityType, item: Json, name: str) -> None:
    """Raises Invalid."""
    caller = caller_of(request)
    for unknown in set(item) - _FIELDS:
        warn(request, f"unknown field {unknown!r}")
    errors = []
    if not isinstance(item.get("entity_id"), int) or item["entity_id"] not in caller.account.entities[kind]:
        errors.append(("NotSupportedChoice", "entity_id", "There is no such entity."))
    if item.get("note_type") not in NOTE_TYPES:
        errors.append(("NotSupportedChoice", "note_type", "The value you selected is not a valid choice."))
    params = item.get("params", {})
    if not isinstance(params, dict):
        errors.append(("InvalidType", "params", "This value should be of type array."))
    elif item.get("note_type") in CALLS:
        errors += [
            ("NotNullable", f"params.{field}", "This value should not be null.")
            for field, value in params.items() if value is None
        ]
    errors += bad_users(caller, item, ("responsible_user_id", "created_by"))
    if errors:
        raise Invalid(errors, name)


def _is_updated_within(request: Request, note: Note) -> bool:
    start, end = (request.query_params.get(f"filter[updated_at][{side}]", "") for side in ("from", "to"))
    return (not start.isdecimal() or note.updated_at >= int(start)) and (
        not end.isdecimal() or note.updated_at <= int(end)
    )


def _params(item: Json) -> Json:
    params = item.get("params")
    return dict(params) if isinstance(params, dict) else {}


def _int(item: Json, name: str, default: int) -> int:
    value = item.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else default
