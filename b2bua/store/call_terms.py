"""The words by which a finished call is found again: derived from its row, and written beside it.

Each word has a bucket, in which the calls are in the order of their time: whoever looks for a word reads its bucket
from the newest on, and stops when the page is full. What the word has beyond its bucket's few characters stands in the
row, so that nothing else has to be read to know whether it fits."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from b2bua.cdr import Direction, Disposition
from b2bua.numbers import digits_of
from b2bua.store.rows import storable

NUMBER_DIGITS = 4                      # the last ones, of which a bucket of numbers is made: fewer find nothing longer
NAME_LETTERS = 2                       # the first ones, of a bucket of names
LONGEST_NUMBER = 32                    # digits
LONGEST_WORD = 32
MOST_WORDS = 8                         # of a name
MOST_PEOPLE = 50                       # of one call

TERM_COLUMNS = ("term", "client", "at", "call", "kind", "words")

# Their places are in the database: a new one comes to the end.
_DIRECTIONS = (Direction.INBOUND, Direction.OUTBOUND, Direction.INTERNAL)
_DISPOSITIONS = (
    Disposition.ANSWERED, Disposition.NO_ANSWER, Disposition.BUSY, Disposition.DECLINED, Disposition.ABANDONED,
    Disposition.UNREACHABLE, Disposition.REFUSED, Disposition.FAILED,
)
_PER_DIRECTION = 2 * 16                # room for twice as many dispositions
_DIRECTION_BASE = {direction.value: place * _PER_DIRECTION for place, direction in enumerate(_DIRECTIONS)}
_DISPOSITION_BASE = {disposition.value: 2 * place for place, disposition in enumerate(_DISPOSITIONS)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def kind_of(call: Mapping[str, Any]) -> int:
    """Direction, disposition and whether there is a recording, as one number."""
    return (_DIRECTION_BASE[call["direction"]] + _DISPOSITION_BASE[call["disposition"]]
            + (call["recording"] is not None))


def kinds(
    directions: Iterable[Direction] = (), dispositions: Iterable[Disposition] = (), recorded: bool | None = None
) -> list[int]:
    """Those of which calls are one; nothing given is no restriction."""
    return [_DIRECTION_BASE[direction.value] + _DISPOSITION_BASE[disposition.value] + with_recording
            for direction in tuple(directions) or _DIRECTIONS for disposition in tuple(dispositions) or _DISPOSITIONS
            for with_recording in ((False, True) if recorded is None else (recorded,))]


def microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def backwards(number: str) -> str:
    """The digits, the last one first, so that a number's end is a beginning."""
    return digits_of(number)[:-LONGEST_NUMBER - 1:-1]


def folded(name: str) -> list[str]:
    """The words of a name, however they are written: ё is е, case and accents do not count."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    letters = [letter if letter.isalnum() else " " for letter in plain if not unicodedata.combining(letter)]
    return [word[:LONGEST_WORD] for word in "".join(letters).split()[:MOST_WORDS]]


def number_term(digits_backwards: str) -> str:
    return f"n{digits_backwards[:NUMBER_DIGITS]}"


def name_term(word: str) -> str:
    return f"w{word[:NAME_LETTERS]}"


def extension_term(extension: str) -> str:
    return f"e{storable(extension, LONGEST_WORD)}"


def crm_user_term(user: int) -> str:
    return f"u{user}"


def people_of(call: Mapping[str, Any]) -> list[str]:
    """The extensions whose call it was: who talked; where nobody did, all that rang; and the caller, of ours."""
    people = [call["caller"]] if call["direction"] != Direction.INBOUND.value else []
    if call["extension"] is not None:
        people.append(call["extension"])
    if call["answered_at"] is None and call["rang"] != "[]":
        people += _listed(call["rang"])
    return list(dict.fromkeys(person for person in people if person))[:MOST_PEOPLE]


def term_rows(call: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Of a row of `calls`, in the order of TERM_COLUMNS."""
    words: dict[str, list[str]] = {}
    for number in (call["caller"], call["dialled"]):
        if digits := backwards(number):
            words.setdefault(number_term(digits), []).append(digits)
    for person in people_of(call):
        words[extension_term(person)] = []
    if call["crm_user"] is not None:
        words[crm_user_term(call["crm_user"])] = []
    if call["contact"]:
        name = folded(call["contact"])
        words |= {name_term(word): name for word in name if len(word) >= NAME_LETTERS}
    client, at, id_, kind = call["client"], microseconds(call["started_at"]), call["id"], kind_of(call)
    return [(term, client, at, id_, kind, f" {' '.join(text)} " if text else "") for term, text in words.items()]


def _listed(texts: str) -> list[str]:
    try:
        return [str(text) for text in json.loads(texts)]
    except ValueError:                 # cut to its longest
        return []
