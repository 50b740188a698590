"""What an apply file says of the CRM's functions, as the switch's own value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from b2bua.apply.entries import CrmEntry, CrmRulesEntry
from b2bua.crm.functions import CrmFunctions, CrmRules, DealRule
from b2bua.numbers import normalise


def functions_of(entry: CrmEntry, country: str) -> CrmFunctions:
    """What is said of a single number stands before the client's rules, setting by setting."""
    rules = CrmRules() if entry.rules is None else _rules(entry.rules, CrmRules())
    return CrmFunctions(
        entry.forward_to_responsible,
        entry.set_caller_name,
        entry.pop_up,
        entry.create_on_incoming,
        entry.create_on_outgoing,
        entry.task_on_new_contact,
        entry.task_on_missed,
        rules,
        tuple((normalise(one.number, country), _rules(one, rules)) for one in entry.did),
        tuple(normalise(number, country) for number in entry.not_told),
    )


def _rules(entry: CrmRulesEntry, otherwise: CrmRules) -> CrmRules:
    said: dict[str, Any] = {name: getattr(entry, name) for name in entry.model_fields_set if name != "number"}
    if entry.deal is not None:
        said["deal"] = DealRule(**entry.deal.model_dump())
    return replace(otherwise, **said)
