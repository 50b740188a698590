"""What a phone means by dialling a code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from b2bua.calls.pickup import wanted
from b2bua.cdr import ClientId
from b2bua.directory import Client, Directory, Extension, Group

ACME = ClientId("acme")

ANNA = Extension(ACME, "101", "acme-101", {})
CLIENT = Client(ACME, "Acme")
OFFICE = Directory(
    (CLIENT,), (ANNA, Extension(ACME, "102", "acme-102", {}), Extension(ACME, "*5", "acme-5", {})),
    groups=(Group(ACME, "600", ("101", "102")),))


@pytest.mark.parametrize(("dialled", "meant"), [
    ("**102", "102"), ("**600", "600"), ("***5", "*5"), ("**999", "999"), ("*8", ""),
    ("102", None), ("**", None), ("*8102", None), ("*5", None), ("", None),
    ("**21*+79161234567#", None), ("**1#", None)])
def test_by_the_codes_that_come_with_it(dialled: str, meant: str | None) -> None:
    assert wanted(OFFICE, ANNA, dialled) == meant


@pytest.mark.parametrize(("code", "group_code", "dialled", "meant"), [
    ("*8", "*8", "*8102", "102"), ("*8", "*8", "*8", ""), ("*5", "*5", "*5", None),
    ("", "", "*8", None), ("", "", "**102", None), ("", "", "102", None), ("", "", "", None)])
def test_by_codes_of_its_own(code: str, group_code: str, dialled: str, meant: str | None) -> None:
    client = replace(CLIENT, pickup_code=code, group_pickup_code=group_code)
    assert wanted(replace(OFFICE, clients=(client,)), ANNA, dialled) == meant


def test_a_phone_whose_client_is_gone_picks_nothing_up() -> None:
    assert wanted(replace(OFFICE, clients=()), ANNA, "*8") is None
