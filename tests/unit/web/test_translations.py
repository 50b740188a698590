"""Everything that the pages say has its Russian, and nothing has that they do not say any more."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.extract import extract
from babel.messages.pofile import read_po

import b2bua
import web
from web import crm_words, office_words, trunk_words
from web.i18n import LANGUAGES, LOCALE, read_catalog
from web.office_words import IN_PAGES
from web.visits import NOTICES

WEB, CORE = Path(web.__file__).parent, Path(b2bua.__file__).parent
OF_PROGRAMS = {"bans", "control_token", "explain", "trace", "users", "amocrm_hooks", "amocrm_webhooks", "dashboard",
               "widget"}
CHECKS = ("apply/review", "apply/entries", "apply/office", "apply/extension_csv", "faults", "net/certificates",
          "crm/texts")  # fmt: skip
OTHERS = [language for language in LANGUAGES if language != "en"]
_FIELDS = re.compile(r"%\(\w+\)[a-z]|\{\w*(?=[}!:])")


def _in_templates() -> Iterator[str | tuple[str, ...]]:
    for path in WEB.glob("templates/**/*.html"):
        with path.open("rb") as file:
            for _, message, _, _ in extract("jinja2.ext:babel_extract", file, options={"newstyle_gettext": "true",
                                                                                       "trimmed": "true"}):
                yield message


def _in_code() -> Iterator[str]:
    """What `say` and the sign-in form are given, titles and remedies of problems, notices."""
    yield from NOTICES.values()
    for path in WEB.rglob("*.py"):
        if path.relative_to(WEB).with_suffix("").parts[0] in OF_PROGRAMS:        # who asks these are programs
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                named = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                said = {"Problem": node.args[1:3], "say": node.args[:1], "_form": node.args[2:3],
                        "Block": node.args[:1], "Phrase": node.args[:1]}.get(named, [])
                yield from (one.value for one in said if isinstance(one, ast.Constant) and isinstance(one.value, str)
                            and one.value)


def _in_core() -> Iterator[str]:
    """What checks say, as pages have it; `Phrase`s, and whatever becomes one."""
    for name in CHECKS:
        tree = ast.parse((CORE / f"{name}.py").read_text("utf-8"))
        assigned = name != "apply/extension_csv"
        places: list[ast.AST] = [node for node in tree.body if assigned and isinstance(node, ast.Assign)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                named = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                places += {"Phrase": node.args[:1], "Wrong": node.args[:2], "_fault": node.args[-2:],
                           "_once": node.args[3:], "_unique": node.args[:1]}.get(named, [])
        texts = {one.value for place in places for one in _texts(place) if " " in one.value}
        yield from (said for text in texts if (said := IN_PAGES.get(text, text)))


def _texts(place: ast.AST) -> Iterator[ast.Constant]:
    """Constants that are text; of a dictionary its values."""
    if isinstance(place, ast.Assign):
        places = place.value.values if isinstance(place.value, ast.Dict) else [place.value]
        yield from (one for one in places if isinstance(one, ast.Constant) and isinstance(one.value, str))
    else:
        yield from (one for one in ast.walk(place) if isinstance(one, ast.Constant) and isinstance(one.value, str))


def _said() -> set[str | tuple[str, ...]]:
    return {*_in_templates(), *_in_code(), *_in_core(), *office_words.messages(), *crm_words.messages(),
            *trunk_words.messages()}


@pytest.mark.parametrize("language", OTHERS)
def test_all_that_the_pages_say_is_translated(language: str) -> None:
    catalog = read_catalog(language)
    missing = [said for said in _said() if (message := catalog.get(_first(said))) is None or not _whole(message.string)]
    assert not sorted(map(str, missing))


@pytest.mark.parametrize("language", OTHERS)
def test_nothing_is_translated_that_no_page_says(language: str) -> None:
    said = {_first(one) for one in _said()}
    idle = [message.id for message in read_catalog(language) if message.id and _first(message.id) not in said]
    assert not sorted(map(str, idle))


@pytest.mark.parametrize("language", OTHERS)
def test_no_message_is_translated_twice_and_each_fills_in_the_same(language: str) -> None:
    seen: set[str] = set()
    for path in sorted((LOCALE / language).glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale=language):
                if not message.id:
                    continue
                assert _first(message.id) not in seen, f"{path.name}: {message.id}"
                seen.add(_first(message.id))
                wanted = set(_FIELDS.findall(message.id if isinstance(message.id, str) else message.id[-1]))
                for text in [message.string] if isinstance(message.string, str) else message.string:
                    assert set(_FIELDS.findall(text)) == wanted, f"{path.name}: {message.id}"


def _first(message: str | tuple[str, ...] | list[str]) -> str:
    return message if isinstance(message, str) else message[0]


def _whole(text: str | tuple[str, ...] | list[str]) -> bool:
    return bool(text) if isinstance(text, str) else all(text)
