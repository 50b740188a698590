"""Telephone numbers: E.164 inside the switch, whatever people and trunks write outside; short and withheld numbers."""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from unicodedata import category

from phonenumbers import (
    COUNTRY_CODE_TO_REGION_CODE,
    NumberParseException,
    PhoneMetadata,
    PhoneNumber,
    PhoneNumberFormat,
    ValidationResult,
    country_code_for_region,
    format_number,
    format_out_of_country_calling_number,
    is_emergency_number,
    is_possible_number_with_reason,
    is_valid_number,
    national_significant_number,
    parse,
)

COMPARED_DIGITS = 10                   # what amoCRM's own call log compares
SEARCHED_DIGITS = 7                    # fewer would find strangers: an internal number is part of many others
LONGEST = 64                           # longer text is nobody's number and is not parsed
CACHED = 16_384                        # parsing costs some 100 µs; a busy server sees the same numbers again

class NumberFormat(Enum):
    """How a trunk wants outside numbers written; short ones are left as they are everywhere."""

    E164 = "e164"                      # +79265554433
    PLAIN = "plain"                    # 79265554433
    ZEROS = "zeros"                    # 0079265554433
    NATIONAL = "national"              # 89265554433, and abroad 8104420…: as people dial in the trunk's country
    DIALLED = "dialled"                # whatever the employee dialled


_ANONYMOUS = frozenset({
    "anonymous", "anonym", "restricted", "private", "withheld", "unavailable", "unknown", "hidden", "blocked", "nobody",
})
_E164 = re.compile(r"\+[1-9][0-9]{6,14}\Z")
_TELEPHONE = re.compile(rf"\+?[0-9]{{{SEARCHED_DIGITS},32}}\Z")
_WRITTEN = re.compile(r"\+?[0-9 ()./\u00a0\u2010-\u2015-]+\Z")
# "8 (495) 123-45-67 доб. 12", "+7 495 123-45-67;ext=12", "123-45-67, 765-43-21": the number, and what is no part of it.
_AND_MORE = re.compile(r"(\+?[0-9 ()./\u00a0\u2010-\u2015-]+?)\s*(?:[,;]|доб|вн|ext|int|x\s*[0-9]).*\Z",
                       re.IGNORECASE | re.DOTALL)
_VISUAL = str.maketrans("", "", " ()./-\u00a0\u2010\u2011\u2012\u2013\u2014\u2015")


def is_anonymous(number: str) -> bool:
    """Withheld, in one of the words that networks use for it (RFC 3323 §4.1 and habit)."""
    return number.strip().lower() in _ANONYMOUS or not number.strip()


def is_short(number: str) -> bool:
    """Internal, emergency or service: never looked up and never written to a CRM."""
    return len(digits_of(number)) < SEARCHED_DIGITS


def is_telephone(number: str) -> bool:
    """Whether somebody may be known by it. What is short, a service code, or no number at all is nobody's."""
    return _TELEPHONE.match(number) is not None


@lru_cache(CACHED)
def normalise(text: str, country: str) -> str:
    """`+` and E.164 where that can be known, "" when withheld, the digits of other numbers, other text as it came."""
    text = text.strip()
    if is_anonymous(text):
        return ""
    if _E164.match(text) or len(text) > LONGEST or not _WRITTEN.match(text) or not digits_of(text):
        return text
    plain = text.translate(_VISUAL)
    if is_short(plain):
        return plain
    number = _parsed(text if plain.startswith("+") else plain, country)
    return plain if number is None else format_number(number, PhoneNumberFormat.E164)


def in_a_card(text: str) -> str:
    """The number alone of what people enter for one: without an extension behind it, to which whoever answers connects,
    `tel:`, and the marks that nobody sees and that come along when it is copied from a page."""
    if _WRITTEN.match(text):
        return text.strip()
    plain = "".join(character for character in text[:LONGEST] if category(character) != "Cf").strip()
    if plain[:4].lower() == "tel:":
        plain = plain[4:].strip()
    more = _AND_MORE.match(plain)
    if more is not None and not is_short(more[1]):
        return more[1]
    return plain if len(text) <= LONGEST else text


@lru_cache(CACHED)
def international(text: str, country: str) -> str:
    """What a network of that country makes of a number, at worst: what `normalise` does not know, and the network may
    put through all the same, gets its + here too. Short numbers stay."""
    number = normalise(text, country)
    digits = digits_of(number)
    if number.startswith("+") or is_short(number) or len(digits) < len(number):
        return number
    metadata = PhoneMetadata.metadata_for_region(country)
    for prefix in (metadata.international_prefix if metadata is not None else None, "00"):
        if prefix and (abroad := re.match(prefix, digits)) is not None:
            return f"+{digits[abroad.end():]}"
    return f"+{digits}" if len(digits) > COMPARED_DIGITS else digits


def is_emergency(number: str, country: str) -> bool:
    """112 and whatever else rings for help there."""
    return is_short(number) and is_emergency_number(number, country)


@lru_cache(CACHED)
def written(number: str, style: NumberFormat, country: str) -> str:
    """A normalised number as a trunk of that country wants it. What is no E.164 stays: 112, 101, service numbers."""
    if not _E164.match(number):
        return number
    match style:
        case NumberFormat.PLAIN:
            return number[1:]
        case NumberFormat.ZEROS:
            return f"00{number[1:]}"
        case NumberFormat.NATIONAL:
            return _as_people_dial(number, country)
        case NumberFormat.E164 | NumberFormat.DIALLED:
            return number


def _as_people_dial(number: str, country: str) -> str:
    try:
        parsed = parse(number)
    except NumberParseException:
        return number
    if parsed.country_code == country_code_for_region(country):
        return digits_of(format_number(parsed, PhoneNumberFormat.NATIONAL))
    return digits_of(format_out_of_country_calling_number(parsed, country)) or number


@lru_cache(CACHED)
def last_digits(number: str) -> str:
    """The last ten digits, by which numbers are compared."""
    return digits_of(number)[-COMPARED_DIGITS:]


@lru_cache(CACHED)
def national_digits(number: str) -> str:
    """What to search for: of E.164 the number without its country code, else all digits; at most the last ten."""
    if _E164.match(number):
        try:
            return national_significant_number(parse(number))[-COMPARED_DIGITS:]
        except NumberParseException:
            pass
    return last_digits(number)


def same_number(one: str, other: str) -> bool:
    """Whether both ring the same phone: equal last digits, and no two different countries."""
    digits = last_digits(one)
    if len(digits) < SEARCHED_DIGITS or digits != last_digits(other):
        return False
    here, there = country_code(one), country_code(other)
    return here is None or there is None or here == there


def country_code(number: str) -> int | None:
    """Of E.164; None of everything else. No code begins another."""
    if not _E164.match(number):
        return None
    for end in (2, 3, 4):
        code = int(number[1:end])
        if code in COUNTRY_CODE_TO_REGION_CODE:
            return code
    return None


def digits_of(text: str) -> str:
    plain = text.removeprefix("+")
    if plain.isascii() and plain.isdecimal():              # as most are by the time that they come here
        return plain
    return "".join(character for character in text if "0" <= character <= "9")


def _parsed(text: str, country: str) -> PhoneNumber | None:
    """As dialled in that country; else as an international number without its plus; else what could be one."""
    national = None if text.startswith("00") else _attempt(text, country)
    if national is not None and is_valid_number(national):
        return national
    digits = digits_of(text).removeprefix("00")
    international = _attempt("+" + digits, None) if len(digits) > COMPARED_DIGITS else None
    if international is not None and is_valid_number(international):
        return international
    return national if national is not None and _plausible(national, text) else None


def _plausible(number: PhoneNumber, text: str) -> bool:
    """Numbering plans grow faster than their tables: the right length is enough, unless the country is our guess."""
    return is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE and (
        text.startswith("+") or len(national_significant_number(number)) <= COMPARED_DIGITS
    )


def _attempt(text: str, country: str | None) -> PhoneNumber | None:
    try:
        return parse(text, country)
    except NumberParseException:
        return None
