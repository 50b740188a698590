"""Tasks of the stand-in: written, completed, listed with the free filters."""

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
from b2bua.sandbox.checks import (
    Errors,
    bad_choice,
    bad_users,
    integer,
    is_one_of,
    missing,
    no_integers,
    no_strings,
    warn_of_unknown,
)
from b2bua.sandbox.entities import EntityType, Json, Task

TASK_TYPES = (
    {"id": 1, "name": "Связаться", "color": None, "icon_id": None, "code": "FOLLOW_UP"},
    {"id": 2, "name": "Встреча", "color": None, "icon_id": None, "code": "MEETING"},
)
_PATH = "/api/v4/tasks"
_FIELDS = {
    "id", "responsible_user_id", "entity_id", "entity_type", "is_completed", "task_type_id", "text", "duration",
    "complete_till", "result", "created_by", "updated_by", "created_at", "updated_at", "request_id",
}
_INTEGERS = (
    "responsible_user_id", "entity_id", "task_type_id", "duration", "complete_till", "created_by", "created_at",
    "updated_at",
)


async def list_tasks(request: Request) -> Response:
    rows = [task for task in caller_of(request).account.tasks.values() if _passes(request, task)]
    rows = ordered(request, rows, ("id", "created_at", "complete_till"))
    return page(request, "tasks", rows, lambda task: _row(caller_of(request), task))


async def get_task(request: Request) -> Response:
    task = caller_of(request).account.tasks.get(request.path_params["id"])
    return nothing() if task is None else hal(_row(caller_of(request), task))


async def create_tasks(request: Request) -> Response:
    caller = caller_of(request)
    items = with_names(await items_of(request))
    for item, name in items:                               # all are checked before any is stored
        _check(request, item, name, must_have=("text", "complete_till"))
    rows = []
    for item, name in items:
        now = caller.now()
        task = Task(caller.account.next_id(), "", 0, caller.user, caller.user, now, now)
        _fill(task, item)
        caller.account.add_task(task)
        caller.account.tell_of_task("add", task, now)
        rows.append(written_row(caller, _PATH, task.id, name))
    return hal({"_links": caller.self_link(_PATH), "_embedded": {"tasks": rows}})


async def change_task(request: Request) -> Response:
    item = await object_of(request)
    task = _checked(request, request.path_params["id"], item, "0")
    _change(caller_of(request), task, item)
    return hal(written_row(caller_of(request), _PATH, task.id, None, task.updated_at))


async def change_tasks(request: Request) -> Response:
    caller, items = caller_of(request), with_names(await items_of(request))
    tasks = [_checked(request, item.get("id"), item, name) for item, name in items]
    rows = []
    for task, (item, name) in zip(tasks, items, strict=True):
        _change(caller, task, item)
        rows.append(written_row(caller, _PATH, task.id, name, task.updated_at))
    return hal({"_links": caller.self_link(_PATH), "_embedded": {"tasks": rows}})


def _checked(request: Request, number: object, item: Json, name: str) -> Task:
    """The task that this may change. Raises Refused, Invalid."""
    task = caller_of(request).account.tasks.get(number) if isinstance(number, int) else None
    if task is None:
        raise Refused(404, "Task not found")
    _check(request, item, name)
    return task


def _change(caller: Caller, task: Task, item: Json) -> None:
    task.updated_at = caller.now()
    _fill(task, item)
    caller.account.tell_of_task("update", task, task.updated_at)


def _check(request: Request, item: Json, name: str, must_have: tuple[str, ...] = ()) -> None:
    """Raises Invalid."""
    account = caller_of(request).account
    warn_of_unknown(request, item, _FIELDS)
    errors = missing(item, must_have) + no_integers(item, [field for field in _INTEGERS if item.get(field) is not None])
    errors += no_strings(item, ("text",)) if "text" not in must_have or item.get("text") is not None else []
    errors += bad_users(account, item, ("responsible_user_id", "created_by"))
    if not isinstance(item.get("is_completed", False), bool):
        errors.append(("InvalidType", "is_completed", "This value should be of type bool."))
    if not is_one_of(item.get("task_type_id", 1), {kind["id"] for kind in TASK_TYPES}):
        errors.append(bad_choice("task_type_id"))
    result = item.get("result", {"text": ""})
    if not isinstance(result, dict) or not isinstance(result.get("text"), str):
        errors.append(("InvalidType", "result", "This value should be of type object with a text."))
    else:
        warn_of_unknown(request, result, ("text",), "result.")
    errors += _bad_entity(request, item)
    if errors:
        raise Invalid(errors, name)


def _bad_entity(request: Request, item: Json) -> Errors:
    """The type is said in the plural."""
    kind, number = item.get("entity_type"), item.get("entity_id")
    if kind is None:
        return [] if number is None else missing(item, ("entity_type",))
    if not is_one_of(kind, {known.value for known in EntityType}):
        return [bad_choice("entity_type")]
    known = caller_of(request).account.entities[EntityType(kind)]
    return [] if number is None or is_one_of(number, known) else [bad_choice("entity_id")]


def _fill(task: Task, item: Json) -> None:
    for name in _INTEGERS:
        if item.get(name) is not None:
            setattr(task, name, integer(item, name, 0))
    if item.get("entity_type") is not None:
        task.entity_type = EntityType(item["entity_type"])
    task.text = str(item.get("text", task.text))
    task.is_completed = bool(item.get("is_completed", task.is_completed))
    result = item.get("result")
    if isinstance(result, dict):
        task.result = str(result["text"])


def _passes(request: Request, task: Task) -> bool:
    kind = task.entity_type.value if task.entity_type is not None else None
    completed = listed(request, "is_completed")
    wanted = (
        (listed(request, "id"), str(task.id)),
        (listed(request, "entity_type"), kind),
        (listed(request, "entity_id"), str(task.entity_id)),
        (listed(request, "responsible_user_id"), str(task.responsible_user_id)),
        (listed(request, "task_type", "task_type_id"), str(task.task_type_id)),
        ({"1" if value in ("1", "true") else "0" for value in completed}, "1" if task.is_completed else "0"),
    )
    return all(not values or value in values for values, value in wanted) and is_within(
        request, "updated_at", task.updated_at
    )


def _row(caller: Caller, task: Task) -> Json:
    return {
        "id": task.id,
        "created_by": task.created_by,
        "updated_by": task.created_by,
        "created_at": task.created_at,
        "updated_at": task.updated_at,
        "responsible_user_id": task.responsible_user_id,
        "group_id": 0,
        "entity_id": task.entity_id,
        "entity_type": task.entity_type.value if task.entity_type is not None else None,
        "duration": task.duration,
        "is_completed": task.is_completed,
        "task_type_id": task.task_type_id,
        "text": task.text,
        "result": {"text": task.result} if task.result else [],
        "complete_till": task.complete_till,
        "account_id": caller.account.id,
        "_links": caller.self_link(f"{_PATH}/{task.id}"),
    }
