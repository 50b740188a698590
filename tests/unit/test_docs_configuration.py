"""docs/configuration.md tells the truth: its tables are the settings, its examples pass the check."""

from __future__ import annotations

import re
from pathlib import Path

from b2bua.apply.file import read_directory
from b2bua.config import load_settings
from tests.support.settings_tables import PAGE, names_in, tables, with_tables

TEXT = PAGE.read_text("utf-8")


def test_every_setting_stands_in_the_page_with_its_default_and_meaning() -> None:
    assert sorted(names_in(TEXT)) == sorted(tables())
    assert with_tables(TEXT) == TEXT, "run: python -m tests.support.settings_tables"


def test_every_setting_has_a_meaning() -> None:
    for name, table in tables().items():
        for row in table.splitlines()[2:]:
            assert not row.endswith("|  |"), f"{name}: {row}"


def test_the_examples_of_the_page_are_right(tmp_path: Path) -> None:
    examples = re.findall(r"(?s)```toml\n# (smartswitch|acme)\.toml\n(.*?)```", TEXT)
    assert {name for name, _ in examples} == {"smartswitch", "acme"}
    for name, text in examples:
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        if name == "smartswitch":
            load_settings(path)
        else:
            assert read_directory(path, "smartswitch").directory.clients
