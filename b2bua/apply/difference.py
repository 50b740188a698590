"""What differs between two directories, thing by thing and field by field; secrets are named and never shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from enum import Enum
from typing import Any

from b2bua.cdr import ClientId
from b2bua.crm.functions import CrmFunctions, CrmRules
from b2bua.directory import Directory

SECRETS = frozenset({"ha1", "password", "password_hash", "token", "client_secret"})
_IN_FILES = {"ha1": "password", "password_hash": "password", "rules_of_did": "did"}
_IN_WHAT = frozenset({"client", "id", "crm"})        # said by `what`, or a thing of its own


@dataclass(frozen=True, slots=True)
class FieldChange:
    """`before` and `after` as JSON has them; both None of a secret."""

    name: str
    before: Any = None
    after: Any = None
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    sign: str                          # "+", "~", "-"
    what: str                          # "extension acme/101"
    fields: tuple[str, ...] = ()       # which changed; values may be secrets
    client: ClientId = field(default=ClientId(""), compare=False)
    values: tuple[FieldChange, ...] = field(default=(), compare=False, repr=False)     # of what came or went, too

    def __str__(self) -> str:
        return f"{self.sign} {self.what}" + (f": {', '.join(self.fields)}" if self.fields else "")


def difference(old: Directory, new: Directory) -> list[Change]:
    before, after = dict(_named(old)), dict(_named(new))
    removed = [Change("-", what, (), one.client, tuple(_all_of(one.value, came=False)))
               for what, one in before.items() if what not in after]
    added = [Change("+", what, (), one.client, tuple(_all_of(one.value, came=True)))
             for what, one in after.items() if what not in before]
    others = [Change("~", what, tuple(one.name for one in values), after[what].client, values)
              for what in after if what in before
              if (values := tuple(changed(before[what].value, after[what].value)))]
    return removed + added + others


@dataclass(frozen=True, slots=True)
class _Thing:
    client: ClientId
    value: Any


def _named(directory: Directory) -> Iterator[tuple[str, _Thing]]:
    for client in directory.clients:
        yield f"client {client.id}", _Thing(client.id, replace(client, crm=None))
        if client.crm is not None:
            yield f"CRM of {client.id}", _Thing(client.id, client.crm)
    for trunk in directory.trunks:
        yield f"trunk {trunk.client}/{trunk.name}", _Thing(trunk.client, trunk)
    for extension in directory.extensions:
        yield f"extension {extension.client}/{extension.number}", _Thing(extension.client, extension)
    for group in directory.groups:
        yield f"group {group.client}/{group.number}", _Thing(group.client, group)
    for number in directory.numbers:
        yield f"number {number.client}/{number.number}", _Thing(number.client, number)


def changed(old: Any, new: Any) -> Iterator[FieldChange]:
    """Fields of two values of one kind."""
    for name in type(new).__dataclass_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if isinstance(after, CrmFunctions):            # as the file has them: beside the account's own settings
            yield from changed(before, after)
        elif isinstance(after, CrmRules):
            yield from (replace(one, name=f"{name}.{one.name}") for one in changed(before, after))
        else:
            yield _field(name, before, after)


def _all_of(value: Any, *, came: bool) -> Iterator[FieldChange]:
    """Whatever it says beyond the defaults."""
    for one in fields(value):
        said = getattr(value, one.name)
        if one.name in _IN_WHAT or said == _default(one):
            continue
        if isinstance(said, CrmFunctions):
            yield from changed(*((CrmFunctions(), said) if came else (said, CrmFunctions())))
        else:
            yield _field(one.name, *((None, said) if came else (said, None)))


def _default(one: Any) -> Any:
    return one.default_factory() if one.default_factory is not MISSING else one.default


def _field(name: str, before: Any, after: Any) -> FieldChange:
    shown = _IN_FILES.get(name, name)
    if name in SECRETS:
        return FieldChange(shown, is_secret=True)
    return FieldChange(shown, as_json(before), as_json(after))


def as_json(value: Any) -> Any:
    """What JSON has for it."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {one.name: as_json(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return str(value)                  # networks
