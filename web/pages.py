"""Pages from templates: everything is escaped, nothing undefined passes, and times are the browser's to show."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

HERE = Path(__file__).parent
STATIC = HERE / "static"
NO_STORE = {"Cache-Control": "no-store"}


def page(template: str, status: int = 200, headers: Mapping[str, str] = NO_STORE, **values: object) -> HTMLResponse:
    return HTMLResponse(fragment(template, **values), status, dict(headers))


def fragment(template: str, **values: object) -> str:
    return _TEMPLATES.get_template(template).render(**values)


def _instant(moment: datetime) -> Markup:
    """live.js shows it in the reader's zone; without it, UTC stands there."""
    shown = moment.astimezone(UTC).strftime("%d %b %H:%M UTC")
    return Markup('<time datetime="{}">{}</time>').format(_iso(moment), shown)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _clock(seconds: float) -> str:
    """75 -> "1:15"."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _templates() -> Environment:
    environment = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, auto_reload=False)
    environment.filters.update(instant=_instant, iso=_iso, clock=_clock)
    for name in environment.list_templates():
        environment.get_template(name)                 # compiled now: later it would hold the calls up for 30 ms
    return environment


_TEMPLATES = _templates()
