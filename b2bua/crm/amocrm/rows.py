"""The JSON door of amoCRM: what came is `object` until one of these says what it is."""

from __future__ import annotations

from b2bua.crm.port import EntityKind

PATHS = {EntityKind.CONTACT: "contacts", EntityKind.COMPANY: "companies", EntityKind.LEAD: "leads"}

Row = dict[str, object]


def as_row(value: object) -> Row:
    return value if isinstance(value, dict) else {}


def as_rows(value: object) -> list[Row]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def embedded(body: object, name: str) -> list[Row]:
    """The rows of `_embedded.<name>`."""
    return as_rows(as_row(as_row(body).get("_embedded")).get(name))


def text(row: Row, name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def integer(row: Row, name: str) -> int | None:
    """Whole numbers come as numbers, and in some fields as strings."""
    value = row.get(name)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and len(value) < 20 and value.lstrip("-").isdecimal():
        return int(value)
    return None
