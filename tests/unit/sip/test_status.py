"""Reason phrases and the causes of the telephone network."""

from __future__ import annotations

import pytest

from b2bua.sip.status import Q850, reason_phrase


@pytest.mark.parametrize(("code", "phrase"), [
    (100, "Trying"), (200, "OK"), (487, "Request Terminated"), (199, "Early Dialog Terminated"), (499, "Bad Request"),
    (699, "Busy Everywhere"), (799, "Unknown"),
])
def test_every_code_has_a_phrase(code: int, phrase: str) -> None:
    assert reason_phrase(code) == phrase


@pytest.mark.parametrize(("status", "cause"), [(486, 17), (404, 1), (480, 18), (603, 21), (503, 41), (488, 31)])
def test_statuses_have_causes(status: int, cause: int) -> None:
    assert Q850[status] == cause
