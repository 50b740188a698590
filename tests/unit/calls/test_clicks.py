"""What is dialled of the text that stands for a number in a card."""

from __future__ import annotations

import pytest

from b2bua.calls.clicks import what_to_dial
from b2bua.cdr import ClientId
from b2bua.directory import Client, Directory, Extension

ACME = ClientId("acme")
BOOKS = Directory((Client(ACME, "Acme"),), (Extension(ACME, "101", "acme-101", {}),))


@pytest.mark.parametrize("text", [
    "8 (495) 123-45-67", "8 (495) 123-45-67 доб. 12", "+7 495 123-45-67, доб.12", "84951234567 (доб. 12)",
    "+7 (495) 123-45-67 ext. 12", "+7 495 1234567 x12", "+74951234567;ext=12", "8 495 123-45-67, 8 495 765-43-21",
    "tel:+7-495-123-45-67", "TEL: +7 495 123 45 67", "tel:+7(495)1234567;ext=12",
    "\u202a+7\u00a0495\u00a0123‑45‑67\u202c",
    "\ufeff+7 495 123–45–67\n", "8 495 123-45-67 внутр. 3"])
def test_an_outside_number_is_read_however_it_is_written(text: str) -> None:
    assert what_to_dial(BOOKS, ACME, text) == "+74951234567"


@pytest.mark.parametrize(("text", "dialled"), [("101", "101"), (" tel:101 ", "101"), ("112", "112"), ("*21#", "*21#")])
def test_what_is_short_stays(text: str, dialled: str) -> None:
    assert what_to_dial(BOOKS, ACME, text) == dialled


@pytest.mark.parametrize("text", [
    "", " ", "\u202a\u202c", "mail@acme.ru", "ask Maria", "доб. 12", "101, 102", "1 доб. 2", "tel:", "x12", "7" * 65,
    "8-800-ACME", "<img src=x>", "٨٤٩٥١٢٣٤٥٦٧", "+", "\x00", "sip:101@acme"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"dialled|longer"):
        what_to_dial(BOOKS, ACME, text)
