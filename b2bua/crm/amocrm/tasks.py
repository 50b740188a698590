"""F9 and F10: a task on the card, once; closed when somebody talks to the caller."""

from __future__ import annotations

from dataclasses import replace

from b2bua.crm.amocrm.gate import Lane
from b2bua.crm.amocrm.rows import Row, embedded, integer, text
from b2bua.crm.amocrm.writing import WRITE_SECONDS, Desk, card_of, is_nobodys, made_for, path_of, post_as, read, users
from b2bua.crm.port import CrmUnavailable, Delivered, Made, MadeKind, Purpose, TalkedTo, Task

FOLLOW_UP = 1                          # amoCRM's task_type_id: get in touch
TALKED = "Разговор состоялся"          # the result of a task that closes by itself

PATH = "/api/v4/tasks"


async def make(desk: Desk, task: Task, known: tuple[Made, ...], *, repeated: bool) -> Delivered:
    match task.purpose:
        case Purpose.FILL_IN:
            contact = made_for(known, MadeKind.CONTACT, task.call)
            if contact is None:
                return Delivered("no new contact")
            return await _make(desk, task, f"contacts/{contact.id}", users(task.user, desk.default_user), repeated)
        case Purpose.CALL_BACK:
            return await _call_back(desk, task, known, repeated)


async def close(desk: Desk, talked: TalkedTo, known: tuple[Made, ...]) -> Delivered:
    """No request when nothing is open. What a person has completed, with words of their own, is left as it is."""
    tasks = _open_tasks(known)
    for task in tasks:
        if await _is_open(desk, task):
            result = {"is_completed": True, "result": {"text": TALKED}}
            answer = await desk.api.patch(f"{PATH}/{task.id}", result, Lane.WRITE, WRITE_SECONDS)
            if answer.status != 404:   # else it was deleted just now
                answer.row()
    closed = ", ".join(task.id for task in tasks)
    if not tasks:
        return Delivered("no open task")
    return Delivered(f"task {closed} closed", closed=tasks, card=tasks[0].on)


async def _call_back(desk: Desk, task: Task, known: tuple[Made, ...], repeated: bool) -> Delivered:
    """One open task a caller; a person may have completed or deleted it since."""
    ended: list[Made] = []
    for before in _open_tasks(known):
        if await _is_open(desk, before):
            return Delivered(f"task {before.id} is open already", closed=tuple(ended), card=before.on)
        ended.append(before)
    card = None if is_nobodys(task.phone) else await card_of(desk, task.phone, known)
    if card is None:
        return Delivered("no card", closed=tuple(ended))
    made = await _make(desk, task, path_of(card), users(task.user, card.responsible, desk.default_user), repeated)
    return replace(made, closed=tuple(ended))


async def _make(desk: Desk, task: Task, on: str, candidates: list[int | None], repeated: bool) -> Delivered:
    if repeated and (before := await _made_before(desk, task, on)) is not None:
        return _made(task, on, before, is_open=before.get("is_completed") is not True)
    answer = await post_as(desk, PATH, lambda user: _body(task, on, user), candidates)
    if answer.status >= 400 and await read(desk, f"/api/v4/{on}") is None:
        if task.purpose is Purpose.FILL_IN:
            return Delivered(f"{on} is gone")
        raise CrmUnavailable(f"{on} is gone: whose number it is now is asked again")
    rows = embedded(answer.accepted(), "tasks")
    if not rows or integer(rows[0], "id") is None:
        raise CrmUnavailable("the answer names no task")
    return _made(task, on, rows[0], is_open=True)


def _made(task: Task, on: str, row: Row, *, is_open: bool) -> Delivered:
    number = str(integer(row, "id"))
    made = Made(MadeKind.TASK, task.call, number, on, is_open and _is_call_back(task))
    return Delivered(f"task {number}", made=(made,), card=on)


def _body(task: Task, on: str, user: int | None) -> Row:
    path, _, number = on.partition("/")
    body: Row = {
        "task_type_id": FOLLOW_UP,
        "text": task.text,
        "complete_till": int(task.due_at.timestamp()),
        "entity_id": int(number),
        "entity_type": path,
        "created_at": int(task.started_at.timestamp()),
        "request_id": task.call,
    }
    if user is not None:
        body["responsible_user_id"] = user
    return body


async def _made_before(desk: Desk, task: Task, on: str) -> Row | None:
    """Ours by its text and, to the second, its time; a person may have completed it already."""
    path, _, number = on.partition("/")
    due = int(task.due_at.timestamp())
    params = [("filter[entity_type]", path), ("filter[entity_id][]", number), ("order[id]", "desc")]
    async for row in desk.api.pages(PATH, "tasks", params, Lane.WRITE, WRITE_SECONDS):
        is_ours = text(row, "text") == task.text and integer(row, "complete_till") == due
        if is_ours and integer(row, "entity_id") == int(number):
            return row
    return None


async def _is_open(desk: Desk, task: Made) -> bool:
    row = await read(desk, f"{PATH}/{task.id}")
    return row is not None and row.get("is_completed") is not True


def _open_tasks(known: tuple[Made, ...]) -> tuple[Made, ...]:
    return tuple(made for made in known if made.kind is MadeKind.TASK and made.is_open)


def _is_call_back(task: Task) -> bool:
    return task.purpose is Purpose.CALL_BACK
