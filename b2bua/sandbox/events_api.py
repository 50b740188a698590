"""`GET /api/v4/events` of the stand-in: incoming and outgoing calls, newest first."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox.answers import Caller, Refused, caller_of, hal, is_within, listed, page
from b2bua.sandbox.entities import Json, Note

LARGEST_PAGE = 100
_TYPES = {"call_in": "incoming_call", "call_out": "outgoing_call"}


async def list_events(request: Request) -> Response:
    caller = caller_of(request)
    types = {one for asked in listed(request, "type") for one in asked.split(",")}
    kinds = {one for asked in listed(request, "entity") for one in asked.split(",")}
    ids, users = listed(request, "entity_id"), listed(request, "created_by")
    rows = [
        note for note in reversed(caller.account.notes.values())
        if note.note_type in _TYPES and (not types or _TYPES[note.note_type] in types)
        and (not kinds or note.entity_type.singular in kinds) and (not ids or str(note.entity_id) in ids)
        and (not users or str(note.created_by) in users) and is_within(request, "created_at", note.created_at)
    ]
    return page(request, "events", rows, lambda note: _row(caller, note), largest=LARGEST_PAGE)


async def get_event(request: Request) -> Response:
    caller, wanted = caller_of(request), request.path_params["id"]
    for note in caller.account.notes.values():
        if note.note_type in _TYPES and _id(note) == wanted:
            return hal(_row(caller, note))
    raise Refused(404, "Event not found")


def _id(note: Note) -> str:
    return f"01{note.id:024x}"


def _row(caller: Caller, note: Note) -> Json:
    kind = note.entity_type
    link = caller.self_link(f"{kind.path}/{note.entity_id}")
    return {
        "id": _id(note),
        "type": _TYPES[note.note_type],
        "entity_id": note.entity_id,
        "entity_type": kind.singular,
        "created_by": note.created_by,
        "created_at": note.created_at,
        "value_after": [{"note": {"id": note.id}}],
        "value_before": [],
        "account_id": caller.account.id,
        "_links": caller.self_link(f"/api/v4/events/{_id(note)}"),
        "_embedded": {"entity": {"id": note.entity_id, "_links": link}},
    }
