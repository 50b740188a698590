"""What is wrong with an item of a write, as amoCRM words it: (code, path, detail) each."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

from starlette.requests import Request

from b2bua.sandbox.account import Account
from b2bua.sandbox.answers import warn
from b2bua.sandbox.entities import Json

Errors = list[tuple[str, str, str]]


def warn_of_unknown(request: Request, item: Json, known: Iterable[str], where: str = "") -> None:
    for name in item.keys() - set(known):
        warn(request, f"unknown field {where + str(name)!r}")


def missing(item: Json, names: Iterable[str], where: str = "") -> Errors:
    """Not there, null or empty."""
    return [
        ("FieldMissing", where + name, "This field is missing.") for name in names if item.get(name) in (None, "")
    ]


def no_integers(item: Json, names: Iterable[str], where: str = "") -> Errors:
    """Which of them are there and are something else."""
    return [
        ("InvalidType", where + name, "This value should be of type int.")
        for name in names if name in item and not is_integer(item[name])
    ]


def no_strings(item: Json, names: Iterable[str], where: str = "") -> Errors:
    return [
        ("InvalidType", where + name, "This value should be of type string.")
        for name in names if name in item and not isinstance(item[name], str)
    ]


def bad_choice(path: str) -> tuple[str, str, str]:
    return "NotSupportedChoice", path, "The value you selected is not a valid choice."


def bad_users(account: Account, item: Json, names: Iterable[str]) -> Errors:
    """A user who was removed or switched off makes amoCRM refuse the whole write; 0 is the robot."""
    users = [(name, item.get(name)) for name in names]
    return [
        bad_choice(name) for name, user in users
        if isinstance(user, int) and user and not account.has_active_user(user)
    ]


def is_one_of(value: object, known: Container[object]) -> bool:
    """Whatever JSON it is."""
    return isinstance(value, int | str) and not isinstance(value, bool) and value in known


def is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def integer(item: Json, name: str, default: int) -> int:
    value = item.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of an array; none when it is something else."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
