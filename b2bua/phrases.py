"""Sentences that remember what they were made of, so that pages can say them in another language."""

from __future__ import annotations

from typing import Any


class Phrase(str):
    """English text, made of a template as `str.format` has it. Other languages have the same template; values that are
    phrases themselves are said in the other language too."""

    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, /, **values: Any) -> Phrase:
        made = super().__new__(cls, template.format(**values))
        made.template, made.values = template, values
        return made


class Wrong(ValueError):
    """What is wrong with a value, and what to do: the two parts of a fault, each a phrase or a template of these
    values."""

    def __init__(self, problem: str, remedy: str, **values: Any) -> None:
        self.problem, self.remedy = (part if isinstance(part, Phrase) else Phrase(part, **values)
                                     for part in (problem, remedy))
        super().__init__(f"{self.problem} | {self.remedy}")
