"""The switch's own sentences in other languages: why a call went where it went, what is wrong.

They are written in English when they happen, and kept so. locale/sentences/LANGUAGE.po has their forms, with `{}` for
whatever stood there: a form that fits is said in the other language, and so is what stood in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from babel.messages.pofile import read_po

from web.i18n import DEFAULT, LANGUAGES, LOCALE

DEEPEST = 4                            # forms within forms
LONGEST = 600                          # characters of a sentence that is looked at

_Form = tuple[re.Pattern[str], str]


@lru_cache(maxsize=2_048)
def told(sentence: str, language: str) -> str:
    """In that language, as far as its forms are known; several sentences stand in one with semicolons between."""
    if language == DEFAULT or len(sentence) > LONGEST:
        return sentence
    return _said(sentence, _FORMS[language], DEEPEST)


def _said(sentence: str, forms: list[_Form], depth: int) -> str:
    for pattern, form in forms if depth else ():
        if match := pattern.fullmatch(sentence):
            return form.format(*(_said(part, forms, depth - 1) for part in match.groups()))
    parts = sentence.split("; ")
    return "; ".join(_said(part, forms, depth - 1) for part in parts) if len(parts) > 1 and depth else sentence


def _forms(language: str) -> list[_Form]:
    """Those with the most words of their own first: "{} is busy: on to {}" before "{}: {} is next"."""
    with (LOCALE / "sentences" / f"{language}.po").open("rb") as file:
        said = {str(message.id): str(message.string) for message in read_po(file, locale=language) if message.id}
    longest_first = sorted(said, key=lambda form: len(form.replace("{}", "")), reverse=True)
    return [(re.compile("(.+?)".join(map(re.escape, form.split("{}"))), re.DOTALL), said[form])
            for form in longest_first]


_FORMS: Mapping[str, list[_Form]] = {language: _forms(language) for language in LANGUAGES if language != DEFAULT}
