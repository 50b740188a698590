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
    is_within,
    items_of,
    listed,
    nothing,
    object_of,
    ordered,
    page,
    with_names,
    written_row,
)
from b2bua.sandbox.cards_api import type_of
from b2bua.sandbox.checks import Errors, bad_choice, bad_users, integer, is_one_of, no_integers, warn_of_unknown
from b2bua.sandbox.entities import EntityType, Json, Note
from b2bua.sandbox.views import CALLS

NOTE_TYPES = frozenset({
    "common", "call_in", "call_out", "service_message", "extended_service_message", "message_cashier", "geolocation",
    "sms_in", "sms_out", "attachment",
})
_FIELDS = {
    "id", "entity_id", "note_type", "params", "created_by", "updated_by", "responsible_user_id", "created_at",
    "updated_at", "group_id", "request_id", "is_need_to_trigger_digital_pipeline",
}
_CALL_PARAMS = frozenset({
    "uniq", "duration", "source", "link", "phone", "call_responsible", "call_status", "call_result",
})
_PARAMS = {
    "common": frozenset({"text"}), "call_in": _CALL_PARAMS, "call_out": _CALL_PARAMS,
    "service_message": frozenset({"service", "text"}), "extended_service_message": frozenset({"service", "text"}),
    "sms_in": frozenset({"text", "phone"}), "sms_out": frozenset({"text", "phone"}),
}


async def list_notes(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    types, cards, ids = listed(request, "note_type"), listed(request, "entity_id"), listed(request, "id")
    if (card := request.path_params.get("card")) is not None:
        cards = {str(card)}
    rows = [
        note for note in caller.account.notes.values()
        if note.entity_type is kind and (not types or note.note_type in types)
        and (not cards or str(note.entity_id) in cards) and (not ids or str(note.id) in ids)
        and is_within(request, "updated_at", note.updated_at)
    ]
    rows = ordered(request, rows, ("id", "created_at", "updated_at"))
    return page(request, "notes", rows, lambda note: note_row(caller, note))


async def get_note(request: Request) -> Response:
    note = caller_of(request).account.notes.get(request.path_params["id"])
    is_there = note is not None and note.entity_type is type_of(request)
    return hal(note_row(caller_of(request), note)) if note is not None and is_there else nothing()


async def create_notes(request: Request) -> Response:
    caller, kind = caller_of(request), type_of(request)
    items = with_names([dict(item) for item in await items_of(request)])
    for item, name in items:
        item.setdefault("entity_id", request.path_params.get("card"))
        _check(request, kind, item, name)
    rows = []
    for item, name in items:
        now = caller.now()
        note = caller.account.add_note(Note(
            caller.account.next_id(), kind, integer(item, "entity_id", 0), str(item["note_type"]), _params(item),
            integer(item, "created_by", caller.user), integer(item, "responsible_user_id", caller.user),
            integer(item, "created_at", now), integer(item, "updated_at", now),
        ), now)
        rows.append(_written(caller, note, name))
    return hal({"_links": caller.self_link(request.url.path), "_embedded": {"notes": rows}})


async def change_note(request: Request) -> Response:
    caller, item = caller_of(request), await object_of(request)
    note = _checked(request, request.path_params["id"], item, "0")
    _change(caller, note, item)
    return hal(_written(caller, note, None, note.updated_at))


async def change_notes(request: Request) -> Response:
    caller, items = caller_of(request), with_names(await items_of(request))
    notes = [_checked(request, item.get("id"), item, name) for item, name in items]
    rows = []
    for note, (item, name) in zip(notes, items, strict=True):
        _change(caller, note, item)
        rows.append(_written(caller, note, name, note.updated_at))
    return hal({"_links": caller.self_link(request.url.path), "_embedded": {"notes": rows}})


def note_row(caller: Caller, note: Note) -> Json:
    params = note.params
    if caller.state.switches.call_status_as_string and "call_status" in params:
        params = {**params, "call_status": str(params["call_status"])}
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
        "params": params,
        "account_id": caller.account.id,
        "_links": caller.self_link(f"{note.entity_type.path}/{note.entity_id}/notes/{note.id}"),
    }


def _written(caller: Caller, note: Note, name: str | None, updated_at: int | None = None) -> Json:
    path = f"{note.entity_type.path}/{note.entity_id}/notes"
    return {**written_row(caller, path, note.id, name, updated_at), "entity_id": note.entity_id}


def _checked(request: Request, number: object, item: Json, name: str) -> Note:
    """The note that this may change. Raises Refused, Invalid."""
    note = caller_of(request).account.notes.get(number) if isinstance(number, int) else None
    card = request.path_params.get("card")
    if note is None or note.entity_type is not type_of(request) or card not in (None, note.entity_id):
        raise Refused(404, "Note not found")
    _check(request, note.entity_type, {"note_type": note.note_type, **item, "entity_id": note.entity_id}, name)
    return note


def _change(caller: Caller, note: Note, item: Json) -> None:
    note.params = {**note.params, **_params(item)}
    note.responsible_user_id = integer(item, "responsible_user_id", note.responsible_user_id)
    note.updated_at = integer(item, "updated_at", caller.now())


def _check(request: Request, kind: EntityType, item: Json, name: str) -> None:
    """Raises Invalid."""
    caller = caller_of(request)
    warn_of_unknown(request, item, _FIELDS)
    errors = no_integers(item, ("created_by", "responsible_user_id", "created_at", "updated_at"))
    if not is_one_of(item.get("entity_id"), caller.account.entities[kind]):
        errors.append(("NotSupportedChoice", "entity_id", "There is no such entity."))
    if not is_one_of(item.get("note_type"), NOTE_TYPES):
        errors.append(bad_choice("note_type"))
    params = item.get("params", {})
    if not isinstance(params, dict):
        errors.append(("InvalidType", "params", "This value should be of type array."))
    else:
        errors += _bad_params(request, str(item.get("note_type")), params)
    errors += bad_users(caller.account, item, ("responsible_user_id", "created_by"))
    if errors:
        raise Invalid(errors, name)


def _bad_params(request: Request, note_type: str, params: Json) -> Errors:
    """A change may send some of them only."""
    if (known := _PARAMS.get(note_type)) is not None:
        warn_of_unknown(request, params, known, "params.")
    if note_type not in CALLS:
        return []
    errors = [
        ("NotNullable", f"params.{field}", "This value should not be null.")
        for field, value in params.items() if value is None
    ]
    return errors or no_integers(params, ("duration", "call_status"), "params.")


def _params(item: Json) -> Json:
    params = item.get("params")
    return dict(params) if isinstance(params, dict) else {}
