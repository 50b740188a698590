"""What an apply file would say of a client as it is: the way back from the directory to entries.

An entry says only what differs from the defaults, as `Review` and the CRM's rules tell what is said from what is not.
Nothing is validated anew: what is stored was, and stays editable when the rules have become stricter since. The hash of
a client's password stands in its entry; of a phone's password there is no way back, see `Review.kept`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from pydantic import SecretStr

from b2bua.apply.entries import (
    ClientEntry,
    CrmDidEntry,
    CrmEntry,
    CrmRulesEntry,
    DealEntry,
    Entry,
    ExtensionEntry,
    GroupEntry,
    HoursEntry,
    LimitEntry,
    NumberEntry,
    TrunkEntry,
    login_of,
)
from b2bua.cdr import ClientId
from b2bua.crm.functions import CrmFunctions, CrmRules
from b2bua.directory import Client, CrmAccount, Directory, Extension, Group, Number, Trunk, UsersFrom

E = TypeVar("E", bound=Entry)


def entry_of(directory: Directory, of: ClientId) -> ClientEntry:
    """Raises KeyError: there is no such client."""
    client = directory.client[of]
    own = _plain(client)
    return _said(ClientEntry, {
        **own,
        "name": client.name if client.name != client.id else "",
        "login": client.login if client.login != client.id else None,
        "password": SecretStr(client.password_hash) if client.password_hash else None,
        "limit": tuple(_said(LimitEntry, asdict(limit)) for limit in client.limits),
        "crm": _crm(client.crm) if client.crm is not None else None,
        "trunk": tuple(_trunk(trunk, client.country) for trunk in directory.trunks_of(of)),
        "extension": tuple(_extension(client, one) for one in directory.extensions if one.client == of),
        "group": tuple(_said(GroupEntry, _plain(one)) for one in directory.groups if one.client == of),
        "number": tuple(_number(one) for one in directory.numbers if one.client == of),
    })


def _said(model: type[E], values: Mapping[str, Any]) -> E:
    """An entry that says what differs from its defaults. Values that are no field of it are left out."""
    known = {name: values[name] for name in model.model_fields if name in values}
    return model.model_construct(**{model.model_fields[name].alias or name: value for name, value in known.items()
                                    if model.model_fields[name].is_required()
                                    or value != model.model_fields[name].default})


def _plain(value: Client | Extension | Group | Number | Trunk | CrmAccount) -> dict[str, Any]:
    return {one.name: getattr(value, one.name) for one in fields(value)}


def _extension(client: Client, extension: Extension) -> ExtensionEntry:
    entry = _said(ExtensionEntry, {**_plain(extension), "login": None})
    of_file = ClientEntry.model_construct(id=client.id)
    return entry if login_of(of_file, entry) == extension.login else _said(ExtensionEntry, _plain(extension))


def _number(number: Number) -> NumberEntry:
    hours = _said(HoursEntry, asdict(number.hours)) if number.hours is not None else None
    return _said(NumberEntry, {**_plain(number), "hours": hours})


def _trunk(trunk: Trunk, country: str) -> TrunkEntry:
    return _said(TrunkEntry, {
        **_plain(trunk),
        "transport": trunk.transport.lower(),
        "register_": trunk.register,
        "password": SecretStr(trunk.password),
        "country": trunk.country if trunk.country != country else None,
    })


def _crm(account: CrmAccount) -> CrmEntry:
    functions = account.functions
    by_default = UsersFrom.WIDGET if account.widget else UsersFrom.FILE
    return _said(CrmEntry, {
        **_plain(account),
        **{one.name: getattr(functions, one.name) for one in fields(CrmFunctions)},
        "token": SecretStr(account.token),
        "client_secret": SecretStr(account.client_secret),
        "users_from": account.users_from if account.users_from is not by_default else None,
        "rules": _rules(CrmRulesEntry, functions.rules, CrmRules()) if functions.rules != CrmRules() else None,
        "did": tuple(_rules(CrmDidEntry, rules, functions.rules, number=number)
                     for number, rules in functions.rules_of_did),
    })


def _rules(model: type[E], rules: CrmRules, otherwise: CrmRules, **more: Any) -> E:
    """What differs from the rules that stand behind these."""
    said: dict[str, Any] = {one.name: getattr(rules, one.name) for one in fields(CrmRules)
                            if getattr(rules, one.name) != getattr(otherwise, one.name)}
    if rules.deal is not None and "deal" in said:
        said["deal"] = _said(DealEntry, asdict(rules.deal))
    return model.model_construct(**{**said, **more})
