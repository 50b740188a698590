"""Each rule of the linter finds an archive that breaks it, and nothing makes the linter itself fall over."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2bua.widget_archive import build
from b2bua.widget_lint import LARGEST_ARCHIVE, LARGEST_PICTURE, MOST_FILES, lint
from tests.support.widget_files import URL, Files, good_files, packed, with_json

HEAD_OF_PNG = 33                       # bytes; what the linter does not look at is left out, for speed
GOOD = {name: content[:HEAD_OF_PNG] if name.endswith(".png") else content for name, content in good_files().items()}
ARCHIVE = packed(GOOD)
Change = Callable[[Files], Files]


def manifest(change: Callable[[Any], object]) -> Change:
    return lambda files: with_json(files, "manifest.json", change)


def words(language: str, change: Callable[[Any], object]) -> Change:
    return lambda files: with_json(files, f"i18n/{language}.json", change)


def put(name: str, content: bytes) -> Change:
    return lambda files: {**files, name: content}


def without(name: str) -> Change:
    return lambda files: {file: content for file, content in files.items() if file != name}


def added(name: str, more: bytes, *, before: bool = False) -> Change:
    return lambda files: {**files, name: more + files[name] if before else files[name] + more}


def resized(content: bytes, width: int, height: int) -> bytes:
    return content[:16] + struct.pack(">II", width, height) + content[24:]


BROKEN: dict[str, tuple[Change, str]] = {
    "top folder": (lambda files: {f"widget/{name}": content for name, content in files.items()},
                   "manifest.json is in a folder (widget/manifest.json)"),
    "no script": (without("script.js"), "script.js is missing"),
    "way out": (put("../evil.js", b""), "../evil.js: files have plain names"),
    "macOS": (put("images/.DS_Store", b""), "images/.DS_Store: no file of the system"),
    "BOM": (added("i18n/ru.json", b"\xef\xbb\xbf", before=True), "i18n/ru.json begins with a byte order mark"),
    "CRLF": (added("style.css", b"\r\n"), "style.css has line ends of Windows"),
    "not UTF-8": (added("style.css", b"/* \xff */"), "style.css is not UTF-8"),
    "comment in JSON": (added("manifest.json", b"// mine"), "manifest.json is no JSON object"),
    "no name": (manifest(lambda m: m["widget"].pop("name")), "widget.name is missing"),
    "number as text": (manifest(lambda m: m["widget"].update(interface_version="2")), "has to be a whole number"),
    "yes as text": (manifest(lambda m: m["widget"].update(init_once="Y")), "widget.init_once has to be true or false"),
    "dead interface": (manifest(lambda m: m["widget"].update(interface_version=1)), "interface_version has to be 2"),
    "odd version": (manifest(lambda m: m["widget"].update(version="newest")), "no version like"),
    "odd language": (manifest(lambda m: m["widget"].update(locale=["de"])), "widget.locale names no language"),
    "no support": (manifest(lambda m: m["widget"].update(support={})), "needs a link or an email"),
    "secret": (manifest(lambda m: m["widget"].update(secret_key="x")), "widget.secret_key is no longer written"),
    "nowhere": (manifest(lambda m: m.update(locations=[])), "locations is missing or empty"),
    "odd location": (manifest(lambda m: m["locations"].append("moon-1")), "there is no location moon-1"),
    "custom without settings": (manifest(lambda m: m.update(locations=["everywhere"])), "needs the location settings"),
    "two custom fields": (manifest(lambda m: m["settings"]["login"].update(type="custom")), "one custom field"),
    "odd field": (manifest(lambda m: m["settings"]["login"].update(type="date")), "settings.login needs name"),
    "field without required": (manifest(lambda m: m["settings"]["login"].pop("required")), "settings.login needs"),
    "settings without install": (manifest(lambda m: m["widget"].update(installation=False)), "has no settings"),
    "no tour": (manifest(lambda m: m.pop("tour")), "the tour is missing"),
    "tour in a foreign language": (manifest(lambda m: m["tour"]["tour_images"].update(pt=[])), "tour_images of pt"),
    "lost language": (without("i18n/es.json"), "i18n/es.json is missing"),
    "language of nobody": (put("i18n/pt.json", b"{}"), "widget.locale does not name it"),
    "lost word": (words("es", lambda w: w["states"].pop("talking")), "i18n/es.json lacks states.talking"),
    "pointing into nothing": (manifest(lambda m: m["widget"].update(name="widget.nome")),
                              "i18n/ru.json lacks widget.nome, to which manifest.json points"),
    "empty word": (words("en", lambda w: w["card"].update(close=" ")), "card.close is no text, or an empty one"),
    "Russian in English": (words("en", lambda w: w["card"].update(close="Скрыть")), "en.json: card.close has Russian"),
    "link to Russia": (words("es", lambda w: w["card"].update(close="pbx.example.ru")), "card.close has Russian"),
    "hole": (words("ru", lambda w: w["problems"].update(no_answer="Сервер молчит")), "problems.no_answer has other {"),
    "lost picture": (without("images/logo_min.png"), "images/logo_min.png is missing"),
    "wrong size": (put("images/logo.png", resized(GOOD["images/logo.png"], 131, 100)), "has to be 130x100"),
    "wrong tour": (put("images/tour_1_ru.png", GOOD["images/logo.png"]), "has to be 1188x616"),
    "heavy picture": (added("images/logo.png", bytes(LARGEST_PICTURE)), "more than 300000"),
    "no PNG": (put("images/logo.png", b"GIF89a"), "images/logo.png is no PNG"),
    "moving": (added("images/logo.png", b"\0\0\0\x08acTL"), "images/logo.png moves"),
    "unused picture": (put("images/old.png", b""), "images/old.png is used nowhere"),
    "digital pipeline": (manifest(lambda m: m["locations"].append("digital_pipeline")), "logo_dp.png is missing"),
    "log": (added("script.js", b"console.log(1);"), "console.log is not allowed"),
    "alert": (added("script.js", b"window.alert ('x');"), "alert ( is not allowed"),
    "eval": (added("script.js", b"eval('1');"), "eval( is not allowed"),
    "no module": (put("script.js", b"callbacks = {render: 1, init: 1, bind_actions: 1, onSave: 1}"), "no AMD module"),
    "no onSave": (lambda files: {**files, "script.js": files["script.js"].replace(b"onSave", b"save")},
                  "script.js has no callback onSave"),
    "amoCRM's own styles": (added("style.css", b"a, .smartswitch-x { color: red }"), "style.css: a does not begin"),
    "styles in a query": (added("style.css", b"@media print { body { top: 0 } }"), "style.css: body does not begin"),
}


def test_ours_is_right() -> None:
    assert lint(build(URL)) == []
    assert lint(ARCHIVE) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_archive_is_found_out(name: str) -> None:
    change, finding = BROKEN[name]
    findings = lint(packed(change(GOOD)))
    assert any(finding in one for one in findings), findings


@given(st.sampled_from(sorted(GOOD.keys() - {"style.css"})))
def test_no_file_can_be_missing_but_the_style(name: str) -> None:
    assert lint(packed(without(name)(GOOD))) != []


@given(st.sampled_from(["en", "ru", "es"]), st.data())
def test_no_word_of_any_language_can_be_missing(language: str, data: st.DataObject) -> None:
    content = json.loads(GOOD[f"i18n/{language}.json"])
    group = data.draw(st.sampled_from(sorted(content)))
    word = data.draw(st.sampled_from(sorted(content[group])))
    del content[group][word]
    broken = {**GOOD, f"i18n/{language}.json": json.dumps(content, ensure_ascii=False).encode()}
    assert f"i18n/{language}.json lacks {group}.{word}, which another language has" in lint(packed(broken))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3))


@given(st.sampled_from(["widget", "locations", "tour", "settings"]), ANY_JSON)
def test_whatever_a_manifest_says_is_judged_in_sentences(key: str, value: object) -> None:
    findings = lint(packed(with_json(GOOD, "manifest.json", lambda m: m.update({key: value}))))
    assert all(isinstance(finding, str) and finding for finding in findings)


@given(st.sampled_from(["widget", "tour"]), st.data(), ANY_JSON)
def test_so_is_each_of_its_parts(key: str, data: st.DataObject, value: object) -> None:
    part = data.draw(st.sampled_from(sorted(json.loads(GOOD["manifest.json"])[key])))
    lint(packed(with_json(GOOD, "manifest.json", lambda m: m[key].update({part: value}))))


@given(st.binary(max_size=200) | st.tuples(st.integers(0, len(ARCHIVE) - 1), st.binary(min_size=1, max_size=8)).map(
    lambda damage: ARCHIVE[:damage[0]] + damage[1] + ARCHIVE[damage[0] + len(damage[1]):]))
def test_what_is_no_archive_or_a_damaged_one_is_judged_as_well(archive: bytes) -> None:
    assert isinstance(lint(archive), list)


def test_an_archive_that_would_fill_the_memory_is_not_unpacked() -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packing:
        packing.writestr("manifest.json", bytes(30_000_000))
    assert "bytes unpacked" in lint(bomb.getvalue())[0]
    assert "more than" in lint(bytes(LARGEST_ARCHIVE + 1))[0]
    assert "files" in lint(packed({f"{n}.js": b"" for n in range(MOST_FILES + 1)}))[0]


def test_what_not_everybody_can_unpack() -> None:
    odd = io.BytesIO()
    with zipfile.ZipFile(odd, "w", zipfile.ZIP_LZMA) as packing:
        packing.writestr("manifest.json", b"{}")
    assert "use deflate" in lint(odd.getvalue())[0]
