"""Finished calls to write down."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from b2bua.cdr import CallId, CallRecord, ClientId, Direction, Disposition, EndedBy, EndReason
from b2bua.crm.port import CallNote

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)

ANSWERED = CallRecord(
    id=CallId("c-1"), client=ClientId("acme"), direction=Direction.INBOUND, caller="+74951112233",
    dialled="+74957654321", trunk="operator", started_at=NOON, rang_at=NOON + timedelta(seconds=1.25),
    answered_at=NOON + timedelta(seconds=6), ended_at=NOON + timedelta(seconds=66), disposition=Disposition.ANSWERED,
    ended_by=EndedBy.CALLER, reason=EndReason.HUNG_UP, status=200, extension="101", rang=("101", "102"), crm_user=77,
    contact="Иван Петров", recording="rec-1", why=("responsible user 77 has extension 101", "101 answered"),
)


def record(call: str = "c-1", **changes: Any) -> CallRecord:
    return replace(ANSWERED, id=CallId(call), **changes)


def note(call: CallRecord) -> CallNote:
    return CallNote(call=call.id, client=call.client, direction=call.direction, phone=call.caller,
                    started_at=call.started_at, talk_seconds=call.talk_seconds, disposition=call.disposition,
                    user=call.crm_user, contact_name=call.contact, did=call.dialled, recording=call.recording)
