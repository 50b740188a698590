"""Forms made of apply entries: fields from a pydantic model, values out of an entry or of what was sent, complaints
beside the fields that they belong to. What fields are called stands in office_words.py.

A page names its fields in `Block`s, by the names of the model ("ring_seconds", "hours.open", "limit[0].prefix").
`shown` gives the text of each input, `values_of` takes what was sent back into what an apply file would say, and
`made` joins blocks, texts and complaints into a `Form` for `fields.html`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from b2bua.apply.office import Complaint
from b2bua.faults import model_at
from b2bua.phrases import Phrase
from web.office_words import CHOICES, IN_PAGES, KEPT, WORDS

Say = Callable[[str], str]

LONGEST = 1_000                        # characters of an input that has no limit of its own
_PART = re.compile(r"[^.\[\]]+")
_BETWEEN = re.compile(r"[\s,;]+")


@dataclass(frozen=True, slots=True)
class Block:
    """Fields that stand together."""

    title: str
    fields: tuple[str, ...]
    folded: bool = False               # shown when somebody asks for it, or something in it is said


@dataclass(frozen=True, slots=True)
class Input:
    name: str
    kind: str                          # "text", "number", "switch", "choice", "lines", "password"
    label: str
    hint: str
    value: str                         # "on" of a switch that is on
    is_required: bool
    longest: int
    choices: tuple[tuple[str, str], ...]
    suggestions: str                   # id of a datalist; "": none
    complaints: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"f-{self.name.replace('.', '-').replace('[', '-').replace(']', '')}"


@dataclass(frozen=True, slots=True)
class InputBlock:
    title: str
    inputs: tuple[Input, ...]
    folded: bool


@dataclass(frozen=True, slots=True)
class Form:
    blocks: tuple[InputBlock, ...]
    seen: str                          # digest of what the form was made of
    others: tuple[tuple[str, str], ...] = ()       # what would break: name of the thing, complaint
    whole: tuple[str, ...] = ()        # complaints that belong to no field

    @property
    def complaints(self) -> Iterator[tuple[Input, str]]:
        for block in self.blocks:
            for one in block.inputs:
                yield from ((one, complaint) for complaint in one.complaints)


def made(say: Say, model: type[BaseModel], blocks: Sequence[Block], texts: Mapping[str, str], seen: str,
         complaints: Sequence[Complaint] = (), *, name_of: Callable[[Complaint], str] = lambda one: "",
         suggestions: Mapping[str, str] | None = None, is_new: bool = False) -> Form:
    """`name_of`: how a thing is called that is not the edited one; `suggestions`: ids of datalists, by field."""
    names = [name for block in blocks for name in block.fields]
    of_field: dict[str, list[str]] = {name: [] for name in names}
    whole: list[str] = []
    for one in complaints:
        if one.edit is not None:
            place = _field_of(one.field, names)
            (of_field[place] if place else whole).append(in_words(say, one))
    others = tuple((name_of(one), in_words(say, one)) for one in complaints if one.edit is None)

    def input_of(name: str) -> Input:
        info = info_of(model, name)
        hints = words_of(model, name)[1], KEPT if kind_of(info) == "password" and not is_new else ""
        return Input(
            name=name, kind=kind_of(info), label=label_of(say, name, model),
            hint=" ".join(say(one) for one in hints if one), value=texts.get(name, ""),
            is_required=info.is_required() and kind_of(info) != "switch",
            longest=next((most for one in info.metadata if (most := getattr(one, "max_length", None))), LONGEST),
            choices=tuple((value, say(CHOICES.get(value, value))) for value in choices_of(info)),
            suggestions=(suggestions or {}).get(name, ""), complaints=tuple(of_field[name]))

    return Form(tuple(
        InputBlock(say(block.title) if block.title else "", inputs := tuple(map(input_of, block.fields)),
                   block.folded and not any(one.complaints or _is_said(model, one, is_new=is_new) for one in inputs))
        for block in blocks
    ), seen, others, tuple(whole))


def label_of(say: Say, name: str, model: type[BaseModel] | None = None) -> str:
    return say(words_of(model, name)[0])


def words_of(model: type[BaseModel] | None, name: str) -> tuple[str, str]:
    """Label and hint; those of this model before those of all that have such a field."""
    plain = _plain(name)
    own = WORDS.get(f"{model.__name__}.{plain}") if model is not None else None
    known = own or WORDS.get(plain)
    if known is not None:
        return known
    return plain, info_of(model, name).description or "" if model is not None else ""


def in_words(say: Say, complaint: Complaint) -> str:
    return said_of(say, complaint.problem, complaint.remedy)


def said_of(say: Say, problem: str, remedy: str) -> str:
    what, do = translated(say, problem), translated(say, remedy)
    return f"{what[:1].upper()}{what[1:].rstrip('.')}. {do}".strip()


def translated(say: Say, text: str) -> str:
    """Words of the core, as pages have them: what speaks of settings in a file speaks of fields here."""
    if not isinstance(text, Phrase):
        return text
    template = IN_PAGES.get(text.template, text.template)
    values = {name: translated(say, value) if isinstance(value, Phrase) else value
              for name, value in text.values.items()}
    return say(template).format(**values) if template else ""


def shown(entry: BaseModel | None, model: type[BaseModel], names: Iterable[str]) -> dict[str, str]:
    """The text of each input; of a new thing the defaults."""
    return {name: _text(_value_at(entry, name, info_of(model, name))) for name in names}


def sent(form: Mapping[str, str], model: type[BaseModel], names: Iterable[str]) -> dict[str, str]:
    """What came, as the form would show it again."""
    return {name: "" if kind_of(info_of(model, name)) == "password" else form.get(name, "") for name in names}


def values_of(form: Mapping[str, str], model: type[BaseModel], names: Iterable[str]) -> dict[str, Any]:
    """What an apply file would say: nothing of what has its default."""
    values: dict[str, Any] = {}
    for name in names:
        info, text = info_of(model, name), form.get(name, "").replace("\r\n", "\n")
        value: Any
        match kind_of(info):
            case "switch":
                value = bool(text)
            case "lines":
                value = _lines(text, name)
            case "password":
                value = text           # spaces may be meant
            case _:
                value = text.strip()
        if value in ("", []) and (info.is_required() or not info.default or kind_of(info) != "text"):
            continue
        if not _is_default(value, info):
            _put(values, _PART.findall(name), value)
    return values


def info_of(model: type[BaseModel], name: str) -> FieldInfo:
    """Of "hours.open", or "limit[0].prefix"."""
    path = tuple(part for part in _PART.findall(name) if not part.isdigit())
    known = model_at(model, path[:-1])
    assert known is not None, name
    for field_name, info in known.model_fields.items():
        if path[-1] in (field_name, info.alias):
            return info
    raise KeyError(name)


def kind_of(info: FieldInfo) -> str:
    kind = _inner(info.annotation)
    if kind is bool:
        return "switch"
    if kind in (int, float):
        return "number"
    if kind is SecretStr:
        return "password"
    if get_origin(kind) is tuple:
        return "lines"
    return "choice" if get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, Enum)) else "text"


def choices_of(info: FieldInfo) -> tuple[str, ...]:
    if kind_of(info) != "choice":
        return ()
    kind = _inner(info.annotation)
    found = tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else tuple(one.value for one in kind)
    return ("", *found) if info.default is None else found


def _inner(annotation: Any) -> Any:
    """`X` of `X | None`, `str` of Annotated text."""
    kinds = [one for one in get_args(annotation) if one is not NoneType]
    if NoneType in get_args(annotation) and len(kinds) == 1:
        return _inner(kinds[0])
    return _inner(annotation.__origin__) if hasattr(annotation, "__metadata__") else annotation


def _field_of(place: str, names: Sequence[str]) -> str:
    """The input that "members[1]" or "hours" belongs to; "": none does."""
    fitting = [name for name in names if place == name or place.startswith((f"{name}[", f"{name}."))]
    within = [name for name in names if place and name.startswith((f"{place}.", f"{place}["))]
    return max(fitting, key=len) if fitting else within[0] if within else ""


def _value_at(entry: BaseModel | None, name: str, info: FieldInfo) -> Any:
    current: Any = entry
    for part in _PART.findall(name):
        if current is None:
            break
        if part.isdigit():
            current = current[int(part)] if int(part) < len(current) else None
        else:
            current = getattr(current, _attribute(type(current), part))
    if entry is None or current is None:
        return None if info.is_required() else info.default
    return current


def _attribute(model: type[BaseModel], part: str) -> str:
    return next(name for name, info in model.model_fields.items() if part in (name, info.alias))


def _text(value: Any) -> str:
    match value:
        case None | SecretStr():
            return ""
        case bool():
            return "on" if value else ""
        case Enum():
            return str(value.value)
        case tuple():
            return "\n".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _lines(text: str, name: str) -> list[str]:
    """Opening times have spaces in them, numbers and dates have none."""
    parts = re.split(r"[\n,;]+", text) if _plain(name) == "hours.open" else _BETWEEN.split(text)
    return [part.strip() for part in parts if part.strip()]


def _is_default(value: Any, info: FieldInfo) -> bool:
    return not info.is_required() and _text(info.default) == _text(tuple(value) if isinstance(value, list) else value)


def _is_said(model: type[BaseModel], one: Input, *, is_new: bool) -> bool:
    info = info_of(model, one.name)
    return not is_new and one.kind != "password" and not info.is_required() and one.value != _text(info.default)


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """["limit", "0", "prefix"] makes a list of tables, and ["hours", "open"] a table."""
    place: Any = values
    for part, below in pairwise(path):
        if part.isdigit():
            while len(place) <= int(part):
                place.append({})
            place = place[int(part)]
        else:
            place = place.setdefault(part, [] if below.isdigit() else {})
    place[path[-1]] = value


def _plain(name: str) -> str:
    """"limit[0].prefix" -> "limit.prefix"."""
    return re.sub(r"\[\d+\]", "", name)
