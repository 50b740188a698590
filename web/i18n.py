"""Languages of the pages. English is the id of each message; the others are in locale/LANGUAGE/*.po."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from starlette.requests import Request

from web.crm_words import of_widget

LOCALE = Path(__file__).parent / "locale"
LANGUAGES: Mapping[str, str] = {"en": "English", "ru": "Русский"}
DEFAULT = "en"
COOKIE, COOKIE_SECONDS = "language", 365 * 24 * 3600
MOST_ACCEPTED = 20                     # languages of one Accept-Language


def language_of(request: Request) -> str:
    """What the visitor has chosen, else the first of the browser's that we speak (RFC 9110 §12.5.4, by its order)."""
    if (chosen := request.cookies.get(COOKIE)) in LANGUAGES:
        return str(chosen)
    accepted = request.headers.get("accept-language", "").split(",")[:MOST_ACCEPTED]
    spoken = (one.split(";")[0].strip().lower().split("-")[0] for one in accepted)
    return next((one for one in spoken if one in LANGUAGES), DEFAULT)


def read_catalog(language: str) -> Catalog:
    """All files of a language as one. A message that two of them have is the first one's."""
    whole = Catalog(locale=language)
    for path in sorted((LOCALE / language).glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale=language):
                if message.id and message.id not in whole:
                    whole[message.id] = message
    if language != DEFAULT:
        for english, other in of_widget(language):     # one text for the widget and the pages
            whole.add(english, other)
    return whole


def _translations(language: str) -> Translations:
    compiled = BytesIO()
    write_mo(compiled, read_catalog(language))
    compiled.seek(0)
    return Translations(compiled)


TRANSLATIONS: Mapping[str, Translations] = {language: _translations(language) for language in LANGUAGES}
