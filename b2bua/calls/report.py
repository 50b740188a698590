"""What a finished call means for the CRM: pure."""

from __future__ import annotations

from b2bua.calls.call import CallInProgress
from b2bua.cdr import CallRecord, Direction
from b2bua.crm.port import CallNote, CrmWrite


def report(call: CallInProgress) -> tuple[CallRecord, tuple[CrmWrite, ...]]:
    """The record of the call, and what the CRM must learn of it (F3; internal calls never)."""
    record = call.record()
    if call.crm is None or record.direction is Direction.INTERNAL or not call.outside_party:
        return record, ()
    note = CallNote(
        call=record.id,
        client=record.client,
        direction=record.direction,
        phone=call.outside_party,
        started_at=record.started_at,
        talk_seconds=record.talk_seconds,
        disposition=record.disposition,
        user=record.crm_user if record.crm_user is not None else _whose_call(call),
        contact_name=record.contact,
        did=record.dialled if record.direction is Direction.INBOUND else record.trunk or "",
        recording=record.recording,
    )
    return record, (note,)


def _whose_call(call: CallInProgress) -> int | None:
    """Nobody talked: the responsible user of the contact, else the account's default user."""
    if call.contact is not None and call.contact.responsible is not None:
        return call.contact.responsible
    return call.crm.default_user if call.crm is not None else None
