"""One account of the stand-in: all that it holds, and amoCRM's choice of the card for a number."""

from __future__ import annotations

from collections import deque
from collections.abc import Sized
from dataclasses import dataclass, field
from itertools import count

from b2bua.sandbox.entities import Entity, EntityType, Json, Note, ShownPopUp, Task, Unsorted, User, digits_of
from b2bua.sandbox.pipelines import Pipeline, Stage
from b2bua.sandbox.switches import QueryDigits
from b2bua.sandbox.webhooks import Webhooks, card_fields, note_fields, task_fields

MOST_ENTITIES = 200_000                # of each type in an account
MOST_NOTES = 200_000
MOST_TASKS = 200_000
MOST_UNSORTED = 200_000
POP_UPS = 10_000                       # the last ones
COMPARED_DIGITS = 10
ENUMS = {
    "PHONE": ("WORK", "WORKDD", "MOB", "FAX", "HOME", "OTHER"),
    "EMAIL": ("WORK", "PRIV", "OTHER"),
}


class Full(Exception):
    """The stand-in's memory has an end."""


@dataclass(slots=True)
class Widget:
    id: int
    code: str
    client_id: str
    settings: Json
    is_active: bool


@dataclass(slots=True)
class Account:
    id: int
    subdomain: str
    name: str
    created_at: int
    is_unsorted_on: bool = True
    has_duplicate_control: bool = False
    former_subdomains: set[str] = field(default_factory=set)
    users: dict[int, User] = field(default_factory=dict)
    pipelines: dict[int, Pipeline] = field(default_factory=dict)
    entities: dict[EntityType, dict[int, Entity]] = field(default_factory=lambda: {kind: {} for kind in EntityType})
    notes: dict[int, Note] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=dict)
    unsorted: dict[str, Unsorted] = field(default_factory=dict)
    unsorted_prints: set[str] = field(default_factory=set)         # of all that was ever added
    enums: dict[str, list[str]] = field(default_factory=lambda: {code: list(enums) for code, enums in ENUMS.items()})
    widgets: dict[str, Widget] = field(default_factory=dict)
    webhooks: Webhooks = field(default_factory=Webhooks)
    pop_ups: deque[ShownPopUp] = field(default_factory=lambda: deque(maxlen=POP_UPS))
    _ids: count[int] = field(default_factory=lambda: count(40_000_001))

    def next_id(self) -> int:
        return next(self._ids)

    def field_id(self, code: str) -> int:
        """Differs from account to account."""
        return self.id % 1_000 * 1_000 + {"PHONE": 401, "EMAIL": 403}[code]

    def enum_id(self, code: str, enum: str) -> int:
        return self.field_id(code) * 10 + ENUMS[code].index(enum)

    def has_active_user(self, user: int) -> bool:
        return user in self.users and self.users[user].is_active

    @property
    def first_user(self) -> int:
        return next(iter(self.users), 0)

    @property
    def main_pipeline(self) -> Pipeline:
        return next(pipeline for pipeline in self.pipelines.values() if pipeline.is_main)

    def stage(self, pipeline: int, stage: int) -> Stage | None:
        known = self.pipelines.get(pipeline)
        return known.stages.get(stage) if known is not None else None

    def delete_stage(self, stage: int) -> None:
        """Its leads go back to the first one."""
        for pipeline in self.pipelines.values():
            pipeline.stages.pop(stage, None)
        for lead in self.entities[EntityType.LEADS].values():
            if lead.status_id == stage:
                lead.status_id = self.pipelines[lead.pipeline_id].first_stage

    def delete_pipeline(self, number: int) -> None:
        """What is in it goes to the main one, which cannot be deleted. Raises ValueError."""
        main = self.main_pipeline
        if number == main.id:
            raise ValueError(f"{number} is the main pipeline")
        self.pipelines.pop(number, None)
        for lead in self.entities[EntityType.LEADS].values():
            if lead.pipeline_id == number:
                lead.pipeline_id = main.id
                lead.status_id = lead.status_id if lead.status_id in main.stages else main.first_stage
        for unsorted in self.unsorted.values():
            if unsorted.pipeline_id == number:
                unsorted.pipeline_id = main.id

    def add(self, entity: Entity) -> Entity:
        rows = self.entities[entity.type]
        _room_in(rows, MOST_ENTITIES, entity.type.value)
        rows[entity.id] = entity
        return entity

    def add_note(self, note: Note, now: float) -> Note:
        _room_in(self.notes, MOST_NOTES, "notes")
        self.notes[note.id] = note
        self.tell_of_note(note, now)
        return note

    def add_task(self, task: Task) -> Task:
        _room_in(self.tasks, MOST_TASKS, "tasks")
        self.tasks[task.id] = task
        return task

    def add_unsorted(self, unsorted: Unsorted) -> Unsorted:
        _room_in(self.unsorted, MOST_UNSORTED, "unsorted leads")
        self.unsorted[unsorted.uid] = unsorted
        return unsorted

    def tell_of_card(self, verb: str, entity: Entity, now: float) -> None:
        """To the webhooks. `verb`: add, update, delete, responsible or status."""
        event, fields = f"{verb}_{entity.type.singular}", card_fields(verb, entity, self.id)
        self.webhooks.tell(event, (self.id, self.subdomain), fields, now)

    def tell_of_task(self, verb: str, task: Task, now: float) -> None:
        self.webhooks.tell(f"{verb}_task", (self.id, self.subdomain), task_fields(verb, task, self.id), now)

    def tell_of_note(self, note: Note, now: float) -> None:
        event = f"note_{note.entity_type.singular}"
        self.webhooks.tell(event, (self.id, self.subdomain), note_fields(note, self.id), now)

    def delete(self, kind: EntityType, number: int, now: float) -> None:
        """A card that somebody deleted, with its notes, tasks and links."""
        gone = self.entities[kind].pop(number, None)
        if gone is None:
            return
        if not gone.is_hidden:
            self.tell_of_card("delete", gone, now)
        for other_kind, others in gone.linked.items():
            for other in others:
                if (entity := self.entities[other_kind].get(other)) is not None and number in entity.links(kind):
                    entity.links(kind).remove(number)
        for note in [note.id for note in self.notes.values() if (note.entity_type, note.entity_id) == (kind, number)]:
            del self.notes[note]
        for task in [task.id for task in self.tasks.values() if (task.entity_type, task.entity_id) == (kind, number)]:
            del self.tasks[task]

    def link(self, one: Entity, other: Entity) -> None:
        for here, there in ((one, other), (other, one)):
            if there.id not in here.links(there.type):
                here.links(there.type).append(there.id)

    def unlink(self, one: Entity, other: Entity) -> None:
        for here, there in ((one, other), (other, one)):
            if there.id in here.links(there.type):
                here.links(there.type).remove(there.id)

    def search(self, kind: EntityType, query: str, rule: QueryDigits = QueryDigits.ANYWHERE) -> list[Entity]:
        """Any text of a card may hold it; digits are compared as digits, so that strangers are found too."""
        visible = [entity for entity in self.entities[kind].values() if not entity.is_hidden]
        if not query:
            return visible
        wanted, digits = query.casefold(), digits_of(query)
        return [
            entity for entity in visible
            if any(wanted in text.casefold() or _has_digits(text, digits, rule) for text in entity.texts())
        ]

    def by_phone(self, kind: EntityType, phone: str) -> Entity | None:
        """The first visible one that has this number, by its last digits."""
        wanted = digits_of(phone)[-COMPARED_DIGITS:]
        if not wanted:
            return None
        for entity in self.entities[kind].values():
            if not entity.is_hidden and any(digits_of(known)[-COMPARED_DIGITS:] == wanted for known in entity.phones):
                return entity
        return None

    def card_of(self, phone: str) -> Entity | None:
        """amoCRM's choice for a call: contact, else company; in its stead its only open lead, or its only customer."""
        found = self.by_phone(EntityType.CONTACTS, phone) or self.by_phone(EntityType.COMPANIES, phone)
        if found is None:
            return None
        leads, customers = self.open_leads(found), self._linked(found, EntityType.CUSTOMERS)
        if len(leads) + len(customers) == 1:
            return (leads + customers)[0]
        return found

    def open_leads(self, entity: Entity) -> list[Entity]:
        return [lead for lead in self._linked(entity, EntityType.LEADS) if lead.is_open_lead]

    def _linked(self, entity: Entity, kind: EntityType) -> list[Entity]:
        others = [self.entities[kind].get(other) for other in entity.links(kind)]
        return [other for other in others if other is not None and not other.is_hidden]


def _has_digits(text: str, digits: str, rule: QueryDigits) -> bool:
    match rule:
        case QueryDigits.ANYWHERE:
            return bool(digits) and digits in digits_of(text)
        case QueryDigits.LAST_SEVEN:
            return len(digits) >= 7 and digits[-7:] == digits_of(text)[-7:]
        case QueryDigits.LITERAL:
            return False


def _room_in(rows: Sized, most: int, what: str) -> None:
    if len(rows) >= most:
        raise Full(f"more than {most} {what}")
