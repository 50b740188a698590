"""`POST /api/v2/events/` of the stand-in: the incoming-call pop-up, as JSON or as a form."""

from __future__ import annotations

import re
import uuid

from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox.answers import Caller, Refused, caller_of, form_fields, hal, json_body, warn
from b2bua.sandbox.checks import warn_of_unknown
from b2bua.sandbox.entities import Json, ShownPopUp

_FORM_KEY = re.compile(r"add\[(\d{1,3})\]\[(\w{1,40})\](\[\d{0,4}\])?\Z")
_FIELDS = {"type", "phone_number", "users"}


async def add_events(request: Request) -> Response:
    caller = caller_of(request)
    events = await _events(request)
    if not events:
        raise Refused(400, "Request data can not be empty")
    items = []
    for event in events:
        warn_of_unknown(request, event, _FIELDS)
        if event.get("type") != "phone_call" or not event.get("phone_number"):
            raise Refused(400, "type and phone_number are expected")
        items.append(_shown(request, caller, event))
    link = {"self": {"href": "/api/v2/events", "method": "post"}}
    return hal({"_links": link, "_embedded": {"items": items}})


def _shown(request: Request, caller: Caller, event: Json) -> Json:
    phone = str(event["phone_number"])
    asked = event.get("users")
    if asked is not None and not asked:
        warn(request, "an empty list of users shows the pop-up to all")
    known = {str(user): user for user in caller.account.users}
    named = asked if isinstance(asked, list) and asked else list(known)
    users = tuple(known[str(user)] for user in named if str(user) in known)
    card = caller.account.card_of(phone)
    kind, card_id = (card.type, card.id) if card is not None else (None, None)
    caller.account.pop_ups.append(ShownPopUp(caller.now(), phone, users, kind, card_id))
    return {
        "element_id": card_id, "element_type": kind.number if kind is not None else None, "uid": uuid.uuid4().hex,
        "phone_number": phone,
    }


async def _events(request: Request) -> list[Json]:
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return _form_events(request, await request.body())
    body = await json_body(request)
    added = body.get("add") if isinstance(body, dict) else None
    return [event for event in added if isinstance(event, dict)] if isinstance(added, list) else []


def _form_events(request: Request, body: bytes) -> list[Json]:
    """Keys such as `add[0][users][1]`."""
    events: dict[str, Json] = {}
    for key, value in form_fields(body):
        if (match := _FORM_KEY.match(key)) is None:
            warn(request, f"unknown field {key!r}")
            continue
        event = events.setdefault(match[1], {})
        if match[3] is None:
            event[match[2]] = value
        elif isinstance(values := event.setdefault(match[2], []), list):
            values.append(value)
    return list(events.values())
