from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2bua.calls.display import MAX_NAME, display_name


@pytest.mark.parametrize(
    ("name", "latin"),
    [
        ("Иван Петров", "Ivan Petrov"),
        ("Щукина Юлия", "Shchukina Yuliya"),
        ("Объедков", "Obedkov"),
        ("Їжак Євген", "Yizhak Yevgen"),
        ("Jürgen Groß", "Jurgen Gro?"),
        ("ООО «Ромашка»", "OOO ?Romashka?"),
        ("王", "?"),
    ],
)
def test_phones_without_other_letters_get_latin_ones(name: str, latin: str) -> None:
    assert display_name(name, ascii_only=True) == latin
    assert display_name(name, ascii_only=False) == name


@given(st.text(), st.booleans())
def test_whatever_the_crm_says_fits_on_one_line_of_a_phone(name: str, ascii_only: bool) -> None:
    shown = display_name(name, ascii_only=ascii_only)
    assert shown.isprintable()
    assert len(shown) <= MAX_NAME * 4
    assert shown.isascii() or not ascii_only
