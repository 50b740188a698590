"""Brings clients, trunks, numbers, extensions and groups to what a TOML file says: all checked first, then at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from b2bua.apply_entries import ClientEntry, CrmEntry, DirectoryFile, ExtensionEntry, HoursEntry, TrunkEntry, login_of
from b2bua.apply_review import Review
from b2bua.cdr import ClientId
from b2bua.config import read_toml
from b2bua.directory import Client, CrmAccount, Directory, Extension, Group, Hours, Number, PrefixLimit, Trunk
from b2bua.faults import ConfigurationFaults, Fault, Location, dotted, faults_of_validation
from b2bua.media import sounds
from b2bua.numbers import normalise
from b2bua.sip.auth import ha1
from b2bua.store.directory import DirectoryChanged, DirectoryStore
from b2bua.toml_lines import LocatedToml

ATTEMPTS = 5                           # when somebody else changes the directory at the same moment


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file says, and where it says it."""

    directory: Directory
    toml: LocatedToml
    logins: Mapping[str, Location]     # login -> where its extension stands


@dataclass(frozen=True, slots=True)
class Change:
    sign: str                          # "+", "~", "-"
    what: str                          # "extension acme/101"
    fields: tuple[str, ...] = ()       # which changed; values may be secrets

    def __str__(self) -> str:
        return f"{self.sign} {self.what}" + (f": {', '.join(self.fields)}" if self.fields else "")


async def apply_file(store: DirectoryStore, path: Path, realm: str, *, known_sounds: Collection[str] = sounds.BUILT_IN,
                     dry_run: bool = False, prune: bool = False) -> list[Change]:
    """The differences, which are in the database when this returns, unless `dry_run`. Raises ConfigurationFaults."""
    wanted = read_directory(path, realm, known_sounds)
    for _ in range(ATTEMPTS):
        current, generation = await store.load()
        new = merged(current, wanted, prune=prune)
        changes = difference(current, new)
        if dry_run or not changes:
            return changes
        try:
            await store.replace(current, new, generation)
        except DirectoryChanged:
            continue
        return changes
    raise DirectoryChanged


def read_directory(path: Path, realm: str, known_sounds: Collection[str] = sounds.BUILT_IN) -> Wanted:
    """Raises ConfigurationFaults with everything that is wrong in the file. `known_sounds` are what it may name."""
    toml = read_toml(path, "Give the path of a file with [[client]] tables.")
    try:
        file = DirectoryFile.model_validate(toml.data)
    except ValidationError as error:
        raise ConfigurationFaults(faults_of_validation(error, DirectoryFile, toml)) from error
    review = Review(toml, known_sounds)
    for index, entry in enumerate(file.client):
        review.client(entry, ("client", index))
    if review.faults:
        raise ConfigurationFaults(sorted(review.faults, key=lambda fault: fault.line or 0))
    return Wanted(_directory(file.client, realm), toml, review.logins)


def merged(current: Directory, wanted: Wanted, *, prune: bool) -> Directory:
    """Clients that are not named stay as they are, or go when `prune`. Raises ConfigurationFaults."""
    named = {client.id for client in wanted.directory.clients}
    kept = Directory() if prune else _without(current, named)
    faults = [
        Fault(wanted.toml.line(wanted.logins[login]), dotted(wanted.logins[login]),
              f"login {login!r} is taken: extension {taken.number} of client {taken.client!r} has it",
              "Logins are unique on the server; choose another one.")
        for login, taken in kept.by_login.items() if login in wanted.logins
    ]
    if faults:
        raise ConfigurationFaults(faults)
    new = wanted.directory
    return Directory(kept.clients + new.clients, kept.extensions + new.extensions, kept.trunks + new.trunks,
                     kept.groups + new.groups, kept.numbers + new.numbers)


def _without(directory: Directory, clients: set[ClientId]) -> Directory:
    return Directory(
        tuple(client for client in directory.clients if client.id not in clients),
        tuple(one for one in directory.extensions if one.client not in clients),
        tuple(one for one in directory.trunks if one.client not in clients),
        tuple(one for one in directory.groups if one.client not in clients),
        tuple(one for one in directory.numbers if one.client not in clients),
    )


def difference(old: Directory, new: Directory) -> list[Change]:
    before, after = dict(_named(old)), dict(_named(new))
    removed = [Change("-", what) for what in before if what not in after]
    added = [Change("+", what) for what in after if what not in before]
    changed = [Change("~", what, fields) for what in after if what in before
               if (fields := tuple(_changed(before[what], after[what])))]
    return removed + added + changed


def _named(directory: Directory) -> Iterator[tuple[str, Any]]:
    for client in directory.clients:
        yield f"client {client.id}", replace(client, crm=None)
        if client.crm is not None:
            yield f"CRM of {client.id}", client.crm
    for trunk in directory.trunks:
        yield f"trunk {trunk.client}/{trunk.name}", trunk
    for extension in directory.extensions:
        yield f"extension {extension.client}/{extension.number}", extension
    for group in directory.groups:
        yield f"group {group.client}/{group.number}", group
    for number in directory.numbers:
        yield f"number {number.client}/{number.number}", number


def _changed(old: Any, new: Any) -> Iterable[str]:
    return ("password" if name == "ha1" else name for name in type(new).__dataclass_fields__
            if getattr(old, name) != getattr(new, name))


def _directory(entries: Iterable[ClientEntry], realm: str) -> Directory:
    clients, trunks, extensions, groups, numbers = [], [], [], [], []
    for entry in entries:
        client = ClientId(entry.id)
        clients.append(Client(client, entry.name or entry.id, _crm(entry.crm), entry.max_calls, entry.record,
                              entry.country, _caller_id(entry.caller_id, entry.country), entry.forward_outside,
                              entry.outgoing_per_hour, tuple(PrefixLimit(**one.model_dump()) for one in entry.limit),
                              entry.music_on_hold, entry.pickup_code, entry.group_pickup_code, entry.show_callers))
        trunks += [_trunk(client, trunk, entry.country) for trunk in entry.trunk]
        extensions += [_extension(client, one, login_of(entry, one), realm, entry.country) for one in entry.extension]
        groups += [Group(client, one.number, one.members, one.name, one.strategy, one.member_seconds, one.ring_seconds,
                         one.on_no_answer, one.on_busy, one.on_unregistered) for one in entry.group]
        numbers += [Number(client, normalise(one.number, entry.country), one.destination, one.trunk, one.ring_seconds,
                           one.on_no_answer, one.on_busy, one.on_unregistered, _hours(one.hours))
                    for one in entry.number]
    return Directory(tuple(clients), tuple(extensions), tuple(trunks), tuple(groups), tuple(numbers))


def _hours(entry: HoursEntry | None) -> Hours | None:
    return Hours(entry.time_zone, entry.open, entry.otherwise, entry.holidays) if entry is not None else None


def _crm(entry: CrmEntry | None) -> CrmAccount | None:
    if entry is None:
        return None
    return CrmAccount(**{**entry.model_dump(), "token": entry.token.get_secret_value()})


def _trunk(client: ClientId, entry: TrunkEntry, country: str) -> Trunk:
    country = entry.country or country
    return Trunk(client, entry.name, entry.host, entry.port, entry.transport.upper(), entry.networks, entry.register_,
                 entry.user, entry.password.get_secret_value(), entry.domain,
                 _caller_id(entry.caller_id, country), country, entry.max_calls, entry.priority, entry.weight,
                 entry.prefixes, entry.profile, entry.number_format, entry.caller_format, entry.identity,
                 entry.from_shows, entry.trusts,
                 entry.ca_file, entry.certificate, entry.certificate_key)


def _caller_id(number: str, country: str) -> str:
    return normalise(number, country) if number else ""


def _extension(client: ClientId, entry: ExtensionEntry, login: str, realm: str, country: str) -> Extension:
    hashes = {} if entry.password is None else {
        algorithm: ha1(algorithm, login, realm, entry.password.get_secret_value()) for algorithm in ("MD5", "SHA-256")}
    return Extension(client, entry.number, login, hashes, entry.name, entry.crm_user, entry.address, entry.ascii_only,
                     entry.max_contacts, _caller_id(entry.caller_id, country), entry.hide_caller_id, entry.ring_seconds,
                     entry.forward_always, entry.on_no_answer, entry.on_busy, entry.on_unregistered,
                     entry.max_calls, entry.outgoing_per_hour)
