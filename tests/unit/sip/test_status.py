"""Reason phrases and the causes of the telephone network."""

from __future__ import annotations

import pytest

from b2bua.sip.status import Q850, STATUS_OF_CAUSE, reason_phrase


@pytest.mark.parametrize(("code", "phrase"), [
    (100, "Trying"), (200, "OK"), (487, "Request Terminated"), (199, "Early Dialog Terminated"), (499, "Bad Request"),
    (699, "Busy Everywhere"), (799, "Unknown"),
])
def test_every_code_has_a_phrase(code: int, phrase: str) -> None:
    assert reason_phrase(code) == phrase


@pytest.mark.parametrize(("status", "cause"), [(486, 17), (404, 1), (480, 18), (603, 21), (503, 41), (488, 31)])
def test_statuses_have_causes_and_causes_statuses(status: int, cause: int) -> None:
    assert Q850[status] == cause


@pytest.mark.parametrize(("cause", "status"), [(17, 486), (1, 404), (19, 480), (21, 403), (34, 503), (28, 484)])
def test_a_cause_stands_for_a_status(cause: int, status: int) -> None:
    assert STATUS_OF_CAUSE[cause] == status
