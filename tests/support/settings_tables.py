"""The tables of docs/configuration.md, made from the settings themselves.

`python -m tests.support.settings_tables` writes them into the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from b2bua.apply.entries import (
    ClientEntry,
    CrmDidEntry,
    CrmEntry,
    CrmRulesEntry,
    DealEntry,
    ExtensionEntry,
    GroupEntry,
    HoursEntry,
    LimitEntry,
    NumberEntry,
    TrunkEntry,
)
from b2bua.config import Listener, Settings
from b2bua.faults import model_at
from b2bua.trunk_profiles import PROFILES

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
_TABLE = re.compile(r"(?s)(<!-- table: ([a-z.]+) -->\n).*?(<!-- end -->)")
_PROFILES = re.compile(r"(?s)(<!-- profiles -->\n).*?(<!-- end -->)")

APPLY: dict[str, type[BaseModel]] = {
    "client": ClientEntry, "client.crm": CrmEntry,
    "client.crm.rules": CrmRulesEntry, "client.crm.rules.deal": DealEntry, "client.crm.did": CrmDidEntry,
    "client.trunk": TrunkEntry, "client.extension": ExtensionEntry,
    "client.group": GroupEntry, "client.number": NumberEntry, "client.number.hours": HoursEntry,
    "client.limit": LimitEntry,
}


def tables() -> dict[str, str]:
    """Every table that the page must have, by name."""
    models = {f"settings.{name}": model_at(Settings, (name,)) for name in Settings.model_fields}
    models["settings.sip.listen"] = Listener
    models |= {f"apply.{name}": model for name, model in APPLY.items()}
    return {name: table(model) for name, model in models.items() if model is not None}


def table(model: type[BaseModel]) -> str:
    """Its own settings; those that it shares with another stand in that one's table."""
    shared = getattr(model.__base__, "model_fields", {})
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        if name in shared:
            continue
        rows.append(f"| `{field.alias or name}` | {_default(field)} | {field.description or ''} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None or value in ("", ()) or isinstance(value, SecretStr):
        return "–"
    return f"`{json.dumps(_plain(value), ensure_ascii=False)}`"


def _plain(value: Any) -> Any:
    match value:
        case BaseModel():
            return {name: _plain(getattr(value, name)) for name in value.model_fields_set}
        case tuple():
            return [_plain(one) for one in value]
        case bool() | int() | float():
            return value
        case Enum():
            return value.value
        case _:
            return str(value)


def with_tables(page: str) -> str:
    made = tables()
    page = _TABLE.sub(lambda found: found[1] + made[found[2]] + found[3], page)
    return _PROFILES.sub(lambda found: found[1] + profiles() + found[2], page)


def profiles() -> str:
    rows = ["| profile | operators that want |", "|---|---|"]
    rows += [f"| `{name}` | {profile.meaning} |" for name, profile in PROFILES.items()]
    return "\n".join(rows) + "\n"


def names_in(page: str) -> Iterator[str]:
    return (found[2] for found in _TABLE.finditer(page))


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
