"""Pages from templates: everything is escaped, nothing undefined passes, and times are the browser's to show."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter

from babel.support import Translations
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from web.i18n import DEFAULT, LANGUAGES, TRANSLATIONS
from web.sentences import told

HERE = Path(__file__).parent
STATIC = HERE / "static"
NO_STORE = {"Cache-Control": "no-store"}
PIECE_SECONDS = 0.0003


def page(template: str, status: int = 200, headers: Mapping[str, str] = NO_STORE, *, language: str = DEFAULT,
         **values: object) -> HTMLResponse:
    return HTMLResponse(fragment(template, language=language, **values), status, dict(headers))


def fragment(template: str, *, language: str = DEFAULT, **values: object) -> str:
    return _TEMPLATES[language].get_template(template).render(**values)


async def page_in_pieces(
    template: str, status: int = 200, *, language: str = DEFAULT, **values: object
) -> HTMLResponse:
    """A page made in pieces between which the calls have their turn: many rows take ten milliseconds."""
    parts, began = [], perf_counter()
    for part in _TEMPLATES[language].get_template(template).generate(**values):
        parts.append(part)
        if perf_counter() - began > PIECE_SECONDS:
            await asyncio.sleep(0)
            began = perf_counter()
    return HTMLResponse("".join(parts), status, dict(NO_STORE))


def _instant(moment: datetime) -> Markup:
    """times.js shows it in the reader's zone; without it, UTC stands there."""
    shown = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Markup('<time datetime="{}">{}</time>').format(_iso(moment), shown)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _clock(seconds: float) -> str:
    """75 -> "1:15"."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _templates(language: str, translations: Translations) -> Environment:
    environment = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, auto_reload=False, extensions=["jinja2.ext.i18n"])
    environment.install_gettext_translations(translations, newstyle=True)      # type: ignore[attr-defined]
    environment.policies["ext.i18n.trimmed"] = True
    environment.filters.update(instant=_instant, iso=_iso, clock=_clock, told=partial(told, language=language))
    # `_` fills in what stands in a message as %(name)s, so it takes literals only; `say` takes any text.
    environment.globals.update(language=language, languages=LANGUAGES, say=translations.gettext)
    for name in environment.list_templates():
        environment.get_template(name)                 # compiled now: later it would hold the calls up for 30 ms
    return environment


_TEMPLATES = {language: _templates(language, translations) for language, translations in TRANSLATIONS.items()}
