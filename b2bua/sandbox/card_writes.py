"""What may be written into a card of the stand-in, and how it is taken over."""

from __future__ import annotations

from starlette.requests import Request

from b2bua.sandbox.account import ENUMS, Account
from b2bua.sandbox.answers import Caller, Invalid, caller_of
from b2bua.sandbox.checks import (
    Errors,
    bad_choice,
    bad_users,
    is_integer,
    is_one_of,
    no_integers,
    no_strings,
    objects,
    warn_of_unknown,
)
from b2bua.sandbox.entities import Entity, EntityType, FieldValue, Json

_FIELDS = {
    "id", "name", "first_name", "last_name", "responsible_user_id", "created_by", "updated_by", "created_at",
    "updated_at", "custom_fields_values", "tags_to_add", "tags_to_delete", "_embedded", "request_id",
}
_LEAD_FIELDS = _FIELDS - {"first_name", "last_name"} | {
    "price", "status_id", "pipeline_id", "closed_at", "loss_reason_id"
}
_KNOWN = {
    EntityType.CONTACTS: _FIELDS,
    EntityType.COMPANIES: _FIELDS - {"first_name", "last_name"},
    EntityType.LEADS: _LEAD_FIELDS,
    EntityType.CUSTOMERS: _FIELDS - {"first_name", "last_name"} | {"next_price", "next_date", "status_id"},
}
_PARTS = {"tags", "source", "metadata", *(kind.value for kind in EntityType)}
_INTEGERS = (
    "responsible_user_id", "created_by", "updated_by", "created_at", "updated_at", "price", "status_id", "pipeline_id",
)


def check(request: Request, kind: EntityType, item: Json, name: str, *, complex_parts: bool = False) -> None:
    """`complex_parts`: what is embedded may be new. Raises Invalid."""
    warn_of_unknown(request, item, _KNOWN[kind])
    account = caller_of(request).account
    errors = no_integers(item, _INTEGERS) + no_strings(item, ("name", "first_name", "last_name"))
    errors += bad_users(account, item, ("responsible_user_id", "created_by"))
    if kind is EntityType.LEADS and not errors:
        errors += _bad_stage(account, item)
    errors += _bad_fields(request, account, item.get("custom_fields_values"))
    embedded = item.get("_embedded", {})
    if not isinstance(embedded, dict):
        errors.append(("InvalidType", "_embedded", "This value should be of type object."))
    else:
        warn_of_unknown(request, embedded, _PARTS, "_embedded.")
        errors += [] if complex_parts else _bad_links(account, embedded)
    if errors:
        raise Invalid(errors, name)


def _bad_stage(account: Account, item: Json) -> Errors:
    pipeline, stage = item.get("pipeline_id"), item.get("status_id")
    if pipeline is not None and not is_one_of(pipeline, account.pipelines):
        return [bad_choice("pipeline_id")]
    among = account.pipelines.values() if pipeline is None else [account.pipelines[int(str(pipeline))]]
    return [] if stage is None or any(is_one_of(stage, one.stages) for one in among) else [bad_choice("status_id")]


def _bad_links(account: Account, embedded: Json) -> Errors:
    return [
        bad_choice(f"_embedded.{kind.value}.{index}.id")
        for kind in EntityType for index, other in enumerate(objects(embedded.get(kind.value)))
        if not is_one_of(other.get("id"), account.entities[kind])
    ]


def _bad_fields(request: Request, account: Account, values: object) -> Errors:
    if values is None:
        return []
    if not isinstance(values, list):
        return [("InvalidType", "custom_fields_values", "This value should be of type array.")]
    return [error for index, field in enumerate(values) for error in _bad_field(request, account, field, index)]


def _bad_field(request: Request, account: Account, field: object, index: int) -> Errors:
    path = f"custom_fields_values.{index}"
    code = _code_of(account, field)
    if code is None or not isinstance(field, dict):
        return [("NotSupportedChoice", f"{path}.field_code", "There is no such field.")]
    warn_of_unknown(request, field, ("field_id", "field_code", "field_name", "field_type", "values"), f"{path}.")
    values = field.get("values")
    if not isinstance(values, list | None):
        return [("InvalidType", f"{path}.values", "This value should be of type array.")]
    errors: Errors = []
    for number, value in enumerate(values or ()):
        where = f"{path}.values.{number}"
        if not isinstance(value, dict) or not isinstance(value.get("value"), str):
            errors.append(("InvalidType", f"{where}.value", "This value should be of type string."))
        elif _enum_of(account, code, value) is None:
            errors.append(("NotSupportedChoice", f"{where}.enum_code", "There is no such enum."))
        else:
            warn_of_unknown(request, value, ("value", "enum_id", "enum_code"), f"{where}.")
    return errors


def _code_of(account: Account, field: object) -> str | None:
    if not isinstance(field, dict):
        return None
    named = field.get("field_code"), field.get("field_id")
    return next((code for code in ENUMS if code in named or account.field_id(code) in named), None)


def _enum_of(account: Account, code: str, value: Json) -> str | None:
    known = account.enums[code]
    if "enum_id" in value and "enum_code" not in value:
        return next((enum for enum in known if account.enum_id(code, enum) == value["enum_id"]), None)
    enum = value.get("enum_code", known[0] if known else None)
    return enum if isinstance(enum, str) and enum in known else None


def create(caller: Caller, kind: EntityType, item: Json, *, is_hidden: bool = False) -> Entity:
    """A new card of what was checked."""
    now = caller.now()
    entity = Entity(kind, caller.account.next_id(), "", caller.user, caller.user, now, now, is_hidden=is_hidden)
    fill(caller, entity, item)
    caller.account.add(entity)
    if not is_hidden:
        caller.account.tell_of_card("add", entity, now)
    return entity


def change(caller: Caller, entity: Entity, item: Json) -> None:
    """Takes over what was checked, and tells of it."""
    before = entity.responsible_user_id, entity.status_id
    fill(caller, entity, item)
    now = caller.now()
    if "updated_at" not in item:
        entity.updated_at = now
    caller.account.tell_of_card("update", entity, now)
    if entity.responsible_user_id != before[0]:
        caller.account.tell_of_card("responsible", entity, now)
    if entity.status_id != before[1]:
        caller.account.tell_of_card("status", entity, now)


def fill(caller: Caller, entity: Entity, item: Json) -> None:
    """Takes over what was checked."""
    for name in ("name", "first_name", "last_name", "responsible_user_id", "created_by", "created_at", "updated_at"):
        if name in item:
            setattr(entity, name, item[name])
    if entity.type is EntityType.LEADS:
        entity.price = int(str(item.get("price", entity.price)))
        _place(caller.account, entity, item)
    elif entity.type is EntityType.CONTACTS and not entity.name:
        entity.name = " ".join(part for part in (entity.first_name, entity.last_name) if part)
    _fill_fields(caller.account, entity, item)
    gone = {tag.get("name") for tag in objects(item.get("tags_to_delete"))}
    embedded = item.get("_embedded")
    parts = embedded if isinstance(embedded, dict) else {}
    added = [str(tag["name"]) for tag in objects(item.get("tags_to_add")) + objects(parts.get("tags")) if "name" in tag]
    entity.tags = [tag for tag in dict.fromkeys(entity.tags + added) if tag not in gone]
    for kind in EntityType:
        for other in objects(parts.get(kind.value)):
            if is_one_of(other.get("id"), caller.account.entities[kind]):
                caller.account.link(entity, caller.account.entities[kind][other["id"]])


def _place(account: Account, lead: Entity, item: Json) -> None:
    """Pipeline and stage: either tells the other one."""
    pipeline, stage = item.get("pipeline_id"), item.get("status_id")
    if is_integer(pipeline):
        chosen = account.pipelines[int(str(pipeline))]
    else:
        current = account.pipelines.get(lead.pipeline_id, account.main_pipeline)
        owners = [current, *account.pipelines.values()]
        chosen = current if stage is None else next(owner for owner in owners if stage in owner.stages)
    if is_integer(stage):
        lead.status_id = int(str(stage))
    elif chosen.id != lead.pipeline_id:
        lead.status_id = chosen.first_stage
    lead.pipeline_id = chosen.id


def _fill_fields(account: Account, entity: Entity, item: Json) -> None:
    """The values of a field that is sent replace all that it had."""
    for field in objects(item.get("custom_fields_values")):
        code = _code_of(account, field) or ""
        entity.fields = [value for value in entity.fields if value.code != code]
        entity.fields += [
            FieldValue(code, value["value"], _enum_of(account, code, value) or "WORK")
            for value in objects(field.get("values"))
        ]
