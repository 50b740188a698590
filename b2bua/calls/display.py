"""The caller's name as a phone can show it (F6)."""

from __future__ import annotations

import unicodedata

MAX_NAME = 64                              # characters; longer names are cut

_CYRILLIC = dict(
    zip(
        "абвгдеёжзийклмнопрстуфхцчшщъыьэюяієїґ",
        (
            "a b v g d e yo zh z i y k l m n o p r s t u f kh ts ch sh shch ' y ' e yu ya i ye yi g"
        ).replace("'", "").split(" "),
        strict=True,
    )
)


def display_name(name: str, *, ascii_only: bool) -> str:
    """`name` on one line and of bearable length; in Latin letters for phones that have no others."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:MAX_NAME]
    return transliterated(shown) if ascii_only else shown


def transliterated(name: str) -> str:
    return "".join(_latin(character) for character in name)


def _latin(character: str) -> str:
    if character.isascii():
        return character
    known = _CYRILLIC.get(character.lower())
    if known is not None:
        return known.capitalize() if character.isupper() else known
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
    return plain or "?"
