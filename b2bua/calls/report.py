"""What a finished call means for the CRM: pure.

Whether the CRM knows the other party is not asked here, as that may change until it is told: a Card is for whoever is
not there yet, a call-back task for whoever is (docs/decisions/0008-crm-writes.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from b2bua import numbers
from b2bua.calls.call import CallInProgress
from b2bua.cdr import CallRecord, Direction
from b2bua.crm.functions import CardKind, CrmFunctions, CrmRules, DealRule, Responsible
from b2bua.crm.port import CallNote, Card, CrmWrite, Deal, Purpose, TalkedTo, Task
from b2bua.crm.texts import filled
from b2bua.directory import CrmAccount, Extension

MAX_NAMED: Final = 10                      # of those who talked; of more, the last

NOBODYS: Final = "the number is withheld, short or none, and nobody is known by it"
NOT_TOLD: Final = "the number is in `not_told`"
COLLEAGUES: Final = "internal calls are the office's own"


@dataclass(frozen=True, slots=True)
class Outcome:
    """An outside call, as far as the rules look at it."""

    direction: Direction
    answered: bool
    went_out: bool = True                  # outbound: some trunk was asked to place it
    is_for_people: bool = True             # inbound: somebody of the office might have answered


@dataclass(frozen=True, slots=True)
class Owed:
    """What the CRM is told of a call beside its note."""

    card: CardKind
    deal: DealRule | None
    task: Purpose | None
    talked_to: bool


def owed(functions: CrmFunctions, rules: CrmRules, outcome: Outcome) -> Owed:
    """F7 to F10. A function that is off asks for nothing."""
    card = _card(functions, rules, outcome)
    is_contact = card is CardKind.CONTACT
    was_missed = outcome.direction is Direction.INBOUND and not outcome.answered and outcome.is_for_people
    task = None
    if was_missed and functions.task_on_missed:
        task = Purpose.CALL_BACK           # also for who has become a contact by it: one thing to do, not two
    elif is_contact and functions.task_on_new_contact:
        task = Purpose.FILL_IN
    return Owed(card, rules.deal if is_contact else None, task, functions.task_on_missed and outcome.answered)


def _card(functions: CrmFunctions, rules: CrmRules, outcome: Outcome) -> CardKind:
    match outcome:
        case Outcome(direction=Direction.INBOUND, answered=answered) if functions.create_on_incoming:
            return rules.incoming_answered if answered else rules.incoming_missed
        case Outcome(direction=Direction.OUTBOUND, answered=answered, went_out=True) if functions.create_on_outgoing:
            return rules.outgoing_answered if answered else rules.outgoing_unanswered
        case _:
            return CardKind.NOTHING


def rules_of(functions: CrmFunctions, direction: Direction, did: str) -> CrmRules:
    """Numbers of ours may have their own; who calls out has the client's."""
    return functions.rules_for(did) if direction is Direction.INBOUND else functions.rules


def why_untold(functions: CrmFunctions, direction: Direction, phone: str) -> str | None:
    """Why a call with that number is none of the CRM's business; None when it is."""
    if direction is Direction.INTERNAL:
        return COLLEAGUES
    if not numbers.is_telephone(phone):
        return NOBODYS
    return NOT_TOLD if phone in functions.not_told else None


def report(call: CallInProgress) -> tuple[CallRecord, tuple[CrmWrite, ...]]:
    """The record of the call, and what the CRM must learn of it, in the order in which it must."""
    record = call.record()
    account = call.crm
    if account is None or not call.is_placed:
        return record, ()
    if why_untold(account.functions, record.direction, call.outside_party) is not None:
        return record, ()
    return record, tuple(_writes(call, record, account))


def _writes(call: CallInProgress, record: CallRecord, account: CrmAccount) -> Iterator[CrmWrite]:
    id_, client, phone, started_at = record.id, record.client, call.outside_party, record.started_at
    did = record.dialled if record.direction is Direction.INBOUND else record.trunk or ""
    functions, rules = account.functions, rules_of(account.functions, record.direction, did)
    answered = record.answered_at is not None
    is_for_people = call.is_for_people or bool(call.rang)
    due = owed(functions, rules, Outcome(record.direction, answered, record.trunk is not None, is_for_people))
    missed_by = None if answered else _missed_by(call)
    responsible = _responsible(call, account)
    owner = record.crm_user if rules.responsible is Responsible.ANSWERED else None

    def text(template: str) -> str:
        return filled(template, number=phone, did=did, name=record.contact or "")

    if due.card is not CardKind.NOTHING:
        name = text(rules.contact_name)
        yield Card(id_, client, record.direction, phone, started_at, due.card, owner, name, rules.tag, did,
                   record.talk_seconds, answered)
    if (deal := due.deal) is not None:
        yield Deal(id_, client, phone, started_at, owner, text(deal.name), deal.pipeline, deal.stage, rules.tag)
    yield CallNote(
        id_,
        client,
        record.direction,
        phone,
        started_at,
        record.talk_seconds,
        record.disposition,
        user=_first(record.crm_user, missed_by, responsible, account.default_user),
        contact_name=record.contact,
        did=did,
        recording=record.recording,
        talked=_who_talked(call),
    )
    if due.task is Purpose.CALL_BACK:
        due_at = record.ended_at + timedelta(minutes=rules.call_back_minutes)
        yield Task(id_, client, phone, started_at, due.task, missed_by, text(rules.call_back_text), due_at)
    elif due.task is Purpose.FILL_IN:
        due_at = record.ended_at + timedelta(minutes=rules.fill_in_minutes)
        yield Task(id_, client, phone, started_at, due.task, record.crm_user, text(rules.fill_in_text), due_at)
    if due.talked_to:
        yield TalkedTo(id_, client, phone, started_at)


def _missed_by(call: CallInProgress) -> int | None:
    """The user whose phone alone has rung: where several did, it is nobody's in particular."""
    rang = tuple(call.rang.values())
    return rang[0].crm_user if len(rang) == 1 else None


def _responsible(call: CallInProgress, account: CrmAccount) -> int | None:
    """Of the contact; nobody when they were switched off in the CRM before the call."""
    user = call.contact.responsible if call.contact is not None else None
    return user if user is not None and account.has_active(user) else None


def _who_talked(call: CallInProgress) -> tuple[str, ...]:
    """Those of the office, when there were several; the last of them owns the call."""
    talked = tuple(call.talked.values())
    return tuple(_name(one) for one in talked[-MAX_NAMED:]) if len(talked) > 1 else ()


def _name(extension: Extension) -> str:
    return f"{extension.name} ({extension.number})" if extension.name else extension.number


def _first(*users: int | None) -> int | None:
    return next((user for user in users if user is not None), None)
