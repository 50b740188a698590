"""`POST /api/v4/calls` of the stand-in: finds the card by number and leaves a note; takes doubles, as amoCRM does."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox.answers import Caller, Invalid, as_json, caller_of, hal, items_of, warn, with_names
from b2bua.sandbox.checks import bad_choice, bad_users, is_one_of, warn_of_unknown
from b2bua.sandbox.entities import Entity, Json, Note

NOBODY = 263
_NOTE_TYPES = {"inbound": "call_in", "outbound": "call_out"}
_PARAMS = ("uniq", "duration", "source", "link", "phone", "call_result", "call_status", "call_responsible")
_FIELDS = {
    *_PARAMS, "direction", "created_by", "updated_by", "responsible_user_id", "created_at", "updated_at", "request_id",
}


async def add_calls(request: Request) -> Response:
    caller = caller_of(request)
    items = with_names(await items_of(request))
    for item, name in items:
        _check(request, item, name)
    written: list[Json] = []
    errors: list[Json] = []
    for item, name in items:
        card = caller.account.card_of(str(item["phone"]))
        if card is None:
            detail = "Entity for the phone number is not found"
            errors.append({"title": "Entity not found", "status": NOBODY, "detail": detail, "request_id": name})
        else:
            written.append(_row(caller, card, _note(caller, card, item), name))
    body: Json = {"_total_items": len(written), "errors": errors, "_embedded": {"calls": written}}
    if not errors:
        return hal(body)
    status = caller.state.switches.mixed_calls_status if written else 400
    kind = "hal" if status < 400 else "problem"
    return Response(as_json(body), status, media_type=f"application/{kind}+json")


def _check(request: Request, item: Json, name: str) -> None:
    """Raises Invalid. Nulls are taken in optional fields, as the vendor's own library sends them."""
    warn_of_unknown(request, item, _FIELDS)
    for field in ("uniq", "link", "call_result", "call_status"):
        if field in item and item[field] is None:
            warn(request, f"null in {field!r}")
    errors = [
        ("FieldMissing", field, "This field is missing.")
        for field in ("direction", "duration", "source", "phone") if item.get(field) in (None, "")
    ]
    if item.get("direction") not in (None, "") and not is_one_of(item["direction"], _NOTE_TYPES):
        errors.append(bad_choice("direction"))
    for field in ("duration", "call_status", "created_at", "updated_at", "created_by", "responsible_user_id"):
        value = item.get(field)
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
            errors.append(("InvalidType", field, "This value should be of type int."))
    errors += bad_users(caller_of(request).account, item, ("responsible_user_id", "created_by"))
    if errors:
        raise Invalid(errors, name)


def _note(caller: Caller, card: Entity, item: Json) -> Note:
    now = caller.now()
    responsible = _user(item.get("call_responsible")) or _user(item.get("created_by")) or 0
    return caller.account.add_note(Note(
        id=caller.account.next_id(),
        entity_type=card.type,
        entity_id=card.id,
        note_type=_NOTE_TYPES[str(item["direction"])],
        params={name: item[name] for name in _PARAMS if item.get(name) is not None},
        created_by=_user(item.get("created_by")) or responsible,
        responsible_user_id=_user(item.get("responsible_user_id")) or responsible,
        created_at=_time(item.get("created_at"), now),
        updated_at=_time(item.get("updated_at"), now),
    ), now)


def _row(caller: Caller, card: Entity, note: Note, name: str) -> Json:
    link = caller.self_link(f"{card.type.path}/{card.id}")
    return {
        "id": note.id, "entity_id": card.id, "entity_type": card.type.singular, "account_id": caller.account.id,
        "request_id": name, "_embedded": {"entity": {"id": card.id, "_links": link}},
    }


def _user(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _time(value: object, default: int) -> int:
    return int(value) if isinstance(value, int | float) else default
