"""Numbers: any text goes in, and what comes out is stable."""

from __future__ import annotations

import re

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from phonenumbers import is_valid_number, parse

from b2bua.numbers import NumberFormat, last_digits, national_digits, normalise, same_number, written

COUNTRIES = st.sampled_from(["RU", "DE", "GB", "US", "EE", "IT", "KZ"])
WRITTEN = st.text(alphabet="+0123456789 ()-./\u00a0*#", max_size=24) | st.text(max_size=80)
CODES = st.sampled_from(["7", "49", "44", "1", "372", "375"])
REAL = st.from_regex(r"\+(?:7(?:495|812|926|916)[1-9][0-9]{6}|44207[0-9]{7}|4930[2-9][0-9]{6})", fullmatch=True)
E164 = st.builds("+{}{}".format, CODES, st.from_regex(r"[1-9][0-9]{8,9}", fullmatch=True))


@given(WRITTEN, COUNTRIES)
@settings(max_examples=300, deadline=None)
def test_normalising_twice_is_normalising_once(text: str, country: str) -> None:
    once = normalise(text, country)
    assert normalise(once, country) == once


@given(WRITTEN, COUNTRIES)
@settings(max_examples=200, deadline=None)
def test_digits_are_never_invented(text: str, country: str) -> None:
    number = normalise(text, country)
    if re.fullmatch(r"\+\d+", number):
        assert last_digits(number)[-7:] == last_digits(text)[-7:]
    assert last_digits(number).isascii()
    assert len(national_digits(number)) <= 10


@given(E164)
@settings(max_examples=200, deadline=None)
def test_e164_stays_as_it_is(number: str) -> None:
    assert normalise(number, "RU") == number
    assert normalise(f" {number[:2]} {number[2:5]}-{number[5:]} ", "RU").startswith("+")


@given(REAL, COUNTRIES, st.sampled_from([NumberFormat.ZEROS, NumberFormat.NATIONAL, NumberFormat.E164]))
@settings(max_examples=300, deadline=None)
def test_what_is_written_for_a_trunk_is_read_back_as_the_same_number(
    number: str, country: str, style: NumberFormat
) -> None:
    assume(is_valid_number(parse(number)))
    assume(style is not NumberFormat.ZEROS or country != "US")         # 00 is no international prefix there
    assert normalise(written(number, style, country), country) == number


@given(WRITTEN, COUNTRIES, st.sampled_from(NumberFormat))
@settings(max_examples=300, deadline=None)
def test_anything_can_be_written_and_only_e164_changes(text: str, country: str, style: NumberFormat) -> None:
    number = normalise(text, country)
    spelt = written(number, style, country)
    assert spelt == number or re.fullmatch(r"\+\d{7,15}", number)
    assert bool(spelt) == bool(number)


@given(E164, E164)
@settings(max_examples=200, deadline=None)
def test_sameness_is_symmetric_and_needs_the_same_end(one: str, other: str) -> None:
    assert same_number(one, one)
    assert same_number(one, other) is same_number(other, one)
    assert not same_number(one, other) or one[-10:] == other[-10:]
