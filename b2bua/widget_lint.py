"""What amoCRM, Kommo or a moderator would refuse in a widget's archive, found before the upload."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LARGEST_ARCHIVE = 5_000_000            # bytes; ours has a tenth of it
LARGEST_UNPACKED = 20_000_000          # bytes of all files together
MOST_FILES = 200
LARGEST_PICTURE = 300_000              # bytes, amoCRM's limit

LOGOS = {"logo": (130, 100), "logo_main": (400, 272), "logo_medium": (240, 84), "logo_min": (84, 84),
         "logo_small": (108, 108)}
DIGITAL_PIPELINE_LOGO = ("logo_dp", (174, 109))
TOUR = (1188, 616)

LANGUAGES = {"ru", "en", "es", "pt"}
LOCATIONS = {
    "lcard", "ccard", "comcard", "cucard", "llist", "clist", "culist", "tlist", "tline", "tcalendar", "settings",
    "advanced_settings", "card_sdk", "catalogs", "digital_pipeline", "lead_sources", "whatsapp_modal", "everywhere",
    "sms", "mobile_card", "salesbot_designer", "amoforms", "widget_page",
}
FIELD_TYPES = {"text", "pass", "users", "users_lp", "custom"}
CALLBACKS = ("render", "init", "bind_actions", "onSave")
ROOT_CLASS = ".smartswitch"            # every selector of the style sheet begins with it

_WIDGET_KEYS: Mapping[str, type] = {
    "name": str, "description": str, "short_description": str, "version": str, "interface_version": int,
    "init_once": bool, "locale": list, "installation": bool, "support": dict,
}
_TEXT_FILES = (".json", ".js", ".css", ".twig")
_FORBIDDEN_CODE = re.compile(
    r"\bconsole\s*\.\s*(?:log|info|warn|error)\b|\b(?:alert|confirm|prompt|eval)\s*\(|\bnew\s+Function\b")
_RUSSIAN = re.compile(r"[А-Яа-яЁё]|\.ru\b")
_BROKEN_ARCHIVE = (        # RuntimeError: it wants a password
    zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError,
)
_PNG = b"\x89PNG\r\n\x1a\n"

Files = Mapping[str, bytes]
Findings = Iterator[str]


def lint(archive: bytes) -> list[str]:
    """Everything that is wrong with it, one sentence each; empty when nothing is."""
    files = _unpacked(archive)
    if isinstance(files, str):
        return [files]
    return [finding for rule in RULES for finding in rule(files)]


def _unpacked(archive: bytes) -> Files | str:
    """The files by their names, or why there are none. The sizes that are claimed are held against the limits first."""
    if len(archive) > LARGEST_ARCHIVE:
        return f"the archive has {len(archive)} bytes, more than {LARGEST_ARCHIVE}"
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            entries = [entry for entry in packed.infolist() if not entry.is_dir()]
            if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > LARGEST_UNPACKED:
                return f"the archive has more than {MOST_FILES} files, or {LARGEST_UNPACKED} bytes unpacked"
            if len({entry.filename for entry in entries}) < len(entries):
                return "a file is in the archive twice"
            if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
                return "the archive is packed by a method that not everybody can unpack; use deflate"
            return {entry.filename: packed.read(entry) for entry in entries}
    except _BROKEN_ARCHIVE as error:
        return f"this is no ZIP archive that can be read ({error})"


def _places(files: Files) -> Findings:
    for name in files:
        if name.startswith(("/", "\\")) or "\\" in name or ".." in name.split("/"):
            yield f"{name}: files have plain names with / between folders"
        if name.rsplit("/", 1)[-1].startswith(".") or name.startswith("__MACOSX/"):
            yield f"{name}: no file of the system that packed the archive belongs there"
    for needed in ("manifest.json", "script.js"):
        if needed not in files:
            where = next((name for name in files if name.endswith(f"/{needed}")), None)
            yield (f"{needed} is in a folder ({where}); pack the contents of the folder, not the folder" if where
                   else f"{needed} is missing")


def _texts(files: Files) -> Findings:
    for name, content in files.items():
        if not name.endswith(_TEXT_FILES):
            continue
        if content.startswith(b"\xef\xbb\xbf"):
            yield f"{name} begins with a byte order mark; save it as UTF-8 without one"
        if b"\r" in content:
            yield f"{name} has line ends of Windows; save it with \\n alone"
        try:
            content.decode()
        except UnicodeDecodeError:
            yield f"{name} is not UTF-8"
        if name.endswith(".json") and not isinstance(_object(files, name), dict):
            yield f"{name} is no JSON object; comments and commas at an end are not allowed"


def _manifest_keys(files: Files) -> Findings:
    manifest = _object(files, "manifest.json") or {}
    widget = _part(manifest, "widget", dict)
    for key, kind in _WIDGET_KEYS.items():
        if key not in widget:
            yield f"manifest.json: widget.{key} is missing"
        elif type(widget[key]) is not kind:
            yield f"manifest.json: widget.{key} has to be {_KINDS[kind]}"
    if widget.get("interface_version", 2) != 2:
        yield "manifest.json: widget.interface_version has to be 2"
    if not re.fullmatch(r"\d+(\.\d+){0,3}\w*", str(widget.get("version", "0"))):
        yield "manifest.json: widget.version is no version like 1.0.2"
    locale = _part(widget, "locale", list)
    if not locale or not all(isinstance(one, str) and one in LANGUAGES for one in locale):
        yield f"manifest.json: widget.locale names no language, or one that is none of {', '.join(sorted(LANGUAGES))}"
    support = _part(widget, "support", dict)
    if not any(isinstance(support.get(key), str) and support[key] for key in ("link", "email")):
        yield "manifest.json: widget.support needs a link or an email"
    for secret in ("code", "secret_key"):
        if secret in widget:
            yield f"manifest.json: widget.{secret} is no longer written: amoCRM makes it"


def _manifest_locations(files: Files) -> Findings:
    manifest = _object(files, "manifest.json") or {}
    locations = _part(manifest, "locations", list)
    if not locations:
        yield "manifest.json: locations is missing or empty, so that script.js would never run"
    for location in locations:
        if re.sub(r"-[01]$", "", str(location)) not in LOCATIONS:
            yield f"manifest.json: there is no location {location}"
    fields = _part(manifest, "settings", dict)
    custom = [name for name, field in fields.items() if isinstance(field, dict) and field.get("type") == "custom"]
    if len(custom) > 1:
        yield f"manifest.json: settings may have one custom field, and not {', '.join(custom)}"
    if custom and "settings" not in locations:
        yield "manifest.json: a custom field needs the location settings"
    for name, field in fields.items():
        if not _is_field(field):
            yield f"manifest.json: settings.{name} needs name, required, and as type {', '.join(sorted(FIELD_TYPES))}"
    if fields and _part(manifest, "widget", dict).get("installation") is False:
        yield "manifest.json: a widget that is not installed (installation) has no settings"


def _is_field(field: Any) -> bool:
    return (isinstance(field, dict) and isinstance(field.get("name"), str) and str(field.get("type")) in FIELD_TYPES
            and isinstance(field.get("required"), bool))


def _translations(files: Files) -> Findings:
    """One file for each language, all of one shape, with whatever the manifest points to."""
    manifest = _object(files, "manifest.json") or {}
    shapes = {}
    for language in _languages(manifest):
        name = f"i18n/{language}.json"
        if name not in files:
            yield f"{name} is missing, but widget.locale names {language}"
        elif isinstance(words := _object(files, name), dict):
            shapes[name] = dict(_leaves(words))
    for name in files:
        if name.startswith("i18n/") and name not in {f"i18n/{language}.json" for language in _languages(manifest)}:
            yield f"{name} is there, but widget.locale does not name it"
    everything = {path for shape in shapes.values() for path in shape}
    for name, shape in shapes.items():
        for path in sorted(everything - shape.keys()):
            yield f"{name} lacks {path}, which another language has"
        for path in sorted(_pointed_to(manifest)):
            if not isinstance(shape.get(path), str):
                yield f"{name} lacks {path}, to which manifest.json points"
        for path, text in shape.items():
            if not isinstance(text, str) or not text.strip():
                yield f"{name}: {path} is no text, or an empty one"
            if name in ("i18n/en.json", "i18n/es.json", "i18n/pt.json") and _RUSSIAN.search(str(text)):
                yield f"{name}: {path} has Russian letters or a link to a .ru site"
    yield from _placeholders(shapes)


def _placeholders(shapes: Mapping[str, Mapping[str, Any]]) -> Findings:
    """{number} of one language is in all of them: who forgets it shows a sentence with a hole."""
    for path in sorted({path for shape in shapes.values() for path in shape}):
        used = {frozenset(re.findall(r"\{\w+\}", str(shape[path]))) for shape in shapes.values() if path in shape}
        if len(used) > 1:
            yield f"i18n: {path} has other {{placeholders}} in one language than in another"


def _pictures(files: Files) -> Findings:
    manifest = _object(files, "manifest.json") or {}
    logos = dict(LOGOS)
    if "digital_pipeline" in _part(manifest, "locations", list):
        logos.update([DIGITAL_PIPELINE_LOGO])
    wanted = {f"images/{name}.png": size for name, size in logos.items()}
    tour = _part(manifest, "tour", dict)
    shown = _part(tour, "tour_images", dict)
    if tour.get("is_tour") is not True or not shown:
        yield "manifest.json: the tour is missing (is_tour, tour_images, tour_description)"
    for language, names in shown.items():
        if language not in _languages(manifest) or not isinstance(names, list) or not names:
            yield f"manifest.json: tour_images of {language} is no list of pictures for a language of widget.locale"
            continue
        wanted.update({str(name).removeprefix("/"): TOUR for name in names})
    for name, size in wanted.items():
        if name not in files:
            yield f"{name} is missing"
        else:
            yield from _picture(name, files[name], size)
    for name in files:
        if name.startswith("images/") and name not in wanted:
            yield f"{name} is used nowhere"


def _picture(name: str, content: bytes, size: tuple[int, int]) -> Findings:
    if len(content) > LARGEST_PICTURE:
        yield f"{name} has {len(content)} bytes, more than {LARGEST_PICTURE}"
    if not content.startswith(_PNG) or len(content) < 33 or content[12:16] != b"IHDR":
        yield f"{name} is no PNG"
    elif (found := struct.unpack(">II", content[16:24])) != size:
        yield f"{name} is {found[0]}x{found[1]}, and has to be {size[0]}x{size[1]}"
    elif b"acTL" in content:
        yield f"{name} moves; pictures have to stand still"


def _code(files: Files) -> Findings:
    for name, content in files.items():
        if name.endswith(".js"):
            for found in _FORBIDDEN_CODE.finditer(content.decode(errors="replace")):
                yield f"{name}: {found.group()} is not allowed in a widget"
    script = files.get("script.js", b"").decode(errors="replace")
    if script and not re.search(r"^define\(\[", script, re.MULTILINE):
        yield "script.js is no AMD module: it has to call define([...], function)"
    for callback in CALLBACKS:
        if script and not re.search(rf"\b{callback}\b\s*[:(]", script):
            yield f"script.js has no callback {callback}"


def _style(files: Files) -> Findings:
    """A selector without a root of our own would change amoCRM's pages."""
    for name, content in files.items():
        if not name.endswith(".css"):
            continue
        plain = re.sub(r"/\*.*?\*/", "", content.decode(errors="replace"), flags=re.DOTALL)
        for selectors in re.findall(r"([^{}]*)\{", plain):
            for selector in (one.strip() for one in selectors.split(",")):
                if not selector.startswith((ROOT_CLASS, "@media")):
                    yield f"{name}: {selector or 'an empty selector'} does not begin with {ROOT_CLASS}"


RULES: tuple[Callable[[Files], Findings], ...] = (
    _places, _texts, _manifest_keys, _manifest_locations, _translations, _pictures, _code, _style,
)

_KINDS = {str: "a text", int: "a whole number", bool: "true or false", list: "a list", dict: "an object"}


def _object(files: Files, name: str) -> dict[str, Any] | None:
    try:
        found = json.loads(files.get(name, b""))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _part(whole: Mapping[str, Any], key: str, kind: type) -> Any:
    """Of the wrong kind is as good as empty here: that it is wrong is said once."""
    part = whole.get(key)
    return part if isinstance(part, kind) else kind()


def _languages(manifest: Mapping[str, Any]) -> list[str]:
    return [one for one in _part(_part(manifest, "widget", dict), "locale", list) if isinstance(one, str)]


def _pointed_to(manifest: Mapping[str, Any]) -> set[str]:
    widget, tour = _part(manifest, "widget", dict), _part(manifest, "tour", dict)
    fields = _part(manifest, "settings", dict).values()
    paths = [*(widget.get(key) for key in ("name", "description", "short_description")), tour.get("tour_description"),
             *(field.get("name") for field in fields if isinstance(field, dict))]
    return {path for path in paths if isinstance(path, str)}


def _leaves(words: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in words.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
