"""CRM writes survive the outbox's text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from b2bua.cdr import CallId, ClientId, Direction, Disposition
from b2bua.crm.functions import CardKind
from b2bua.crm.port import CallNote, Card, CrmWrite, Deal, Purpose, RecordingLink, TalkedTo, Task
from b2bua.crm.writes import UnreadableWrite, from_json, key_of, lane_of, to_json

NOTE = CallNote(
    call=CallId("call-1"), client=ClientId("acme"), direction=Direction.INBOUND, phone="+74951234567",
    started_at=datetime(2026, 1, 2, 3, 4, 5, 600_000, UTC), talk_seconds=61, disposition=Disposition.ANSWERED, user=77,
    contact_name="Иван «Петров»", did="+74951112233", recording="rec-1",
)


CALL, ACME, IVAN, AT = NOTE.call, NOTE.client, NOTE.phone, NOTE.started_at
WRITES: list[CrmWrite] = [
    NOTE,
    replace(NOTE, user=None, contact_name=None, recording=None, phone="", talked=("Анна (101)", "102")),
    Card(CALL, ACME, Direction.INBOUND, IVAN, AT, CardKind.UNSORTED, None, "Новый +74951234567", "телефония", ""),
    Deal(CALL, ACME, IVAN, AT, 77, "Звонок", 11, None, ""),
    RecordingLink(CALL, ACME, IVAN, AT, "rec-1"),
    Task(CALL, ACME, IVAN, AT, Purpose.FILL_IN, None, "Заполнить", AT),
    Task(CALL, ACME, IVAN, AT, Purpose.CALL_BACK, 77, "Перезвонить", AT),
    TalkedTo(CALL, ACME, IVAN, AT),
]


@pytest.mark.parametrize("write", WRITES, ids=key_of)
def test_a_write_comes_back_as_it_was(write: CrmWrite) -> None:
    assert from_json(to_json(write)) == write


def test_what_a_call_owes_has_a_key_each() -> None:
    assert len({key_of(write) for write in WRITES[1:]}) == len(WRITES) - 1


def test_a_note_of_the_version_before_is_read() -> None:
    assert from_json(to_json(NOTE).replace(', "talked": []', "")) == NOTE


NO_WRITES = ["", "{}", "[]", "null", '{"kind": "poem"}', to_json(NOTE).replace("inbound", "sideways")]


@pytest.mark.parametrize("text", NO_WRITES)
def test_what_is_no_write_says_so(text: str) -> None:
    with pytest.raises(UnreadableWrite):
        from_json(text)


def test_one_number_is_one_lane_in_every_spelling() -> None:
    assert lane_of(NOTE) == lane_of(replace(NOTE, phone="84951234567", call=CallId("call-2")))
    assert key_of(NOTE) != key_of(replace(NOTE, call=CallId("call-2")))
