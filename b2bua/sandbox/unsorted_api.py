"""`/api/v4/leads/unsorted` of the stand-in: calls that wait for somebody to accept or decline them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from b2bua.sandbox import unsorted as fate_of
from b2bua.sandbox.answers import (
    Caller,
    Invalid,
    Refused,
    caller_of,
    hal,
    items_of,
    json_body,
    listed,
    ordered,
    page,
    with_names,
)
from b2bua.sandbox.card_writes import check as check_card
from b2bua.sandbox.checks import (
    Errors,
    bad_choice,
    bad_users,
    integer,
    is_integer,
    is_one_of,
    no_integers,
    no_strings,
    objects,
    warn_of_unknown,
)
from b2bua.sandbox.entities import EntityType, Fate, Json, Unsorted

_PATH = "/api/v4/leads/unsorted"
_MANDATORY = ("source_uid", "source_name", "metadata", "_embedded")
_FIELDS = {*_MANDATORY, "pipeline_id", "created_at", "request_id"}
_METADATA = (
    "phone", "call_responsible", "called_at", "duration", "link", "service_code", "uniq", "is_call_event_needed",
    "from",
)


async def add_calls(request: Request) -> Response:
    caller = caller_of(request)
    named = with_names(await items_of(request))
    for item, name in named:                               # all are checked before any is stored
        _check(request, item, name)
    items = [item for item, _ in named]
    _check_switched_on(caller, items)
    _check_new(caller, items)
    rows = []
    for item, name in named:
        made = fate_of.make(caller, item)
        rows.append({
            "uid": made.uid, "account_id": caller.account.id, "request_id": name,
            "_links": caller.self_link(f"{_PATH}/{made.uid}"), **_parts(caller, made),
        })
    links = caller.self_link(f"{_PATH}/sip")
    return hal({"_total_items": len(rows), "_links": links, "_embedded": {"unsorted": rows}})


async def list_unsorted(request: Request) -> Response:
    """Those that still wait."""
    categories, pipelines, uids = (listed(request, name) for name in ("category", "pipeline_id", "uid"))
    rows = [
        one for one in caller_of(request).account.unsorted.values()
        if one.fate is Fate.OPEN and (not categories or one.category in categories)
        and (not pipelines or str(one.pipeline_id) in pipelines) and (not uids or one.uid in uids)
    ]
    rows = ordered(request, rows, ("created_at",))
    return page(request, "unsorted", rows, lambda one: _row(caller_of(request), one))


async def get_unsorted(request: Request) -> Response:
    return hal(_row(caller_of(request), _waiting(request)))


async def accept(request: Request) -> Response:
    caller, unsorted = caller_of(request), _waiting(request)
    item = await _decision(request, ("user_id", "status_id"))
    stage = item.get("status_id")
    if stage is not None and caller.account.stage(unsorted.pipeline_id, integer(item, "status_id", 0)) is None:
        raise Invalid([bad_choice("status_id")])
    fate_of.accept(
        caller.account, unsorted, integer(item, "user_id", caller.user), integer(item, "status_id", 0) or None,
        caller.now(),
    )
    return hal(_row(caller, unsorted))


async def decline(request: Request) -> Response:
    """Who declines may be said; nothing needs to be."""
    caller, unsorted = caller_of(request), _waiting(request)
    if await request.body():
        await _decision(request, ("user_id",))
    fate_of.decline(caller.account, unsorted, caller.now())
    return hal(_row(caller, unsorted))


async def _decision(request: Request, known: tuple[str, ...]) -> Json:
    item = await json_body(request, may_be_empty=True)
    if not isinstance(item, dict):
        raise Refused(400, "An object is expected")
    warn_of_unknown(request, item, known)
    errors = no_integers(item, known) + bad_users(caller_of(request).account, item, ("user_id",))
    if errors:
        raise Invalid(errors)
    return item


def _waiting(request: Request) -> Unsorted:
    unsorted = caller_of(request).account.unsorted.get(request.path_params["uid"])
    if unsorted is None or unsorted.fate is not Fate.OPEN:
        raise Refused(404, "Unsorted not found")
    return unsorted


def _check(request: Request, item: Json, name: str) -> None:
    """All but the time and the pipeline is mandatory. Raises Invalid."""
    account = caller_of(request).account
    warn_of_unknown(request, item, _FIELDS)
    errors = _not_there(item, _MANDATORY) + no_integers(item, ("pipeline_id", "created_at"))
    if is_integer(item.get("pipeline_id")) and not is_one_of(item["pipeline_id"], account.pipelines):
        errors.append(bad_choice("pipeline_id"))
    metadata, embedded = item.get("metadata"), item.get("_embedded")
    if isinstance(metadata, dict):
        errors += bad_metadata(request, metadata)
    elif metadata is not None:
        errors.append(("InvalidType", "metadata", "This value should be of type object."))
    if isinstance(embedded, dict):
        errors += _bad_parts(request, embedded, name)
    elif embedded is not None:
        errors.append(("InvalidType", "_embedded", "This value should be of type object."))
    if errors:
        raise Invalid(errors, name)


def bad_metadata(request: Request, metadata: Json) -> Errors:
    """Of a call."""
    warn_of_unknown(request, metadata, _METADATA, "metadata.")
    errors = _not_there(metadata, _METADATA, "metadata.")
    there = {field: value for field, value in metadata.items() if value is not None}
    errors += no_integers(there, ("called_at", "duration"), "metadata.")
    errors += no_strings(there, ("phone", "link", "service_code", "uniq", "from"), "metadata.")
    if not isinstance(there.get("is_call_event_needed", False), bool):
        errors.append(("InvalidType", "metadata.is_call_event_needed", "This value should be of type bool."))
    return errors


def _not_there(item: Json, names: tuple[str, ...], where: str = "") -> Errors:
    """An empty link is that of a call without a recording."""
    return [("FieldMissing", where + name, "This field is missing.") for name in names if item.get(name) is None]


def _bad_parts(request: Request, embedded: Json, name: str) -> Errors:
    warn_of_unknown(request, embedded, [kind.value for kind in fate_of.PARTS], "_embedded.")
    errors: Errors = []
    for kind in fate_of.PARTS:
        parts = objects(embedded.get(kind.value))
        if len(parts) > 1:
            errors.append(("TooMany", f"_embedded.{kind.value}", "At most one."))
        for part in parts:
            check_card(request, kind, part, name)
    return errors


def _check_switched_on(caller: Caller, items: list[Json]) -> None:
    """Raises Refused."""
    main = caller.account.main_pipeline.id
    if not all(fate_of.is_accepting(caller.account, integer(item, "pipeline_id", main)) for item in items):
        raise Refused(caller.state.switches.unsorted_off_status, "Unsorted is switched off")


def _check_new(caller: Caller, items: list[Json]) -> None:
    """The same data twice is an error. Raises Refused."""
    prints = [fate_of.fingerprint(item) for item in items]
    if len(set(prints)) < len(prints) or caller.account.unsorted_prints.intersection(prints):
        raise Refused(caller.state.switches.duplicate_unsorted_status, "Such an unsorted lead was added already")
    caller.account.unsorted_prints.update(prints)


def _row(caller: Caller, unsorted: Unsorted) -> Json:
    return {
        "uid": unsorted.uid,
        "source_uid": unsorted.source_uid,
        "source_name": unsorted.source_name,
        "category": unsorted.category,
        "pipeline_id": unsorted.pipeline_id,
        "created_at": unsorted.created_at,
        "metadata": unsorted.metadata,
        "account_id": caller.account.id,
        "_links": caller.self_link(f"{_PATH}/{unsorted.uid}"),
        **_parts(caller, unsorted),
    }


def _parts(caller: Caller, unsorted: Unsorted) -> Json:
    rows = {
        kind.value: [
            {"id": number, "_links": caller.self_link(f"{kind.path}/{number}")}
            for number in unsorted.embedded.get(kind, ())
        ]
        for kind in (EntityType.CONTACTS, EntityType.LEADS, EntityType.COMPANIES)
    }
    return {"_embedded": rows}
