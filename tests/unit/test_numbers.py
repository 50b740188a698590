"""Numbers as people, trunks and CRMs write them."""

from __future__ import annotations

import pytest

from b2bua.crm.amocrm.contacts import phones_of
from b2bua.numbers import (
    NumberFormat,
    country_code,
    in_a_card,
    international,
    is_anonymous,
    is_emergency,
    is_short,
    last_digits,
    national_digits,
    normalise,
    same_number,
    written,
)


@pytest.mark.parametrize("written", [
    "+74951234567", "74951234567", "84951234567", "4951234567", "8 (495) 123-45-67", "+7 495 123 45 67",
    "+7 (495) 123-45-67", "8-495-123-45-67", " 8.495.123.45.67 ", "8\u00a0495\u00a0123\u201345\u201367",
])
def test_all_spellings_of_a_russian_number_are_one(written: str) -> None:
    assert normalise(written, "RU") == "+74951234567"


@pytest.mark.parametrize(("written", "country", "expected"), [
    ("810442079460000", "RU", "+442079460000"),           # Russia's own international prefix
    ("00442079460000", "RU", "+442079460000"),            # everybody else's
    ("442079460000", "RU", "+442079460000"),              # a trunk that leaves the plus out
    ("+44 (0)20 7946 0000", "RU", "+442079460000"),
    ("020 7946 0000", "GB", "+442079460000"),
    ("375291234567", "RU", "+375291234567"),
    ("84950001122", "RU", "+74950001122"),                # of the right length, though in no table yet
    ("88001234567", "RU", "+78001234567"),
])
def test_foreign_and_special_numbers(written: str, country: str, expected: str) -> None:
    assert normalise(written, country) == expected


@pytest.mark.parametrize(("written", "expected"), [
    ("112", "112"), ("101", "101"), ("1-01", "101"), ("0100", "0100"), ("12345", "12345"),
    ("*77", "*77"), ("#21#", "#21#"),
    ("alice", "alice"), ("+", "+"), ("8" * 65, "8" * 65), ("1800FLOWERS", "1800FLOWERS"),
])
def test_what_is_no_outside_number_stays_as_it_is(written: str, expected: str) -> None:
    assert normalise(written, "RU") == expected


@pytest.mark.parametrize(("number", "country", "plain", "zeros", "national"), [
    ("+79265554433", "RU", "79265554433", "0079265554433", "89265554433"),
    ("+78005553535", "RU", "78005553535", "0078005553535", "88005553535"),
    ("+442079460000", "RU", "442079460000", "00442079460000", "810442079460000"),
    ("+442079460000", "GB", "442079460000", "00442079460000", "02079460000"),
    ("+79265554433", "GB", "79265554433", "0079265554433", "0079265554433"),
    ("+12015550123", "US", "12015550123", "0012015550123", "2015550123"),
    ("112", "RU", "112", "112", "112"),
    ("101", "RU", "101", "101", "101"),
    ("*77", "RU", "*77", "*77", "*77"),
    ("0100", "RU", "0100", "0100", "0100"),
    ("", "RU", "", "", ""),
    ("+79265554433", "XX", "79265554433", "0079265554433", "79265554433"),
])
def test_numbers_go_out_as_the_trunk_wants_them_and_short_ones_as_they_are(
    number: str, country: str, plain: str, zeros: str, national: str
) -> None:
    assert written(number, NumberFormat.E164, country) == number
    assert written(number, NumberFormat.PLAIN, country) == plain
    assert written(number, NumberFormat.ZEROS, country) == zeros
    assert written(number, NumberFormat.NATIONAL, country) == national
    assert written(number, NumberFormat.DIALLED, country) == number


@pytest.mark.parametrize("word", ["anonymous", "Anonymous", "RESTRICTED", "unavailable", "", "  ", "Unknown"])
def test_withheld_numbers_are_empty(word: str) -> None:
    assert is_anonymous(word)
    assert normalise(word, "RU") == ""


def test_an_unknown_country_breaks_nothing() -> None:
    assert normalise("4951234567", "XX") == "4951234567"
    assert normalise("+74951234567", "") == "+74951234567"


@pytest.mark.parametrize(("number", "short"), [("101", True), ("123456", True), ("1234567", False), ("+7495", True)])
def test_numbers_below_seven_digits_are_short(number: str, short: bool) -> None:
    assert is_short(number) is short


def test_digits_to_search_for_leave_the_country_out() -> None:
    assert national_digits("+74951234567") == "4951234567"
    assert national_digits("+37251234567") == "51234567"
    assert national_digits("84951234567") == "4951234567"
    assert last_digits("+37251234567") == "7251234567"


@pytest.mark.parametrize(("one", "other", "same"), [
    ("+74951234567", "84951234567", True),
    ("+74951234567", "4951234567", True),
    ("+74951234567", "+74951234567", True),
    ("+74951234567", "+74951234568", False),
    ("+74951234567", "+494951234567", False),             # two countries, the same last ten digits
    ("101", "101", False),                                # never by internal numbers
    ("", "", False),
    ("1234567", "1234567", True),
])
def test_same_number(one: str, other: str, same: bool) -> None:
    assert same_number(one, other) is same
    assert same_number(other, one) is same


@pytest.mark.parametrize(("dialled", "read"), [
    ("112", "112"), ("+88213300012", "+88213300012"), ("81088213300012", "+88213300012"),
    ("0088213300012345", "+88213300012345"), ("81088213300012345", "+88213300012345"),
    ("882133000123", "+882133000123"), ("89265554433", "+79265554433"), ("*72#", "*72#"),
])
def test_a_limit_reads_a_number_as_a_network_might(dialled: str, read: str) -> None:
    assert international(dialled, "RU") == read


@pytest.mark.parametrize(("dialled", "helps"), [("112", True), ("01", True), ("88003", False), ("+88213300012", False)])
def test_who_calls_for_help_is_known(dialled: str, helps: bool) -> None:
    assert is_emergency(dialled, "RU") is helps


@pytest.mark.parametrize(("number", "code"), [
    ("+74951234567", 7), ("+12015550123", 1), ("+442079460000", 44), ("+375291234567", 375), ("+99912345678", None),
    ("74951234567", None), ("", None), ("+7", None),
])
def test_the_country_of_a_number(number: str, code: int | None) -> None:
    assert country_code(number) == code


@pytest.mark.parametrize("entered", [
    "8 (495) 123-45-67 доб. 12", "\u202a+7 (495) 123-45-67\u202c", "+7 495 123-45-67, доб. 3", "tel:+74951234567",
    "8 495 123-45-67 ext. 12, ask Maria of the department of purchases after three o'clock, or leave a message"])
def test_a_caller_is_known_by_the_number_of_a_card_whatever_is_written_beside_it(entered: str) -> None:
    """Else each of their calls would make another contact."""
    row = {"custom_fields_values": [{"field_code": "PHONE", "values": [{"value": entered}]}]}
    (phone,) = phones_of(row)
    assert same_number("+74951234567", normalise(phone, "RU"))


@pytest.mark.parametrize("entered", ["+74951234567", "8 (495) 123-45-67", " 112 ", "101, 102", "доб. 12", "7" * 90, ""])
def test_what_is_a_number_or_none_stays(entered: str) -> None:
    assert in_a_card(entered) == entered.strip()
