"""CRM writes survive the outbox's text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from b2bua.cdr import CallId, ClientId, Direction, Disposition
from b2bua.crm.port import CallNote
from b2bua.crm.writes import UnreadableWrite, from_json, key_of, lane_of, to_json

NOTE = CallNote(
    call=CallId("call-1"), client=ClientId("acme"), direction=Direction.INBOUND, phone="+74951234567",
    started_at=datetime(2026, 1, 2, 3, 4, 5, 600_000, UTC), talk_seconds=61, disposition=Disposition.ANSWERED, user=77,
    contact_name="Иван «Петров»", did="+74951112233", recording="rec-1",
)


@pytest.mark.parametrize("note", [NOTE, replace(NOTE, user=None, contact_name=None, recording=None, phone="")])
def test_a_note_comes_back_as_it_was(note: CallNote) -> None:
    assert from_json(to_json(note)) == note


NO_WRITES = ["", "{}", "[]", "null", '{"kind": "poem"}', to_json(NOTE).replace("inbound", "sideways")]


@pytest.mark.parametrize("text", NO_WRITES)
def test_what_is_no_write_says_so(text: str) -> None:
    with pytest.raises(UnreadableWrite):
        from_json(text)


def test_one_number_is_one_lane_in_every_spelling() -> None:
    assert lane_of(NOTE) == lane_of(replace(NOTE, phone="84951234567", call=CallId("call-2")))
    assert key_of(NOTE) != key_of(replace(NOTE, call=CallId("call-2")))
