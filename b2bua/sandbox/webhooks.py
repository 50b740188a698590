"""Webhooks of an account: what happened, as a form with nested keys, and when it is told again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from urllib.parse import urlencode

from b2bua.sandbox.entities import Entity, EntityType, Note, Task

ANSWER_SECONDS = 2.0
MOST_WEBHOOKS = 100
MOST_DELIVERIES = 10_000               # that wait; the oldest are forgotten
REPEATS = (300.0, 900.0)               # after any failure
LATE_REPEATS = (900.0, 3_600.0)        # after those, when the last answer was 499 or 5xx
MOST_BAD_ANSWERS, BAD_ANSWERS_WINDOW = 100, 7_200.0

_ENTITY_VERBS = ("add", "update", "delete", "responsible")
SETTINGS = frozenset(
    {f"{verb}_{kind.singular}" for verb in _ENTITY_VERBS for kind in EntityType}
    | {f"{verb}_task" for verb in _ENTITY_VERBS} | {f"note_{kind.singular}" for kind in EntityType}
    | {"status_lead", "restore_contact", "restore_company", "restore_lead", "add_talk", "update_talk", "add_message"}
)


@dataclass(slots=True)
class Webhook:
    id: int
    destination: str
    settings: tuple[str, ...]
    sort: int
    created_by: int
    created_at: int
    updated_at: int
    is_disabled: bool = False
    bad_answers: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_BAD_ANSWERS + 1))

    def is_answered(self, status: int | None, now: float) -> bool:
        """Whether that was a good one; too many bad ones switch the webhook off."""
        if status is not None and 100 <= status <= 299:
            return True
        self.bad_answers.append(now)
        while self.bad_answers[0] <= now - BAD_ANSWERS_WINDOW:
            self.bad_answers.popleft()
        self.is_disabled = self.is_disabled or len(self.bad_answers) > MOST_BAD_ANSWERS
        return False


@dataclass(slots=True)
class Delivery:
    webhook: Webhook
    body: bytes
    due: float
    attempts: int = 0

    def put_off(self, status: int | None, now: float) -> bool:
        """Whether there is another attempt after this failure, and then when."""
        waits: tuple[float, ...] = REPEATS
        if self.attempts > len(REPEATS) and status is not None and (status == 499 or status >= 500):
            waits += LATE_REPEATS
        if self.attempts > len(waits):
            return False
        self.due = now + waits[self.attempts - 1]
        return True


@dataclass(slots=True)
class Webhooks:
    """Of one account."""

    by_destination: dict[str, Webhook] = field(default_factory=dict)
    deliveries: deque[Delivery] = field(default_factory=lambda: deque(maxlen=MOST_DELIVERIES))

    def tell(self, event: str, account: tuple[int, str], fields: dict[str, object], now: float) -> None:
        """`account`: id and subdomain; `fields` have nested keys, such as `contacts[add][0][id]`."""
        wanting = [hook for hook in self.by_destination.values() if event in hook.settings and not hook.is_disabled]
        if wanting:
            number, subdomain = account
            form = {**fields, "account[id]": number, "account[subdomain]": subdomain}
            body = urlencode({key: "" if value is None else str(value) for key, value in form.items()}).encode()
            self.deliveries.extend(Delivery(hook, body, now) for hook in wanting)

    def due(self, now: float) -> list[Delivery]:
        """Those whose time has come, the earliest first; they are taken out."""
        ready = sorted((one for one in self.deliveries if one.due <= now), key=lambda one: one.due)
        for one in ready:
            self.deliveries.remove(one)
        return [one for one in ready if not one.webhook.is_disabled]

    @property
    def next_due(self) -> float | None:
        return min((one.due for one in self.deliveries), default=None)


def card_fields(verb: str, entity: Entity, account_id: int) -> dict[str, object]:
    """Contacts and companies share a name; `type` tells which."""
    is_person = entity.type in (EntityType.CONTACTS, EntityType.COMPANIES)
    key = f"{'contacts' if is_person else entity.type.value}[{verb}][0]"
    fields: dict[str, object] = {
        "id": entity.id, "name": entity.name, "responsible_user_id": entity.responsible_user_id,
        "created_user_id": entity.created_by, "created_at": entity.created_at, "date_create": entity.created_at,
        "updated_at": entity.updated_at, "last_modified": entity.updated_at, "account_id": account_id,
    }
    if is_person:
        fields["type"] = entity.type.singular
    if entity.type is EntityType.LEADS:
        fields |= {"status_id": entity.status_id, "pipeline_id": entity.pipeline_id, "price": entity.price}
    for number, code in enumerate(dict.fromkeys(value.code for value in entity.fields)):
        fields[f"custom_fields][{number}][code"] = code
        for index, value in enumerate(value for value in entity.fields if value.code == code):
            fields[f"custom_fields][{number}][values][{index}][value"] = value.value
            fields[f"custom_fields][{number}][values][{index}][enum"] = value.enum
    return {f"{key}[{name}]": value for name, value in fields.items()}


def task_fields(verb: str, task: Task, account_id: int) -> dict[str, object]:
    return {f"task[{verb}][0][{name}]": value for name, value in {
        "id": task.id, "element_id": task.entity_id, "element_type": task.entity_type and task.entity_type.number,
        "task_type": task.task_type_id, "text": task.text, "responsible_user_id": task.responsible_user_id,
        "complete_till": task.complete_till, "status": int(task.is_completed), "account_id": account_id,
        "created_at": task.created_at, "updated_at": task.updated_at,
    }.items()}


def note_fields(note: Note, account_id: int) -> dict[str, object]:
    key = f"{note.entity_type.value}[note][0][note]"
    return {f"{key}[{name}]": value for name, value in {
        "id": note.id, "note_type": note.note_type, "element_id": note.entity_id,
        "element_type": note.entity_type.number, "created_at": note.created_at, "created_by": note.created_by,
        "account_id": account_id,
    }.items()}
