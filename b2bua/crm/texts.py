"""The texts that a client may choose for what is made in its CRM, as templates: "Перезвонить {number}"."""

from __future__ import annotations

import re
from typing import Final

from b2bua.phrases import Phrase

PLACEHOLDERS: Final = ("number", "did", "name")
MAX_FILLED: Final = 250                    # characters of a filled text, which is a name or a line

_PLACEHOLDER = re.compile(rf"\{{({'|'.join(PLACEHOLDERS)})\}}")


def fault_of(template: str) -> Phrase | None:
    """Why it cannot be filled; None when it can."""
    rest = _PLACEHOLDER.sub("", template)
    if (unknown := re.search(r"\{[^{}]*\}|[{}]", rest)) is not None:
        return Phrase("{unknown!r} stands for nothing", unknown=unknown[0])
    return None if template.strip() else Phrase("it is empty")


def filled(template: str, *, number: str, did: str, name: str) -> str:
    """On one line, of MAX_FILLED characters at most. What is filled in may be a stranger's, and is only text."""
    values = {"number": number, "did": did, "name": name or number}
    text = _PLACEHOLDER.sub(lambda found: values[found[1]], template)
    line = " ".join(text.split())
    return "".join(character for character in line if character.isprintable())[:MAX_FILLED].rstrip() or number
