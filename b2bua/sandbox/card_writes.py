"""What may be written into a card of the stand-in, and how it is taken over."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from b2bua.sandbox.answers import Caller, Invalid, caller_of, warn
from b2bua.sandbox.entities import Entity, EntityType, FieldValue, Json

ENUMS = {
    "PHONE": ("WORK", "WORKDD", "MOB", "FAX", "HOME", "OTHER"),
    "EMAIL": ("WORK", "PRIV", "OTHER"),
}
_FIELDS = {
    "id", "name", "first_name", "last_name", "responsible_user_id", "created_by", "updated_by", "created_at",
    "updated_at", "custom_fields_values", "tags_to_add", "tags_to_delete", "_embedded", "request_id",
}
_LEAD_FIELDS = _FIELDS | {"price", "status_id", "pipeline_id", "closed_at", "loss_reason_id"}
_INTEGERS = ("responsible_user_id", "created_by", "updated_by", "created_at", "updated_at", "price", "status_id")


def enum_id(caller: Caller, code: str, enum: str) -> int:
    return caller.account.field_id(code) * 10 + ENUMS[code].index(enum)


def check(request: Request, kind: EntityType, item: Json, name: str) -> None:
    """Raises Invalid."""
    caller = caller_of(request)
    for unknown in set(item) - (_LEAD_FIELDS if kind is EntityType.LEADS else _FIELDS):
        warn(request, f"unknown field {unknown!r}")
    errors = [
        ("InvalidType", field, "This value should be of type int.")
        for field in _INTEGERS if field in item and (not isinstance(item[field], int) or isinstance(item[field], bool))
    ]
    errors += [
        ("InvalidType", field, "This value should be of type string.")
        for field in ("name", "first_name", "last_name") if field in item and not isinstance(item[field], str)
    ]
    errors += bad_users(caller, item, ("responsible_user_id", "created_by"))
    errors += _bad_fields(caller, item.get("custom_fields_values"))
    if errors:
        raise Invalid(errors, name)


def bad_users(caller: Caller, item: Json, fields: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """A user who was removed or switched off makes amoCRM refuse the whole write; 0 is the robot."""
    users = [(field, item.get(field)) for field in fields]
    return [
        ("NotSupportedChoice", field, "The value you selected is not a valid choice.")
        for field, user in users if isinstance(user, int) and user and not caller.account.has_active_user(user)
    ]


def _bad_fields(caller: Caller, values: object) -> list[tuple[str, str, str]]:
    if values is None:
        return []
    if not isinstance(values, list):
        return [("InvalidType", "custom_fields_values", "This value should be of type array.")]
    errors = []
    for index, field in enumerate(values):
        path = f"custom_fields_values.{index}"
        code = _code_of(caller, field)
        if code is None:
            errors.append(("NotSupportedChoice", f"{path}.field_code", "There is no such field."))
            continue
        for number, value in enumerate(field.get("values") or []):
            where = f"{path}.values.{number}"
            if not isinstance(value, dict) or not isinstance(value.get("value"), str):
                errors.append(("InvalidType", f"{where}.value", "This value should be of type string."))
            elif _enum_of(caller, code, value) is None:
                errors.append(("NotSupportedChoice", f"{where}.enum_code", "There is no such enum."))
    return errors


def _code_of(caller: Caller, field: object) -> str | None:
    if not isinstance(field, dict):
        return None
    named = field.get("field_code"), field.get("field_id")
    return next((code for code in ENUMS if code in named or caller.account.field_id(code) in named), None)


def _enum_of(caller: Caller, code: str, value: Json) -> str | None:
    if "enum_id" in value and "enum_code" not in value:
        return next((enum for enum in ENUMS[code] if enum_id(caller, code, enum) == value["enum_id"]), None)
    enum = value.get("enum_code", "WORK")
    return enum if isinstance(enum, str) and enum in ENUMS[code] else None


def fill(caller: Caller, entity: Entity, item: Json) -> None:
    """Takes over what was checked."""
    for name in ("name", "first_name", "last_name", "responsible_user_id", "created_by", "created_at", "updated_at"):
        if name in item:
            setattr(entity, name, item[name])
    if entity.type is EntityType.LEADS:
        for name in ("price", "status_id"):
            if name in item:
                setattr(entity, name, item[name])
    elif not entity.name:
        entity.name = " ".join(part for part in (entity.first_name, entity.last_name) if part)
    _fill_fields(caller, entity, item)
    entity.tags += [str(tag["name"]) for tag in _dicts(item.get("tags_to_add")) if "name" in tag]
    embedded = item.get("_embedded")
    links = embedded if isinstance(embedded, dict) else {}
    for kind in EntityType:
        for other in _dicts(links.get(kind.value)):
            linked = caller.account.entities[kind].get(other.get("id", 0))
            if linked is not None:
                caller.account.link(entity, linked)


def _fill_fields(caller: Caller, entity: Entity, item: Json) -> None:
    """The values of a field that is sent replace all that it had."""
    for field in _dicts(item.get("custom_fields_values")):
        code = _code_of(caller, field) or ""
        entity.fields = [value for value in entity.fields if value.code != code]
        entity.fields += [
            FieldValue(code, value["value"], _enum_of(caller, code, value) or "WORK")
            for value in _dicts(field.get("values"))
        ]


def _dicts(value: object) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
