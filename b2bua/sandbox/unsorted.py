"""What becomes of an unsorted lead: made with its hidden contact and company, then accepted or declined."""

from __future__ import annotations

import json
import uuid

from b2bua.sandbox.account import Account
from b2bua.sandbox.answers import Caller
from b2bua.sandbox.card_writes import create
from b2bua.sandbox.checks import integer, objects
from b2bua.sandbox.entities import Entity, EntityType, Fate, Json, Note, Unsorted

PARTS = (EntityType.LEADS, EntityType.CONTACTS, EntityType.COMPANIES)


def is_accepting(account: Account, pipeline: int) -> bool:
    """Whether neither the account nor the pipeline has unsorted leads switched off."""
    return account.is_unsorted_on and pipeline in account.pipelines and account.pipelines[pipeline].is_unsorted_on


def fingerprint(item: Json) -> str:
    """Equal for the same data sent twice."""
    same = {name: value for name, value in item.items() if name not in ("request_id", "created_at")}
    return json.dumps(same, sort_keys=True, ensure_ascii=False)


def make(caller: Caller, item: Json, category: str = "sip") -> Unsorted:
    """Of what was checked; a lead is made even when none is given."""
    account, now = caller.account, caller.now()
    pipeline = integer(item, "pipeline_id", account.main_pipeline.id)
    embedded, metadata = item.get("_embedded"), item.get("metadata")
    parts = embedded if isinstance(embedded, dict) else {}
    known = dict(metadata) if isinstance(metadata, dict) else {}
    made = {kind: [_part(caller, kind, part) for part in objects(parts.get(kind.value))] for kind in PARTS}
    leads = made[EntityType.LEADS]
    if not leads:
        leads.append(create(caller, EntityType.LEADS, {"name": f"Звонок {known.get('phone', '')}"}, is_hidden=True))
    for lead in leads:
        lead.pipeline_id, lead.status_id = pipeline, account.pipelines[pipeline].unsorted_stage
        for other in made[EntityType.CONTACTS] + made[EntityType.COMPANIES]:
            account.link(lead, other)
    if known.get("is_call_event_needed") is True:
        _add_call(caller, leads[0], known)
    return account.add_unsorted(Unsorted(
        uuid.uuid4().hex, category, str(item.get("source_uid", "")), str(item.get("source_name", "")), pipeline,
        integer(item, "created_at", now), known,
        {kind: tuple(entity.id for entity in entities) for kind, entities in made.items()},
    ))


def _part(caller: Caller, kind: EntityType, item: Json) -> Entity:
    """A card that is there already stays visible."""
    number = item.get("id")
    known = caller.account.entities[kind].get(number) if isinstance(number, int) else None
    return known or create(caller, kind, item, is_hidden=True)


def _add_call(caller: Caller, lead: Entity, metadata: Json) -> None:
    names = ("uniq", "duration", "link", "phone", "call_responsible")
    params: Json = {name: metadata[name] for name in names if metadata.get(name) not in (None, "")}
    params["source"] = metadata.get("service_code", "")
    user, called_at = integer(metadata, "call_responsible", 0), integer(metadata, "called_at", caller.now())
    caller.account.add_note(Note(
        caller.account.next_id(), EntityType.LEADS, lead.id, "call_in", params, user, user, called_at, called_at,
    ), caller.now())


def accept(account: Account, unsorted: Unsorted, user: int, stage: int | None, now: float) -> None:
    """All of it becomes visible; the user is responsible for it."""
    unsorted.fate = Fate.ACCEPTED
    for entity in _entities(account, unsorted):
        if entity.type is EntityType.LEADS:
            entity.status_id = stage or account.pipelines[unsorted.pipeline_id].first_stage
        if entity.is_hidden:
            entity.is_hidden, entity.responsible_user_id = False, user
            account.tell_of_card("add", entity, now)


def decline(account: Account, unsorted: Unsorted, now: float) -> None:
    unsorted.fate = Fate.DECLINED
    for entity in _entities(account, unsorted):
        if entity.is_hidden:
            account.delete(entity.type, entity.id, now)


def _entities(account: Account, unsorted: Unsorted) -> list[Entity]:
    return [
        account.entities[kind][number]
        for kind, numbers in unsorted.embedded.items() for number in numbers if number in account.entities[kind]
    ]
