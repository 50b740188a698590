"""What is wrong with a configuration: every fault with its line, its field and its remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from b2bua.apply.toml_lines import LocatedToml
from b2bua.phrases import Phrase, Wrong

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    line: int | None                   # in the file; None for the environment and for defaults
    field: str                         # "sip.listen[0].port"
    problem: str
    remedy: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        field = f"{self.field}: " if self.field else ""
        return f"{where}{field}{self.problem.rstrip('.')}. {self.remedy}"


class ConfigurationFaults(Exception):
    """Everything that is wrong, at once."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


def in_order(faults: Iterable[Fault]) -> list[Fault]:
    """As they stand in the file; what is not in it comes last."""
    return sorted(faults, key=lambda fault: (fault.line is None, fault.line or 0, fault.field))


def dotted(location: Sequence[str | int]) -> str:
    """("sip", "listen", 0, "port") -> "sip.listen[0].port"."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def faults_of_validation(error: ValidationError, model: type[BaseModel], toml: LocatedToml,
                         names: Mapping[Location, str] | None = None) -> list[Fault]:
    """Pydantic's findings in the words of an administrator. `names`: settings that the environment gave."""
    faults = []
    items = error.errors(include_url=False)
    places = [tuple(item["loc"]) for item in items]
    for location, item in zip(places, items, strict=True):
        if item["type"] == "too_short" and any(len(place) > len(location) and place[:len(location)] == location
                                               for place in places):
            continue                   # pydantic counts only the good elements; the bad ones are named already
        source = (names or {}).get(location)
        problem, remedy = _words(item["type"], item["msg"], item.get("ctx", {}), location, model)
        faults.append(Fault(None if source else toml.line(location), source or dotted(location), problem, remedy))
    return faults


def _words(kind: str, message: str, context: Mapping[str, Any], location: Location,
           model: type[BaseModel]) -> tuple[str, str]:
    known = model_at(model, location[:-1])
    if kind == "extra_forbidden":
        return "there is no such setting", did_you_mean(str(location[-1]), list(known.model_fields) if known else [])
    if isinstance(wrong := context.get("error"), Wrong):
        return wrong.problem, wrong.remedy
    meaning = _meaning(known, location)
    if kind == "missing":
        return Phrase("it is missing"), Phrase("Add `{name} = …`{meaning}.", name=location[-1], meaning=meaning)
    if kind in ("literal_error", "enum"):
        return Phrase("this value is not known"), Phrase(
            "Use {expected}{meaning}.", expected=context.get("expected", "one of the documented values"),
            meaning=meaning)
    if kind in _WRONG_KIND:
        return Phrase("this is the wrong kind of value"), Phrase("Give {expected}{meaning}.",
                                                                 expected=Phrase(_WRONG_KIND[kind]), meaning=meaning)
    if kind == "string_pattern_mismatch":
        return (Phrase("there is something in it that does not belong there"),
                Phrase("Write it another way{meaning}.", meaning=meaning))
    if kind in _LIMITS:
        return Phrase(_PAST[kind]), Phrase("Give {expected}{meaning}.", expected=Phrase(_LIMITS[kind], **context),
                                           meaning=meaning)
    problem, _, remedy = message.removeprefix("Value error, ").partition(" | ")
    return _lower_first(problem), remedy or f"Give another value{meaning}."


_WRONG_KIND = {
    "string_type": "text in quotes", "path_type": "a path in quotes", "bool_type": "true or false",
    "bool_parsing": "true or false", "int_type": "a whole number", "int_parsing": "a whole number",
    "int_from_float": "a whole number", "float_type": "a number", "float_parsing": "a number",
    "tuple_type": "a list in [brackets]", "list_type": "a list in [brackets]", "model_type": "a [table]",
    "dict_type": "a [table]", "ip_v4_network": "a network like 192.0.2.0/24",
    "ip_any_network": "a network like 192.0.2.0/24",
}
_LIMITS = {
    "greater_than": "a value above {gt}", "greater_than_equal": "{ge} or more", "less_than": "a value below {lt}",
    "less_than_equal": "{le} or less", "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters", "too_short": "at least {min_length}",
    "too_long": "at most {max_length}",
}
_PAST = {
    "greater_than": "this is too small", "greater_than_equal": "this is too small", "less_than": "this is too large",
    "less_than_equal": "this is too large", "string_too_short": "this is too short", "string_too_long":
    "this is too long", "too_short": "these are too few", "too_long": "these are too many",
}


def _meaning(model: type[BaseModel] | None, location: Location) -> str:
    field = model.model_fields.get(str(location[-1])) if model and location else None
    return Phrase(" ({what})", what=Phrase(field.description)) if field and field.description else ""


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def did_you_mean(name: str, known: Sequence[str], otherwise: str = "") -> str:
    """The remedy for a word that is not known."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return Phrase("Did you mean `{name}`?", name=near[0])
    if not otherwise and known:
        return Phrase("Remove it; known here: {known}.", known=", ".join(sorted(known)))
    return otherwise or Phrase("Remove it.")


def model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """The model that describes the table at this place of the file."""
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part) if current else None
        current = _model_in(field.annotation) if field else None
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `X`, `X | None`, `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None
