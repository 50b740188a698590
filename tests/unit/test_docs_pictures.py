"""The administrator's guide and its pictures belong together."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "connect-amocrm.md").read_text("utf-8")


def test_each_picture_is_shown_once_with_words_for_who_does_not_see_it() -> None:
    shown = re.findall(r"!\[(.+?)\]\(images/(.+?)\)", GUIDE)
    assert sorted(name for _, name in shown) == sorted(file.name for file in (DOCS / "images").iterdir())


def test_what_is_drawn_says_so() -> None:
    words = {name: text for text, name in re.findall(r"!\[(.+?)\]\(images/(.+?)\)", GUIDE)}
    for name, text in words.items():
        assert text.endswith(", drawn") == name.startswith("amocrm-"), name


def test_each_step_says_what_to_do_when_it_looks_otherwise() -> None:
    for step in re.split(r"^## ", GUIDE, flags=re.MULTILINE)[1:]:
        assert "**If it looks otherwise.**" in step or not step[0].isdigit(), step.splitlines()[0]
