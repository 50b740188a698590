"""`/api/v4/webhooks` of the stand-in, for administrators."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox.answers import (
    Caller,
    Invalid,
    Refused,
    administrators_only,
    caller_of,
    hal,
    nothing,
    object_of,
    page,
)
from b2bua.sandbox.checks import Errors, bad_choice, integer, missing, no_integers, no_strings, warn_of_unknown
from b2bua.sandbox.entities import Json
from b2bua.sandbox.webhooks import MOST_WEBHOOKS, SETTINGS, Webhook


async def list_webhooks(request: Request) -> Response:
    administrators_only(request)
    wanted = request.query_params.get("filter[destination]")
    hooks = caller_of(request).account.webhooks.by_destination.values()
    rows = [hook for hook in hooks if wanted in (None, hook.destination)]
    return page(request, "webhooks", rows, lambda hook: _row(caller_of(request), hook))


async def subscribe(request: Request) -> Response:
    """The same destination again changes what is there."""
    administrators_only(request)
    caller, item = caller_of(request), await object_of(request)
    warn_of_unknown(request, item, ("destination", "settings", "sort"))
    if errors := _errors(item):
        raise Invalid(errors)
    hooks, destination, now = caller.account.webhooks.by_destination, str(item["destination"]), caller.now()
    if destination not in hooks and len(hooks) >= MOST_WEBHOOKS:
        raise Refused(400, f"At most {MOST_WEBHOOKS} webhooks")
    known = hooks.get(destination)
    settings = item["settings"]
    assert isinstance(settings, list)
    hooks[destination] = hook = Webhook(
        known.id if known is not None else caller.account.next_id(), destination, tuple(settings),
        integer(item, "sort", 0), caller.user, known.created_at if known is not None else now, now,
    )
    return hal(_row(caller, hook), 201)


async def unsubscribe(request: Request) -> Response:
    administrators_only(request)
    item = await object_of(request)
    warn_of_unknown(request, item, ("destination",))
    if caller_of(request).account.webhooks.by_destination.pop(str(item.get("destination")), None) is None:
        raise Refused(404, "Webhook not found")
    return nothing()


def _errors(item: Json) -> Errors:
    errors = missing(item, ("destination", "settings")) + no_strings(item, ("destination",))
    errors += no_integers(item, ("sort",))
    settings = item.get("settings")
    is_known = isinstance(settings, list) and bool(settings) and SETTINGS.issuperset(map(str, settings))
    if settings is not None and not is_known:
        errors.append(bad_choice("settings"))
    if not errors and urlsplit(str(item["destination"])).scheme not in ("http", "https"):
        errors.append(bad_choice("destination"))
    return errors


def _row(caller: Caller, hook: Webhook) -> Json:
    return {
        "id": hook.id, "destination": hook.destination, "created_at": hook.created_at, "updated_at": hook.updated_at,
        "account_id": caller.account.id, "created_by": hook.created_by, "sort": hook.sort,
        "disabled": hook.is_disabled, "settings": list(hook.settings),
    }
